// SPDX-License-Identifier: GPL-2.0-only
/* Makes the tracepoints of vexfs_trace.h. */
#define CREATE_TRACE_POINTS
#include "vexfs_trace.h"
