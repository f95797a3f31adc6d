// SPDX-License-Identifier: MIT
// Reader of .fvecs, .bvecs and .ivecs files.
#include <algorithm>
#include <cstring>

#include "readers.h"

namespace vexfs::vecfile {
namespace {

constexpr size_t piece_bytes = size_t{1} << 20;

class XvecsReader : public Reader {
 public:
  XvecsReader(std::unique_ptr<File> f, Type type) : file_(std::move(f)) {
    path_ = file_->path();
    type_ = type;
    if (file_->size() == 0) throw Error(path_ + ": empty");
    if (file_->size() < 4) throw Error(path_ + ": too short for one row");
    int32_t d;
    file_->read(0, &d, sizeof d);
    if (d < 1 || static_cast<uint32_t>(d) > dim_max)
      throw Error(path_ + ": dimension " + std::to_string(d) + " of the first row makes no sense");
    dim_ = static_cast<uint32_t>(d);
    stride_ = 4 + uint64_t{dim_} * type_bytes(type_);
    if (file_->size() % stride_ != 0)
      throw Error(path_ + ": size " + std::to_string(file_->size()) + " is no multiple of a row of " +
                  std::to_string(stride_) + " bytes (dimension " + std::to_string(dim_) + ")");
    rows_ = file_->size() / stride_;
  }

  void read_raw(uint64_t first, size_t count, void *out) const override {
    check_range(first, count);
    auto *to = static_cast<unsigned char *>(out);
    const size_t row_bytes = stride_ - 4;
    const size_t step = std::max<size_t>(1, piece_bytes / stride_);
    std::vector<unsigned char> piece(std::min(step, count) * stride_);
    for (size_t done = 0; done < count;) {
      const size_t n = std::min(step, count - done);
      file_->read((first + done) * stride_, piece.data(), n * stride_);
      for (size_t i = 0; i < n; i++) {
        const unsigned char *row = piece.data() + i * stride_;
        int32_t d;
        memcpy(&d, row, sizeof d);
        if (d < 0 || static_cast<uint32_t>(d) != dim_)
          throw Error(path_ + ": row " + std::to_string(first + done + i) + " has dimension " + std::to_string(d) +
                      ", the first has " + std::to_string(dim_));
        memcpy(to + (done + i) * row_bytes, row + 4, row_bytes);
      }
      done += n;
    }
  }

 private:
  std::unique_ptr<File> file_;
  uint64_t stride_ = 0;
};

}  // namespace

std::unique_ptr<Reader> open_xvecs(std::unique_ptr<File> f, Type type) {
  return std::make_unique<XvecsReader>(std::move(f), type);
}

}  // namespace vexfs::vecfile
