// SPDX-License-Identifier: MIT
// faiss's HNSW with flat storage, as Debian packages it.
#include "engine.h"

#ifdef VEXFS_HAVE_FAISS
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <faiss/IndexHNSW.h>
#pragma GCC diagnostic pop
#include <omp.h>

#include <cmath>

namespace vexfs::bench {
namespace {

class FaissEngine : public Engine {
 public:
  std::string name() const override { return "faiss HNSW"; }

  void build(const Dataset &d, const BuildOptions &o) override {
    dim_ = d.dim;
    normalise_ = d.distance == Distance::cosine;
    index_ = std::make_unique<faiss::IndexHNSWFlat>(
        static_cast<int>(d.dim), static_cast<int>(o.m),
        d.distance == Distance::l2 ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT);
    index_->hnsw.efConstruction = static_cast<int>(o.ef_construction);
    omp_set_num_threads(static_cast<int>(o.threads));
    std::vector<float> all = d.base;
    if (normalise_)
      for (uint32_t i = 0; i < d.count; i++) normalise(&all[size_t{i} * dim_]);
    index_->add(d.count, all.data());
    omp_set_num_threads(1);
  }

  void search(const float *query, uint32_t k, uint32_t ef, int64_t *out) override {
    thread_local std::vector<float> distances, v;
    distances.resize(k);
    const float *q = query;
    if (normalise_) {
      v.assign(query, query + dim_);
      normalise(v.data());
      q = v.data();
    }
    if (index_->hnsw.efSearch != static_cast<int>(ef)) index_->hnsw.efSearch = static_cast<int>(ef);
    thread_local std::vector<faiss::Index::idx_t> ids;
    ids.resize(k);
    index_->search(1, q, k, distances.data(), ids.data());
    for (uint32_t i = 0; i < k; i++) out[i] = ids[i];
  }

  size_t bytes() const override {
    size_t links = index_->hnsw.neighbors.size() * sizeof(index_->hnsw.neighbors[0]);
    size_t perrow = sizeof(index_->hnsw.offsets[0]) + sizeof(index_->hnsw.levels[0]);
    return static_cast<size_t>(index_->ntotal) * (dim_ * sizeof(float) + perrow) + links;
  }

 private:
  void normalise(float *v) const {
    double s = 0;
    for (uint32_t i = 0; i < dim_; i++) s += double{v[i]} * v[i];
    const float f = static_cast<float>(1 / std::sqrt(s));
    for (uint32_t i = 0; i < dim_; i++) v[i] *= f;
  }

  uint32_t dim_ = 0;
  bool normalise_ = false;
  std::unique_ptr<faiss::IndexHNSWFlat> index_;
};

}  // namespace

std::unique_ptr<Engine> make_faiss() { return std::make_unique<FaissEngine>(); }

}  // namespace vexfs::bench
#else
namespace vexfs::bench {
std::unique_ptr<Engine> make_faiss() { return nullptr; }
}  // namespace vexfs::bench
#endif
