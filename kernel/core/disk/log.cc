// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Intent log: decoder, verifiers, printer.
#include "log.h"

namespace vexfs::disk {

namespace log_impl {
namespace {

Refusal bad(const char *field, u64 found, u64 expected) { return {Cause::bad_field, field, found, expected}; }

usize decode_extent(Bytes in, const Geometry &geo, LogRecord *out) {
  LogExtentDisk e;
  if (in.size() < sizeof e) return 0;
  memcpy(&e, in.data(), sizeof e);
  if (e.count == 0 || !geo.is_data(e.start, e.count)) return 0;
  if (geo.group_of(e.start) != geo.group_of(u64{e.start} + e.count - 1)) return 0;
  out->start = e.start;
  out->count = e.count;
  out->birth = e.birth;
  return sizeof e;
}

bool before(const DiskKey &a, const DiskKey &b) {
  if (a.oid != b.oid) return a.oid < b.oid;
  return a.type != b.type ? a.type < b.type : a.off < b.off;
}

usize decode_item(Bytes in, const Geometry &geo, LogRecord *out) {
  LogItemDisk i;
  if (in.size() < sizeof i) return 0;
  memcpy(&i, in.data(), sizeof i);
  if (i.tree >= kTrees || i.len > in.size() - sizeof i) return 0;
  if (i.len > max_of<u32>(geo.max_item(), max_of<u32>(kBlobBytes, sizeof(DiskKey)))) return 0;
  if (out->op == LogOp::erase && i.len != sizeof(DiskKey)) return 0;
  if (out->op == LogOp::blob && i.len != kBlobBytes) return 0;
  out->tree = i.tree;
  out->at = i.at;
  out->removed = i.removed;
  out->key = i.key;
  out->bytes = in.subspan(sizeof i, i.len);
  if (out->op == LogOp::erase) memcpy(&out->last, out->bytes.data(), sizeof out->last);
  if (out->op == LogOp::erase && before(out->last, out->key)) return 0;
  return sizeof i + i.len;
}

const char *op_name(LogOp op) {
  switch (op) {
    case LogOp::put:
      return "put";
    case LogOp::splice:
      return "splice";
    case LogOp::erase:
      return "erase";
    case LogOp::take:
      return "take";
    case LogOp::give_back:
      return "give back";
    case LogOp::blob:
      return "blob";
  }
  return "?";
}

void print_record(Printer &p, const LogRecord &r) {
  p.str("    ").str(op_name(r.op)).ch(' ');
  if (r.op == LogOp::take || r.op == LogOp::give_back) {
    p.str("blocks ").dec(r.start).ch('+').dec(r.count);
    if (r.op == LogOp::give_back) p.str(" born in ").dec(r.birth);
    return;
  }
  p.str("tree ").dec(r.tree);
  if (r.op == LogOp::blob) return;
  p.ch(' ');
  print_key(p, r.key);
  if (r.op == LogOp::erase) {
    p.str(" to ");
    print_key(p, r.last);
    return;
  }
  if (r.op == LogOp::splice) p.str(" at ").dec(r.at).str(" less ").dec(r.removed);
  p.str(" bytes ").dec(r.bytes.size());
}

}  // namespace
}  // namespace log_impl

usize decode_log_record(Bytes in, const Geometry &geo, LogRecord *out) {
  *out = {};
  if (in.empty()) return 0;
  out->op = static_cast<LogOp>(in[0]);
  switch (out->op) {
    case LogOp::take:
    case LogOp::give_back:
      return log_impl::decode_extent(in, geo, out);
    case LogOp::put:
    case LogOp::splice:
    case LogOp::erase:
    case LogOp::blob:
      return log_impl::decode_item(in, geo, out);
  }
  return 0;
}

Refusal verify_log_header(Bytes block, const Geometry &geo, u64 addr, const LogExpect &expect) {
  using log_impl::bad;
  const auto *p = reinterpret_cast<const LogPieceDisk *>(block.data());
  if (p->header.magic != static_cast<u32>(Magic::log)) return {Cause::bad_magic, "magic", p->header.magic, 0};
  if (p->header.fs_hash != geo.fs_hash) return {Cause::other_filesystem, "fs_hash", p->header.fs_hash, geo.fs_hash};
  if (p->header.addr != addr) return {Cause::misplaced, "addr", p->header.addr, addr};
  if (p->session != expect.session) return bad("session", p->session, expect.session);
  if (p->header.txn != expect.txn) return {Cause::wrong_txn, "txn", p->header.txn, expect.txn};
  if (p->group > p->seq) return bad("group", p->group, p->seq);
  u64 left = geo.log_start + geo.log_blocks - addr;
  if (p->blocks == 0 || p->blocks > left || (u64{p->blocks} << geo.block_shift) > kLogPieceMax)
    return bad("blocks", p->blocks, left);
  if (p->bytes < sizeof(LogPieceDisk) || p->bytes > u64{p->blocks} << geo.block_shift) return bad("bytes", p->bytes, 0);
  return {};
}

Refusal verify_log_piece(Bytes piece, const Geometry &geo, u64 addr) {
  using log_impl::bad;
  Refusal r = verify_header(piece, Magic::log, geo.fs_hash, addr);
  if (!r.ok()) return r;
  const auto *p = reinterpret_cast<const LogPieceDisk *>(piece.data());
  if (p->bytes < sizeof(LogPieceDisk) || p->bytes > piece.size()) return bad("bytes", p->bytes, piece.size());
  Bytes rest = piece.first(p->bytes).subspan(sizeof(LogPieceDisk));
  u32 n = 0;
  for (LogRecord rec; !rest.empty(); n++) {
    usize len = decode_log_record(rest, geo, &rec);
    if (len == 0) return bad("record", n, p->records);
    rest = rest.subspan(len);
  }
  return n == p->records ? Refusal{} : bad("records", n, p->records);
}

void print_log_piece(Bytes piece, const Geometry &geo, bool with_records, TextSink out) {
  const auto *h = reinterpret_cast<const LogPieceDisk *>(piece.data());
  char buf[200];
  Printer p(buf);
  auto emit = [&] {
    p.ch('\n');
    out(p.c_str(), p.length());
    p.clear();
  };
  p.str("log piece ")
      .dec(h->seq)
      .str(" of group ")
      .dec(h->group)
      .str(" at block ")
      .dec(h->header.addr)
      .str(" txn ")
      .dec(h->header.txn);
  p.str(" blocks ").dec(h->blocks).str(" bytes ").dec(h->bytes).str(" records ").dec(h->records);
  if (h->flags & kLogLast) p.str(" last");
  emit();
  if (!with_records || h->bytes > piece.size() || h->bytes < sizeof *h) return;
  Bytes rest = piece.first(h->bytes).subspan(sizeof *h);
  LogRecord rec;
  while (usize len = decode_log_record(rest, geo, &rec)) {
    log_impl::print_record(p, rec);
    emit();
    rest = rest.subspan(len);
  }
}

}  // namespace vexfs::disk
