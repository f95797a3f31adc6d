// SPDX-License-Identifier: MIT
// Fuzz target: hostile streams. Nothing may crash, hang, or take memory that grows with what a stream claims; whatever is
// received, the filesystem passes a full check afterwards, and nothing but client::Error comes out.
//
// Input: its first byte says what the rest is. Even: a stream, byte by byte. Odd: records (u16 type, u16 length, payload),
// which are put into frames with sequence numbers and checksums that are right, so that they reach deep.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "../../kernel/core/fs/check.h"
#include "../../kernel/core/store/format.h"
#include "../../kernel/core/vector/check.h"
#include "../../lib/client/error.h"
#include "../../lib/device.h"
#include "../../lib/host.h"
#include "../../lib/image/tree.h"
#include "../../lib/stream/receive.h"

namespace {

using namespace vexfs;

constexpr uint64_t kImageBytes = 8 << 20;

[[noreturn]] void fail(const char *what, const std::string &detail = "") {
  fprintf(stderr, "stream_fuzz: %s\n%s", what, detail.c_str());
  abort();
}

void put(std::string &s, uint64_t v, int n) {
  for (int i = 0; i < n; i++) s += static_cast<char>(v >> (8 * i));
}

std::string framed(const uint8_t *p, size_t n) {
  std::string all(stream::magic, sizeof stream::magic);
  put(all, stream::version, 4);
  put(all, 0, 4);
  uint32_t chain = stream::crc32c(~uint32_t{0}, all.data(), all.size());
  uint64_t sequence = 0;
  auto add = [&](uint64_t type, const std::string &payload) {
    std::string r;
    put(r, type, 2);
    put(r, 0, 2);
    put(r, payload.size(), 4);
    put(r, sequence++, 8);
    put(r, 0, 4);
    r += payload;
    chain = stream::crc32c(chain, r.data(), r.size());
    for (int i = 0; i < 4; i++) r[16 + static_cast<size_t>(i)] = static_cast<char>(chain >> (8 * i));
    all += r;
  };
  while (n >= 4) {
    const uint64_t type = p[0] | p[1] << 8;
    const size_t length = std::min<size_t>(p[2] | p[3] << 8, n - 4);
    add(type, std::string(reinterpret_cast<const char *>(p) + 4, length));
    p += 4 + length;
    n -= 4 + length;
  }
  std::string end;
  put(end, sequence, 8);
  put(end, all.size(), 8);
  put(end, ~stream::crc32c(~uint32_t{0}, all.data(), all.size()), 4);
  add(static_cast<uint64_t>(stream::Type::end), end);
  return all;
}

void check(vx_bdev *dev) {
  std::string text;
  store::CheckSink sink{};
  sink.ctx = &text;
  sink.line = [](void *ctx, store::Severity s, const char *line) {
    if (s != store::Severity::note) *static_cast<std::string *>(ctx) += std::string(line) + "\n";
  };
  store::Checker c(dev, sink);
  Status st = c.open();
  if (st.ok()) st = fs::check(c);
  if (st.ok()) st = vector::check(c);
  if (st.ok()) st = c.compare_space();
  if (!st.ok() || !text.empty()) fail("the filesystem is damaged", text);
}

std::unique_ptr<host::MemDevice> make_template() {
  vx_core_init();
  host::set_log_hook([](vx_bdev *, int, const char *) {});
  auto dev = std::make_unique<host::MemDevice>(kImageBytes);
  store::FormatOptions f;
  f.block_size = 1024;
  f.node_size = 4096;
  f.log_blocks = 0;
  store::Layout layout;
  if (!store::format(dev.get(), f, &layout).ok()) fail("format");
  return dev;
}

void receive(const std::string &text) {
  static const std::unique_ptr<host::MemDevice> fresh = make_template();
  const std::unique_ptr<host::MemDevice> dev = fresh->clone();
  vx_mount_opts o{};
  o.vector_cache_bytes = 128 << 10;
  vx_fs *fs = nullptr;
  if (vx_fs_mount(dev.get(), &o, &fs) != 0) fail("mount");
  {
    const auto tree = client::image_tree(fs, "image");
    for (int i = 0; i < 2; i++) {  // the second time it goes on, or finds that all is there
      size_t at = 0;
      stream::Reader reader([&](void *p, size_t n) {
        n = std::min(n, text.size() - at);
        memcpy(p, text.data() + at, n);
        at += n;
        return n;
      });
      try {
        stream::receive(reader, *tree, {});
      } catch (const client::Error &) {
      }
    }
  }
  vx_fs_unmount(fs);
  check(dev.get());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  if (data[0] % 2) {
    receive(framed(data + 1, size - 1));
    return 0;
  }
  size_t at = 1;
  stream::Reader reader([&](void *p, size_t n) {
    n = std::min(n, size - at);
    memcpy(p, data + at, n);
    at += n;
    return n;
  });
  try {
    stream::verify(reader);
  } catch (const client::Error &) {
  }
  return 0;
}
