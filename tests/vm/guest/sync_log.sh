#!/bin/bash
# SPDX-License-Identifier: MIT
# What a sync costs the device beside ext4, counted by the device; and what a sync has written is there after the power
# fails: recovered by a mount, seen by fsck, left alone with norecovery.
# vm: timeout=240
source "$LIB"

counters() { # DEVICE: writes, flushes since boot
	awk '{ print $5, $16 }' "/sys/block/${1#/dev/}/stat"
}

# DEVICE TITLE COMMAND...: device writes and flushes of 25 runs of the command, one a line in `costs`.
measure() {
	local dev=$1 title=$2 before after n
	shift 2
	sync
	before=($(counters "$dev"))
	for n in $(seq 25); do "$@" "$n"; done
	after=($(counters "$dev"))
	echo "$title $((after[0] - before[0])) $((after[1] - before[1]))" >>costs
}

append() { dd if=/dev/zero of="$dir/appended" bs=4k count=1 seek="$1" conv=notrunc,fsync status=none; }
overwrite() { dd if=/dev/urandom of="$dir/preallocated" bs=4k count=1 seek="$1" conv=notrunc,fsync status=none; }
create() { dd if=/dev/zero of="$dir/new$1" bs=4k count=1 conv=fsync status=none; }
small() { dd if=/dev/zero of="$dir/small$1" bs=500 count=1 conv=fsync status=none; }
renamed() { mv "$dir/new$1" "$dir/renamed$1" && sync "$dir"; }

for fs in ext4 vexfs; do
	if [ $fs = ext4 ]; then
		dev=$DEV3 dir=/mnt/ext4
		mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$dev"
		mkdir -p $dir && mount -o commit=300 "$dev" $dir
	else
		dev=$DEV2 dir=$MNT2
		make_fs "$dev"
		mount_fs "$dev" "$dir" commit=300
	fi
	dd if=/dev/zero of="$dir/preallocated" bs=4k count=64 conv=fsync status=none
	for what in append overwrite create small renamed; do measure "$dev" "$what $fs" $what; done
done
umount /mnt/ext4
say "device writes and flushes of 25 synced operations: ext4, vexfs"
worse=0
for what in append overwrite create small renamed; do
	read -r _ _ ew ef < <(grep "^$what ext4" costs)
	read -r _ _ vw vf < <(grep "^$what vexfs" costs)
	printf '   %-10s %4d %4d   %4d %4d\n' "$what" "$ew" "$ef" "$vw" "$vf"
	[ "$vw" -le "$ew" ] && [ "$vf" -le "$ef" ] || worse=1
done
[ "$worse" = 0 ] || die "a sync costs more than ext4's"
stat_of() { awk -v k="$1" '$1 == k { print $2 }' /proc/vexfs/stats | tail -1; }
[ "$(stat_of log_groups)" -ge 100 ] || die "the log was not used: $(grep log_ /proc/vexfs/stats)"

say "what was synced is there after the power failed, the rest is not"
fresh_fs "$DEV2" "$MNT2"
umount_fs "$MNT2"
mount_fs "$DEV2" "$MNT2" commit=300
echo first >"$MNT2/file" && sync "$MNT2/file" # a commit: the first sync of a mount
mkdir "$MNT2/d"
for i in $(seq 100); do echo "$i" >"$MNT2/d/$i"; done
head -c 300000 /dev/urandom >"$MNT2/data"
cp "$MNT2/data" expected
fallocate -l 1M "$MNT2/pre" && dd if=expected of="$MNT2/pre" conv=notrunc status=none
ln "$MNT2/data" "$MNT2/hard"
setfattr -n user.colour -v blue "$MNT2/data"
vexctl --quiet collection create -p -d 4 "$MNT2/vec"
vexctl --quiet add "$MNT2/vec" --id 7 --vector 1,2,3,4 --durable
sync -f "$MNT2"
rm "$MNT2/d/5"
echo lost >"$MNT2/lost"
shutdown_fs "$MNT2" now
umount_fs "$MNT2"
fsck.vexfs -n -f "$DEV2" >report || die "fsck: $(cat report)"
grep -q "the intent log holds [1-9]" report || die "fsck does not see the log: $(cat report)"

