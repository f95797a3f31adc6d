/* SPDX-License-Identifier: GPL-2.0-only */
/* The ABI of include/uapi/vexfs.h, for the files of the module that speak it. */
#ifndef VEXFS_LINUX_ABI_H
#define VEXFS_LINUX_ABI_H
#include <linux/ioctl.h>
#include <linux/types.h>

#include <vexfs.h>

#endif
