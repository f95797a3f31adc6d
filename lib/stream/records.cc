// SPDX-License-Identifier: MIT
// The payloads of records: encoding, and decoding with every check that a single record allows.
#include <cerrno>
#include <cstring>

#include "../../include/uapi/vexfs.h"
#include "../../kernel/core/base/utf8.h"
#include "../../kernel/core/disk/snapshot_items.h"
#include "../../kernel/core/disk/vector_items.h"
#include "../../kernel/core/platform.h"
#include "../client/commands.h"
#include "format.h"

namespace vexfs::stream {
namespace {

[[noreturn]] void bad(Type t, const std::string &what) { throw Damage(std::string(type_name(t)) + " record: " + what); }

class Encoder {
 public:
  void u8(uint8_t v) { put(v, 1); }
  void u16(uint16_t v) { put(v, 2); }
  void u32(uint32_t v) { put(v, 4); }
  void u64(uint64_t v) { put(v, 8); }
  void text(const std::string &s) {
    u32(static_cast<uint32_t>(s.size()));
    out += s;
  }
  void time(const Time &t) {
    u64(static_cast<uint64_t>(t.sec));
    u32(t.nsec);
  }
  std::string out;

 private:
  void put(uint64_t v, int n) {
    for (int i = 0; i < n; i++) out += static_cast<char>(v >> (8 * i));
  }
};

class Decoder {
 public:
  Decoder(Type t, const uint8_t *p, size_t n) : type_(t), p_(p), left_(n) {}
  uint8_t u8() { return static_cast<uint8_t>(take(1)); }
  uint16_t u16() { return static_cast<uint16_t>(take(2)); }
  uint32_t u32() { return static_cast<uint32_t>(take(4)); }
  uint64_t u64() { return take(8); }
  bool flag() {
    const uint8_t v = u8();
    if (v > 1) bad(type_, "a flag is neither 0 nor 1");
    return v != 0;
  }
  std::string text(size_t max) {
    const uint32_t n = u32();
    if (n > max) bad(type_, "text of " + std::to_string(n) + " bytes");
    return bytes(n);
  }
  std::string bytes(size_t n) {
    need(n);
    std::string s(reinterpret_cast<const char *>(p_), n);
    p_ += n;
    left_ -= n;
    return s;
  }
  std::string path() {
    std::string s = text(path_max);
    const std::string why = path_error(s);
    if (!why.empty()) bad(type_, why);
    return s;
  }
  std::string below() {  // a path that is not the root
    std::string s = path();
    if (s.empty()) bad(type_, "the root of the tree where something in it is meant");
    return s;
  }
  std::string name(size_t max) {
    std::string s = text(max);
    if (s.find('\0') != std::string::npos) bad(type_, "a name with a NUL");
    return s;
  }
  Time time() {
    Time t;
    t.sec = static_cast<int64_t>(u64());
    t.nsec = u32();
    if (t.nsec > 999'999'999) bad(type_, "more than a second of nanoseconds");
    return t;
  }
  size_t left() const { return left_; }
  void finish() const {
    if (left_) bad(type_, std::to_string(left_) + " bytes too many");
  }

