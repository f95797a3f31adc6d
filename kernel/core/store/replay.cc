// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Mounting after a crash: what the intent log has beyond the newest root is done again, and committed.
//
// Everything happens in one transaction and becomes durable with its root, so a crash in between changes nothing: the
// next mount does the same again. Records say what an item or a block is, not what was asked for, and each is applied
// once to exactly the state that it was made in. Blocks that the log took hold data already: they are marked busy
// before anything else, so that no tree node is put there.
#include "log_reader.h"
#include "state.h"

namespace vexfs::store {

namespace replay_impl {
namespace {

Key key_of_disk(const disk::DiskKey &k) { return {k.oid, k.type, k.off}; }

template <class F>
Status each_record(const disk::LogPieceDisk &head, Bytes piece, const disk::Geometry &geo, F &&fn) {
  disk::LogRecord r;
  Bytes records = piece.first(head.bytes).subspan(sizeof head);
  while (!records.empty()) {
    usize n = disk::decode_log_record(records, geo, &r);
    if (n == 0) return Errno::corrupt;
    VX_TRY(fn(r));
    records = records.subspan(n);
  }
  return {};
}

class Replayer : Pinned {
 public:
  explicit Replayer(State &s) : s_(s) {}
  Status init() {
    VX_TRY(old_.resize(s_.geo.max_item()));
    return new_.resize(s_.geo.max_item());
  }
  Status apply(Handle &h, const disk::LogRecord &r);

 private:
  Status splice(Handle &h, Tree &t, const disk::LogRecord &r);
  State &s_;
  Vec<u8> old_, new_;
};

Status Replayer::splice(Handle &h, Tree &t, const disk::LogRecord &r) {
  Key key = key_of_disk(r.key);
  Result<usize> got = t.get(key, {old_.data(), old_.size()});
  if (!got.ok()) return got.code() == Errno::noent || got.code() == Errno::range ? Errno::corrupt : got.error();
  usize from = usize{r.at} + r.removed, n = *got;
  if (from > n || n - r.removed + r.bytes.size() > new_.size()) return Errno::corrupt;
  memcpy(new_.data(), old_.data(), r.at);
  if (!r.bytes.empty()) memcpy(new_.data() + r.at, r.bytes.data(), r.bytes.size());
  memcpy(new_.data() + r.at + r.bytes.size(), old_.data() + from, n - from);
  return t.update(h, key, {new_.data(), n - r.removed + r.bytes.size()});
}

Status Replayer::apply(Handle &h, const disk::LogRecord &r) {
  Tree &t = s_.trees[r.tree];
  switch (r.op) {
    case disk::LogOp::put:
      return t.upsert(h, key_of_disk(r.key), r.bytes);
    case disk::LogOp::splice:
      return splice(h, t, r);
    case disk::LogOp::erase: {
      Result<usize> n = t.erase_range(h, key_of_disk(r.key), key_of_disk(r.last), ~usize{0}, [](const Key &, Bytes) {});
      return n.ok() ? Status() : Status(n.error());
    }
    case disk::LogOp::take:
      s_.add_delta({r.start, r.count}, false);
      return {};
    case disk::LogOp::give_back:
      s_.free_blocks({r.start, r.count}, r.birth);
      return s_.abort_code.load() ? Status(Errno::corrupt) : Status();
    case disk::LogOp::blob: {
      Guard g(s_.lock);
      s_.changed = true;
      memcpy(s_.blobs[r.tree], r.bytes.data(), disk::kBlobBytes);
      return {};
    }
  }
  return Errno::corrupt;
}

Status claim_blocks(State &s, LogReader &reader) {
  return reader.for_each([&](const disk::LogPieceDisk &head, Bytes piece) {
    return each_record(head, piece, s.geo, [&](const disk::LogRecord &r) -> Status {
      return r.op == disk::LogOp::take ? s.alloc.take_exactly({r.start, r.count}) : Status();
    });
  });
}

Status apply_all(State &s, LogReader &reader) {
  Replayer replayer(s);
  VX_TRY(replayer.init());
  // One handle, so that no commit comes in between: its root would say that all of this transaction is in it.
  Handle h = VX_TRY(s.begin({.items = 16, .freeing = true}));
  Status st = reader.for_each([&](const disk::LogPieceDisk &head, Bytes piece) {
    if (head.next_object_id > s.next_object_id.load()) s.next_object_id.store(head.next_object_id);
    return each_record(head, piece, s.geo, [&](const disk::LogRecord &r) { return replayer.apply(h, r); });
  });
  if (!st.ok()) h.abort(st.error());
  return st;
}

u64 new_session() {
  u64 n = 0;
  while (n == 0) vx_random_bytes(&n, sizeof n);
  return n;
}

// Is the log to be replayed here (*go)? An error is what the mount fails with.
Status may_replay(State &s, const LogReader &reader, bool *go) {
  *go = reader.groups() != 0;
  if (s.opts.ignore_log && s.opts.read_only) {
    s.log_ignored = *go;
    if (*go)
      LogLine(s.dev, VX_LOG_NOTICE)
          .str("the intent log holds ")
          .dec(reader.groups())
          .str(" syncs that the last commit does not; they are left alone");
    *go = false;
    return {};
  }
  if (!*go || !s.opts.read_only || !(s.ro_features || vx_bdev_read_only(s.dev))) return {};
  LogLine(s.dev, VX_LOG_ERR)
      .str("the intent log holds ")
      .dec(reader.groups())
      .str(" syncs to be recovered, but nothing can be written (norecovery shows the last commit)");
  return Errno::rofs;
}

}  // namespace
}  // namespace replay_impl

Status State::replay() {
  if (!geo.has_log) return {};
  LogReader reader(dev, geo, *reinterpret_cast<const disk::RootDisk *>(root_buf[0]));
  Status scanned = reader.scan();
  if (!scanned.ok() && !(opts.ignore_log && opts.read_only)) {
    LogLine(dev, VX_LOG_ERR).str("the intent log cannot be read: error ").sdec(scanned.error().negative());
    return scanned;
  }
  if (reader.newer()) VX_TRY(newer_lost("the intent log goes on after a later root", durable_txn.load()));
  bool go;
  VX_TRY(replay_impl::may_replay(*this, reader, &go));
  log.position(reader.end(), replay_impl::new_session());
  if (reader.hole()) {
    LogLine(dev, VX_LOG_ERR)
        .str("the intent log is damaged: of what was synced since the last commit, the end is lost");
    root_state.fetch_or(disk::kRootStateErrors);
  }
  if (!go) return {};
  bool ro = read_only.exchange(false);
  Status st = replay_impl::claim_blocks(*this, reader);
  if (st.ok()) st = replay_impl::apply_all(*this, reader);
  if (st.ok()) st = commit(false);
  read_only.store(ro);
  if (!st.ok()) {
    LogLine(dev, VX_LOG_ERR).str("the intent log cannot be replayed: error ").sdec(st.error().negative());
    return st;
  }
  counters.log_replayed.store(reader.records(), std::memory_order_relaxed);
  LogLine(dev, VX_LOG_NOTICE)
      .str("replayed ")
      .dec(reader.groups())
      .str(" syncs from the intent log, ")
      .dec(reader.records())
      .str(" records");
  return {};
}

}  // namespace vexfs::store
