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
