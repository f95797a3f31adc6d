// SPDX-License-Identifier: MIT
// The NEON kernels checked in a bare AArch64 program: run by qemu-aarch64 on other machines. Exit status 0: all right.
#include <cstdlib>

#include "../unit/codes_checks.h"

// As much of a host as the kernels need.
extern "C" {
void *vx_alloc(size_t n, unsigned) { return malloc(n); }
void vx_free(void *p) { free(p); }
void vx_fpu_begin(void) {}
void vx_fpu_end(void) {}
vx_u32 vx_cpu_features(void) { return VX_CPU_NEON; }
void vx_log(struct vx_bdev *, int, const char *line) { fprintf(stderr, "%s\n", line); }
void vx_assert_fail(const char *expr, const char *file, int line) {
  fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, expr);
  abort();
}
}

int main() {
  vexfs::simd::init();
  if (vexfs::simd::level() != vexfs::simd::Level::neon) {
    fprintf(stderr, "the level in use is %s\n", vexfs::simd::level_name(vexfs::simd::level()));
    return 1;
  }
  std::string err = simd_checks::check_level(true);
  if (err.empty()) err = simd_checks::check_codes();
  if (!err.empty()) {
    fprintf(stderr, "%s\n", err.c_str());
    return 1;
  }
  printf("neon: every length 1..1100 and up to 8192 agrees with the reference, and codes do\n");
  return 0;
}
