// SPDX-License-Identifier: MIT
// VexFS as it is used: the core mounts an image file in this process, rows go in and queries are answered by the ioctls
// of <uapi/vexfs.h>, through the code that is in the module.
#include "engine_vexfs.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "../../lib/client/commands.h"

namespace vexfs::bench {
namespace {

std::string image_path(const std::string &dir) {
  static std::atomic<unsigned> number{0};
  return dir + "/vexfs-ann-" + std::to_string(getpid()) + "." + std::to_string(number++) + ".img";
}

// Parameters of the index by name, beside m and efc of all engines.
constexpr struct {
  const char *name;
  void (*set)(vexfs_index &x, uint32_t value);
} index_params[] = {
    {"m", [](vexfs_index &x, uint32_t v) { x.m = static_cast<uint16_t>(std::min(v, 65535u)); }},
    {"efc", [](vexfs_index &x, uint32_t v) { x.ef_construction = v; }},
    {"lists", [](vexfs_index &x, uint32_t v) { x.lists = v; }},
    {"probes", [](vexfs_index &x, uint32_t v) { x.probes = v; }},
    {"pq_m", [](vexfs_index &x, uint32_t v) { x.pq_m = static_cast<uint16_t>(std::min(v, 65535u)); }},
    {"tables", [](vexfs_index &x, uint32_t v) { x.tables = static_cast<uint8_t>(std::min(v, 255u)); }},
    {"bits", [](vexfs_index &x, uint32_t v) { x.bits = static_cast<uint8_t>(std::min(v, 255u)); }},
};

// Breadths that a sweep tries where those of a graph are not the thing.
const struct {
  uint16_t kind;
  std::vector<uint32_t> breadths;
} sweeps[] = {
    {VEXFS_INDEX_FLAT, {1}},
};

uint16_t metric_of(Distance d) {
  return d == Distance::l2 ? VEXFS_L2 : d == Distance::cosine ? VEXFS_COSINE : VEXFS_IP;
}

}  // namespace

VexfsEngine::VexfsEngine(const EngineSpec &spec, const Dataset &d) : spec_(spec) {
  std::vector<std::string> names = {"index", "element", "codes", "direct", "threads", "cache", "compact"};
  for (const auto &p : index_params) names.push_back(p.name);
  spec.allow(names);
  const auto element = client::element_from(spec.get("element", "f32"));
  const auto kind = client::index_from(spec.get("index", "hnsw"));
  if (!element) throw std::runtime_error(spec.text + ": an element is one of " + client::element_names());
  if (!client::code_names().count(spec.get("codes", "auto"))) throw std::runtime_error(spec.text + ": no such codes");
  if (!kind) throw std::runtime_error(spec.text + ": an index is one of " + client::index_names());
  if (*element == VEXFS_I8 && !(d.integral && d.distance == Distance::l2))
    throw std::runtime_error(spec.text + ": only for sets of integers 0..255 under l2");
  element_ = *element;
  kind_ = *kind;
  shift_ = element_ == VEXFS_I8 ? 128.0f : 0.0f;
}

void VexfsEngine::create(const Dataset &d, const BuildOptions &o, bool filled) {
  dim_ = d.dim;
  const uint64_t rows = std::max(o.capacity, d.count);
  const uint64_t size = (uint64_t{256} << 20) + rows * (uint64_t{d.dim} * 4 + 640) * (filled ? 2 : 6);
  volume_ = std::make_unique<Volume>(image_path(o.dir), align_up<uint64_t>(size, 1 << 20),
                                     spec_.number("direct", 0) != 0, filled);
  mount();
  empty_bytes_ = volume_->used_bytes();
  client::InodeRef dir(volume_->make(volume_->root(), "rows", 040755));
  target_ = std::make_unique<client::ImageTarget>(volume_->fs(), "/rows", std::move(dir));
  vexfs_collection c{};
  c.dim = dim_;
  c.element = element_;
  c.metric = metric_of(d.distance);
  c.index = VEXFS_INDEX_FLAT;
  if (spec_.number("compact", 0)) c.flags = VEXFS_COLLECTION_COMPACT;
  client::collection_create(*target_, c);
}

double VexfsEngine::mount() {
  return volume_->mount(spec_.number("threads", 1), 5000, 0, uint64_t{spec_.number("cache", 8192)} << 20);
}

void VexfsEngine::make_index(const BuildOptions &o) {
  if (kind_ == VEXFS_INDEX_FLAT) return;
  vexfs_index x{};
  x.op = VEXFS_INDEX_BUILD;
  x.kind = kind_;
  x.threads = static_cast<uint16_t>(o.threads);
  x.m = static_cast<uint16_t>(o.m);
  x.ef_construction = o.ef_construction;
  for (const auto &p : index_params)
    if (spec_.params.count(p.name)) p.set(x, spec_.number(p.name, 0));
  if (spec_.params.count("codes")) x.codes = static_cast<uint16_t>(client::code_names().at(spec_.get("codes", "")));
  client::index_command(*target_, x);
}

void VexfsEngine::build(const Dataset &d, const BuildOptions &o) {
  create(d, o, false);
  const uint32_t batch = 8192;
  for (uint32_t at = 0; at < d.count; at += batch) add(d, at, std::min(batch, d.count - at), 0);
  make_index(o);
  must(vx_fs_commit(volume_->fs()), "commit");
  if (spec_.number("compact", 0)) settle();  // rows that were dirty until now go
}

void VexfsEngine::add(const Dataset &d, uint32_t from, uint32_t n, uint32_t flags) {
  std::vector<vexfs_row> rows(n);
  for (uint32_t i = 0; i < n; i++) {
    rows[i].id = from + i;
    rows[i].tag = tag_of(from + i);
  }
  std::vector<float> shifted;
  vexfs_batch b{};
  b.size = sizeof b;
  b.flags = flags;
  b.op = VEXFS_BATCH_ADD;
  b.rows = reinterpret_cast<__u64>(rows.data());
  b.data = reinterpret_cast<__u64>(prepared(d.row(from), size_t{n} * dim_, shifted));
  b.count = n;
  b.dim = dim_;
  b.element = VEXFS_F32;
  must(target_->command(VEXFS_IOCTL_BATCH_OPERATIONS, &b), "inserting");
}

// BUILD without a kind: what is not indexed yet.
void VexfsEngine::settle() {
  if (kind_ == VEXFS_INDEX_FLAT) return;
  vexfs_index x{};
  x.op = VEXFS_INDEX_BUILD;
  x = client::index_command(*target_, x);
  // An index with many dead rows is built anew, or mended, in the background.
  for (int i = 0; i < 1200 && x.dead > std::max<uint64_t>(512, x.rows / (kind_ == VEXFS_INDEX_DISKANN ? 8 : 4)); i++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    x = {};
    x.op = VEXFS_INDEX_STATUS;
    x = client::index_command(*target_, x);
  }
}

void VexfsEngine::erase(const std::vector<uint32_t> &ids) {
  for (size_t at = 0; at < ids.size(); at += VEXFS_BATCH_MAX) {
    std::vector<vexfs_row> rows(std::min<size_t>(VEXFS_BATCH_MAX, ids.size() - at));
    for (size_t i = 0; i < rows.size(); i++) rows[i].id = ids[at + i];
    vexfs_batch b{};
    b.size = sizeof b;
    b.op = VEXFS_BATCH_DELETE;
    b.rows = reinterpret_cast<__u64>(rows.data());
    b.count = static_cast<uint32_t>(rows.size());
    b.dim = dim_;
    b.element = VEXFS_F32;
    must(target_->command(VEXFS_IOCTL_BATCH_OPERATIONS, &b), "deleting");
  }
}

const float *VexfsEngine::prepared(const float *v, size_t n, std::vector<float> &buf) const {
  if (shift_ == 0) return v;
  buf.resize(n);
  for (size_t i = 0; i < n; i++) buf[i] = v[i] - shift_;
  return buf.data();
}

void VexfsEngine::search(const float *queries, uint32_t nq, uint32_t k, int64_t *out) {
  thread_local std::vector<vexfs_hit> hits;
  thread_local std::vector<uint32_t> counts;
  thread_local std::vector<float> shifted;
  const uint32_t most = VEXFS_QUERIES_MAX / 16;
  hits.resize(size_t{std::min(nq, most)} * k);
  counts.resize(std::min(nq, most));
  for (uint32_t at = 0; at < nq; at += most) {
    const uint32_t n = std::min(most, nq - at);
    vexfs_hybrid_search h{};
    vexfs_search &s = h.search;
    h.size = sizeof h;
    s.size = sizeof s;
    s.queries = reinterpret_cast<__u64>(prepared(queries + size_t{at} * dim_, size_t{n} * dim_, shifted));
    s.hits = reinterpret_cast<__u64>(hits.data());
    s.counts = reinterpret_cast<__u64>(counts.data());
    s.nq = n;
    s.dim = dim_;
    s.element = VEXFS_F32;
    s.k = k;
    s.ef = effort_.breadth;
    if (filter_) {
      vexfs_filter f{};
      f.kind = VEXFS_FILTER_TAG_RANGE;
      f.a = filter_->from;
      f.b = filter_->bound - 1;
      h.filters = reinterpret_cast<__u64>(&f);
      h.nfilters = 1;
      must(target_->command(VEXFS_IOCTL_HYBRID_SEARCH, &h), "searching");
    } else {
      must(target_->command(VEXFS_IOCTL_VECTOR_SEARCH, &s), "searching");
    }
    for (uint32_t q = 0; q < n; q++)
      for (uint32_t i = 0; i < k; i++)
        out[size_t{at + q} * k + i] = i < counts[q] ? static_cast<int64_t>(hits[size_t{q} * k + i].id) : -1;
  }
}

std::vector<Effort> VexfsEngine::efforts(uint32_t k, const std::vector<uint32_t> &breadths) const {
  for (const auto &s : sweeps)
    if (s.kind == kind_) return Engine::efforts(k, s.breadths);
  return Engine::efforts(k, breadths);
}

// BUILD returns when what it takes has been measured.
Aim VexfsEngine::aim(double recall, const float *query, uint32_t k) {
  static const char *const by[] = {"nothing", "new rows", "rows", "queries"};
  const auto wanted = static_cast<uint16_t>(recall * 1000 + 0.5);
  vexfs_collection c = client::collection_info(*target_);
  c.flags = 0;
  c.recall = wanted;
  client::collection_alter(*target_, c);
  vexfs_index x{};
  x.op = VEXFS_INDEX_BUILD;
  x = client::index_command(*target_, x);
  // The breadth for k is what a search says.
  std::vector<vexfs_hit> hits(k);
  std::vector<float> shifted;
  vexfs_search s{};
  s.size = sizeof s;
  s.queries = reinterpret_cast<__u64>(prepared(query, dim_, shifted));
  s.hits = reinterpret_cast<__u64>(hits.data());
  s.nq = 1;
  s.dim = dim_;
  s.element = VEXFS_F32;
  s.k = k;
  must(target_->command(VEXFS_IOCTL_VECTOR_SEARCH, &s), "searching");
  return {s.ef_used, by[std::min<uint32_t>(x.recall_by, 3)]};
}

Footprint VexfsEngine::footprint() {
  const vexfs_stats s = client::stats(*target_);
  return {s.resident_bytes + s.index_memory_bytes, volume_->used_bytes() - empty_bytes_};
}

bool VexfsEngine::cold_start(const float *query, uint32_t k, ColdStart *c) {
  const auto read = [this] { return volume_->counters().bytes_read; };
  std::vector<int64_t> found(k);
  target_.reset();
  volume_->unmount();
  c->whole_seconds = read_cold(volume_->path(), &c->whole_bytes);
  drop_page_cache(volume_->path());
  const uint64_t before = read();
  c->open_seconds = mount();
  c->open_bytes = read() - before;
  const Stopwatch watch;
  vx_u64 ino = 0;
  vx_inode *ip = nullptr;
  must(vx_lookup(volume_->root(), "rows", 4, &ino), "looking up the collection");
  must(vx_iget(volume_->fs(), ino, 0, &ip), "opening the collection");
  target_ = std::make_unique<client::ImageTarget>(volume_->fs(), "/rows", client::InodeRef(ip));
  search(query, 1, k, found.data());
  c->first_seconds = watch.seconds();
  c->first_bytes = read() - before - c->open_bytes;
  if (found[0] < 0) throw std::runtime_error("after a mount the first query found nothing");
  return true;
}

std::unique_ptr<Engine> make_vexfs(const EngineSpec &spec, const Dataset &d) {
  return std::make_unique<VexfsEngine>(spec, d);
}

}  // namespace vexfs::bench
