// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Scanning of 4-bit codes by table lookups in registers for NEON.
#include <arm_neon.h>

#include "learn_kernels.h"

namespace vexfs::simd::learn_kernels {
namespace {

inline __attribute__((always_inline)) void finish(uint16x4_t sum, const u32 *terms, float32x4_t base, float32x4_t scale,
                                                  u32 *keys) {
  const float32x4_t s = vcvtq_f32_u32(vmovl_u16(sum)), t = vreinterpretq_f32_u32(vld1q_u32(terms));
  const float32x4_t d = vaddq_f32(base, vaddq_f32(vmulq_f32(s, scale), t));
  const uint32x4_t b = vreinterpretq_u32_f32(vaddq_f32(d, vdupq_n_f32(0.0f)));  // -0 becomes 0
  const uint32x4_t sign = vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(b), 31));
  const uint32x4_t key = veorq_u32(b, vorrq_u32(sign, vdupq_n_u32(0x80000000u)));
  vst1q_u32(keys, vorrq_u32(key, vmvnq_u32(vceqq_f32(d, d))));
}

}  // namespace

void pq_scan_neon(const u8 *entries, u32 code_bytes, const u8 *codes, const u32 *terms, u32 base, u32 scale_bits,
                  u32 bias, u32 *keys) {
  const uint8x16_t low = vdupq_n_u8(15);
  uint16x8_t sum[4] = {vdupq_n_u16(0), vdupq_n_u16(0), vdupq_n_u16(0), vdupq_n_u16(0)};
  for (u32 j = 0; j < code_bytes; j++, entries += 32, codes += pq_block) {
    const uint8x16_t t0 = vld1q_u8(entries), t1 = vld1q_u8(entries + 16);
    for (u32 h = 0; h < 2; h++) {
      const uint8x16_t c = vld1q_u8(codes + 16 * h);
      const uint8x16_t a = vqtbl1q_u8(t0, vandq_u8(c, low)), b = vqtbl1q_u8(t1, vshrq_n_u8(c, 4));
      sum[2 * h] = vaddq_u16(sum[2 * h], vaddl_u8(vget_low_u8(a), vget_low_u8(b)));
      sum[2 * h + 1] = vaddq_u16(sum[2 * h + 1], vaddl_u8(vget_high_u8(a), vget_high_u8(b)));
    }
  }
  const float32x4_t from = vdupq_n_f32(__builtin_bit_cast(float, base) + __builtin_bit_cast(float, bias));
  const float32x4_t scale_all = vdupq_n_f32(__builtin_bit_cast(float, scale_bits));
  for (u32 q = 0; q < 4; q++) {
    finish(vget_low_u16(sum[q]), terms + 8 * q, from, scale_all, keys + 8 * q);
    finish(vget_high_u16(sum[q]), terms + 8 * q + 4, from, scale_all, keys + 8 * q + 4);
  }
}

}  // namespace vexfs::simd::learn_kernels
