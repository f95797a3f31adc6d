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
status 5 t snapshot receive -i cut
says "cut: damaged stream"
status 5 vexctl snapshot verify cut
cp tuesday bad
flip bad 0
status 1 vexctl snapshot verify bad
echo text >short
status 1 vexctl snapshot verify short
says "short: this is no stream of a snapshot"
for i in 20 200 $((size / 2)) $((size - 1)); do
	cp tuesday bad
	flip bad "$i"
	status 5 vexctl snapshot verify bad
done
status 1 vexctl snapshot verify large
says "no stream of a snapshot"
cat monday tuesday >both
status 5 t snapshot receive -i both
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

# ---- received, but its snapshot is gone, and what is there has changed: nothing is taken for it
cp --sparse=always target third
x() { vexctl --image third "$@"; }
status 1 x snapshot receive -i tuesday
says "has been received already"
ok x snapshot delete tuesday
ok x put one /d/f
status 1 x snapshot receive -i tuesday
says "its snapshot is gone"
ok x --json snapshot list
json "[s['name'] for s in j] == ['monday']"

# ---- a change is seen however the directory is spelled; so is a collection that was dropped
ok mkfs.vexfs -q fourth 64M
y() { vexctl --image fourth "$@"; }
ok y mkdir /sub
ok y mkdir /subway
ok y --json snapshot receive -i monday --into sub/ --as first
json "j['as'] == 'first' and not j['resumed']"
ok y --json snapshot list
json "[s['name'] for s in j] == ['first']"
status 1 y snapshot receive -i monday --into /sub
says "has been received already, as 'first'"
cp --sparse=always fourth fifth
ok y put one /subway/else # not below it
ok y put one /sub/d/mine
for into in sub /sub ./sub sub/ //sub /./sub//; do
	status 1 y snapshot receive -i tuesday --into "$into"
	says "has changed since snapshot 'first': d"
done
status 2 y snapshot receive -i tuesday --into /subway/../sub
ok vexctl --image fifth put one /subway/else
ok mkfs.vexfs -q sixth 32M
ok vexctl --image sixth collection create -p /c -d 3
ok vexctl --image sixth add /c -v "[1, 2, 3]" --id 1
ok vexctl --image sixth snapshot create a
ok vexctl --image sixth put one /one
ok vexctl --image sixth snapshot create b
ok vexctl --image sixth snapshot send a -o a
ok vexctl --image sixth snapshot send b --from a -o b
ok mkfs.vexfs -q seventh 32M
ok vexctl --image seventh snapshot receive -i a
ok vexctl --image seventh collection drop -y /c
status 1 vexctl --image seventh snapshot receive -i b
says "has changed since snapshot 'a': the collection of c"
ok vexctl --image fifth snapshot create monday # which is not the one that was received
ok vexctl --image fifth snapshot receive -i tuesday --into sub
ok vexctl --image fifth cat /sub/d/f
says two
ok fsck.vexfs -f fifth
# Back to what was received, and on from there.
ok vexctl --image fifth snapshot rollback first
ok vexctl --image fifth snapshot receive -i tuesday --into sub --as second
ok vexctl --image fifth cat /sub/d/f
says two
ok fsck.vexfs -f fifth

# ---- --force does not make a full directory an empty one
for i in 1 2; do
	status 1 y snapshot receive -i monday --into /subway --as another --force
	says "is not empty"
done

# ---- where a stream goes: what is no file is written to, a link is followed, nothing is left behind
mkdir dir
ln -s dir/real link
ok v snapshot send monday -o link
[ -L link ] || fail "the link was replaced"
cmp -s dir/real monday || fail "not what the link leads to"
[ "$(ls -A dir)" = real ] || fail "something was left behind: $(ls -A dir)"
(umask 027 && v snapshot send monday -o dir/mode >out 2>&1) || fail "to a new file"
[ "$(stat -c %a dir/mode)" = 640 ] || fail "mode $(stat -c %a dir/mode)"
mkfifo fifo
cat fifo >piped &
ok v snapshot send monday -o fifo
wait $!
[ -p fifo ] || fail "the pipe was replaced"
cmp -s piped monday || fail "not what went into the pipe"
ok v snapshot send monday -o /dev/null
[ -c /dev/null ] || fail "/dev/null was replaced"
v --quiet snapshot send monday -o /dev/stdout 2>err | cmp -s - monday || fail "to /dev/stdout"
status 1 v put one /d
says "is a directory"

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
