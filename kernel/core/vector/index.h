// SPDX-License-Identifier: GPL-2.0-only OR MIT
// The interface behind which every vector index lives. An index is derived data: it holds slot numbers, and what it has
// learnt of the rows, never the rows; those come from a RowView, which the caller takes for each call. Which kinds there
// are, and how one is made, is in index_kinds.h.
//
// Threads: insert, remove, search, save_* may all run at once on one index, from any number of threads; readers take
// no lock. Each call needs a Scratch of its own. All calls may sleep (row faults, allocation) and are called outside
// FPU sections and without spin locks.
#pragma once
#include "../base/memory.h"
#include "../base/printer.h"
#include "../simd/codes.h"
#include "rows.h"
#include "scratch.h"

namespace vexfs::vector {

enum class IndexKind : u8 {
  flat = 1,
  hnsw = 2,
  lsh = 3,
  ivf_pq = 4,
  diskann = 5,
  ivf_flat = 6
};  // as enum vexfs_index_kind

struct Hit {
  u32 key;  // simd key of the distance
  u32 slot;
};

// How a walk goes about knowing which rows match (SearchParams::matching). Where at least one row in matching_common does,
// it is one among all rows, wide enough that as many match as are wanted; else it goes from one that matches to the next.
// Where fewer than one in matching_rare do, these hang together too loosely for it: then, and where they are at most
// matching_scanned times ef, all of their codes are looked at. Without codes it is of no use to know.
constexpr u32 matching_common = 4, matching_rare = 24, matching_scanned = 128, matching_scanned_listed = 32;

class MatchingLists;

// What a caller can ask of a search beyond the query.
struct SearchParams {
  u32 k = 10;             // hits wanted, >= 1
  u32 ef = 64;            // breadth of the walk (candidates kept); raised to k
  u64 distances_max = 0;  // give up (SearchStats::truncated) after about this many evaluations; 0: no limit
  void *ctx = nullptr;    // passed to the two callbacks
  // Null, or: may this live row be returned? Filters, visibility, permission. Called only for rows near enough to
  // enter the result, nearest of a batch first; may sleep. Rows refused are still walked through.
  bool (*accept)(void *ctx, u32 slot) = nullptr;
  // Null, or: a bit per slot below matching_end, set for all rows that accept() may let pass, and matching_count of them,
  // about. An index may leave the others out without asking, or look at them as without.
  const u64 *matching = nullptr;
  u32 matching_end = 0;
  u64 matching_count = 0;
  // Null, or: what was found out about these rows, in the state that the index says it is in, to be used and added to.
  MatchingLists *lists = nullptr;
  // A slot that a walk through a graph does not pass through, and does not return (unless it begins there); as if it had
  // never been inserted, or a bit harder, as lists that led to it are shorter by that. Other kinds of index may return it.
  u32 without = slot_none;
  // Null, or: has the caller been killed? Asked between batches. true -> Errno::intr.
  bool (*interrupted)(void *ctx) = nullptr;
};

struct BlobSource;

// What an index may do when it mends itself (Index::mend).
struct MendParams {
  u32 settled = 0;   // slots below are in the index, or dead: nobody inserts them any more
  usize memory = 0;  // that it may take for as long as that goes on, about
  bool (*interrupted)(void *ctx) = nullptr;
  void *ctx = nullptr;
};

struct SearchStats {
  u64 distances = 0;       // distance evaluations
  u64 hops = 0;            // graph nodes expanded, or lists and buckets looked into
  u64 scanned = 0;         // rows scored by exact scan
  u64 accepts = 0;         // accept() calls
  bool truncated = false;  // distances_max was reached: rows that match may have been missed
  // Many rows that are the same, dead or refused, lay among the nearest. Copies fill each other's lists, so that not every one
  // of them has a way in: one that would be accepted may have been missed, however wide the walk.
  bool crowded = false;
  void add(const SearchStats &o) {
    distances += o.distances;
    hops += o.hops;
    scanned += o.scanned;
    accepts += o.accepts;
    truncated |= o.truncated;
    crowded |= o.crowded;
  }
};

// What verify found. Counts of faults are 0 in a sound index.
struct VerifyReport {
  u64 nodes = 0;        // slots present in the index
  u64 links = 0;        // level-0 links; entries of lists
  u64 unreachable = 0;  // present nodes that no path from the entry point reaches
  u64 bad_links = 0;    // link to a slot that is not in the index, to itself, or twice; entry of a wrong list
  u64 bad_levels = 0;   // upper link to a node that does not reach that level
  u32 levels = 0;
  bool bad_entry = false;
  bool sound() const { return bad_links == 0 && bad_levels == 0 && !bad_entry; }
};

// How large an index is, without reading it: for status calls.
struct IndexCounts {
  u32 nodes = 0;  // slots in it, dead ones included
  u32 max_level = 0;
  u16 codes = 0;       // enum vexfs_codes: what distances are taken on; 0: not decided, or not the index's business
  u32 code_bytes = 0;  // of a code beside the lists; 0: there are none
  u32 links = 0;       // of a slot at most, where each has some
  // As in IndexParams, chosen; 0: not decided, or not of this kind.
  u32 lists = 0, pq_m = 0, tables = 0, bits = 0;
};

class Index : Pinned {
 public:
  virtual IndexKind kind() const = 0;
  virtual const simd::Space &space() const = 0;

