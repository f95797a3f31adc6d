// SPDX-License-Identifier: GPL-2.0-only OR MIT
// From four sums to four keys, in SSE2 (part of every x86 level). Included inside an anonymous namespace.
#pragma once

struct Four {
  __m128 v;
};

inline __attribute__((always_inline)) __m128 load_words(const u32 *p) {
  return _mm_castsi128_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p)));
}

template <Metric M>
inline __attribute__((always_inline)) void finish(Four s, u32 qaux, const u32 *aux, u32 *keys) {
  __m128 d;
  if (M == Metric::cosine) {
    const __m128 scale = _mm_mul_ps(_mm_castsi128_ps(_mm_set1_epi32(static_cast<int>(qaux))), load_words(aux));
    d = _mm_sub_ps(_mm_set1_ps(1.0f), _mm_mul_ps(s.v, scale));
    d = _mm_max_ps(_mm_min_ps(d, _mm_set1_ps(2.0f)), _mm_setzero_ps());  // min takes its second operand for a NaN
  } else {
    d = M == Metric::ip ? _mm_sub_ps(_mm_setzero_ps(), s.v) : s.v;
    const __m128 bad = _mm_cmpunord_ps(d, d);
    const __m128 inf = _mm_castsi128_ps(_mm_set1_epi32(0x7f800000));
    d = _mm_or_ps(_mm_andnot_ps(bad, d), _mm_and_ps(bad, inf));
  }
  const __m128i b = _mm_castps_si128(d);
  const __m128i flip = _mm_or_si128(_mm_srai_epi32(b, 31), _mm_set1_epi32(static_cast<int>(0x80000000u)));
  _mm_storeu_si128(reinterpret_cast<__m128i *>(keys), _mm_xor_si128(b, flip));
}

inline __attribute__((always_inline)) void fetch(const void *p) {
  _mm_prefetch(static_cast<const char *>(p), _MM_HINT_T0);
}

// Loading n ones followed by zeros, and the other way round, from these.
alignas(64) constexpr u8 ones_then_zeros[64] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                                                255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                                                255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
alignas(64) constexpr u8 zeros_then_ones[64] = {
    0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
    0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};

// A tail of `bytes` < 16 bytes. With 16 bytes ending where it ends: the last 16, those before the tail zeroed;
// otherwise byte by byte, zeros behind.
inline __attribute__((always_inline)) __m128i tail_16(const void *p, u32 bytes, bool prior) {
  const u8 *b = static_cast<const u8 *>(p);
  if (prior) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i *>(b - (16 - bytes)));
    const __m128i keep = _mm_loadu_si128(reinterpret_cast<const __m128i *>(zeros_then_ones + 16 + bytes));
    return _mm_and_si128(x, keep);
  }
  alignas(16) u8 buf[16] = {};
  for (u32 i = 0; i < bytes; i++) buf[i] = b[i];
  return _mm_load_si128(reinterpret_cast<const __m128i *>(buf));
}

// ----------------------------------------------------------------------------------------------------------- codes
inline __attribute__((always_inline)) __m128 word_everywhere(u32 bits) {
  return _mm_castsi128_ps(_mm_set1_epi32(static_cast<int>(bits)));
}

inline __attribute__((always_inline)) u32 load_word(const void *p) {
  u32 w;
  __builtin_memcpy(&w, p, sizeof w);
  return w;
}

// Of four codes: what stands before their elements.
struct FourHeads {
  __m128 off, scale;
};
template <bool packed>
inline __attribute__((always_inline)) FourHeads load_heads(const u8 *const *codes) {
  if constexpr (packed) {
    const auto word = [&](u32 i) { return _mm_cvtsi32_si128(static_cast<int>(load_word(codes[i]))); };
    const __m128i h = _mm_unpacklo_epi64(_mm_unpacklo_epi32(word(0), word(1)), _mm_unpacklo_epi32(word(2), word(3)));
    constexpr int low = short_scale_bits;
    const __m128i off = _mm_slli_epi32(_mm_srli_epi32(h, low), low);
    return {_mm_castsi128_ps(off), _mm_castsi128_ps(_mm_srli_epi32(_mm_slli_epi32(h, 32 - low), 1))};
  }
  const auto head = [&](u32 i) {
    return _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(codes[i])));
  };
  const __m128 a = _mm_movelh_ps(head(0), head(1)), b = _mm_movelh_ps(head(2), head(3));
  return {_mm_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0)), _mm_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1))};
}

template <class C>
inline __attribute__((always_inline)) void finish_codes(Four dot, const CodeQuery &q, const u8 *const *codes,
                                                        u32 *keys) {
  const FourHeads h = load_heads<C::packed>(codes);
  __m128 sum = dot.v;
  if (C::doubled) sum = _mm_sub_ps(_mm_add_ps(sum, sum), _mm_set1_ps(static_cast<float>(q.bias)));
  const __m128 with = _mm_mul_ps(_mm_mul_ps(word_everywhere(q.scale), h.scale), sum);
  finish<Metric::l2>(Four{_mm_sub_ps(_mm_add_ps(word_everywhere(q.base), h.off), with)}, 0, nullptr, keys);
}
