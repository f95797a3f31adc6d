// SPDX-License-Identifier: MIT
// faiss: HNSW over f32, HNSW over 8-bit codes, and IVF with 4-bit product quantisation (FastScan) and exact reranking.
// One thread of OpenMP for each caller of search, and as many as were asked for in build.
#include "engine.h"

#ifdef VEXFS_HAVE_FAISS
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/IndexIVFPQFastScan.h>
#include <faiss/IndexRefine.h>
#pragma GCC diagnostic pop
#include <omp.h>

#include <algorithm>
#include <cmath>

#if FAISS_VERSION_MAJOR > 1 || FAISS_VERSION_MINOR >= 8
#include <faiss/impl/IDSelector.h>
#define VEXFS_FAISS_FILTERS
#endif

// OpenBLAS has threads of its own, which spin between calls. Weak: another BLAS has no such function.
extern "C" void openblas_set_num_threads(int) __attribute__((weak));

namespace vexfs::bench {
namespace {

void use_threads(unsigned n) {
  omp_set_num_threads(static_cast<int>(n));
  if (openblas_set_num_threads) openblas_set_num_threads(static_cast<int>(n));
}
// omp_set_num_threads is about the calling thread alone.
void use_one_thread() {
  thread_local bool done = false;
  if (!done) omp_set_num_threads(1);
  done = true;
}

class FaissEngine : public Engine {
 public:
  FaissEngine(const EngineSpec &spec) : spec_(spec) {
    if (spec.kind == "faiss-ivfpq")
      spec.allow({"nlist", "pq"});
    else if (spec.kind == "faiss-hnsw-sq8")
      spec.allow({"refine"});
    else
      spec.allow({});
  }
  std::string name() const override { return spec_.text; }

  void build(const Dataset &d, const BuildOptions &o) override {
    dim_ = d.dim;
    normalise_ = d.distance == Distance::cosine;
    if (spec_.kind == "faiss-ivfpq")
      make_ivf(d);
    else
      make_graph(d, o);
    use_threads(o.threads);
    std::vector<float> copy;
    const float *rows = prepared(d.base.data(), d.count, copy);
    top()->train(d.count, rows);
    top()->add(d.count, rows);
    use_threads(1);
  }

  std::vector<Effort> efforts(uint32_t k, const std::vector<uint32_t> &breadths) const override {
    if (!ivf_) {
      std::vector<Effort> all = Engine::efforts(k, breadths);
      if (refine_)
        for (Effort &e : all) e.rerank = 2;
      return all;
    }
    std::vector<Effort> all;
    for (uint32_t nprobe = 1; nprobe <= ivf_->nlist && nprobe <= 256; nprobe += (nprobe + 1) / 2)
      for (const uint32_t rerank : {4u, 10u, 30u}) all.push_back({nprobe, rerank});
    return all;
  }

  void set_effort(const Effort &e) override {
    effort_ = e;
    if (graph_) graph_->hnsw.efSearch = static_cast<int>(e.breadth);
    if (ivf_) ivf_->nprobe = e.breadth;
    if (refine_) refine_->k_factor = static_cast<float>(std::max(e.rerank, 1u));
  }

  void search(const float *queries, uint32_t nq, uint32_t k, int64_t *out) override {
    use_one_thread();
    thread_local std::vector<float> distances, copy;
    distances.resize(size_t{nq} * k);
    const float *q = prepared(queries, nq, copy);
    if (!filter_) {
      top()->search(nq, q, k, distances.data(), out);
      return;
    }
#ifdef VEXFS_FAISS_FILTERS
    faiss::IDSelectorBitmap selector(filter_->bits.size(), filter_->bits.data());
    faiss::SearchParametersHNSW of_graph;
    of_graph.efSearch = static_cast<int>(effort_.breadth);
    of_graph.sel = &selector;
    faiss::SearchParametersIVF of_ivf;
    of_ivf.nprobe = effort_.breadth;
    of_ivf.sel = &selector;
    faiss::SearchParameters *inner = &of_graph;
    if (ivf_) inner = &of_ivf;
    faiss::IndexRefineSearchParameters of_refine;
    of_refine.k_factor = static_cast<float>(std::max(effort_.rerank, 1u));
    of_refine.base_index_params = inner;
    top()->search(nq, q, k, distances.data(), out, refine_ ? &of_refine : inner);
#endif
  }

#ifdef VEXFS_FAISS_FILTERS
  bool set_filter(const Filter *f) override {
    filter_ = f;
    return true;
  }
#endif

