// SPDX-License-Identifier: MIT
// Checks of codes against plain arithmetic, free of any test framework; see simd_checks.h.
#pragma once
#include <deque>

#include "../../kernel/core/simd/codes.h"
#include "simd_checks.h"

namespace simd_checks {

// What a code's distance must be, bit by bit: the sum is an integer, and the few operations on floats are in order.
inline u32 code_key(const CodeSpace &codes, const CodeQuery &q, const u8 *code, u32 dim) {
  const u32 bits = element_bits(codes.kind());
  CodeHead head;
  memcpy(&head, code, sizeof head);
  if (rotated(codes.kind())) head = CodeHead{ShortHead{head.off}.off(), ShortHead{head.off}.scale()};
  const u8 *e = code + head_bytes(codes.kind());
  s64 sum = 0;
  if (rotated(codes.kind())) dim = codes.padded();
  for (u32 i = 0; i < dim; i++) {
    if (codes.kind() == CodeKind::sq8) {
      s16 x;
      memcpy(&x, static_cast<const u8 *>(q.data) + 2 * i, 2);
      sum += s64{x} * static_cast<s8>(e[i]);
    } else if (rotated(codes.kind())) {
      const u32 block = 128 / bits, b = e[i / block * 16 + i % 16];
      sum += s64{static_cast<const s8 *>(q.data)[i]} * (b >> (i % block / 16 * bits) & ((1u << bits) - 1));
    } else {
      const u8 b = e[i / 32 * 16 + i % 16];
      sum += s64{static_cast<const s8 *>(q.data)[i]} * (i % 32 < 16 ? b & 15 : b >> 4);
    }
  }
  float dot = static_cast<float>(static_cast<s32>(sum));
  if (codes.kind() != CodeKind::sq8) dot = (dot + dot) - static_cast<float>(q.bias);
  const float with = (as_float(q.scale) * as_float(head.scale)) * dot;
  const float d = (as_float(q.base) + as_float(head.off)) - with;
  return key_from_f32(d != d ? 0x7f800000u : as_bits(d));
}

inline const char *name(CodeKind k) {
  constexpr const char *names[] = {"none", "sq8", "sq4", "rabitq1", "rabitq2"};
  return names[static_cast<u32>(k)];
}

struct CodeCase {
  CodeKind kind;
  Metric metric;
  u32 dim;
};

// Rows about a common point far off, a query near them, and how wrong the codes' distances are: the mean error, as a
// share of the product of the lengths from that point (l2: twice that).
inline std::string check_code_case(const CodeCase &c, double *error) {
  const std::string at = std::string(name(c.kind)) + "/" + name(c.metric) + " dim " + std::to_string(c.dim) + ": ";
  const Space space = Space::make(Element::f32, c.metric, c.dim).take();
  CodeSpace codes = CodeSpace::make(space, c.kind).take();
  constexpr u32 n = 23;
  std::mt19937 rng(c.dim);
  std::normal_distribution<float> gauss(0, 1);
  std::vector<float> x((n + 1) * c.dim), middle(c.dim);
  for (float &f : middle) f = 20 * gauss(rng);
  for (u32 i = 0; i < x.size(); i++) x[i] = middle[i % c.dim] + gauss(rng);
  std::vector<const void *> rows(n);
  std::vector<u32> aux(n), exact_keys(n);
  for (u32 i = 0; i < n; i++) {
    rows[i] = &x[i * c.dim];
    if (!space.check_row(rows[i], &aux[i]).ok()) return at + "row refused";
  }
  std::vector<float> centre(c.dim), work(codes.work_bytes() / 4), buf(space.query_bytes() / 4);
  codes.average(rows.data(), aux.data(), n, centre.data());
  if (!codes.set_centre(centre.data()).ok()) return at + "centre refused";
  Query q;
  if (!space.prepare_query(&x[n * c.dim], Element::f32, buf.data(), &q).ok()) return at + "query refused";
  // Behind each code, and behind the query, nothing may be read.
  std::deque<Fenced> fences;
  std::vector<const void *> coded(n);
  for (u32 i = 0; i < n; i++) {
    fences.emplace_back(codes.bytes());
    u8 *code = fences.back().end() - codes.bytes();
    codes.encode(rows[i], aux[i], work.data(), code);
    coded[i] = code;
  }
  fences.emplace_back(codes.query_bytes());
  CodeQuery cq;
  codes.prepare(q, work.data(), fences.back().end() - codes.query_bytes(), &cq);
  std::vector<u32> keys(n);
  codes.score(cq, coded.data(), n, keys.data());
  space.score(q, rows.data(), aux.data(), n, exact_keys.data());
  double wrong = 0, size = 0;
  for (u32 i = 0; i < n; i++) {
    if (keys[i] != code_key(codes, cq, static_cast<const u8 *>(coded[i]), c.dim)) return at + "a key is another";
    double rr = 0, qq = 0;
    for (u32 j = 0; j < c.dim; j++) {
      const double unit = c.metric == Metric::cosine ? as_float(aux[i]) : 1,
                   qunit = c.metric == Metric::cosine ? as_float(q.aux) : 1;
      const double r = x[i * c.dim + j] * unit - centre[j], s = x[n * c.dim + j] * qunit - centre[j];
      rr += r * r;
      qq += s * s;
    }
    wrong += std::fabs(double{key_float(keys[i])} - double{key_float(exact_keys[i])});
    size += std::sqrt(rr * qq) * (c.metric == Metric::l2 ? 2 : 1);
  }
  *error = wrong / size;
  // A code as the query: nearest to itself (or to one of the same code), and the way round does not matter much.
  std::vector<u8> own(codes.query_bytes());
  CodeQuery self;
  codes.prepare_code(coded[3], own.data(), &self);
  codes.score(self, coded.data(), n, keys.data());
  for (u32 i = 0; i < n; i++) {
    if (keys[i] != code_key(codes, self, static_cast<const u8 *>(coded[i]), c.dim))
      return at + "a code's key is another";
    if (c.metric == Metric::l2 && c.dim > 8 && keys[i] < keys[3]) return at + "a code is not nearest to itself";
  }
  return {};
}

// The accuracy that each kind owes: the error of an element is evenly spread over a step, and adds up as its root.
inline std::string check_codes() {
  for (const CodeKind kind : {CodeKind::sq8, CodeKind::sq4, CodeKind::rabitq1, CodeKind::rabitq2})
    for (const Metric m : {Metric::l2, Metric::cosine, Metric::ip})
      for (u32 dim = 1; dim <= 8192; dim += dim < 100 ? 1 : dim < 400 ? 37 : 1948) {
        double error = 0;
        const std::string wrong = check_code_case({kind, m, dim}, &error);
        if (!wrong.empty()) return wrong;
        // Few dimensions of rows far off: what the rows themselves lose as floats weighs more.
        constexpr double share[] = {0, 0.03, 0.3, 0.9, 0.4};
        const double most = share[static_cast<u32>(kind)] / std::sqrt(double(dim)) + 2e-3;
        if (dim >= 8 && error > most)
          return "codes of dim " + std::to_string(dim) + " are off by " + std::to_string(error) + " under " + name(m);
      }
  return {};
}

// The rotation keeps lengths and angles, and is the same on every machine: codes are kept on disk.
inline std::string check_rotation() {
  u64 print = 14695981039346656037ull;
  for (const u32 dim : {1u, 2u, 3u, 63u, 65u, 100u, 128u, 129u, 300u, 768u, 960u, 4096u, 8191u})
    for (const CodeKind kind : {CodeKind::rabitq1, CodeKind::rabitq2}) {
      const Space space = Space::make(Element::f32, Metric::l2, dim).take();
      CodeSpace codes = CodeSpace::make(space, kind).take();
      const std::string at = std::string(name(kind)) + " dim " + std::to_string(dim) + ": ";
      const u32 n = codes.padded();
      std::mt19937 rng(dim);
      std::vector<float> a(n), b(n), x, y, zero(dim, 0.0f);
      for (u32 i = 0; i < dim; i++) {
        a[i] = static_cast<float>(static_cast<s32>(rng() % 2001) - 1000);
        b[i] = static_cast<float>(static_cast<s32>(rng() % 2001) - 1000) + a[i];
      }
      x = a, y = b;
      codes.rotate(x.data());
      codes.rotate(y.data());
      double before[3] = {}, after[3] = {}, most = 0;
      for (u32 i = 0; i < n; i++) {
        const double p[3] = {double{a[i]} * a[i], double{b[i]} * b[i], double{a[i]} * b[i]},
                     q[3] = {double{x[i]} * x[i], double{y[i]} * y[i], double{x[i]} * y[i]};
        for (u32 j = 0; j < 3; j++) before[j] += p[j], after[j] += q[j];
        most = std::max(most, q[0]);
      }
      for (u32 j = 0; j < 3; j++)
        if (std::fabs(before[j] - after[j]) > 1e-4 * (before[0] + before[1])) return at + "the rotation is none";
      // Nothing stays where it was: the greatest of n elements at random is a few times their mean.
      if (most > after[0] / n * 30) return at + "an element stands out";
      std::vector<u8> code(codes.bytes());
      std::vector<float> work(codes.work_bytes() / 4);
      if (!codes.set_centre(zero.data()).ok()) return at + "centre refused";
      codes.encode(a.data(), 0, work.data(), code.data());
      for (const u8 c : code) print = (print ^ c) * 1099511628211ull;
    }
  return print == 5152202429298004550ull ? "" : "codes are not what they were: " + std::to_string(print);
}

}  // namespace simd_checks
