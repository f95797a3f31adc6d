// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Verifiers and printers of allocation bitmaps and group descriptor blocks.
#include "group.h"

#include "../base/bits.h"

namespace vexfs::disk {

namespace group_impl {
namespace {
Refusal bad(const char *field, u64 found, u64 expected) { return {Cause::bad_field, field, found, expected}; }

void set_bits(u8 *bits, u64 at, u64 n) {
  for (; n && at % 8; at++, n--) bits[at / 8] = static_cast<u8>(bits[at / 8] | (1u << (at % 8)));
  memset(bits + at / 8, 0xff, n / 8);
  at += n / 8 * 8;
  for (n %= 8; n; at++, n--) bits[at / 8] = static_cast<u8>(bits[at / 8] | (1u << (at % 8)));
}
}  // namespace
}  // namespace group_impl

u32 count_zero_bits(Bytes bits, u32 n) {
  u32 used = 0;
  usize whole = n / 64;
  for (usize i = 0; i < whole; i++) {
    u64 w;
    __builtin_memcpy(&w, bits.data() + i * 8, 8);
    used += popcount(w);
  }
  for (u32 i = static_cast<u32>(whole * 64); i < n; i++) used += (bits[i / 8] >> (i % 8)) & 1u;
  return n - used;
}

u32 fill_fixed_bits(const Geometry &geo, u64 g, MutBytes bits) {
  memset(bits.data(), 0, bits.size());
  u64 start = geo.group_start(g);
  u32 n = geo.group_len(g);
  geo.for_fixed(g, [&](u64 s, u64 c) { group_impl::set_bits(bits.data(), s - start, c); });
  u32 free = count_zero_bits(bits, n);
  group_impl::set_bits(bits.data(), n, bits.size() * 8 - n);
  return free;
}

Refusal verify_bitmap(Bytes block, const Geometry &geo, u64 g, unsigned home, u64 txn, u32 free) {
  using group_impl::bad;
  Refusal v = verify_header(block, Magic::bitmap, geo.fs_hash, geo.bitmap_block(g, home));
  if (!v.ok()) return v;
  const auto *b = reinterpret_cast<const BitmapDisk *>(block.data());
  if (b->header.txn != txn) return {Cause::wrong_txn, "txn", b->header.txn, txn};
  if (b->group != g) return bad("group", b->group, g);
  if (b->bits != geo.group_len(g)) return bad("bits", b->bits, geo.group_len(g));
  if (b->free != free) return bad("free", b->free, free);
  u32 zero = count_zero_bits(block.subspan(sizeof(BitmapDisk)), b->bits);
  if (zero != free) return bad("zero bits", zero, free);
  Bytes bits = block.subspan(sizeof(BitmapDisk));
  Refusal r;
  geo.for_fixed(g, [&](u64 s, u64 n) {
    for (u64 i = s - geo.group_start(g); n && r.ok(); i++, n--)
      if (!((bits[i / 8] >> (i % 8)) & 1)) r = bad("fixed structure marked free", geo.group_start(g) + i, 0);
  });
  return r;
}

Refusal verify_desc_block(Bytes block, const Geometry &geo, u64 index, unsigned home, u64 txn) {
  using group_impl::bad;
  Refusal v = verify_header(block, Magic::descriptor, geo.fs_hash, geo.desc_start + home * geo.desc_count + index);
  if (!v.ok()) return v;
  const auto *d = reinterpret_cast<const DescBlockDisk *>(block.data());
  if (d->header.txn != txn) return {Cause::wrong_txn, "txn", d->header.txn, txn};
  u32 per = descriptors_per_block(geo.block_size);
  u64 first = index * per, count = min_of<u64>(per, geo.groups - first);
  if (d->index != index) return bad("index", d->index, index);
  if (d->first != first) return bad("first", d->first, first);
  if (d->count != count) return bad("count", d->count, count);
  const GroupDesc *desc = desc_array(block.data());
  for (u64 i = 0; i < count; i++) {
    u32 room = geo.group_len(first + i) - geo.group_front(first + i);
    if (desc[i].free > room) return bad("group free count", desc[i].free, room);
    u64 t = desc[i].bitmap & kGroupTxnMask;
    if (t > txn) return bad("bitmap txn", t, txn);
  }
  return {};
}

void print_desc_block(Bytes block, TextSink out) {
  const auto *d = reinterpret_cast<const DescBlockDisk *>(block.data());
  char buf[160];
  Printer p(buf);
  p.str("descriptor block ").dec(d->index).str(" at ").dec(d->header.addr).str(" txn ").dec(d->header.txn).ch('\n');
  out(p.c_str(), p.length());
  u64 fit = (block.size() - sizeof(DescBlockDisk)) / sizeof(GroupDesc);
  u64 n = min_of<u64>(d->count, fit);
  const GroupDesc *desc = desc_array(block.data());
  for (u64 i = 0; i < n; i++) {
    u64 w = desc[i].bitmap;
    p.clear();
    p.str("  group ").dec(d->first + i).str(": free ").dec(desc[i].free);
    if (w & kGroupUninit) {
      p.str(", bitmap never written");
    } else {
      p.str(", bitmap home ").dec(w & kHomeBit ? 1 : 0).str(" txn ").dec(w & kGroupTxnMask);
    }
    p.flag(w & kGroupMeta, "(nodes)").ch('\n');
    out(p.c_str(), p.length());
  }
}

}  // namespace vexfs::disk
