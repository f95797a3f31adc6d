// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The checker's view of space: what is claimed by objects against what the bitmaps say.
#include "check.h"

namespace vexfs::store {

namespace check_space_impl {
namespace {
constexpr u32 kRunsReported = 16;  // per group and kind; the rest is counted
bool bit(const u64 *b, u32 i) { return b[i / 64] >> (i % 64) & 1; }
bool disk_bit(const u8 *b, u32 i) { return b[i / 8] >> (i % 8) & 1; }
}  // namespace
}  // namespace check_space_impl

Result<u64 *> Checker::group_bits(u64 g) {
  if (!bits_[g]) {
    bits_[g] = static_cast<u64 *>(vx_alloc_large(div_up<usize>(geo_.group_blocks, 64) * 8, VX_ALLOC_ZERO));
    if (!bits_[g]) return Errno::nomem;
  }
  return bits_[g];
}

Status Checker::claim(Extent e, const char *what, u64 a, u64 b) {
  if (e.count == 0 || e.start >= geo_.total_blocks || e.count > geo_.total_blocks - e.start) {
    error()
        .str(what)
        .str(" ")
        .dec(a)
        .str(" at ")
        .dec(b)
        .str(": blocks ")
        .dec(e.start)
        .str("+")
        .dec(e.count)
        .str(" lie outside of the filesystem");
    return {};
  }
  if (in_snapshot_) return claimed_already(e, what, a, b);
  u64 twice = 0, first_twice = 0;
  for (u64 block = e.start; block < e.end();) {
    u64 g = geo_.group_of(block);
    u64 *bits = VX_TRY(group_bits(g));
    u64 end = min_of(e.end(), geo_.group_start(g) + geo_.group_len(g));
    for (; block < end; block++) {
      u64 i = block - geo_.group_start(g);
      u64 mask = u64{1} << (i % 64);
      if (bits[i / 64] & mask) {
        if (!twice++) first_twice = block;
      } else {
        bits[i / 64] |= mask;
        figures_.claimed_blocks++;
      }
    }
  }
  if (twice)
    error()
        .str(what)
        .str(" ")
        .dec(a)
        .str(" at ")
        .dec(b)
        .str(": ")
        .dec(twice)
        .str(" of its blocks belong to something else too, the first is ")
        .dec(first_twice);
  return {};
}

// Without a word about blocks that belong to something else too.
Status Checker::claim_quietly(Extent e) {
  if (e.start >= geo_.total_blocks || e.count > geo_.total_blocks - e.start) return {};
  for (u64 block = e.start; block < e.end(); block++) {
    u64 g = geo_.group_of(block), i = block - geo_.group_start(g);
    u64 *bits = VX_TRY(group_bits(g));
    figures_.claimed_blocks += !(bits[i / 64] >> (i % 64) & 1);
    bits[i / 64] |= u64{1} << (i % 64);
  }
  return {};
}

// Of a snapshot: what it refers to is in use, by the current state too or in the dead tree.
Status Checker::claimed_already(Extent e, const char *what, u64 a, u64 b) {
  if (in_replaced_) return claim_quietly(e);
  for (u64 block = e.start; block < e.end(); block++) {
    u64 g = geo_.group_of(block), i = block - geo_.group_start(g);
    u64 *bits = VX_TRY(group_bits(g));
    if (bits[i / 64] >> (i % 64) & 1) continue;
    error().str(what).str(" ").dec(a).str(" at ").dec(b).str(": its block ").dec(block).str(" is not kept for it");
    break;
  }
  return {};
}

Status Checker::claim_fixed() {
  for (u64 g = 0; g < geo_.groups; g++) {
    Status st;
    geo_.for_fixed(g, [&](u64 start, u64 count) {
      if (st.ok() && count) {
        Status one = claim({start, count}, "fixed structures of group", g, start);
        if (!one.ok()) st = one;
      }
    });
    if (!st.ok()) return st;
  }
  return {};
}

Status Checker::load_descriptors() {
  VX_TRY(groups_.resize(geo_.groups));
  VX_TRY(group_known_.resize(geo_.groups));
  u8 *buf = static_cast<u8 *>(vx_alloc_large(geo_.block_size, 0));
  if (!buf) return Errno::nomem;
  const le64 *words = disk::root_desc(&root());
  u32 per_block = disk::descriptors_per_block(geo_.block_size);
  for (u64 d = 0; d < geo_.desc_count; d++) {
    unsigned home = (words[d] & disk::kHomeBit) ? 1 : 0;
    u64 at = geo_.desc_start + home * geo_.desc_count + d;
    if (!read_blocks(at, {buf, geo_.block_size}).ok()) {
      error().str("group descriptor block ").dec(d).str(": read error");
      continue;
    }
    disk::Refusal r = disk::verify_desc_block({buf, geo_.block_size}, geo_, d, home, words[d] & disk::kTxnMask);
    if (!r.ok()) {
      disk::add_refusal(error().str("group descriptor block ").dec(d), r);
      continue;
    }
    for (u64 g = d * per_block; g < geo_.groups && g < (d + 1) * per_block; g++) {
      groups_[g] = disk::desc_array(buf)[g - d * per_block];
      group_known_[g] = 1;
    }
  }
  vx_free_large(buf, geo_.block_size);
  return {};
}

Status Checker::check_bitmap(u64 g) {
  u8 *buf = static_cast<u8 *>(vx_alloc_large(geo_.block_size, VX_ALLOC_ZERO));
  if (!buf) return Errno::nomem;
  const disk::GroupDesc &desc = groups_[g];
  u8 *map = buf + sizeof(disk::BitmapDisk);
  bool sound = true;
  if (desc.bitmap & disk::kGroupUninit) {
    disk::fill_fixed_bits(geo_, g, {map, geo_.block_size - sizeof(disk::BitmapDisk)});
  } else {
    unsigned home = (desc.bitmap & disk::kHomeBit) ? 1 : 0;
    disk::Refusal r;
    if (!read_blocks(geo_.bitmap_block(g, home), {buf, geo_.block_size}).ok()) {
      error().str("bitmap of group ").dec(g).str(": read error");
      sound = false;
    } else if (r = disk::verify_bitmap({buf, geo_.block_size}, geo_, g, home, desc.bitmap & disk::kGroupTxnMask,
                                       desc.free);
               !r.ok()) {
      disk::add_refusal(error().str("bitmap of group ").dec(g), r);
      sound = false;
    }
  }
  u64 lost = 0, missing = 0;
  if (sound) {
    auto bits = group_bits(g);
    if (!bits.ok()) {
      vx_free_large(buf, geo_.block_size);
      return bits.error();
    }
    bool trees_whole = !any_damaged_;
    for (bool d : damaged_) trees_whole = trees_whole && !d;
    for (u32 i = 0, n = geo_.group_len(g); i < n; i++) {
      bool claimed = check_space_impl::bit(*bits, i), marked = check_space_impl::disk_bit(map, i);
      if (claimed == marked) continue;
      u64 &kind = claimed ? missing : lost;
      if (kind++ >= check_space_impl::kRunsReported) continue;
      u64 block = geo_.group_start(g) + i;
      if (claimed)
        error().str("block ").dec(block).str(" is in use, but its bitmap says that it is free");
      else if (trees_whole)
        error().str("block ").dec(block).str(" is marked as in use, but nothing refers to it");
    }
    if (lost > check_space_impl::kRunsReported || missing > check_space_impl::kRunsReported)
      note()
          .str("group ")
          .dec(g)
          .str(": ")
          .dec(missing)
          .str(" blocks used but marked free, ")
          .dec(lost)
          .str(" marked used but not referred to, in all");
  }
  vx_free_large(buf, geo_.block_size);
  return {};
}

Status Checker::compare_space() {
  u64 free = 0;
  bool all_known = true;
  for (u64 g = 0; g < geo_.groups; g++) {
    if (!group_known_[g]) {
      all_known = false;
      continue;
    }
    free += groups_[g].free;
    VX_TRY(check_bitmap(g));
    if ((g & 63) == 0) progress("space", g, geo_.groups);
  }
  if (all_known && free != root().free_blocks)
    error().str("the root counts ").dec(root().free_blocks).str(" free blocks, the groups ").dec(free);
  return {};
}

}  // namespace vexfs::store
