// SPDX-License-Identifier: MIT
// Writes JSON piece by piece. Numbers that are not finite become null.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>

namespace vexfs::bench {

class Json {
 public:
  Json &begin_object() { return open('{'); }
  Json &end_object() { return close('}'); }
  Json &begin_array() { return open('['); }
  Json &end_array() { return close(']'); }
  Json &key(const std::string &k) {
    string(k);
    text_ += ": ";
    follows_ = false;
    return *this;
  }
  Json &value(const std::string &v) {
    string(v);
    return *this;
  }
  Json &value(const char *v) { return value(std::string(v)); }
  Json &value(bool v) { return raw(v ? "true" : "false"); }
  Json &value(uint64_t v) { return raw(std::to_string(v)); }
  Json &value(uint32_t v) { return raw(std::to_string(v)); }
  Json &value(double v) {
    if (!std::isfinite(v)) return raw("null");
    char b[32];
    snprintf(b, sizeof b, "%.6g", v);
    return raw(b);
  }
  template <class T>
  Json &field(const std::string &k, const T &v) {
    return key(k).value(v);
  }
  const std::string &text() const { return text_; }

 private:
  void separate() {
    if (follows_) text_ += ", ";
    follows_ = true;
  }
  Json &raw(const std::string &s) {
    separate();
    text_ += s;
    return *this;
  }
  Json &open(char c) {
    separate();
    text_ += c;
    follows_ = false;
    return *this;
  }
  Json &close(char c) {
    text_ += c;
    follows_ = true;
    if (c == '}' && text_.size() > 200) text_ += "\n";
    return *this;
  }
  void string(const std::string &s) {
    separate();
    text_ += '"';
    for (const char c : s) {
      char b[8];
      if (static_cast<unsigned char>(c) < 0x20) {
        snprintf(b, sizeof b, "\\u%04x", static_cast<unsigned>(c));
        text_ += b;
        continue;
      }
      if (c == '"' || c == '\\') text_ += '\\';
      text_ += c;
    }
    text_ += '"';
  }
  std::string text_;
  bool follows_ = false;
};

}  // namespace vexfs::bench
