// SPDX-License-Identifier: MIT
// From what the user gives to rows that a collection takes.
#include "rows.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <iterator>

#include "context.h"

namespace vexfs::vexctl {
namespace {

void check_dim(uint32_t have, const vexfs_collection &c, const std::string &what) {
  if (have != c.dim)
    throw Usage(what + " has " + std::to_string(have) + " components, the collection's vectors have " +
                std::to_string(c.dim));
}

Rows from_text(const std::string &text, const vexfs_collection &c) {
  const std::vector<float> v = vecfile::parse_text(text);
  check_dim(static_cast<uint32_t>(v.size()), c, "the vector");
  Rows r;
  r.dim = c.dim;
  r.count = 1;
  r.data.resize(v.size() * sizeof(float));
  memcpy(r.data.data(), v.data(), r.data.size());
  return r;
}

bool looks_like_text(const std::string &s) {
  return !s.empty() && s.find_first_not_of("0123456789+-.eE,[] \t\n") == std::string::npos;
}

// Whether the core, which rounds to the nearest, and to the even one of two, makes it 0.
bool becomes_zero(float x, uint16_t element) {
  if (element == VEXFS_I8) return std::abs(x) <= 0.5f;
  if (element == VEXFS_F16) return std::abs(x) <= 0x1p-25f;
  return x == 0;
}

void explain_no_direction(const std::vector<float> &v, const vexfs_collection &c, const std::string &row) {
  if (c.metric != VEXFS_COSINE) return;
  if (!std::all_of(v.begin(), v.end(), [&](float x) { return becomes_zero(x, c.element); })) return;
  const bool was = std::all_of(v.begin(), v.end(), [](float x) { return x == 0; });
  const std::string rounding = was ? "" : std::string(" (after rounding to ") + client::element_name(c.element) + ")";
  throw client::Error(EINVAL, row + ": all components are zero" + rounding +
                                  ": such a vector has no direction, which is all that the collection's metric, "
                                  "cosine, compares");
}

}  // namespace

size_t rounded_to_nothing(const Rows &r, const vexfs_collection &c) {
  if (c.element != VEXFS_I8 || r.element != VEXFS_F32) return 0;
  size_t n = 0;
  std::vector<float> v(r.dim);
  for (size_t i = 0; i < r.count; i++) {
    memcpy(v.data(), r.data.data() + i * r.dim * sizeof(float), r.dim * sizeof(float));
    if (!std::all_of(v.begin(), v.end(), [](float x) { return becomes_zero(x, VEXFS_I8); })) continue;
    n += std::any_of(v.begin(), v.end(), [](float x) { return x != 0; });
  }
  return n;
}

std::string rounded_text(uint64_t rows, const vexfs_collection &c) {
  return human_count(rows) + (rows == 1 ? " row was" : " rows were") +
         " not zero and became all zeroes in collection " + std::to_string(c.id) +
         ": i8 rounds to whole numbers (-128 to 127) and does not scale";
}

void explain_refusal(const Rows &r, const vexfs_collection &c, const std::string &what) {
  for (size_t i = 0; i < r.count; i++) {
    const auto v = to_floats(r.data.data() + i * r.dim * client::element_bytes(r.element), r.element, r.dim);
    const std::string row = r.count > 1 ? what + ": row " + std::to_string(i) : what;
    for (size_t k = 0; k < v.size(); k++) {
      if (!std::isfinite(v[k]))
        throw client::Error(EINVAL, row + ": component " + std::to_string(k) + " is " +
                                        (std::isnan(v[k]) ? "not a number" : "infinite"));
      if (c.element == VEXFS_I8 && (v[k] < -128.5f || v[k] >= 127.5f))
        throw client::Error(EINVAL, row + ": component " + std::to_string(k) + " does not fit i8 (-128 to 127)" +
                                        (r.unsigned_bytes ? "; --shift takes unsigned bytes as v - 128" : ""));
      if (c.element == VEXFS_F16 && std::abs(v[k]) >= 65520.0f)  // what rounds to 65504, the greatest, does fit
        throw client::Error(EINVAL, row + ": component " + std::to_string(k) + " is too large for f16");
    }
    explain_no_direction(v, c, row);
  }
}

uint16_t element_for(vecfile::Type type, const vexfs_collection &c, bool shift) {
  if (shift) {
    if (type != vecfile::Type::u8) throw Usage("--shift is for files of unsigned bytes");
    if (c.element != VEXFS_I8) throw Usage("--shift is for collections of int8");
    return VEXFS_I8;
  }
  if (type == vecfile::Type::f16 && c.element == VEXFS_F16) return VEXFS_F16;
  if (type == vecfile::Type::i8 && c.element == VEXFS_I8) return VEXFS_I8;
  return VEXFS_F32;
}

void read_rows(const vecfile::Reader &r, uint64_t first, size_t count, const vexfs_collection &c, bool shift,
               Rows *out) {
  check_dim(r.dim(), c, r.path());
  out->element = element_for(r.type(), c, shift);
  out->dim = c.dim;
  out->count = count;
  out->unsigned_bytes = r.type() == vecfile::Type::u8 && !shift;
  out->data.resize(count * c.dim * client::element_bytes(out->element));
  if (out->element == VEXFS_F32) {
    r.read_f32(first, count, reinterpret_cast<float *>(out->data.data()));
    return;
  }
  r.read_raw(first, count, out->data.data());
  if (shift)
    for (uint8_t &b : out->data) b ^= 0x80;  // v - 128 in two's complement
}

Rows rows_from_argument(const std::string &value, int64_t row, const vexfs_collection &c, bool shift) {
  if (value == "-") {
    const std::string text(std::istreambuf_iterator<char>(std::cin), {});
    if (shift) throw Usage("--shift is for files of unsigned bytes");
    return from_text(text, c);
  }
  std::error_code too_long;  // for a name of a file, as a vector of many dimensions is
  const bool is_file = std::filesystem::exists(value, too_long);
  if (!is_file && (value.empty() || value.front() == '[' || looks_like_text(value))) {
    if (shift) throw Usage("--shift is for files of unsigned bytes");
    return from_text(value, c);
  }
  const auto file = vecfile::open(value);
  Rows r;
  if (row >= 0)
    read_rows(*file, static_cast<uint64_t>(row), 1, c, shift, &r);
  else
    read_rows(*file, 0, file->rows(), c, shift, &r);
  return r;
}

std::vector<float> to_floats(const void *data, uint16_t element, size_t n) {
  std::vector<float> out(n);
  const auto *p = static_cast<const uint8_t *>(data);
  for (size_t i = 0; i < n; i++) {
    uint16_t h = 0;
    switch (element) {
      case VEXFS_F32:
        memcpy(&out[i], p + 4 * i, 4);
        break;
      case VEXFS_F16:
        memcpy(&h, p + 2 * i, 2);
        out[i] = vecfile::half_to_float(h);
        break;
      case VEXFS_BF16:
        memcpy(&h, p + 2 * i, 2);
        out[i] = std::bit_cast<float>(static_cast<uint32_t>(h) << 16);
        break;
      default:
        out[i] = static_cast<int8_t>(p[i]);
        break;
    }
  }
  return out;
}

}  // namespace vexfs::vexctl
