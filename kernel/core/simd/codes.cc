// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Codes: choice of the kernels, and FPU sections around them. No floating point here.
#include "codes.h"

#include "../base/lock.h"
#include "codec.h"
#include "level.h"

namespace vexfs::simd {

Result<CodeSpace> CodeSpace::make(const Space &space, CodeKind kind) {
  if (!valid(kind)) return Errno::inval;
  CodeSpace s;
  s.space_ = space;
  s.kind_ = kind;
  s.score_ = ops_at(level()).codes[static_cast<u32>(kind) - 1];
  s.padded_ = align_up<u32>(space.dim(), kind == CodeKind::sq8 ? 16 : 32);
  s.bytes_ = static_cast<u32>(sizeof(CodeHead)) + (kind == CodeKind::sq8 ? s.padded_ : s.padded_ / 2);
  s.section_codes_ = static_cast<u32>(max_of<usize>(4, min_of<usize>(section_rows, section_bytes / s.bytes_)));
  return s;
}

void CodeSpace::average(const void *const *rows, const u32 *aux, u32 n, void *centre) const {
  memset(centre, 0, centre_bytes());
  for (u32 i = 0; i < n; i++) {
    FpuSection fpu;
    codec::add_share(space_, rows[i], aux ? aux[i] : 0, n, centre);
  }
  FpuSection fpu;
  codec::make_finite(centre, space_.dim());
}

Status CodeSpace::set_centre(const void *centre) {
  FpuSection fpu;
  if (!codec::centre_base(space_, centre, &base_)) return Errno::inval;
  centre_ = centre;
  return {};
}

void CodeSpace::encode(const void *row, u32 aux, void *work, void *code) const {
  {
    FpuSection fpu;
    codec::residual(space_, space_.element(), row, aux, centre_, work);
  }
  FpuSection fpu;
  codec::encode(space_, kind_, work, centre_, padded_, code);
}

void CodeSpace::prepare(const Query &q, void *work, void *buf, CodeQuery *out) const {
  {
    FpuSection fpu;
    codec::residual(space_, q.wide ? Element::f32 : space_.element(), q.data, q.aux, centre_, work);
  }
  FpuSection fpu;
  codec::prepare(space_, kind_, work, centre_, base_, padded_, buf, out);
}

void CodeSpace::prepare_code(const void *code, void *buf, CodeQuery *out) const {
  FpuSection fpu;
  codec::prepare_code(space_, kind_, code, base_, padded_, buf, out);
}

void CodeSpace::score(const CodeQuery &q, const void *const *codes, u32 n, u32 *keys, FpuHold &fpu) const {
  while (n) {
    const u32 part = min_of(n, section_codes_);
    fpu.use(part * (bytes_ + scored_weight));
    score_(q, codes, padded_, part, keys);
    codes += part;
    keys += part;
    n -= part;
  }
}

}  // namespace vexfs::simd