 private:
  void need(size_t n) const {
    if (n > left_) bad(type_, "it ends too early");
  }
  uint64_t take(size_t n) {
    need(n);
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) v |= uint64_t{p_[i]} << (8 * i);
    p_ += n;
    left_ -= n;
    return v;
  }
  Type type_;
  const uint8_t *p_;
  size_t left_;
};

constexpr uint32_t type_mask = 0170000, type_file = 0100000, type_link = 0120000, type_char = 0020000,
                   type_block = 0060000, type_fifo = 0010000, type_socket = 0140000;

void encode_header(Encoder &e, const Header &h) {
  for (uint8_t b : h.uuid) e.u8(b);
  e.u64(h.id);
  e.u64(h.txn);
  e.time(h.created);
  e.u32(h.block_size);
  e.u64(h.base_id);
  e.u64(h.base_txn);
  e.text(h.name);
  e.text(h.base_name);
  e.text(h.staging);
}

bool snapshot_name(const std::string &s) {
  return disk::good_snapshot_name({reinterpret_cast<const u8 *>(s.data()), s.size()});
}

bool plain_name(const std::string &s) { return s.find('/') == std::string::npos && s != "." && s != ".."; }

Header decode_header(Decoder &d) {
  Header h;
  for (uint8_t &b : h.uuid) b = d.u8();
  h.id = d.u64();
  h.txn = d.u64();
  h.created = d.time();
  h.block_size = d.u32();
  h.base_id = d.u64();
  h.base_txn = d.u64();
  h.name = d.name(VEXFS_SNAPSHOT_NAME_MAX);
  h.base_name = d.name(VEXFS_SNAPSHOT_NAME_MAX);
  h.staging = d.name(name_max);
  if (!snapshot_name(h.name)) bad(Type::header, "no name of a snapshot");
  if (h.id == 0 || h.base_id == h.id) bad(Type::header, "no snapshot is meant");
  if (h.incremental() ? !snapshot_name(h.base_name) : !h.base_name.empty() || h.base_txn)
    bad(Type::header, "a base without a name, or the reverse");
  if (!h.staging.empty() && (!h.incremental() || !plain_name(h.staging) || h.staging == ".vexfs"))
    bad(Type::header, "no name for what is being moved");
  return h;
}

void encode_rows(Encoder &e, const Record &r) {
  e.u64(r.collection);
  e.u8(r.owned);
  e.text(r.path);
  e.u16(r.element);
  e.u32(r.dim);
  e.u32(static_cast<uint32_t>(r.rows.size()));
  for (const Row &row : r.rows) {
    e.u64(row.id);
    e.u64(row.offset);
    e.u64(row.length);
    e.u64(row.tag);
    e.u32(row.flags);
  }
  e.out += r.data;
}

void decode_rows(Decoder &d, Record &r) {
  r.collection = d.u64();
  r.owned = d.flag();
  r.path = d.path();
  if (r.owned == r.path.empty()) bad(r.type, "an owner without a path, or the reverse");
  r.element = d.u16();
  r.dim = d.u32();
  const size_t size = client::element_bytes(r.element);
  if (size == 0 || r.dim == 0 || r.dim > VEXFS_DIM_MAX) bad(r.type, "no such vectors");
  const uint32_t n = d.u32();
  if (n == 0 || n > VEXFS_BATCH_MAX || d.left() != n * (36 + size * r.dim)) bad(r.type, "it has another length");
  r.rows.resize(n);
  for (Row &row : r.rows) {
    row.id = d.u64();
    row.offset = d.u64();
    row.length = d.u64();
    row.tag = d.u64();
    row.flags = d.u32();
    if (row.id == VEXFS_ID_AUTO || (row.flags & ~VEXFS_ROW_STALE) || row.offset + row.length < row.offset)
      bad(r.type, "no such row");
    if (!r.owned && row.flags) bad(r.type, "a stale row that no file owns");
  }
  r.data = d.bytes(d.left());
}

void decode_create(Decoder &d, Record &r) {
  r.path = d.below();
  r.mode = d.u32();
  r.major = d.u32();
  r.minor = d.u32();
  r.text = d.name(4095);
  r.ino = d.u64();
  const bool device = r.mode == type_char || r.mode == type_block;
  if (!device && r.mode != type_file && r.mode != type_link && r.mode != type_fifo && r.mode != type_socket)
    bad(r.type, "no such type of file");
  if ((r.major || r.minor) && !device) bad(r.type, "a device number of what is no device");
  if (r.text.empty() == (r.mode == type_link)) bad(r.type, "a symbolic link without a target, or the reverse");
}

void decode_collection(Decoder &d, Record &r) {
  r.path = d.path();
  r.collection = d.u64();
  r.dim = d.u32();
  r.element = d.u16();
  r.metric = d.u16();
  r.index = d.u16();
  r.m = d.u16();
  r.ef_construction = d.u32();
  r.ef_search = d.u32();
  r.name = d.name(VEXFS_COLLECTION_NAME_MAX);
  r.text = d.name(VEXFS_MODEL_MAX);
  r.with_params = d.left() != 0;  // what was sent before there were these ends here
  if (!r.with_params) return;
  r.lists = d.u32();
  r.probes = d.u32();
  r.pq_m = d.u16();
  r.tables = d.u8();
  r.bits = d.u8();
  r.codes = d.u16();
  const bool more = d.u16() != 0;
  r.flags = d.u32();
  if (more || (r.flags & ~collection_flags) || r.codes > disk::kCodesMax)
    bad(r.type, "a collection of a kind that is not known here");
}

void encode_collection(Encoder &e, const Record &r) {
  e.text(r.path);
  e.u64(r.collection);
  e.u32(r.dim);
  e.u16(r.element);
  e.u16(r.metric);
  e.u16(r.index);
  e.u16(r.m);
  e.u32(r.ef_construction);
  e.u32(r.ef_search);
  e.text(r.name);
  e.text(r.text);
  if (!r.with_params) return;
  e.u32(r.lists);
  e.u32(r.probes);
  e.u16(r.pq_m);
  e.u8(static_cast<uint8_t>(r.tables));
  e.u8(static_cast<uint8_t>(r.bits));
  e.u16(r.codes);
  e.u16(0);
  e.u32(r.flags);
}

}  // namespace

