// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The loop over codes, written once; kernels.h includes it.
//
// A file defines, before including:
//   struct CodeSum, an accumulator of 32-bit lanes; CodeSum no_sum(); Four reduce(const CodeSum (&)[4])
//   struct Sq8, Sq4, Rb1, Rb2 { struct Query; wide, narrow: elements of a step and of the smallest one (both may be the same);
//     load<N>(query) -> Query; step<N>(CodeSum, Query, code) -> CodeSum; code_bytes(elements), query_bytes(elements);
//     doubled: a code's element counts twice, less the query's bias; packed: its head is a ShortHead }
//   void finish_codes<C>(Four, query, codes, keys)

template <class C>
constexpr usize head_size = C::packed ? sizeof(ShortHead) : sizeof(CodeHead);

template <class C, u32 N>
inline __attribute__((always_inline)) Four code_sums(const u8 *q, const u8 *const *codes, u32 padded) {
  CodeSum acc[4];
  VX_EACH_ROW for (u32 r = 0; r < 4; r++) acc[r] = no_sum();
  u32 i = 0;
  for (; i + C::wide <= padded; i += C::wide) {
    const typename C::Query x = C::template load<C::wide>(q + C::query_bytes(i));
    VX_EACH_ROW for (u32 r = 0; r < N; r++) acc[r] =
        C::template step<C::wide>(acc[r], x, codes[r] + head_size<C> + C::code_bytes(i));
  }
  if (C::wide != C::narrow && i < padded) {
    const typename C::Query x = C::template load<C::narrow>(q + C::query_bytes(i));
    VX_EACH_ROW for (u32 r = 0; r < N; r++) acc[r] =
        C::template step<C::narrow>(acc[r], x, codes[r] + head_size<C> + C::code_bytes(i));
  }
  return reduce(acc);
}

template <class C>
void score_codes(const CodeQuery &query, const void *const *codes, u32 padded, u32 n, u32 *keys) {
  const u8 *q = static_cast<const u8 *>(query.data);
  const u8 *four[4];
  u32 i = 0;
  for (; i + 4 <= n; i += 4) {
    for (u32 r = 0; r < 4; r++) four[r] = static_cast<const u8 *>(codes[i + r]);
    finish_codes<C>(code_sums<C, 4>(q, four, padded), query, four, keys + i);
  }
  u32 last[4];
  for (; i < n; i++) {
    for (u32 r = 0; r < 4; r++) four[r] = static_cast<const u8 *>(codes[i]);
    finish_codes<C>(code_sums<C, 1>(q, four, padded), query, four, last);
    keys[i] = last[0];
  }
}
