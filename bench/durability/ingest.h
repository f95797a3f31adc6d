// SPDX-License-Identifier: MIT
// Batches of vectors that go into a collection, each durable when its call returns.
#pragma once
#include "../common/volume.h"

namespace vexfs::bench {

// Rows of 128 floats, in batches of 1,000 that each are durable when the call returns.
class Ingest {
 public:
  static constexpr uint32_t dim = 128, batch = 1000;
  static constexpr size_t batch_bytes = size_t{dim} * sizeof(float) * batch;

  Ingest(Volume &v, const std::string &name, uint16_t index)
      : v_(v), dir_(v.make(v.root(), name, 040755)), rows_(dim * batch) {
    vexfs_collection c{};
    c.dim = dim;
    c.element = VEXFS_F32;
    c.metric = VEXFS_L2;
    c.index = index;
    must(v.command(dir_, VEXFS_IOCTL_COLLECTION_CREATE, &c), "creating the collection");
  }
  ~Ingest() { vx_iput(dir_); }
  void prepare(uint64_t n) {
    uint64_t state = n + 1;
    for (float &x : rows_) x = static_cast<float>(random_u64(&state) >> 40) / (1 << 24);
  }
  const std::vector<float> &rows() const { return rows_; }
  void add() {
    vexfs_batch b{};
    b.op = VEXFS_BATCH_ADD;
    b.flags = VEXFS_BATCH_F_DURABLE;
    b.data = reinterpret_cast<__u64>(rows_.data());
    b.count = batch;
    b.dim = dim;
    b.element = VEXFS_F32;
    must(v_.command(dir_, VEXFS_IOCTL_BATCH_OPERATIONS, &b), "inserting");
    first_ = b.first_id;
  }
  // Is the last row that was added its own nearest neighbour?
  bool finds_last() {
    vexfs_search s{};
    vexfs_hit hit{};
    uint32_t count = 0;
    s.queries = reinterpret_cast<__u64>(rows_.data() + size_t{dim} * (batch - 1));
    s.hits = reinterpret_cast<__u64>(&hit);
    s.counts = reinterpret_cast<__u64>(&count);
    s.nq = 1;
    s.dim = dim;
    s.element = VEXFS_F32;
    s.k = 1;
    must(v_.command(dir_, VEXFS_IOCTL_VECTOR_SEARCH, &s), "searching");
    return count == 1 && hit.id == first_ + batch - 1 && hit.distance == 0;
  }
  vexfs_index index(uint16_t op = VEXFS_INDEX_STATUS) {
    vexfs_index i{};
    i.op = op;
    must(v_.command(dir_, VEXFS_IOCTL_MANAGE_INDEX, &i), "asking for the index");
    return i;
  }

 private:
  Volume &v_;
  vx_inode *dir_;
  std::vector<float> rows_;
  uint64_t first_ = 0;
};

}  // namespace vexfs::bench
