// SPDX-License-Identifier: MIT
// Framing, chained checksums, and the order in which records may come.
#include "io.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "../client/error.h"

namespace vexfs::stream {
namespace {

[[noreturn]] void damaged(const std::string &what) { throw Damage(what); }

[[noreturn]] void no_stream() { throw BadStream(EINVAL, "this is no stream of a snapshot"); }

void append(std::string &s, uint64_t v, int n) {
  for (int i = 0; i < n; i++) s += static_cast<char>(v >> (8 * i));
}

uint64_t get(const uint8_t *p, int n) {
  uint64_t v = 0;
  for (int i = 0; i < n; i++) v |= uint64_t{p[i]} << (8 * i);
  return v;
}

bool below(const std::string &path, const std::string &dir) {  // or that itself
  return path.compare(0, dir.size(), dir) == 0 && (path.size() == dir.size() || path[dir.size()] == '/');
}

// Directly in it.
bool inside(const std::string &path, const std::string &dir) {
  return path.size() > dir.size() + 1 && path.compare(0, dir.size(), dir) == 0 && path[dir.size()] == '/' &&
         path.find('/', dir.size() + 1) == std::string::npos;
}

}  // namespace

Output to_fd(int fd, const std::string &name) {
  return [fd, name](const void *p, size_t n) {
    const char *at = static_cast<const char *>(p);
    while (n) {
      const ssize_t w = ::write(fd, at, n);
      if (w < 0 && errno == EINTR) continue;
      if (w <= 0) throw client::Error(errno, name + ": " + strerror(errno));
      at += w;
      n -= static_cast<size_t>(w);
    }
  };
}

Input from_fd(int fd, const std::string &name) {
  return [fd, name](void *p, size_t n) -> size_t {
    for (;;) {
      const ssize_t r = ::read(fd, p, n);
      if (r >= 0) return static_cast<size_t>(r);
      if (errno != EINTR) throw client::Error(errno, name + ": " + strerror(errno));
    }
  };
}

// ------------------------------------------------------------------ writing
Writer::Writer(Output out) : out_(std::move(out)) {
  std::string s(magic, sizeof magic);
  append(s, version, 4);
  append(s, 0, 4);
  chain_ = crc32c(~uint32_t{0}, s.data(), s.size());
  sum_ = ~uint32_t{0};
  this->out(s);
}

void Writer::out(const std::string &s) {
  sum_ = crc32c(sum_, s.data(), s.size());
  bytes_ += s.size();
  out_(s.data(), s.size());
}

void Writer::emit(Type type, const std::string &payload) {
  if (payload.size() > payload_max) throw client::Error(E2BIG, std::string(type_name(type)) + ": too large a record");
  std::string s;
  s.reserve(frame_bytes + payload.size());
  append(s, static_cast<uint16_t>(type), 2);
  append(s, 0, 2);
  append(s, payload.size(), 4);
  append(s, sequence_, 8);
  append(s, 0, 4);
  s += payload;
  chain_ = crc32c(chain_, s.data(), s.size());
  for (int i = 0; i < 4; i++) s[16 + static_cast<size_t>(i)] = static_cast<char>(chain_ >> (8 * i));
  out(s);
  sequence_++;
}

void Writer::put(const Record &r) { emit(r.type, encode(r)); }

void Writer::end() {
  Record r;
  r.type = Type::end;
  r.records = sequence_;
  r.bytes = bytes_;
  r.crc = ~sum_;
  put(r);
}

// ------------------------------------------------------------------ reading
Reader::Reader(Input in) : in_(std::move(in)) {}

void Reader::read(void *p, size_t n, const char *what) {
  auto *at = static_cast<uint8_t *>(p);
  for (size_t done = 0; done < n;) {
    const size_t got = in_(at + done, n - done);
    if (got == 0 && bytes_ == 0 && done && memcmp(p, magic, std::min(done, sizeof magic)) != 0) no_stream();
    if (got == 0) damaged(std::string("it ends in ") + what);
    done += got;
  }
  sum_ = crc32c(sum_, p, n);
  bytes_ += n;
}

bool Reader::next(Record *r) {
  if (ended_) return false;
  if (!begun_) {
    uint8_t p[preamble_bytes];
    sum_ = ~uint32_t{0};
    read(p, sizeof p, "its first bytes");
    if (memcmp(p, magic, sizeof magic) != 0) no_stream();
    if (get(p + 8, 4) != version)
      throw BadStream(EINVAL, "a stream of version " + std::to_string(get(p + 8, 4)) + ": this program knows version " +
                                  std::to_string(version));
    if (get(p + 12, 4) != 0) damaged("unknown flags");
    chain_ = crc32c(~uint32_t{0}, p, sizeof p);
    begun_ = true;
  }
  const uint64_t bytes_before = bytes_;
  const uint32_t sum_before = sum_;
  uint8_t f[frame_bytes];
  read(f, sizeof f, "the head of a record");
  const uint64_t length = get(f + 4, 4);
  const std::string where = "record " + std::to_string(sequence_);
  if (get(f + 8, 8) != sequence_) damaged(where + " is missing or not in its place");
  if (get(f + 2, 2) != 0 || length > payload_max) damaged(where + ": its head is damaged");
  payload_.resize(length);
  read(payload_.data(), length, "a record");
  const auto crc = static_cast<uint32_t>(get(f + 16, 4));
  memset(f + 16, 0, 4);
  uint32_t c = crc32c(chain_, f, sizeof f);
  c = crc32c(c, payload_.data(), payload_.size());
  if (c != crc) damaged(where + ": checksum mismatch");
  chain_ = c;
  *r = decode(static_cast<Type>(get(f, 2)), payload_.data(), payload_.size());
  check_order(*r);
  if (r->type == Type::end) {
    check_end(*r, bytes_before, sum_before);
    uint8_t more;
    if (in_(&more, 1) != 0) damaged("something follows its end");
    ended_ = true;
    sequence_++;
    return false;
  }
  sequence_++;
  return true;
}

void Reader::check_end(const Record &r, uint64_t bytes, uint32_t sum) const {
  if (r.records != sequence_ || r.bytes != bytes || r.crc != ~sum) damaged("its end does not fit what came before");
}

void Reader::check_order(const Record &r) {
  auto only_in = [&](uint32_t a, uint32_t b) {
    if (phase_ < a || phase_ > b)
      damaged(std::string(type_name(r.type)) + " record in phase " + std::to_string(phase_));
  };
  if ((r.type == Type::header) != (sequence_ == 0)) damaged("the header is not the first record, or comes again");
  if (in_inode_ && r.type != Type::xattr && r.type != Type::attributes) damaged("an inode without attributes");
  const std::string &staging = header_.staging;
  if (!staging.empty() && r.type != Type::move && (below(r.path, staging) || below(r.to, staging)))
    damaged("a name in the place of what is being moved");
  const bool in_file = in_file_;
  in_file_ = in_file && (r.type == Type::write || r.type == Type::hole || r.type == Type::touch);
  switch (r.type) {
    case Type::header:
      header_ = r.header;
      break;
    case Type::phase:
      if (r.phase != phase_ + 1) damaged("phase " + std::to_string(r.phase) + " after " + std::to_string(phase_));
      phase_ = r.phase;
      break;
    case Type::clear:
    case Type::drop:
    case Type::unlink:
    case Type::rmdir:
      only_in(detach, detach);
      if (!header_.incremental()) damaged("something is taken away, by a stream that holds everything");
      break;
    case Type::move: {
      only_in(detach, names);
      const std::string &staged = phase_ == detach ? r.to : r.path, &other = phase_ == detach ? r.path : r.to;
      if (header_.staging.empty() || !inside(staged, header_.staging) || below(other, header_.staging))
        damaged("a move that is neither out of the tree nor into it");
      break;
    }
    case Type::mkdir:
      only_in(directories, directories);
      break;
    case Type::create:
    case Type::link:
      only_in(names, names);
      break;
    case Type::collection:
      only_in(contents, contents);
      break;
    case Type::file:
      only_in(contents, contents);
      in_file_ = true;
      file_size_ = r.size;
      break;
    case Type::write:
    case Type::hole:
    case Type::touch: {
      const uint64_t end = r.type == Type::write ? r.offset + r.data.size() : r.offset + r.length;
      if (!in_file) damaged("contents of no file");
      if (end > file_size_) damaged("contents beyond the end of the file");
      break;
    }
    case Type::rows_gone:
    case Type::rows:
      only_in(vectors, vectors);
      break;
    case Type::inode:
      only_in(attributes, attributes);
      in_inode_ = true;
      xattrs_ = r.with_xattrs;
      break;
    case Type::xattr:
      if (!in_inode_ || !xattrs_) damaged("an attribute of no inode");
      break;
    case Type::attributes:
      if (!in_inode_) damaged("attributes of no inode");
      in_inode_ = false;
      break;
    case Type::end:
      if (phase_ != attributes) damaged("it ends in phase " + std::to_string(phase_));
      break;
  }
}

void Summary::count(const Record &r) {
  switch (r.type) {
    case Type::mkdir:
    case Type::create:
      created++;
      break;
    case Type::unlink:
    case Type::rmdir:
      removed++;
      break;
    case Type::move:
      moved++;
      break;
    case Type::file:
      files++;
      break;
    case Type::write:
      data_bytes += r.data.size();
      break;
    case Type::collection:
      collections++;
      break;
    case Type::rows:
      rows += r.rows.size();
      break;
    case Type::rows_gone:
      rows_gone += r.ids.size();
      break;
    case Type::inode:
      inodes++;
      break;
    default:
      break;
  }
}

Summary verify(Reader &reader) {
  Summary s;
  for (Record r; reader.next(&r);) s.count(r);
  s.header = reader.header();
  s.records = reader.records();
  s.bytes = reader.bytes();
  return s;
}

}  // namespace vexfs::stream
