// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The ABI header as the freestanding core includes it: brings the types that <linux/types.h> would.
//
// _IOWR is not defined here: the core looks at command numbers only (see vector/ioctl.cc). The types are the same as
// those of <linux/types.h>, so a test may include both, in any order.
#pragma once
#include "base/types.h"

#ifndef VEXFS_UAPI_HAVE_TYPES
#define VEXFS_UAPI_HAVE_TYPES 1
#endif
using __u8 = unsigned char;
using __u16 = unsigned short;
using __u32 = unsigned int;
using __s32 = int;
__extension__ using __u64 = unsigned long long;

#include "../../include/uapi/vexfs.h"
