#!/bin/bash
# SPDX-License-Identifier: MIT
# Snapshots: what one holds stays as it was while the files are written over in every way there is, it is mounted beside
# the filesystem and found again after a remount, searches find what was there then, and its space comes back.
# vm: timeout=420
source "$LIB"

fresh_fs "$DEV2" "$MNT1"
work=$(mktemp -d)
sums() { (cd "$1" && find . -type f | LC_ALL=C sort | xargs -d '\n' md5sum && find . | LC_ALL=C sort | xargs -d '\n' stat -c '%n %F %a %u %h'); }
# What a mount of the snapshot shows is what was there when it was made.
as_it_was() { # NAME
	mount_fs "$DEV2" "$MNT2" "ro,snapshot=$1"
	echo 3 >/proc/sys/vm/drop_caches
	sums "$MNT2" >"$work/now"
	diff "$work/$1" "$work/now" >"$work/diff" || { head -20 "$work/diff"; die "snapshot $1 has changed"; }
	umount_fs "$MNT2"
}
keep() { # NAME
	sums "$MNT1" >"$work/$1"
	vexctl --quiet snapshot create "$1" "$MNT1"
}

say "files"
mkdir -p "$MNT1/d/e"
dd if=/dev/urandom of="$MNT1/big" bs=1M count=12 status=none
for i in $(seq 40); do head -c $((i * 977)) /dev/urandom >"$MNT1/d/$i"; done
echo small >"$MNT1/small"
ln "$MNT1/small" "$MNT1/d/e/hard"
ln -s ../small "$MNT1/d/soft"
fallocate -l 1M "$MNT1/unwritten"
vexctl --quiet collection create -d 3 "$MNT1/d"
vexctl --quiet add "$MNT1/d/1" -v "[1, 2, 3]"
vexctl --quiet add "$MNT1/d" -v "[4, 5, 6]"
keep first

say "written over: buffered, direct, whole blocks and parts, mapped, zeroed, punched, cut, renamed, removed"
dd if=/dev/zero of="$MNT1/big" bs=4096 count=300 seek=100 conv=notrunc status=none
dd if=/dev/urandom of="$MNT1/big" bs=777 count=100 seek=5 conv=notrunc status=none
dd if=/dev/urandom of="$MNT1/big" bs=64k count=8 seek=40 conv=notrunc oflag=direct status=none
dd if=/dev/urandom of="$MNT1/big" bs=512 count=5 seek=12289 conv=notrunc oflag=direct status=none
dd if=/dev/urandom of="$MNT1/unwritten" bs=4096 count=20 seek=3 conv=notrunc status=none
fallocate -p -o 8192 -l 100000 "$MNT1/big"
fallocate -z -o 5000001 -l 300000 "$MNT1/big"
truncate -s 11111111 "$MNT1/big"
truncate -s 13000000 "$MNT1/big"
echo other >"$MNT1/small"
rm "$MNT1/d/2" "$MNT1/d/e/hard"
mv "$MNT1/d/3" "$MNT1/d/4"
chmod 600 "$MNT1/d/5"
echo more >>"$MNT1/d/6"
rm "$MNT1/d/1"
md5sum <"$MNT1/big" >"$work/big"
as_it_was first

say "searches find what was there then"
mount_fs "$DEV2" "$MNT2" ro,snapshot=first
expect_eq "then" "$(vexctl --json search "$MNT2/d" -q "[1, 2, 3]" -k 5 | grep -c '"id"')" 2
expect_eq "now" "$(vexctl --json search "$MNT1/d" -q "[1, 2, 3]" -k 5 | grep -c '"id"')" 1
expect_errno EROFS touch "$MNT2/x"
expect_fail vexctl snapshot delete first "$MNT1"
expect_fail mount -o remount,rw "$MNT2"
umount_fs "$MNT2"

