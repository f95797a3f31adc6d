// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Intent log: recording changes in memory, and writing what has gathered.
#include "log.h"

#include "state.h"

namespace vexfs::store {

namespace log_impl {
namespace {

constexpr u64 kMemoryMax = u64{16} << 20;  // bytes of records in memory; beyond that a commit is cheaper anyway

disk::DiskKey disk_key(const Key &k) {
  disk::DiskKey d;
  d.oid = k.oid;
  d.off = k.off;
  d.type = k.type;
  return d;
}

usize common_prefix(Bytes a, Bytes b) {
  usize n = min_of(a.size(), b.size()), i = 0;
  while (i < n && a[i] == b[i]) i++;
  return i;
}

usize common_suffix(Bytes a, Bytes b) {
  usize n = min_of(a.size(), b.size()), i = 0;
  while (i < n && a[a.size() - 1 - i] == b[b.size() - 1 - i]) i++;
  return i;
}

}  // namespace
}  // namespace log_impl

Log::Log(State &s) : s_(s), lock_("vexfs_log") {}

Log::~Log() {
  give(first_);
  while (LogChunk *c = spare_) {
    spare_ = c->next;
    vx_free_large(c->data, disk::kLogPieceMax);
    vx_free(c);
  }
}

void Log::position(u64 tail, u64 session) {
  const disk::Geometry &g = s_.geo;
  if (!g.has_log) return;
  blocks_ = g.log_blocks;
  piece_blocks_ = disk::kLogPieceMax >> g.block_shift;
  chunks_max_ =
      static_cast<u32>(min_of<u64>(log_impl::kMemoryMax, (blocks_ << g.block_shift) / 2) / disk::kLogPieceMax);
  seq_ = 1;
  head_ = tail < blocks_ ? tail : 0;
  session_ = session;
  used_ = 0;
  rooted_ = false;
}

void Log::enable(bool on) { recording_.store(on && blocks_ != 0, std::memory_order_relaxed); }

// ---------------------------------------------------------------- recording
LogChunk *Log::fresh() {
  {
    Guard g(lock_);
    if (LogChunk *c = spare_) {
      spare_ = c->next;
      spares_--;
      c->next = nullptr;
      return c;
    }
  }
  void *m = vx_alloc(sizeof(LogChunk), 0);
  if (!m) return nullptr;
  auto *c = new (m) LogChunk;
  c->data = static_cast<u8 *>(vx_alloc_large(disk::kLogPieceMax, 0));
  if (c->data) return c;
  vx_free(c);
  return nullptr;
}

void Log::give(LogChunk *list) {
  while (LogChunk *c = list) {
    list = c->next;
    c->used = c->records = 0;
    {
      Guard g(lock_);
      if (spares_ < kSpareMax) {
        c->next = spare_;
        spare_ = c;
        spares_++;
        continue;
      }
    }
    vx_free_large(c->data, disk::kLogPieceMax);
    vx_free(c);
  }
}

template <class F>
void Log::record(usize bytes, F &&fill) {
  if (!enabled()) return;
  LogChunk *extra = nullptr, *drop = nullptr;
  for (;;) {
    bool full = false;
    {
      Guard g(lock_);
      if (overflow_) {
        drop = extra;
        extra = nullptr;
        break;
      }
      if (extra && (!last_ || last_->used + bytes > disk::kLogPieceMax)) {
        extra->used = sizeof(disk::LogPieceDisk);
        extra->records = 0;
        (last_ ? last_->next : first_) = extra;
        last_ = extra;
        chunks_++;
        extra = nullptr;
      }
      if (last_ && last_->used + bytes <= disk::kLogPieceMax) {
        fill(last_->data + last_->used);
        last_->used += static_cast<u32>(bytes);
        last_->records++;
        drop = extra;
        extra = nullptr;
        break;
      }
      full = chunks_ >= chunks_max_;
    }
    if (!full) extra = fresh();
    if (extra) continue;
    Guard g(lock_);
    overflow_ = true;
    drop = first_;
    first_ = last_ = nullptr;
    chunks_ = 0;
    s_.counters.log_overflows.fetch_add(1, std::memory_order_relaxed);
    break;
  }
  give(drop);
}

void Log::item(disk::LogOp op, u8 tree, const Key &key, Bytes bytes, usize at, usize removed) {
  if (tree == static_cast<u8>(TreeId::dead)) return;  // follows from what is freed, also when that is replayed
  record(sizeof(disk::LogItemDisk) + bytes.size(), [&](u8 *out) {
    disk::LogItemDisk i;
    i.op = static_cast<u8>(op);
    i.tree = tree;
    i.len = static_cast<u16>(bytes.size());
    i.at = static_cast<u16>(at);
    i.removed = static_cast<u16>(removed);
    i.key = log_impl::disk_key(key);
    memcpy(out, &i, sizeof i);
    if (!bytes.empty()) memcpy(out + sizeof i, bytes.data(), bytes.size());
  });
}

void Log::put(u8 tree, const Key &key, Bytes value) { item(disk::LogOp::put, tree, key, value, 0, 0); }

void Log::replace(u8 tree, const Key &key, Bytes old, Bytes value) {
  if (!enabled()) return;
  usize head = log_impl::common_prefix(old, value);
  usize tail = log_impl::common_suffix(old.subspan(head), value.subspan(head));
  item(disk::LogOp::splice, tree, key, value.subspan(head, value.size() - head - tail), head, old.size() - head - tail);
}

void Log::patch(u8 tree, const Key &key, u32 at, Bytes bytes) {
  item(disk::LogOp::splice, tree, key, bytes, at, bytes.size());
}

void Log::erase(u8 tree, const Key &first, const Key &last) {
  disk::DiskKey end = log_impl::disk_key(last);
  item(disk::LogOp::erase, tree, first, bytes_of(end), 0, 0);
}

void Log::extent(Extent e, bool is_free, u64 birth) {
  const disk::Geometry &geo = s_.geo;
  while (e.count) {  // a record stays within a group
    u64 g = geo.group_of(e.start);
    u64 n = min_of<u64>(e.count, geo.group_start(g) + geo.group_len(g) - e.start);
    record(sizeof(disk::LogExtentDisk), [&](u8 *out) {
      disk::LogExtentDisk x{};
      x.op = static_cast<u8>(is_free ? disk::LogOp::give_back : disk::LogOp::take);
      x.count = static_cast<u32>(n);
      x.start = e.start;
      x.birth = birth;
      memcpy(out, &x, sizeof x);
      if (!is_free) after_data_ = true;
    });
    e.start += n;
    e.count -= n;
  }
}

void Log::blob(u8 tree, const u8 (&blob)[kUserBlobBytes]) { item(disk::LogOp::blob, tree, {}, blob, 0, 0); }

void Log::data_written() {
  if (!enabled()) return;
  Guard g(lock_);
  after_data_ = true;
}

// ------------------------------------------------------------------ writing
u32 Log::blocks_of(const LogChunk &c) const { return div_up(c.used, s_.geo.block_size); }

bool Log::must_commit() {
  Guard g(lock_);
  // Pieces of the last mount may lie where the next ones go. Only the session of this mount, which no piece has ever had,
  // keeps them apart, and a root must say that first.
  if (overflow_ || !rooted_) return true;
  u64 need = 0;
  for (LogChunk *c = first_; c; c = c->next) need += blocks_of(*c);
  // A piece that does not fit before the end of the region begins at its start: that much may be lost once.
  return used_ + need + 2 * u64{piece_blocks_} > blocks_;
}

LogCut Log::take() {
  Guard g(lock_);
  LogCut c{first_, after_data_};
  first_ = last_ = nullptr;
  chunks_ = 0;
  after_data_ = false;
  return c;
}

Status Log::write(LogCut &cut, u64 txn, u64 next_object_id, bool fua) {
  const disk::Geometry &geo = s_.geo;
  s_.batch.clear();
  int err = 0;
  u64 bytes = 0, group = seq_;
  for (LogChunk *c = cut.head; c && err == 0; c = c->next) {
    u32 n = blocks_of(*c);
    if (blocks_ - head_ < piece_blocks_) {  // the reader goes by the same rule
      used_ += blocks_ - head_;
      head_ = 0;
    }
    usize len = usize{n} << geo.block_shift;
    memset(c->data + c->used, 0, len - c->used);
    disk::LogPieceDisk p{};
    p.seq = seq_++;
    p.blocks = n;
    p.bytes = c->used;
    p.next_object_id = next_object_id;
    p.records = c->records;
    p.flags = c->next ? 0 : disk::kLogLast;
    p.group = group;
    p.session = session_;
    memcpy(c->data, &p, sizeof p);
    disk::seal_block({c->data, len}, disk::Magic::log, geo.fs_hash, geo.log_start + head_, txn);
    vx_io io = {};
    io.off = (geo.log_start + head_) << geo.block_shift;
    io.len = len;
    io.buf = c->data;
    io.flags = VX_IO_WRITE | VX_IO_META | (fua && !c->next ? VX_IO_FUA : 0);
    head_ += n;
    if (head_ == blocks_) head_ = 0;
    used_ += n;
    bytes += len;
    if (s_.batch.size() == State::kIoBatch) {
      err = vx_bdev_submit(s_.dev, s_.batch.data(), s_.batch.size());
      s_.batch.clear();
    }
    (void)s_.batch.push(io).ok();  // capacity was reserved at open
  }
  if (err == 0 && !s_.batch.empty()) err = vx_bdev_submit(s_.dev, s_.batch.data(), s_.batch.size());
  s_.batch.clear();
  s_.counters.log_bytes.fetch_add(bytes, std::memory_order_relaxed);
  return err ? Status(static_cast<Errno>(-err)) : Status();
}

void Log::drop(LogCut &cut) { give(std::exchange(cut.head, nullptr)); }

void Log::forget() {
  LogCut c = take();
  {
    Guard g(lock_);
    overflow_ = false;
  }
  give(c.head);
}

void Log::committed() {
  used_ = 0;
  rooted_ = true;
}

}  // namespace vexfs::store
