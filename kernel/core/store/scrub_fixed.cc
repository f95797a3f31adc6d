// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Scrubbing what lies at fixed places: superblock copies, roots, group descriptors, bitmaps.
//
// All of it is looked at between commits, which are what writes it. A copy is written again from what it is a copy of.
// Descriptors and bitmaps, which memory has, go to their other homes with a commit; a bitmap that memory does not have
// cannot be made again here (fsck.vexfs can).
#include "scrub.h"
#include "state.h"
#include "super_io.h"
#include "volume.h"

namespace vexfs::store {
namespace scrub_fixed_impl {
namespace {

struct Buffer : Pinned {
  explicit Buffer(usize n) : n_(n), p_(static_cast<u8 *>(vx_alloc_large(n, VX_ALLOC_ZERO))) {}
  ~Buffer() {
    if (p_) vx_free_large(p_, n_);
  }
  MutBytes bytes() const { return {p_, n_}; }
  usize n_;
  u8 *p_;
};

u64 super_count(const disk::Geometry &geo) {
  u64 n = 2;  // the primary, and the copy at the end
  for (u64 g = 1; g < geo.groups; g *= 3) n++;
  return n;
}

u64 super_byte(const disk::Geometry &geo, u64 number) {
  if (number == 0) return disk::kSuperOffset;
  u64 g = 1;
  for (u64 i = 1; i < number && g < geo.groups; i++) g *= 3;
  return g < geo.groups ? geo.backup_block(g) << geo.block_shift : geo.last_backup_byte();
}

void judge(ScrubbedFixed &out, Status st, const disk::Refusal &why) {
  out.err = st.code();
  if (st.ok() && !why.ok()) {
    out.err = Errno::corrupt;
    out.why = why;
  }
}

bool may_write(const State &s) {
  return !s.opts.read_only && !s.read_only.load(std::memory_order_relaxed) && s.abort_code.load() == 0 &&
         !s.quiet.load();
}

Status scrub_super(State &s, u64 number, ScrubbedFixed &out) {
  Buffer buf(2 * sizeof(disk::SuperDisk));
  if (!buf.p_) return Errno::nomem;
  auto *want = reinterpret_cast<disk::SuperDisk *>(buf.p_ + sizeof(disk::SuperDisk));
  out.byte = super_byte(s.geo, number);
  *want = *s.super;
  disk::seal_super(*want, out.byte);
  MutBytes is = buf.bytes().first(sizeof *want);
  Status st = s.read_bytes(out.byte, is, true);
  disk::Refusal why;
  if (st.ok() && memcmp(is.data(), want, sizeof *want) != 0) why = {disk::Cause::bad_field, "contents", 0, 0};
  judge(out, st, why);
  if (out.err == Errno::ok || !may_write(s)) return {};
  out.repaired = device_write(s.dev, out.byte, bytes_of(*want), VX_IO_META | VX_IO_FUA).ok();
  return {};
}

Status commit_now(State &s) {  // commit_lock
  {
    Guard g(s.lock);
    s.changed = true;
  }
  return s.commit_locked();
}

Status scrub_root(State &s, unsigned slot, ScrubbedFixed &out) {
  usize n = usize{s.geo.root_blocks} << s.geo.block_shift;
  Buffer buf(2 * n);
  if (!buf.p_) return Errno::nomem;
  u64 txn[2] = {};
  disk::Refusal why[2];
  Status st[2];
  for (unsigned mirror = 0; mirror < 2; mirror++) {
    u8 *b = buf.p_ + mirror * n;
    st[mirror] = read_root(s.dev, s.geo, slot, mirror, {b, n}, &why[mirror]);
    if (st[mirror].ok()) txn[mirror] = reinterpret_cast<const disk::RootDisk *>(b)->header.txn;
  }
  bool newest = s.durable_txn.load() % 2 == slot;
  u64 right = newest ? s.durable_txn.load() : max_of(txn[0], txn[1]);
  bool good[2] = {txn[0] && txn[0] == right, txn[1] && txn[1] == right};
  if (good[0] && good[1]) return {};
  unsigned bad = good[0] ? 1 : 0;
  out.byte = (bad ? s.geo.root_mirror[slot] : s.geo.root_slot[slot]) << s.geo.block_shift;
  disk::Refusal old{disk::Cause::wrong_txn, "txn", txn[bad], right};
  judge(out, st[bad].code() == Errno::corrupt ? Status() : st[bad], why[bad].ok() ? old : why[bad]);
  if (!may_write(s)) return {};
  if (good[0] || good[1]) {
    out.repaired = copy_root(s.dev, s.geo, {buf.p_ + (1 - bad) * n, n}, bad).ok();
    s.root_bad[slot][bad] = !out.repaired;
    return {};
  }
  // A commit writes the slot that is not the newest; one more, this one.
  Status done = commit_now(s);
  if (done.ok() && newest) done = commit_now(s);
  out.repaired = done.ok();
  return {};
}

Status scrub_descriptors(State &s, u64 d, ScrubbedFixed &out) {
  Buffer buf(s.geo.block_size);
  if (!buf.p_) return Errno::nomem;
  unsigned home = s.desc_word[d] & disk::kHomeBit ? 1 : 0;
  u64 block = s.geo.desc_start + home * s.geo.desc_count + d;
  out.byte = block << s.geo.block_shift;
  Status st = s.read_bytes(out.byte, buf.bytes(), true);
  disk::Refusal why;
  if (st.ok()) why = disk::verify_desc_block(buf.bytes(), s.geo, d, home, s.desc_word[d] & disk::kTxnMask);
  judge(out, st, why);
  if (out.err == Errno::ok || !may_write(s)) return {};
  s.desc_touched[d] = 1;
  out.repaired = commit_now(s).ok();
  return {};
}

Status scrub_bitmap(State &s, u64 g, ScrubbedFixed &out) {
  Group &group = s.alloc.group(g);
  if (group.word & disk::kGroupUninit) return {};
  Buffer buf(s.geo.block_size);
  if (!buf.p_) return Errno::nomem;
  unsigned home = group.word & disk::kHomeBit ? 1 : 0;
  out.byte = s.geo.bitmap_block(g, home) << s.geo.block_shift;
  Status st = s.read_bytes(out.byte, buf.bytes(), true);
  disk::Refusal why;
  if (st.ok())
    why = disk::verify_bitmap(buf.bytes(), s.geo, g, home, group.word & disk::kGroupTxnMask, group.disk_free);
  judge(out, st, why);
  if (out.err == Errno::ok || !may_write(s) || !s.alloc.touch(g)) return {};
  s.desc_touched[g / disk::descriptors_per_block(s.geo.block_size)] = 1;
  out.repaired = commit_now(s).ok();
  return {};
}

void tell(const State &s, const ScrubbedFixed &f) {
  static constexpr const char *kNames[] = {"superblock copy ", "root slot ", "group descriptor block ",
                                           "bitmap of group "};
  LogLine line(s.dev, VX_LOG_ERR);
  line.str("scrub: ").str(kNames[static_cast<u8>(f.what)]).dec(f.number).str(" at byte ").dec(f.byte);
  if (f.err == Errno::corrupt)
    disk::add_refusal(line, f.why);
  else
    line.str(": read error");
  if (f.repaired) line.str("; it is written anew");
}

}  // namespace
}  // namespace scrub_fixed_impl

Result<bool> Volume::scrub_fixed(u64 &at, ScrubbedFixed &out) {
  using namespace scrub_fixed_impl;  // NOLINT: of this file
  State &s = *s_;
  out = {};
  if (s.view_of) return false;  // they are those of the volume that this is a snapshot of
  const u64 counts[] = {super_count(s.geo), 2, s.geo.desc_count, s.geo.groups};
  u64 number = at, kind = 0;
  while (kind < 4 && number >= counts[kind]) number -= counts[kind++];
  if (kind == 4) return false;
  at++;
  out.read = true;
  out.what = static_cast<FixedKind>(kind);
  out.number = number;
  Guard g(s.commit_lock);
  if (out.what == FixedKind::super)
    VX_TRY(scrub_super(s, number, out));
  else if (out.what == FixedKind::root)
    VX_TRY(scrub_root(s, static_cast<unsigned>(number), out));
  else if (out.what == FixedKind::descriptors)
    VX_TRY(scrub_descriptors(s, number, out));
  else
    VX_TRY(scrub_bitmap(s, number, out));
  if (out.err != Errno::ok) tell(s, out);
  return true;
}

}  // namespace vexfs::store
