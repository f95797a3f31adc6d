// SPDX-License-Identifier: MIT
// VexFS's index alone, over rows in memory: what is left of "vexfs" without tables, snapshots, permissions and copies.
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

// Every kind of index that can be made over rows in memory.
struct CoreIndex {
  const char *name;
  Result<IndexPtr> (*make)(const simd::Space &space, const BuildOptions &o, vector::HnswParams::Codes codes);
};
constexpr struct {
  const char *name;
  vector::HnswParams::Codes codes;
} code_kinds[] = {{"auto", vector::HnswParams::Codes::automatic},  {"none", vector::HnswParams::Codes::none},
                  {"sq8", vector::HnswParams::Codes::sq8},         {"sq4", vector::HnswParams::Codes::sq4},
                  {"rabitq2", vector::HnswParams::Codes::rabitq2}, {"rabitq1", vector::HnswParams::Codes::rabitq1}};
constexpr CoreIndex core_indexes[] = {
    {"hnsw",
     [](const simd::Space &space, const BuildOptions &o, vector::HnswParams::Codes codes) {
       vector::HnswParams p;
       p.codes = codes;
       p.m = o.m;
       p.ef_construction = o.ef_construction;
       return vector::hnsw_create(space, p);
     }},
};
constexpr struct {
  const char *name;
  simd::Element element;
} elements[] = {{"f32", simd::Element::f32},
                {"f16", simd::Element::f16},
                {"bf16", simd::Element::bf16},
                {"int8", simd::Element::int8}};

simd::Metric metric_of(Distance d) {
  return d == Distance::l2 ? simd::Metric::l2 : d == Distance::cosine ? simd::Metric::cosine : simd::Metric::ip;
}

class CoreEngine : public Engine {
 public:
  CoreEngine(const EngineSpec &spec, const Dataset &d) : spec_(spec) {
    spec.allow({"index", "element", "codes"});
    bool known = false;
    for (const auto &e : elements)
      if (spec.get("element", "f32") == e.name) element_ = e.element, known = true;
    if (!known) throw std::runtime_error(spec.text + ": no such element");
    for (const CoreIndex &i : core_indexes)
      if (spec.get("index", "hnsw") == i.name) kind_ = &i;
    bool coded = false;
    for (const auto &c : code_kinds)
      if (spec.get("codes", "auto") == c.name) codes_ = c.codes, coded = true;
    if (!coded) throw std::runtime_error(spec.text + ": no such codes");
    if (!kind_) throw std::runtime_error(spec.text + ": no such index");
    if (element_ == simd::Element::int8 && !(d.integral && d.distance == Distance::l2))
      throw std::runtime_error(spec.text + ": only for sets of integers 0..255 under l2");
  }
  std::string name() const override { return spec_.text; }

  void build(const Dataset &d, const BuildOptions &o) override {
    space_ = must(simd::Space::make(element_, metric_of(d.distance), d.dim), "space");
    rows_ = std::make_unique<MemoryRows>(space_, std::max(o.capacity, d.count));
    index_ = must(kind_->make(space_, o, codes_), "index");
    for (uint32_t i = 0; i < d.count; i++) add_row(d.row(i));
    if (index_->must_learn()) {
      Scratch scratch;
      RowView view = rows_->view();
      if (!index_
               ->learn(
                   view, d.count, scratch, [](void *) { return false; }, nullptr)
               .ok())
        throw std::runtime_error(spec_.text + ": learning failed");
    }
    std::atomic<uint32_t> next{0};
    std::atomic<bool> failed{false};
    const auto work = [&] {
      Scratch scratch;
      RowView view = rows_->view();
      for (uint32_t i; (i = next++) < d.count;)
        if (!index_->insert(view, i, scratch).ok()) failed = true;
    };
    std::vector<std::thread> threads;
    for (unsigned t = 1; t < o.threads; t++) threads.emplace_back(work);
    work();
    for (auto &t : threads) t.join();
    if (failed) throw std::runtime_error(spec_.text + ": indexing failed");
  }

  void set_effort(const Effort &e) override { effort_ = e; }

  void search(const float *queries, uint32_t nq, uint32_t k, int64_t *out) override {
    thread_local Scratch scratch;
    thread_local std::vector<float> shifted;
    thread_local std::vector<u8> buf;
    thread_local std::vector<Hit> hits;
    shifted.resize(space_.dim());
    buf.resize(space_.query_bytes());
    hits.resize(k);
    vector::SearchParams p;
    p.k = k;
    p.ef = effort_.breadth;
    for (uint32_t i = 0; i < nq; i++, out += k) {
      shift(queries + size_t{i} * space_.dim(), shifted.data());
      simd::Query q;
      if (!space_.prepare_query(shifted.data(), simd::Element::f32, buf.data(), &q).ok())
        throw std::runtime_error("a query was refused");
      RowView view = rows_->view();
      const u32 n = must(index_->search(view, q, p, scratch, hits.data(), nullptr), "searching");
      for (uint32_t j = 0; j < k; j++) out[j] = j < n ? static_cast<int64_t>(hits[j].slot) : -1;
    }
  }

  Footprint footprint() override { return {rows_->bytes() + index_->memory_bytes(), 0}; }

  bool can_insert() const override { return true; }
  void insert(const Dataset &d, uint32_t from, uint32_t n) override {
    Scratch scratch;
    for (uint32_t i = from; i < from + n; i++) {
      if (rows_->size() != i) throw std::logic_error("rows come in order");
      add_row(d.row(i));
      RowView view = rows_->view();
      if (!index_->insert(view, i, scratch).ok()) throw std::runtime_error(spec_.text + ": inserting failed");
    }
  }
  bool can_erase() const override { return true; }
  void erase(const std::vector<uint32_t> &ids) override {
    Scratch scratch;
    for (const uint32_t id : ids) {
      rows_->kill(id);
      RowView view = rows_->view();
      if (!index_->remove(view, id, scratch).ok()) throw std::runtime_error(spec_.text + ": deleting failed");
    }
  }

 private:
  void add_row(const float *in) {
    std::vector<float> v(space_.dim());
    shift(in, v.data());
    if (!rows_->add_f32(v.data())) throw std::runtime_error("a row was refused");
  }
  void shift(const float *in, float *out) const {
    const float by = element_ == simd::Element::int8 ? 128.0f : 0.0f;
    for (uint32_t i = 0; i < space_.dim(); i++) out[i] = in[i] - by;
  }

  EngineSpec spec_;
  simd::Element element_ = simd::Element::f32;
  vector::HnswParams::Codes codes_ = vector::HnswParams::Codes::automatic;
  const CoreIndex *kind_ = nullptr;
  Effort effort_;
  simd::Space space_;
  std::unique_ptr<MemoryRows> rows_;
  IndexPtr index_;
};

}  // namespace

std::unique_ptr<Engine> make_core(const EngineSpec &spec, const Dataset &d) {
  return std::make_unique<CoreEngine>(spec, d);
}

}  // namespace vexfs::bench