const char *type_name(Type t) {
  switch (t) {
    case Type::header:
      return "header";
    case Type::phase:
      return "phase";
    case Type::clear:
      return "clear";
    case Type::drop:
      return "drop";
    case Type::unlink:
      return "unlink";
    case Type::rmdir:
      return "rmdir";
    case Type::move:
      return "move";
    case Type::mkdir:
      return "mkdir";
    case Type::create:
      return "create";
    case Type::link:
      return "link";
    case Type::collection:
      return "collection";
    case Type::file:
      return "file";
    case Type::write:
      return "write";
    case Type::hole:
      return "hole";
    case Type::touch:
      return "touch";
    case Type::rows_gone:
      return "rows_gone";
    case Type::rows:
      return "rows";
    case Type::inode:
      return "inode";
    case Type::xattr:
      return "xattr";
    case Type::attributes:
      return "attributes";
    case Type::end:
      return "end";
  }
  return "unknown";
}

std::string path_error(const std::string &path) {
  if (path.empty()) return "";
  if (path.size() > path_max) return "a path of " + std::to_string(path.size()) + " bytes";
  if (path.find('\0') != std::string::npos) return "a path with a NUL";
  for (size_t at = 0; at <= path.size();) {
    const size_t slash = std::min(path.find('/', at), path.size());
    const size_t n = slash - at;
    if (n == 0) return "a path that is absolute or has an empty name";
    if (n > name_max) return "a path with a name of " + std::to_string(n) + " bytes";
    if (path[at] == '.' && (n == 1 || (n == 2 && path[at + 1] == '.'))) return "a path with '.' or '..'";
    if (at == 0 && path.compare(0, n, ".vexfs") == 0) return "a path into .vexfs, which no snapshot has";
    at = slash + 1;
  }
  return "";
}

Damage::Damage(const std::string &what) : BadStream(EUCLEAN, "damaged stream: " + what) {}

std::string printable(const std::string &s) {
  static constexpr char digits[] = "0123456789abcdef";
  const Bytes bytes{reinterpret_cast<const u8 *>(s.data()), s.size()};
  std::string out;
  for (size_t i = 0; i < s.size();) {
    const u8 c = bytes[i];
    const size_t n = c < 0x20 || c == 0x7f ? 0 : utf8_character(bytes, i);
    if (n == 0) (out += "\\x") += {digits[c >> 4], digits[c & 15]};
    out.append(s, i, n);
    i += n ? n : 1;
  }
  return out;
}

uint32_t crc32c(uint32_t seed, const void *p, size_t n) { return vx_crc32c(seed, p, n); }

std::string uuid_text(const Uuid &u) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string s;
  for (size_t i = 0; i < u.size(); i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) s += '-';
    s += digits[u[i] >> 4];
    s += digits[u[i] & 15];
  }
  return s;
}

