// SPDX-License-Identifier: MIT
// Vector files: what is written is read back; every malformed file is refused with a message, never read beyond.
#include "../../lib/vecfile/vecfile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>

#include "../../lib/vecfile/readers.h"

namespace vexfs::vecfile {
namespace {

using ::testing::HasSubstr;

class VecFile : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "vecfile.XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::string put(const std::string &name, const std::string &bytes) {
    const std::string path = dir_ + "/" + name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  static std::string npy(const std::string &dict, const std::string &data, unsigned major = 1) {
    std::string h("\x93NUMPY", 6);
    h += static_cast<char>(major);
    h += '\0';
    h += static_cast<char>(dict.size() & 0xff);
    h += static_cast<char>(dict.size() >> 8);
    if (major > 1) h += std::string(2, '\0');
    return h + dict + data;
  }
  static std::string refusal(const std::string &path) {
    try {
      auto r = open(path);
      std::vector<float> all(r->rows() * r->dim());
      r->read_f32(0, r->rows(), all.data());
    } catch (const Error &e) {
      return e.what();
    }
    return "";
  }
  template <class T>
  static std::string raw(std::initializer_list<T> v) {
    return std::string(reinterpret_cast<const char *>(v.begin()), v.size() * sizeof(T));
  }

  std::string dir_;
};

TEST_F(VecFile, RoundTripOfEveryWritableType) {
  std::mt19937 rng(1);
  for (Type t : {Type::f16, Type::f32, Type::f64, Type::i8, Type::u8, Type::i32, Type::i64}) {
    const uint32_t dim = 37;
    const uint64_t n = 1000;
    std::vector<unsigned char> data(n * dim * type_bytes(t));
    for (auto &b : data) b = static_cast<unsigned char>(rng() & 0x3f);  // finite in every float type
    const std::string path = dir_ + "/a.npy";
    write(path, t, dim, n, data.data());
    auto r = open(path);
    EXPECT_EQ(r->rows(), n);
    EXPECT_EQ(r->dim(), dim);
    EXPECT_EQ(r->type(), t);
    std::vector<unsigned char> back(data.size());
    r->read_raw(0, n, back.data());
    EXPECT_EQ(back, data);
    r->read_raw(n - 1, 1, back.data());
    EXPECT_EQ(memcmp(back.data(), data.data() + (n - 1) * dim * type_bytes(t), dim * type_bytes(t)), 0);
    EXPECT_EQ(std::filesystem::file_size(path) % 64, data.size() % 64);
  }
}

TEST_F(VecFile, RoundTripOfXvecs) {
  const std::vector<float> f{1, 2, 3, 4, 5, 6};
  write(dir_ + "/a.fvecs", Type::f32, 3, 2, f.data());
  auto r = open(dir_ + "/a.fvecs");
  std::vector<float> back(6);
  r->read_f32(0, 2, back.data());
  EXPECT_EQ(back, f);
  const std::vector<uint8_t> b{0, 128, 255};
  write(dir_ + "/a.bvecs", Type::u8, 3, 1, b.data());
  back.resize(3);
  open(dir_ + "/a.bvecs")->read_f32(0, 1, back.data());
  EXPECT_EQ(back, (std::vector<float>{0, 128, 255}));
  const std::vector<int32_t> i{-1, 7, 1 << 30};
  write(dir_ + "/a.ivecs", Type::i32, 3, 1, i.data());
  std::vector<int64_t> ids(3);
  open(dir_ + "/a.ivecs")->read_i64(0, 1, ids.data());
  EXPECT_EQ(ids, (std::vector<int64_t>{-1, 7, 1 << 30}));
  EXPECT_THROW(write(dir_ + "/b.fvecs", Type::u8, 3, 1, b.data()), Error);
  EXPECT_THROW(write(dir_ + "/no/such/dir.npy", Type::u8, 3, 1, b.data()), Error);
}

TEST_F(VecFile, PiecewiseConversionCrossesPieces) {
  const uint32_t dim = 3001;
  const uint64_t n = 777;  // more than one piece of a megabyte
  std::vector<uint8_t> data(n * dim);
  for (size_t i = 0; i < data.size(); i++) data[i] = static_cast<uint8_t>(i * 7);
  write(dir_ + "/a.bvecs", Type::u8, dim, n, data.data());
  std::vector<float> back(data.size());
  open(dir_ + "/a.bvecs")->read_f32(0, n, back.data());
  for (size_t i = 0; i < data.size(); i++) ASSERT_EQ(back[i], data[i]) << i;
}

TEST_F(VecFile, HeaderAsNumpyWritesIt) {
  const std::string data = raw<float>({1, 2, 3, 4, 5, 6});
  for (const char *dict : {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n",
                           "{\"shape\":(2L,3L),\"descr\":\"<f4\",\"fortran_order\":False}",
                           "{'fortran_order': False,'descr': '<f4', 'shape': ( 2 , 3 , ) , }      \n"}) {
    for (unsigned major : {1u, 2u, 3u}) {
      auto r = open(put("a.npy", npy(dict, data, major)));
      EXPECT_EQ(r->rows(), 2u);
      EXPECT_EQ(r->dim(), 3u);
    }
  }
  auto one = open(put("one.npy", npy("{'descr': '<f4', 'fortran_order': True, 'shape': (6,), }", data)));
  EXPECT_EQ(one->rows(), 1u);
  EXPECT_EQ(one->dim(), 6u);
  auto list = open_list(dir_ + "/one.npy");
  EXPECT_EQ(list->rows(), 6u);
  EXPECT_EQ(list->dim(), 1u);
  auto magic_only = open(put("noending", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", data)));
  EXPECT_EQ(magic_only->dim(), 6u);
}

TEST_F(VecFile, MalformedNpyIsRefused) {
  const std::string d24(24, '\0');
  struct Case {
    const char *dict, *says;
  } cases[] = {
      {"", "'{' expected"},
      {"{", "string expected"},
      {"{'descr': '<f4'", "'}' expected"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} x", "follows"},
      {"{'descr': '<f4', 'fortran_order': False}", "missing"},
      {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,3)}", "twice"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,3), 'extra': 'x'}", "unknown key"},
      {"{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2,3)}", "True or False"},
      {"{'descr': '>f4', 'fortran_order': False, 'shape': (2,3)}", "element type"},
      {"{'descr': '|O', 'fortran_order': False, 'shape': (2,3)}", "element type"},
      {"{'descr': [('a','<f4')], 'fortran_order': False, 'shape': (2,3)}", "string expected"},
      {"{'descr': '<f4', 'fortran_order': True, 'shape': (2,3)}", "Fortran"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': ()}", "1 or 2"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,2,3)}", "1 or 2"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,0)}", "make no sense"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,99999999)}", "make no sense"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,3)}", "the file holds"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,3)}", "the file holds"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,4)}", "the file holds"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,4)}", "too large"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,3)}", "number expected"},
      {"{'descr': '<f4, 'fortran_order': False, 'shape': (2,3)}", ".npy header"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,3", "')' expected"},
  };
  for (const Case &c : cases) EXPECT_THAT(refusal(put("a.npy", npy(c.dict, d24))), HasSubstr(c.says)) << c.dict;
  EXPECT_THAT(refusal(put("a.npy", "")), HasSubstr("not a NumPy file"));
  EXPECT_THAT(refusal(put("a.npy", std::string("\x93NUMPY", 6))), HasSubstr("too short"));
  EXPECT_THAT(refusal(put("a.npy", npy("{}", d24, 9))), HasSubstr("version 9"));
  std::string lies = npy("{}", d24);
  lies[8] = '\xff', lies[9] = '\xff';
  EXPECT_THAT(refusal(put("a.npy", lies)), HasSubstr("does not fit"));
  lies = npy("{}", d24, 2);
  lies[11] = '\xff';
  EXPECT_THAT(refusal(put("a.npy", lies)), HasSubstr("does not fit"));
}

TEST_F(VecFile, EveryTruncationAndByteFlipOfNpyIsSafe) {
  const std::string good =
      npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", raw<float>({1, 2, 3, 4, 5, 6}));
  for (size_t n = 0; n < good.size(); n++) EXPECT_NE(refusal(put("a.npy", good.substr(0, n))), "") << n;
  for (size_t at = 0; at < good.size(); at++) {
    for (int bit = 0; bit < 8; bit++) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      refusal(put("a.npy", bad));  // refused or read as something else: never a crash (the sanitizers watch)
    }
  }
}

TEST_F(VecFile, MalformedXvecsIsRefused) {
  EXPECT_THAT(refusal(put("a.fvecs", "")), HasSubstr("empty"));
  EXPECT_THAT(refusal(put("a.fvecs", "abc")), HasSubstr("too short"));
  EXPECT_THAT(refusal(put("a.fvecs", raw<int32_t>({0, 1, 2}))), HasSubstr("makes no sense"));
  EXPECT_THAT(refusal(put("a.fvecs", raw<int32_t>({-5, 1, 2}))), HasSubstr("makes no sense"));
  EXPECT_THAT(refusal(put("a.fvecs", raw<int32_t>({0x7fffffff, 1, 2}))), HasSubstr("makes no sense"));
  EXPECT_THAT(refusal(put("a.fvecs", raw<int32_t>({3, 1, 2}))), HasSubstr("no multiple"));
  EXPECT_THAT(refusal(put("a.fvecs", raw<int32_t>({2, 1, 2, 3, 1, 2}))), HasSubstr("row 1 has dimension 3"));
  EXPECT_THAT(refusal(put("a.xyz", "abcdefgh")), HasSubstr("unknown format"));
  EXPECT_THAT(refusal(dir_), HasSubstr("not a regular file"));
  EXPECT_THAT(refusal(dir_ + "/none.npy"), HasSubstr("No such file"));
}

TEST_F(VecFile, ReadingOutsideIsRefused) {
  const std::vector<float> f{1, 2, 3, 4};
  write(dir_ + "/a.npy", Type::f32, 2, 2, f.data());
  auto r = open(dir_ + "/a.npy");
  std::vector<float> out(8);
  EXPECT_THROW(r->read_f32(2, 1, out.data()), Error);
  EXPECT_THROW(r->read_f32(0, 3, out.data()), Error);
  EXPECT_THROW(r->read_f32(UINT64_MAX, 1, out.data()), Error);
  EXPECT_THROW(r->read_raw(1, SIZE_MAX, out.data()), Error);
  std::vector<int64_t> ints(8);
  EXPECT_THAT([&] { r->read_i64(0, 1, ints.data()); }, ::testing::ThrowsMessage<Error>(HasSubstr("integers wanted")));
  std::filesystem::resize_file(dir_ + "/a.npy", 70);
  EXPECT_THROW(r->read_f32(1, 1, out.data()), Error);
}

TEST(VecText, Accepts) {
  EXPECT_EQ(parse_text("[1.0,0.0,0.5]"), (std::vector<float>{1, 0, 0.5}));
  EXPECT_EQ(parse_text("  [ 1 , -2e3 ,+3 ]\n"), (std::vector<float>{1, -2000, 3}));
  EXPECT_EQ(parse_text("1 2\t3\n4"), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(parse_text("7"), (std::vector<float>{7}));
}

TEST(VecText, Refuses) {
  for (const char *bad : {"",    "[]",  "[",   "]",   "[1",   "1]",   "1,,2",  "1,2,", "[1,2,]", "a",
                          "1;2", "1 x", "nan", "inf", "-inf", "1e99", "[[1]]", "1 2]", "--1",    "0x10"})
    EXPECT_THROW(parse_text(bad), Error) << bad;
}

TEST(VecHalf, EveryPatternAgreesWithTheDefinition) {
  for (uint32_t h = 0; h < 0x10000; h++) {
    const int e = (h >> 10) & 31;
    const double frac = h & 1023;
    const double sign = (h & 0x8000) ? -1 : 1;
    const float got = half_to_float(static_cast<uint16_t>(h));
    if (e == 31 && frac != 0) {
      EXPECT_TRUE(std::isnan(got));
    } else {
      const double want = e == 31  ? std::numeric_limits<double>::infinity()
                          : e == 0 ? std::ldexp(frac, -24)
                                   : std::ldexp(1 + frac / 1024, e - 15);
      ASSERT_EQ(got, sign * want) << h;
      ASSERT_EQ(std::signbit(got), sign < 0) << h;
    }
  }
}

}  // namespace
}  // namespace vexfs::vecfile
