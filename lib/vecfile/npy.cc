// SPDX-License-Identifier: MIT
// Reader of NumPy's .npy files, versions 1.0 to 3.0: C order, little-endian, one or two dimensions.
//
// The header is a Python dict literal with the keys descr, fortran_order and shape in any order. Only that is parsed,
// by a scanner that knows strings, booleans, integers and tuples of integers; nothing is evaluated.
#include <algorithm>
#include <array>
#include <cstring>

#include "readers.h"

namespace vexfs::vecfile {
namespace {

constexpr char magic[] = "\x93NUMPY";
constexpr size_t magic_bytes = 6;
constexpr uint32_t header_max = 1u << 20;

struct TypeCode {
  const char *code;
  Type type;
};
constexpr std::array<TypeCode, 11> codes{{{"<f2", Type::f16},
                                          {"<f4", Type::f32},
                                          {"<f8", Type::f64},
                                          {"|i1", Type::i8},
                                          {"|u1", Type::u8},
                                          {"<i4", Type::i32},
                                          {"<i8", Type::i64},
                                          {"<i1", Type::i8},
                                          {"<u1", Type::u8},
                                          {"=i1", Type::i8},
                                          {"=u1", Type::u8}}};

// The dict literal of the header.
class Scanner {
 public:
  Scanner(const std::string &path, const std::string &text) : path_(path), p_(text.data()), end_(p_ + text.size()) {}

  void parse() {
    expect('{');
    while (!take('}')) {
      const std::string key = string();
      expect(':');
      if (key == "descr")
        once(have_descr_, key), descr = string();
      else if (key == "fortran_order")
        once(have_order_, key), fortran = boolean();
      else if (key == "shape")
        once(have_shape_, key), shape = tuple();
      else
        fail("unknown key '" + key + "'");
      if (!take(',')) {
        expect('}');
        break;
      }
    }
    blanks();
    if (p_ != end_) fail("something follows the dict");
    if (!have_descr_ || !have_order_ || !have_shape_) fail("descr, fortran_order or shape is missing");
  }

  std::string descr;
  bool fortran = false;
  std::vector<uint64_t> shape;

 private:
  [[noreturn]] void fail(const std::string &why) const { throw Error(path_ + ": damaged .npy header: " + why); }
  void blanks() {
    while (p_ < end_ && (*p_ == ' ' || *p_ == '\n' || *p_ == '\t' || *p_ == '\r')) p_++;
  }
  bool take(char c) {
    blanks();
    if (p_ == end_ || *p_ != c) return false;
    p_++;
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(std::string("'") + c + "' expected");
  }
  void once(bool &seen, const std::string &key) {
    if (seen) fail("key '" + key + "' twice");
    seen = true;
  }
  std::string string() {
    blanks();
    if (p_ == end_ || (*p_ != '\'' && *p_ != '"')) fail("a string expected (structured types are not read)");
    const char quote = *p_++;
    const char *from = p_;
    while (p_ < end_ && *p_ != quote) p_++;
    if (p_ == end_) fail("a string does not end");
    return std::string(from, p_++);
  }
  bool word(const char *w) {
    const size_t n = strlen(w);
    if (static_cast<size_t>(end_ - p_) < n || memcmp(p_, w, n) != 0) return false;
    p_ += n;
    return true;
  }
  bool boolean() {
    blanks();
    if (word("True")) return true;
    if (word("False")) return false;
    fail("True or False expected");
  }
  uint64_t number() {
    blanks();
    if (p_ == end_ || *p_ < '0' || *p_ > '9') fail("a number expected");
    uint64_t v = 0;
    while (p_ < end_ && *p_ >= '0' && *p_ <= '9') {
      const auto digit = static_cast<uint64_t>(*p_++ - '0');
      if (v > (UINT64_MAX - digit) / 10) fail("a number is too large");
      v = v * 10 + digit;
    }
    if (p_ < end_ && *p_ == 'L') p_++;  // written by Python 2
    return v;
  }
  std::vector<uint64_t> tuple() {
    std::vector<uint64_t> t;
    expect('(');
    while (!take(')')) {
      if (t.size() == 32) fail("too many dimensions");
      t.push_back(number());
      if (!take(',')) {
        expect(')');
        break;
      }
    }
    return t;
  }

