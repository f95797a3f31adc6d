// SPDX-License-Identifier: MIT
// Memory in huge pages for large blocks (Documentation/admin-guide/mm/transhuge.rst).
//
// A walk through a graph looks at a few hundred places anywhere in it, and each of them costs a walk through page tables,
// too, unless pages are large. The kernel's own large blocks lie in its direct map, which is made of large pages; here the
// blocks of many allocations share 2 MiB pages, so that those of a megabyte get them as well and nothing is rounded up.
#pragma once
#include <cstddef>

namespace vexfs::host {

// A block aligned to 4096 bytes, not zeroed. Null: too small or too large to profit, no memory, or a build that looks for
// errors of memory, which this would hide. From any thread.
void *huge_alloc(size_t n);

// Gives it back, n as it was asked for. False: it is not from here.
bool huge_free(void *p, size_t n);

}  // namespace vexfs::host
