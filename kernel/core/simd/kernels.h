// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The distance loops, written once over a register abstraction. Each instruction-set file includes this inside its own
// anonymous namespace, after defining what it needs, so no code can be shared between files built for different CPUs.
//
// A file defines, before including:
//   struct Floats { struct Acc, Reg; lanes; zero(); load<E>(p); load_tail<E>(p, n, prior); step<L2>(acc, q, x); join }
//   struct Bytes8 { the same for int8, with exact integer accumulators }
//   struct Four; Four reduce(const Acc (&)[4]) for both accumulators; void finish<Metric>(Four, qaux, aux, keys)
//   void fetch(p): prefetch one cache line, and what codes_kernels.h asks for
// load_tail gives the n < lanes elements at p and zeros; `prior` says that at least `lanes` elements end where the tail
// ends and may be read. Where the elements sit in the register must depend on n and prior alone, not on E.
//
// Summation order: element i goes to lane i % lanes of accumulator (i / lanes) % 2, elements past the last full pair of
// registers to accumulator 0 (full register) and 1 (tail); then accumulators are joined, then lanes reduced. The
// number of rows scored together changes nothing in it.

#include "codes_kernels.h"

// Element type tags.
struct EF32 {
  static constexpr u32 size = 4;
};
struct EF16 {
  static constexpr u32 size = 2;
};
struct EBF16 {
  static constexpr u32 size = 2;
};
struct EI8 {
  static constexpr u32 size = 1;
};

// Sums of N rows against one query into sum[0..N).
template <class A, class QE, class RE, bool L2, u32 N>
inline __attribute__((always_inline)) void accumulate(const u8 *q, const u8 *const *rows, u32 dim,
                                                      typename A::Acc *sum) {
  typename A::Acc acc[N][2];
  VX_EACH_ROW for (u32 r = 0; r < N; r++) acc[r][0] = acc[r][1] = A::zero();
  constexpr u32 w = A::lanes;
  u32 i = 0;
  for (; i + 2 * w <= dim; i += 2 * w) {
    typename A::Reg q0 = A::template load<QE>(q + usize{i} * QE::size);
    typename A::Reg q1 = A::template load<QE>(q + usize{i + w} * QE::size);
    VX_EACH_ROW for (u32 r = 0; r < N; r++) {
      acc[r][0] = A::template step<L2>(acc[r][0], q0, A::template load<RE>(rows[r] + usize{i} * RE::size));
      acc[r][1] = A::template step<L2>(acc[r][1], q1, A::template load<RE>(rows[r] + usize{i + w} * RE::size));
    }
  }
  if (i + w <= dim) {
    typename A::Reg q0 = A::template load<QE>(q + usize{i} * QE::size);
    VX_EACH_ROW for (u32 r = 0; r < N; r++) acc[r][0] =
        A::template step<L2>(acc[r][0], q0, A::template load<RE>(rows[r] + usize{i} * RE::size));
    i += w;
  }
  if (i < dim) {
    const u32 n = dim - i;
    const bool prior = i > 0;
    typename A::Reg q1 = A::template load_tail<QE>(q + usize{i} * QE::size, n, prior);
    VX_EACH_ROW for (u32 r = 0; r < N; r++) acc[r][1] =
        A::template step<L2>(acc[r][1], q1, A::template load_tail<RE>(rows[r] + usize{i} * RE::size, n, prior));
  }
  VX_EACH_ROW for (u32 r = 0; r < N; r++) sum[r] = A::join(acc[r][0], acc[r][1]);
}

template <class A, class QE, class RE, Metric M>
inline __attribute__((always_inline)) void score_four(const u8 *q, u32 qaux, const u8 *const *rows, const u32 *aux,
                                                      u32 dim, u32 *keys) {
  typename A::Acc sum[4];
  accumulate<A, QE, RE, M == Metric::l2, 4>(q, rows, dim, sum);
  finish<M>(reduce(sum), qaux, aux, keys);
}

template <class A, class QE, class RE, Metric M>
inline __attribute__((always_inline)) void score_single(const u8 *q, u32 qaux, const u8 *row, const u32 *aux, u32 dim,
                                                        u32 *key) {
  typename A::Acc sum[4];
  accumulate<A, QE, RE, M == Metric::l2, 1>(q, &row, dim, sum);
  sum[1] = sum[2] = sum[3] = sum[0];
  u32 aux4[4] = {0, 0, 0, 0}, keys4[4];
  if (M == Metric::cosine) aux4[0] = aux[0];
  finish<M>(reduce(sum), qaux, aux4, keys4);
  *key = keys4[0];
}

