// SPDX-License-Identifier: MIT
// Making the sentences of a repair: cat("inode ", ino, ": ...").
#pragma once
#include <string>
#include <string_view>

#include "../../kernel/core/base/types.h"

namespace vexfs::repair {

inline void append(std::string &out, const char *s) { out += s; }
inline void append(std::string &out, const std::string &s) { out += s; }
inline void append(std::string &out, std::string_view s) { out += s; }
inline void append(std::string &out, u64 v) { out += std::to_string(v); }
inline void append(std::string &out, u32 v) { out += std::to_string(v); }
inline void append(std::string &out, u16 v) { out += std::to_string(v); }
inline void append(std::string &out, u8 v) { out += std::to_string(v); }
inline void append(std::string &out, int v) { out += std::to_string(v); }
inline void append(std::string &out, unsigned long long v) { out += std::to_string(v); }

template <class... A>
std::string cat(const A &...a) {
  std::string out;
  (append(out, a), ...);
  return out;
}

// A name for people: what is not printable ASCII as \xNN.
std::string quoted(Bytes name);

}  // namespace vexfs::repair
