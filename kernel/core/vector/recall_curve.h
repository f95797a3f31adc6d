// SPDX-License-Identifier: GPL-2.0-only OR MIT
// What was measured of an index: the recall that searches of several breadths reach; and from that the breadth for a recall
// that is wanted. Who measures is recall_tuner.h.
#pragma once
#include "../base/types.h"

namespace vexfs::vector {

constexpr u32 recall_all = 1000;  // per mille (VEXFS_RECALL_ALL): every one of the nearest k, which an exact scan finds
constexpr u32 recall_scale = 10000;       // what curves count in
constexpr u32 recall_breadth_max = 1792;  // the widest that is tried

// How a search is to go about it.
struct RecallChoice {
  bool exact = false;
  u32 ef = 0;
};

// Recall of the nearest k, for some k, at some breadths. Each of these k is measured by walks of its own: the nearest 10 of
// a search for 100 are better than those of a search for 10. The k between them are interpolated.
struct RecallCurve {
  static constexpr u32 points = 16, classes = 4;
  static constexpr u32 breadth[points] = {10,  14,  20,  28,  40,  56,  80,   112,
                                          160, 224, 320, 448, 640, 896, 1280, recall_breadth_max};
  static constexpr u32 neighbours[classes] = {1, 10, 32, 100};

  u32 slots = 0;                   // that the index held when it was measured; 0: it was not
  u32 dead = 0;                    // slots of dead rows there were then
  u32 queries = 0;                 // that it was measured with
  u32 walked = 0;                  // rows that a walk of the widest breadth tried looked at, on average
  u8 by = 0;                       // enum vexfs_recall_by
  u8 tried = 0;                    // points
  u16 mean[classes][points] = {};  // of recall_scale; 0 where the breadth is less than k
  u16 sure[classes][points] = {};  // the same less what it may be wrong by: what is relied on

  bool measured() const { return slots != 0; }
  // The least breadth that brings `recall` (per mille) of the nearest k. Where none of those tried does: the widest of them,
  // or an exact scan if that costs no more.
  RecallChoice choose(u32 k, u32 recall) const;
  // What was measured at ef, per mille: on the line between the two breadths around it.
  u32 reached(u32 k, u32 ef) const;

 private:
  u32 needed(u32 c, u32 recall, bool *reached) const;
};

// Before anything was measured: wide enough for most collections.
RecallChoice recall_guess(u32 k, u32 recall);

}  // namespace vexfs::vector