// Cache lines of a row fetched ahead, at most: the hardware follows a longer row by itself.
constexpr u32 fetch_lines = 16;

template <class A, class QE, class RE, Metric M>
void score(const void *query, u32 qaux, const void *const *rows, const u32 *aux, u32 dim, u32 n, u32 *keys) {
  const u8 *q = static_cast<const u8 *>(query);
  u32 lines = (dim * RE::size + 63) / 64;
  if (lines > fetch_lines) lines = fetch_lines;
  u32 i = 0;
  for (; i + 4 <= n; i += 4) {
    const u8 *four[4];
    for (u32 r = 0; r < 4; r++) four[r] = static_cast<const u8 *>(rows[i + r]);
    const u32 ahead_end = n < i + 8 ? n : i + 8;
    for (u32 a = i + 4; a < ahead_end; a++)
      for (u32 l = 0; l < lines; l++) fetch(static_cast<const u8 *>(rows[a]) + usize{64} * l);
    score_four<A, QE, RE, M>(q, qaux, four, M == Metric::cosine ? aux + i : nullptr, dim, keys + i);
  }
  for (; i < n; i++)
    score_single<A, QE, RE, M>(q, qaux, static_cast<const u8 *>(rows[i]), M == Metric::cosine ? aux + i : nullptr, dim,
                               keys + i);
}

constexpr usize scan_ahead = 4096;        // bytes fetched ahead of a scan,
constexpr usize scan_ahead_stride = 512;  // if rows are so long that the hardware does not keep up (measured)

template <class A, class QE, class RE, Metric M>
void scan(const void *query, u32 qaux, const void *base, usize stride, const u32 *aux, u32 dim, u32 n, u32 *keys) {
  const u8 *q = static_cast<const u8 *>(query);
  const u8 *p = static_cast<const u8 *>(base);
  u32 i = 0;
  const usize lines = stride >= scan_ahead_stride ? 4 * stride / 64 : 0;
  for (; i + 4 <= n; i += 4, p += 4 * stride) {
    // Into the next section's rows too: a prefetch of what does not exist does no harm.
    for (usize l = 0; l < lines; l++) fetch(p + scan_ahead + 64 * l);
    const u8 *four[4] = {p, p + stride, p + 2 * stride, p + 3 * stride};
    score_four<A, QE, RE, M>(q, qaux, four, M == Metric::cosine ? aux + i : nullptr, dim, keys + i);
  }
  for (; i < n; i++, p += stride)
    score_single<A, QE, RE, M>(q, qaux, p, M == Metric::cosine ? aux + i : nullptr, dim, keys + i);
}

template <class A, class QE, class RE>
struct Row3 {
  static constexpr Kernels l2{&score<A, QE, RE, Metric::l2>, &scan<A, QE, RE, Metric::l2>};
  static constexpr Kernels cosine{&score<A, QE, RE, Metric::cosine>, &scan<A, QE, RE, Metric::cosine>};
  static constexpr Kernels ip{&score<A, QE, RE, Metric::ip>, &scan<A, QE, RE, Metric::ip>};
};

constexpr LevelOps all_ops() {
  using F = Row3<Floats, EF32, EF32>;
  using H = Row3<Floats, EF16, EF16>;
  using B = Row3<Floats, EBF16, EBF16>;
  using I = Row3<Bytes8, EI8, EI8>;
  using HW = Row3<Floats, EF32, EF16>;
  using BW = Row3<Floats, EF32, EBF16>;
  constexpr Kernels none{nullptr, nullptr};
  return LevelOps{
      {{F::l2, F::cosine, F::ip}, {H::l2, H::cosine, H::ip}, {B::l2, B::cosine, B::ip}, {I::l2, I::cosine, I::ip}},
      {{none, none, none}, {HW::l2, HW::cosine, HW::ip}, {BW::l2, BW::cosine, BW::ip}, {none, none, none}},
      {&score_codes<Sq8>, &score_codes<Sq4>, &score_codes<Rb1>, &score_codes<Rb2>}};
}