say "every snapshot is a directory"
view=$MNT1/.vexfs/snapshots
ls -A "$MNT1" | grep -q vexfs && die ".vexfs is listed"
expect_eq "what is in it" "$(ls "$view")" first
(cd "$view/first" && sums .) >"$work/now"
diff "$work/first" "$work/now" || die "another view below .vexfs"
expect_errno EROFS touch "$view/first/x"
umount "$view/first" # whoever may look mounts it
setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all cat "$view/first/small" >/dev/null
chmod 700 "$MNT1/d/e"
expect_errno ENOENT ls "$view/second"
expect_errno EEXIST mkdir "$MNT1/.vexfs"
expect_errno EPERM rmdir "$MNT1/.vexfs"
expect_errno EPERM mv -T "$MNT1/d" "$MNT1/.vexfs"
expect_errno EPERM mv "$MNT1/.vexfs" "$MNT1/x"
expect_errno EPERM chmod 700 "$MNT1/.vexfs"
expect_errno EPERM mkdir "$view/x"
getfattr -d "$MNT1/.vexfs" "$view" "$view/first" >/dev/null
expect_eq "then" "$(vexctl --json search "$MNT1/d" -q "[1, 2, 3]" -k 5 --as-of first | grep -c '"id"')" 2
vexctl --json search "$MNT1/d" -q "[1, 2, 3]" -k 1 --as-of first | grep -q '"path": "'"$view/first/d/1"'"' || die "no name from then"
expect_fail vexctl search "$MNT1/d" -q "[1, 2, 3]" --as-of nope
id=$(vexctl --json snapshot list "$MNT1" | sed -n 's/.*"id": \([0-9]*\).*/\1/p')
expect_eq "by ioctl" "$(asof "$MNT1/d" "$id" 1 2 3)" "2 hits"
expect_eq "by ioctl, now" "$(asof "$MNT1/d" 0 1 2 3)" "1 hits"
expect_fail asof "$MNT1/d" 999 1 2 3
vexctl --quiet snapshot create gone "$MNT1"
ls "$view/gone" >/dev/null
(cd "$view/gone" && expect_fail vexctl snapshot delete gone "$MNT1")
ls "$view/gone" >/dev/null
vexctl --quiet snapshot delete gone "$MNT1" # although somebody has looked at it
expect_errno ENOENT ls "$view/gone"
ls "$view/first" >/dev/null
umount_fs "$MNT1" # takes what is mounted below .vexfs along
mount_fs "$DEV2" "$MNT1"

say "several, also after a remount and beside each other"
keep second
for i in $(seq 20 30); do head -c 70000 /dev/urandom >"$MNT1/d/$i"; done
keep third
rm -r "$MNT1/d/e" "$MNT1/unwritten"
remount_cycle "$DEV2" "$MNT1"
expect_eq "the file" "$(md5sum <"$MNT1/big")" "$(cat "$work/big")"
for name in first second third; do as_it_was "$name"; done
expect_eq "list" "$(vexctl --json snapshot list "$MNT1" | grep -c '"id"')" 3
mount_fs "$DEV2" "$MNT2" ro,snapshot=first
mount_fs "$DEV2" "$MNT3" ro,snapshot=third
umount_fs "$MNT1" # what the snapshots lie on stays
sums "$MNT2" >"$work/now"
diff "$work/first" "$work/now" || die "the first has changed"
mount_fs "$DEV2" "$MNT1"
touch "$MNT1/rw"
umount_fs "$MNT2"
umount_fs "$MNT3"

say "a scrub compares what only snapshots have"
rm -f "$MNT1/d/20"
sync -f "$MNT1"
dmesg -C
vexctl --json scrub "$MNT1" --only snapshots >"$work/scrub" || die "scrub: $(cat "$work/scrub")"
grep -q '"damaged": 0' "$work/scrub" || die "scrub: $(cat "$work/scrub")"
where=$(filefrag -b4096 -e "$view/third/d/20" | awk '$1 == "0:" { print $4 + 0; exit }')
dd if="$DEV2" of="$work/block" bs=4096 skip="$where" count=1 iflag=direct status=none
tr '\000-\377' '\001-\377\000' <"$work/block" >"$work/other"
dd if="$work/other" of="$DEV2" bs=4096 seek="$where" conv=notrunc oflag=direct status=none
expect_fail vexctl scrub "$MNT1" >"$work/scrub" 2>&1
grep -q "^$view/third/d/20: data at offset 0 is damaged" "$work/scrub" || die "scrub: $(cat "$work/scrub")"
(while vexctl scrub "$MNT1" --only snapshots >/dev/null 2>&1 || [ $? = 5 ]; do [ ! -e "$work/scrubbed" ] || break; done) &
scrubber=$!
for i in $(seq 8); do # deleted while it is looked at
	vexctl --quiet snapshot create "brief $i" "$MNT1"
	sleep 0.1
	vexctl --quiet snapshot delete "brief $i" "$MNT1"
done
touch "$work/scrubbed"
wait "$scrubber"
dd if="$work/block" of="$DEV2" bs=4096 seek="$where" conv=notrunc oflag=direct status=none
vexctl --json scrub "$MNT1" | grep -q '"damaged": 0' || die "damaged still"

