// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The SCRUB command's last phase: snapshot after snapshot, of each the nodes, then the data, then the vectors.
//
// position[3] is the transaction of the snapshot at hand, or one before it: a snapshot that is gone is followed by the
// next. position[0]: the phase, the part, and of nodes the tree, the level and the type of the key; [1] and [2] are the
// part's own.
#include "../disk/snapshot_items.h"
#include "../fs/scrub.h"
#include "../store/past.h"
#include "ioctl.h"
#include "scrub.h"

namespace vexfs::vector {
namespace ioctl_scrub_past_impl {
namespace {

constexpr u64 kPiece = 4 << 20;     // bytes after which a deletion that waits is noticed
constexpr u64 kOpenCost = 1 << 16;  // bytes of budget that opening a snapshot counts as
constexpr u32 kPartBits = 16;       // of position[0]: the phase and the part
enum Part : u64 { kNodes = 0, kData = 1, kVectors = 2, kParts = 3 };

void begin_part(vexfs_scrub &v, u64 part) {
  v.position[0] = (v.position[0] & 0xff) | part << 8;
  v.position[1] = v.position[2] = 0;
}
u64 part_of(const vexfs_scrub &v) { return v.position[0] >> 8 & 0xff; }

// Which parts of a snapshot do flags ask for?
bool wanted(u32 flags, u64 part) {
  constexpr u32 any = VEXFS_SCRUB_NODES | VEXFS_SCRUB_DATA | VEXFS_SCRUB_VECTORS;
  return !(flags & any) || flags & 1u << part;
}

}  // namespace
}  // namespace ioctl_scrub_past_impl

struct Call::PastScrub {
  vexfs_scrub &v;
  u64 &budget;
  store::ScrubViews &views;
  store::PastWalk &walk;
  u64 piece = 0;  // budget of a piece
};

Result<bool> Call::scrub_past_nodes(PastScrub &s) {
  using namespace ioctl_scrub_past_impl;  // NOLINT: of this file
  store::Volume &volume = *s.views.mine;
  CallBuffer buf;
  VX_TRY(buf.make(volume.node_size()));
  store::ScrubPlace p = scrub_nodes_place(s.v, kPartBits);
  bool more = true;
  while (more && s.piece) {
    store::ScrubbedNode n;
    more = VX_TRY(store::scrub_past_node(s.walk, p, {buf.bytes(), buf.size()}, n));
    keep_scrub_nodes_place(s.v, p, kPartBits);
    s.v.nodes += n.read;
    s.piece -= min_of<u64>(s.piece, volume.node_size());
    vx_yield();
    if (n.err == Errno::ok) continue;
    vexfs_found f{};
    f.kind = VEXFS_FOUND_NODE;
    f.flags = n.repaired ? VEXFS_FOUND_REPAIRED : 0;
    f.ino = n.tree;
    f.offset = n.level;
    f.device = n.block << volume.block_shift();
    f.snapshot = s.views.id;
    if (!report(s.v, f)) s.piece = 0;
  }
  return more;
}

// A piece of a part; s.piece is what is left of its budget. False: the part is done with.
Result<bool> Call::scrub_past_piece(PastScrub &s, u64 part) {
  using namespace ioctl_scrub_past_impl;  // NOLINT: of this file
  vexfs_scrub &v = s.v;
  vexfs_found f{};
  f.snapshot = s.views.id;
  if (part == kNodes) return scrub_past_nodes(s);
  if (part == kData) {
    fs::ScrubPlace p{v.position[1], v.position[2]};
    fs::ScrubFigures figures;
    auto found = [&](const fs::DamagedData &d) {
      f.kind = VEXFS_FOUND_DATA;
      f.ino = d.ino;
      f.offset = d.off;
      f.device = d.disk;
      return report(v, f);
    };
    bool more = VX_TRY(fs::scrub_past_data(s.walk, p, s.piece, figures, found));
    v.position[1] = p.ino;
    v.position[2] = p.block;
    v.data_bytes += figures.bytes;
    v.unsummed += figures.unchecked;
    s.piece = more ? 0 : s.piece - min_of(s.piece, figures.bytes);
    return more;
  }
  constexpr u64 index_bit = u64{1} << 63;
  ScrubPlace p{v.position[1] & 0xffffffff, v.position[2], v.position[1] >> 32 & 0x7fffffff,
               (v.position[1] & index_bit) != 0};
  u64 bytes = 0;
  bool more = VX_TRY(scrub_past_vectors(s.walk, p, s.piece, bytes, [&](const DamagedVectors &d) {
    f.kind = d.index ? VEXFS_FOUND_INDEX : VEXFS_FOUND_ROW;
    f.ino = d.dir_ino;
    f.offset = d.id;
    f.device = d.disk;
    return report(v, f);
  }));
  v.position[1] = p.cid | p.row << 32 | (p.index ? index_bit : 0);
  v.position[2] = p.at;
  v.vector_bytes += bytes;
  s.piece = more ? 0 : s.piece - min_of(s.piece, bytes);
  return more;
}

// Until the budget is spent, the snapshot is done with, or somebody wants it gone.
Status Call::scrub_snapshot(PastScrub &s) {
  using namespace ioctl_scrub_past_impl;  // NOLINT: of this file
  struct Asked {
    Call *call;
    const store::ScrubViews &views;
    static bool unwanted(void *ctx) {
      auto *a = static_cast<Asked *>(ctx);
      return a->call->engine_.volume().scrub_unwanted(a->views) || interrupted(a->call);
    }
  } asked{this, s.views};
  s.walk.ask(Asked::unwanted, &asked);
  while (s.budget && !fault_ && s.v.count < s.v.capacity && part_of(s.v) < kParts) {
    if (interrupted(this)) return Errno::intr;
    if (engine_.volume().scrub_unwanted(s.views)) return {};
    u64 part = part_of(s.v), given = min_of(s.budget, kPiece);
    s.piece = given;
    Result<bool> more = wanted(s.v.flags, part) ? scrub_past_piece(s, part) : Result<bool>(false);
    if (more.code() == Errno::intr && !interrupted(this)) return {};  // a deletion waits
    if (!more.ok()) return more.error();
    s.budget -= given - s.piece;
    if (!*more) begin_part(s.v, part + 1);
  }
  return {};
}

// A snapshot that cannot be opened: the top of a tree has no copy left, or its item makes no sense.
bool Call::scrub_unreadable(vexfs_scrub &v, u64 id) {
  vexfs_found f{};
  f.kind = VEXFS_FOUND_NODE;
  f.ino = static_cast<u8>(store::TreeId::snapshots);
  f.snapshot = id;
  return report(v, f);
}

Result<bool> Call::scrub_snapshots(vexfs_scrub &v, u64 &budget) {
  using namespace ioctl_scrub_past_impl;  // NOLINT: of this file
  store::Volume &volume = engine_.volume();
  store::ScrubViews views;
  Status st = volume.open_for_scrub(v.position[3], views);
  if (st.code() == Errno::noent && views.id == 0) return false;
  if (st.code() == Errno::nomem) return st.error();
  if (views.txn != v.position[3] || part_of(v) > kParts) begin_part(v, kNodes);
  v.position[3] = views.txn;
  if (!st.ok()) {
    if (wanted(v.flags, kNodes) && part_of(v) == kNodes) (void)scrub_unreadable(v, views.id);
    budget -= min_of(budget, kOpenCost);
  } else {
    auto walk = VX_TRY(Box<store::PastWalk>::make(*views.mine, views.older.get(), volume));
    VX_TRY(walk->make());
    PastScrub s{v, budget, views, *walk};
    VX_TRY(scrub_snapshot(s));  // something, however little the budget is
    budget -= min_of(budget, kOpenCost);
    if (part_of(v) < kParts) return true;
  }
  begin_part(v, kNodes);
  v.position[3] = views.txn + 1;
  return true;
}

}  // namespace vexfs::vector
