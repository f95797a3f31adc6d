# SPDX-License-Identifier: MIT
# Snapshots sent and received: everything that a file can be and have, and vectors, through files and pipes, as a whole and
# as what has changed, to a filesystem with other blocks; what arrives is compared in every respect. What is interrupted is
# finished by the same stream; damaged streams and streams that do not fit change nothing.
# vm: timeout=600 usually=6.1
source "$LIB"

src=$MNT1 dst=$MNT2
fresh_fs "$DEV2" "$src"
fresh_fs "$DEV1" "$dst" -b 1024
work=$(mktemp -d)

# All of a tree, from its root.
describe() { # DIRECTORY
	(
		cd "$1"
		# Names that are one file, by the first of them; attributes; contents; holes by their sum.
		find . -xdev -printf '%P|%y|%m|%U:%G|%n|%s|%T@|%l\n' | sed -E 's/^([^|]*)\|d\|([^|]*\|[^|]*\|[^|]*)\|[^|]*/\1|d|\2|/' | LC_ALL=C sort
		find . -xdev ! -type d -links +1 -printf '%i %P\n' | LC_ALL=C sort -k2 | awk '{ if (!($1 in f)) f[$1] = $2; print $2, "is", f[$1] }'
		find . -xdev \( -type c -o -type b \) -print0 | LC_ALL=C sort -z | xargs -0r stat -c '%n %t:%T'
		find . -xdev -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum
		find . -xdev \( -type f -o -type d \) -print0 | LC_ALL=C sort -z | xargs -0r lsattr -d | grep -av ' \./\.vexfs'
		find . -xdev -print0 | LC_ALL=C sort -z | xargs -0r getfattr -h -d -m - -e hex 2>/dev/null |
			awk '/^# file:/ { file = $0 } /=/ && !/^trusted.vexfs/ { print file, $0 }'
	)
}
# Times of access change when somebody looks: once, before anything else.
accessed() { (cd "$1" && find . -xdev -printf '%P %A@\n' | LC_ALL=C sort); }
vectors() { # DIRECTORY: of its collections, with owners by the first of their names
	local dir
	(cd "$1" && find . -xdev -type f -printf '%i %P\n' | LC_ALL=C sort -k2) >"$work/owners"
	for dir in vec vec/flat other; do
		vexctl --json collection info "$1/$dir" >"$work/info" 2>/dev/null || continue
		grep -v '"id"\|"path"\|_ino"\|created\|slots' "$work/info"
		vexctl --json get "$1/$dir" --id 1..120 >"$work/rows" 2>/dev/null || true # some ids are not there
		awk 'NR == FNR { if (!($1 in name)) name[$1] = $2; next }
			/"owner":/ { n = $2; sub(",", "", n); print "owner", name[n]; next }
			!/owner_path|owner_version|generation|indexed/' "$work/owners" "$work/rows"
	done
	vexctl --json search "$1/vec" -q "[1.3, 2, 3, 4.1]" -k 50 --exact | grep '"id"\|"distance"\|"stale"'
}
same() { # SNAPSHOT
	echo 3 >/proc/sys/vm/drop_caches
	describe "$src/.vexfs/snapshots/$1" >"$work/want"
	describe "$dst" >"$work/have"
	diff "$work/want" "$work/have" >"$work/diff" || { head -40 "$work/diff"; die "files of $1 differ"; }
	vectors "$src/.vexfs/snapshots/$1" >"$work/want"
	[ "$(grep -c '"distance"' "$work/want")" -gt 10 ] || die "too few vectors"
	vectors "$dst" >"$work/have"
	diff "$work/want" "$work/have" >"$work/diff" || { head -40 "$work/diff"; die "vectors of $1 differ"; }
	describe "$dst" >"$work/want"
	describe "$dst/.vexfs/snapshots/$1" | diff "$work/want" - >"$work/diff" || { head "$work/diff"; die "the snapshot made of $1"; }
}

