#!/bin/bash
# SPDX-License-Identifier: MIT
# vexctl scrub on images: damage is found and named by file, nodes are cured on request, a stopped scrub goes on.
. "$(dirname "$0")/lib.sh"
ok mkfs.vexfs -q image 64M
v() { vexctl --image image "$@"; }
head -c 3000000 /dev/urandom >large
seq 1 200 >small
ok v put large "/files/a large one"
ok v put small /files/small
ok v collection create -p /vectors -d 8
vectors base.npy 500 8
ok v import base.npy /vectors

ok v scrub
says "no damage found"
ok v --json scrub
json "j['done'] and j['damaged'] == 0 and j['findings'] == [] and j['data_bytes'] >= 3000000 and j['nodes'] >= 2"
ok v --json scrub --only vectors
json "j['nodes'] == 0 and j['data_bytes'] == 0 and j['vector_bytes'] > 0"
status 2 v scrub --only everything
status 2 v scrub --rate 1

# The byte address of a file's block, from its extent item.
ok v dump tree fs --items
block=$(python3 - <<'PY'
import re
for line in open("out"):
    m = re.search(r"EXTENT 0\).* disk (\d+) count (\d+)", line)
    if m and int(m[2]) > 100: print(int(m[1])); break
PY
)
[ -n "$block" ] || fail "no extent of the large file"
flip image $(((block + 17) * 4096 + 9))
flip image $(((block + 18) * 4096))
status 5 v scrub
says "/files/a large one: data at offset $((17 * 4096)) is damaged" "at offset $((18 * 4096))" "2 damaged, 0 of these repaired"
status 5 bash -c 'vexctl --image image --json scrub 2>/dev/null'
json "[(f['kind'], f['path'], f['offset'], f['repaired']) for f in j['findings']] == [('data', '/files/a large one', 17 * 4096 + 4096 * i, False) for i in (0, 1)]"
status 5 v cat "/files/a large one"
ok v cat /files/small
cmp -s out small || fail "the other file"
ok v rm "/files/a large one"
ok v scrub
says "no damage found"

# Superblock copies, roots, space maps.
size=$(stat -c %s image)
cp --sparse=always image broken
flip broken $((size - 4096 + 20))
flip broken $((16 * 4096 + 50))
status 5 vexctl --image broken scrub --only fixed
says "copy of the superblock, number" "root slot 0 is damaged" "2 damaged, 0 of these repaired"
ok vexctl --image broken scrub --only fixed --repair
says "2 damaged, 2 of these repaired"
ok vexctl --image broken --json scrub --only fixed
json "j['damaged'] == 0 and j['nodes'] == 0"
ok fsck.vexfs -f broken

# Stopped and gone on with: the state says how far, and what had been found.
ok v put large /files/again
status 1 timeout --preserve-status -s INT 1 vexctl --image image scrub --rate 200k --state where
says "stopped"
[ -s where ] || fail "no state was kept"
before=$(python3 -c 'import json; print(json.load(open("where"))["data_bytes"])')
ok v --json scrub --state where
json "j['data_bytes'] >= 3000000 and j['data_bytes'] > $before"
[ ! -e where ] || fail "the state is still there"
echo nonsense >where
status 2 v scrub --state where

# What only snapshots have: by name, each once; nodes are cured from their second copies.
rm -f image
ok mkfs.vexfs -q -m dup image 64M
ok v put large /d/old
ok v put large /d/both
ok v collection create -p /c -d 3
ok v add /c -v "[1, 2, 3]"
ok v snapshot create monday
ok v dump tree fs --items
block=$(python3 - <<'PY'
import re
found = [int(m[1]) for line in open("out") if (m := re.search(r"EXTENT 0\).* disk (\d+) count (\d+)", line)) and int(m[2]) > 100]
print(found[0])
PY
)
ok v put small /d/new
ok v rm /d/old
ok v delete /c --id 1
ok v snapshot create tuesday
ok v --json scrub --only snapshots
json "j['damaged'] == 0 and j['nodes'] >= 2 and j['vector_bytes'] > 0"
ok v --json scrub --only snapshots,data
json "j['damaged'] == 0 and j['nodes'] == 0"
ok fsck.vexfs --check-data -v image
says "compared with their checksums, 0 damaged"
flip image $(((block + 17) * 4096 + 9))
flip image $(((block + 18) * 4096 + 9))
status 5 v scrub
says "/.vexfs/snapshots/monday/d/old: data at offset $((17 * 4096)) is damaged" "2 damaged, 0 of these repaired"
status 5 bash -c 'vexctl --image image --json scrub 2>/dev/null'
json "[(f['snapshot'], f['path'], f['offset']) for f in j['findings']] == [('monday', '/.vexfs/snapshots/monday/d/old', (17 + i) * 4096) for i in (0, 1)]"
ok v scrub --only nodes,data,vectors,fixed
ok fsck.vexfs -f image
status 4 fsck.vexfs --check-data image
says "bad checksum of 8192 bytes of data at offset $((17 * 4096))" "/d/old" "1 error(s)"
status 4 fsck.vexfs -y --check-data image
says "no repair brings back"
status 4 bash -c 'fsck.vexfs --check-data --json image 2>/dev/null'
json "j['exit'] == 4 and j['damaged_blocks'] == 2 and j['data_blocks'] >= 1400 and not j['repaired']"
