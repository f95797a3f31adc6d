#!/bin/bash
# SPDX-License-Identifier: MIT
# Names, links, attributes, times and file handles behave as POSIX and Linux say, with blocks of 4 KiB and of 1 KiB.
# vm: timeout=240
source "$LIB"

for block in 4096 1024; do
	say "blocks of $block"
	fresh_fs "$DEV1" "$MNT1" -b "$block"
	mkdir "$MNT1/names" "$MNT1/attributes"
	posix_names "$MNT1/names"
	posix_attributes "$MNT1/attributes"
	expect_eq "what the tests left" "$(ls -A "$MNT1/names" "$MNT1/attributes" | grep -v : | tr -d '\n')" ""
	remount_cycle "$DEV1" "$MNT1"
	umount_fs "$MNT1"
done
