// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Bounded text formatting without libc: Printer writes into a caller's buffer, LogLine sends one line to the host's
// log.
#pragma once
#include "../platform.h"
#include "memory.h"
#include "types.h"

namespace vexfs {

// Appends text to a fixed buffer; what does not fit is dropped (truncated() tells). Always NUL-terminated.
//   char buf[80]; Printer p(buf); p.str("block ").dec(n).str(" of ").str(name);  use(p.c_str());
class Printer {
 public:
  Printer(char *buf, usize cap) : buf_(buf), cap_(cap) {
    VX_ASSERT(cap > 0);
    buf_[0] = 0;
  }
  template <usize N>
  explicit Printer(char (&buf)[N]) : Printer(buf, N) {}

  Printer &ch(char c) {
    if (n_ + 1 < cap_) {
      buf_[n_++] = c;
      buf_[n_] = 0;
    } else {
      truncated_ = true;
    }
    return *this;
  }
  Printer &str(const char *s);           // NULL prints as "(null)"
  Printer &str(const char *s, usize n);  // counted bytes, as they are
  Printer &quoted(Bytes s);              // "..." with \xNN for bytes that are not printable ASCII
  Printer &dec(u64 v);
  Printer &sdec(s64 v);
  Printer &pad_dec(u64 v, unsigned width);     // right-aligned, blanks
  Printer &hex(u64 v);                         // 0x1f
  Printer &hex_fixed(u64 v, unsigned digits);  // 0000001f
  Printer &uuid(const u8 (&u)[16]);            // 8-4-4-4-12
  Printer &size(u64 bytes);                    // 1.5 GiB (binary units, one decimal, rounded down)
  Printer &flag(bool v, const char *name) { return v ? str(" ").str(name) : *this; }

  const char *c_str() const { return buf_; }
  usize length() const { return n_; }
  bool truncated() const { return truncated_; }
  void clear() {
    n_ = 0;
    buf_[0] = 0;
    truncated_ = false;
  }

 private:
  char *buf_;
  usize cap_;
  usize n_ = 0;
  bool truncated_ = false;
};

// Receives text of any length, piece by piece (printers of whole on-disk objects).
using TextSink = FnRef<void(const char *, usize)>;

// One log line, sent when the object dies:  LogLine(dev, VX_LOG_ERR).str("group ").dec(g).str(": bad checksum");
class LogLine : Pinned {
 public:
  LogLine(vx_bdev *dev, int level) : dev_(dev), level_(level), buf_{}, p_(buf_) {}
  ~LogLine() { vx_log(dev_, level_, buf_); }
  LogLine &str(const char *s) {
    p_.str(s);
    return *this;
  }
  LogLine &str(const char *s, usize n) {
    p_.str(s, n);
    return *this;
  }
  LogLine &quoted(Bytes s) {
    p_.quoted(s);
    return *this;
  }
  LogLine &dec(u64 v) {
    p_.dec(v);
    return *this;
  }
  LogLine &sdec(s64 v) {
    p_.sdec(v);
    return *this;
  }
  LogLine &hex(u64 v) {
    p_.hex(v);
    return *this;
  }
  LogLine &uuid(const u8 (&u)[16]) {
    p_.uuid(u);
    return *this;
  }
  LogLine &size(u64 v) {
    p_.size(v);
    return *this;
  }
  Printer &printer() { return p_; }

 private:
  vx_bdev *dev_;
  int level_;
  char buf_[256];
  Printer p_;
};

}  // namespace vexfs
