// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Small types shared by the whole store: extents, tree names, open options, space figures, counters.
#pragma once
#include <atomic>

#include "../base/result.h"

namespace vexfs::store {

// A run of filesystem blocks. Block numbers are absolute, in units of Volume::block_size().
struct Extent {
  u64 start = 0;
  u64 count = 0;
  u64 end() const { return start + count; }
};

// Where a tree node lies: the first block of it, and of its second copy (0: nodes have none).
struct NodePlace {
  u64 addr = 0;
  u64 mirror = 0;
  explicit operator bool() const { return addr != 0; }
};

enum class TreeId : u8 { fs = 0, collections = 1, snapshots = 2, refcounts = 3, dead = 4 };
inline constexpr u32 kTreeCount = 8;       // root slots on disk; 5..7 are reserved
inline constexpr u32 kUserBlobBytes = 64;  // bytes of the root that each tree's owner may use

enum class ErrorPolicy : u8 { read_only = 0, panic = 1, keep_going = 2 };

struct OpenOptions {
  bool read_only = false;
  bool ignore_log = false;     // with read_only: show the last commit, leave what the intent log has beyond it alone
  u32 commit_interval_ms = 0;  // 0: no commit thread, commits happen only when asked for (or forced by lack of space)
  u64 node_cache_bytes = 0;    // 0: 64 MiB
  ErrorPolicy on_error = ErrorPolicy::read_only;
  bool leave_copies = false;  // of a snapshot: bad copies of nodes are not cured on the way; a scrub is to find them
};

// All in blocks.
struct SpaceInfo {
  u64 total = 0;     // size of the filesystem
  u64 free = 0;      // not holding anything (promised blocks and reserves included)
  u64 avail = 0;     // what users may still write: free less promises and reserves
  u64 reserved = 0;  // promised by reserve_blocks() and begin()
  u64 meta = 0;      // fixed structures and tree nodes
  u64 pinned = 0;    // freed, reusable after the next commit
};

// Every slow path and every unit of work has a counter. Monotonic since mount.
struct Counters {
  using C = std::atomic<u64>;
  C commits{0}, commits_empty{0}, commits_forced{0}, commit_ns{0}, freeze_ns{0};
  C handles{0}, handle_waits{0};
  C nodes_read{0}, nodes_written{0}, read_errors{0}, corrupt_nodes{0};
  C mirror_reads{0}, nodes_cured{0};  // nodes whose first copy was bad and the second good; written anew since
  C cache_misses{0}, cache_evictions{0};
  C escalations{0}, restarts{0};  // descents that began again: for more exclusive locks, after reading a node
  C splits{0}, merges{0}, rebalances{0}, compactions{0}, node_copies{0}, readdressed{0}, root_grows{0}, root_shrinks{0};
  C inserts{0}, updates{0}, erases{0}, lookups{0}, scans{0};
  C allocs{0}, alloc_blocks{0}, alloc_scans{0}, frees{0}, free_blocks{0}, bitmaps_read{0}, bitmaps_written{0};
  C nospc{0}, memory_waits{0};
  C syncs{0}, syncs_shared{0}, syncs_committed{0};  // all, those that another's write served, those by a commit
  C dead_blocks{0}, dead_freed{0};                  // blocks that entered the dead tree, and that left it free
  C log_groups{0}, log_bytes{0}, log_overflows{0}, log_replayed{0};
};

}  // namespace vexfs::store
