/* SPDX-License-Identifier: GPL-2.0-only */
/* The integer names of kernel/core/platform.h, as the kernel has them. */
#ifndef VEXFS_LINUX_HOST_TYPES_H
#define VEXFS_LINUX_HOST_TYPES_H
#include <linux/types.h>

typedef u8 vx_u8;
typedef u16 vx_u16;
typedef u32 vx_u32;
typedef u64 vx_u64;
typedef s32 vx_s32;
typedef s64 vx_s64;
typedef bool vx_bool;

#endif
