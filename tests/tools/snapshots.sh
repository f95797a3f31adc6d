#!/bin/bash
# SPDX-License-Identifier: MIT
# Snapshots of an image: made, listed, looked into, searched in, deleted; and what fsck.vexfs says when one is damaged.
. "$(dirname "$0")/lib.sh"
ok mkfs.vexfs -q -m single image 64M
v() { vexctl --image image "$@"; }
at() { vexctl --image image --snapshot "$@"; }

echo one >one
echo two >two
head -c 300000 /dev/zero | tr '\0' x >large
ok v put one /d/f
ok v put large /d/large
ok v collection create -p /c -d 3
ok v add /c -v "[1, 2, 3]"
ok v add /c -v "[3, 2, 1]"
status 3 at monday ls /
says "no snapshot 'monday'"
ok v --json snapshot list
json "j == []"
ok v snapshot create monday
status 1 v snapshot create monday
says "already"
for name in . .. a/b; do status 1 v snapshot create "$name"; done
status 1 v snapshot create "$(printf 'x%.0s' $(seq 64))"
status 2 vexctl --snapshot monday ls /
says "--image"

ok v put two /d/f
ok v rm /d/large
ok v put two /d/new
ok v delete /c --id 1
ok v add /c -v "[1, 2, 4]"
ok v cat /d/f
says two
ok at monday cat /d/f
says one
ok at monday cat /d/large
cmp -s out large || fail "the large file has changed"
ok at monday ls /d
says large
says_not new
ok at monday --json search /c -q "[1, 2, 3]"
json "[h['id'] for h in j['results'][0]] == [1, 2]"
ok v --json search /c -q "[1, 2, 3]"
json "[h['id'] for h in j['results'][0]] == [3, 2]"
status 2 at monday rm /d/f
says "cannot be changed"
ok v --json snapshot list --space
json "len(j) == 1 and j[0]['name'] == 'monday' and j[0]['own_bytes'] >= 300000"
ok fsck.vexfs -f -v image
says "1 snapshots"
ok v dump tree snapshots -i
says '"monday" live'
ok v dump tree dead -i
says born

# ---- what has changed since
ok v snapshot diff monday
says "- /d/large"
says "+ /d/new"
says "M /d/f  (data"
says "M /d  (names"
says "M /c  vectors: +1 -1"
ok v --json snapshot diff monday
json "len([c for c in j if 'created' in c['what']]) == 1"
ok v snapshot create tuesday
ok v snapshot diff tuesday
says "no differences"
ok v snapshot diff monday --to tuesday
says "- /d/large"
ok v snapshot delete tuesday
status 3 v snapshot diff wednesday

# ---- back to it and forth again; both in the image's next mount, which is at once
cp --sparse=always image turned
t() { vexctl --image turned "$@"; }
ok t snapshot rollback monday
says "went back to snapshot 'monday'"
ok t cat /d/f
says one
ok t cat /d/large
cmp -s out large || fail "the large file is not what it was"
ok t --json search /c -q "[1, 2, 3]"
json "[h['id'] for h in j['results'][0]] == [1, 2]"
ok t add /c -v "[7, 7, 7]"
ok t --json snapshot list
json "len(j) == 2 and j[1]['replaced_by'] == j[0]['id'] and j[1]['name'].startswith('before-rollback-')"
before=$(t --json snapshot list | sed -n 's/.*"name": "\(before.*\)".*/\1/p')
ok fsck.vexfs -f turned
ok t snapshot rollback "$before"
ok t cat /d/f
says two
status 3 t cat /d/large
ok t --json search /c -q "[1, 2, 3]"
json "[h['id'] for h in j['results'][0]] == [3, 2]"
ok fsck.vexfs -f turned
status 3 t snapshot rollback tuesday
says "no snapshot 'tuesday'"
status 2 t snapshot rollback
ok t snapshot rollback --cancel
says "no rollback"

# ---- damage in what only the snapshot needs is found, and named as the snapshot's
node=$(v dump tree snapshots -i | sed -n 's/.*"monday" live .* fs at \([0-9]*\) .*/\1/p') # one that is going may be there still
cp --sparse=always image broken
flip broken $((node * 4096 + 8000))
status 4 fsck.vexfs -f broken
says "snapshot 1"
ok vexctl --image broken cat /d/f # the present is sound
status 5 vexctl --image broken --snapshot monday cat /d/f

ok v snapshot delete monday
status 3 v snapshot delete monday
for _ in $(seq 20); do # the space comes back while somebody has it open
	v dump tree dead -i >out
	grep -q died out || break
	ok v put two /d/again
done
says_not died
ok fsck.vexfs -f image
echo passed
