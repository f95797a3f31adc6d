#!/bin/bash
# SPDX-License-Identifier: MIT
# Devices that fail while they are in use: gone under load, losing writes that they acknowledge, changing what is read or
# written, unreadable in places. Whatever happens: nobody gets wrong data, unmounting works, and what was acknowledged before
# the fault is there afterwards, unless the device has destroyed it, which fsck.vexfs says. io_errors.sh has the simple cases.
# vm: timeout=600 alone usually=6.12
# vm: reports-ok=Buffer I/O error|blk_update_request|I/O error, dev
source "$LIB"
export DM_DISABLE_UDEV=1
modprobe dm-flakey && modprobe dm-snapshot || skip "no dm-flakey, dm-snapshot"

sectors=$((200 << 11))
whole() { # linear, error, or flakey with these features
	case $1 in
	linear) echo "0 $sectors linear $DEV2 0" ;;
	error) echo "0 $sectors error" ;;
	*) echo "0 $sectors flakey $DEV2 0 0 600 $(wc -w <<<"$1") $1" ;;
	esac
}
partly() { # FIRST COUNT TARGET [ARGUMENTS]: in these sectors; linear around them
	echo "0 $1 linear $DEV2 0"
	echo "$1 $2 $3 ${4:+$DEV2 $1 $4}"
	echo "$(($1 + $2)) $((sectors - $1 - $2)) linear $DEV2 $(($1 + $2))"
}
switch() { # TABLE
	dmsetup suspend --nolockfs --noflush faulty
	dmsetup load faulty <<<"$1"
	dmsetup resume faulty
}
dmsetup create faulty --table "$(whole linear)"
dev=/dev/mapper/faulty
[ -e "$dev" ] || dmsetup mknodes

new() { # [mount options]
	switch "$(whole linear)"
	make_fs "$dev"
	mount_fs "$dev" "$MNT1" "${1:-commit=2}"
	mkdir "$MNT1/d"
	vexctl --quiet collection create -d 16 -m l2 --index hnsw "$MNT1/d"
	sync -f "$MNT1"
	dmesg -C
}
# The device is well again: everything of `states` is there.
healthy() {
	if mountpoint -q "$MNT1"; then umount_fs "$MNT1"; fi
	switch "$(whole linear)"
	check_fs "$dev"
	mount_fs "$dev" "$MNT1"
	ackload verify "$MNT1/d" states >found || die "$(tail -n 3 found)"
	tail -n 1 found
	umount_fs "$MNT1"
}
# The device has destroyed something: what can be read was written once; fsck.vexfs sees the damage, if there is any.
damaged() { # SAID
	local status=0
	if mountpoint -q "$MNT1"; then umount_fs "$MNT1"; fi
	switch "$(whole linear)"
	fsck.vexfs -n -f "$dev" >report 2>&1 || status=$?
	case $status in
	0 | 4) ;;
	8) grep -q . report || die "fsck.vexfs could not, and says nothing" ;;
	*) die "fsck.vexfs: status $status: $(cat report)" ;;
	esac
	if mount -t vexfs "$dev" "$MNT1" 2>mount.err; then
		ackload ever <"$1" >ever
		if [ -d "$MNT1/d" ]; then ackload damaged "$MNT1/d" ever >found || die "$(tail -n 3 found)"; fi
		say "fsck.vexfs: status $status; $(tail -n 1 found)"
		umount_fs "$MNT1"
	else
		[ "$status" != 0 ] || die "fsck.vexfs finds nothing, but: $(cat mount.err)"
		say "fsck.vexfs: status $status; $(head -n 1 mount.err)"
	fi
}
# The device as one would read it on which a byte is wrong in each of these blocks of 4 KiB. (corrupt_bio_byte of dm-flakey
# leaves reads alone in these kernels.)
misread() { # BLOCK...
	dmsetup create misread --table "0 $sectors snapshot $DEV2 $DEV3 N 8"
	[ -e /dev/mapper/misread ] || dmsetup mknodes
	perl -e 'open(F, "+<", "/dev/mapper/misread") or die;
		for (@ARGV) { sysseek(F, $_ * 4096 + 99, 0); sysread(F, $c, 1) == 1 or die;
			sysseek(F, $_ * 4096 + 99, 0); syswrite(F, chr(ord($c) ^ 4)) == 1 or die }' "$@"
	sync /dev/mapper/misread
	switch "0 $sectors linear /dev/mapper/misread 0"
}
well_read() {
	switch "$(whole linear)"
	dmsetup remove misread
}
load() { # SECONDS: goes on in the background; lines go to `said`
	ackload load "$MNT1/d" "$RANDOM" >>said 2>load.err &
	loading=$!
	sleep "$1"
}
stop_load() { kill -KILL "$loading" 2>/dev/null || true; wait "$loading" 2>/dev/null || true; }
block_of() { filefrag -v -b4096 "$1" | tr -s '.:' '  ' | awk '$1 == 0 { print $4 }'; } # where a file begins
drop() { echo "$1" >/proc/sys/vm/drop_caches; }
message() { dmesg | grep "vexfs: dm-.*$1" >/dev/null || die "no message '$1': $(dmesg | tail)"; }

