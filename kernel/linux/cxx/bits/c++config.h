/* SPDX-License-Identifier: GPL-2.0-only */
/* libstdc++ configuration for the module: freestanding headers, see what the distribution sets. */
#ifndef VEX_CXXCONFIG_SHIM
#define VEX_CXXCONFIG_SHIM
#include_next <bits/c++config.h>
#undef _GLIBCXX_HAS_GTHREADS
#undef _GLIBCXX_HAVE_LINUX_FUTEX
#endif