say "made while others write"
(while [ ! -e "$work/stop" ]; do for i in $(seq 20); do echo "$RANDOM" >"$MNT1/d/busy$i"; mv "$MNT1/d/busy$i" "$MNT1/d/b$i"; done; done) &
writer=$!
(while [ ! -e "$work/stop" ]; do dd if=/dev/urandom of="$MNT1/big" bs=100k count=20 conv=notrunc status=none; done) &
writer2=$!
for i in $(seq 5); do
	vexctl --quiet snapshot create "busy $i" "$MNT1"
	mount_fs "$DEV2" "$MNT2" "ro,snapshot=busy $i"
	sums "$MNT2" >"$work/busy $i"
	umount_fs "$MNT2"
	sleep 0.5
done
touch "$work/stop"
wait "$writer" "$writer2"
for i in $(seq 5); do as_it_was "busy $i"; done
as_it_was second

say "what has changed"
vexctl snapshot diff second "$MNT1" --to third >"$work/diff"
grep -q "^M /d/25  (data" "$work/diff" || die "diff: $(cat "$work/diff")"
grep -q unwritten "$work/diff" && die "diff: $(cat "$work/diff")"
vexctl snapshot diff third "$MNT1" >"$work/diff"
grep -q "^- /unwritten" "$work/diff" || die "diff: $(cat "$work/diff")"
grep -q "^+ /rw" "$work/diff" || die "diff: $(cat "$work/diff")"

say "errors"
expect_fail vexctl snapshot create first "$MNT1"
expect_fail vexctl snapshot create a/b "$MNT1"
expect_fail mount -t vexfs -o ro,snapshot=nope "$DEV2" "$MNT2"
expect_fail mount -t vexfs -o ro,snapshot= "$DEV2" "$MNT2"
fsfreeze -f "$MNT1"
expect_fail vexctl snapshot create frozen "$MNT1"
fsfreeze -u "$MNT1"
umount_fs "$MNT1"
check_fs "$DEV2"

say "back to one, and forth again; taken back; held by those that need it"
mount_fs "$DEV2" "$MNT1"
sums "$MNT1" >"$work/present"
vexctl --quiet snapshot rollback third "$MNT1"
expect_fail vexctl snapshot delete third "$MNT1"
vexctl --quiet snapshot rollback --cancel "$MNT1"
remount_cycle "$DEV2" "$MNT1"
sums "$MNT1" | diff "$work/present" - || die "it went back although that was taken back"
vexctl --quiet snapshot rollback first "$MNT1"
remount_cycle "$DEV2" "$MNT1"
sums "$MNT1" | diff "$work/first" - || die "it did not go back"
expect_eq "vectors" "$(vexctl --json search "$MNT1/d" -q "[1, 2, 3]" -k 5 | grep -c '"id"')" 2
for i in $(seq 5); do head -c 50000 /dev/urandom >"$MNT1/d/other$i"; done
vexctl --quiet add "$MNT1/d" -v "[7, 8, 9]"
before=$(vexctl --json snapshot list "$MNT1" | sed -n 's/.*"name": "\(before.*\)".*/\1/p')
vexctl --quiet snapshot rollback "$before" "$MNT1"
remount_cycle "$DEV2" "$MNT1"
sums "$MNT1" | diff "$work/present" - || die "the rollback was not undone"
for name in first second third; do as_it_was "$name"; done
for _ in $(seq 60); do
	vexctl --json snapshot list "$MNT1" | grep -q '"counting": true' || break
	sleep 0.5
done
vexctl --json snapshot list "$MNT1" | grep '"counting": true' && die "the space is not counted"
vexctl --json snapshot list "$MNT1" | sed -n 's/.*"name": "\(before.*\)".*/\1/p' >"$work/befores"
expect_eq "states that were replaced" "$(wc -l <"$work/befores")" 2
while read -r name; do vexctl --quiet snapshot delete "$name" "$MNT1"; done <"$work/befores"
umount_fs "$MNT1"
check_fs "$DEV2"

say "the space comes back"
mount_fs "$DEV2" "$MNT1"
for name in second "busy 1" "busy 2" "busy 3" "busy 4" "busy 5" third; do vexctl --quiet snapshot delete "$name" "$MNT1"; done
as_it_was first
vexctl --quiet snapshot delete first "$MNT1"
rm -rf "$MNT1/big" "$MNT1/small" "$MNT1"/d/[0-9b]* "$MNT1/rw"
for i in $(seq 60); do
	sync -f "$MNT1"
	used=$(df --output=used -k "$MNT1" | tail -1)
	[ "$used" -lt 45000 ] && break
	sleep 0.5
done
[ "$used" -lt 45000 ] || die "still $used KiB in use"
remount_cycle "$DEV2" "$MNT1"
umount_fs "$MNT1"
rm -rf "$work"
