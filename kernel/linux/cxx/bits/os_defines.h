/* SPDX-License-Identifier: GPL-2.0-only */
/* No C library in the kernel: shadows the header that wants features.h. */
#pragma once
