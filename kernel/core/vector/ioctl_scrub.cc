// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The SCRUB command: one room's part after the other, a piece a call. Who may is the host's business.
#include "../fs/scrub.h"
#include "ioctl.h"
#include "scrub.h"

namespace vexfs::vector {
namespace ioctl_scrub_impl {
namespace {

constexpr u64 kBudgetDefault = 8 << 20;
constexpr u32 kPresent = VEXFS_SCRUB_NODES | VEXFS_SCRUB_DATA | VEXFS_SCRUB_VECTORS | VEXFS_SCRUB_FIXED;
constexpr u32 kAll = kPresent | VEXFS_SCRUB_SNAPSHOTS;
enum Phase : u64 { kNodes = 0, kData = 1, kVectors = 2, kFixed = 3, kSnapshots = 4, kEnd = 5 };
// Who does not know of it would take a finding in a snapshot for one in the present.
constexpr u32 kFoundWithSnapshot = offsetof(vexfs_found, snapshot) + sizeof(vexfs_found::snapshot);

constexpr u32 kPhaseBits = 8;  // of position[0]; then the phase's own

constexpr u32 flag_of(u64 phase) { return 1u << phase; }
static_assert(flag_of(kNodes) == VEXFS_SCRUB_NODES && flag_of(kSnapshots) == VEXFS_SCRUB_SNAPSHOTS);

Result<bool> nodes(store::Volume &volume, vexfs_scrub &v, u64 &budget, FnRef<bool(const vexfs_found &)> found) {
  CallBuffer buf;
  VX_TRY(buf.make(volume.node_size()));
  store::ScrubPlace p = scrub_nodes_place(v, kPhaseBits);
  bool more = true;
  while (more && budget) {
    store::ScrubbedNode n;
    more = VX_TRY(volume.scrub_node(p, {buf.bytes(), buf.size()}, n));
    keep_scrub_nodes_place(v, p, kPhaseBits);
    v.nodes += n.read;
    budget -= min_of<u64>(budget, volume.node_size());
    vx_yield();
    if (n.err == Errno::ok) continue;
    vexfs_found f{};
    f.kind = VEXFS_FOUND_NODE;
    f.flags = n.repaired ? VEXFS_FOUND_REPAIRED : 0;
    f.ino = n.tree;
    f.offset = n.level;
    f.device = n.block << volume.block_shift();
    if (!found(f)) return more;
  }
  return more;
}

Result<bool> data(fs::Filesystem &fs, vexfs_scrub &v, u64 &budget, FnRef<bool(const vexfs_found &)> found) {
  fs::ScrubPlace p{v.position[1], v.position[2]};
  fs::ScrubFigures figures;
  bool more = VX_TRY(fs::scrub_data(fs, p, budget, figures, [&found](const fs::DamagedData &d) {
    vexfs_found f{};
    f.kind = VEXFS_FOUND_DATA;
    f.ino = d.ino;
    f.offset = d.off;
    f.device = d.disk;
    return found(f);
  }));
  v.position[1] = p.ino;
  v.position[2] = p.block;
  v.data_bytes += figures.bytes;
  v.unsummed += figures.unchecked;
  budget = more ? 0 : budget - min_of(budget, figures.bytes);
  return more;
}

Result<bool> vectors(Engine &e, vexfs_scrub &v, u64 &budget, FnRef<bool(const vexfs_found &)> found) {
  ScrubPlace p{v.position[1], v.position[2], v.position[3] >> 1, (v.position[3] & 1) != 0};
  u64 bytes = 0;
  bool more = VX_TRY(scrub_vectors(e, p, budget, bytes, [&found](const DamagedVectors &d) {
    vexfs_found f{};
    f.kind = d.index ? VEXFS_FOUND_INDEX : VEXFS_FOUND_ROW;
    f.ino = d.dir_ino;
    f.offset = d.id;
    f.device = d.disk;
    return found(f);
  }));
  v.position[1] = p.cid;
  v.position[2] = p.at;
  v.position[3] = u64{p.index} | p.row << 1;
  v.vector_bytes += bytes;
  budget = more ? 0 : budget - min_of(budget, bytes);
  return more;
}

Result<bool> fixed(store::Volume &volume, vexfs_scrub &v, u64 &budget, FnRef<bool(const vexfs_found &)> found) {
  bool more = true;
  while (more && budget) {
    store::ScrubbedFixed s;
    u64 at = v.position[1];
    more = VX_TRY(volume.scrub_fixed(at, s));
    v.position[1] = at;
    budget -= min_of<u64>(budget, volume.block_size());
    vx_yield();
    if (s.err == Errno::ok) continue;
    vexfs_found f{};
    f.kind = VEXFS_FOUND_FIXED;
    f.flags = s.repaired ? VEXFS_FOUND_REPAIRED : 0;
    f.ino = static_cast<u8>(s.what);
    f.offset = s.number;
    f.device = s.byte;
    if (!found(f)) return more;
  }
  return more;
}

}  // namespace
}  // namespace ioctl_scrub_impl

// False: there is no room for more.
bool Call::report(vexfs_scrub &v, const vexfs_found &f) {
  if (v.count == v.capacity) return false;
  fault_ = !copy_out(v.found + u64{v.count} * v.found_size, &f, min_of<usize>(v.found_size, sizeof f)).ok();
  v.count++;
  return !fault_ && v.count < v.capacity;
}

// Goes on in the phase that position says, or with the next one.
Status Call::scrub_some(vexfs_scrub &v, u64 &budget) {
  using namespace ioctl_scrub_impl;  // NOLINT: of this file
  u64 phase = v.position[0] & 0xff;
  bool more = false;
  auto found = [&](const vexfs_found &f) { return report(v, f); };
  if (!(v.flags & flag_of(phase))) {
  } else if (phase == kNodes) {
    more = VX_TRY(nodes(engine_.volume(), v, budget, found));
  } else if (phase == kData) {
    more = VX_TRY(data(engine_.filesystem(), v, budget, found));
  } else if (phase == kVectors) {
    more = VX_TRY(vectors(engine_, v, budget, found));
  } else if (phase == kFixed) {
    more = VX_TRY(fixed(engine_.volume(), v, budget, found));
  } else {
    more = VX_TRY(scrub_snapshots(v, budget));
  }
  if (more) return {};
  for (__u64 &x : v.position) x = 0;
  v.position[0] = phase + 1;
  return {};
}

Status Call::scrub() {
  using namespace ioctl_scrub_impl;  // NOLINT: of this file
  vexfs_scrub v;
  VX_TRY(read_arg(&v));
  if ((v.flags & ~kAll) || !all_zero(v.reserved, 4) || v.budget > VEXFS_SCRUB_BUDGET_MAX) return Errno::inval;
  if (v.capacity == 0 || v.capacity > 4096 || v.found_size < 32 || v.found_size > 4096) return Errno::inval;
  if ((v.position[0] & 0xff) > kEnd) return Errno::inval;
  u32 flags = v.flags;
  if ((v.flags & VEXFS_SCRUB_SNAPSHOTS) && v.found_size < kFoundWithSnapshot) return Errno::inval;
  if (!v.flags) v.flags = v.found_size < kFoundWithSnapshot ? kPresent : kAll;
  u64 budget = v.budget ? v.budget : kBudgetDefault;
  v.count = 0;
  v.nodes = v.data_bytes = v.vector_bytes = v.unsummed = 0;
  while (budget && !fault_ && v.count < v.capacity && (v.position[0] & 0xff) < kEnd) {
    if (interrupted(this)) return Errno::intr;
    VX_TRY(scrub_some(v, budget));
  }
  if (fault_) return Errno::fault;  // position stays as the caller has it: nothing is passed over
  v.done = (v.position[0] & 0xff) == kEnd;
  v.flags = flags;
  return write_arg(v);
}

}  // namespace vexfs::vector
