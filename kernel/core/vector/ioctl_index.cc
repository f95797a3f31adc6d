// SPDX-License-Identifier: GPL-2.0-only OR MIT
// MANAGE_INDEX and GET_VECTOR_STATS.
#include "ioctl.h"

namespace vexfs::vector {
namespace ioctl_index_impl {
namespace {

constexpr u32 sampled_groups = 256;  // row groups looked at to estimate what all of them take
constexpr u32 item_overhead = 25;    // bytes of key and header of an item in a tree node

// Parameters after a call that leaves out, as 0, what is to stay. Of a flat collection nothing but HNSW's counts as
// asked for, so BUILD without a kind makes a graph.
IndexParams changed(const IndexParams &old, const vexfs_index &x) {
  IndexParams p = old;
  if (x.kind) p.kind = static_cast<IndexKind>(x.kind);
  if (p.kind == IndexKind::flat) p.kind = IndexKind::hnsw;
  if (x.m) p.m = x.m;
  if (x.ef_construction) p.ef_construction = x.ef_construction;
  if (x.lists) p.lists = x.lists;
  if (x.probes) p.probes = x.probes;
  if (x.pq_m) p.pq_m = x.pq_m;
  if (x.tables) p.tables = x.tables;
  if (x.bits) p.bits = x.bits;
  if (x.codes) p.codes = x.codes;
  return p;
}

// Do the two say something else to an index of their kind?
bool differ(const IndexParams &a, const IndexParams &b) {
  if (a.kind != b.kind) return true;
  switch (a.kind) {
    case IndexKind::hnsw:
      return a.m != b.m || a.ef_construction != b.ef_construction || a.codes != b.codes;
    case IndexKind::ivf_flat:
      return a.lists != b.lists || a.probes != b.probes;
    case IndexKind::ivf_pq:
      return a.lists != b.lists || a.probes != b.probes || a.pq_m != b.pq_m;
    case IndexKind::diskann:
      return a.m != b.m || a.ef_construction != b.ef_construction || a.codes != b.codes;
    case IndexKind::lsh:
      return a.tables != b.tables || a.bits != b.bits || a.probes != b.probes;
    case IndexKind::flat:
      break;
  }
  return false;
}

void put_params(const IndexParams &p, disk::ConfigItem *k) {
  k->index = static_cast<u8>(p.kind);
  k->m = static_cast<u16>(p.m);
  k->ef_construction = p.ef_construction;
  k->lists = p.lists;
  k->probes = p.probes;
  k->pq_m = static_cast<u16>(p.pq_m);
  k->tables = static_cast<u8>(p.tables);
  k->bits = static_cast<u8>(p.bits);
  k->codes = static_cast<u16>(p.codes);
}

}  // namespace
}  // namespace ioctl_index_impl

void Call::describe_index(Collection &c, vexfs_index *out) {
  IndexFigures f;
  c.index().figures(&f);
  disk::ConfigItem k = c.config();
  out->kind = static_cast<u16>(f.kind);
  out->m = k.m;
  out->ef_construction = k.ef_construction;
  out->ef_search = k.ef_search;
  out->lists = k.lists;
  out->probes = k.probes;
  out->pq_m = k.pq_m;
  out->tables = k.tables;
  out->bits = k.bits;
  out->codes = k.codes;
  out->codes_used = f.codes;
  out->lists_used = f.lists;
  out->pq_m_used = static_cast<u16>(f.pq_m);
  out->tables_used = static_cast<u8>(f.tables);
  out->bits_used = static_cast<u8>(f.bits);
  out->rows = f.rows;
  out->indexed = f.indexed;
  out->dead = f.dead;
  out->memory_bytes = f.memory_bytes;
  out->checkpoint_slots = f.checkpoint_slots;
  out->checkpoint_bytes = f.checkpoint_bytes;
  out->max_level = f.max_level;
  out->reserved0 = 0;
}

// What was measured, and what it comes to for the 10 nearest and a target (0: the collection's).
void Call::describe_recall(Collection &c, u32 target, vexfs_index *out) {
  constexpr u32 k = 10;
  const RecallCurve curve = c.index().recall().curve();
  const u32 recall = target ? target : u32{c.config().recall.get()};
  const RecallChoice choice = recall ? curve.choose(k, recall) : RecallChoice{};
  out->recall = static_cast<u16>(recall);
  out->recall_ef = choice.ef;
  out->recall_measured = static_cast<u16>(!curve.measured() ? 0
                                          : choice.exact    ? recall_all
                                                            : curve.reached(k, choice.ef));
  out->recall_slots = curve.slots;
  out->recall_queries = static_cast<u16>(curve.queries);
  out->recall_by = curve.by;
}

// BUILD, DROP and REBUILD. The configuration is stored before a new index counts as the collection's, and the old
// checkpoint goes before any row that it may refer to.
Status Call::change_index(Collection &c, const vexfs_index &x) {
  disk::ConfigItem k = c.config();
  IndexKeeper &keeper = c.index();
  const IndexParams old = index_params_of(k), p = ioctl_index_impl::changed(old, x);
  if (x.ef_search) k.ef_search = x.ef_search;
  if (x.op == VEXFS_INDEX_DROP || x.kind == VEXFS_INDEX_FLAT) {
    k.index = VEXFS_INDEX_FLAT;
    VX_TRY(c.store_config(k));
    VX_TRY(keeper.replace(index_params_of(k), false, 1, nullptr, nullptr));
    return keeper.drop_checkpoint();
  }
  bool anew = x.op == VEXFS_INDEX_REBUILD || ioctl_index_impl::differ(p, old);
  if (anew) {
    VX_TRY(keeper.replace(p, true, x.threads, interrupted, this));
    ioctl_index_impl::put_params(p, &k);
  }
  VX_TRY(c.store_config(k));
  VX_TRY(keeper.build(x.threads, interrupted, this));
  VX_TRY(engine_.checkpoint(c));
  if (anew && !keeper.covered()) VX_TRY(keeper.drop_checkpoint());  // that of the one before would be opened
  return anew ? c.vacuum() : Status();
}

Status Call::manage_index() {
  vexfs_index x;
  VX_TRY(read_arg(&x));
  if (x.flags || x.reserved0) return Errno::inval;
  if (x.op < VEXFS_INDEX_BUILD || x.op > VEXFS_INDEX_CHECKPOINT || x.kind > 255) return Errno::inval;
  if (x.kind && !disk::index_kind_known(static_cast<u8>(x.kind))) return Errno::inval;
  if (x.ef_search > VEXFS_EF_MAX) return Errno::inval;
  bool reads = x.op == VEXFS_INDEX_STATUS;
  if (x.recall > (reads ? recall_all : 0)) return Errno::inval;
  CollectionRef c = VX_TRY(target(x.collection, !reads));
  if (!index_params_valid(ioctl_index_impl::changed(IndexParams{}, x), c->space().dim())) return Errno::inval;
  if (!reads && engine_.volume().read_only()) return Errno::rofs;
  if (!reads) {
    Guard g(c->manage);
    if (x.op == VEXFS_INDEX_CHECKPOINT)
      VX_TRY(engine_.checkpoint(*c));
    else
      VX_TRY(change_index(*c, x));
    // So that who has waited for an index has it tuned; if that is interrupted or fails it is done another time.
    if (x.op == VEXFS_INDEX_BUILD || x.op == VEXFS_INDEX_REBUILD) engine_.measure_recall(*c, true, interrupted, this);
    engine_.trim(*c);
    engine_.relax();
  }
  const u32 target = reads ? x.recall : 0;
  describe_index(*c, &x);
  describe_recall(*c, target, &x);
  return write_arg(x);
}

// ------------------------------------------------------------------------------------------------------------- figures
Status Call::add_stats(u32 cid, const disk::ConfigItem &config, const disk::StateItem &state, vexfs_stats *out) {
  using namespace ioctl_index_impl;
  store::Tree &tree = engine_.volume().tree(store::TreeId::collections);
  u64 slots = state.slots, live = state.live, blocks = 0, groups = 0, group_bytes = 0;
  u64 row = u64{config.dim} * simd::element_bytes(static_cast<simd::Element>(config.element));
  VX_TRY(tree.scan(item_key(cid, VectorItem::chunk), item_key(cid, VectorItem::chunk, ~u64{0}),
                   [&](const store::Key &, Bytes b) {
                     disk::ChunkItem item{};
                     memcpy(&item, b.data(), min_of(b.size(), sizeof item));
                     for (u32 i = 0; i < item.npieces && i < disk::kChunkPieces; i++) blocks += item.pieces[i].blocks;
                     return true;
                   }));
  VX_TRY(tree.scan(item_key(cid, VectorItem::rows), item_key(cid, VectorItem::rows, ~u64{0}),
                   [&](const store::Key &, Bytes b) {
                     group_bytes += b.size() + item_overhead;
                     return ++groups < sampled_groups;
                   }));
  out->rows += live;
  out->slots += slots;
  out->dead += slots - live;
  out->raw_bytes += live * row;
  out->table_bytes += blocks * engine_.volume().block_size();
  if (groups) out->table_bytes += div_up<u64>(slots, config.rows_per_group) * (group_bytes / groups);
  return {};
}

Status Call::get_stats() {
  vexfs_stats v;
  VX_TRY(read_arg(&v));
  if (v.flags || !all_zero(v.reserved, 4)) return Errno::inval;
  vexfs_stats out{};
  out.size = v.size;
  out.collection = v.collection;
  auto load = [](const std::atomic<u64> &a) { return a.load(std::memory_order_relaxed); };
  VectorStats &g = engine_.stats();
  ChunkCache &cache = engine_.cache();
  if (v.collection == ~u64{0}) {
    u64 after = 0;
    for (;;) {
      if (interrupted(this)) return Errno::intr;
      disk::ConfigItem config;
      disk::StateItem state;
      Result<u32> cid = engine_.next(after, &config, &state);
      if (cid.code() == Errno::noent) break;
      if (!cid.ok()) return cid.error();
      VX_TRY(add_stats(*cid, config, state, &out));
      after = *cid;
    }
    out.resident_bytes = cache.resident();
    out.index_memory_bytes = cache.external();
    out.searches = load(g.queries);
    out.search_ns = load(g.search_ns);
    out.distances = load(g.distances);
    out.hops = load(g.hops);
    out.inserts = load(g.inserts);
    out.insert_ns = load(g.insert_ns);
    out.deletes = load(g.deletes);
  } else {
    CollectionRef c = VX_TRY(target(v.collection, false));
    out.collection = c->cid();
    disk::StateItem state{};
    state.slots = c->table().slots();
    state.live = min_of(c->table().live(), c->table().slots());
    VX_TRY(add_stats(c->cid(), c->config(), state, &out));
    IndexFigures f;
    c->index().figures(&f);
    out.index_bytes = f.checkpoint_bytes;
    out.index_memory_bytes = f.memory_bytes;
    out.resident_bytes = c->table().resident_bytes();
    out.searches = load(c->stats.searches);
    out.search_ns = load(c->stats.search_ns);
    out.distances = load(c->stats.distances);
    out.hops = load(c->stats.hops);
    out.inserts = load(c->stats.inserts);
    out.insert_ns = load(c->stats.insert_ns);
    out.deletes = load(c->stats.deletes);
  }
  out.resident_limit_bytes = cache.limit();
  out.chunk_loads = load(cache.loads);
  out.chunk_evictions = load(cache.evictions);
  out.index_evictions = load(cache.index_evictions);
  out.index_reopens = load(cache.index_reopens);
  out.row_reads = load(cache.row_reads);
  out.row_read_bytes = load(cache.row_read_bytes);
  out.simd_level = static_cast<u32>(simd::level());
  out.abi_version = VEXFS_ABI_VERSION;
  return write_arg(out);
}

}  // namespace vexfs::vector
