#!/bin/bash
# SPDX-License-Identifier: MIT
# All CPUs make, link, rename, remove and list names while files are written and commits run; nothing is lost.
# vm: timeout=300
source "$LIB"

fresh_fs "$DEV1" "$MNT1"
(while sleep 0.3; do sync -f "$MNT1"; done) &
syncer=$!
filefuzz "$MNT1/fuzz" --seed 77 --ops 1000 &
fuzzer=$!
mkdir "$MNT1/storm"
namestorm "$MNT1/storm" --threads $((CPUS * 2)) --ops 1500 --seed 5
wait "$fuzzer" || die "filefuzz failed"
kill "$syncer"
wait "$syncer" 2>/dev/null || true
expect_eq "names left" "$(ls -A "$MNT1/storm")" ""
remount_cycle "$DEV1" "$MNT1"
umount_fs "$MNT1"