say "read-only, and not recovered"
mount -t vexfs -o ro,norecovery "$DEV2" "$MNT2"
[ ! -e "$MNT2/d" ] || die "recovered all the same"
expect_eq "what was committed" "$(cat "$MNT2/file")" first
expect_fail mount -o remount,rw "$MNT2"
umount_fs "$MNT2"
expect_fail mount -t vexfs -o norecovery "$DEV2" "$MNT2"
blockdev --setro "$DEV2"
expect_fail mount -t vexfs -o ro "$DEV2" "$MNT2"
mount -t vexfs -o ro,norecovery "$DEV2" "$MNT2"
umount_fs "$MNT2"
blockdev --setrw "$DEV2"

say "recovered, by a read-only mount"
dmesg -C
mount -t vexfs -o ro "$DEV2" "$MNT2"
dmesg | grep -q "vexfs: ${DEV2#/dev/}.*replayed" || die "no message"
expect_eq "names" "$(ls "$MNT2/d" | wc -l)" 100
[ ! -e "$MNT2/lost" ] || die "what was not synced is there"
cmp "$MNT2/data" expected
cmp -n 300000 "$MNT2/pre" expected
expect_eq "links" "$(stat -c %h "$MNT2/hard")" 2
expect_eq "xattr" "$(getfattr --only-values -n user.colour "$MNT2/hard")" blue
expect_eq "vector" "$(vexctl --json search "$MNT2/vec" -q 1,2,3,4 -k 1 |
	python3 -c 'import json, sys; print(json.load(sys.stdin)["results"][0][0]["id"])')" 7
umount_fs "$MNT2"
check_fs "$DEV2"

say "what was cut off does not come back when somebody else syncs"
mount_fs "$DEV2" "$MNT2" commit=300
echo x >"$MNT2/other" && sync "$MNT2/other"
for how in truncate fallocate; do
	head -c 4096 /dev/zero | tr '\0' A >"$MNT2/cut-$how" && sync "$MNT2/cut-$how"
	truncate -s 100 "$MNT2/cut-$how"
done
truncate -s 4096 "$MNT2/cut-truncate"
fallocate -o 5000 -l 100 "$MNT2/cut-fallocate"
echo y >"$MNT2/other" && sync "$MNT2/other"
shutdown_fs "$MNT2" now
umount_fs "$MNT2"
mount_fs "$DEV2" "$MNT2"
for how in truncate fallocate; do
	expect_eq "size" "$(stat -c %s "$MNT2/cut-$how")" "$([ $how = truncate ] && echo 4096 || echo 5100)"
	expect_eq "old bytes" "$(tail -c +101 "$MNT2/cut-$how" | tr -d '\0' | wc -c)" 0
done
umount_fs "$MNT2"

say "again and again, under load"
mount_fs "$DEV2" "$MNT2" commit=300
for round in 1 2 3; do
	mkdir -p "$MNT2/r$round"
	(while echo x 2>/dev/null >"$MNT2/r$round/noise$RANDOM"; do :; done) &
	for i in $(seq 30); do
		echo "$round $i" >"$MNT2/r$round/$i"
		sync "$MNT2/r$round/$i" "$MNT2/r$round"
	done
	shutdown_fs "$MNT2" now
	wait
	umount_fs "$MNT2"
	check_fs "$DEV2"
	mount_fs "$DEV2" "$MNT2" commit=300
	for i in $(seq 30); do expect_eq "round $round file $i" "$(cat "$MNT2/r$round/$i")" "$round $i"; done
done
umount_fs "$MNT2"
