#!/bin/bash
# SPDX-License-Identifier: MIT
# Vectors in the kernel: import, search, ownership, update and delete, persistence of the index, searches beside inserts,
# killed callers, permissions, read-only mounts, io_uring.
# vm: timeout=400
source "$LIB"

data=$SHARE/data
hits() { # ids and distances of a search, one query a line
	vexctl --json search "$@" | python3 -c '
import json, sys
for hits in json.load(sys.stdin)["results"]:
    print([(hit["id"], hit["distance"]) for hit in hits])'
}
rows() { vexctl --json collection info "$1" | sed -n 's/.*"rows": *\([0-9]*\).*/\1/p'; }

fresh_fs "$DEV1" "$MNT1"
c=$MNT1/c
vexctl --quiet collection create --mkdir -d 256 -e f16 -m cosine --index hnsw "$c"
vexctl --quiet import "$data/rfc10k_base_0.npy" "$c" --rows 0..699 --first-id 0
n=$(rows "$c")
[ "$n" = 700 ] || die "$n rows"
say "$n rows; every insert is found by the next search, indexed or not"
hits "$c" --query "$data/rfc10k_base_0.npy" --row 5 -k 1 | grep -q '(5, ' || die "row 5 is not its own nearest"
vexctl --quiet index build "$c"
hits "$c" --query "$data/rfc10k_query.npy" -k 10 >before
hits "$c" --query "$data/rfc10k_query.npy" -k 10 --exact >exact
remount_cycle "$DEV1" "$MNT1"
hits "$c" --query "$data/rfc10k_query.npy" -k 10 >after
cmp before after
hits "$c" --query "$data/rfc10k_query.npy" -k 10 --exact | cmp - exact

say "the owner's end is the vector's end"
touch "$c/owner"
vexctl --quiet add "$c/owner" --vector "$data/rfc10k_query.npy" --row 0
expect_eq "rows" "$(rows "$c")" $((n + 1))
mv "$c/owner" "$c/renamed"
vexctl --json search --like "$c/renamed" -k 3 >/dev/null
rm "$c/renamed"
expect_eq "rows" "$(rows "$c")" "$n"

say "searches of another user show only what he may read"
mkdir "$c/private"
echo secret >"$c/private/file"
chmod 600 "$c/private/file"
vexctl --quiet add "$c/private/file" --vector "$data/rfc10k_query.npy" --row 1 --id 777777
hits "$c" --query "$data/rfc10k_query.npy" --row 1 -k 1 | grep -q '(777777, ' || die "root does not find it"
chmod 755 "$MNT1" "$c"
hits_as_nobody=$(setpriv --reuid 65534 --regid 65534 --clear-groups \
	vexctl --json search "$c" --query "$data/rfc10k_query.npy" --row 1 -k 10)
grep -q 777777 <<<"$hits_as_nobody" && die "nobody finds the vector of a file that he may not read"
expect_fail setpriv --reuid 65534 --regid 65534 --clear-groups vexctl delete "$c" --id 3
chmod 700 "$c"
expect_fail setpriv --reuid 65534 --regid 65534 --clear-groups vexctl search "$c" --query "$data/rfc10k_query.npy" --row 1
chmod 755 "$c"

say "searches beside inserts and file operations, on all CPUs"
for i in 1 2; do
	(for row in $(seq 12); do hits "$c" --query "$data/rfc10k_query.npy" --row "$row" -k 10 >/dev/null || exit 1; done) &
	searchers[i]=$!
done
vexctl --quiet import "$data/rfc10k_base_1.npy" "$c" --rows 0..599 --first-id 100000 &
importer=$!
(for i in $(seq 100); do echo "$i" >"$c/f$i"; done; rm "$c"/f*) &
files=$!
for pid in "${searchers[@]}" "$importer" "$files"; do wait "$pid" || die "one of them failed"; done

say "killed callers leave nothing locked"
for _ in 1 2 3; do
	vexctl --quiet import "$data/rfc10k_base_2.npy" "$c" &
	pid=$!
	sleep 0.4
	kill -9 "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	vexctl --json search "$c" --query "$data/rfc10k_query.npy" -k 10 >/dev/null &
	pid=$!
	sleep 0.2
	kill -9 "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
done
n=$(rows "$c")
remount_cycle "$DEV1" "$MNT1"
expect_eq "rows after the remount" "$(rows "$c")" "$n"

say "read-only"
mount -o remount,ro "$MNT1"
hits "$c" --query "$data/rfc10k_query.npy" -k 10 >/dev/null
expect_fail vexctl delete "$c" --id 1
expect_fail vexctl --quiet import "$data/rfc10k_base_2.npy" "$c"
mount -o remount,rw "$MNT1"

grep -q '^level ' /proc/vexfs/simd_stats
[ -n "$(cat "/sys/fs/vexfs/${DEV1#/dev/}/simd")" ] || die "no SIMD figures"
umount_fs "$MNT1"
check_fs "$DEV1"
