#!/bin/bash
# SPDX-License-Identifier: MIT
# Mounting: several at once, options, remounting read-only and back, read-only devices, busy unmounts, /proc and /sys.
source "$LIB"

make_fs "$DEV1" -L first
make_fs "$DEV2" -L second
make_fs "$DEV3"
mount_fs "$DEV1" "$MNT1"
mount_fs "$DEV2" "$MNT2" errors=continue,commit=1
mount_fs "$DEV3" "$MNT3" noatime
for m in "$MNT1" "$MNT2" "$MNT3"; do echo "$m" >"$m/f"; done
for m in "$MNT1" "$MNT2" "$MNT3"; do expect_eq "contents of $m" "$(cat "$m/f")" "$m"; done
grep -q "$MNT2 vexfs rw.*errors=continue.*commit=1" /proc/mounts || die "options: $(grep "$MNT2" /proc/mounts)"
grep -q "$MNT3 vexfs rw.*noatime" /proc/mounts || die "options: $(grep "$MNT3" /proc/mounts)"

say "what can be seen of it"
for f in stats simd_stats performance; do
	[ -n "$(cat "/proc/vexfs/$f")" ] || die "/proc/vexfs/$f is empty"
done
for dev in "$DEV1" "$DEV2" "$DEV3"; do
	grep -q "${dev#/dev/}" /proc/vexfs/stats || die "no $dev in /proc/vexfs/stats"
	dir=/sys/fs/vexfs/${dev#/dev/}
	for f in "$dir"/*; do
		[ "${f##*/}" = commit ] || cat "$f" >/dev/null
	done
	echo 1 >"$dir/commit"
	expect_eq "uuid of $dev" "$(cat "$dir/uuid")" "$(blkid -p -s UUID -o value "$dev" 2>/dev/null || cat "$dir/uuid")"
done
expect_eq "label" "$(cat "/sys/fs/vexfs/${DEV1#/dev/}/label")" first
dmesg >messages # not into a pipe: grep -q would cut it short, and dmesg would fail
grep -q 'vexfs: version .* loaded, SIMD .*, vectors of .* bits' messages || die "no message at load"
dmesg | grep "vexfs: ${DEV1#/dev/}: mounted .*SIMD .*, vectors of" >/dev/null || die "no message at mount"

say "wrong options"
umount_fs "$MNT3"
for o in errors=maybe commit=x commit=100000 node_cache=12Q nonsense vector_threads=1000; do
	expect_fail mount -t vexfs -o "$o" "$DEV3" "$MNT3"
done
mount_fs "$DEV3" "$MNT3" node_cache=8M,vector_cache=32M,vector_threads=2
grep -q "$MNT3 vexfs .*node_cache=8192K,vector_cache=32768K,vector_threads=2" /proc/mounts ||
	die "options: $(grep "$MNT3" /proc/mounts)"
mount -o remount,vector_cache=16M "$MNT3" || die "vector_cache cannot be changed"
grep -q "$MNT3 vexfs .*vector_cache=16384K" /proc/mounts || die "options: $(grep "$MNT3" /proc/mounts)"
grep -q "^vector_limit_bytes 16777216$" /sys/fs/vexfs/*/cache || die "the limit did not change"
expect_fail mount -o remount,node_cache=16M "$MNT3"

umount_fs "$MNT3"
mount_fs "$DEV3" "$MNT3" node_cache=8388609
mount -o remount,ro "$MNT3" || die "what /proc/mounts shows is not what was given"
mount -o remount,rw "$MNT3"

say "busy"
(cd "$MNT3" && exec sleep 100) &
busy=$!
sleep 0.2
expect_fail umount "$MNT3"
expect_fail rmmod vexfs
kill "$busy"
wait "$busy" 2>/dev/null || true
umount_fs "$MNT3"

say "read-only and back"
mount -o remount,ro "$MNT1"
expect_errno EROFS touch "$MNT1/x"
expect_errno EROFS rm "$MNT1/f"
expect_eq "contents" "$(cat "$MNT1/f")" "$MNT1"
mount -o remount,rw "$MNT1"
echo more >>"$MNT1/f"
(exec 3>>"$MNT1/open"; expect_fail mount -o remount,ro "$MNT1")
remount_cycle "$DEV1" "$MNT1" ro
expect_errno EROFS touch "$MNT1/x"
expect_eq "contents" "$(tail -n 1 "$MNT1/f")" more
mount -o remount,rw "$MNT1"
touch "$MNT1/x"

say "a read-only device"
umount_fs "$MNT2"
sum=$(md5sum <"$DEV2")
blockdev --setro "$DEV2"
expect_fail mount -t vexfs -o rw --source "$DEV2" --target "$MNT2" -n -w
mount -t vexfs -o ro "$DEV2" "$MNT2"
expect_eq "contents" "$(cat "$MNT2/f")" "$MNT2"
expect_errno EROFS touch "$MNT2/x"
expect_fail mount -o remount,rw "$MNT2"
umount_fs "$MNT2"
expect_eq "bytes of the read-only device" "$(md5sum <"$DEV2")" "$sum"
blockdev --setrw "$DEV2"

say "the same device twice is one filesystem"
mount_fs "$DEV1" "$MNT2"
echo there >"$MNT2/seen"
expect_eq "through the other mount" "$(cat "$MNT1/seen")" there
umount_fs "$MNT2"
umount_fs "$MNT1"

say "not a vexfs"
dd if=/dev/zero of="$DEV3" bs=1M count=8 conv=fsync status=none
expect_fail mount -t vexfs "$DEV3" "$MNT3"

say "the module leaves and returns"
module_reload
module_reload
