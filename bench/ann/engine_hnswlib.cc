// SPDX-License-Identifier: MIT
// hnswlib, from its headers, compiled for this machine's CPU as its documentation advises.
#include "engine.h"

#ifdef VEXFS_HAVE_HNSWLIB
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#include <hnswlib/hnswlib.h>
#pragma GCC diagnostic pop

#include <atomic>
#include <cmath>
#include <thread>

namespace vexfs::bench {
namespace {

class HnswlibEngine : public Engine {
 public:
  std::string name() const override { return "hnswlib"; }

  void build(const Dataset &d, const BuildOptions &o) override {
    dim_ = d.dim;
    normalise_ = d.distance == Distance::cosine;
    if (d.distance == Distance::l2)
      space_ = std::make_unique<hnswlib::L2Space>(d.dim);
    else
      space_ = std::make_unique<hnswlib::InnerProductSpace>(d.dim);
    index_ = std::make_unique<hnswlib::HierarchicalNSW<float>>(space_.get(), d.count, o.m, o.ef_construction);
    std::atomic<uint32_t> next{0};
    auto work = [&] {
      std::vector<float> v(d.dim);
      for (uint32_t i; (i = next++) < d.count;) index_->addPoint(prepared(d.row(i), v), i);
    };
    std::vector<std::thread> threads;
    for (unsigned t = 1; t < o.threads; t++) threads.emplace_back(work);
    work();
    for (auto &t : threads) t.join();
  }

  void search(const float *query, uint32_t k, uint32_t ef, int64_t *out) override {
    thread_local std::vector<float> v;
    v.resize(dim_);
    if (index_->ef_ != ef) index_->setEf(ef);
    auto found = index_->searchKnn(prepared(query, v), k);
    for (uint32_t i = 0; i < k; i++) out[i] = -1;
    for (size_t i = found.size(); i-- > 0; found.pop()) out[i] = static_cast<int64_t>(found.top().second);
  }

  size_t bytes() const override {
    size_t upper = 0;
    for (size_t i = 0; i < index_->cur_element_count; i++)
      upper += static_cast<size_t>(index_->element_levels_[i]) * index_->size_links_per_element_;
    return index_->cur_element_count * (index_->size_data_per_element_ + sizeof(void *) + sizeof(int)) + upper;
  }

 private:
  const float *prepared(const float *in, std::vector<float> &out) const {
    if (!normalise_) return in;
    double s = 0;
    for (uint32_t i = 0; i < dim_; i++) s += double{in[i]} * in[i];
    const float f = static_cast<float>(1 / std::sqrt(s));
    for (uint32_t i = 0; i < dim_; i++) out[i] = in[i] * f;
    return out.data();
  }

  uint32_t dim_ = 0;
  bool normalise_ = false;
  std::unique_ptr<hnswlib::SpaceInterface<float>> space_;
  std::unique_ptr<hnswlib::HierarchicalNSW<float>> index_;
};

}  // namespace

std::unique_ptr<Engine> make_hnswlib() { return std::make_unique<HnswlibEngine>(); }

}  // namespace vexfs::bench
#else
namespace vexfs::bench {
std::unique_ptr<Engine> make_hnswlib() { return nullptr; }
}  // namespace vexfs::bench
#endif
