// SPDX-License-Identifier: MIT
// The NEON kernels checked in a bare AArch64 program: run by qemu-aarch64 on other machines. Exit status 0: all right.
#include <cstdlib>
#include <random>

#include "../../kernel/core/simd/learn_kernels.h"
#include "../unit/codes_checks.h"

// As much of a host as the kernels need.
extern "C" {
void *vx_alloc(size_t n, unsigned) { return malloc(n); }
void vx_free(void *p) { free(p); }
void vx_yield(void) {}
void vx_fpu_begin(void) {}
void vx_fpu_end(void) {}
vx_u32 vx_cpu_features(void) { return VX_CPU_NEON; }
void vx_log(struct vx_bdev *, int, const char *line) { fprintf(stderr, "%s\n", line); }
void vx_assert_fail(const char *expr, const char *file, int line) {
  fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, expr);
  abort();
}
}

// Scans of codes give the bits that the plain loop gives.
static bool codes_agree() {
  using namespace vexfs;
  namespace kernels = simd::learn_kernels;
  std::mt19937 rng(1);
  for (u32 bytes = 1; bytes <= 128; bytes++) {
    std::vector<u8> entries(32 * bytes), codes(simd::pq_block * bytes);
    std::vector<u32> terms(simd::pq_block), a(simd::pq_block), b(simd::pq_block);
    for (u8 &e : entries) e = static_cast<u8>(rng());
    for (u8 &c : codes) c = static_cast<u8>(rng());
    for (u32 &t : terms) t = 0x3f800000 + static_cast<u32>(rng() >> 8) - (rng() % 2 ? 0x80000000u : 0);
    terms[5] = 0x7fc00000;
    kernels::pq_scan_base(entries.data(), bytes, codes.data(), terms.data(), 0x40400000, 0x3dcccccd, 0xc1200000,
                          a.data());
    kernels::pq_scan_neon(entries.data(), bytes, codes.data(), terms.data(), 0x40400000, 0x3dcccccd, 0xc1200000,
                          b.data());
    if (a != b) return false;
  }
  return true;
}

int main() {
  vexfs::simd::init();
  if (vexfs::simd::level() != vexfs::simd::Level::neon) {
    fprintf(stderr, "the level in use is %s\n", vexfs::simd::level_name(vexfs::simd::level()));
    return 1;
  }
  std::string err = simd_checks::check_level(true);
  if (err.empty()) err = simd_checks::check_codes();
  if (err.empty()) err = simd_checks::check_rotation();
  if (!err.empty()) {
    fprintf(stderr, "%s\n", err.c_str());
    return 1;
  }
  if (!codes_agree()) {
    fprintf(stderr, "scans of codes differ from the plain loop\n");
    return 1;
  }
  printf("neon: every length 1..1100 and up to 8192 agrees with the reference, and codes do\n");
  return 0;
}
