// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Dispatch of commands, their argument structs, permissions, and the commands on collections.
#include "ioctl.h"

#include "../base/utf8.h"
#include "insist.h"

namespace vexfs::vector {
namespace ioctl_impl {
namespace {

constexpr usize arg_max = 4096;  // bytes of an argument struct, whatever version it is of

// The numbers of the header, without direction and size: a caller with another version of a struct uses the same.
#pragma push_macro("_IOWR")
#undef _IOWR
#define _IOWR(type, nr, arg) ((type) << 8 | (nr))
Status run(Call &call, u32 cmd) {
  switch (cmd) {
    case VEXFS_IOCTL_COLLECTION_CREATE:
      return call.collection_create();
    case VEXFS_IOCTL_COLLECTION_ALTER:
      return call.collection_alter();
    case VEXFS_IOCTL_COLLECTION_DROP:
      return call.collection_drop();
    case VEXFS_IOCTL_COLLECTION_INFO:
      return call.collection_info();
    case VEXFS_IOCTL_COLLECTION_LIST:
      return call.collection_list();
    case VEXFS_IOCTL_ADD_EMBEDDING:
      return call.add();
    case VEXFS_IOCTL_GET_EMBEDDING:
      return call.get();
    case VEXFS_IOCTL_UPDATE_EMBEDDING:
      return call.update();
    case VEXFS_IOCTL_DELETE_EMBEDDING:
      return call.remove();
    case VEXFS_IOCTL_BATCH_OPERATIONS:
      return call.batch();
    case VEXFS_IOCTL_VECTOR_SEARCH:
      return call.search();
    case VEXFS_IOCTL_HYBRID_SEARCH:
      return call.hybrid();
    case VEXFS_IOCTL_MANAGE_INDEX:
      return call.manage_index();
    case VEXFS_IOCTL_GET_VECTOR_STATS:
      return call.get_stats();
    case VEXFS_IOCTL_SNAPSHOT_CREATE:
      return call.snapshot_create();
    case VEXFS_IOCTL_SNAPSHOT_DELETE:
      return call.snapshot_delete();
    case VEXFS_IOCTL_SNAPSHOT_ROLLBACK:
      return call.snapshot_rollback();
    case VEXFS_IOCTL_SNAPSHOT_DIFF:
      return call.snapshot_diff();
    case VEXFS_IOCTL_SNAPSHOT_ROWS:
      return call.snapshot_rows();
    case VEXFS_IOCTL_PARENT:
      return call.parent();
    case VEXFS_IOCTL_FS_INFO:
      return call.fs_info();
    case VEXFS_IOCTL_SNAPSHOT_INFO:
      return call.snapshot_info();
    case VEXFS_IOCTL_SNAPSHOT_LIST:
      return call.snapshot_list();
    case VEXFS_IOCTL_SCRUB:
      return call.scrub();
    default:
      return Errno::notty;
  }
}
#undef _IOWR
#pragma pop_macro("_IOWR")

// Valid UTF-8, NUL-terminated, zero after it.
bool good_text(const char (&s)[disk::kNameBytes]) {
  usize i = 0;
  while (i < sizeof s && s[i]) {
    usize n = utf8_character({reinterpret_cast<const u8 *>(s), sizeof s}, i);
    if (n == 0) return false;
    i += n;
  }
  if (i == sizeof s) return false;
  for (; i < sizeof s; i++)
    if (s[i]) return false;
  return true;
}

IndexParams index_params(const vexfs_collection &v) {
  IndexParams p;
  p.kind = static_cast<IndexKind>(v.index);
  if (v.m) p.m = v.m;
  p.ef_construction = v.ef_construction;
  p.lists = v.lists;
  p.probes = v.probes;
  p.pq_m = v.pq_m;
  p.tables = v.tables;
  p.bits = v.bits;
  p.codes = v.codes;
  return p;
}

}  // namespace
}  // namespace ioctl_impl

int dispatch(Engine &e, fs::Inode &ip, u32 cmd, u64 uarg, vx_caller &c) {
  Call call(e, ip, uarg, c);
  return ioctl_impl::run(call, cmd & 0xffff).to_c();
}

// ------------------------------------------------------------------------------------------------------ copying,
// rights
Status Call::copy_in(void *dst, u64 uaddr, usize n) {
  if (n == 0) return {};
  return caller_.copy_in(&caller_, dst, uaddr, n) == 0 ? Status() : Status(Errno::fault);
}

Status Call::copy_out(u64 uaddr, const void *src, usize n) {
  if (n == 0) return {};
  return caller_.copy_out(&caller_, uaddr, src, n) == 0 ? Status() : Status(Errno::fault);
}

Status Call::read_struct(void *out, usize known) {
  u32 size;
  VX_TRY(copy_in(&size, uarg_, sizeof size));
  if (size < 8) return Errno::inval;
  if (size > ioctl_impl::arg_max) return Errno::toobig;
  memset(out, 0, known);
  VX_TRY(copy_in(out, uarg_, min_of<usize>(size, known)));
  memcpy(out, &size, sizeof size);  // the caller may have changed it in between
  user_size_ = size;
  u8 surplus[64];
  for (usize at = known; at < size; at += sizeof surplus) {
    usize n = min_of<usize>(sizeof surplus, size - at);
    VX_TRY(copy_in(surplus, uarg_ + at, n));
    for (usize i = 0; i < n; i++)
      if (surplus[i]) return Errno::toobig;
  }
  return {};
}

bool Call::all_zero(const __u64 *p, u32 n) {
  for (u32 i = 0; i < n; i++)
    if (p[i]) return false;
  return true;
}

Status Call::may(u64 ino, unsigned mask) {
  if (caller_.trusted) return {};
  int e = caller_.may(&caller_, ino, mask);
  return e == 0 ? Status() : Status(static_cast<Errno>(-e));
}

bool Call::interrupted(void *ctx) {
  vx_caller *c = &static_cast<Call *>(ctx)->caller_;
  return c->interrupted && c->interrupted(c);
}

Result<CollectionRef> Call::target(u64 id, bool write) {
  if (id > 0xffffffff) return Errno::noent;
  Result<CollectionRef> c = id ? engine_.find(static_cast<u32>(id)) : engine_.nearest(ip_);
  if (!c.ok()) return c;
  VX_TRY(may((*c)->dir_ino(), write ? 2 : 4));
  return c;
}

Status Call::may_change(Collection &c, u64 owner) { return owner ? may(owner, 2) : may(c.dir_ino(), 2); }

// The rows are in already.
Status Call::durable(bool wanted) {
  return wanted ? insist([&] { return engine_.filesystem().sync(); }) : Status();
}

// --------------------------------------------------------------------------------------------------------- collections
void Call::describe(Collection &c, vexfs_collection *out) {
  disk::ConfigItem k = c.config();
  u32 size = out->size;
  memset(out, 0, sizeof *out);
  out->size = size;
  out->flags = k.flags & disk::kConfigCompact ? VEXFS_COLLECTION_COMPACT : 0;
  out->id = c.cid();
  out->dir_ino = c.dir_ino();
  out->dim = k.dim;
  out->element = k.element;
  out->metric = k.metric;
  out->index = k.index;
  out->m = k.m;
  out->ef_construction = k.ef_construction;
  out->ef_search = k.ef_search;
  out->lists = k.lists;
  out->probes = k.probes;
  out->pq_m = k.pq_m;
  out->tables = k.tables;
  out->bits = k.bits;
  out->codes = k.codes;
  out->recall = k.recall;
  out->rows = c.table().live();
  out->slots = c.table().slots();
  out->created_sec = k.created_sec;
  memcpy(out->name, k.name, sizeof out->name);
  memcpy(out->model, k.model, sizeof out->model);
}

Status Call::checked_params(const vexfs_collection &v, CollectionParams *out) {
  if (v.dim == 0 || v.dim > VEXFS_DIM_MAX) return Errno::inval;
  if (v.element < VEXFS_F32 || v.element > VEXFS_I8) return Errno::inval;
  if (v.metric < VEXFS_L2 || v.metric > VEXFS_IP) return Errno::inval;
  if (v.index > 255 || !disk::index_kind_known(static_cast<u8>(v.index)) || v.ef_search > VEXFS_EF_MAX)
    return Errno::inval;
  if (!index_params_valid(ioctl_impl::index_params(v), v.dim)) return Errno::inval;
  out->dim = v.dim;
  out->element = static_cast<simd::Element>(v.element);
  out->metric = static_cast<simd::Metric>(v.metric);
  out->index = static_cast<IndexKind>(v.index);
  out->m = v.m ? v.m : 16;
  out->ef_construction = v.ef_construction ? v.ef_construction : 200;
  out->ef_search = v.ef_search ? v.ef_search : 64;
  out->lists = v.lists;
  out->probes = v.probes;
  out->pq_m = v.pq_m;
  out->tables = v.tables;
  out->bits = v.bits;
  out->codes = v.codes;
  if (v.recall > recall_all) return Errno::inval;
  out->recall = v.recall;
  out->compact = v.flags & VEXFS_COLLECTION_COMPACT;
  memcpy(out->name, v.name, sizeof out->name);
  memcpy(out->model, v.model, sizeof out->model);
  return {};
}

Status Call::collection_create() {
  vexfs_collection v;
  VX_TRY(read_arg(&v));
  if ((v.flags & ~VEXFS_COLLECTION_COMPACT) || v.reserved0 || v.id || !all_zero(v.reserved, 6)) return Errno::inval;
  if (!ioctl_impl::good_text(v.name) || !ioctl_impl::good_text(v.model)) return Errno::inval;
  CollectionParams p;
  VX_TRY(checked_params(v, &p));
  if (!ip_.is_dir()) return Errno::notdir;
  VX_TRY(may(ip_.ino(), 2));
  CollectionRef c = VX_TRY(engine_.create_collection(ip_, p));
  describe(*c, &v);
  return write_arg(v);
}

Status Call::collection_alter() {
  vexfs_collection v;
  VX_TRY(read_arg(&v));
  constexpr u32 known = VEXFS_COLLECTION_COMPACT | VEXFS_COLLECTION_RESIDENT;
  if ((v.flags & ~known) || v.flags == known) return Errno::inval;
  if (v.reserved0 || !all_zero(v.reserved, 6)) return Errno::inval;
  if (v.recall > recall_all && v.recall != VEXFS_RECALL_OFF) return Errno::inval;
  if (!ioctl_impl::good_text(v.name) || !ioctl_impl::good_text(v.model)) return Errno::inval;
  if (v.ef_search > VEXFS_EF_MAX || v.index > 255) return Errno::inval;
  if (v.index && !disk::index_kind_known(static_cast<u8>(v.index))) return Errno::inval;
  CollectionRef c = VX_TRY(target(v.id, true));
  {
    Guard g(c->manage);
    disk::ConfigItem k = c->config();
    if ((v.dim && v.dim != k.dim) || (v.element && v.element != k.element) || (v.metric && v.metric != k.metric) ||
        (v.m && v.m != k.m) || (v.ef_construction && v.ef_construction != k.ef_construction))
      return Errno::inval;
    if ((v.lists && v.lists != k.lists) || (v.pq_m && v.pq_m != k.pq_m) || (v.tables && v.tables != k.tables) ||
        (v.bits && v.bits != k.bits) || (v.codes && v.codes != k.codes) || (v.probes && v.probes != k.probes))
      return Errno::inval;
    if (v.index && v.index != k.index) {
      vexfs_index x{};
      x.op = v.index == VEXFS_INDEX_FLAT ? VEXFS_INDEX_DROP : VEXFS_INDEX_BUILD;
      x.kind = v.index == VEXFS_INDEX_FLAT ? 0 : v.index;
      VX_TRY(change_index(*c, x));
      k = c->config();
    }
    if (v.ef_search) k.ef_search = v.ef_search;
    if (v.recall) k.recall = v.recall == VEXFS_RECALL_OFF ? 0 : v.recall;
    if (v.name[0]) memcpy(k.name, v.name, sizeof k.name);
    if (v.model[0]) memcpy(k.model, v.model, sizeof k.model);
    if (v.flags & VEXFS_COLLECTION_COMPACT) k.flags = k.flags | disk::kConfigCompact;
    if (v.flags & VEXFS_COLLECTION_RESIDENT) k.flags = k.flags & ~disk::kConfigCompact;
    VX_TRY(c->store_config(k));
    c->table().set_compact(k.flags & disk::kConfigCompact);
    if (v.recall == VEXFS_RECALL_OFF)
      c->index().recall().unwant();
    else if (v.recall && v.recall < recall_all)
      engine_.want_recall(*c);
  }
  engine_.measure_recall(*c, false, interrupted, this);
  engine_.trim(*c);
  describe(*c, &v);
  return write_arg(v);
}

Status Call::collection_drop() {
  vexfs_collection v;
  VX_TRY(read_arg(&v));
  if (v.flags || v.reserved0 || v.recall || !all_zero(v.reserved, 6)) return Errno::inval;
  CollectionRef c = VX_TRY(target(v.id, true));
  describe(*c, &v);
  VX_TRY(engine_.drop_collection(std::move(c)));
  return write_arg(v);
}

Status Call::collection_info() {
  vexfs_collection v;
  VX_TRY(read_arg(&v));
  if (v.flags || v.reserved0 || v.recall || !all_zero(v.reserved, 6)) return Errno::inval;
  CollectionRef c = VX_TRY(target(v.id, false));
  describe(*c, &v);
  return write_arg(v);
}

Status Call::collection_list() {
  vexfs_collection_list v;
  VX_TRY(read_arg(&v));
  if (v.flags || !all_zero(v.reserved, 4)) return Errno::inval;
  v.count = 0;
  u64 after = v.after;
  while (v.count < v.capacity && after < 0xffffffff) {
    if (interrupted(this)) return Errno::intr;
    disk::ConfigItem config;
    disk::StateItem state;
    Result<u32> cid = engine_.next(after, &config, &state);
    if (cid.code() == Errno::noent) break;
    if (!cid.ok()) return cid.error();
    after = *cid;
    if (!may(config.dir_ino, 4).ok()) continue;
    Result<CollectionRef> c = engine_.find(*cid);
    if (c.code() == Errno::noent) continue;
    if (!c.ok()) return c.error();
    vexfs_collection one{};
    one.size = sizeof one;
    describe(**c, &one);
    VX_TRY(copy_out(v.collections + u64{v.count} * sizeof one, &one, sizeof one));
    v.count++;
  }
  return write_arg(v);
}

}  // namespace vexfs::vector
