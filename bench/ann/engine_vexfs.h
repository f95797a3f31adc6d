// SPDX-License-Identifier: MIT
// VexFS on an image file as an engine. Kind of index and type of element are by name, so that what libvexfs learns to
// name can be measured.
#pragma once
#include "../../lib/image/target.h"
#include "../common/volume.h"
#include "engine.h"

namespace vexfs::bench {

class VexfsEngine : public Engine {
 public:
  VexfsEngine(const EngineSpec &spec, const Dataset &d);

  std::string name() const override { return spec_.text; }
  void build(const Dataset &d, const BuildOptions &o) override;
  std::vector<Effort> efforts(uint32_t k, const std::vector<uint32_t> &breadths) const override;
  void set_effort(const Effort &e) override { effort_ = e; }
  void search(const float *queries, uint32_t nq, uint32_t k, int64_t *out) override;
  Footprint footprint() override;
  bool set_filter(const Filter *f) override {
    filter_ = f;
    return true;
  }
  bool filter_is_exact() const override { return true; }
  bool can_insert() const override { return true; }
  void insert(const Dataset &d, uint32_t from, uint32_t n) override { add(d, from, n, 0); }
  void settle() override;
  bool can_erase() const override { return true; }
  void erase(const std::vector<uint32_t> &ids) override;
  bool can_aim() const override { return kind_ != VEXFS_INDEX_FLAT; }
  Aim aim(double recall, const float *query, uint32_t k) override;
  bool cold_start(const float *query, uint32_t k, ColdStart *c) override;

  // Steps of build, for who measures them: an empty collection; rows with VEXFS_BATCH_F_*; the index, with all rows.
  void create(const Dataset &d, const BuildOptions &o, bool filled);
  void add(const Dataset &d, uint32_t from, uint32_t n, uint32_t flags);
  void make_index(const BuildOptions &o);

 private:
  double mount();
  const float *prepared(const float *v, size_t n, std::vector<float> &buf) const;

  EngineSpec spec_;
  uint16_t element_ = 0, kind_ = 0;
  uint32_t dim_ = 0;
  float shift_ = 0;  // int8 rows of sets 0..255
  uint64_t empty_bytes_ = 0;
  Effort effort_;
  const Filter *filter_ = nullptr;
  std::unique_ptr<Volume> volume_;
  std::unique_ptr<client::Target> target_;  // goes before the volume
};

}  // namespace vexfs::bench