  // ---- learning. An index may have to look at rows before it can take the first one (where its centroids lie, say).
  // While must_learn() says so, nothing may be inserted, and searches find nothing.
  virtual bool must_learn() const { return false; }
  // Rows needed to learn from.
  virtual u32 learn_min() const { return 0; }
  // Learns from the rows below `slots` (dead ones left out), at least learn_min() of them. What is learnt depends on the
  // rows and the seed alone. By one thread at a time; takes as long as it takes, so interrupted(ctx) is asked often:
  // intr. again: too few rows are alive. nomem, or the view's fault. After any error the index has learnt nothing.
  virtual Status learn(RowView & /*rows*/, u32 /*slots*/, Scratch & /*scratch*/, bool (* /*interrupted*/)(void *),
                       void * /*ctx*/) {
    return {};
  }
  // Has the collection, now of so many slots, grown so far beyond what was learnt from that learning anew pays?
  virtual bool outgrown(u32 /*slots*/) const { return false; }
  // Was a blob refused for what it says, although its checksum was right? The owner drops the index.
  virtual bool damaged() const { return false; }

  // Adds the row. Searches that begin after the return find it. exist: is in the index already. On any error the
  // index is as it was before (up to links of other nodes that were improved).
  virtual Status insert(RowView &rows, u32 slot, Scratch &scratch) = 0;
  // Tells the index that the row is dead (its dead bit is set already, so searches leave it out): lets it repair the
  // links around the row. Optional work; failing it costs speed, never correctness. inval: the row is alive.
  virtual Status remove(RowView &rows, u32 slot, Scratch &scratch) = 0;
  // The hits, nearest first (ties: lower slot first), at most k, into out[0..k). Returns how many.
  // intr, nomem, or what the row view's fault gave.
  virtual Result<u32> search(RowView &rows, const simd::Query &q, const SearchParams &params, Scratch &scratch,
                             Hit *out, SearchStats *stats) = 0;
  // Can a search find the slot?
  virtual bool contains(u32 slot) = 0;
  // May anything in the index refer to it? True also where what would tell cannot be read now.
  virtual bool may_contain(u32 slot) { return contains(slot); }

  // ---- dead rows, in place. Does the index get rid of them by itself? Else it is built anew when there are many.
  virtual bool mends() const { return false; }
  // Begins with it, or goes on: some milliseconds of work. True: there is more to do. Searches and inserts may run, but
  // no checkpoint, and no other call of this. After an error it begins anew. again: not now, with these rows.
  virtual Result<bool> mend(RowView & /*rows*/, const MendParams & /*params*/, Scratch & /*scratch*/) { return false; }
  virtual bool mending() const { return false; }  // it has begun, and not ended
  // Grows when dead slots that contains() says no of are about to be found no more.
  virtual u64 departures() const { return 0; }
  // What it leads to from a slot stays the same as long as this does, but for inserts and removals that have not returned;
  // no other index has the same. 0: it makes nothing of SearchParams::lists.
  virtual u64 edits() const { return 0; }

