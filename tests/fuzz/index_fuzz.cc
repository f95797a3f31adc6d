// SPDX-License-Identifier: MIT
// Fuzz target: index checkpoints that say anything, behind checksums that are right. Nothing may crash, hang or be read
// beyond its end; what opens answers with slots that it covers, in order; and what takes new rows afterwards is sound.
//
// Input: its first byte chooses one of the checkpoints that are made at the start, the others are changes to it of eight
// bytes each: blob (u16, the last one: the header), place (u32), what is done there (u8), value (u8).
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "../../bench/common/memory_rows.h"
#include "../../kernel/core/vector/diskann_format.h"
#include "../../kernel/core/vector/index_kinds.h"
#include "../../lib/host.h"

namespace {

using namespace vexfs;
using namespace vexfs::vector;
using Bytes8 = std::vector<u8>;

constexpr u32 rows_count = 900, rows_more = 20, dim = 24;

[[noreturn]] void fail(const char *what) {
  fprintf(stderr, "index_fuzz: %s\n", what);
  abort();
}
void must(bool ok, const char *what) {
  if (!ok) fail(what);
}

struct Stored {
  Bytes8 header;
  std::vector<Bytes8> blobs;
};

struct Case {
  IndexParams params;
  Stored checkpoint;
};

struct World {
  World() : space(make_space()), rows(space, rows_count + rows_more) {
    std::mt19937 rng(3);
    std::normal_distribution<float> gauss;
    std::vector<float> centre(20 * dim), v(dim);
    for (float &f : centre) f = gauss(rng) * 10;
    for (u32 i = 0; i < rows_count + rows_more; i++) {
      const u32 c = static_cast<u32>(rng() % 20);
      for (u32 j = 0; j < dim; j++) v[j] = centre[c * dim + j] + gauss(rng);
      must(rows.add_f32(v.data()), "a row");
    }
    for (u32 i = 7; i < rows_count; i += 50) rows.kill(i);
    for (u32 codes = 1; codes <= 5; codes++)
      add({.kind = IndexKind::hnsw, .m = 8, .ef_construction = 40, .codes = codes});
    for (IndexKind k : {IndexKind::ivf_flat, IndexKind::ivf_pq, IndexKind::lsh, IndexKind::diskann}) add({.kind = k});
    add({.kind = IndexKind::diskann, .codes = 5});
  }
  static simd::Space make_space() {
    simd::init();
    return simd::Space::make(simd::Element::f32, simd::Metric::l2, dim).take();
  }
  void add(IndexParams p) {
    IndexPtr index = index_create(space, p).take();
    Scratch scratch(false);
    RowView view = rows.view();
    if (index->must_learn())
      must(index
               ->learn(
                   view, rows_count, scratch, [](void *) { return false; }, nullptr)
               .ok(),
           "learning");
    for (u32 i = 0; i < rows_count; i++)
      if (!view.dead(i)) must(index->insert(view, i, scratch).ok(), "inserting");
    auto c = std::make_unique<Case>();
    c->params = p;
    c->checkpoint = store(*index.get(), rows_count, view);
    cases.push_back(std::move(c));
  }
  static Stored store(Index &index, u32 covered, RowView rows) {
    Stored s;
    s.header.resize(index.header_bytes());
    must(index.save_header(covered, s.header).ok(), "saving a header");
    for (u32 b = 0; b < index.blob_count(covered); b++) {
      s.blobs.emplace_back(index.blob_bytes(b));
      must(index.save_blob(b, covered, s.blobs.back(), rows).ok(), "saving a blob");
    }
    return s;
  }
  simd::Space space;
  bench::MemoryRows rows;
  std::vector<std::unique_ptr<Case>> cases;
};

World &world() {
  static World *w = new World;
  return *w;
}

void change(Stored &s, const u8 *p) {
  u32 place;
  memcpy(&place, p + 2, 4);
  const size_t which = (p[0] | p[1] << 8) % (s.blobs.size() + 1);
  Bytes8 &into = which == s.blobs.size() ? s.header : s.blobs[which];
  if (into.empty()) return;
  // Half of the changes where structure is dense: at the beginning.
  const size_t at = place % (p[6] & 1 ? std::min<size_t>(into.size(), 64) : into.size());
  switch (p[6] >> 1 & 3) {
    case 0:
      into[at] = p[7];
      break;
    case 1:
      into[at] = static_cast<u8>(into[at] ^ 1u << (p[7] & 7));
      break;
    case 2:  // a word of one byte's value: 0xffffffff is what ends a list
      memset(into.data() + at / 4 * 4, p[7], std::min<size_t>(4, into.size() - at / 4 * 4));
      break;
    default:  // a slot that there is
      into[at / 4 * 4] = p[7];
      if (at / 4 * 4 + 3 < into.size()) memset(into.data() + at / 4 * 4 + 1, 0, 3);
  }
}

// A graph on disk has checksums of its own.
void mend_units(Stored &s, u64 seed) {
  for (size_t b = 0; b < s.blobs.size(); b++) {
    Bytes8 &blob = s.blobs[b];
    if (blob.size() % disk_unit_bytes) continue;
    for (size_t at = 0; at < blob.size(); at += disk_unit_bytes) {
      le32 crc;
      crc = disk_unit_crc(seed, blob.data() + at);
      memcpy(blob.data() + at, &crc, sizeof crc);
    }
  }
}

Status read_blob(void *ctx, u32 blob, MutBytes out) {
  auto &s = *static_cast<Stored *>(ctx);
  if (blob >= s.blobs.size() || s.blobs[blob].size() != out.size()) return Errno::corrupt;
  memcpy(out.data(), s.blobs[blob].data(), out.size());
  return {};
}

void look(Index &index, const RowView &view, u32 covered, Scratch &scratch, u32 row) {
  RowView rows = view;
  Hit hits[20];
  SearchParams p;
  p.k = 20;
  p.ef = 60;
  const simd::Query q = world().space.row_query(world().rows.row(row), 0);
  Result<u32> n = index.search(rows, q, p, scratch, hits, nullptr);
  must(n.ok() || n.code() == Errno::corrupt, "a search fails in its own way");
  for (u32 i = 0; n.ok() && i < *n; i++) {
    must(hits[i].slot < covered && !rows.dead(hits[i].slot), "a hit that cannot be");
    must(i == 0 || hits[i - 1].key <= hits[i].key, "hits out of order");
  }
}

void try_index(const Case &c, Stored &s) {
  World &w = world();
  BlobSource source;
  source.ctx = &s;
  source.read = read_blob;
  Result<u32> covered = index_covered(c.params.kind, s.header);
  Result<IndexPtr> opened = index_open(c.params.kind, w.space, s.header, source);
  // What the owner refuses: IndexKeeper::open_checkpoint.
  if (!opened.ok() || !covered.ok() || *covered > rows_count) return;
  Index &index = *opened->get();
  Scratch scratch(false);
  RowView view = w.rows.view();
  look(index, view, *covered, scratch, 1);
  VerifyReport report;
  if (!index.verify(&report, scratch).ok()) return;
  const bool sound = report.sound();
  for (u32 i = 0; i < rows_count + rows_more; i++)
    if (!view.dead(i) && !index.contains(i)) {
      Status st = index.insert(view, i, scratch);
      must(st.ok() || st.code() == Errno::corrupt || st.code() == Errno::exist, "an insert fails in its own way");
    }
  for (u32 i = 7; i < rows_count; i += 200) (void)index.remove(view, i, scratch).ok();
  look(index, view, rows_count + rows_more, scratch, 2);
  if (index.verify(&report, scratch).ok()) must(!sound || report.sound(), "new rows spoil it");
  index.print([](const char *, usize) {});
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int *, char ***) {
  host::set_log_level(0);
  for (auto &c : world().cases) {
    Stored s = c->checkpoint;
    try_index(*c, s);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  const Case &c = *world().cases[data[0] % world().cases.size()];
  Stored s = c.checkpoint;
  for (size_t at = 1; at + 8 <= size && at < 1 + 8 * 64; at += 8) change(s, data + at);
  if (c.params.kind == IndexKind::diskann && data[0] < 128) mend_units(s, c.params.seed);
  try_index(c, s);
  return 0;
}

// Random changes, few or many: the driver's own grow inputs byte by byte.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
  std::mt19937 rng(seed);
  const size_t most = std::min<size_t>((max_size - 1) / 8, 64);
  size = rng() % 2 ? std::min(size, size_t{1}) : std::min(size, 1 + 8 * (most / 2));
  if (size == 0) data[size++] = static_cast<u8>(rng());
  size = 1 + (size - 1) / 8 * 8;
  if (size == 1) data[0] = static_cast<u8>(rng());
  const size_t add = 1 + rng() % (rng() % 4 ? 4 : most / 2);
  for (size_t i = 0; i < add * 8 && size < 1 + most * 8; i++) data[size++] = static_cast<u8>(rng());
  return size;
}
