#!/bin/bash
# SPDX-License-Identifier: MIT
# Files that share blocks: cp --reflink, the calls below it and what they refuse, random operations against copies in
# memory, clones of a file that is being written; space is shared and comes back; snapshots; a clone is all there after fsync.
# vm: timeout=420
source "$LIB"

dev=$DEV2
used() { sync -f "$MNT2" && df --output=used -B1 "$MNT2" | tail -1; }
shares() { filefrag -v "$1" | grep -c shared || true; }

dd if=/dev/urandom of=random bs=1M count=4 status=none
fresh_fs "$dev" "$MNT2"

# ------------------------------------------------------------------ cp, and space
cd "$MNT2"
before=$(used)
for i in $(seq 8); do cat /tmp/reflink/random; done >big
with=$(used)
cp --reflink=always big clone
cp --reflink=always clone again
cmp big clone
[ $(($(used) - with)) -lt 2000000 ] || die "clones took $(($(used) - with)) bytes"
[ "$(shares clone)" -gt 0 ] || die "nothing is shared: $(filefrag -v clone)"
expect_eq "blocks of a clone" "$(stat -c %b clone)" "$(stat -c %b big)"
expect_errno EXDEV cp --reflink=always /tmp/reflink/random here
cp --reflink=auto /tmp/reflink/random here
cmp here /tmp/reflink/random
# Writing to one takes what is written, and no more.
dd if=/tmp/reflink/random of=clone bs=64k count=16 seek=99 conv=notrunc status=none
[ $(($(used) - with)) -gt 1000000 ] || die "what was written over takes no space"
cmp big again
rm big
cmp <(for i in $(seq 8); do cat /tmp/reflink/random; done) again
rm clone again here
cd /
remount_cycle "$dev" "$MNT2" # what is freed is free after a commit
cd "$MNT2"
[ $(($(used) - before)) -lt 1000000 ] || die "used when all is gone: $(used), before: $before"

# ------------------------------------------------------------------ the calls
mkdir calls
reflinked calls "$MNT2/calls"
cd /
remount_cycle "$dev" "$MNT2"
cd "$MNT2"

# ------------------------------------------------------------------ a sync, and a power cut
cp /tmp/reflink/random kept
sync kept
cp --reflink=always kept lost
cp --reflink=always kept synced
dd if=/tmp/reflink/random of=kept bs=4k count=9 seek=11 skip=100 conv=notrunc status=none
sync synced
sum=$(sha256sum <kept)
sync kept
shutdown_fs "$MNT2" now
cd /
umount_fs "$MNT2"
mount_fs "$dev" "$MNT2"
cd "$MNT2"
cmp synced /tmp/reflink/random
cmp lost /tmp/reflink/random || [ ! -s lost ] || die "half of a clone"
expect_eq "what was written over after cloning" "$(sha256sum <kept)" "$sum"
cd /
remount_cycle "$dev" "$MNT2"

# ------------------------------------------------------------------ random operations
mkdir "$MNT2/random" "$MNT2/plain"
chattr +C "$MNT2/plain"
seed=$(($(date +%s) % 1000 + 1))
say "seed $seed"
reflinked random "$MNT2/random" $seed 900
reflinked random "$MNT2/plain" $((seed + 1000)) 500
remount_cycle "$dev" "$MNT2"
say "beside writers"
reflinked churn "$MNT2/random" 6
reflinked churn "$MNT2/plain" 4
remount_cycle "$dev" "$MNT2"

# ------------------------------------------------------------------ snapshots
cd "$MNT2"
rm -rf random plain calls
cp /tmp/reflink/random one
vexctl --quiet snapshot create before "$MNT2"
cp --reflink=always one two
vexctl --quiet snapshot create between "$MNT2"
dd if=/dev/zero of=one bs=1M count=2 conv=notrunc status=none
rm two
cmp .vexfs/snapshots/before/one /tmp/reflink/random
cmp .vexfs/snapshots/between/two /tmp/reflink/random
# Out of a snapshot nothing is shared, it is another filesystem; and into one nothing is written.
expect_errno EXDEV cp --reflink=always .vexfs/snapshots/between/two three
expect_errno EROFS cp --reflink=always one .vexfs/snapshots/between/three
cd /
remount_cycle "$dev" "$MNT2"

# ------------------------------------------------------------------ with vectors
cd "$MNT2"
mkdir notes copies narrow nowhere
vexctl --quiet collection create notes -d 3 --index flat
vexctl --quiet collection create copies -d 3 --index hnsw
vexctl --quiet collection create narrow -d 2
cp /tmp/reflink/random notes/one
vexctl --quiet add notes/one -v "[1, 2, 3]" --tag 7 --chunk 0:4096
vexctl --quiet add notes/one -v "[4, 5, 6]" --tag 8
vexctl clone --with-vectors notes/one copies/two
cmp notes/one copies/two
[ "$(shares copies/two)" -gt 0 ] || die "nothing is shared"
vexctl --json search copies -q "[1, 2, 3]" -k 5 >hits
expect_eq "hits of the copies" "$(grep -o '"tag": *[0-9]*' hits | tr -dc '0-9\n' | tr '\n' ' ')" "7 8 "
expect_eq "stale ones" "$(grep -c '"stale": *true' hits || true)" 0
expect_fail vexctl clone --with-vectors notes/one copies/two
expect_fail vexctl clone --with-vectors notes/one narrow/two
expect_fail vexctl clone --with-vectors notes/one nowhere/two
[ ! -e narrow/two ] && [ ! -e nowhere/two ] || die "cloned in spite of it"
# What the contents have left behind does not come along.
echo more >>notes/one
vexctl --quiet add notes/one -v "[7, 8, 9]" --tag 9
vexctl clone --force --with-vectors notes/one copies/two
cmp notes/one copies/two
vexctl --json search copies -q "[7, 8, 9]" -k 5 --skip-stale >hits
expect_eq "hits that are not stale" "$(grep -o '"tag": *[0-9]*' hits | tr -dc '0-9\n' | tr '\n' ' ')" "9 "
cd /
remount_cycle "$dev" "$MNT2"

# ------------------------------------------------------------------ small blocks, and pages of several
fresh_fs "$dev" "$MNT2" -b 1024
mkdir "$MNT2/calls" "$MNT2/random"
reflinked random "$MNT2/random" $((seed + 2000)) 400
remount_cycle "$dev" "$MNT2"
umount_fs "$MNT2"
