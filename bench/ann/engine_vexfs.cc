// SPDX-License-Identifier: MIT
// VexFS's HNSW over rows in memory.
#include <atomic>
#include <stdexcept>
#include <thread>

#include "../common/memory_rows.h"
#include "engine.h"

namespace vexfs::bench {
namespace {

using vector::Hit;
using vector::IndexPtr;
using vector::RowView;
using vector::Scratch;

template <class T>
T must(Result<T> r, const char *what) {
  if (!r.ok()) throw std::runtime_error(std::string(what) + ": errno " + std::to_string(static_cast<int>(r.code())));
  return r.take();
}

class VexfsEngine : public Engine {
 public:
  explicit VexfsEngine(simd::Element e) : element_(e) {}
  std::string name() const override { return element_ == simd::Element::int8 ? "vexfs int8" : "vexfs"; }

  void build(const Dataset &d, const BuildOptions &o) override {
    const simd::Metric m = d.distance == Distance::l2       ? simd::Metric::l2
                           : d.distance == Distance::cosine ? simd::Metric::cosine
                                                            : simd::Metric::ip;
    space_ = must(simd::Space::make(element_, m, d.dim), "space");
    rows_ = std::make_unique<MemoryRows>(space_, d.count);
    std::vector<float> v(d.dim);
    for (uint32_t i = 0; i < d.count; i++) {
      shift(d.row(i), v.data());
      if (!rows_->add_f32(v.data())) throw std::runtime_error("a row was refused");
    }
    vector::HnswParams p;
    p.m = o.m;
    p.ef_construction = o.ef_construction;
    index_ = must(vector::hnsw_create(space_, p), "hnsw");
    std::atomic<uint32_t> next{0};
    std::vector<std::thread> threads;
    auto work = [&] {
      Scratch scratch;
      RowView view = rows_->view();
      for (uint32_t i; (i = next++) < d.count;)
        if (!index_->insert(view, i, scratch).ok()) abort();
    };
    for (unsigned t = 1; t < o.threads; t++) threads.emplace_back(work);
    work();
    for (auto &t : threads) t.join();
  }

  void search(const float *query, uint32_t k, uint32_t ef, int64_t *out) override {
    thread_local Scratch scratch;
    thread_local std::vector<float> shifted;
    thread_local std::vector<u8> buf;
    thread_local std::vector<Hit> hits;
    shifted.resize(space_.dim());
    buf.resize(space_.query_bytes());
    hits.resize(k);
    shift(query, shifted.data());
    simd::Query q;
    if (!space_.prepare_query(shifted.data(), simd::Element::f32, buf.data(), &q).ok()) abort();
    vector::SearchParams p;
    p.k = k;
    p.ef = ef;
    RowView view = rows_->view();
    auto n = index_->search(view, q, p, scratch, hits.data(), nullptr);
    if (!n.ok()) abort();
    for (uint32_t i = 0; i < k; i++) out[i] = i < *n ? hits[i].slot : -1;
  }

  size_t bytes() const override { return rows_->bytes() + index_->memory_bytes(); }

 private:
  void shift(const float *in, float *out) const {
    const float by = element_ == simd::Element::int8 ? 128.0f : 0.0f;
    for (uint32_t i = 0; i < space_.dim(); i++) out[i] = in[i] - by;
  }

  simd::Element element_;
  simd::Space space_;
  std::unique_ptr<MemoryRows> rows_;
  IndexPtr index_;
};

}  // namespace

std::unique_ptr<Engine> make_vexfs() { return std::make_unique<VexfsEngine>(simd::Element::f32); }
std::unique_ptr<Engine> make_vexfs_int8() { return std::make_unique<VexfsEngine>(simd::Element::int8); }

}  // namespace vexfs::bench
