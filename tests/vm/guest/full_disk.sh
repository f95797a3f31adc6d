#!/bin/bash
# SPDX-License-Identifier: MIT
# A full disk says ENOSPC, keeps what it has, lets files be removed, and has its space back after that.
# vm: timeout=300 usually=6.1
source "$LIB"

fresh_fs "$DEV3" "$MNT1"
before=$(stat -f -c %a "$MNT1")
echo keep >"$MNT1/keep"
mkdir "$MNT1/d"
sync -f "$MNT1"

say "one big file"
expect_errno ENOSPC dd if=/dev/zero of="$MNT1/big" bs=1M count=200 conv=fsync
[ "$(stat -c %s "$MNT1/big")" -gt $((64 << 20)) ] || die "only $(stat -c %s "$MNT1/big") bytes fit on 128 MiB"
expect_eq "older file" "$(cat "$MNT1/keep")" keep

say "names until nothing more fits"
i=0
while mkdir "$MNT1/d/$i" 2>/dev/null && [ "$i" -lt 200000 ]; do i=$((i + 1)); done
say "$i directories on the full disk"

say "removing works"
rm "$MNT1/big"
rm -rf "$MNT1/d"
sync -f "$MNT1"
after=$(stat -f -c %a "$MNT1")
[ "$after" -ge $((before - before / 50)) ] || die "free blocks: $before before, $after after"
dd if=/dev/urandom of="$MNT1/again" bs=1M count=40 conv=fsync status=none
sum=$(md5sum <"$MNT1/again")
remount_cycle "$DEV3" "$MNT1"
expect_eq "contents" "$(md5sum <"$MNT1/again")" "$sum"

say "many small files until it is full, removed while it is full"
mkdir "$MNT1/many"
text=$(head -c 9000 /dev/zero | tr '\0' x)
i=0
while echo "${text:0:$((2000 + i % 7000))}" >"$MNT1/many/$i" && [ "$i" -lt 60000 ]; do i=$((i + 1)); done 2>/dev/null
sync -f "$MNT1" || true
say "$i files"
rm -rf "$MNT1/many"
remount_cycle "$DEV3" "$MNT1"
umount_fs "$MNT1"
