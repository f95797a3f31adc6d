// SPDX-License-Identifier: MIT
// The commands of <uapi/vexfs.h> as functions.
#include "commands.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

namespace vexfs::client {

// ------------------------------------------------------------------- names
namespace {

struct Name {
  const char *name;
  uint16_t value;
};
constexpr std::array<Name, 4> elements{
    {{"f32", VEXFS_F32}, {"f16", VEXFS_F16}, {"bf16", VEXFS_BF16}, {"i8", VEXFS_I8}}};
constexpr std::array<Name, 9> element_aliases{{{"float32", VEXFS_F32},
                                               {"float", VEXFS_F32},
                                               {"fp32", VEXFS_F32},
                                               {"float16", VEXFS_F16},
                                               {"half", VEXFS_F16},
                                               {"fp16", VEXFS_F16},
                                               {"bfloat16", VEXFS_BF16},
                                               {"int8", VEXFS_I8},
                                               {"s8", VEXFS_I8}}};
constexpr std::array<Name, 3> metrics{{{"l2", VEXFS_L2}, {"cosine", VEXFS_COSINE}, {"ip", VEXFS_IP}}};
constexpr std::array<Name, 5> metric_aliases{{{"euclidean", VEXFS_L2},
                                              {"cos", VEXFS_COSINE},
                                              {"angular", VEXFS_COSINE},
                                              {"dot", VEXFS_IP},
                                              {"inner-product", VEXFS_IP}}};
constexpr std::array<Name, 6> indexes{{{"flat", VEXFS_INDEX_FLAT},
                                       {"diskann", VEXFS_INDEX_DISKANN},
                                       {"hnsw", VEXFS_INDEX_HNSW},
                                       {"ivf-flat", VEXFS_INDEX_IVF_FLAT},
                                       {"ivf-pq", VEXFS_INDEX_IVF_PQ},
                                       {"lsh", VEXFS_INDEX_LSH}}};

template <size_t N>
const char *name_of(const std::array<Name, N> &table, uint16_t v) {
  for (const Name &n : table)
    if (n.value == v) return n.name;
  return "unknown";
}

template <size_t N>
std::optional<uint16_t> find(const std::array<Name, N> &table, const std::string &name) {
  for (const Name &n : table)
    if (name == n.name) return n.value;
  return std::nullopt;
}

template <size_t N>
std::string list_of(const std::array<Name, N> &table) {
  std::string s;
  for (const Name &n : table) s += (s.empty() ? "" : &n == &table.back() ? " or " : ", ") + std::string(n.name);
  return s;
}

std::string lower(std::string s) {
  for (char &c : s) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return s;
}

uint64_t address(const void *p) { return reinterpret_cast<uintptr_t>(p); }

template <class T>
T sized() {
  T v{};
  v.size = sizeof v;
  return v;
}

void send(Target &t, uint32_t cmd, void *arg, const std::string &what) {
  const int rc = t.command(cmd, arg);
  if (rc != 0) throw command_error(t.path(), what, -rc);
}

}  // namespace

const char *element_name(uint16_t e) { return name_of(elements, e); }
const char *metric_name(uint16_t m) { return name_of(metrics, m); }
const char *index_name(uint16_t k) { return name_of(indexes, k); }
std::string element_names() { return list_of(elements); }
std::string metric_names() { return list_of(metrics); }
std::string index_names() { return list_of(indexes); }
const char *simd_name(uint32_t level) {
  static constexpr std::array<const char *, 5> names{"scalar", "sse2", "avx2", "avx512", "neon"};
  return level < names.size() ? names[level] : "unknown";
}
const char *plan_name(uint32_t plan) {
  switch (plan) {
    case VEXFS_PLAN_SCAN:
      return "scan";
    case VEXFS_PLAN_INDEX:
      return "index";
    case VEXFS_PLAN_NAMED:
      return "named";
    case VEXFS_PLAN_MATCHING:
      return "matching";
    case VEXFS_PLAN_FILTERED_INDEX:
      return "filtered index";
    case VEXFS_PLAN_INDEX_MATCHING:
      return "index, then matching";
    default:
      return "unknown";
  }
}

std::optional<uint16_t> element_from(const std::string &name) {
  auto v = find(elements, lower(name));
  return v ? v : find(element_aliases, lower(name));
}
std::optional<uint16_t> metric_from(const std::string &name) {
  auto v = find(metrics, lower(name));
  return v ? v : find(metric_aliases, lower(name));
}
std::optional<uint16_t> index_from(const std::string &name) { return find(indexes, lower(name)); }
const std::map<std::string, uint32_t> &code_names() {
  static const std::map<std::string, uint32_t> names = {
      {"auto", VEXFS_CODES_AUTO}, {"none", VEXFS_CODES_NONE},       {"sq8", VEXFS_CODES_SQ8},
      {"sq4", VEXFS_CODES_SQ4},   {"rabitq2", VEXFS_CODES_RABITQ2}, {"rabitq1", VEXFS_CODES_RABITQ1}};
  return names;
}

size_t element_bytes(uint16_t e) {
  switch (e) {
    case VEXFS_F32:
      return 4;
    case VEXFS_F16:
    case VEXFS_BF16:
      return 2;
    case VEXFS_I8:
      return 1;
    default:
      return 0;
  }
}

Error command_error(const std::string &path, const std::string &what, int err) {
  std::string why;
  switch (err) {
    case ENOTTY:
      why = "not on a VexFS filesystem";
      break;
    case EUCLEAN:
      why = "damage was found on the disk (see the kernel log, run fsck.vexfs)";
      break;
    case EOPNOTSUPP:
      why = "not served by this version of VexFS";
      break;
    case E2BIG:
      why = "the kernel module is older than this program and does not know what was asked";
      break;
    default:
      why = strerror(err);
      break;
  }
  return Error(err, path + ": " + what + ": " + why);
}

// --------------------------------------------------------------- snapshots
namespace {

vexfs_snapshot named(const std::string &name) {
  auto v = sized<vexfs_snapshot>();
  if (name.empty() || name.size() >= sizeof v.name)
    throw Error(EINVAL, "the name of a snapshot has 1 to " + std::to_string(sizeof v.name - 1) + " bytes");
  memcpy(v.name, name.data(), name.size());
  return v;
}

}  // namespace

vexfs_snapshot snapshot_create(Target &t, const std::string &name) {
  vexfs_snapshot v = named(name);
  const int rc = t.command(VEXFS_IOCTL_SNAPSHOT_CREATE, &v);
  if (rc == -EEXIST) throw Error(EEXIST, "there is a snapshot '" + name + "' already");
  if (rc == -EINVAL) throw Error(EINVAL, "'" + name + "': a name is UTF-8 without '/' and control characters");
  if (rc == -EBUSY) throw Error(EBUSY, t.path() + ": the filesystem is frozen");
  if (rc == -EOPNOTSUPP) throw Error(EOPNOTSUPP, t.path() + ": made without the feature: no snapshots");
  if (rc != 0) throw command_error(t.path(), "create snapshot", -rc);
  return v;
}

vexfs_snapshot snapshot_rollback(Target &t, const std::string &name) {
  vexfs_snapshot v = named(name);
  const int rc = t.command(VEXFS_IOCTL_SNAPSHOT_ROLLBACK, &v);
  if (rc == -ENOENT) throw Error(ENOENT, "no snapshot '" + name + "'");
  if (rc != 0) throw command_error(t.path(), "roll back", -rc);
  return v;
}

void snapshot_rollback_cancel(Target &t) {
  auto v = sized<vexfs_snapshot>();
  v.flags = VEXFS_SNAPSHOT_CANCEL;
  send(t, VEXFS_IOCTL_SNAPSHOT_ROLLBACK, &v, "take the rollback back");
}

void snapshot_delete(Target &t, const std::string &name) {
  vexfs_snapshot v = named(name);
  int rc = t.command(VEXFS_IOCTL_SNAPSHOT_DELETE, &v);
  // Once more: the first refusal has unmounted what somebody has only looked at below .vexfs/snapshots.
  if (rc == -EBUSY) rc = t.command(VEXFS_IOCTL_SNAPSHOT_DELETE, &v);
  if (rc == -ENOENT) throw Error(ENOENT, "no snapshot '" + name + "'");
  if (rc == -EBUSY)
    throw Error(EBUSY, "snapshot '" + name + "' is mounted, or a rollback needs it (snapshot list shows which)");
  if (rc != 0) throw command_error(t.path(), "delete snapshot", -rc);
}

std::vector<vexfs_snapshot> snapshot_list(Target &t, bool account) {
  std::vector<vexfs_snapshot> all;
  constexpr uint32_t step = 64;
  for (uint32_t got = step; got == step;) {
    const size_t have = all.size();
    all.resize(have + step);
    auto v = sized<vexfs_snapshot_list>();
    v.flags = account ? VEXFS_SNAPSHOT_ACCOUNT : 0;
    v.after = have ? all[have - 1].id : 0;
    v.snapshots = address(all.data() + have);
    v.capacity = step;
    v.entry_size = sizeof(vexfs_snapshot);
    send(t, VEXFS_IOCTL_SNAPSHOT_LIST, &v, "list snapshots");
    got = std::min(v.count, step);
    all.resize(have + got);
  }
  return all;
}

void snapshot_diff(Target &t, uint64_t from, uint64_t to, const std::function<void(const vexfs_change &)> &each) {
  std::vector<vexfs_change> some(512);
  auto v = sized<vexfs_snapshot_diff>();
  v.from = from;
  v.to = to;
  v.changes = address(some.data());
  v.capacity = static_cast<uint32_t>(some.size());
  v.entry_size = sizeof(vexfs_change);
  while (!v.done) {
    send(t, VEXFS_IOCTL_SNAPSHOT_DIFF, &v, "compare snapshots");
    for (uint32_t i = 0; i < std::min<size_t>(v.count, some.size()); i++) each(some[i]);
  }
}

std::vector<vexfs_found> scrub(Target &t, vexfs_scrub &v) {
  std::vector<vexfs_found> found(256);
  v.size = sizeof v;
  v.found = address(found.data());
  v.capacity = static_cast<uint32_t>(found.size());
  v.found_size = sizeof(vexfs_found);
  send(t, VEXFS_IOCTL_SCRUB, &v, "scrub");
  found.resize(std::min<size_t>(v.count, found.size()));
  return found;
}

// ------------------------------------------------------------- collections
vexfs_collection collection_create(Target &t, vexfs_collection spec) {
  spec.size = sizeof spec;
  const int rc = t.command(VEXFS_IOCTL_COLLECTION_CREATE, &spec);
  if (rc == -EEXIST) throw Error(EEXIST, t.path() + ": this directory carries a collection already");
  if (rc == -ENOTDIR) throw Error(ENOTDIR, t.path() + ": a collection is carried by a directory, this is none");
  if (rc != 0) throw command_error(t.path(), "create collection", -rc);
  return spec;
}

vexfs_collection collection_info(Target &t, uint64_t id) {
  auto c = sized<vexfs_collection>();
  c.id = id;
  const int rc = t.command(VEXFS_IOCTL_COLLECTION_INFO, &c);
  if (rc == -ENOENT && id == 0)
    throw Error(ENOENT,
                t.path() + ": no collection here nor in a directory above (vexctl collection create makes one)");
  if (rc == -ENOENT) throw Error(ENOENT, t.path() + ": no collection " + std::to_string(id));
  if (rc != 0) throw command_error(t.path(), "collection", -rc);
  return c;
}

vexfs_collection collection_alter(Target &t, vexfs_collection wanted) {
  wanted.size = sizeof wanted;
  send(t, VEXFS_IOCTL_COLLECTION_ALTER, &wanted, "alter collection");
  return wanted;
}

void collection_drop(Target &t, uint64_t id) {
  auto c = sized<vexfs_collection>();
  c.id = id;
  send(t, VEXFS_IOCTL_COLLECTION_DROP, &c, "drop collection");
}

std::vector<vexfs_collection> collection_list(Target &t) {
  std::vector<vexfs_collection> all;
  for (uint64_t after = 0;;) {
    std::vector<vexfs_collection> piece(64);
    for (auto &c : piece) c.size = sizeof c;
    auto l = sized<vexfs_collection_list>();
    l.after = after;
    l.collections = address(piece.data());
    l.capacity = static_cast<uint32_t>(piece.size());
    send(t, VEXFS_IOCTL_COLLECTION_LIST, &l, "list collections");
    const size_t n = std::min<size_t>(l.count, piece.size());
    all.insert(all.end(), piece.begin(), piece.begin() + static_cast<ptrdiff_t>(n));
    if (n < piece.size()) return all;
    if (piece[n - 1].id <= after) throw Error(EIO, t.path() + ": list collections: ids do not grow");
    after = piece[n - 1].id;
  }
}

// ----------------------------------------------------------------- vectors
namespace {

vexfs_embedding embedding(uint64_t collection, const Vector &v, uint32_t flags) {
  auto e = sized<vexfs_embedding>();
  e.flags = flags;
  e.collection = collection;
  e.row = v.row;
  e.data = address(v.data.data());
  e.dim = v.dim;
  e.element = v.element;
  return e;
}

}  // namespace

vexfs_row vector_add(Target &t, uint64_t collection, const Vector &v, uint32_t flags) {
  auto e = embedding(collection, v, flags);
  const int rc = t.command(VEXFS_IOCTL_ADD_EMBEDDING, &e);
  if (rc == -EEXIST)
    throw Error(EEXIST, t.path() + ": a vector with id " + std::to_string(v.row.id) + " exists already");
  if (rc != 0) throw command_error(t.path(), "add vector", -rc);
  return e.row;
}

vexfs_row vector_update(Target &t, uint64_t collection, const Vector &v, uint32_t flags) {
  auto e = embedding(collection, v, flags);
  const int rc = t.command(VEXFS_IOCTL_UPDATE_EMBEDDING, &e);
  if (rc == -ENOENT) throw Error(ENOENT, t.path() + ": no vector with id " + std::to_string(v.row.id));
  if (rc != 0) throw command_error(t.path(), "update vector", -rc);
  return e.row;
}

Vector vector_get(Target &t, uint64_t collection, uint64_t id, uint32_t dim, uint16_t element) {
  Vector v;
  v.row.id = id;
  v.dim = dim;
  v.element = element;
  v.data.resize(dim * element_bytes(element));
  auto e = embedding(collection, v, 0);
  const int rc = t.command(VEXFS_IOCTL_GET_EMBEDDING, &e);
  if (rc == -ENOENT) throw Error(ENOENT, t.path() + ": no vector with id " + std::to_string(id));
  if (rc != 0) throw command_error(t.path(), "get vector", -rc);
  v.row = e.row;
  return v;
}

void vector_delete(Target &t, uint64_t collection, uint64_t id, uint32_t flags) {
  Vector v;
  v.row.id = id;
  auto e = embedding(collection, v, flags);
  e.data = 0;
  const int rc = t.command(VEXFS_IOCTL_DELETE_EMBEDDING, &e);
  if (rc == -ENOENT) throw Error(ENOENT, t.path() + ": no vector with id " + std::to_string(id));
  if (rc != 0) throw command_error(t.path(), "delete vector", -rc);
}

uint32_t vectors_delete(Target &t, uint64_t collection, const std::vector<uint64_t> &ids, int *err) {
  std::vector<vexfs_row> rows(ids.size());
  for (size_t i = 0; i < ids.size(); i++) rows[i].id = ids[i];
  uint32_t done = 0;
  *err = 0;
  while (done < ids.size() && *err == 0) {
    auto b = sized<vexfs_batch>();
    b.collection = collection;
    b.op = VEXFS_BATCH_DELETE;
    b.rows = address(rows.data() + done);
    b.count = static_cast<uint32_t>(std::min<size_t>(ids.size() - done, VEXFS_BATCH_MAX));
    *err = -t.command(VEXFS_IOCTL_BATCH_OPERATIONS, &b);
    done += b.done;
    if (*err == 0 && b.done == 0) *err = EIO;
  }
  return done;
}

// ------------------------------------------------------------------ search
namespace {

constexpr size_t hits_per_call = size_t{1} << 20;  // bounds the memory of one call

vexfs_search search_struct(const Query &q, const void *queries, size_t nq, std::vector<vexfs_hit> &hits,
                           std::vector<uint32_t> &counts) {
  auto s = sized<vexfs_search>();
  s.flags = q.flags;
  s.collection = q.collection;
  s.queries = address(queries);
  s.hits = address(hits.data());
  s.counts = address(counts.data());
  s.nq = static_cast<uint32_t>(nq);
  s.dim = q.dim;
  s.element = q.element;
  s.k = q.k;
  s.ef = q.ef;
  s.recall = q.recall;
  s.like_owner = q.like_owner;
  if (q.flags & VEXFS_SEARCH_RADIUS) s.radius = std::bit_cast<uint32_t>(q.radius);
  if (q.flags & VEXFS_SEARCH_AFTER) {
    s.after_distance = std::bit_cast<uint32_t>(q.after_distance);
    s.after_slot = q.after_slot;
  }
  return s;
}

void one_call(Target &t, const Query &q, const void *queries, size_t nq, Answer &a) {
  std::vector<vexfs_hit> hits(nq * q.k);
  std::vector<uint32_t> counts(nq);
  auto h = sized<vexfs_hybrid_search>();
  h.search = search_struct(q, queries, nq, hits, counts);
  h.filters = address(q.filters.data());
  h.nfilters = static_cast<uint32_t>(q.filters.size());
  const bool hybrid = !q.filters.empty();
  const int rc = hybrid ? t.command(VEXFS_IOCTL_HYBRID_SEARCH, &h) : t.command(VEXFS_IOCTL_VECTOR_SEARCH, &h.search);
  if (rc == -ENOENT && (q.flags & VEXFS_SEARCH_LIKE))
    throw Error(ENOENT, t.path() + ": the file has no vector in this collection");
  if (rc != 0) throw command_error(t.path(), "search", -rc);
  for (size_t i = 0; i < nq; i++) {
    const auto from = hits.begin() + static_cast<ptrdiff_t>(i * q.k);
    a.hits.emplace_back(from, from + std::min(counts[i], q.k));
  }
  a.distances += h.search.distances;
  a.hops += h.search.hops;
  a.scanned += h.search.scanned;
  a.elapsed_ns += h.search.elapsed_ns;
  a.ef = h.search.ef_used;
  a.plan = h.search.plan ? h.search.plan : h.plan;  // a filesystem driver that is older says it of hybrid ones alone
}

}  // namespace

Answer search(Target &t, const Query &q, const void *queries, size_t nq) {
  Answer a;
  const size_t row_bytes = q.dim * element_bytes(q.element);
  const size_t step = std::clamp<size_t>(hits_per_call / std::max<uint32_t>(q.k, 1), 1, VEXFS_QUERIES_MAX);
  for (size_t done = 0; done < nq;) {
    const size_t n = std::min(step, nq - done);
    const void *from = queries ? static_cast<const uint8_t *>(queries) + done * row_bytes : nullptr;
    one_call(t, q, from, n, a);
    done += n;
  }
  return a;
}

float hit_distance(const vexfs_hit &h) { return std::bit_cast<float>(h.distance); }

// ------------------------------------------------------------ index, stats
vexfs_index index_command(Target &t, vexfs_index command) {
  static constexpr std::array<const char *, 6> what{"index",         "build index",  "drop index",
                                                    "rebuild index", "index status", "index checkpoint"};
  command.size = sizeof command;
  send(t, VEXFS_IOCTL_MANAGE_INDEX, &command, what[command.op < what.size() ? command.op : 0]);
  return command;
}

vexfs_stats stats(Target &t, uint64_t collection) {
  auto s = sized<vexfs_stats>();
  s.collection = collection;
  send(t, VEXFS_IOCTL_GET_VECTOR_STATS, &s, "statistics");
  return s;
}

}  // namespace vexfs::client
