// SPDX-License-Identifier: MIT
// Files of vectors: opening by name, conversion of components, text vectors, writing.
#include "vecfile.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "file.h"
#include "readers.h"

namespace vexfs::vecfile {

static_assert(std::endian::native == std::endian::little, "the formats are read without swapping bytes");

size_t type_bytes(Type t) {
  switch (t) {
    case Type::i8:
    case Type::u8:
      return 1;
    case Type::f16:
      return 2;
    case Type::f32:
    case Type::i32:
      return 4;
    case Type::f64:
    case Type::i64:
      return 8;
  }
  return 0;
}

const char *type_name(Type t) {
  switch (t) {
    case Type::i8:
      return "int8";
    case Type::u8:
      return "uint8";
    case Type::f16:
      return "float16";
    case Type::f32:
      return "float32";
    case Type::i32:
      return "int32";
    case Type::f64:
      return "float64";
    case Type::i64:
      return "int64";
  }
  return "?";
}

// -------------------------------------------------------------------- file
File::File(std::string path) : path_(std::move(path)), fd_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (fd_ < 0) throw Error(path_ + ": " + strerror(errno), errno);
  struct stat st;
  if (::fstat(fd_, &st) != 0 || !S_ISREG(st.st_mode)) {
    ::close(fd_);
    throw Error(path_ + ": not a regular file");
  }
  size_ = static_cast<uint64_t>(st.st_size);
}

File::~File() { ::close(fd_); }

