// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The vectors' part of a scrub: the data of every row and every piece of the indexes, read from the device.
#pragma once
#include "../store/scrub.h"
#include "../uapi.h"
#include "engine.h"

namespace vexfs::vector {

// Where it has got to: the chunks of a collection by number, then its index blobs by key. Any contents are accepted.
struct ScrubPlace {
  u64 cid = 0;
  u64 at = 0;
  u64 row = 0;  // of the chunk
  bool index = false;
};

struct DamagedVectors {
  u64 dir_ino;  // of the collection
  u64 cid;
  u64 id;    // of the row; of the index: which blob
  u64 disk;  // on the device, bytes
  bool index;
};

// Where a scrub of nodes has got to, in position[0] from bit `shift` on (below are whose nodes they are), [1] and [2]. Any
// contents are accepted.
inline store::ScrubPlace scrub_nodes_place(const vexfs_scrub &v, u32 shift) {
  store::ScrubPlace p;
  p.tree = static_cast<u8>(v.position[0] >> shift);
  p.level = static_cast<u8>(v.position[0] >> (shift + 8));
  p.at = {v.position[1], static_cast<u8>(v.position[0] >> (shift + 16)), v.position[2]};
  return p;
}
inline void keep_scrub_nodes_place(vexfs_scrub &v, const store::ScrubPlace &p, u32 shift) {
  const u64 own = u64{p.tree} | u64{p.level} << 8 | u64{p.at.type} << 16;
  v.position[0] = (v.position[0] & ((u64{1} << shift) - 1)) | own << shift;
  v.position[1] = p.at.oid;
  v.position[2] = p.at.off;
}

// Goes on for about `budget` bytes of I/O, adding to `bytes` what was read. found returns false to stop. False: that was
// all. nomem; damage of metadata is logged and passed over.
Result<bool> scrub_vectors(Engine &e, ScrubPlace &p, u64 budget, u64 &bytes, FnRef<bool(const DamagedVectors &)> found);

// The same for what only w's snapshot has: rows that were alive then and are dead, gone or elsewhere now.
Result<bool> scrub_past_vectors(store::PastWalk &w, ScrubPlace &p, u64 budget, u64 &bytes,
                                FnRef<bool(const DamagedVectors &)> found);

}  // namespace vexfs::vector