for how in error error_writes; do
	say "in the middle of a load: $how"
	new
	: >said
	load 1.5
	switch "$(whole $how)"
	wait "$loading" && die "the load does not notice"
	await "grep -q '$MNT1 vexfs ro' /proc/mounts" || die "still writable: $(grep "$MNT1" /proc/mounts)"
	message .
	ackload states <said >states
	healthy
done

say "while nobody calls"
new
touch "$MNT1/later" # the next commit is a thread's
switch "$(whole error_writes)"
await "grep -q '$MNT1 vexfs ro' /proc/mounts" || die "still writable: $(grep "$MNT1" /proc/mounts)"
: >states
healthy

say "the device loses what it acknowledges, and is switched off"
new
: >said
load 1.5
stop_load
ackload states <said >states
sync -f "$MNT1"
switch "$(whole drop_writes)"
head -c 1000000 /dev/urandom >fresh
cp fresh "$MNT1/fresh"
sync "$MNT1/fresh"
drop 1
bad=$(bad_blocks buffered "$MNT1/fresh" fresh 4096)
expect_eq "blocks that can be read" "$bad" "$(seq -s ' ' 0 244)"
message "inode .*: the data at offset 0 is damaged"
load 1
drop 3
ls -lR "$MNT1" >/dev/null 2>&1 || true
sleep 1
stop_load
healthy

say "the device loses what it acknowledges, for a while"
new
: >said
load 1
switch "$(whole drop_writes)"
sleep 1.5
switch "$(whole linear)"
sleep 1.5
stop_load
damaged said

say "what is read is not what is there"
new commit=300,noatime
head -c 800000 /dev/urandom >hurt
cp hurt "$MNT1/hurt"
: >said
load 1
stop_load
ackload states <said >states
sync -f "$MNT1"
at=$(block_of "$MNT1/hurt")
umount_fs "$MNT1"
vexctl --image "$dev" dump tree fs >nodes
mount_fs "$dev" "$MNT1" commit=300,noatime
cat "$MNT1/hurt" >/dev/null
misread "$at" $((at + 7)) $((at + 8)) $((at + 100))
for door in buffered direct mapped; do
	drop 1
	expect_eq "bad blocks, $door" "$(bad_blocks $door "$MNT1/hurt" hurt 4096)" "0 7 8 100"
done
message "inode $(stat -c %i "$MNT1/hurt"): the data at offset 28672 is damaged: device block $((at + 7))"
well_read
drop 1
cmp "$MNT1/hurt" hurt
umount_fs "$MNT1"
misread $(awk '$1 == "node" && $6 == 0 && NR % 2 == 0 { print $2 }' nodes)
if mount -t vexfs -o ro "$dev" "$MNT1" 2>mount.err; then
	ackload damaged "$MNT1/d" states >found || die "$(tail -n 3 found)"
	tail -n 1 found
	grep -q "refused 0" found || message "damaged\|node"
	umount_fs "$MNT1"
