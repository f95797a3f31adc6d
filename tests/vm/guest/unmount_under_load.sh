#!/bin/bash
# SPDX-License-Identifier: MIT
# Unmounting (lazily, and by trying again and again) while everything is in motion loses nothing and leaves nothing locked.
# vm: timeout=300
source "$LIB"

for round in 1 2 3; do
	fresh_fs "$DEV1" "$MNT1"
	mkdir "$MNT1/storm" "$MNT1/tree"
	expected=$PWD/expected
	# Each starts with its working directory in the filesystem, which is in use for as long as one of them runs.
	cd "$MNT1"
	filefuzz "$MNT1/fuzz" --seed "$round" --ops 300 --max 400000 --expected "$expected" &
	fuzz=$!
	namestorm "$MNT1/storm" --threads 3 --ops 400 --seed "$round" &
	storm=$!
	(for i in $(seq 200); do echo "$i" >"$MNT1/tree/$i"; done) &
	tree=$!
	cd - >/dev/null
	tries=0
	until umount "$MNT1" 2>/dev/null; do
		tries=$((tries + 1))
		sleep 0.05
	done
	say "round $round: unmounted at try $tries"
	wait "$fuzz" || die "filefuzz failed"
	wait "$storm" || die "namestorm failed"
	wait "$tree" || die "a file could not be written"
	check_fs "$DEV1"
	mount_fs "$DEV1" "$MNT1"
	cmp "$MNT1/fuzz" expected
	umount_fs "$MNT1"
done

say "lazily, with files still open"
mount_fs "$DEV1" "$MNT1"
exec 4>"$MNT1/open"
umount -l "$MNT1"
echo late >&4
exec 4>&-
for _ in $(seq 100); do
	[ -e "/sys/fs/vexfs/${DEV1#/dev/}" ] || break
	sleep 0.1
done
[ ! -e "/sys/fs/vexfs/${DEV1#/dev/}" ] || die "still mounted after the last file was closed"
check_fs "$DEV1"
mount_fs "$DEV1" "$MNT1"
expect_eq "what was written last" "$(cat "$MNT1/open")" late
umount_fs "$MNT1"
module_reload
