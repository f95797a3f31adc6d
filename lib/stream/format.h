// SPDX-License-Identifier: MIT
// A snapshot as a stream of records: what docs/stream-format.md describes. Framing, record types, limits.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "../client/error.h"

namespace vexfs::stream {

inline constexpr char magic[8] = {'V', 'E', 'X', 'S', 'T', 'R', 'M', '\n'};
inline constexpr uint32_t version = 1;
inline constexpr size_t preamble_bytes = 16, frame_bytes = 20;
inline constexpr size_t payload_max = size_t{2} << 20;  // bytes of one record, whatever it says
inline constexpr size_t path_max = size_t{256} << 10;
inline constexpr size_t name_max = 255;      // of a file, of an xattr
inline constexpr size_t xattr_max = 65536;   // bytes of a value
inline constexpr size_t xattrs_max = 65536;  // of one inode
inline constexpr size_t collections_max = 1u << 20;
inline constexpr size_t data_step = size_t{256} << 10;  // bytes of file contents that a writer puts into one record

enum class Type : uint16_t {
  header = 1,
  phase = 2,
  clear = 10,
  drop = 11,
  unlink = 12,
  rmdir = 13,
  move = 14,
  mkdir = 15,
  create = 16,
  link = 17,
  collection = 20,
  file = 21,
  write = 22,
  hole = 23,
  touch = 24,
  rows_gone = 30,
  rows = 31,
  inode = 40,
  xattr = 41,
  attributes = 42,
  end = 63,
};
const char *type_name(Type t);

// The parts of a stream, in this order. What is done in each may be done again from its begin.
enum Phase : uint32_t {
  detach = 1,
  directories = 2,
  names = 3,
  contents = 4,
  vectors = 5,
  attributes = 6,
  finished = 7
};

// Flags of an inode as chattr(1) has them; the same bits as VX_INODE_*.
enum Flag : uint32_t { immutable = 1, append_only = 2, no_dump = 4, no_atime = 8, synchronous = 16, no_sum = 32 };
inline constexpr uint32_t flags_known = 63;

// Flags of a collection.
inline constexpr uint32_t collection_compact = 1;
inline constexpr uint32_t collection_flags = collection_compact;

struct Time {
  int64_t sec = 0;
  uint32_t nsec = 0;
  bool operator==(const Time &) const = default;
};

using Uuid = std::array<uint8_t, 16>;

// Which snapshot of which filesystem, and what it is a difference to.
struct Header {
  Uuid uuid{};
  uint64_t id = 0, txn = 0;
  Time created;
  uint32_t block_size = 0;
  uint64_t base_id = 0, base_txn = 0;  // 0: everything
  std::string name, base_name;
  std::string staging;  // a name in the root that neither snapshot has; "" when nothing is moved
  bool incremental() const { return base_id != 0; }
};

struct Row {
  uint64_t id = 0, offset = 0, length = 0, tag = 0;
  uint32_t flags = 0;  // VEXFS_ROW_STALE or 0
};

// Any record; each type uses the fields that its line in records.cc names.
struct Record {
  Type type = Type::end;
  Header header;
  uint32_t phase = 0;
  std::string path, to;
  std::string name, text;  // symlink's target; xattr's name; collection's name and model
  uint32_t mode = 0, uid = 0, gid = 0, flags = 0, major = 0, minor = 0;
  bool with_xattrs = false, owned = false;
  uint64_t ino = 0, size = 0, offset = 0, length = 0;
  Time atime, mtime, ctime, btime;
  uint64_t collection = 0;
  uint32_t dim = 0, ef_construction = 0, ef_search = 0;
  uint16_t element = 0, metric = 0, index = 0, m = 0;
  bool with_params = false;  // the next two lines are said; else they are 0
  uint32_t lists = 0, probes = 0;
  uint16_t pq_m = 0, tables = 0, bits = 0, codes = 0, recall = 0;  // with_params: and flags, of collection_flags
  std::vector<uint64_t> ids;
  std::vector<Row> rows;
  std::string data;
  uint64_t records = 0, bytes = 0;  // end
  uint32_t crc = 0;
};

// "", or what is wrong with it: a path is relative to the root of the tree, its components are names. "" is the root.
std::string path_error(const std::string &path);

// The stream is to blame: one that is none, or of another version (EINVAL).
class BadStream : public client::Error {
 public:
  using client::Error::Error;
};

// It is not what was sent: EUCLEAN.
class Damage : public BadStream {
 public:
  explicit Damage(const std::string &what);
};

// For messages: control characters and what is no UTF-8 as \xNN.
std::string printable(const std::string &s);

std::string encode(const Record &r);                              // the payload
Record decode(Type type, const uint8_t *payload, size_t length);  // throws client::Error

uint32_t crc32c(uint32_t seed, const void *p, size_t n);  // raw, as the kernel's crc32c()
std::string uuid_text(const Uuid &u);

}  // namespace vexfs::stream
