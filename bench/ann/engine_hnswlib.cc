// SPDX-License-Identifier: MIT
// hnswlib, from its headers, compiled for this machine's CPU as its documentation advises.
#include "engine.h"

#ifdef VEXFS_HAVE_HNSWLIB
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#include <hnswlib/hnswlib.h>
#pragma GCC diagnostic pop
#if __has_include(<hnswlib/stop_condition.h>)  // 0.8: filters, and rows that take the place of deleted ones
#define VEXFS_HNSWLIB_FILTERS
#endif

#include <atomic>
#include <thread>

#include "../common/volume.h"

namespace vexfs::bench {
namespace {

#ifdef VEXFS_HNSWLIB_FILTERS
struct RowFilter : hnswlib::BaseFilterFunctor {
  const Filter *filter = nullptr;
  bool operator()(hnswlib::labeltype id) override { return filter->has(id); }
};
#endif

class HnswlibEngine : public Engine {
 public:
  explicit HnswlibEngine(const EngineSpec &spec) : spec_(spec) { spec.allow({}); }
  std::string name() const override { return spec_.text; }

  void build(const Dataset &d, const BuildOptions &o) override {
    dim_ = d.dim;
    dir_ = o.dir;
    normalise_ = d.distance == Distance::cosine;
    if (d.distance == Distance::l2)
      space_ = std::make_unique<hnswlib::L2Space>(d.dim);
    else
      space_ = std::make_unique<hnswlib::InnerProductSpace>(d.dim);
    const size_t rows = std::max(o.capacity, d.count);
#ifdef VEXFS_HNSWLIB_FILTERS
    index_ = std::make_unique<Graph>(space_.get(), rows, o.m, o.ef_construction, 100, true);
#else
    index_ = std::make_unique<Graph>(space_.get(), rows, o.m, o.ef_construction);
#endif
    std::atomic<uint32_t> next{0};
    const auto work = [&] {
      std::vector<float> v(d.dim);
      for (uint32_t i; (i = next++) < d.count;) index_->addPoint(prepared(d.row(i), v), i);
    };
    std::vector<std::thread> threads;
    for (unsigned t = 1; t < o.threads; t++) threads.emplace_back(work);
    work();
    for (auto &t : threads) t.join();
  }

  void set_effort(const Effort &e) override { index_->setEf(e.breadth); }

  void search(const float *queries, uint32_t nq, uint32_t k, int64_t *out) override {
    thread_local std::vector<float> v;
    v.resize(dim_);
    for (uint32_t q = 0; q < nq; q++, out += k) {
      auto found = find(prepared(queries + size_t{q} * dim_, v), k);
      for (uint32_t i = 0; i < k; i++) out[i] = -1;
      for (size_t i = found.size(); i-- > 0; found.pop()) out[i] = static_cast<int64_t>(found.top().second);
    }
  }

  Footprint footprint() override {
    size_t upper = 0;
    for (size_t i = 0; i < index_->cur_element_count; i++)
      upper += static_cast<size_t>(index_->element_levels_[i]) * index_->size_links_per_element_;
    return {index_->cur_element_count * (index_->size_data_per_element_ + sizeof(void *) + sizeof(int)) + upper, 0};
  }

#ifdef VEXFS_HNSWLIB_FILTERS
  bool set_filter(const Filter *f) override {
    filter_.filter = f;
    return true;
  }
#endif
  bool can_insert() const override { return true; }
  void insert(const Dataset &d, uint32_t from, uint32_t n) override {
    std::vector<float> v(dim_);
    for (uint32_t i = from; i < from + n; i++) {
      const float *row = prepared(d.row(i), v);
#ifdef VEXFS_HNSWLIB_FILTERS
      index_->addPoint(row, i, true);  // into the place of a deleted row, when there is one
#else
      index_->addPoint(row, i);
#endif
    }
  }
#ifdef VEXFS_HNSWLIB_FILTERS
  bool can_erase() const override { return true; }
  void erase(const std::vector<uint32_t> &ids) override {
    for (const uint32_t id : ids) index_->markDelete(id);
  }
#endif

  bool cold_start(const float *query, uint32_t k, ColdStart *c) override {
    const ScratchFile file(dir_ + "/hnswlib-" + std::to_string(getpid()));
    const std::string &path = file.path();
    std::vector<int64_t> found(k);
    const size_t ef = index_->ef_;
    index_->saveIndex(path);
    index_.reset();
    c->whole_seconds = read_cold(path, &c->whole_bytes);
    drop_page_cache(path);
    const Stopwatch watch;
    index_ = std::make_unique<Graph>(space_.get(), path);
    index_->setEf(ef);
    c->open_seconds = watch.seconds();
    search(query, 1, k, found.data());
    c->first_seconds = watch.seconds() - c->open_seconds;
    c->open_bytes = c->whole_bytes;
    return true;
  }

 private:
  using Graph = hnswlib::HierarchicalNSW<float>;

  std::priority_queue<std::pair<float, hnswlib::labeltype>> find(const float *q, uint32_t k) {
#ifdef VEXFS_HNSWLIB_FILTERS
    return index_->searchKnn(q, k, filter_.filter ? &filter_ : nullptr);
#else
    return index_->searchKnn(q, k);
#endif
  }
  const float *prepared(const float *in, std::vector<float> &out) const {
    if (!normalise_) return in;
    out.assign(in, in + dim_);
    normalise(out.data(), dim_);
    return out.data();
  }

  EngineSpec spec_;
  uint32_t dim_ = 0;
  bool normalise_ = false;
  std::string dir_;
#ifdef VEXFS_HNSWLIB_FILTERS
  RowFilter filter_;
#endif
  std::unique_ptr<hnswlib::SpaceInterface<float>> space_;
  std::unique_ptr<Graph> index_;
};

}  // namespace

std::unique_ptr<Engine> make_hnswlib(const EngineSpec &spec, const Dataset &) {
  return std::make_unique<HnswlibEngine>(spec);
}

}  // namespace vexfs::bench
#else
namespace vexfs::bench {
std::unique_ptr<Engine> make_hnswlib(const EngineSpec &, const Dataset &) { return nullptr; }
}  // namespace vexfs::bench
#endif
