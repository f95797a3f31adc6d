// SPDX-License-Identifier: MIT
// The commands of <uapi/vexfs.h> as functions: they fill in the structs, send them, and throw Error when one fails.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "../../include/uapi/vexfs.h"
#include "error.h"
#include "place.h"

namespace vexfs::client {

// ------------------------------------------------------------------- names
const char *element_name(uint16_t e);  // "f32"
const char *metric_name(uint16_t m);   // "l2", "cosine", "ip"
const char *index_name(uint16_t k);    // "flat", "diskann", "hnsw", "ivf-flat", "ivf-pq", "lsh"
// What can be asked for, in words: "l2, cosine or ip".
std::string element_names();
std::string metric_names();
std::string index_names();
const std::map<std::string, uint32_t> &code_names();  // enum vexfs_codes

// --------------------------------------------------------------- snapshots
vexfs_snapshot snapshot_create(Target &t, const std::string &name);
vexfs_snapshot snapshot_rollback(Target &t, const std::string &name);  // at the next mount for writing
void snapshot_rollback_cancel(Target &t);
void snapshot_delete(Target &t, const std::string &name);
std::vector<vexfs_snapshot> snapshot_list(Target &t, bool account);
// What changed from one snapshot to another (0: the present), some at a time.
void snapshot_diff(Target &t, uint64_t from, uint64_t to, const std::function<void(const vexfs_change &)> &each);

// ------------------------------------------------------------------- scrub
// One piece: v goes on from where it is, and says how far it got. Returns what was found damaged.
std::vector<vexfs_found> scrub(Target &t, vexfs_scrub &v);

const char *simd_name(uint32_t level);  // "avx2"
const char *plan_name(uint32_t plan);   // "scan", "filtered index"
std::optional<uint16_t> element_from(const std::string &name);
std::optional<uint16_t> metric_from(const std::string &name);
std::optional<uint16_t> index_from(const std::string &name);
size_t element_bytes(uint16_t e);

// ------------------------------------------------------------- collections
vexfs_collection collection_create(Target &t, vexfs_collection spec);
vexfs_collection collection_info(Target &t, uint64_t id = 0);
vexfs_collection collection_alter(Target &t, vexfs_collection wanted);
void collection_drop(Target &t, uint64_t id = 0);
std::vector<vexfs_collection> collection_list(Target &t);

// ----------------------------------------------------------------- vectors
// data: dim elements of `element` (the collection's own type or VEXFS_F32).
struct Vector {
  vexfs_row row{};
  uint16_t element = VEXFS_F32;
  uint32_t dim = 0;
  std::vector<uint8_t> data;
};
vexfs_row vector_add(Target &t, uint64_t collection, const Vector &v, uint32_t flags);
vexfs_row vector_update(Target &t, uint64_t collection, const Vector &v, uint32_t flags);
Vector vector_get(Target &t, uint64_t collection, uint64_t id, uint32_t dim, uint16_t element);
void vector_delete(Target &t, uint64_t collection, uint64_t id, uint32_t flags);
// Applies op to all ids; returns how many were applied before the first error, whose (positive) errno is in *err.
uint32_t vectors_delete(Target &t, uint64_t collection, const std::vector<uint64_t> &ids, int *err);

// ------------------------------------------------------------------ search
struct Query {
  uint64_t collection = 0;
  uint16_t element = VEXFS_F32;
  uint32_t dim = 0;
  uint32_t k = 10;
  uint32_t ef = 0;
  uint32_t recall = 0;       // per mille, instead of ef
  uint32_t flags = 0;        // VEXFS_SEARCH_*
  uint64_t like_owner = 0;   // with VEXFS_SEARCH_LIKE
  float radius = 0;          // with VEXFS_SEARCH_RADIUS
  float after_distance = 0;  // with VEXFS_SEARCH_AFTER: of the last hit of the page before
  uint64_t after_slot = 0;
  std::vector<vexfs_filter> filters;  // not empty: a hybrid search
};
struct Answer {
  std::vector<std::vector<vexfs_hit>> hits;  // one list for each query
  uint64_t distances = 0, hops = 0, scanned = 0, elapsed_ns = 0;
  uint32_t ef = 0;    // the breadth there was
  uint32_t plan = 0;  // of the last queries; 0: the filesystem driver does not say
};
// nq queries of q.dim elements, row after row (null and nq 1 with VEXFS_SEARCH_LIKE). More than fit one call are sent
// in several.
Answer search(Target &t, const Query &q, const void *queries, size_t nq);
float hit_distance(const vexfs_hit &h);

// ------------------------------------------------------------ index, stats
vexfs_index index_command(Target &t, vexfs_index command);
vexfs_stats stats(Target &t, uint64_t collection = 0);

}  // namespace vexfs::client
