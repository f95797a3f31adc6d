// SPDX-License-Identifier: MIT
// From what the user gives (text, stdin, vector files) to rows that a collection takes.
#pragma once
#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../../include/uapi/vexfs.h"
#include "../../lib/client/error.h"
#include "../../lib/vecfile/vecfile.h"

namespace vexfs::vexctl {

// Rows in a form that the ABI takes for a collection: its own element type where the file has it, else f32.
struct Rows {
  uint16_t element = VEXFS_F32;
  uint32_t dim = 0;
  size_t count = 0;
  std::vector<uint8_t> data;
  bool unsigned_bytes = false;  // of a file, taken as they are: --shift would have made them signed
};

// The element type in which rows of a file go into the collection. shift: unsigned bytes become signed ones (v - 128),
// which keeps L2 distances as they are.
uint16_t element_for(vecfile::Type type, const vexfs_collection &c, bool shift);
// Rows [first, first + count) of the file. Throws Usage when the dimension is not the collection's.
void read_rows(const vecfile::Reader &r, uint64_t first, size_t count, const vexfs_collection &c, bool shift,
               Rows *out);

// --vector and --query: text ("[1,2,3]"), "-" (text on stdin) or a vector file. row: which row of a file; negative:
// all.
Rows rows_from_argument(const std::string &value, int64_t row, const vexfs_collection &c, bool shift);

// The components as f32, whatever the element type (for printing).
std::vector<float> to_floats(const void *data, uint16_t element, size_t n);

// How many rows have a direction, and lose it when the core rounds them to i8.
size_t rounded_to_nothing(const Rows &r, const vexfs_collection &c);
// What the user should know of so many, who most likely has floats that had to be scaled first.
std::string rounded_text(uint64_t rows, const vexfs_collection &c);

// The core says EINVAL of rows that it refuses. Throws client::Error with the reason, if one of the rows shows it.
void explain_refusal(const Rows &r, const vexfs_collection &c, const std::string &what);
// Runs f, which hands the rows to the core.
template <class F>
auto with_reason(const Rows &r, const vexfs_collection &c, const std::string &what, F f) {
  try {
    return f();
  } catch (const client::Error &e) {
    if (e.err() == EINVAL) explain_refusal(r, c, what);
    throw;
  }
}

}  // namespace vexfs::vexctl
