// SPDX-License-Identifier: MIT
// Userspace host: crc32c (Castagnoli polynomial, reflected), by the CPU's instruction where there is one.
//
// The instruction has a latency of three cycles and a throughput of one, so long buffers are cut into three streams
// whose results are joined: crc(A|B) = shift(crc(A), len(B)) ^ crc(B), where shift multiplies by x^(8 len) modulo the
// polynomial. The shift by a fixed length is linear, hence four tables of 256 words.
#include <cstring>

#include "host.h"
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace vexfs::host {
namespace {

constexpr uint32_t polynomial = 0x82f63b78u;  // bit-reversed 0x1edc6f41
constexpr size_t stream_bytes = 1360;         // 3 * 1360 = 4080: a 4 KiB block takes one round

struct Tables {
  uint32_t byte[8][256];   // slicing-by-8: byte[k][b] = crc of byte b followed by k zero bytes
  uint32_t shift[4][256];  // shift by stream_bytes

  constexpr Tables() : byte{}, shift{} {
    for (uint32_t b = 0; b < 256; b++) {
      uint32_t c = b;
      for (int i = 0; i < 8; i++) c = (c >> 1) ^ ((c & 1) ? polynomial : 0);
      byte[0][b] = c;
    }
    for (int k = 1; k < 8; k++)
      for (uint32_t b = 0; b < 256; b++) byte[k][b] = (byte[k - 1][b] >> 8) ^ byte[0][byte[k - 1][b] & 0xff];
    uint32_t basis[32] = {};  // each state bit after stream_bytes zero bytes
    for (int bit = 0; bit < 32; bit++) {
      uint32_t c = 1u << bit;
      for (size_t i = 0; i < stream_bytes; i++) c = (c >> 8) ^ byte[0][c & 0xff];
      basis[bit] = c;
    }
    for (int k = 0; k < 4; k++)
      for (uint32_t b = 0; b < 256; b++)
        for (int bit = 0; bit < 8; bit++)
          if (b & (1u << bit)) shift[k][b] ^= basis[8 * k + bit];
  }
};
constinit const Tables tables;

uint32_t crc_software(uint32_t crc, const unsigned char *p, size_t n) {
  const auto &t = tables.byte;
  for (; n >= 8; n -= 8, p += 8) {
    uint64_t w;
    memcpy(&w, p, 8);  // little-endian hosts only, as everything below
    w ^= crc;
    crc = t[7][w & 0xff] ^ t[6][(w >> 8) & 0xff] ^ t[5][(w >> 16) & 0xff] ^ t[4][(w >> 24) & 0xff] ^
          t[3][(w >> 32) & 0xff] ^ t[2][(w >> 40) & 0xff] ^ t[1][(w >> 48) & 0xff] ^ t[0][w >> 56];
  }
  for (; n; n--) crc = (crc >> 8) ^ t[0][(crc ^ *p++) & 0xff];
  return crc;
}

#if defined(__x86_64__)
uint32_t shift_stream(uint32_t c) {
  const auto &s = tables.shift;
  return s[0][c & 0xff] ^ s[1][(c >> 8) & 0xff] ^ s[2][(c >> 16) & 0xff] ^ s[3][c >> 24];
}

uint64_t load64(const unsigned char *p) {
  uint64_t w;
  memcpy(&w, p, 8);
  return w;
}

__attribute__((target("sse4.2"))) uint32_t crc_sse42(uint32_t crc, const unsigned char *p, size_t n) {
  for (; n >= 3 * stream_bytes; n -= 3 * stream_bytes, p += 3 * stream_bytes) {
    uint64_t a = crc;
    uint64_t b = 0;
    uint64_t c = 0;
    for (size_t i = 0; i < stream_bytes; i += 8) {
      a = _mm_crc32_u64(a, load64(p + i));
      b = _mm_crc32_u64(b, load64(p + stream_bytes + i));
      c = _mm_crc32_u64(c, load64(p + 2 * stream_bytes + i));
    }
    crc = shift_stream(static_cast<uint32_t>(a)) ^ static_cast<uint32_t>(b);
    crc = shift_stream(crc) ^ static_cast<uint32_t>(c);
  }
  uint64_t rest = crc;
  for (; n >= 8; n -= 8, p += 8) rest = _mm_crc32_u64(rest, load64(p));
  crc = static_cast<uint32_t>(rest);
  for (; n; n--) crc = _mm_crc32_u8(crc, *p++);
  return crc;
}
#endif

}  // namespace
}  // namespace vexfs::host

extern "C" vx_u32 vx_crc32c(vx_u32 seed, const void *p, size_t n) {
  const auto *b = static_cast<const unsigned char *>(p);
#if defined(__x86_64__)
  if (vx_cpu_features() & VX_CPU_SSE42) return vexfs::host::crc_sse42(seed, b, n);
#endif
  return vexfs::host::crc_software(seed, b, n);
}
