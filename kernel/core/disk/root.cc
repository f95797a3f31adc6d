// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Root slot verifier and printer.
#include "root.h"

namespace vexfs::disk {

namespace root_impl {
namespace {
Refusal bad(const char *field, u64 found, u64 expected) { return {Cause::bad_field, field, found, expected}; }

Refusal check_tree(const TreeRootDisk &t, const Geometry &g) {
  if (t.levels > kMaxLevels) return bad("levels", t.levels, kMaxLevels);
  u64 addr = t.node.addr;
  if (t.levels == 0) return addr == 0 ? Refusal{} : bad("root addr of an empty tree", addr, 0);
  if (!sound_pointer(t.node, g)) return {Cause::out_of_bounds, "tree root", addr, t.node.mirror};
  return {};
}
}  // namespace
}  // namespace root_impl

bool sound_pointer(const NodePtr &p, const Geometry &g) {
  auto place = [&](u64 addr) { return addr % g.node_blocks == 0 && g.is_data(addr, g.node_blocks); };
  if (!g.mirrored) return place(p.addr) && p.mirror == 0;
  return place(p.addr) && place(p.mirror) && p.mirror != p.addr;
}

Refusal verify_root(Bytes block, const Geometry &g, unsigned slot, unsigned mirror) {
  using root_impl::bad;
  u64 addr = mirror ? g.root_mirror[slot] : g.root_slot[slot];
  Refusal v = verify_header(block, Magic::root, g.fs_hash, addr);
  if (!v.ok()) return v;
  const auto *r = reinterpret_cast<const RootDisk *>(block.data());
  if (r->slot != slot) return bad("slot", r->slot, slot);
  if (r->mirror != mirror) return bad("mirror", r->mirror, mirror);
  if (r->desc_count != g.desc_count) return bad("desc_count", r->desc_count, g.desc_count);
  if (r->bytes != root_bytes(g.desc_count)) return bad("bytes", r->bytes, root_bytes(g.desc_count));
  u64 txn = r->header.txn;
  if (txn == 0 || txn >= (u64{1} << 60)) return bad("txn", txn, 1);
  if (txn % 2 != slot) return bad("txn parity", txn % 2, slot);
  if (r->free_blocks > g.total_blocks) return bad("free_blocks", r->free_blocks, g.total_blocks);
  if (r->node_blocks > g.total_blocks) return bad("node_blocks", r->node_blocks, g.total_blocks);
  if (r->next_object_id == 0) return bad("next_object_id", 0, 1);
  for (const TreeRootDisk &t : r->trees) {
    v = root_impl::check_tree(t, g);
    if (!v.ok()) return v;
    if (t.levels && (t.node.birth == 0 || t.node.birth > txn)) return bad("root birth", t.node.birth, txn);
  }
  if (r->log_tail != 0 && r->log_tail >= g.log_blocks) return bad("log_tail", r->log_tail, g.log_blocks);
  if (r->log_seq >= (u64{1} << 59)) return bad("log_seq", r->log_seq, 0);
  const le64 *desc = root_desc(r);
  for (u64 i = 0; i < g.desc_count; i++)
    if ((desc[i] & kTxnMask) > txn || (desc[i] & kTxnMask) == 0) return bad("descriptor txn", desc[i] & kTxnMask, txn);
  return {};
}

void print_root(Bytes block, TextSink out) {
  const auto *r = reinterpret_cast<const RootDisk *>(block.data());
  char buf[200];
  Printer p(buf);
  auto emit = [&] {
    p.ch('\n');
    out(p.c_str(), p.length());
    p.clear();
  };
  p.str("root slot ").dec(r->slot).str(r->mirror ? " (mirror)" : "").str(" at block ").dec(r->header.addr);
  p.str(" txn ").dec(r->header.txn).str(" crc32c ").hex_fixed(r->header.crc, 8);
  emit();
  p.str("  committed ").dec(r->commit_sec).ch('.').dec(r->commit_nsec).str(" state ").hex(r->state);
  p.str(" next object id ").dec(r->next_object_id);
  emit();
  p.str("  log goes on with piece ").dec(r->log_seq).str(" at block ").dec(r->log_tail).str(" of its region");
  emit();
  p.str("  free blocks ").dec(r->free_blocks).str(", in nodes ").dec(r->node_blocks);
  emit();
  for (u32 i = 0; i < kTrees; i++) {
    if (r->trees[i].levels == 0) continue;
    p.str("  tree ").dec(i).str(": root ").dec(r->trees[i].node.addr).str(" levels ").dec(r->trees[i].levels);
    if (r->trees[i].node.mirror) p.str(" mirror ").dec(r->trees[i].node.mirror);
    p.str(" birth ").dec(r->trees[i].node.birth);
    emit();
  }
  const le64 *desc = root_desc(r);
  u64 n = min_of<u64>(r->desc_count, (block.size() - sizeof(RootDisk)) / 8);
  for (u64 i = 0; i < n; i++) {
    p.str("  descriptor block ")
        .dec(i)
        .str(": home ")
        .dec(desc[i] & kHomeBit ? 1 : 0)
        .str(" txn ")
        .dec(desc[i] & kTxnMask);
    emit();
  }
}

}  // namespace vexfs::disk
