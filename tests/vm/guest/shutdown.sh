#!/bin/bash
# SPDX-License-Identifier: MIT
# The filesystem is stopped as by a power cut: what has been promised is there at the next mount. And stopping it while
# it is frozen leaves nobody waiting for ever.
# vm: timeout=180
source "$LIB"

stop_and_mount() { # how
	shutdown_fs "$MNT2" "$1"
	umount_fs "$MNT2"
	check_fs "$DEV2"
	mount_fs "$DEV2" "$MNT2" "commit=300"
}

say "names in a directory that is to be synchronous"
fresh_fs "$DEV2" "$MNT2"
remount_cycle "$DEV2" "$MNT2" dirsync,commit=300
mkdir "$MNT2/d"
echo x >"$MNT2/d/from"
ln "$MNT2/d/from" "$MNT2/d/link"
ln -s target "$MNT2/d/symlink"
mkfifo "$MNT2/d/fifo"
mkdir "$MNT2/d/gone" "$MNT2/e"
rmdir "$MNT2/d/gone"
mv "$MNT2/d/from" "$MNT2/e/to"
rm "$MNT2/d/fifo"
stop_and_mount now
expect_eq "d" "$(ls "$MNT2/d" | tr '\n' ' ')" "link symlink "
expect_eq "e" "$(ls "$MNT2/e")" to

say "attributes of a file that is to be synchronous"
touch "$MNT2/s"
chattr +S "$MNT2/s"
sync -f "$MNT2"
chmod 751 "$MNT2/s"
stop_and_mount now
expect_eq "mode" "$(stat -c %a "$MNT2/s")" 751

say "what was written before fallocate moved the end of the file"
for mode in "" "--zero-range"; do
	head -c 65536 /dev/urandom >"$MNT2/f"
	cp "$MNT2/f" expected
	fallocate $mode -o 1M -l 4096 "$MNT2/f"
	stop_and_mount commit
	expect_eq "size" "$(stat -c %s "$MNT2/f")" $((1048576 + 4096))
	cmp -n 65536 "$MNT2/f" expected
	rm "$MNT2/f"
done

say "while it is frozen"
echo before >"$MNT2/file"
sync -f "$MNT2"
fsfreeze -f "$MNT2"
shutdown_fs "$MNT2" now
sync "$MNT2/file" 2>/dev/null || true # tells the VFS
fsfreeze -u "$MNT2"
timeout 30 touch "$MNT2/late" 2>/dev/null && die "a write went through"
await "grep -q '$MNT2 vexfs ro' /proc/mounts" || die "still writable"
expect_errno EROFS timeout 30 touch "$MNT2/late"
expect_fail mount -o remount,rw "$MNT2"
umount_fs "$MNT2"
check_fs "$DEV2"

say "made read-only by hand after it has stopped"
mount_fs "$DEV2" "$MNT2"
shutdown_fs "$MNT2" now
mount -o remount,ro "$MNT2"
expect_eq "contents" "$(cat "$MNT2/file")" before
umount_fs "$MNT2"
check_fs "$DEV2"