void File::read(uint64_t off, void *buf, size_t n) const {
  if (n > size_ || off > size_ - n) throw Error(path_ + ": read beyond the end of the file");
  auto *p = static_cast<char *>(buf);
  for (size_t done = 0; done < n;) {
    const ssize_t got = ::pread(fd_, p + done, n - done, static_cast<off_t>(off + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(path_ + ": " + strerror(errno), errno);
    if (got == 0) throw Error(path_ + ": the file became shorter while it was read");
    done += static_cast<size_t>(got);
  }
}

// ------------------------------------------------------------------ reading
void Reader::check_range(uint64_t first, size_t count) const {
  if (count > rows_ || first > rows_ - count)
    throw Error(path_ +
                (count == 1 ? ": row " + std::to_string(first)
                            : ": rows " + std::to_string(first) + " to " + std::to_string(first + count - 1)) +
                " wanted, the file has " + std::to_string(rows_) + " rows, the first is 0");
}

float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t exponent = (h >> 10) & 0x1fu;
  const uint32_t fraction = h & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  const float tiny = std::ldexp(static_cast<float>(fraction), -24);  // subnormal or zero: exact
  return sign ? -tiny : tiny;
}

namespace {

template <class From, class To, class F>
void convert_each(const unsigned char *from, size_t n, To *to, F f) {
  for (size_t i = 0; i < n; i++) {
    From v;
    memcpy(&v, from + i * sizeof v, sizeof v);
    to[i] = f(v);
  }
}

template <class To>
void convert(Type type, const unsigned char *from, size_t n, To *to) {
  auto plain = [](auto v) { return static_cast<To>(v); };
  switch (type) {
    case Type::i8:
      convert_each<int8_t>(from, n, to, plain);
      break;
    case Type::u8:
      convert_each<uint8_t>(from, n, to, plain);
      break;
    case Type::i32:
      convert_each<int32_t>(from, n, to, plain);
      break;
    case Type::i64:
      convert_each<int64_t>(from, n, to, plain);
      break;
    case Type::f32:
      convert_each<float>(from, n, to, plain);
      break;
    case Type::f64:
      convert_each<double>(from, n, to, plain);
      break;
    case Type::f16:
      convert_each<uint16_t>(from, n, to, [](uint16_t h) { return static_cast<To>(half_to_float(h)); });
  }
}

constexpr size_t piece_bytes = size_t{1} << 20;

template <class To>
void read_converted(const Reader &r, uint64_t first, size_t count, To *out) {
  const size_t row_bytes = r.dim() * type_bytes(r.type());
  const size_t step = std::max<size_t>(1, piece_bytes / row_bytes);
  std::vector<unsigned char> raw(std::min(step, count) * row_bytes);
  for (size_t done = 0; done < count;) {
    const size_t n = std::min(step, count - done);
    r.read_raw(first + done, n, raw.data());
    convert(r.type(), raw.data(), n * r.dim(), out + done * r.dim());
    done += n;
  }
}

bool ends_with(const std::string &s, const char *tail) {
  const size_t n = strlen(tail);
  return s.size() >= n && s.compare(s.size() - n, n, tail) == 0;
}

}  // namespace

void Reader::read_f32(uint64_t first, size_t count, float *out) const {
  check_range(first, count);
  if (type_ == Type::f32) return read_raw(first, count, out);
  read_converted(*this, first, count, out);
}

void Reader::read_i64(uint64_t first, size_t count, int64_t *out) const {
  check_range(first, count);
  if (type_ == Type::f16 || type_ == Type::f32 || type_ == Type::f64)
    throw Error(path_ + ": integers wanted, the file holds " + type_name(type_));
  if (type_ == Type::i64) return read_raw(first, count, out);
  read_converted(*this, first, count, out);
}

namespace {

std::unique_ptr<Reader> open_any(const std::string &path, bool list) {
  auto f = std::make_unique<File>(path);
  if (looks_like_npy(*f)) return open_npy(std::move(f), list);
  if (ends_with(path, ".npy")) throw Error(path + ": not a NumPy file (the magic is missing)");
  if (ends_with(path, ".fvecs")) return open_xvecs(std::move(f), Type::f32);
  if (ends_with(path, ".bvecs")) return open_xvecs(std::move(f), Type::u8);
  if (ends_with(path, ".ivecs")) return open_xvecs(std::move(f), Type::i32);
  throw Error(path + ": unknown format (known: .npy .fvecs .bvecs .ivecs)");
}

}  // namespace

std::unique_ptr<Reader> open(const std::string &path) { return open_any(path, false); }
std::unique_ptr<Reader> open_list(const std::string &path) { return open_any(path, true); }

// --------------------------------------------------------------------- text
std::vector<float> parse_text(std::string_view text) {
  auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
  const char *p = text.data();
  const char *end = p + text.size();
  auto skip = [&] {
    while (p < end && blank(*p)) p++;
  };
  skip();
  while (end > p && blank(end[-1])) end--;
  if (p < end && *p == '[') {
    if (end[-1] != ']') throw Error("vector text: '[' without ']'");
    p++, end--;
  }
  std::vector<float> v;
  skip();
  while (p < end) {
    if (*p == '+') p++;
    float x = 0;
    const auto [next, ec] = std::from_chars(p, end, x);
    const std::string where = "vector text: component " + std::to_string(v.size() + 1);
    if (ec == std::errc::result_out_of_range) throw Error(where + " does not fit a 32-bit float");
    if (ec != std::errc() || next == p) throw Error(where + " is not a number");
    if (!std::isfinite(x)) throw Error(where + " is not finite");
    if (v.size() == dim_max) throw Error("vector text: too many components");
    v.push_back(x);
    p = next;
    const char *before = p;
    skip();
    if (p < end && *p == ',') {
      p++;
      skip();
      if (p == end) throw Error("vector text: nothing after the last comma");
    } else if (p < end && p == before) {
      throw Error(where + " is followed by '" + std::string(1, *p) + "'");
    }
  }
  if (v.empty()) throw Error("vector text: no components");
  return v;
}

// ------------------------------------------------------------------ writing
void write(const std::string &path, Type type, uint32_t dim, uint64_t count, const void *data) {
  const bool npy = ends_with(path, ".npy");
  const bool fits = npy || (type == Type::f32 && ends_with(path, ".fvecs")) ||
                    (type == Type::u8 && ends_with(path, ".bvecs")) || (type == Type::i32 && ends_with(path, ".ivecs"));
  if (!fits) throw Error(path + ": this kind of file cannot hold " + type_name(type));
  std::unique_ptr<FILE, int (*)(FILE *)> out(fopen(path.c_str(), "wbe"), fclose);
  if (!out) throw Error(path + ": " + strerror(errno), errno);
  const auto *p = static_cast<const unsigned char *>(data);
  const size_t row_bytes = dim * type_bytes(type);
  if (npy) {
    const std::string h = npy_header(type, dim, count);
    fwrite(h.data(), 1, h.size(), out.get());
  }
  for (uint64_t i = 0; i < count; i++) {
    const auto d = static_cast<int32_t>(dim);
    if (!npy) fwrite(&d, sizeof d, 1, out.get());
    fwrite(p + i * row_bytes, 1, row_bytes, out.get());
  }
  const bool bad = ferror(out.get()) != 0;
  if (fclose(out.release()) != 0 || bad) throw Error(path + ": " + strerror(errno), errno);
}

}  // namespace vexfs::vecfile