  // ---- checkpoint: a header and blobs of sizes known before, each self-contained, that the owner stores with a
  // checksum of its own. Taken while inserts go on: a checkpoint of `covered` slots holds every node below it whose
  // insert had returned; links to later slots are left out.
  virtual usize header_bytes() const = 0;
  virtual u32 blob_count(u32 covered) const = 0;
  virtual usize blob_bytes(u32 blob) const = 0;
  virtual Status save_header(u32 covered, MutBytes out) const = 0;
  // rows: for an index that keeps them beside its lists.
  virtual Status save_blob(u32 blob, u32 covered, MutBytes out, RowView &rows) = 0;
  // Has the blob changed since save_blob last wrote it (so that a checkpoint need not write it again)?
  virtual bool blob_dirty(u32 blob) const = 0;
  // A checkpoint of so many slots is complete, and can be read from there: what was kept for it may go.
  virtual void saved(u32 /*covered*/, const BlobSource & /*blobs*/) {}
  // Memory kept until the next checkpoint alone: where it gets too much, there should be one before anything is inserted.
  virtual usize unsaved_bytes() const { return 0; }
  // Should there be one for another reason?
  virtual bool wants_saving() const { return false; }

  // interrupted: null, or asked now and then; intr.
  virtual Status verify(VerifyReport *out, Scratch &scratch, bool (*interrupted)(void *ctx), void *ctx) = 0;
  Status verify(VerifyReport *out, Scratch &scratch) { return verify(out, scratch, nullptr, nullptr); }
  virtual void print(const TextSink &sink) const = 0;
  virtual usize memory_bytes() const = 0;
  virtual IndexCounts counts() const = 0;

  // Frees the index. No call may be running.
  virtual void destroy() = 0;

 protected:
  ~Index() = default;
};

// Owns an index.
class IndexPtr {
 public:
  IndexPtr() = default;
  explicit IndexPtr(Index *p) : p_(p) {}
  IndexPtr(IndexPtr &&o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  IndexPtr &operator=(IndexPtr &&o) noexcept {
    if (this != &o) {
      reset();
      p_ = std::exchange(o.p_, nullptr);
    }
    return *this;
  }
  IndexPtr(const IndexPtr &) = delete;
  IndexPtr &operator=(const IndexPtr &) = delete;
  ~IndexPtr() { reset(); }
  void reset() {
    if (p_) p_->destroy();
    p_ = nullptr;
  }
  Index *get() const { return p_; }
  Index *operator->() const { return p_; }
  explicit operator bool() const { return p_ != nullptr; }

 private:
  Index *p_ = nullptr;
};

// How a loaded index fetches its blobs, at first touch. `read` fills `out` (exactly blob_bytes) with what save_blob
// wrote, checksum verified by the owner; may sleep. Any error marks the blob bad: the calls that need it get the
// error, and the owner drops the index.
struct BlobPart {
  u32 blob;
  u32 at;  // multiples of 4096, as is the length
  MutBytes out;
};
struct BlobSource {
  void *ctx = nullptr;
  Status (*read)(void *ctx, u32 blob, MutBytes out) = nullptr;
  // Null, or: reads parts of blobs, all at once, as they are on the device: nothing but the index itself can tell whether
  // they are good. May give what has just been replaced, or anything, while a checkpoint is written: ask again.
  Status (*read_parts)(void *ctx, const BlobPart *parts, u32 n) = nullptr;
  usize memory = ~usize{0};  // at most, for keeping what was read
};
constexpr u32 blob_parts_max = 8;  // read at once

struct HnswParams {
  u32 m = 16;                 // links per node and upper level, 2..128; level 0 has 2m
  u32 ef_construction = 200;  // 1..65536
  u64 seed = 0;               // of the levels; the same seed and slots give the same levels
  // What the graph is built and walked on; automatic: learn() decides, by the rows. Hits are always scored on the rows.
  enum class Codes : u8 { none = 0, sq8 = 1, sq4 = 2, rabitq1 = 3, rabitq2 = 4, automatic = 255 };
  Codes codes = Codes::automatic;
  bool compact = false;  // rows are not kept in memory: learn() takes shorter codes where they will do
};
constexpr u32 hnsw_m_min = 2, hnsw_m_max = 128;

// An empty index. inval: parameters out of range.
Result<IndexPtr> hnsw_create(const simd::Space &space, const HnswParams &params);
// An index from a checkpoint: reads and checks the header only; blobs come when touched. corrupt, inval (header of
// another space).
Result<IndexPtr> hnsw_open(const simd::Space &space, Bytes header, const BlobSource &blobs);
// Slots covered by the checkpoint that `header` belongs to. corrupt.
Result<u32> hnsw_covered(Bytes header);

}  // namespace vexfs::vector
