#!/bin/bash
# SPDX-License-Identifier: MIT
# Snapshots of an image sent to another with other blocks: whole, changes, damaged, in the wrong order, interrupted.
. "$(dirname "$0")/lib.sh"
ok mkfs.vexfs -q image 64M
ok mkfs.vexfs -q -b 16384 target 96M
v() { vexctl --image image "$@"; }
t() { vexctl --image target "$@"; }

echo one >one
echo two >two
head -c 300000 /dev/urandom >large
ok v put one /d/f
ok v put large /d/large
ok v put one /d/gone
ok v collection create -p /d/c -d 3 --index hnsw -M 9 --name label
ok v add /d/c -v "[1, 2, 3]" --id 1 --tag 7
ok v add /d/f --collection 1 -v "[3, 2, 1]" --id 2
ok v snapshot create monday
status 3 v snapshot send tuesday -o stream
says "no snapshot 'tuesday'"
[ ! -e stream ] || fail "a stream of nothing was written"
ok v --json snapshot send monday -o monday
json "j['snapshot'] == 'monday' and j['from'] is None and j['rows'] == 2 and j['data_bytes'] >= 300000"
ok vexctl snapshot verify monday
says "the stream is whole" monday
ok vexctl --json snapshot stream-info monday
json "j['created'] == 5 and j['collections'] == 1"

ok v put two /d/f
ok v rm /d/gone
ok v put two /d/new
ok v delete /d --collection 1 --id 1
ok v add /d --collection 1 -v "[5, 6, 7]" --id 3
cp large changed
printf changed | dd of=changed bs=1 seek=200000 conv=notrunc status=none
ok v put changed /d/large
ok v snapshot create tuesday
v snapshot send tuesday --from monday >tuesday || fail "to standard output"
status 2 v snapshot send tuesday --from tuesday -o x
ok vexctl --json snapshot verify tuesday
json "j['from'] == 'monday' and j['rows'] == 1 and j['rows_gone'] == 1 and j['data_bytes'] <= 3 * 4096"
size=$(stat -c %s tuesday)

# ---- what does not fit changes nothing
status 1 t snapshot receive -i tuesday
says "base does not match" monday
head -c 1000 monday >cut
status 1 t snapshot receive -i cut
says "damaged stream"
for i in 0 20 200 $((size / 2)) $((size - 1)); do
	cp tuesday bad
	flip bad "$i"
	status 1 vexctl snapshot verify bad
done
status 1 vexctl snapshot verify large
says "no stream of a snapshot"
cat monday tuesday >both
status 1 t snapshot receive -i both
says "follows its end"
ok t ls /
[ ! -s out ] || fail "something was received"

# ---- through a pipe that ends too early, and again
head -c $((300000 / 2)) monday >half
t snapshot receive <half >out 2>&1 && fail "half a stream was taken for one"
status 1 t snapshot receive -i tuesday
says "base does not match" # a file is looked at as a whole before anything is begun
cat half | t snapshot receive >out 2>&1 && fail "half a stream was taken for one"
says "it ends in"
status 1 t snapshot receive -i tuesday
says "another stream was interrupted here"
ok t snapshot receive -i monday
says "interrupted receive was finished"
ok t cat /d/large
cmp -s out large || fail "the large file is another"
ok t --json collection info /d/c
json "(j['m'], j['name'], j['rows']) == (9, 'label', 2)"
status 1 t snapshot receive -i monday
says "has been received already"

# ---- what has changed; not where something else has, too
cp --sparse=always target other
ok vexctl --image other put two /d/mine
status 1 vexctl --image other snapshot receive -i tuesday
says "has changed since snapshot 'monday'"
ok vexctl --image other snapshot receive -i tuesday --force
ok vexctl --image other cat /d/mine
cat tuesday | t snapshot receive >out 2>&1 || fail "from a pipe"
ok t cat /d/large
cmp -s out changed || fail "the large file is another"
ok t cat /d/f
says two
status 3 t cat /d/gone
for as in "v" "t --snapshot tuesday"; do
	ok $as --json search /d/c -q "[1, 2, 3]" -k 5 --exact
	json "[(h['id'], h['distance']) for h in j['results'][0]] == [(2, 8.0), (3, 48.0)]"
done
ok t --json get /d/c --id 2
json "j[0]['stale'] and j[0]['owner_path'] == '/d/f'"
ok t --snapshot monday cat /d/f
says one
ok t --json snapshot list
json "[s['name'] for s in j] == ['monday', 'tuesday']"
ok fsck.vexfs -f target
ok fsck.vexfs -f other

# ---- into a directory; one that is not there, one that is no directory
ok t mkdir /copy
status 1 t snapshot receive -i monday --into /copy
says "there is a snapshot 'monday' already"
ok t ls /copy
[ ! -s out ] || fail "something was received"
ok t snapshot delete monday
ok t snapshot receive -i monday --into /copy
ok t cat /copy/d/f
says one
status 3 t snapshot receive -i monday --into /nowhere
status 1 t snapshot receive -i monday --into /d/f
ok fsck.vexfs -f target
echo passed
