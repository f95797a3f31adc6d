// SPDX-License-Identifier: MIT
// Checks of the distance kernels against a long double reference, free of any test framework so that they also run in
// a bare cross-built program. Each returns an empty string, or what was wrong.
#pragma once
#include <sys/mman.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "../../kernel/core/simd/simd.h"

namespace simd_checks {

using namespace vexfs;        // NOLINT(google-build-using-namespace)
using namespace vexfs::simd;  // NOLINT(google-build-using-namespace)

inline float as_float(u32 b) {
  float f;
  memcpy(&f, &b, 4);
  return f;
}
inline u32 as_bits(float f) {
  u32 b;
  memcpy(&b, &f, 4);
  return b;
}
inline float key_float(u32 key) { return as_float(f32_from_key(key)); }

#if defined(__aarch64__)
using real = double;  // long double is emulated there; double has 29 bits more than what is checked
#else
using real = long double;
#endif

inline const char *name(Element e) {
  return e == Element::f32 ? "f32" : e == Element::f16 ? "f16" : e == Element::bf16 ? "bf16" : "int8";
}
inline const char *name(Metric m) { return m == Metric::l2 ? "l2" : m == Metric::cosine ? "cosine" : "ip"; }

// Independent of the core's conversions.
inline real f16_value(u16 h) {
  int sign = h >> 15, exp = (h >> 10) & 31, man = h & 1023;
  real v = exp == 0 ? std::ldexp(static_cast<real>(man), -24) : std::ldexp(static_cast<real>(man + 1024), exp - 25);
  return sign ? -v : v;
}
inline real value(Element e, const u8 *row, u32 i) {
  u16 h;
  switch (e) {
    case Element::f32: {
      float f;
      memcpy(&f, row + 4 * i, 4);
      return f;
    }
    case Element::f16:
      memcpy(&h, row + 2 * i, 2);
      return f16_value(h);
    case Element::bf16:
      memcpy(&h, row + 2 * i, 2);
      return as_float(u32{h} << 16);
    case Element::int8:
      return static_cast<s8>(row[i]);
  }
  return 0;
}

// Memory whose last byte is followed, and whose first is preceded, by pages that fault.
class Fenced {
 public:
  explicit Fenced(size_t bytes) : bytes_((bytes + 4095) / 4096 * 4096) {
    base_ = static_cast<u8 *>(mmap(nullptr, bytes_ + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED || mprotect(base_ + 4096, bytes_, PROT_READ | PROT_WRITE)) abort();
  }
  Fenced(const Fenced &) = delete;
  Fenced &operator=(const Fenced &) = delete;
  ~Fenced() { munmap(base_, bytes_ + 8192); }
  u8 *begin() { return base_ + 4096; }
  u8 *end() { return begin() + bytes_; }

 private:
  size_t bytes_;
  u8 *base_;
};

struct Case {
  Element e;
  Metric m;
  bool wide;
};
inline std::vector<Case> all_cases() {
  std::vector<Case> v;
  for (Element e : {Element::f32, Element::f16, Element::bf16, Element::int8})
    for (Metric m : {Metric::l2, Metric::cosine, Metric::ip}) {
      v.push_back({e, m, false});
      if (e == Element::f16 || e == Element::bf16) v.push_back({e, m, true});
    }
  return v;
}
inline std::string label(const Case &c, u32 dim) {
  return std::string(name(c.e)) + "/" + name(c.m) + (c.wide ? "/wide" : "") + " dim " + std::to_string(dim);
}

// Exact distance and a bound of what f32 arithmetic in at least four lanes may be off by.
struct Exact {
  real d, bound;
};
inline Exact exact(const Case &c, const u8 *q, const u8 *x, u32 dim) {
  const Element qe = c.wide ? Element::f32 : c.e;
  real l2 = 0, dot = 0, mag = 0, qq = 0, xx = 0;
  for (u32 i = 0; i < dim; i++) {
    real a = value(qe, q, i), b = value(c.e, x, i);
    l2 += (a - b) * (a - b);
    dot += a * b;
    mag += std::fabs(a * b);
    qq += a * a;
    xx += b * b;
  }
  const real eps = std::ldexp(real{1}, -24), tiny = std::ldexp(real{1}, -140);
  const real sums = dim / real{8} + 8;  // roundings a term goes through
  if (c.m == Metric::l2) return {l2, c.e == Element::int8 ? l2 * eps : l2 * eps * (sums + 3) + tiny};
  if (c.m == Metric::ip) return {-dot, c.e == Element::int8 ? std::fabs(dot) * eps : mag * eps * (sums + 1) + tiny};
  const real norms = std::sqrt(qq * xx);
  real d = 1 - dot / norms;
  return {std::fmin(std::fmax(d, real{0}), real{2}), mag / norms * eps * (sums + 1) + 8 * eps};
}

inline void random_row(std::mt19937 &rng, Element e, u8 *row, u32 dim) {
  std::normal_distribution<float> gauss(0.05f, 1.0f);
  for (u32 i = 0; i < dim; i++) {
    if (e == Element::int8) {
      row[i] = static_cast<u8>(rng());
      continue;
    }
    float f = gauss(rng);
    if (e == Element::f32) memcpy(row + 4 * i, &f, 4);
    if (e == Element::bf16) {
      u16 h = static_cast<u16>(as_bits(f) >> 16);
      memcpy(row + 2 * i, &h, 2);
    }
    if (e == Element::f16) {  // all exponents, subnormals included
      u16 h = static_cast<u16>(rng());
      if ((h & 0x7c00) >= 0x4c00) h = static_cast<u16>(h & 0x83ff) | 0x3c00;
      memcpy(row + 2 * i, &h, 2);
    }
  }
  if (e == Element::int8) row[0] |= 1;  // never all zero
}

constexpr u32 check_rows = 6;  // a group of four and two single rows

// One case at one length: value against the reference, then every alignment in `aligns` for identical bits, in both
// forms, then rows that end (and begin) at a page that must not be touched.
inline std::string check_length(const Case &c, u32 dim, const std::vector<u32> &aligns, std::mt19937 &rng) {
  auto made = Space::make(c.e, c.m, dim);
  if (!made.ok()) return "no space";
  const Space &s = *made;
  const size_t rb = s.row_bytes(), qb = c.wide ? size_t{4} * dim : rb;
  std::vector<u8> rows(rb * check_rows), query(qb);
  random_row(rng, c.wide ? Element::f32 : c.e, query.data(), dim);
  std::vector<u8> qbuf(s.query_bytes());
  Query q;
  if (!s.prepare_query(query.data(), c.wide ? Element::f32 : c.e, qbuf.data(), &q).ok())
    return "query refused: " + label(c, dim);
  if (q.wide != c.wide) return "query in the wrong form: " + label(c, dim);
  u32 aux[check_rows], want[check_rows], got[check_rows];
  const void *ptr[check_rows];
  for (u32 r = 0; r < check_rows; r++) {
    random_row(rng, c.e, rows.data() + r * rb, dim);
    if (!s.check_row(rows.data() + r * rb, &aux[r]).ok()) return "row refused: " + label(c, dim);
    ptr[r] = rows.data() + r * rb;
  }
  s.score(q, ptr, aux, check_rows, want);
  for (u32 r = 0; r < check_rows; r++) {
    Exact x = exact(c, query.data(), rows.data() + r * rb, dim);
    real d = key_float(want[r]);
    if (!(std::fabs(d - x.d) <= x.bound)) {
      char t[200];
      snprintf(t, sizeof t, ": row %u is %.9g, exact %.9g, off by %.3g, allowed %.3g", r, static_cast<double>(d),
               static_cast<double>(x.d), static_cast<double>(std::fabs(d - x.d)), static_cast<double>(x.bound));
      return label(c, dim) + t;
    }
  }
  std::vector<u8> arena(check_rows * (rb + 64) + 128), qarena(qb + 128);
  auto base64 = [](std::vector<u8> &v) {
    return reinterpret_cast<u8 *>((reinterpret_cast<uintptr_t>(v.data()) + 63) & ~uintptr_t{63});
  };
  for (u32 a : aligns) {
    u8 *base = base64(arena) + a, *qp = base64(qarena) + (a * 7) % 64;
    const size_t stride = rb + a % 3;
    memcpy(qp, qbuf.data(), qb);
    for (u32 r = 0; r < check_rows; r++) {
      memcpy(base + r * stride, rows.data() + r * rb, rb);
      ptr[r] = base + r * stride;
    }
    Query moved = q;
    moved.data = qp;
    s.score(moved, ptr, aux, check_rows, got);
    if (memcmp(got, want, sizeof got) != 0) return label(c, dim) + ": alignment " + std::to_string(a) + " changes bits";
    s.scan(moved, base, stride, aux, check_rows, got);
    if (memcmp(got, want, sizeof got) != 0) return label(c, dim) + ": scan differs at alignment " + std::to_string(a);
  }
  static Fenced rf(check_rows * 4 * dim_max), qf(4 * dim_max);
  for (int side = 0; side < 2; side++) {
    u8 *rp = side ? rf.end() - check_rows * rb : rf.begin();
    u8 *qp = side ? qf.end() - qb : qf.begin();
    memcpy(rp, rows.data(), rb * check_rows);
    memcpy(qp, qbuf.data(), qb);
    Query moved = q;
    moved.data = qp;
    s.scan(moved, rp, rb, aux, check_rows, got);
    if (memcmp(got, want, sizeof got) != 0) return label(c, dim) + ": fenced rows differ";
  }
  return "";
}

// A row as the query and a row as the row give the same distance, whichever is which.
inline std::string check_symmetry(const Case &c, u32 dim, std::mt19937 &rng) {
  auto made = Space::make(c.e, c.m, dim);
  if (!made.ok()) return "no space";
  std::vector<u8> a(made->row_bytes()), b(made->row_bytes());
  random_row(rng, c.e, a.data(), dim);
  random_row(rng, c.e, b.data(), dim);
  u32 aa, ba;
  if (!made->check_row(a.data(), &aa).ok() || !made->check_row(b.data(), &ba).ok()) return "row refused";
  u32 ab = made->score_one(made->row_query(a.data(), aa), b.data(), ba);
  u32 ba_key = made->score_one(made->row_query(b.data(), ba), a.data(), aa);
  return ab == ba_key ? "" : label(c, dim) + ": not symmetric";
}

// Runs everything for the level in force. `fast`: fewer alignments (for emulators); `sample`: beyond 140 only every 13th
// length (for sanitizers, which see every code path in those).
inline std::string check_level(bool fast, bool sample = false) {
  std::mt19937 rng(2024);
  std::vector<u32> all, few;
  for (u32 a = 0; a < 64; a++) all.push_back(a);
  few = {0, 1, 31};
  for (const Case &c : all_cases()) {
    for (u32 dim = 1; dim <= 1100; dim += sample && dim >= 140 ? 13 : 1) {
      std::string err = check_length(c, dim, fast && dim > 70 ? few : all, rng);
      if (!err.empty()) return err;
    }
    for (u32 dim : {1536u, 2048u, 3072u, 4095u, 4096u, 5000u, 8191u, 8192u}) {
      std::string err = check_length(c, dim, few, rng);
      if (!err.empty()) return err;
    }
    for (u32 dim : {1u, 5u, 64u, 333u, 8192u}) {
      std::string err = check_symmetry(c, dim, rng);
      if (!err.empty()) return err;
    }
  }
  return "";
}

}  // namespace simd_checks