say "a tree of everything"
cd "$src"
mkdir -p d/e/f gone/with/it swap1 swap2 vec/flat other deep/down empty
dd if=/dev/urandom of=large bs=64k count=70 status=none
dd if=/dev/urandom of=sparse bs=4096 count=3 seek=100 status=none
dd if=/dev/urandom of=sparse bs=4096 count=2 seek=9000 conv=notrunc status=none
truncate -s 50M sparse
for i in $(seq 30); do head -c $((i * 523)) /dev/urandom >"d/$i"; done
: >none
echo one >swap1/x
echo two >swap2/x
ln d/1 d/e/hard
ln d/1 other/hard
ln d/2 d/e/f/second
ln -s ../large d/soft
ln -s /nowhere/at/all dangling
mknod char c 7 300
mknod block b 259 70000
mkfifo fifo
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")' 2>/dev/null || mknod socket p
printf 'odd' >$'name with\nnewline and \xff'
chmod 4755 d/3
chmod 1777 d/e
chown 12:34 d/4 d/soft
touch -d '1999-12-31 23:59:59.123456789' d/5 -h d/soft
setfattr -n user.small -v value d/6
setfattr -n user.large -v "$(head -c 5000 /dev/zero | tr '\0' v)" d/6
setfattr -n trusted.mine -v secret d
setfattr -n security.thing -v safe d/7
setfattr -n user.empty d/e
echo kept >fixed
touch appended
echo unsummed >unsummed_later
mkdir raw
chattr +C raw
head -c 20000 /dev/urandom >raw/inherits
chattr +A d/8
chattr +d d/9
vexctl --quiet collection create -d 4 --index hnsw -M 7 --ef-construction 77 --ef-search 33 --name first --model m:1 vec
vexctl --quiet collection create -d 2 -e i8 -m ip --index flat vec/flat
for i in $(seq 12); do vexctl --quiet add "d/$i" --collection 1 -v "[$i, 2, 3, 4]" --id "$i" --tag $((i * 3)); done
vexctl --quiet add "d/1" --collection 1 -v "[1, 2, 3, 5]" --chunk 10:20 --id 20
vexctl --quiet add vec -v "[9, 9, 9, 9]" --id 30
for i in 40 41 42; do vexctl --quiet add vec/flat -v "[1, $i]" --id $i; done
echo changed >>d/2 # its vector is stale now
chattr +i fixed d/10
chattr +a appended
touch -d '2001-02-03 04:05:06.7' d vec .
cd /
vexctl --quiet snapshot create one "$src"

say "as a whole, through a file"
vexctl snapshot send one "$src" -o "$work/one"
vexctl snapshot verify "$work/one" | grep -q "the stream is whole" || die "verify"
vexctl --quiet snapshot receive -i "$work/one" --into "$dst" --dry-run
expect_eq "a dry run leaves" "$(ls -A "$dst")" ""
accessed "$src/.vexfs/snapshots/one" >"$work/accessed"
vexctl snapshot receive --into "$dst" -i "$work/one"
accessed "$dst" | diff "$work/accessed" - >"$work/diff" || { head "$work/diff"; die "times of access differ"; }
same one
# Holes are holes still: both take about what the data takes.
[ "$(stat -c %b "$dst/sparse")" -le 200 ] || die "sparse takes $(stat -c %b "$dst/sparse") sectors"
vexctl snapshot list "$dst" | grep -q one || die "no snapshot was made"
expect_fail vexctl snapshot receive --into "$dst" -i "$work/one"

say "what has changed, through a pipe"
cd "$src"
chattr -i fixed d/10
chattr -a appended
mv swap1 swap; mv swap2 swap1; mv swap swap2     # names exchanged, of directories
mv d/11 t; mv d/12 d/11; mv t d/12               # and of files, with their vectors
mv deep/down .; mv deep down/deep                # a directory comes below what was in it
rm -r gone
rm d/e/hard; ln d/2 d/e/hard                     # one name less, one name of another
ln large large.too
rm d/13; mkdir d/13; echo in >d/13/file          # a file becomes a directory
rmdir empty; echo was a directory >empty
rm dangling; ln -s elsewhere dangling
rm char; mknod char c 7 301
truncate -s 100000 large
truncate -s 3000000 large
dd if=/dev/urandom of=large bs=1000 count=3 seek=30 conv=notrunc status=none
fallocate -p -o 36864000 -l 4096 sparse
fallocate -p -o 409600 -l 8192 sparse
dd if=/dev/urandom of=sparse bs=4096 count=1 seek=5000 conv=notrunc status=none
: >d/14
setfattr -x user.small d/6
setfattr -n user.large -v less d/6
setfattr -n user.new -v x d/15
chattr +C unsummed_later
chattr -C raw
echo more >>appended
mv fixed d/fixed
chattr +i d/fixed
chattr +a appended
chmod 700 d/16
chown 1:1 d/17
touch -d '2010-10-10 10:10:10.10' d/18
dd if=/dev/zero of=d/19 bs=1 count=1 conv=notrunc status=none
vexctl --quiet update vec --id 3 -v "[3, 3, 3, 3]"
vexctl --quiet update d/20 --set-owner --collection 1 --id 4 -v "[4, 4, 4, 4]"
vexctl --quiet delete vec --id 5
vexctl --quiet add d/21 --collection 1 -v "[21, 2, 3, 4]" --id 21
cat d/6 >t; cat t >d/6; rm t                     # written with what it had: its vector is stale
rm d/7                                           # and its vector with it
vexctl --quiet collection drop -y vec/flat
vexctl --quiet collection create -d 3 -m cosine --index flat other
vexctl --quiet add other/hard --collection 3 -v "[1, 2, 3]" --id 1
vexctl --quiet collection alter vec --ef-search 44 --name second
cd /
vexctl --quiet snapshot create two "$src"
mv "$src/d/22" "$src/elsewhere"
vexctl --quiet snapshot create three "$src"

