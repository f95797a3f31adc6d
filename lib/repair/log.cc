// SPDX-License-Identifier: MIT
// Repair: what was synced after the last commit. The records are changes of items, so they are done to the items in
// memory; what they say of blocks follows from the items.
#include "../../kernel/core/store/log_reader.h"
#include "model.h"

namespace vexfs::repair {
namespace {

Key key_of(const disk::DiskKey &k) { return {k.oid, k.type, k.off}; }

bool lost_key(const TreeModel &t, const Key &k) {
  for (const LostRange &r : t.lost)
    if (r.has(k)) return true;
  return false;
}

// False: the item that is to be changed is not there, or not as it was.
bool splice(Items &items, const disk::LogRecord &r) {
  auto it = items.find(key_of(r.key));
  if (it == items.end()) return false;
  Value &v = it->second;
  const usize from = usize{r.at} + r.removed;
  if (from > v.size()) return false;
  Value now(v.begin(), v.begin() + r.at);
  now.insert(now.end(), r.bytes.begin(), r.bytes.end());
  now.insert(now.end(), v.begin() + static_cast<ptrdiff_t>(from), v.end());
  v = std::move(now);
  return true;
}

bool apply(Model &m, const disk::LogRecord &r) {
  if (r.op == disk::LogOp::take || r.op == disk::LogOp::give_back) return true;
  if (r.op == disk::LogOp::blob) {
    memcpy(m.blobs[r.tree], r.bytes.data(), disk::kBlobBytes);
    m.header_wrong = true;
    return true;
  }
  TreeModel &t = m.trees[r.tree];
  t.changed = true;
  if (r.op == disk::LogOp::put) {
    t.items[key_of(r.key)] = Value(r.bytes.begin(), r.bytes.end());
    return true;
  }
  if (r.op == disk::LogOp::splice) return splice(t.items, r) || lost_key(t, key_of(r.key));
  if (key_of(r.last) < key_of(r.key)) return false;
  t.items.erase(t.items.lower_bound(key_of(r.key)), t.items.upper_bound(key_of(r.last)));
  return true;
}

}  // namespace

void replay_log(Model &m) {
  if (!m.geo.has_log) return;
  store::LogReader log(m.dev, m.geo, m.root());
  const Status scanned = log.scan();
  if (!scanned.ok())
    m.ask("the intent log cannot be read to its end: what was synced since the last commit is lost from there on");
  if (log.hole()) m.ask("the intent log is damaged: of what was synced since the last commit, the end is lost");
  if (log.newer()) m.ask("the intent log goes on after a later root: that one, and what was synced after it, is lost");
  if (log.groups() == 0) {
    if (!scanned.ok() || log.hole() || log.newer()) m.header_wrong = true;
    return;
  }
  u64 failed = 0;
  const Status st = log.for_each([&](const disk::LogPieceDisk &head, Bytes piece) -> Status {
    m.next_object_id = max_of<u64>(m.next_object_id, head.next_object_id);
    Bytes records = piece.first(head.bytes).subspan(sizeof head);
    while (!records.empty()) {
      disk::LogRecord r;
      const usize n = disk::decode_log_record(records, m.geo, &r);
      if (n == 0) return Errno::corrupt;
      failed += !apply(m, r);
      records = records.subspan(n);
    }
    return {};
  });
  m.header_wrong = true;
  m.safe(cat("the intent log is replayed: ", log.groups(), " syncs, ", log.records(), " changes"));
  if (!st.ok()) m.ask("the intent log could not be read to its end");
  if (failed) m.ask(cat("the intent log: ", failed, " changes of items that are not there were left out"));
}

}  // namespace vexfs::repair
