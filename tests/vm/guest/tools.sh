#!/bin/bash
# SPDX-License-Identifier: MIT
# vm: timeout=300 usually=6.1
# The tools on a mount: vexctl over ioctl and io_uring, names of owners with and without privileges, mkfs and fsck on
# devices that are in use, and the C example that needs no library.
source "$LIB"
data=$SHARE/data
field() { python3 -c 'import json, sys; j = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }

say "mkfs and fsck"
fresh_fs "$DEV2" "$MNT2" -L tools
expect_fail mkfs.vexfs -f "$DEV2" 2>"err"
grep -q "is mounted on $MNT2" err || die "mkfs on a mounted device says: $(cat err)"
status=0; fsck.vexfs "$DEV2" 2>err || status=$?
expect_eq "status of fsck on a mounted device" "$status" 8
(set +o pipefail; yes | mkfs -t vexfs -- -D 8 "$DEV3" >out)
grep -q 'root directory: 8 x f32' out || die "mkfs -t: $(cat out)"
expect_eq "status of fsck -t" "$(fsck.vexfs -p "$DEV3" >/dev/null; echo $?)" 0

say "status"
vexctl status "$MNT2" >out
grep -q "$DEV2 on $MNT2" out || die "status: $(cat out)"
vexctl --json status | field '[f["device"] for f in j["filesystems"]]' >out
grep -q "$DEV2" out || die "status without a path does not list $DEV2: $(cat out)"

say "import over io_uring and by threads"
vexctl --quiet collection create -p "$MNT2/ring" -d 256 -e f16 -m cosine --index flat
carrier=$(vexctl --json import "$data/rfc10k_base_0.npy" "$MNT2/ring" --threads 4 --batch 256 | field 'j["carrier"]')
expect_eq "carrier" "$carrier" io_uring
vexctl --quiet collection create -p "$MNT2/threads" -d 256 -e f16 -m cosine --index flat
carrier=$(vexctl --json import "$data/rfc10k_base_0.npy" "$MNT2/threads" --no-uring --threads 2 --batch 256 | field 'j["carrier"]')
expect_eq "carrier" "$carrier" threads
for c in ring threads; do
	vexctl --json search "$MNT2/$c" -q "$data/rfc10k_query.npy" -k 10 |
		field '[[(h["id"], h["distance"]) for h in r] for r in j["results"]]' >"found.$c"
done
cmp found.ring found.threads || die "the two imports differ"
expect_fail vexctl import "$data/rfc10k_base_0.npy" "$MNT2/ring" --first-id 0 2>err
grep -q 'its id exists already' err || die "import of known ids: $(cat err)"

say "owners by name: by handle as root, by walking without privileges"
mkdir -p "$MNT2/docs/a/b"
vexctl --quiet collection create "$MNT2/docs" -d 3 -m l2
echo one >"$MNT2/docs/a/one"
echo two >"$MNT2/docs/a/b/two with blanks"
vexctl --quiet add "$MNT2/docs/a/one" -v "[1,0,0]"
vexctl --quiet add "$MNT2/docs/a/b/two with blanks" -v "[0,1,0]"
chmod -R a+rX "$MNT2"
for user in "" "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all"; do
	$user vexctl --json search "$MNT2/docs" -q "[0,1,0]" -k 2 | field '[h["path"] for h in j["results"][0]]' >out
	expect_eq "owners" "$(cat out)" "['$MNT2/docs/a/b/two with blanks', '$MNT2/docs/a/one']"
done
(cd "$MNT2/docs/a" && vexctl --json search -q "[1,0,0]" -k 1) | field 'j["results"][0][0]["path"]' >out
expect_eq "from inside" "$(cat out)" "$MNT2/docs/a/one"
mv "$MNT2/docs/a/one" "$MNT2/docs/renamed"
vexctl --json search --like "$MNT2/docs/a/b/two with blanks" -k 1 | field 'j["results"][0][0]["path"]' >out
expect_eq "after a rename" "$(cat out)" "$MNT2/docs/renamed"
vexctl --json collection list "$MNT2" | field 'sorted(c["path"] for c in j)' >out
expect_eq "collections" "$(cat out)" "['$MNT2/docs', '$MNT2/ring', '$MNT2/threads']"

say "exit codes"
for case in "3 collection info $MNT2/docs/none" "3 collection info $MNT2" "1 collection info /proc" "2 search $MNT2/docs -q [1,2]"; do
	status=0; vexctl ${case#* } >/dev/null 2>err || status=$?
	expect_eq "status of vexctl ${case#* } ($(cat err))" "$status" "${case%% *}"
done
status=0
setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all vexctl add "$MNT2/docs" -v "[1,1,1]" 2>err || status=$?
expect_eq "status of an insert that is not permitted ($(cat err))" "$status" 4

say "the C example"
raw_search "$MNT2/raw" >out
[ "$(wc -l <out)" = 2 ] && head -1 out | grep -q '^1\. vector [0-9]* at distance 0.0037' || die "raw_search: $(cat out)"

remount_cycle "$DEV2" "$MNT2"
vexctl --json search "$MNT2/ring" -q "$data/rfc10k_query.npy" -k 10 |
	field '[[(h["id"], h["distance"]) for h in r] for r in j["results"]]' >found.again
cmp found.ring found.again || die "another answer after the remount"
umount_fs "$MNT2"
check_fs "$DEV2"
