// SPDX-License-Identifier: MIT
// mkfs.vexfs: the figures of a filesystem, for people.
#include "report.h"

#include <uuid/uuid.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "../../lib/client/commands.h"

namespace vexfs::mkfs {
namespace {

template <class... A>
std::string format(const char *f, A... a) {
  std::array<char, 512> b;
  snprintf(b.data(), b.size(), f, a...);
  return b.data();
}

std::string grouped(uint64_t n) {
  std::string s = std::to_string(n);
  for (auto at = static_cast<ptrdiff_t>(s.size()) - 3; at > 0; at -= 3) s.insert(static_cast<size_t>(at), ",");
  return s;
}

std::string blocks(const store::Layout &l, uint64_t n) {
  return grouped(n) + " blocks (" + human(n * l.block_size) + ")";
}

// Disk space of one row. Tree items are counted at the fill that random inserts leave (about 3/4).
uint64_t bytes_per_row(const CollectionOptions &c) {
  const uint64_t raw = uint64_t{c.dim} * client::element_bytes(c.element);
  const uint64_t stride = (raw + 63) / 64 * 64;
  constexpr uint64_t metadata = 80 * 4 / 3;  // id, owner, chunk, versions, tag, checksum
  constexpr uint64_t id_to_slot = 8;         // ids come in runs
  if (c.index != VEXFS_INDEX_HNSW) return stride + metadata + id_to_slot;
  const uint64_t m = c.m ? c.m : 16;
  // 2 m links of 4 bytes at level 0, m at each upper one (1/m of the rows each), twice: a checkpoint is written beside
  // the one it replaces.
  const uint64_t graph = 2 * (4 * (2 * m + 1) + 8);
  return stride + metadata + id_to_slot + graph;
}

std::string collection_lines(const Options &o, const store::Layout &l) {
  const CollectionOptions &c = o.collection;
  std::string s;
  if (c.wanted) {
    s += format("collection        root directory: %u x %s, metric %s, index %s", c.dim,
                client::element_name(c.element), client::metric_name(c.metric), client::index_name(c.index));
    if (c.index == VEXFS_INDEX_HNSW)
      s += format(" (M %u, ef_construction %u, ef_search %u)", c.m ? c.m : 16u,
                  c.ef_construction ? c.ef_construction : 200u, c.ef_search ? c.ef_search : 64u);
    s += "\n";
  }
  s += format("vector capacity   about %s vectors of %u x %s", grouped(vector_capacity(l, c)).c_str(), c.dim,
              client::element_name(c.element));
  s += format(" (%s each, of these %s data)\n", human(bytes_per_row(c)).c_str(),
              human(uint64_t{c.dim} * client::element_bytes(c.element)).c_str());
  return s;
}

std::string metadata_lines(const store::Layout &l) {
  std::string s;
  s += "    boot area       " + blocks(l, l.boot_blocks) + ", superblock at byte 4096\n";
  s += "    root slots      " + blocks(l, l.root_blocks) + ", two and their mirrors\n";
  s += "    descriptors     " + blocks(l, l.descriptor_blocks) + ", two homes\n";
  s += "    bitmaps         " + blocks(l, l.bitmap_blocks) + ", two homes\n";
  s += "    superblock copies " + blocks(l, l.backup_blocks) + "\n";
  s += "    journal         " + blocks(l, l.log_blocks) + "\n";
  return s;
}

}  // namespace

std::string human(uint64_t bytes) {
  static constexpr std::array<const char *, 7> units{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto v = static_cast<double>(bytes);
  size_t u = 0;
  while (v >= 1024 && u + 1 < units.size()) v /= 1024, u++;
  return u == 0 ? format("%.0f %s", v, units[u]) : format("%.1f %s", v, units[u]);
}

uint64_t vector_capacity(const store::Layout &l, const CollectionOptions &c) {
  return l.free_blocks * l.block_size / bytes_per_row(c);
}

std::string report(const Options &o, const store::Layout &l, uint64_t device_bytes) {
  std::array<char, 37> uuid;
  uuid_unparse_lower(l.uuid, uuid.data());
  const uint64_t used_bytes = l.total_blocks * l.block_size;
  const double efficiency = 100.0 * static_cast<double>(l.free_blocks) / static_cast<double>(l.total_blocks);
  std::string s =
      "VexFS on " + o.device + ", " + human(device_bytes) + (o.dry_run ? " (dry run: nothing is written)" : "") + "\n";
  s += format("uuid              %s\n", uuid.data());
  s += "label             " + (o.label.empty() ? "(none)" : o.label) + "\n";
  s += "size              " + grouped(l.total_blocks) + " blocks of " + grouped(l.block_size) + " bytes (" +
       human(used_bytes) + ")\n";
  s += "tree nodes        " + grouped(l.node_size) + " bytes, items up to " + grouped(l.max_item) + " bytes" +
       (l.node_copies == 2 ? ", two copies of each" : ", one copy of each") + "\n";
  s += "block groups      " + grouped(l.groups) + " of " + blocks(l, l.group_blocks) + "\n";
  s += "journal           " + (l.log_blocks ? blocks(l, l.log_blocks) + " at block " + grouped(l.log_start) : "none") +
       "\n";
  s += "inodes            dynamic, as many as there is space for\n";
  s += "metadata          " + blocks(l, l.meta_blocks) + "\n";
  if (o.verbose) s += metadata_lines(l);
  s += "usable            " + blocks(l, l.free_blocks) + "\n";
  s += format("efficiency        %.2f %% of the size is usable\n", efficiency);
  if (o.collection.wanted || o.verbose) s += collection_lines(o, l);
  return s;
}

}  // namespace vexfs::mkfs
