#!/bin/bash
# SPDX-License-Identifier: MIT
# Power cuts of a running system: a load of files, syncs, vectors and snapshots on dm-log-writes, which records every write,
# flush and FUA write. Then the log is replayed up to places all over the run, and behind half of them a torn part of what
# was on its way. Each image is checked, mounted, and holds what had been acknowledged by then. tests/vm/power_cuts does the
# same to every place, without mounting.
# vm: timeout=600 usually=6.1
source "$LIB"
export DM_DISABLE_UDEV=1
places=12 seconds=6
modprobe dm-log-writes && modprobe dm-snapshot || skip "no dm-log-writes, dm-snapshot"

sectors=$((256 << 11)) log_sectors=$((1600 << 11))
create() { # NAME TABLE
	dmsetup create "$1" --table "$2"
	[ -e "/dev/mapper/$1" ] || dmsetup mknodes
}
create log "0 $log_sectors linear $DEV1 0"
create replayed "0 $sectors linear $DEV1 $log_sectors"
create logged "0 $sectors log-writes $DEV2 /dev/mapper/log"
log=/dev/mapper/log

say "a load of $seconds s is recorded"
make_fs /dev/mapper/logged
dmsetup message logged 0 mark mkfs
mount_fs /dev/mapper/logged "$MNT1" commit=2
mkdir "$MNT1/d"
vexctl --quiet collection create -d 16 -m l2 --index hnsw "$MNT1/d"
sync
seed=$RANDOM
ackload load "$MNT1/d" "$seed" logged "$seconds" >said
umount_fs "$MNT1"
dmsetup status logged | grep -q disabled && die "the log is not complete: $(dmsetup status logged)"
dmsetup remove logged
say "seed $seed: $(grep -c '^A' said) operations acknowledged, the log has $(logreplay $log points mkfs 1000000 | wc -l) places"

at=0 number=0
for place in $(logreplay $log points mkfs $places); do
	logreplay $log apply "$at" "$place" /dev/mapper/replayed
	at=$place number=$((number + 1))
	create cut "0 $sectors snapshot /dev/mapper/replayed $DEV3 N 8"
	if [ $((number % 2)) = 0 ]; then logreplay $log tear "$place" "$seed$place" /dev/mapper/cut; fi
	mount_fs /dev/mapper/cut "$MNT1"
	logreplay $log states "$place" >states
	if [ -s states ]; then ackload verify "$MNT1/d" states >found || die "place $place of seed $seed: $(tail -n 3 found)"; fi
	umount_fs "$MNT1"
	check_fs /dev/mapper/cut
	dmsetup remove cut
done
say "$number power cuts, nothing acknowledged is lost"
[ "$number" -ge $((places / 2)) ] || die "so few places"
dmsetup remove replayed
dmsetup remove log
