#!/bin/bash
# SPDX-License-Identifier: MIT
# file(1) knows a VexFS by the magic that comes with it.
. "$(dirname "$0")/lib.sh"
command -v file >/dev/null || { echo "file(1) is not installed"; exit 77; }
ok mkfs.vexfs -q -L "My vectors" -U 01234567-89ab-cdef-0123-456789abcdef image 64M
ok file -m "$src/tools/magic/vexfs.magic" image
says "VexFS filesystem, version 1.0" 'label "My vectors"' "UUID 01234567-89ab-cdef-0123-456789abcdef" "4096 byte blocks" \
	"16384 blocks"
ok mkfs.vexfs -q -f -b 1024 image
ok file -m "$src/tools/magic/vexfs.magic" image
says "1024 byte blocks"
says_not label
truncate -s 64M empty
ok file -m "$src/tools/magic/vexfs.magic" empty
says_not VexFS
echo passed
