// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Codes: choice of the kernels, and FPU sections around them. No floating point here.
#include "codes.h"

#include "../base/lock.h"
#include "../base/sort.h"
#include "codec.h"
#include "level.h"

namespace vexfs::simd {

Result<CodeSpace> CodeSpace::make(const Space &space, CodeKind kind) {
  if (!valid(kind)) return Errno::inval;
  CodeSpace s;
  s.space_ = space;
  s.kind_ = kind;
  s.score_ = ops_at(level()).codes[static_cast<u32>(kind) - 1];
  s.padded_ = align_up<u32>(space.dim(), element_block(kind));
  s.bytes_ = head_bytes(kind) + s.padded_ * element_bits(kind) / 8;
  s.section_codes_ = static_cast<u32>(max_of<usize>(4, min_of<usize>(section_rows, section_bytes / s.bytes_)));
  return s;
}

namespace codes_impl {
namespace {

constexpr u32 judges = 64, origins = 5, exceptions = 4;
constexpr u32 far_exponent = 6;  // 64 times the usual squared distance: 8 times as far

// What is usual among rows: the distance from one of them within which half of those lie that do not equal it, from the one
// of a few where it is least; eight times that. Keys of squares. False: nothing can be said.
bool usual(const Space &l2, const void *const *rows, u32 n, u32 *origin, u32 *most) {
  constexpr u32 zero = key_from_f32(0), infinite = key_from_f32(0x7f800000), more = far_exponent << 23;
  const u32 seen = min_of(n, judges);
  u32 keys[judges], least = key_farthest;
  for (u32 o = 0; o < min_of(n, origins); o++) {
    const u32 from = static_cast<u32>(u64{n} * o / min_of(n, origins));
    for (u32 i = 0; i < seen; i++) keys[i] = l2.score_one(l2.row_query(rows[from], 0), rows[u64{n} * i / seen], 0);
    sort(keys, seen, [](u32 a, u32 b) { return a < b; });
    u32 equal = 0;
    while (equal < seen && keys[equal] <= zero) equal++;
    const u32 middle = equal + (seen - equal) / 2;
    if (middle >= seen || keys[middle] >= least) continue;
    least = keys[middle];
    *origin = from;
  }
  if (least >= infinite - more) return false;
  *most = least + more;
  return true;
}

}  // namespace
}  // namespace codes_impl

// One row of enormous numbers would draw the centre away from all others, whose codes would then tell nothing apart. Where
// many lie far they are no exceptions.
void CodeSpace::average(const void *const *rows, const u32 *aux, u32 n, void *centre) const {
  u32 origin = 0, most = 0, kept = n;
  const Space l2 = Space::make(space_.element(), Metric::l2, space_.dim()).take();  // of a space that there is
  bool judged = space_.metric() != Metric::cosine && codes_impl::usual(l2, rows, n, &origin, &most);
  const auto far = [&](u32 i) {
    if (i % 64 == 63) vx_yield();
    return judged && l2.score_one(l2.row_query(rows[origin], 0), rows[i], 0) > most;
  };
  for (u32 i = 0; i < n; i++) kept -= far(i);
  if (n - kept > n / codes_impl::exceptions) judged = false, kept = n;
  memset(centre, 0, centre_bytes());
  for (u32 i = 0; i < n; i++) {
    if (far(i)) continue;
    FpuSection fpu;
    codec::add_share(space_, rows[i], aux ? aux[i] : 0, kept, centre);
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

void CodeSpace::rotate(void *floats) const {
  for (u32 i = 0; i < codec::turn_rounds; i++) {
    FpuSection fpu;
    codec::turn(floats, padded_, i);
  }
}

codec::Turned CodeSpace::turn_residual(void *work) const {
  codec::Turned t;
  {
    FpuSection fpu;
    t = codec::begin_turn(space_, work, centre_, padded_);
  }
  if (t.top) rotate(work);
  return t;
}

void CodeSpace::encode(const void *row, u32 aux, void *work, void *code) const {
  {
    FpuSection fpu;
    codec::residual(space_, space_.element(), row, aux, centre_, work);
  }
  if (rotated(kind_)) {
    const codec::Turned t = turn_residual(work);
    FpuSection fpu;
    return codec::encode_turned(kind_, t, work, padded_, code);
  }
  codec::StepSearch s;
  for (bool more = kind_ == CodeKind::sq4; more;) {
    FpuSection fpu;
    more = codec::try_step(space_, work, &s);
  }
  FpuSection fpu;
  codec::encode(space_, kind_, work, centre_, padded_, s.step, code);
}

void CodeSpace::prepare(const Query &q, void *work, void *buf, CodeQuery *out) const {
  {
    FpuSection fpu;
    codec::residual(space_, q.wide ? Element::f32 : space_.element(), q.data, q.aux, centre_, work);
  }
  if (rotated(kind_)) {
    const codec::Turned t = turn_residual(work);
    FpuSection fpu;
    return codec::prepare_turned(space_, kind_, t, work, base_, padded_, buf, out);
  }
  FpuSection fpu;
  codec::prepare(space_, kind_, work, centre_, base_, padded_, buf, out);
}

void CodeSpace::prepare_code(const void *code, void *buf, CodeQuery *out) const {
  FpuSection fpu;
  if (rotated(kind_))
    codec::prepare_turned_code(space_, kind_, code, base_, padded_, buf, out);
  else
    codec::prepare_code(space_, kind_, code, base_, padded_, buf, out);
}

void CodeSpace::lower(const CodeQuery &q, const void *const *codes, u32 n, u32 sixteenths, u32 *keys) const {
  VX_ASSERT(has_bound());
  while (n) {
    const u32 part = min_of(n, section_codes_);
    {
      FpuSection fpu;
      codec::lower(q, kind_, codes, padded_, part, sixteenths, keys);
    }
    codes += part;
    keys += part;
    n -= part;
  }
}

u32 CodeSpace::off(const void *code) const {
  u32 word;  // either head begins with it
  memcpy(&word, code, sizeof word);
  return rotated(kind_) ? ShortHead{word}.off() : word;
}

void CodeSpace::score(const CodeQuery &q, const void *const *codes, u32 n, u32 *keys, FpuHold &fpu) const {
  const usize each = bytes_ + scored_weight;
  const u32 most = n * each <= fpu_weight_max ? n : static_cast<u32>(max_of<usize>(fpu_weight_max / each, 4));
  while (n) {
    const u32 part = min_of(min_of(n, most), section_codes_);
    fpu.use(part * each);
    score_(q, codes, padded_, part, keys);
    codes += part;
    keys += part;
    n -= part;
  }
}

}  // namespace vexfs::simd
