// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Chooses the instruction set, tests it, and brackets every use of it with FPU sections. No floating point here.
#include <atomic>

#include "../base/lock.h"
#include "level.h"

namespace vexfs::simd {
namespace dispatch_impl {
namespace {

#if defined(__aarch64__)
constexpr Level baseline = Level::neon;
#else
constexpr Level baseline = Level::sse2;
#endif

constinit std::atomic<u8> current{static_cast<u8>(baseline)};

const LevelOps *ops_of(Level l) {
#if defined(__aarch64__)
  return l == Level::neon ? &ops_neon : nullptr;
#else
  switch (l) {
    case Level::sse2:
      return &ops_sse2;
    case Level::avx2:
      return &ops_avx2;
    case Level::avx512:
      return &ops_avx512;
    case Level::neon:
      return nullptr;
  }
  return nullptr;
#endif
}

u32 features_needed(Level l) {
  switch (l) {
    case Level::sse2:
    case Level::neon:
      return 0;
    case Level::avx2:
      return VX_CPU_AVX2 | VX_CPU_FMA | VX_CPU_F16C;
    case Level::avx512:
      return VX_CPU_AVX512 | VX_CPU_AVX2 | VX_CPU_FMA | VX_CPU_F16C;
  }
  return ~0u;
}

// ------------------------------------------------------------------------------------------------------ self test
constexpr u32 test_dim = 131;  // full registers, one more register, and a tail, at every level
constexpr u32 test_rows = 7;   // a group of four and single rows

struct TestData {
  u32 wide[(test_rows + 1) * test_dim];
  u32 typed[(test_rows + 1) * test_dim];
  u32 aux[test_rows + 1];
  const void *rows[test_rows];
};

// Positive values within a factor of four, so that sums do not cancel and keys differ by rounding alone.
void fill(TestData &d) {
  u32 x = 12345;
  for (u32 &w : d.wide) {
    x = x * 1664525u + 1013904223u;
    w = 0x40000000u + (x >> 8);  // 2.0 .. 8.0
  }
}

// Differences of keys are differences in units of the last place.
constexpr u32 ulps_allowed(Metric m, Element e) { return e == Element::int8 ? 0 : m == Metric::cosine ? 1u << 16 : 64; }

bool same(const u32 *a, const u32 *b, u32 n, u32 ulps) {
  for (u32 i = 0; i < n; i++)
    if ((a[i] > b[i] ? a[i] - b[i] : b[i] - a[i]) > ulps) return false;
  return true;
}

bool agrees(const LevelOps &ops, const LevelOps &base, TestData &d, Element e, Metric m) {
  const u32 ei = static_cast<u32>(e) - 1, mi = static_cast<u32>(m) - 1;
  const usize row_bytes = usize{element_bytes(e)} * test_dim;
  u8 *typed = reinterpret_cast<u8 *>(d.typed);
  u32 got[test_rows], want[test_rows], scanned[test_rows];
  FpuSection fpu;
  for (u32 r = 0; r <= test_rows; r++) {
    if (!convert::from_f32(e, d.wide + r * test_dim, typed + r * row_bytes, test_dim)) return false;
    if (!convert::inverse_norm(e, typed + r * row_bytes, test_dim, &d.aux[r])) return false;
    if (r) d.rows[r - 1] = typed + r * row_bytes;
  }
  for (u32 form = 0; form < 2; form++) {
    const Kernels &k = form ? ops.wide[ei][mi] : ops.narrow[ei][mi];
    const Kernels &b = form ? base.wide[ei][mi] : base.narrow[ei][mi];
    if (!k.score) continue;
    const void *q = form ? static_cast<const void *>(d.wide) : typed;
    k.score(q, d.aux[0], d.rows, d.aux + 1, test_dim, test_rows, got);
    k.scan(q, d.aux[0], typed + row_bytes, row_bytes, d.aux + 1, test_dim, test_rows, scanned);
    b.score(q, d.aux[0], d.rows, d.aux + 1, test_dim, test_rows, want);
    if (!same(got, scanned, test_rows, 0) || !same(got, want, test_rows, ulps_allowed(m, e))) return false;
  }
  return true;
}

// Any bytes are a code, and any words whose sums do not overflow a query: the keys must be the same.
bool codes_agree(const LevelOps &ops, const LevelOps &base, TestData &d) {
  constexpr u32 padded[code_kind_count] = {160, 160, 256, 192};  // wide steps and a narrow one, where steps differ
  constexpr u32 apart = 160 + sizeof(CodeHead) + 8;
  u8 *bytes = reinterpret_cast<u8 *>(d.wide);
  u32 got[test_rows], want[test_rows];
  for (u32 r = 0; r < test_rows; r++) {
    u8 *code = bytes + 512 + r * apart;
    const CodeHead head{d.wide[r], d.wide[r + 1]};
    memcpy(code, &head, sizeof head);
    d.rows[r] = code;
  }
  for (u32 kind = 0; kind < code_kind_count; kind++) {
    s16 *q = reinterpret_cast<s16 *>(d.typed);
    for (u32 i = 0; i < padded[kind]; i++) q[i] = static_cast<s16>(bytes[i] * 7 - 900);
    const CodeQuery query{q, d.wide[2], d.wide[3], 1234};
    FpuSection fpu;
    ops.codes[kind](query, d.rows, padded[kind], test_rows, got);
    base.codes[kind](query, d.rows, padded[kind], test_rows, want);
    if (!same(got, want, test_rows, 0)) return false;
  }
  return true;
}

bool self_test(Level l) {
  const LevelOps *ops = ops_of(l), *base = ops_of(baseline);
  TestData *d = static_cast<TestData *>(vx_alloc(sizeof(TestData), 0));
  if (!d) return false;
  fill(*d);
  bool ok = true;
  for (u8 e = 1; ok && e <= element_count; e++)
    for (u8 m = 1; ok && m <= metric_count; m++) ok = agrees(*ops, *base, *d, Element{e}, Metric{m});
  ok = ok && codes_agree(*ops, *base, *d);
  vx_free(d);
  return ok;
}

}  // namespace
}  // namespace dispatch_impl

const LevelOps &ops_at(Level l) { return *dispatch_impl::ops_of(l); }

bool level_supported(Level l) {
  const u32 need = dispatch_impl::features_needed(l);
  return dispatch_impl::ops_of(l) && (vx_cpu_features() & need) == need;
}

void init() {
  constexpr Level order[] = {Level::avx512, Level::avx2};
  for (Level l : order) {
    if (!level_supported(l)) continue;
    if (dispatch_impl::self_test(l)) {
      dispatch_impl::current.store(static_cast<u8>(l), std::memory_order_relaxed);
      return;
    }
    vx_log(nullptr, VX_LOG_WARN,
           l == Level::avx512 ? "simd: AVX-512 kernels disagree with the baseline and are not used"
                              : "simd: AVX2 kernels disagree with the baseline and are not used");
  }
  dispatch_impl::current.store(static_cast<u8>(dispatch_impl::baseline), std::memory_order_relaxed);
}

Level level() { return Level{dispatch_impl::current.load(std::memory_order_relaxed)}; }

Status force_level(Level l) {
  if (!level_supported(l)) return Errno::opnotsupp;
  dispatch_impl::current.store(static_cast<u8>(l), std::memory_order_relaxed);
  return {};
}

const char *level_name(Level l) {
  switch (l) {
    case Level::sse2:
      return "sse2";
    case Level::avx2:
      return "avx2";
    case Level::avx512:
      return "avx512";
    case Level::neon:
      return "neon";
  }
  return "unknown";
}

u32 level_width_bits(Level l) {
  switch (l) {
    case Level::sse2:
    case Level::neon:
      return 128;
    case Level::avx2:
      return 256;
    case Level::avx512:
      return 512;
  }
  return 0;
}

// ----------------------------------------------------------------------------------------------------------- Space
Result<Space> Space::make(Element e, Metric m, u32 dim) {
  if (!valid(e) || !valid(m) || dim == 0 || dim > dim_max) return Errno::inval;
  const LevelOps &ops = ops_at(simd::level());
  Space s;
  s.narrow_ = ops.narrow[static_cast<u32>(e) - 1][static_cast<u32>(m) - 1];
  s.wide_ = ops.wide[static_cast<u32>(e) - 1][static_cast<u32>(m) - 1];
  s.element_ = e;
  s.metric_ = m;
  s.dim_ = dim;
  s.row_bytes_ = usize{dim} * element_bytes(e);
  s.section_rows_ = static_cast<u32>(max_of<usize>(4, min_of<usize>(section_rows, section_bytes / s.row_bytes_)));
  return s;
}

Status Space::check_row(const void *row, u32 *aux) const {
  FpuSection fpu;
  *aux = 0;
  if (!convert::finite(element_, row, dim_)) return Errno::inval;
  if (has_aux() && !convert::inverse_norm(element_, row, dim_, aux)) return Errno::inval;
  return {};
}

Status Space::encode_row(const void *f32, void *row, u32 *aux) const {
  FpuSection fpu;
  *aux = 0;
  if (!convert::from_f32(element_, f32, row, dim_)) return Errno::inval;
  if (has_aux() && !convert::inverse_norm(element_, row, dim_, aux)) return Errno::inval;
  return {};
}

void Space::decode_row(const void *row, void *f32) const {
  FpuSection fpu;
  convert::to_f32(element_, row, f32, dim_);
}

Status Space::prepare_query(const void *src, Element from, void *buf, Query *out) const {
  if (from != element_ && from != Element::f32) return Errno::inval;
  const bool wide = from == Element::f32 && wide_.score;
  const Element kept = wide ? Element::f32 : element_;  // the element type of the prepared query
  FpuSection fpu;
  u32 aux = 0;
  if (from == kept) {
    if (!convert::finite(kept, src, dim_)) return Errno::inval;
    memcpy(buf, src, usize{dim_} * element_bytes(kept));
  } else if (!convert::from_f32(kept, src, buf, dim_)) {
    return Errno::inval;
  }
  if (has_aux() && !convert::inverse_norm(kept, buf, dim_, &aux)) return Errno::inval;
  *out = Query{buf, aux, wide};
  return {};
}

void Space::score(const Query &q, const void *const *rows, const u32 *aux, u32 n, u32 *keys, FpuHold &fpu) const {
  const ScoreFn fn = q.wide ? wide_.score : narrow_.score;
  const usize each = row_bytes_ + scored_weight;
  const u32 most = n * each <= fpu_weight_max ? n : static_cast<u32>(max_of<usize>(fpu_weight_max / each, 4));
  while (n) {
    const u32 part = min_of(min_of(n, most), section_rows_);
    fpu.use(part * each);
    fn(q.data, q.aux, rows, aux, dim_, part, keys);
    rows += part;
    keys += part;
    if (has_aux()) aux += part;
    n -= part;
  }
}

void Space::scan(const Query &q, const void *base, usize stride, const u32 *aux, u32 n, u32 *keys) const {
  const ScanFn fn = q.wide ? wide_.scan : narrow_.scan;
  const u8 *p = static_cast<const u8 *>(base);
  while (n) {
    const u32 part = min_of(n, section_rows_);
    {
      FpuSection fpu;
      fn(q.data, q.aux, p, stride, aux, dim_, part, keys);
    }
    p += part * stride;
    keys += part;
    if (has_aux()) aux += part;
    n -= part;
  }
}

void Space::scan_many(const Query *q, u32 nq, const void *base, usize stride, const u32 *aux, u32 n, u32 *keys,
                      usize key_stride) const {
  constexpr usize tile_bytes = 16 * 1024;  // stays in the first-level cache beside a query
  const u32 tile = static_cast<u32>(max_of<usize>(4, min_of<usize>(section_rows, tile_bytes / stride)) & ~usize{3});
  const u8 *p = static_cast<const u8 *>(base);
  for (u32 i = 0; i < n; i += tile) {
    const u32 part = min_of(tile, n - i);
    for (u32 j = 0; j < nq; j++)
      scan(q[j], p + i * stride, stride, has_aux() ? aux + i : nullptr, part, keys + j * key_stride + i);
  }
}

}  // namespace vexfs::simd