std::string encode(const Record &r) {
  Encoder e;
  switch (r.type) {
    case Type::header:
      encode_header(e, r.header);
      break;
    case Type::phase:
      e.u32(r.phase);
      break;
    case Type::clear:
    case Type::drop:
    case Type::unlink:
    case Type::rmdir:
    case Type::mkdir:
      e.text(r.path);
      break;
    case Type::move:
    case Type::link:
      e.text(r.path);
      e.text(r.to);
      break;
    case Type::create:
      e.text(r.path);
      e.u32(r.mode);
      e.u32(r.major);
      e.u32(r.minor);
      e.text(r.text);
      e.u64(r.ino);
      break;
    case Type::collection:
      encode_collection(e, r);
      break;
    case Type::file:
      e.text(r.path);
      e.u64(r.size);
      e.u32(r.flags);
      break;
    case Type::write:
      e.u64(r.offset);
      e.out += r.data;
      break;
    case Type::hole:
      e.u64(r.offset);
      e.u64(r.length);
      break;
    case Type::touch:
      break;
    case Type::rows_gone:
      e.u64(r.collection);
      for (uint64_t id : r.ids) e.u64(id);
      break;
    case Type::rows:
      encode_rows(e, r);
      break;
    case Type::inode:
      e.text(r.path);
      e.u32(r.mode);
      e.u32(r.uid);
      e.u32(r.gid);
      e.u8(r.with_xattrs);
      break;
    case Type::xattr:
      e.text(r.name);
      e.out += r.data;
      break;
    case Type::attributes:
      e.u32(r.flags);
      e.time(r.atime);
      e.time(r.mtime);
      e.time(r.ctime);
      e.time(r.btime);
      break;
    case Type::end:
      e.u64(r.records);
      e.u64(r.bytes);
      e.u32(r.crc);
      break;
  }
  return std::move(e.out);
}

Record decode(Type type, const uint8_t *payload, size_t length) {
  Record r;
  r.type = type;
  Decoder d(type, payload, length);
  switch (type) {
    case Type::header:
      r.header = decode_header(d);
      break;
    case Type::phase:
      r.phase = d.u32();
      if (r.phase < detach || r.phase > attributes) bad(type, "no phase " + std::to_string(r.phase));
      break;
    case Type::drop:
    case Type::clear:
      r.path = d.path();
      break;
    case Type::unlink:
    case Type::rmdir:
    case Type::mkdir:
      r.path = d.below();
      break;
    case Type::move:
    case Type::link:
      r.path = d.below();
      r.to = d.below();
      break;
    case Type::create:
      decode_create(d, r);
      break;
    case Type::collection:
      decode_collection(d, r);
      break;
    case Type::file:
      r.path = d.below();
      r.size = d.u64();
      r.flags = d.u32();
      if (r.size > INT64_MAX || (r.flags & ~uint32_t{no_sum})) bad(type, "no such file");
      break;
    case Type::write:
      r.offset = d.u64();
      r.data = d.bytes(d.left());
      if (r.data.empty() || r.offset > INT64_MAX - r.data.size()) bad(type, "no such range");
      break;
    case Type::hole:
      r.offset = d.u64();
      r.length = d.u64();
      if (r.length == 0 || r.offset > INT64_MAX || r.length > INT64_MAX - r.offset) bad(type, "no such range");
      break;
    case Type::touch:
      break;
    case Type::rows_gone:
      r.collection = d.u64();
      if (d.left() == 0 || d.left() % 8 || d.left() / 8 > VEXFS_BATCH_MAX) bad(type, "it has another length");
      while (d.left()) r.ids.push_back(d.u64());
      break;
    case Type::rows:
      decode_rows(d, r);
      break;
    case Type::inode:
      r.path = d.path();
      r.mode = d.u32();
      r.uid = d.u32();
      r.gid = d.u32();
      r.with_xattrs = d.flag();
      if (r.mode & ~uint32_t{type_mask | 07777}) bad(type, "no such mode");
      break;
    case Type::xattr:
      r.name = d.name(name_max);
      r.data = d.bytes(d.left());
      if (r.name.empty() || r.data.size() > xattr_max) bad(type, "no such attribute");
      break;
    case Type::attributes:
      r.flags = d.u32();
      if (r.flags & ~flags_known) bad(type, "unknown flags");
      r.atime = d.time();
      r.mtime = d.time();
      r.ctime = d.time();
      r.btime = d.time();
      break;
    case Type::end:
      r.records = d.u64();
      r.bytes = d.u64();
      r.crc = d.u32();
      break;
    default:
      throw Damage("unknown type of record " + std::to_string(static_cast<unsigned>(type)));
  }
  d.finish();
  return r;
}

}  // namespace vexfs::stream