  const std::string &path_;
  const char *p_;
  const char *end_;
  bool have_descr_ = false;
  bool have_order_ = false;
  bool have_shape_ = false;
};

class NpyReader : public Reader {
 public:
  NpyReader(std::unique_ptr<File> f, bool list) : file_(std::move(f)) {
    path_ = file_->path();
    Scanner s = header();
    type_ = type_of(s.descr);
    set_shape(s, list);
    const uint64_t have = file_->size() - data_off_;
    const uint64_t row_bytes = uint64_t{dim_} * type_bytes(type_);
    if (rows_ != have / row_bytes || have % row_bytes != 0)
      throw Error(path_ + ": the header says " + std::to_string(rows_) + " rows of " + std::to_string(row_bytes) +
                  " bytes, the file holds " + std::to_string(have) + " bytes");
  }

  void read_raw(uint64_t first, size_t count, void *out) const override {
    check_range(first, count);
    const uint64_t row_bytes = uint64_t{dim_} * type_bytes(type_);
    file_->read(data_off_ + first * row_bytes, out, count * row_bytes);
  }

 private:
  Scanner header() {
    if (file_->size() < 12) throw Error(path_ + ": too short for a .npy header");
    unsigned char h[12];
    file_->read(0, h, sizeof h);
    const unsigned major = h[6];
    if (major < 1 || major > 3) throw Error(path_ + ": .npy version " + std::to_string(major) + " is not known");
    const uint32_t len =
        major == 1 ? h[8] | (h[9] << 8) : h[8] | (h[9] << 8) | (h[10] << 16) | (static_cast<uint32_t>(h[11]) << 24);
    const uint64_t at = major == 1 ? 10 : 12;
    if (len > header_max || len > file_->size() - at)
      throw Error(path_ + ": .npy header of " + std::to_string(len) + " bytes does not fit the file");
    text_.resize(len);
    file_->read(at, text_.data(), len);
    data_off_ = at + len;
    Scanner s(path_, text_);
    s.parse();
    return s;
  }

  Type type_of(const std::string &descr) const {
    for (const TypeCode &c : codes)
      if (descr == c.code) return c.type;
    throw Error(path_ + ": element type '" + descr + "' is not read (float16/32/64, int8/32/64, uint8, little-endian)");
  }

  void set_shape(const Scanner &s, bool list) {
    if (s.shape.empty() || s.shape.size() > 2)
      throw Error(path_ + ": an array of 1 or 2 dimensions expected, this has " + std::to_string(s.shape.size()));
    const bool one = s.shape.size() == 1;
    const uint64_t n = one && !list ? 1 : s.shape[0];
    const uint64_t d = !one ? s.shape[1] : list ? 1 : s.shape[0];
    if (d < 1 || d > dim_max) throw Error(path_ + ": rows of " + std::to_string(d) + " components make no sense");
    if (s.fortran && n > 1 && d > 1)
      throw Error(path_ + ": Fortran order is not read; save with numpy.ascontiguousarray");
    rows_ = n;
    dim_ = static_cast<uint32_t>(d);
  }

  std::unique_ptr<File> file_;
  std::string text_;
  uint64_t data_off_ = 0;
};

}  // namespace

bool looks_like_npy(const File &f) {
  if (f.size() < magic_bytes) return false;
  char m[magic_bytes];
  f.read(0, m, sizeof m);
  return memcmp(m, magic, magic_bytes) == 0;
}

std::unique_ptr<Reader> open_npy(std::unique_ptr<File> f, bool list) {
  return std::make_unique<NpyReader>(std::move(f), list);
}

std::string npy_header(Type type, uint32_t dim, uint64_t count) {
  const auto *code = std::find_if(codes.begin(), codes.end(), [&](const TypeCode &c) { return c.type == type; });
  std::string dict = std::string("{'descr': '") + code->code + "', 'fortran_order': False, 'shape': (" +
                     std::to_string(count) + ", " + std::to_string(dim) + "), }";
  while ((10 + dict.size() + 1) % 64 != 0) dict += ' ';  // the data begins 64-byte aligned
  dict += '\n';
  std::string h(magic, magic_bytes);
  h += {1, 0, static_cast<char>(dict.size() & 0xff), static_cast<char>(dict.size() >> 8)};
  return h + dict;
}

}  // namespace vexfs::vecfile
