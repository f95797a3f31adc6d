// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Superblock verifier and printer, geometry arithmetic.
#include "super.h"

#include "group.h"
#include "node.h"

namespace vexfs::disk {

bool Geometry::is_backup_group(u64 g) {
  if (g == 0) return false;
  while (g % 3 == 0) g /= 3;
  return g == 1;
}

u64 Geometry::bitmap_block(u64 g, unsigned home) const {
  u64 first = g == 0 ? head_blocks() : group_start(g) + (is_backup_group(g) ? super_blocks() : 0);
  return first + home;
}

u32 Geometry::group_front(u64 g) const { return static_cast<u32>(bitmap_block(g, 0) - group_start(g) + 2); }

bool Geometry::is_data(u64 start, u64 count) const {
  if (count == 0 || start >= total_blocks || count > total_blocks - start) return false;
  u64 first = group_of(start), last = group_of(start + count - 1);
  // Data never crosses a group's border, since every group begins with its bitmaps.
  if (first != last) return false;
  bool clash = false;
  for_fixed(first, [&](u64 s, u64 n) { clash = clash || (start < s + n && s < start + count); });
  return !clash;
}

u32 Geometry::max_item() const { return max_item_bytes(node_size); }

u32 bits_per_bitmap(u32 block_size) { return (block_size - static_cast<u32>(sizeof(BitmapDisk))) * 8; }
u32 descriptors_per_block(u32 block_size) {
  return (block_size - static_cast<u32>(sizeof(DescBlockDisk))) / static_cast<u32>(sizeof(GroupDesc));
}
u32 root_bytes(u64 desc_count) { return static_cast<u32>(sizeof(RootDisk) + 8 * desc_count); }

void seal_super(SuperDisk &s, u64 self) {
  s.self = self;
  s.crc = crc32c_block(bytes_of(s), offsetof(SuperDisk, crc));
}

namespace super_impl {
namespace {

Refusal bad(const char *field, u64 found, u64 expected) { return {Cause::bad_field, field, found, expected}; }

Refusal check_sizes(const SuperDisk &s, u64 device_bytes, Geometry *g) {
  g->block_size = s.block_size;
  g->node_size = s.node_size;
  if (!is_pow2(g->block_size) || g->block_size < kMinBlock || g->block_size > kMaxBlock)
    return bad("block_size", g->block_size, 4096);
  if (!is_pow2(g->node_size) || g->node_size < g->block_size || g->node_size > kMaxNode)
    return bad("node_size", g->node_size, 16384);
  g->block_shift = static_cast<u32>(std::countr_zero(g->block_size));
  g->node_blocks = g->node_size >> g->block_shift;
  g->mirrored = s.incompat & kIncompatMirroredNodes;
  g->total_blocks = s.total_blocks;
  if (g->total_blocks == 0 || g->total_blocks > device_bytes >> g->block_shift)
    return bad("total_blocks", g->total_blocks, device_bytes >> g->block_shift);
  g->group_blocks = s.group_blocks;
  if (g->group_blocks == 0 || g->group_blocks % 64 || g->group_blocks > bits_per_bitmap(g->block_size))
    return bad("group_blocks", g->group_blocks, bits_per_bitmap(g->block_size));
  g->groups = s.groups;
  if (g->groups != div_up(g->total_blocks, u64{g->group_blocks}))
    return bad("groups", g->groups, div_up(g->total_blocks, u64{g->group_blocks}));
  return {};
}

Refusal check_places(const SuperDisk &s, Geometry *g) {
  g->desc_start = s.desc_start;
  g->desc_count = s.desc_count;
  u64 want_desc = div_up(g->groups, u64{descriptors_per_block(g->block_size)});
  if (g->desc_count != want_desc) return bad("desc_count", g->desc_count, want_desc);
  g->root_blocks = s.root_blocks;
  u64 need_root = div_up(u64{root_bytes(g->desc_count)}, u64{g->block_size});
  if (g->desc_count > (u64{1} << 24) || g->root_blocks != need_root)
    return bad("root_blocks", g->root_blocks, need_root);
  u64 boot = div_up(u64{kBootBytes}, u64{g->block_size});
  u64 head = boot + 2 * u64{g->root_blocks} + 2 * g->desc_count;
  if (head + 2 + g->tail_blocks() > g->total_blocks || head + 2 > g->group_blocks)
    return bad("total_blocks", g->total_blocks, head + 2 + g->tail_blocks());
  for (u32 i = 0; i < 2; i++) {
    g->root_slot[i] = s.root_slot[i];
    g->root_mirror[i] = s.root_mirror[i];
    if (g->root_slot[i] != boot + i * u64{g->root_blocks})
      return bad("root_slot", g->root_slot[i], boot + i * u64{g->root_blocks});
    if (g->root_mirror[i] != g->tail_start() + i * u64{g->root_blocks})
      return bad("root_mirror", g->root_mirror[i], g->tail_start() + i * u64{g->root_blocks});
  }
  if (g->desc_start != boot + 2 * u64{g->root_blocks})
    return bad("desc_start", g->desc_start, boot + 2 * u64{g->root_blocks});
  u64 last = g->groups - 1;
  u64 last_need = u64{g->group_front(last)} + g->tail_blocks();
  if (g->group_len(last) < last_need) return bad("last group", g->group_len(last), last_need);
  return {};
}

Refusal check_log(const SuperDisk &s, Geometry *g) {
  u64 start = s.log_start, n = s.log_blocks;
  if ((start == 0) != (n == 0)) return bad("log_start", start, 0);
  if ((s.incompat & kIncompatLog) && n < kLogBytesMin >> g->block_shift) return bad("log_blocks", n, kLogBytesMin);
  if (n == 0) return {};
  if (start >= g->total_blocks || n > g->total_blocks - start) return bad("log_blocks", n, g->total_blocks);
  // Not yet entered into *g, so this asks whether it is clear of everything else.
  if (!g->is_data(start, n)) return {Cause::out_of_bounds, "log_start", start, 0};
  g->log_start = start;
  g->log_blocks = n;
  g->has_log = s.incompat & kIncompatLog;
  return {};
}

}  // namespace
}  // namespace super_impl

Refusal verify_super(const SuperDisk &s, u64 self, u64 device_bytes, Geometry *out) {
  if (memcmp(s.magic, kSuperMagic, sizeof kSuperMagic) != 0) return {Cause::bad_magic, "magic", s.magic[0], 'V'};
  if (s.bytes != kSuperBytes) return super_impl::bad("bytes", s.bytes, kSuperBytes);
  u32 crc = crc32c_block(bytes_of(s), offsetof(SuperDisk, crc));
  if (s.crc != crc) return {Cause::bad_crc, "crc32c", s.crc, crc};
  if (s.self != self) return {Cause::misplaced, "self", s.self, self};
  if (s.version_major != kVersionMajor) return super_impl::bad("version_major", s.version_major, kVersionMajor);
  if (s.checksum_kind != 1) return super_impl::bad("checksum_kind", s.checksum_kind, 1);
  *out = {};
  Refusal r = super_impl::check_sizes(s, device_bytes, out);
  if (r.ok()) r = super_impl::check_places(s, out);
  if (r.ok()) r = super_impl::check_log(s, out);
  out->fs_hash = fs_hash_of(s.uuid);
  return r;
}

void print_super(const SuperDisk &s, TextSink out) {
  char buf[160];
  auto line = [&](const char *name, auto &&fill) {
    Printer p(buf);
    p.str(name);
    while (p.length() < 18) p.ch(' ');
    fill(p);
    p.ch('\n');
    out(p.c_str(), p.length());
  };
  auto num = [&](const char *name, u64 v) { line(name, [&](Printer &p) { p.dec(v); }); };
  line("magic", [&](Printer &p) { p.quoted(s.magic); });
  line("version", [&](Printer &p) { p.dec(s.version_major).ch('.').dec(s.version_minor); });
  line("crc32c", [&](Printer &p) { p.hex_fixed(s.crc, 8); });
  line("uuid", [&](Printer &p) { p.uuid(s.uuid); });
  usize n = 0;
  while (n < kLabelBytes && s.label[n]) n++;
  line("label", [&](Printer &p) { p.quoted(Bytes(s.label, n)); });
  line("features", [&](Printer &p) {
    p.str("compat ").hex(s.compat).str(" ro_compat ").hex(s.ro_compat).str(" incompat ").hex(s.incompat);
  });
  num("self", s.self);
  num("block_size", s.block_size);
  num("node_size", s.node_size);
  num("total_blocks", s.total_blocks);
  num("groups", s.groups);
  num("group_blocks", s.group_blocks);
  line("root_slots", [&](Printer &p) {
    p.dec(s.root_slot[0]).ch(' ').dec(s.root_slot[1]).str(" mirrors ").dec(s.root_mirror[0]).ch(' ');
    p.dec(s.root_mirror[1]).str(" of ").dec(s.root_blocks).str(" blocks");
  });
  line("descriptors", [&](Printer &p) { p.dec(s.desc_count).str(" blocks, twice, at ").dec(s.desc_start); });
  line("log", [&](Printer &p) { p.dec(s.log_blocks).str(" blocks at ").dec(s.log_start); });
  num("created", s.created_sec);
  usize c = 0;
  while (c < sizeof s.creator && s.creator[c]) c++;
  line("creator", [&](Printer &p) { p.quoted(Bytes(s.creator, c)); });
}

}  // namespace vexfs::disk