  Footprint footprint() override {
    const auto rows = static_cast<uint64_t>(top()->ntotal);
    uint64_t bytes = 0;
    if (graph_) {
      bytes += graph_->hnsw.neighbors.size() * sizeof(graph_->hnsw.neighbors[0]) +
               rows * (sizeof(graph_->hnsw.offsets[0]) + sizeof(graph_->hnsw.levels[0]));
      bytes += rows * static_cast<faiss::IndexFlatCodes *>(graph_->storage)->code_size;
    }
    if (ivf_) bytes += rows * (ivf_->code_size + sizeof(int64_t)) + ivf_->nlist * dim_ * sizeof(float);
    if (refine_) bytes += rows * dim_ * sizeof(float);
    return {bytes, 0};
  }

 private:
  faiss::Index *top() {
    if (refine_) return refine_.get();
    if (graph_) return graph_.get();
    return ivf_.get();
  }

  void make_graph(const Dataset &d, const BuildOptions &o) {
    const auto metric = d.distance == Distance::l2 ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT;
    const int dim = static_cast<int>(d.dim), m = static_cast<int>(o.m);
    if (spec_.kind == "faiss-hnsw-sq8")
      graph_ = std::make_unique<faiss::IndexHNSWSQ>(dim, faiss::ScalarQuantizer::QT_8bit, m, metric);
    else
      graph_ = std::make_unique<faiss::IndexHNSWFlat>(dim, m, metric);
    graph_->hnsw.efConstruction = static_cast<int>(o.ef_construction);
    if (spec_.number("refine", 0)) refine_ = std::make_unique<faiss::IndexRefineFlat>(graph_.get());
  }

  // Lists of about sqrt(rows)/4 rows, a power of two of them; 4 dimensions to a code of 4 bits: faiss's guidelines.
  void make_ivf(const Dataset &d) {
    size_t nlist = 4;
    while (nlist * 2 <= 4 * std::sqrt(d.count)) nlist *= 2;
    nlist = spec_.number("nlist", static_cast<uint32_t>(nlist));
    uint32_t parts = std::max(1u, d.dim / 4);
    while (d.dim % parts) parts--;
    parts = spec_.number("pq", parts);
    const auto metric = d.distance == Distance::ip ? faiss::METRIC_INNER_PRODUCT : faiss::METRIC_L2;
    coarse_ = std::make_unique<faiss::IndexFlat>(d.dim, metric);
    ivf_ = std::make_unique<faiss::IndexIVFPQFastScan>(coarse_.get(), d.dim, nlist, parts, 4, metric);
    refine_ = std::make_unique<faiss::IndexRefineFlat>(ivf_.get());
  }

  const float *prepared(const float *in, size_t n, std::vector<float> &out) const {
    if (!normalise_) return in;
    out.assign(in, in + n * dim_);
    for (size_t i = 0; i < n; i++) normalise(&out[i * dim_], dim_);
    return out.data();
  }

  EngineSpec spec_;
  uint32_t dim_ = 0;
  bool normalise_ = false;
  Effort effort_;
  const Filter *filter_ = nullptr;
  std::unique_ptr<faiss::IndexFlat> coarse_;
  std::unique_ptr<faiss::IndexHNSW> graph_;
  std::unique_ptr<faiss::IndexIVFPQFastScan> ivf_;
  std::unique_ptr<faiss::IndexRefineFlat> refine_;  // over one of these
};

}  // namespace

std::unique_ptr<Engine> make_faiss(const EngineSpec &spec, const Dataset &) {
  return std::make_unique<FaissEngine>(spec);
}

}  // namespace vexfs::bench
#else
namespace vexfs::bench {
std::unique_ptr<Engine> make_faiss(const EngineSpec &, const Dataset &) { return nullptr; }
}  // namespace vexfs::bench
#endif
