#!/bin/bash
# SPDX-License-Identifier: MIT
# Memory that cannot be had, at random places of mounting, file operations and searches: an error reaches the caller,
# nothing is lost, leaked or left locked. Only on kernels with failslab.
# vm: timeout=240
source "$LIB"

knobs=/sys/kernel/debug/failslab
[ -d "$knobs" ] && [ -e /proc/self/make-it-fail ] || skip "the kernel has no failslab"

starving() { (echo 1 >/proc/self/make-it-fail && exec "$@") >/dev/null 2>&1; }
set_percent() { echo "$1" >"$knobs/probability"; }
cleanly() { # command: without failures, it must succeed
	set_percent 0
	"$@" || die "$*"
	set_percent 100
}

fresh_fs "$DEV3" "$MNT3"
c=$MNT3/c
vexctl --quiet collection create --mkdir -d 4 -e f32 -m l2 --index hnsw "$c"
for i in $(seq 20); do vexctl --quiet add "$c" --vector "[$i,0,1,2]" --id "$i"; done
for i in $(seq 10); do echo "$i" >"$MNT3/kept$i"; done
umount_fs "$MNT3"

echo 1 >"$knobs/task-filter"
echo N >"$knobs/ignore-gfp-wait"
# Every 499th allocation of the starving: about one for each command, at places that wander. With more of them hardly a
# program would get as far as its first call.
echo 499 >"$knobs/interval"
echo -1 >"$knobs/times"
echo 0 >"$knobs/verbose"
trap 'set_percent 0' EXIT

say "mounting"
set_percent 100
failed=0
for _ in $(seq 25); do
	if starving mount -t vexfs "$DEV3" "$MNT3"; then cleanly umount "$MNT3"; else failed=$((failed + 1)); fi
done
say "$failed of 25 mounts failed"
[ "$failed" -gt 0 ] || die "no allocation failed"

say "files and searches"
cleanly mount -t vexfs "$DEV3" "$MNT3"
for i in $(seq 20); do
	starving touch "$MNT3/new$i" || true
	starving mkdir "$MNT3/dir$i" || true
	starving dd if=/dev/zero of="$MNT3/data$i" bs=64k count=3 conv=fsync || true
	starving mv "$MNT3/new$i" "$MNT3/dir$i/" || true
	starving ls -lR "$MNT3" || true
	starving vexctl search "$c" --query "[$i,0,1,2]" -k 3 || true
	starving vexctl add "$c" --vector "[0,$i,1,2]" || true
	starving rm -rf "$MNT3/dir$i" || true
done
set_percent 0
umount_fs "$MNT3"
check_fs "$DEV3"
mount_fs "$DEV3" "$MNT3"
for i in $(seq 10); do expect_eq "kept$i" "$(cat "$MNT3/kept$i")" "$i"; done
vexctl --json search "$c" --query "[7,0,1,2]" -k 1 | grep -q '"id": *7\b' || die "row 7 is not found"
umount_fs "$MNT3"
