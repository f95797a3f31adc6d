#!/bin/bash
# SPDX-License-Identifier: MIT
# What every other script relies on: disks, tools, module, helpers that can fail.
source "$LIB"

expect_eq "size of DEV1" "$(blockdev --getsize64 "$DEV1")" $((2 << 30))
expect_eq "size of DEV2" "$(blockdev --getsize64 "$DEV2")" $((512 << 20))
expect_eq "size of DEV3" "$(blockdev --getsize64 "$DEV3")" $((128 << 20))
for dir in "$MNT1" "$MNT2" "$MNT3"; do [ -d "$dir" ] || die "no $dir"; done
expect_eq "release" "$(uname -r)" "$KVER"
expect_eq "working directory" "$PWD" /tmp/environment
[ -d "$SHARE/data" ] || die "tests/data is not in SHARE"

for tool in mkfs.vexfs fsck.vexfs vexctl fio setfattr setfacl xfs_io dmsetup python3; do
	command -v "$tool" >/dev/null || die "$tool is not in PATH"
done
modprobe --dry-run vexfs || die "modprobe does not know vexfs"
modprobe --dry-run fs-vexfs || die "mount -t vexfs would not find the module"

# Helpers that could not fail would make every other test worthless.
(expect_eq x 1 2) 2>/dev/null && die "expect_eq cannot fail"
(expect_ok false) 2>/dev/null && die "expect_ok cannot fail"
(expect_fail true) 2>/dev/null && die "expect_fail cannot fail"
(expect_errno ENOSPC cat /nonexistent) 2>/dev/null && die "expect_errno cannot fail"
expect_errno ENOENT cat /nonexistent
bash -c 'source "$LIB"; false; true' 2>/dev/null && die "a failing command goes unnoticed"
say "the guest is as promised"
