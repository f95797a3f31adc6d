#!/bin/bash
# SPDX-License-Identifier: MIT
# Damage on the device: mounting is refused or what is damaged is reported with -EUCLEAN or -EIO and a message; never a
# crash. The filesystem is filled, then random blocks of its metadata are overwritten, again and again.
# vm: timeout=300 alone usually=6.12
source "$LIB"

size=32 # MiB: it is written anew for every round
mkfs.vexfs -q -f "$DEV3" "${size}M"
mount_fs "$DEV3" "$MNT1"
for i in $(seq 300); do
	mkdir -p "$MNT1/d$((i % 7))"
	head -c $((i * 40)) /dev/urandom >"$MNT1/d$((i % 7))/f$i"
	setfattr -n user.x -v "$i" "$MNT1/d$((i % 7))/f$i"
done
umount_fs "$MNT1"
dd if="$DEV3" of=/tmp/good bs=1M count="$size" status=none
bytes=$(stat -c %s /tmp/good)

refused=0 mounted=0
# Other rounds under each kernel: what is hit does not depend on it.
first=$((1000 * $(uname -r | cut -d. -f2)))
for round in $(seq $((first + 1)) $((first + 8))); do
	dd if=/tmp/good of="$DEV3" bs=1M conv=fsync status=none
	RANDOM=$round
	for _ in $(seq $((1 + round % 12))); do
		# half of the hits near the beginning and the end, where roots and superblocks are
		case $((RANDOM % 4)) in
		0) at=$((RANDOM % 64)) ;;
		1) at=$((bytes / 512 - 8 - RANDOM % 64)) ;;
		*) at=$(((RANDOM * 32768 + RANDOM) % (bytes / 512 - 8))) ;;
		esac
		dd if=/dev/urandom of="$DEV3" bs=512 seek="$at" count=$((1 + RANDOM % 8)) conv=notrunc status=none
	done
	if mount -t vexfs "$DEV3" "$MNT1" 2>/dev/null; then
		mounted=$((mounted + 1))
		find "$MNT1" -type f -exec cat {} + >/dev/null 2>&1 || true
		getfattr -R -d "$MNT1" >/dev/null 2>&1 || true
		for i in 1 2 3; do echo x >"$MNT1/new$i" 2>/dev/null || true; done
		rm -rf "$MNT1"/d1 "$MNT1"/d2 2>/dev/null || true
		sync -f "$MNT1" 2>/dev/null || true
		umount_fs "$MNT1"
	else
		refused=$((refused + 1))
	fi
	timeout 60 fsck.vexfs -n -f "$DEV3" >/dev/null 2>&1 || [ "$?" -lt 64 ] || die "fsck died in round $round"
done
say "$mounted mounted, $refused refused"

say "both roots and all superblocks gone"
dd if=/tmp/good of="$DEV3" bs=1M conv=fsync status=none
dd if=/dev/zero of="$DEV3" bs=1M count=1 conv=notrunc status=none
dmesg -C
mount -t vexfs "$DEV3" "$MNT1" 2>/dev/null && umount_fs "$MNT1"
dmesg | grep "vexfs: ${DEV3#/dev/}" >/dev/null || die "no message"