expect_fail vexctl snapshot receive --into "$src" -i "$work/one" # not empty
vexctl snapshot send three "$src" --from two -o "$work/three"
expect_fail vexctl --quiet snapshot receive --into "$dst" -i "$work/three" # goes on from another
same one
touch "$dst/mine"
expect_fail vexctl --quiet snapshot send two "$src" --from one -o /nowhere/x
vexctl snapshot send two "$src" --from one -o "$work/two"
expect_fail vexctl --quiet snapshot receive --into "$dst" -i "$work/two" # it has changed
rm "$dst/mine"
expect_fail vexctl --quiet snapshot receive --into "$dst" -i "$work/two" # so has the root
touch -d '2001-02-03 04:05:06.7' "$dst"
vexctl snapshot send two "$src" --from one | vexctl snapshot receive --into "$dst" --force
same two
vexctl snapshot send three "$src" --from two | vexctl snapshot receive --into "$dst"
same three
[ "$(stat -c %s "$work/three")" -lt 4096 ] || die "a rename takes $(stat -c %s "$work/three") bytes"
sync
remount_cycle "$DEV1" "$dst"
same three

say "into a directory; interrupted at many places, and finished"
mkdir "$dst/below"
expect_fail vexctl --quiet snapshot receive --into "$dst/below" -i "$work/one" # there is a snapshot of that name
vexctl snapshot delete one "$dst"
vexctl snapshot delete two "$dst"
size=$(stat -c %s "$work/one")
for i in 1 2 3 4 5 6; do
	expect_fail vexctl --quiet snapshot receive --into "$dst/below" < <(head -c $((size * i / 7)) "$work/one")
done
vexctl snapshot receive --into "$dst/below" <"$work/one" | grep -q "interrupted receive was finished" || die "it was not gone on with"
size=$(stat -c %s "$work/two")
for i in 1 2 3 4 5 6; do
	expect_fail vexctl --quiet snapshot receive --into "$dst/below" < <(head -c $((size * i / 7)) "$work/two")
done
expect_fail vexctl --quiet snapshot receive --into "$dst/below" -i "$work/three" # another is under way
cat "$work/two" | vexctl snapshot receive --into "$dst/below"
describe "$src/.vexfs/snapshots/two" >"$work/want"
describe "$dst/below" | diff "$work/want" - >"$work/diff" || { head -40 "$work/diff"; die "after interruptions"; }

say "damage"
size=$(stat -c %s "$work/three")
for i in $(seq 0 $((size / 25)) $((size - 1))); do
	expect_fail vexctl --quiet snapshot verify 2>/dev/null < <(head -c "$i" "$work/three")
done
size=$(stat -c %s "$work/one")
for i in $(seq 12); do
	at=$(((RANDOM * 32768 + RANDOM) % size))
	cp "$work/one" "$work/bad"
	byte=$(od -An -tu1 -j "$at" -N1 "$work/one")
	printf "\\x$(printf %x $((byte ^ (1 << RANDOM % 8))))" | dd of="$work/bad" bs=1 seek="$at" conv=notrunc status=none
	expect_fail vexctl --quiet snapshot verify "$work/bad" 2>/dev/null
done
mkdir "$dst/nothing"
expect_fail vexctl --quiet snapshot receive --into "$dst/nothing" -i "$work/bad"
expect_eq "after a damaged stream" "$(ls -A "$dst/nothing")" ""
expect_eq "and its state" "$(getfattr -m trusted.vexfs "$dst/nothing" 2>/dev/null)" ""
chmod 777 "$dst/nothing"
(cd "$dst/nothing" && expect_fail setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all \
	vexctl --quiet snapshot receive <"$work/one")
expect_eq "by nobody" "$(ls -A "$dst/nothing")" ""
expect_fail setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all vexctl snapshot send one "$src" >/dev/null

for f in d/fixed appended below/d/fixed below/appended; do chattr -i -a "$dst/$f" "$src/$f" 2>/dev/null || true; done
umount_fs "$dst"
umount_fs "$src"
check_fs "$DEV1"
check_fs "$DEV2"
