/* SPDX-License-Identifier: MIT */
/* The ABI header by itself, as strict C89 and as C++: compiled by the build, not run. */
#include <vexfs.h>

/* Sizes are part of the ABI: the same for 32-bit and 64-bit callers. A wrong one makes an array of negative size. */
#define SAME_SIZE(type, bytes) typedef char type##_has_##bytes##_bytes[sizeof(struct type) == (bytes) ? 1 : -1]
SAME_SIZE(vexfs_collection, 264);
SAME_SIZE(vexfs_collection_list, 64);
SAME_SIZE(vexfs_row, 64);
SAME_SIZE(vexfs_embedding, 128);
SAME_SIZE(vexfs_batch, 88);
SAME_SIZE(vexfs_hit, 64);
SAME_SIZE(vexfs_search, 144);
SAME_SIZE(vexfs_filter, 32);
SAME_SIZE(vexfs_hybrid_search, 200);
SAME_SIZE(vexfs_index, 128);
SAME_SIZE(vexfs_stats, 232);
SAME_SIZE(vexfs_snapshot_row, 96);
SAME_SIZE(vexfs_snapshot_rows, 112);
SAME_SIZE(vexfs_parent, 64);
SAME_SIZE(vexfs_fs_info, 80);

int vexfs_header_check(void);
int vexfs_header_check(void) { return VEXFS_ABI_VERSION; }
