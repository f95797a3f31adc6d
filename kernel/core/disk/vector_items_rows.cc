// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Encoder and decoder of row groups.
#include "vector_items_rows.h"

namespace vexfs::disk {
namespace rows_impl {
namespace {

u64 &column(RowRecord &r, u32 c) {
  switch (static_cast<RowColumn>(c)) {
    case RowColumn::id:
      return r.id;
    case RowColumn::owner:
      return r.owner;
    case RowColumn::offset:
      return r.offset;
    case RowColumn::length:
      return r.length;
    case RowColumn::owner_version:
      return r.owner_version;
    case RowColumn::tag:
      return r.tag;
    case RowColumn::birth:
      return r.birth;
    default:
      return r.death;
  }
}
u64 column(const RowRecord &r, u32 c) { return column(const_cast<RowRecord &>(r), c); }
u32 &narrow(RowRecord &r, u32 c) { return static_cast<RowColumn>(c) == RowColumn::crc ? r.crc : r.aux; }

void put(u8 *p, u64 v, u32 width) {
  for (u32 i = 0; i < width; i++) p[i] = static_cast<u8>(v >> (8 * i));
}
u64 take(const u8 *p, u32 width) {
  u64 v = 0;
  for (u32 i = 0; i < width; i++) v |= u64{p[i]} << (8 * i);
  return v;
}
u32 width_of(ColumnCode c) {
  switch (c) {
    case ColumnCode::w1:
      return 1;
    case ColumnCode::w2:
      return 2;
    case ColumnCode::w4:
      return 4;
    case ColumnCode::w8:
      return 8;
    default:
      return 0;
  }
}

ColumnCode choose(const RowRecord *rows, u32 n, u32 c, u64 *base) {
  u64 lo = column(rows[0], c), hi = lo, first = lo;
  bool counting = n > 1;
  for (u32 i = 1; i < n; i++) {
    u64 v = column(rows[i], c);
    lo = min_of(lo, v);
    hi = max_of(hi, v);
    counting = counting && v == first + i;
  }
  *base = lo;
  if (lo == hi) return lo == 0 ? ColumnCode::zero : ColumnCode::constant;
  *base = first;
  if (counting) return ColumnCode::counting;
  *base = lo;
  if (hi - lo <= 0xff) return ColumnCode::w1;
  if (hi - lo <= 0xffff) return ColumnCode::w2;
  if (hi - lo <= 0xffffffff) return ColumnCode::w4;
  return ColumnCode::w8;
}

u8 *encode_wide(const RowRecord *rows, u32 n, u32 c, u8 *at, u8 *code_out) {
  u64 base;
  ColumnCode code = choose(rows, n, c, &base);
  *code_out = static_cast<u8>(code);
  if (code == ColumnCode::zero) return at;
  if (code != ColumnCode::w8) {
    put(at, base, 8);
    at += 8;
  } else {
    base = 0;
  }
  u32 w = width_of(code);
  for (u32 i = 0; w && i < n; i++, at += w) put(at, column(rows[i], c) - base, w);
  return at;
}

u8 *encode_narrow(const RowRecord *rows, u32 n, u32 c, u8 *at, u8 *code_out) {
  auto value = [&](u32 i) { return narrow(const_cast<RowRecord &>(rows[i]), c); };
  bool same = true;
  for (u32 i = 1; i < n; i++) same = same && value(i) == value(0);
  ColumnCode code = same ? (value(0) == 0 ? ColumnCode::zero : ColumnCode::constant) : ColumnCode::w4;
  *code_out = static_cast<u8>(code);
  u32 stored = code == ColumnCode::zero ? 0 : code == ColumnCode::constant ? 1 : n;
  for (u32 i = 0; i < stored; i++, at += 4) put(at, value(i), 4);
  return at;
}

}  // namespace
}  // namespace rows_impl

usize encode_rows(const RowRecord *rows, u32 n, MutBytes out) {
  using namespace rows_impl;
  VX_ASSERT(n >= 1 && n <= kGroupRowsMax && out.size() >= group_bytes_max(n));
  GroupHeader h{};
  h.version = kVectorVersion;
  h.count = static_cast<u8>(n);
  u8 *at = out.data() + sizeof h;
  for (u32 c = 0; c < kWideColumns; c++) at = encode_wide(rows, n, c, at, &h.code[c]);
  for (u32 c = kWideColumns; c < kRowColumns; c++) at = encode_narrow(rows, n, c, at, &h.code[c]);
  memcpy(out.data(), &h, sizeof h);
  return static_cast<usize>(at - out.data());
}

Result<u32> decode_rows(Bytes item, RowRecord *rows) {
  using namespace rows_impl;
  if (item.size() < sizeof(GroupHeader)) return Errno::corrupt;
  GroupHeader h;
  memcpy(&h, item.data(), sizeof h);
  if (h.version != kVectorVersion || h.count == 0 || h.count > kGroupRowsMax) return Errno::corrupt;
  u32 n = h.count;
  const u8 *at = item.data() + sizeof h;
  const u8 *end = item.data() + item.size();
  for (u32 c = 0; c < kRowColumns; c++) {
    if (h.code[c] > static_cast<u8>(ColumnCode::w8)) return Errno::corrupt;
    auto code = static_cast<ColumnCode>(h.code[c]);
    if (c >= kWideColumns) {
      if (code != ColumnCode::zero && code != ColumnCode::constant && code != ColumnCode::w4) return Errno::corrupt;
      u32 stored = code == ColumnCode::zero ? 0 : code == ColumnCode::constant ? 1 : n;
      if (static_cast<usize>(end - at) < usize{4} * stored) return Errno::corrupt;
      for (u32 i = 0; i < n; i++)
        narrow(rows[i], c) = stored == 0 ? 0 : static_cast<u32>(take(at + (stored == 1 ? 0 : usize{4} * i), 4));
      at += usize{4} * stored;
      continue;
    }
    usize head = code == ColumnCode::zero || code == ColumnCode::w8 ? 0 : 8;
    u32 w = width_of(code);
    if (static_cast<usize>(end - at) < head + usize{w} * n) return Errno::corrupt;
    u64 base = head ? take(at, 8) : 0;
    at += head;
    for (u32 i = 0; i < n; i++, at += w)
      column(rows[i], c) = base + (code == ColumnCode::counting ? i : w ? take(at, w) : 0);
  }
  if (at != end) return Errno::corrupt;
  return n;
}

}  // namespace vexfs::disk
