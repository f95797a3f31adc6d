#!/bin/bash
# SPDX-License-Identifier: MIT
# fsck.vexfs: silent about the sound, loud about damage, never writing unless told to, never crashing; and vexctl on damaged images.
. "$(dirname "$0")/lib.sh"

ok mkfs.vexfs -q -m single image 64M
v() { vexctl --image image "$@"; }
for i in $(seq 1 40); do head -c $((i * 1000)) /dev/zero | tr '\0' "$((i % 10))" | v put - "/d$((i % 4))/file$i"; done
ok v collection create -p /vec -d 16
vectors x.npy 500 16
ok v import x.npy /vec
ok v index build /vec
ok v index checkpoint /vec

# ---- sound
sum=$(sha256sum <image)
ok fsck.vexfs -f -v image
says clean "tree nodes" "items"
ok fsck.vexfs -n image
ok fsck.vexfs -y image
ok fsck.vexfs -p image
says "-f checks everything"
ok fsck.vexfs -a -f -C image
ok fsck.vexfs -f -C0 image
ok fsck.vexfs --json -f image
json "j['names'] == 45 and j['inodes'] == 46 and j['collections'] == 1 and j['rows'] == 500 and j['owned_rows'] == 0"
json "j['clean'] and j['full'] and j['errors'] == 0 and j['exit'] == 0 and j['nodes'] > 0 and j['items'] > 100"
[ "$sum" = "$(sha256sum <image)" ] || fail "fsck wrote to the image"

# ---- one damage at a time
damage() { # WHAT OFFSET STATUS: a copy of the image with one byte inverted
	cp --sparse=always image broken
	flip broken "$2"
	status "$3" fsck.vexfs -f broken
	if [ "$3" = 0 ]; then says warning; else says error; fi
}
damage "superblock" 4100 4
says "copy of the superblock at byte" "is used" "1 error(s), 1 warning(s); -p repairs what nothing is lost by, -y everything"
ok fsck.vexfs --help
status 4 fsck.vexfs --json -f broken
json "not j['clean'] and j['errors'] >= 1 and any(f['severity'] == 'error' for f in j['findings'])"
ok vexctl --image broken status  # by a copy of the superblock

size=$(stat -c %s image)
damage "last copy of the superblock" $((size - 4096 + 20)) 4
damage "root slot, whose mirror is sound" $((16 * 4096 + 50)) 0
damage "the other one" $((17 * 4096 + 50)) 0

ok v dump tree fs
top=$(sed -n 's/^node \([0-9]*\) .*/\1/p' out | head -1)
damage "top of the fs tree" $((top * 4096 + 100)) 4
status 4 fsck.vexfs -p broken  # a quick look sees that nothing would work
status 2 v dump node 999999999
status 5 vexctl --image broken dump node "$top"
ok v dump tree fs
node=$(sed -n 's/^node \([0-9]*\) .*level 0.*/\1/p' out | head -1)
damage "leaf of the fs tree" $((node * 4096 + 8000)) 4
says "$node"
status 4 fsck.vexfs -p -f broken
ok v dump tree collections
node=$(sed -n 's/^node \([0-9]*\) .*/\1/p' out | head -1)
damage "node of the collections tree" $((node * 4096 + 100)) 4
status 5 vexctl --image broken dump node "$node"
says REFUSED

# The commands say that it is damage, with the exit status for it.
ok v dump tree fs
cp --sparse=always image broken
for node in $(sed -n 's/^node \([0-9]*\) .*/\1/p' out); do flip broken $((node * 4096 + 40)); done
status 5 vexctl --image broken ls /
status 4 fsck.vexfs -f broken

# ---- no filesystem at all, a cut image
truncate -s 64M zeros
status 8 fsck.vexfs zeros
says "no VexFS"
head -c 16M image >cut
if fsck.vexfs -f cut >out 2>&1; then fail "a cut image is clean"; fi

# ---- random damage: reported or harmless, never a crash
python3 - <<'PY' >seeds
import random
r = random.Random(20)
for _ in range(25):
    print(r.choice([r.randrange(0, 1 << 18), r.randrange(0, 64 << 20), r.randrange(33 << 12, 400 << 12)]))
PY
crashed=0
while read -r at; do
	cp --sparse=always image broken
	for k in 0 1 2 3; do flip broken $(((at + k * 4099) % size)); done
	code=0
	timeout 60 fsck.vexfs -f broken >out 2>&1 || code=$?
	case $code in 0 | 4 | 8) ;; *) echo "fsck: status $code with damage at $at"; crashed=1 ;; esac
	code=0
	timeout 60 vexctl --image broken search /vec -q x.npy --row 3 >out 2>&1 || code=$?
	case $code in 0 | 1 | 3 | 5) ;; *) echo "vexctl: status $code with damage at $at"; crashed=1 ;; esac
done <seeds
[ $crashed = 0 ] || fail "crashes"
echo passed
