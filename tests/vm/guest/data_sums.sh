#!/bin/bash
# SPDX-License-Identifier: MIT
# Checksums of file data: data written in every way is read back; a damaged block is EIO by every door, and nothing but that
# block; a damaged rest is not given a new checksum; overwriting whole blocks heals; chattr +C and nodatasum do without.
# vm: timeout=420
source "$LIB"

dev=$DEV2
sysfs=/sys/fs/vexfs/${dev#/dev/}
drop() { sync && echo 3 >/proc/sys/vm/drop_caches; }
verified() { cat "$sysfs/blocks_verified"; }
mismatches() { awk '$1 == "fs_sum_mismatches" { print $2 }' "$sysfs/stats"; }

# block_of FILE N: where the file's block N is, in blocks of the filesystem.
block_of() {
	filefrag -s -v -b"$bs" "$1" | tr -s '.:' '  ' |
		awk -v n="$2" '$1 ~ /^[0-9]+$/ && $2 <= n && n <= $3 { print $4 + n - $2 }' | grep .
}

# damage BLOCK [BYTE]: one bit of that byte of the device's block is not what it was. Nothing is mounted.
damage() {
	perl -e '($dev, $at) = @ARGV; open(F, "+<", $dev) or die; sysseek(F, $at, 0); sysread(F, $c, 1) == 1 or die;
		sysseek(F, $at, 0); syswrite(F, chr(ord($c) ^ 16)) == 1 or die' "$dev" $(($1 * bs + ${2:-0}))
	sync "$dev"
	blockdev --flushbufs "$dev"
}

# only_damaged FILE COPY N...: these blocks are EIO by every door, and these alone; the others are the copy's.
only_damaged() {
	local file=$1 copy=$2 door
	shift 2
	for door in direct buffered mapped; do
		drop
		expect_eq "blocks of $file damaged, $door" "$(bad_blocks $door "$file" "$copy" "$bs")" "$*"
	done
}
read_block() { dd if="$1" bs="$bs" skip="$2" count=1 status=none; }

dd if=/dev/urandom of=random bs=1M count=3 status=none

# ------------------------------------------------------------------ written in every way
# The same commands on files of tmpfs, which are the copies; its O_DIRECT is not what is tested.
write_files() { # DIR DIRECT-FLAG
	local i
	dd if=random of="$1/plain" bs=64k count=20 status=none
	dd if=random of="$1/plain" bs=777 count=300 seek=99 conv=notrunc status=none
	dd if=random of="$1/direct" bs=128k count=8 ${2:+oflag=$2} status=none
	dd if=random of="$1/direct" bs=512 count=33 seek=101 skip=7 conv=notrunc ${2:+oflag=$2} status=none
	dd if=random of="$1/direct" bs=64k count=5 seek=3 skip=30 conv=notrunc ${2:+oflag=$2} status=none
	truncate -s 700000 "$1/mapped"
	mapped write "$1/mapped" 0 700000 a
	mapped write "$1/mapped" 70001 300000 b
	fallocate -l 1M "$1/reserved"
	dd if=random of="$1/reserved" bs=10000 count=50 seek=13 conv=notrunc status=none
	dd if=random of="$1/punched" bs=1M count=2 status=none
	sync "$1/punched"
	fallocate -p -o 100000 -l 900001 "$1/punched"
	truncate -s 1500001 "$1/punched"
	truncate -s 1700000 "$1/punched"
	for i in $(seq 30); do head -c $((i * 197)) random >>"$1/appended"; done
	for i in 1 5 30 31 50; do dd if=random of="$1/sparse" bs=3000 count=1 seek=$((i * 10)) conv=notrunc status=none; done
	head -c 1000 random >"$1/small"
	head -c 1000 random >"$1/grown"
	sync "$1/grown"
	head -c 3000 random >>"$1/grown"
	dd if=random of="$1/again" bs=1M count=3 status=none
	sync "$1/again"
	for i in 2 3 4; do dd if=random of="$1/again" bs=100k count=9 seek=$((i * 5)) skip="$i" conv=notrunc,fsync status=none; done
}
compare() { # by every door
	local f
	drop
	for f in copy/*; do cmp "$f" "$MNT1/${f#copy/}"; done
	drop
	for f in copy/*; do dd if="$MNT1/${f#copy/}" bs=192k iflag=direct status=none | cmp - "$f"; done
	drop
	for f in copy/*; do mapped read "$MNT1/${f#copy/}" 0 "$(stat -c %s "$f")" | cmp - "$f"; done
}

mkdir copy
write_files copy ""
blocks=$(($(stat -c %s copy/again) / 4096))
for bs in 4096 1024; do
	say "written in every way, blocks of $bs"
	fresh_fs "$dev" "$MNT1" -b "$bs"
	write_files "$MNT1" direct
	drop
	before=$(verified)
	cat "$MNT1/again" >/dev/null
	[ $(($(verified) - before)) -ge "$blocks" ] || die "$(($(verified) - before)) blocks of $blocks verified"
	compare
	before=$(verified)
	dd if="$MNT1/again" of=/dev/null bs=192k iflag=direct status=none
	[ $(($(verified) - before)) -ge "$blocks" ] || die "direct: $(($(verified) - before)) blocks of $blocks verified"
	remount_cycle "$dev" "$MNT1"
	compare
	expect_eq "mismatches" "$(mismatches)" 0
	umount_fs "$MNT1"
	[ "$(fsck.vexfs -n -f --json "$dev" | tr ',{' '\n\n' | sed -n 's/.*"summed_blocks": *//p')" -ge "$blocks" ] ||
		die "fsck sees no checksums"
done

# ------------------------------------------------------------------ damage
bs=4096
say "damaged blocks"
fresh_fs "$dev" "$MNT1" -b $bs
head -c $((64 * bs - 100)) random >hurt
cp hurt "$MNT1/hurt"
tail -c $((64 * bs)) random | dd of="$MNT1/other" bs=64k oflag=direct status=none
sync -f "$MNT1"
ino=$(stat -c %i "$MNT1/hurt")
at5=$(block_of "$MNT1/hurt" 5)
at20=$(block_of "$MNT1/hurt" 20)
at63=$(block_of "$MNT1/hurt" 63)
at33=$(block_of "$MNT1/other" 33)
umount_fs "$MNT1"
damage "$at5"
damage "$at20" $((bs - 1))
damage "$at63" 1234
damage "$at33" 77
check_fs "$dev" # of data it looks at what is said about it
mount_fs "$dev" "$MNT1"
expect_errno EIO cp "$MNT1/hurt" /dev/null
dmesg >messages
grep -q "vexfs: ${dev#/dev/}: .*inode $ino: the data at offset $((5 * bs)) is damaged: device block $at5 " messages ||
	die "no message: $(cat messages)"
[ "$(mismatches)" -ge 1 ] || die "not counted"
only_damaged "$MNT1/hurt" hurt 5 20 63
tail -c $((64 * bs)) random >other
only_damaged "$MNT1/other" other 33
expect_errno EIO dd if="$MNT1/other" of=/dev/null bs=256k iflag=direct
drop
expect_errno EIO cp "$MNT1/other" /dev/null

say "a part of a damaged block cannot be written, and nothing changes"
for again in 1 2; do
	expect_errno EIO dd if=/dev/zero of="$MNT1/hurt" bs=100 seek=$((5 * bs / 100 + 3)) count=1 conv=notrunc
	expect_errno EIO dd if=/dev/zero of="$MNT1/hurt" bs=512 seek=$((20 * 8 + 3)) count=1 conv=notrunc oflag=direct
	expect_errno EIO truncate -s $((20 * bs + 7)) "$MNT1/hurt"
	expect_errno EIO fallocate -p -o $((20 * bs + 100)) -l 200 "$MNT1/hurt"
	expect_errno EIO dd if=/dev/zero of="$MNT1/hurt" bs=50 seek=$((64 * bs / 50)) count=1 conv=notrunc # from the end on
	status=0
	mapped write "$MNT1/hurt" $((5 * bs + 9)) 1 x || status=$?
	expect_eq "mapped write" "$status" 7
	expect_eq "size" "$(stat -c %s "$MNT1/hurt")" "$(stat -c %s hurt)"
	drop
done
expect_eq "on the device" "$(block_of "$MNT1/hurt" 5) $(block_of "$MNT1/hurt" 20)" "$at5 $at20"
only_damaged "$MNT1/hurt" hurt 5 20 63
remount_cycle "$dev" "$MNT1"
only_damaged "$MNT1/hurt" hurt 5 20 63

say "parts of good blocks beside it can"
for n in 4 6; do
	dd if=random of="$MNT1/hurt" bs=$((bs / 4)) seek=$((n * 4 + 1)) count=2 conv=notrunc status=none
	dd if=random of=hurt bs=$((bs / 4)) seek=$((n * 4 + 1)) count=2 conv=notrunc status=none
done
only_damaged "$MNT1/hurt" hurt 5 20 63

say "a large folio that readahead found damaged, written to in part"
drop
blockdev --setra 1024 "$dev"
dd if="$MNT1/hurt" of=/dev/null bs=$bs count=3 status=none
for n in 7 21 22; do
	for f in "$MNT1/hurt" hurt; do dd if=random of="$f" bs=$bs seek="$n" skip=$((n + 100)) count=1 conv=notrunc status=none; done
done
expect_eq "damaged" "$(bad_blocks buffered "$MNT1/hurt" hurt $bs)" "5 20 63"
only_damaged "$MNT1/hurt" hurt 5 20 63
blockdev --setra 256 "$dev"

say "whole blocks heal"
for f in "$MNT1/hurt" hurt; do dd if=random of="$f" bs=$bs seek=5 skip=70 count=1 conv=notrunc status=none; done
dd if=random of="$MNT1/hurt" bs=$bs seek=20 skip=80 count=1 conv=notrunc oflag=direct status=none
dd if=random of=hurt bs=$bs seek=20 skip=80 count=1 conv=notrunc status=none
only_damaged "$MNT1/hurt" hurt 63
for f in "$MNT1/hurt" hurt; do fallocate -p -o $((63 * bs)) -l $bs "$f"; done
only_damaged "$MNT1/hurt" hurt
rm "$MNT1/other" # a damaged file can go
remount_cycle "$dev" "$MNT1"
cmp "$MNT1/hurt" hurt
expect_eq "mismatches since" "$(mismatches)" 0
umount_fs "$MNT1"
check_fs "$dev"

# ------------------------------------------------------------------ blocks smaller than pages
bs=1024
say "blocks of $bs"
fresh_fs "$dev" "$MNT1" -b $bs
head -c $((64 * bs)) random | tee hurt >"$MNT1/hurt"
sync -f "$MNT1"
at21=$(block_of "$MNT1/hurt" 21)
umount_fs "$MNT1"
damage "$at21" 1000
mount_fs "$dev" "$MNT1"
drop
expect_eq "damaged, direct" "$(bad_blocks direct "$MNT1/hurt" hurt $bs)" 21
drop
expect_eq "damaged, in pages" "$(bad_blocks buffered "$MNT1/hurt" hurt $bs)" "20 21 22 23"
drop
expect_eq "damaged, mapped" "$(bad_blocks mapped "$MNT1/hurt" hurt $bs)" "20 21 22 23"
expect_errno EIO dd if=/dev/zero of="$MNT1/hurt" bs=100 seek=217 count=1 conv=notrunc
for f in "$MNT1/hurt" hurt; do dd if=random of="$f" bs=$bs seek=21 skip=300 count=1 conv=notrunc status=none; done
cmp "$MNT1/hurt" hurt # one block of the page is dirty, the others are not there yet
drop
cmp "$MNT1/hurt" hurt
for n in 3 4 9 14 30; do # the same with what is good
	drop
	for f in "$MNT1/hurt" hurt; do dd if=random of="$f" bs=$bs seek="$n" skip=$((n + 400)) count=1 conv=notrunc status=none; done
	cmp "$MNT1/hurt" hurt
	for f in "$MNT1/hurt" hurt; do dd if=random of="$f" bs=100 seek=$((n * 10)) count=11 conv=notrunc status=none; done
	cmp "$MNT1/hurt" hurt
done
remount_cycle "$dev" "$MNT1"
cmp "$MNT1/hurt" hurt
umount_fs "$MNT1"

# ------------------------------------------------------------------ without
bs=4096
say "chattr +C: in place, and nothing is compared"
fresh_fs "$dev" "$MNT1"
mkdir "$MNT1/d"
chattr +C "$MNT1/d"
head -c 400000 random >"$MNT1/d/none"
head -c 400000 random >"$MNT1/sums"
lsattr "$MNT1/d/none" | grep -q '^[^ ]*C' || die "not inherited: $(lsattr "$MNT1/d/none")"
lsattr "$MNT1/sums" | grep -q '^[^ ]*C' && die "a file without it has it"
sync -f "$MNT1"
for door in "" direct; do
	for f in d/none sums; do
		at=$(block_of "$MNT1/$f" 50)
		dd if=random of="$MNT1/$f" bs=$bs seek=50 skip=7 count=1 conv=notrunc,fsync ${door:+oflag=$door} status=none
		now=$(block_of "$MNT1/$f" 50)
		[ $f = sums ] || expect_eq "block 50 of $f" "$now" "$at"
		[ $f != sums ] || [ "$now" != "$at" ] || die "overwritten in place"
	done
done
drop
before=$(verified)
cat "$MNT1/d/none" >/dev/null
dd if="$MNT1/d/none" of=/dev/null bs=64k iflag=direct status=none
expect_eq "blocks verified" $(($(verified) - before)) 0
none3=$(block_of "$MNT1/d/none" 3) sums3=$(block_of "$MNT1/sums" 3)
umount_fs "$MNT1"
damage "$none3"
damage "$sums3"
mount_fs "$dev" "$MNT1"
cmp -s -n 400000 "$MNT1/d/none" random && die "what is not damaged?"
expect_errno EIO cp "$MNT1/sums" /dev/null

say "nodatasum: new data has none, old data is compared"
umount_fs "$MNT1"
mount_fs "$dev" "$MNT1" nodatasum
grep -q " $MNT1 vexfs rw.*,nodatasum" /proc/mounts || die "options: $(grep "$MNT1" /proc/mounts)"
expect_errno EIO read_block "$MNT1/sums" 3
head -c 400000 random >"$MNT1/new"
sync -f "$MNT1"
at=$(block_of "$MNT1/new" 9)
dd if=random of="$MNT1/new" bs=$bs seek=9 skip=3 count=1 conv=notrunc,fsync oflag=direct status=none
expect_eq "block 9" "$(block_of "$MNT1/new" 9)" "$at"
drop
before=$(verified)
cat "$MNT1/new" >/dev/null
expect_eq "blocks verified" $(($(verified) - before)) 0
dd if=random of="$MNT1/sums" bs=$bs seek=3 count=1 conv=notrunc oflag=direct status=none # heals here too
dd if=random of="$MNT1/sums" bs=1000 seek=50 count=3 conv=notrunc,fsync status=none
drop
cat "$MNT1/sums" >sums
[ "$(verified)" -gt "$before" ] || die "old data is not compared"
mount -o remount,datasum "$MNT1"
grep -q " $MNT1 vexfs .*nodatasum" /proc/mounts && die "options: $(grep "$MNT1" /proc/mounts)"
dd if=random of="$MNT1/new" bs=$bs count=90 conv=notrunc,fsync status=none
drop
before=$(verified)
cat "$MNT1/new" >/dev/null
expect_eq "blocks verified" $(($(verified) - before)) 90
mount -o remount,nodatasum "$MNT1"
remount_cycle "$dev" "$MNT1"
cmp "$MNT1/sums" sums

# ------------------------------------------------------------------ while it changes
say "data that changes while it is written and read"
head -c 2000000 random >"$MNT1/scribbled"
head -c 2900000 random >"$MNT1/moved"
mapped scribble "$MNT1/scribbled" 8 &
pids=($!)
(while [ ! -e stop ]; do dd if=random of="$MNT1/moved" bs=300k count=9 conv=notrunc,fsync status=none && echo 1 >"$sysfs/commit"; done) &
pids+=($!)
(while [ ! -e stop ]; do dd if="$MNT1/moved" of=/dev/null bs=300k iflag=direct status=none; done) &
pids+=($!)
(while [ ! -e stop ]; do
	dd if="$MNT1/moved" of=/dev/null bs=100k status=none
	dd of="$MNT1/moved" oflag=nocache conv=notrunc,fdatasync count=0 status=none # out of the cache
done) &
pids+=($!)
sleep 9
touch stop
for pid in "${pids[@]}"; do wait "$pid" || die "reading or writing failed"; done
rewriters "$MNT1/rewritten" 5 || die "what was written back by several at once is not what was written"
drop
cat "$MNT1/scribbled" >/dev/null
expect_eq "mismatches" "$(mismatches)" 0
remount_cycle "$dev" "$MNT1"
cat "$MNT1/scribbled" >/dev/null
cmp -n 2900000 "$MNT1/moved" random
umount_fs "$MNT1"
