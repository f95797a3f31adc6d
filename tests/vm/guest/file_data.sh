#!/bin/bash
# SPDX-License-Identifier: MIT
# What is written is read: random operations through every door (read/write, O_DIRECT, mmap, fallocate, truncate) against
# a copy, several files at once, with blocks of 4 KiB and of 1 KiB; and again after a remount.
# vm: timeout=420
source "$LIB"

for block in 4096 1024; do
	fresh_fs "$DEV1" "$MNT1" -b "$block"
	pids=()
	for seed in 1 2 3; do
		filefuzz "$MNT1/f$seed" --seed "$seed$block" --ops 1500 --max $((300000 * seed)) \
			--expected "$PWD/expected$seed" $([ "$seed" = 1 ] && echo --sync-drop) &
		pids+=($!)
	done
	# Around 2 KiB contents move between the inode and blocks.
	for max in 5000 6000 9000; do
		filefuzz "$MNT1/f$max" --seed "$max$block" --ops 1500 --max "$max" --expected "$PWD/expected$max" --sync-drop &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do wait "$pid" || die "filefuzz failed"; done
	remount_cycle "$DEV1" "$MNT1"
	for file in 1 2 3 5000 6000 9000; do cmp "$MNT1/f$file" "expected$file"; done
	rm "$MNT1"/f*
	umount_fs "$MNT1"
	check_fs "$DEV1"
done
