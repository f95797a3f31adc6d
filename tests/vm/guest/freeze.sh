#!/bin/bash
# SPDX-License-Identifier: MIT
# A frozen filesystem does not change on the device, and what was done before the freeze is complete there.
source "$LIB"

fresh_fs "$DEV3" "$MNT1"
mkdir "$MNT1/d"
for i in $(seq 100); do echo "$i" >"$MNT1/d/$i"; done
# somebody holds the last reference to a removed file, and lets go of it while everything is frozen
bash -c 'exec 4>"$1/open"; rm "$1/open"; until [ -e go ]; do sleep 0.1; done' - "$MNT1" &
holder=$!
until [ ! -e "$MNT1/open" ] && [ -e "/proc/$holder/fd/4" ]; do sleep 0.1; done
fsfreeze -f "$MNT1"
sum=$(md5sum <"$DEV3")
(echo blocked >"$MNT1/late") &
writer=$!
touch go
sleep 7 # longer than a commit interval
expect_eq "the device" "$(md5sum <"$DEV3")" "$sum"
check_fs "$DEV3"
kill -0 "$writer" || die "a write went through"
fsfreeze -u "$MNT1"
wait "$writer" "$holder"
expect_eq "after the thaw" "$(cat "$MNT1/late")" blocked
remount_cycle "$DEV3" "$MNT1"
expect_eq "files" "$(ls "$MNT1/d" | wc -l)" 100
umount_fs "$MNT1"
