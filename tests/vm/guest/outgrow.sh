#!/bin/bash
# SPDX-License-Identifier: MIT
# Reading a small file at the moment when it outgrows its inode.
# vm: usually=6.12
source "$LIB"

fresh_fs "$DEV3" "$MNT3"
outgrow "$MNT3/f" 20
umount_fs "$MNT3"
check_fs "$DEV3"
