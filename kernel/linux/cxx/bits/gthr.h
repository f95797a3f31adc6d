/* SPDX-License-Identifier: GPL-2.0-only */
/* No threads of libstdc++ in the kernel: shadows the header that wants pthread.h. */
#pragma once
