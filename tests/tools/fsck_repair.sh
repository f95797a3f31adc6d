#!/bin/bash
# SPDX-License-Identifier: MIT
# fsck.vexfs -p and -y: exit statuses, what is said, what is there afterwards.
. "$(dirname "$0")/lib.sh"

ok mkfs.vexfs -q -m single image 64M
v() { vexctl --image "${image:-image}" "$@"; }
for i in $(seq 1 30); do
	head -c $((i * 1500)) /dev/zero | tr '\0' "$((i % 10))" >contents
	v put contents "/d$((i % 3))/file$i"
done
ok v collection create -p /vec -d 16
vectors x.npy 600 16
ok v import x.npy /vec
ok v index build /vec
ok v index checkpoint /vec
ok fsck.vexfs -f image
broken() { # OFFSET...: a copy of the image with these bytes inverted
	cp --sparse=always image broken
	for at; do flip broken "$at"; done
}
size=$(stat -c %s image)

# ---- copies: -p
broken 4100
status 1 fsck.vexfs -p broken
says "repaired: the superblock is written anew from a good one"
ok fsck.vexfs -f broken
broken $((size - 4096 + 20))
status 1 fsck.vexfs -p -f broken
says "repaired: the copy of the superblock at byte $((size - 4096))"
ok fsck.vexfs -f broken
says_not warning
broken $((16 * 4096 + 50)) $((17 * 4096 + 50))
status 1 fsck.vexfs -p broken
says "root slot 0: the damaged copy" "root slot 1: the damaged copy"
ok fsck.vexfs -f broken
says_not warning

# ---- a copy of a tree's root: the quick look at boot sees it
ok mkfs.vexfs -q -m dup twice 64M
ok vexctl --image twice dump root
for at in $(sed -n 's/.*tree 0: root \([0-9]*\) .* mirror \([0-9]*\) .*/\1 \2/p' out | head -1); do
	cp --sparse=always twice broken
	flip broken $((at * 4096 + 300))
	status 4 fsck.vexfs -n broken
	status 1 fsck.vexfs -p broken
	says "repaired: the copy of a tree node at block $at is written anew from the other one"
	says_not "-y"
	ok fsck.vexfs -f broken
	says_not warning
done

# ---- space maps: -p, from what the trees refer to
broken $((18 * 4096 + 70)) $((19 * 4096 + 70))
status 4 fsck.vexfs -n broken
status 1 fsck.vexfs -p broken
says "the space maps of" "are made anew"
ok fsck.vexfs -f broken

# ---- a leaf of files: only -y, and it says which
ok v dump tree fs
leaf=$(sed -n 's/^node \([0-9]*\) .*level 0.*/\1/p' out | tail -1)
broken $((leaf * 4096 + 8000))
sum=$(sha256sum <broken)
status 4 fsck.vexfs -p broken
says "run fsck.vexfs -y" "would be repaired: the fs tree: a leaf is damaged"
[ "$sum" = "$(sha256sum <broken)" ] || fail "-p has written what it must not"
cp --sparse=always broken again
status 1 fsck.vexfs -y broken
says "repaired: the fs tree: a leaf is damaged"
ok fsck.vexfs -f broken
status 1 fsck.vexfs -y --json again
json "j['repaired'] and j['exit'] == 1 and j['repairs'] and not all(r['safe'] for r in j['repairs'])"
ok fsck.vexfs -f again
ok fsck.vexfs -y broken
says clean
# What it holds can be read, and new things be written.
image=broken ok vexctl --image broken ls /
echo new >contents
ok vexctl --image broken put contents /new
ok fsck.vexfs -f broken

# ---- a table of vectors: the collection goes on without what is lost
ok v dump tree collections
leaf=$(sed -n 's/^node \([0-9]*\) .*level 0.*/\1/p' out | head -1)
broken $((leaf * 4096 + 9000))
status 1 fsck.vexfs -y broken
ok fsck.vexfs -f broken
ok vexctl --image broken status

# ---- no root at all: what can be found is put together
broken $((16 * 4096 + 50)) $((17 * 4096 + 50)) $((size - 4096 - 2 * 4096 + 50)) $((size - 4096 - 4096 + 50))
status 4 fsck.vexfs -n broken
status 4 fsck.vexfs -p broken
status 1 fsck.vexfs -y broken
says "no root can be used"
ok fsck.vexfs -f broken
says_not warning
ok vexctl --image broken ls /d1

# ---- not a filesystem, usage
truncate -s 64M zeros
status 8 fsck.vexfs -y zeros
status 16 fsck.vexfs -y -p image
chmod 444 image
[ "$(id -u)" = 0 ] || status 8 fsck.vexfs -y image
echo passed
