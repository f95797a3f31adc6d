// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Tree node verifier and printer.
#include "node.h"

namespace vexfs::disk {

namespace node_impl {
namespace {

Refusal bad(const char *field, u64 found, u64 expected) { return {Cause::bad_field, field, found, expected}; }

bool key_less(const DiskKey &a, const DiskKey &b) {
  if (a.oid != b.oid) return a.oid < b.oid;
  if (a.type != b.type) return a.type < b.type;
  return a.off < b.off;
}

Refusal check_leaf(Bytes node) {
  const auto *h = reinterpret_cast<const NodeHeader *>(node.data());
  const auto *it = reinterpret_cast<const LeafItem *>(node.data() + sizeof(NodeHeader));
  u32 size = static_cast<u32>(node.size()), n = h->count, heap = h->heap;
  if (n > (size - sizeof(NodeHeader)) / sizeof(LeafItem)) return bad("count", n, size / sizeof(LeafItem));
  u32 items_end = static_cast<u32>(sizeof(NodeHeader) + n * sizeof(LeafItem));
  if (heap < items_end || heap > size) return bad("heap", heap, size);
  u32 live = 0, longest = max_item_bytes(size);
  for (u32 i = 0; i < n; i++) {
    u32 pos = it[i].pos, len = it[i].len;
    if (len > longest) return {Cause::out_of_bounds, "item length", len, longest};
    if (len && (pos < heap || pos + len > size)) return {Cause::out_of_bounds, "item position", pos, heap};
    if (i && !key_less(it[i - 1].key, it[i].key)) return {Cause::out_of_order, "key of item", i, 0};
    live += len;
  }
  if (live != h->live || live > size - heap) return bad("live", h->live, live);
  return {};
}

Refusal check_branch(Bytes node, const Geometry &geo) {
  const auto *h = reinterpret_cast<const NodeHeader *>(node.data());
  const auto *it = reinterpret_cast<const BranchItem *>(node.data() + sizeof(NodeHeader));
  u32 n = h->count, cap = branch_capacity(static_cast<u32>(node.size()));
  if (n == 0 || n > cap) return bad("count", n, cap);
  for (u32 i = 0; i < n; i++) {
    if (!sound_pointer(it[i].child, geo))
      return {Cause::out_of_bounds, "child address", it[i].child.addr, it[i].child.mirror};
    if (it[i].child.birth == 0 || it[i].child.birth > h->header.txn)
      return bad("child birth", it[i].child.birth, h->header.txn);
    if (i && !key_less(it[i - 1].key, it[i].key)) return {Cause::out_of_order, "key of item", i, 0};
  }
  return {};
}

}  // namespace
}  // namespace node_impl

Refusal verify_node_items(Bytes node, const Geometry &geo) {
  const auto *h = reinterpret_cast<const NodeHeader *>(node.data());
  if (h->level >= kMaxLevels) return node_impl::bad("level", h->level, kMaxLevels - 1);
  return h->level ? node_impl::check_branch(node, geo) : node_impl::check_leaf(node);
}

Refusal verify_node(Bytes node, const Geometry &geo, const NodeExpect &e) {
  Refusal v = verify_header(node, Magic::node, geo.fs_hash, e.addr);
  if (!v.ok()) return v;
  const auto *h = reinterpret_cast<const NodeHeader *>(node.data());
  if (h->header.txn != e.birth) return {Cause::wrong_txn, "txn", h->header.txn, e.birth};
  if (h->tree != e.tree) return {Cause::wrong_kind, "tree", h->tree, e.tree};
  if (h->level != e.level) return {Cause::wrong_kind, "level", h->level, e.level};
  return verify_node_items(node, geo);
}

void print_key(Printer &p, const DiskKey &k) { p.ch('(').dec(k.oid).ch(' ').dec(k.type).ch(' ').hex(k.off).ch(')'); }

void print_node(Bytes node, bool with_items, TextSink out) {
  const auto *h = reinterpret_cast<const NodeHeader *>(node.data());
  char buf[200];
  Printer p(buf);
  p.str("node ").dec(h->header.addr).str(" tree ").dec(h->tree).str(" level ").dec(h->level);
  p.str(" txn ").dec(h->header.txn).str(" items ").dec(h->count).str(" live ").dec(h->live);
  p.str(" crc32c ").hex_fixed(h->header.crc, 8).ch('\n');
  out(p.c_str(), p.length());
  if (!with_items) return;
  usize item = h->level ? sizeof(BranchItem) : sizeof(LeafItem);
  u64 n = min_of<u64>(h->count, (node.size() - sizeof(NodeHeader)) / item);
  for (u64 i = 0; i < n; i++) {
    const u8 *at = node.data() + sizeof(NodeHeader) + i * item;
    p.clear();
    p.str("  ").pad_dec(i, 4).ch(' ');
    if (h->level) {
      const auto *b = reinterpret_cast<const BranchItem *>(at);
      print_key(p, b->key);
      p.str(" -> ").dec(b->child.addr);
      if (b->child.mirror) p.str(" mirror ").dec(b->child.mirror);
      p.str(" birth ").dec(b->child.birth);
    } else {
      const auto *l = reinterpret_cast<const LeafItem *>(at);
      print_key(p, l->key);
      p.str(" len ").dec(l->len).str(" at ").dec(l->pos);
    }
    p.ch('\n');
    out(p.c_str(), p.length());
  }
}

}  // namespace vexfs::disk
