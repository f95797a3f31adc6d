#!/bin/bash
# SPDX-License-Identifier: MIT
# A device that fails reads or writes, or all at once: errors reach the caller, the message names device and block, the
# filesystem stops writing, and the kernel goes on. What had been synced before is there when the device is back.
# vm: timeout=240 alone
# vm: reports-ok=Buffer I/O error|blk_update_request|I/O error, dev
source "$LIB"
export DM_DISABLE_UDEV=1

sectors=$(blockdev --getsz "$DEV2")
table() { # state: linear, error, flakey with features
	case $1 in
	linear) echo "0 $sectors linear $DEV2 0" ;;
	error) echo "0 $sectors error" ;;
	drop) echo "0 $sectors flakey $DEV2 0 0 600 1 error_writes" ;;
	esac
}
switch() {
	dmsetup suspend --nolockfs --noflush faulty
	table "$1" | dmsetup load faulty
	dmsetup resume faulty
}
modprobe dm-flakey || skip "no dm-flakey"
table linear | dmsetup create faulty
dev=/dev/mapper/faulty
[ -e "$dev" ] || dmsetup mknodes

for how in drop error; do
	say "writes fail: $how"
	make_fs "$dev"
	mount_fs "$dev" "$MNT1"
	for i in $(seq 50); do echo "$i" >"$MNT1/kept$i"; done
	head -c 3000000 /dev/urandom >"$MNT1/big"
	sync -f "$MNT1"
	sum=$(md5sum <"$MNT1/big")
	dmesg -C
	switch "$how"
	for i in $(seq 50); do echo "$i" >"$MNT1/lost$i" || true; done
	expect_fail sync -f "$MNT1"
	expect_fail touch "$MNT1/more"
	await "grep -q '$MNT1 vexfs ro' /proc/mounts" || die "still writable: $(grep "$MNT1" /proc/mounts)"
	dmesg | grep "vexfs: dm-" >/dev/null || die "no message"
	[ "$how" = error ] || expect_eq "a file in the cache" "$(cat "$MNT1/kept7")" 7
	umount_fs "$MNT1"
	switch linear
	check_fs "$dev"
	mount_fs "$dev" "$MNT1"
	for i in $(seq 50); do expect_eq "kept$i" "$(cat "$MNT1/kept$i")" "$i"; done
	expect_eq "big" "$(md5sum <"$MNT1/big")" "$sum"
	umount_fs "$MNT1"
done

say "reads fail"
mount_fs "$dev" "$MNT1"
switch error
expect_errno EIO cat "$MNT1/big"
ls -l "$MNT1" >/dev/null 2>&1 || true
umount_fs "$MNT1"
expect_fail mount -t vexfs "$dev" "$MNT1"
switch linear
mount_fs "$dev" "$MNT1"
expect_eq "big" "$(md5sum <"$MNT1/big")" "$sum"
umount_fs "$MNT1"
dmsetup remove faulty
module_reload
