// SPDX-License-Identifier: MIT
// Streams as they go out and come in: frames with checksums that hang together from the first byte to the last.
#pragma once
#include <functional>
#include <memory>

#include "format.h"

namespace vexfs::stream {

// Takes all of it or throws.
using Output = std::function<void(const void *p, size_t n)>;
// Up to n bytes, 0 at the end; throws.
using Input = std::function<size_t(void *p, size_t n)>;
Output to_fd(int fd, const std::string &name);
Input from_fd(int fd, const std::string &name);

class Writer {
 public:
  explicit Writer(Output out);
  void put(const Record &r);
  void end();  // everything is in
  uint64_t bytes() const { return bytes_; }
  uint64_t records() const { return sequence_; }

 private:
  void emit(Type type, const std::string &payload);
  void out(const std::string &s);
  Output out_;
  uint64_t sequence_ = 0, bytes_ = 0;
  uint32_t chain_, sum_;
};

// Gives records one by one, each after its checksum, place and contents have been found right, in an order that makes
// sense. Throws Damage for anything else (BadStream, EINVAL, for what is no stream of this version). Memory: two records, whatever the stream says.
class Reader {
 public:
  explicit Reader(Input in);
  // False: the end has been read, and nothing follows it.
  bool next(Record *r);
  const Header &header() const { return header_; }
  uint64_t bytes() const { return bytes_; }
  uint64_t records() const { return sequence_; }

 private:
  void read(void *p, size_t n, const char *what);
  void check_order(const Record &r);
  void check_end(const Record &r, uint64_t bytes, uint32_t sum) const;
  Input in_;
  std::vector<uint8_t> payload_;
  Header header_;
  bool begun_ = false, ended_ = false;
  uint64_t sequence_ = 0, bytes_ = 0;
  uint32_t chain_ = 0, sum_ = 0;
  // Where it stands.
  uint32_t phase_ = 0;
  bool in_file_ = false, in_inode_ = false, xattrs_ = false;
  uint64_t file_size_ = 0;
};

struct Summary {
  Header header;
  uint64_t records = 0, bytes = 0;
  uint64_t created = 0, removed = 0, moved = 0, files = 0, data_bytes = 0, inodes = 0, collections = 0, rows = 0,
           rows_gone = 0;
  void count(const Record &r);
};

// Reads to the end, and changes nothing.
Summary verify(Reader &reader);

}  // namespace vexfs::stream
