// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The edge of the vector room: commands of include/uapi/vexfs.h, decoded and checked once, for the kernel, FUSE, tools
// and fuzzers alike. Everything that comes through vx_caller is hostile.
#pragma once
#include "../uapi.h"
#include "engine.h"
#include "search.h"

namespace vexfs::vector {

// A large buffer, charged to the caller's memory cgroup.
class CallBuffer : Pinned {
 public:
  ~CallBuffer() {
    if (p_) vx_free_large(p_, n_);
  }
  // Of zeros, unless it is `filled` before it is read, by us: what a caller gets to see holds nobody's old bytes.
  Status make(usize n, bool filled = false) {
    VX_ASSERT(!p_);
    p_ = vx_alloc_large(n, VX_ALLOC_ACCOUNT | (filled ? 0u : unsigned{VX_ALLOC_ZERO}));
    n_ = n;
    return p_ ? Status() : Status(Errno::nomem);
  }
  u8 *bytes() const { return static_cast<u8 *>(p_); }
  template <class T>
  T *as() const {
    return static_cast<T *>(p_);
  }
  usize size() const { return n_; }

 private:
  void *p_ = nullptr;
  usize n_ = 0;
};

// One command in progress.
class Call : Pinned {
 public:
  Call(Engine &e, fs::Inode &ip, u64 uarg, vx_caller &c) : engine_(e), ip_(ip), uarg_(uarg), caller_(c) {}

  Status collection_create();
  Status collection_alter();
  Status collection_drop();
  Status collection_info();
  Status collection_list();
  Status add();
  Status get();
  Status update();
  Status remove();
  Status batch();
  Status search();
  Status hybrid();
  Status manage_index();
  Status get_stats();
  Status snapshot_create();
  Status snapshot_delete();
  Status snapshot_rollback();
  Status snapshot_diff();
  Status snapshot_rows();
  Status parent();
  Status fs_info();
  Status snapshot_info();
  Status snapshot_list();
  Status scrub();

 private:
  // ---- argument structs, in the manner of copy_struct_from_user
  template <class T>
  Status read_arg(T *out) {
    return read_struct(out, sizeof(T));
  }
  template <class T>
  Status write_arg(const T &v) {
    return copy_out(uarg_, &v, min_of<usize>(user_size_, sizeof(T)));
  }
  Status read_struct(void *out, usize known);
  Status copy_in(void *dst, u64 uaddr, usize n);
  Status copy_out(u64 uaddr, const void *src, usize n);
  static bool all_zero(const __u64 *p, u32 n);

  // ---- who may
  Result<CollectionRef> target(u64 id, bool write);  // write: of the collection itself
  Status may(u64 ino, unsigned mask);
  Status may_change(Collection &c, u64 owner);  // rows of this owner (0: none)
  static bool interrupted(void *ctx);

  // ---- pieces shared by commands
  void describe(Collection &c, vexfs_collection *out);
  Status checked_params(const vexfs_collection &v, CollectionParams *out);
  Status check_source(Collection &c, u32 dim, u16 element, bool *as_f32);
  Status encode(Collection &c, const void *src, bool as_f32, void *row, u32 *aux);
  Result<fs::InodeRef> owner_inode(u64 ino);
  Status one_row(RowOp op, u32 known_flags);
  Status resolve_owner(const vexfs_embedding &v, u64 *ino);
  Status fill_row(Collection &c, u32 slot, vexfs_row *row, void *data, bool as_f32);
  Status durable(bool wanted);
  Result<u64> snapshot_id(const vexfs_snapshot &v);
  Status describe_snapshot(u64 id, bool account, vexfs_snapshot *out);

  Status diff_files(const store::Volume &from, const store::Volume &to, vexfs_snapshot_diff &v);
  Status diff_collections(const store::Volume &from, const store::Volume &to, vexfs_snapshot_diff &v);
  bool give_change(vexfs_snapshot_diff &v, const vexfs_change &c, Status *st);

  struct RowDiff;
  Status rows_of_collection(RowDiff &d, vexfs_snapshot_rows &v);
  Status rows_of_owner(RowDiff &d, vexfs_snapshot_rows &v);
  bool give_rows(RowDiff &d, vexfs_snapshot_rows &v, u64 first, u64 begin);

  Status scrub_some(vexfs_scrub &v, u64 &budget);
  bool report(vexfs_scrub &v, const vexfs_found &f);
  struct PastScrub;
  Result<bool> scrub_snapshots(vexfs_scrub &v, u64 &budget);
  Status scrub_snapshot(PastScrub &s);
  Result<bool> scrub_past_piece(PastScrub &s, u64 part);
  Result<bool> scrub_past_nodes(PastScrub &s);
  bool scrub_unreadable(vexfs_scrub &v, u64 id);

  struct Piece;
  Status batch_write(Collection &c, vexfs_batch &b, RowOp op);
  Status batch_delete(Collection &c, vexfs_batch &b);
  Status batch_get(Collection &c, vexfs_batch &b);
  Status take_piece(Collection &c, const vexfs_batch &b, RowOp op, u64 first_id, Piece &p);
  Status take_row(Collection &c, const vexfs_batch &b, RowOp op, Piece &p, u32 i);
  Status give_piece(const vexfs_batch &b, Piece &p);
  Status inherit_owner(Collection &c, u64 id, NewRow *row, fs::InodeRef *ref);

  Status check_search(Collection &c, const vexfs_search &s);
  Status run_search(Collection &c, vexfs_search &s, const vexfs_filter *filters, u32 nfilters, u32 *plan);
  Status like_query(Collection &c, vexfs_search &s, void *row, simd::Query *q, u64 *owner);
  Status change_index(Collection &c, const vexfs_index &x);
  void describe_index(Collection &c, vexfs_index *out);
  void describe_recall(Collection &c, u32 target, vexfs_index *out);
  Status add_stats(u32 cid, const disk::ConfigItem &config, const disk::StateItem &state, vexfs_stats *out);

  Engine &engine_;
  fs::Inode &ip_;
  u64 uarg_;
  vx_caller &caller_;
  usize user_size_ = 0;
  bool fault_ = false;  // an array of the caller's cannot be written
};

// One command; cmd's size and direction bits do not count. A negative errno as in api.h.
int dispatch(Engine &e, fs::Inode &ip, u32 cmd, u64 uarg, vx_caller &c);

}  // namespace vexfs::vector
