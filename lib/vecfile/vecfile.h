// SPDX-License-Identifier: MIT
// Files of vectors: NumPy .npy (f2, f4, f8, i1, u1, i4, i8) and the .fvecs / .bvecs / .ivecs of the TEXMEX corpora, and
// vectors written as text. Files are read with pread in pieces, never as a whole, and every figure in a header is
// checked against the size of the file before it is used.
//
// .npy: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
// .?vecs: http://corpus-texmex.irisa.fr/ (each row is its own dimension as int32, then the components)
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace vexfs::vecfile {

enum class Type : uint8_t { f16, f32, f64, i8, u8, i32, i64 };
size_t type_bytes(Type t);
const char *type_name(Type t);

// What is wrong with a file or a text, in words for the user; err: the errno of a failed system call, else 0.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string &what, int err = 0) : std::runtime_error(what), err_(err) {}
  int err() const { return err_; }

 private:
  int err_;
};

constexpr uint32_t dim_max = 1u << 20;  // far above any dimension of an embedding: ground truth lists are rows too

// Rows of one dimension and type. Reading is const and may be done from several threads at once.
class Reader {
 public:
  virtual ~Reader() = default;
  Reader(const Reader &) = delete;
  Reader &operator=(const Reader &) = delete;

  uint64_t rows() const { return rows_; }
  uint32_t dim() const { return dim_; }
  Type type() const { return type_; }
  const std::string &path() const { return path_; }

  // Components of rows [first, first + count) as they are in the file (native byte order), row after row, into
  // count * dim * type_bytes(type) bytes. Throws Error when the range is not there or a row is damaged.
  virtual void read_raw(uint64_t first, size_t count, void *out) const = 0;
  // The same as f32, whatever the type. Integers beyond 2^24 lose precision.
  void read_f32(uint64_t first, size_t count, float *out) const;
  // The same as 64-bit integers: integer types only.
  void read_i64(uint64_t first, size_t count, int64_t *out) const;

 protected:
  Reader() = default;
  void check_range(uint64_t first, size_t count) const;

  std::string path_;
  uint64_t rows_ = 0;
  uint32_t dim_ = 0;
  Type type_ = Type::f32;
};

// Opens by the name's ending (.npy .fvecs .bvecs .ivecs), or by the npy magic whatever the name. Throws Error.
std::unique_ptr<Reader> open(const std::string &path);
// The same for a list of scalars (ids, tags): a one-dimensional .npy array is rows of dimension 1 instead of one row.
std::unique_ptr<Reader> open_list(const std::string &path);

// One vector as text: numbers between optional brackets, separated by commas and/or blanks. NaN and infinity are
// refused.
std::vector<float> parse_text(std::string_view text);

// Writes count rows of dim components. The ending of the path decides the format, which must be able to hold the type.
void write(const std::string &path, Type type, uint32_t dim, uint64_t count, const void *data);

float half_to_float(uint16_t h);  // IEEE-754 binary16, every bit pattern

}  // namespace vexfs::vecfile