else
	say "$(head -n 1 mount.err)"
fi
well_read
healthy
mount_fs "$dev" "$MNT1"
cmp "$MNT1/hurt" hurt
umount_fs "$MNT1"

: >states
# dm-flakey of Linux before 6.5 changes the writer's memory, not what it passes on.
if [ "$(printf '%s\n' 6.5 "$KVER" | sort -V | head -n 1)" = 6.5 ]; then
	meta=4096 # REQ_META
	for flags in $meta 0; do
		say "what is written is not what was to be written (bios with the flags $flags)"
		new
		: >said
		load 1
		switch "$(whole "corrupt_bio_byte 200 w 0 $flags")"
		sleep 1.5
		stop_load
		damaged said
	done

	say "data is written wrong"
	new
	fallocate -l 400000 "$MNT1/written"
	sync -f "$MNT1"
	at=$(block_of "$MNT1/written")
	switch "$(partly $((at * 8)) 768 flakey "0 600 5 corrupt_bio_byte 3000 w 77 0")"
	head -c 393216 /dev/zero | tr '\0' '\1' >written
	dd if=written of="$MNT1/written" bs=4096 conv=notrunc,fsync status=none
	switch "$(whole linear)"
	truncate -s 400000 written
	drop 1
	bad=$(bad_blocks buffered "$MNT1/written" written 4096)
	[ -n "$bad" ] || die "nothing was noticed"
	message "inode $(stat -c %i "$MNT1/written"): the data at offset .* is damaged: device block"
	healthy
fi

say "sectors that cannot be read, under data"
new
head -c 400000 /dev/urandom >hurt
cp hurt "$MNT1/hurt"
cp hurt "$MNT1/whole"
sync -f "$MNT1"
at=$(block_of "$MNT1/hurt")
switch "$(partly $((at * 8 + 80)) 24 error)"
for door in buffered direct mapped; do
	drop 1
	expect_eq "bad blocks, $door" "$(bad_blocks $door "$MNT1/hurt" hurt 4096)" "10 11 12"
done
cmp "$MNT1/whole" hurt
vexctl scrub "$MNT1" >scrubbed 2>&1 && die "scrub sees nothing: $(cat scrubbed)"
grep -q hurt scrubbed || die "scrub: $(cat scrubbed)"
for f in "$MNT1/hurt" hurt; do dd if=/dev/urandom of="$f" bs=4096 seek=10 count=3 conv=notrunc status=none; done
dd if="$MNT1/hurt" of=hurt bs=4096 skip=10 seek=10 count=3 conv=notrunc status=none
sync "$MNT1/hurt" # elsewhere
drop 1
cmp "$MNT1/hurt" hurt
healthy

say "sectors that cannot be read, under nodes"
new
for i in $(seq 400); do echo "$i" >"$MNT1/d/file$i"; done
umount_fs "$MNT1"
vexctl --image "$dev" dump tree fs >nodes
leaf=$(awk '$1 == "node" && $6 == 0 { n[++i] = $2 } END { print n[int(i / 2) + 1] }' nodes)
say "$(grep -c ^node nodes) nodes, of which $leaf cannot be read"
switch "$(partly $((leaf * 8)) 32 error)"
dmesg -C
mount_fs "$dev" "$MNT1"
right=0 wrong=0
for i in $(seq 400); do
	if read -r got 2>/dev/null <"$MNT1/d/file$i"; then
		expect_eq "file $i" "$got" "$i"
		right=$((right + 1))
	else
		wrong=$((wrong + 1))
	fi
done
say "$right files can be read, $wrong cannot"
[ "$wrong" = 0 ] || message "$leaf"
[ "$right" -gt 0 ] || die "not one file can be read"
healthy
mount_fs "$dev" "$MNT1"
for i in $(seq 400); do read -r got <"$MNT1/d/file$i" && expect_eq "file $i" "$got" "$i"; done
umount_fs "$MNT1"

dmsetup remove faulty
module_reload
