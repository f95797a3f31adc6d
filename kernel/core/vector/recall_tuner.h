// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Measures the recall of a collection's index, in the background, so that searches can be told a recall instead of a breadth.
//
// Up to 256 queries are answered by an exact scan, all in one pass over the rows, and then by walks of growing breadth
// (RecallCurve::breadth), for each of RecallCurve::neighbours by itself as searches for fewer do less work, until nearly
// all are found, or walks look at half of the rows. Queries are, the best first:
//   - queries of searches (QuerySample), when there are 64;
//   - rows that the index does not hold yet;
//   - rows that it holds, themselves left out of both answers. They are a bit easier to find the neighbours of than what
//     comes from elsewhere, more so if queries are of another distribution than rows.
// The same rows and the same queries give the same result.
//
// What it costs: rows scanned times queries is at most 2^30. From 4 million rows on that means fewer queries, down to 64;
// from 16 million on a sample of the chunks is scanned, and of the nearest k those in the sample are asked for. It is done
// again when the index has grown by half, when a quarter of the live rows have died, and when there are better queries; so
// all in all a row takes part in about 750 distances, in order, where to insert it into a graph took thousands, anywhere.
//
// Work comes in slices, of about 20 ms: a chunk of rows or a walk at least. Searches only copy the last result under a
// spin lock. The keeper of the index stores the result (recall_item.cc), so that it serves again after a mount; queries are
// not kept on disk.
#pragma once
#include "flat.h"
#include "recall_curve.h"
#include "recall_queries.h"
#include "table.h"

namespace vexfs::vector {

class RecallTuner : Pinned {
 public:
  explicit RecallTuner(Table &t);
  ~RecallTuner();

  // ---- what searches do
  // Has a recall been asked for, by the collection's configuration or a search? Nothing is measured or kept before.
  bool wanted() const { return wanted_.load(std::memory_order_relaxed); }
  // True: it was not before.
  bool want() { return !wanted() && !wanted_.exchange(true, std::memory_order_relaxed); }
  void unwant();
  RecallCurve curve();
  void remember(const simd::Query *q, u32 n) {
    if (wanted()) sample_.remember(q, n, wanted_);
  }
  // Memory is short: queries go, and what was measured in part.
  void let_go();

  // ---- what the keeper of the index does
  // Another index has taken the place of the last one; other: of another kind, or other parameters.
  void index_changed(bool other);
  // If a recall is wanted: one slice, of the index that holds slots below upto. False: there is nothing more to do now (or
  // another thread is at it, unless `wait`). After any error, intr included, it begins anew another time: nomem, io, intr.
  Result<bool> step(Index &index, u32 upto, bool wait, bool (*interrupted)(void *), void *ctx);

  // ---- what is stored of it
  // outdated: the index was made anew since it was measured, so that it is to be measured again.
  struct Measured {
    RecallCurve curve;
    bool outdated = false;
    u64 version = 0;
  };
  // After a mount, before anybody searches.
  void restore(const RecallCurve &curve, bool outdated);
  // True: it has changed since it was stored; *out is what it is now.
  bool unsaved(Measured *out);
  void saved(u64 version);

  // For tests: rows scanned times queries.
  void set_pairs_max(u64 n) { pairs_max_ = n; }

 private:
  struct Job;
  u32 queries_for(u32 upto) const;
  bool due(u32 upto);
  u32 enough() const;
  Result<bool> advance(Index &index, u32 upto, bool (*interrupted)(void *), void *ctx);
  Status begin(u32 upto);
  Status take_rows(Job &j, u32 begin, u32 end);
  Status scan(Job &j, bool (*interrupted)(void *), void *ctx);
  Status bound(Job &j, Index &index, bool (*interrupted)(void *), void *ctx);
  Status walk(Job &j, Index &index, bool (*interrupted)(void *), void *ctx);
  struct Wanted {
    u32 k, ef;
    SearchStats *stats = nullptr;
  };
  Result<u32> ask(Job &j, Index &index, Wanted w, bool (*interrupted)(void *), void *ctx);
  void count(Job &j, u32 c, u32 n);
  static bool complete(const Job &j, u32 c);
  void end_point(Job &j, bool graph);
  void publish(Job &j);

  Table &table_;
  QuerySample sample_;
  std::atomic<bool> wanted_{false};
  u64 pairs_max_ = u64{1} << 30;

  Spin lock_{"vexfs_recall"};
  RecallCurve curve_;                    // lock_
  u64 changes_ = 0;                      // lock_: of the index
  bool again_ = false;                   // lock_: the index has changed since it was measured
  bool outdated_ = false;                // lock_: the same until it has been measured again
  u64 version_ = 0, saved_version_ = 0;  // lock_: of curve_ and outdated_; and what was stored of them last
  Mutex job_lock_{"vexfs_recall_job"};
  Box<Job> job_;      // job_lock_
  u64 retry_at_ = 0;  // job_lock_: after a failure
};

}  // namespace vexfs::vector
