// SPDX-License-Identifier: MIT
// core/base: checksums and hashes against published vectors, text, endian fields, containers.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>

#include "kernel/core/base/bits.h"
#include "kernel/core/base/crc.h"
#include "kernel/core/base/endian.h"
#include "kernel/core/base/list.h"
#include "kernel/core/base/memory.h"
#include "kernel/core/base/printer.h"
#include "kernel/core/base/siphash.h"
#include "lib/host.h"

namespace vexfs::test {
namespace {

Bytes bytes(const std::string &s) { return {reinterpret_cast<const u8 *>(s.data()), s.size()}; }

// RFC 3720, B.4.
TEST(Crc, PublishedVectors) {
  EXPECT_EQ(crc32c_of(bytes("123456789")), 0xe3069283u);
  EXPECT_EQ(crc32c_of(bytes(std::string(32, '\0'))), 0x8a9136aau);
  EXPECT_EQ(crc32c_of(bytes(std::string(32, '\xff'))), 0x62a8ab43u);
  std::string up(32, 0);
  for (int i = 0; i < 32; i++) up[i] = static_cast<char>(i);
  EXPECT_EQ(crc32c_of(bytes(up)), 0x46dd794eu);
}

TEST(Crc, OwnFieldCountsAsZero) {
  std::mt19937_64 rng(1);
  std::string block(4096, 0);
  for (char &c : block) c = static_cast<char>(rng());
  for (usize field : {usize{0}, usize{4}, usize{777}, usize{4092}}) {
    std::string zeroed = block, other = block;
    memset(&zeroed[field], 0, 4);
    memset(&other[field], 0x5c, 4);
    EXPECT_EQ(crc32c_block(bytes(block), field), crc32c_of(bytes(zeroed)));
    EXPECT_EQ(crc32c_block(bytes(other), field), crc32c_of(bytes(zeroed)));
    other[(field + 9) % 4096] ^= 1;
    EXPECT_NE(crc32c_block(bytes(other), field), crc32c_of(bytes(zeroed)));
  }
}

// The authors' test vector and neighbours of it: key 00..0f, input 00..(n-1).
TEST(SipHash, PublishedVectors) {
  SipKey key{0x0706050403020100, 0x0f0e0d0c0b0a0908};
  u8 in[64];
  for (u8 i = 0; i < 64; i++) in[i] = i;
  EXPECT_EQ(siphash(key, {in, 0}), 0x726fdb47dd0e0e31u);
  EXPECT_EQ(siphash(key, {in, 1}), 0x74f839c593dc67fdu);
  EXPECT_EQ(siphash(key, {in, 7}), 0xab0200f58b01d137u);
  EXPECT_EQ(siphash(key, {in, 8}), 0x93f5f5799a932462u);
  EXPECT_EQ(siphash(key, {in, 15}), 0xa129ca6149be45e5u);
  EXPECT_EQ(siphash(key, {in, 63}), 0x958a324ceb064572u);
}

TEST(Printer, Numbers) {
  char buf[200];
  Printer p(buf);
  p.dec(0).ch(' ').dec(~u64{0}).ch(' ').sdec(-9223372036854775807 - 1).ch(' ').hex(0).ch(' ').hex(0xdeadbeef);
  EXPECT_STREQ(p.c_str(), "0 18446744073709551615 -9223372036854775808 0x0 0xdeadbeef");
  p.clear();
  p.hex_fixed(0x1f, 8).ch(' ').pad_dec(42, 5).ch(' ').size(1023).ch(' ').size(1536).ch(' ').size(u64{5} << 40);
  EXPECT_STREQ(p.c_str(), "0000001f    42 1023 B 1.5 KiB 5.0 TiB");
  p.clear();
  u8 id[16] = {0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8};
  p.uuid(id).ch(' ').quoted(bytes(std::string("a\"\\\n\x80", 5))).str(nullptr);
  EXPECT_STREQ(p.c_str(), "12345678-9abc-def0-0102-030405060708 \"a\\x22\\x5c\\x0a\\x80\"(null)");
  EXPECT_FALSE(p.truncated());
}

TEST(Printer, NeverWritesBeyondItsBuffer) {
  for (usize cap = 1; cap < 12; cap++) {
    char buf[16];
    memset(buf, 'X', sizeof buf);
    Printer p(buf, cap);
    p.str("hello ").dec(12345);
    EXPECT_EQ(strlen(buf), cap - 1);
    EXPECT_EQ(p.length(), cap - 1);
    EXPECT_TRUE(p.truncated());
    for (usize i = cap; i < sizeof buf; i++) ASSERT_EQ(buf[i], 'X');
  }
}

TEST(LogLine, IsSentOnceWhole) {
  std::string got;
  int level = 0, lines = 0;
  host::set_log_hook([&](vx_bdev *, int l, const char *s) {
    got = s;
    level = l;
    lines++;
  });
  LogLine(nullptr, VX_LOG_WARN).str("group ").dec(7).str(": free ").hex(255);
  LogLine(nullptr, VX_LOG_ERR).str(std::string(5000, 'y').c_str());
  host::set_log_hook({});
  EXPECT_EQ(lines, 2);
  EXPECT_EQ(level, VX_LOG_ERR);
  EXPECT_EQ(got, std::string(255, 'y'));
}

TEST(Endian, FieldsAreLittleEndianAndUnaligned) {
  struct {
    u8 pad;
    le16 a;
    le32 b;
    le64 c;
  } s{};
  s.a = 0x1234;
  s.b = 0x89abcdef;
  s.c = 0x0123456789abcdef;
  const u8 expect[] = {0, 0x34, 0x12, 0xef, 0xcd, 0xab, 0x89, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01};
  static_assert(sizeof s == sizeof expect);
  EXPECT_EQ(memcmp(&s, expect, sizeof s), 0);
  EXPECT_EQ(s.c, 0x0123456789abcdefu);
  constexpr le32 k = [] {
    le32 v{};
    v.set(77);
    return v;
  }();
  static_assert(k.get() == 77);
}

TEST(Bits, Popcount) {
  std::mt19937_64 rng(2);
  for (int i = 0; i < 10000; i++) {
    u64 v = rng() & rng();
    EXPECT_EQ(popcount(v), static_cast<u32>(std::popcount(v)));
  }
}

TEST(Vec, GrowthThatFailsChangesNothing) {
  host::AllocStats before = host::alloc_stats();
  {
    Vec<Box<int>> v;
    for (int i = 0; i < 100; i++) {
      auto b = Box<int>::make(i);
      ASSERT_TRUE(b.ok());
      ASSERT_TRUE(v.push(b.take()).ok());
    }
    host::fail_alloc_after(0, true);
    EXPECT_EQ(v.reserve(1000).code(), Errno::nomem);
    EXPECT_EQ(v.resize(1000).code(), Errno::nomem);
    EXPECT_EQ(Box<int>::make(1).code(), Errno::nomem);
    host::fail_alloc_after(-1);
    ASSERT_EQ(v.size(), 100u);
    for (int i = 0; i < 100; i++) EXPECT_EQ(*v[i], i);
    v.erase(10);
    ASSERT_TRUE(v.insert(10, Box<int>()).ok());
    EXPECT_EQ(*v[11], 11);
    EXPECT_FALSE(v[10]);
    Vec<Box<int>> w = std::move(v);
    EXPECT_TRUE(v.empty());
    EXPECT_EQ(w.size(), 100u);
    EXPECT_EQ(Vec<u64>().reserve(~usize{0} / 4).code(), Errno::nomem);
  }
  EXPECT_EQ(host::alloc_stats().outstanding, before.outstanding);
  EXPECT_EQ(host::alloc_stats().large_bytes, before.large_bytes);
}

TEST(List, OrderAndUnlink) {
  struct Item {
    int n;
    ListHook hook;
  } a{1, {}}, b{2, {}}, c{3, {}};
  List<Item, &Item::hook> l, m;
  l.push_back(b);
  l.push_back(c);
  l.push_front(a);
  EXPECT_EQ(l.front()->n, 1);
  EXPECT_EQ(l.back()->n, 3);
  EXPECT_EQ(l.next(a)->n, 2);
  EXPECT_EQ(l.next(c), nullptr);
  b.hook.unlink();
  b.hook.unlink();
  EXPECT_EQ(l.next(a)->n, 3);
  m.push_back(b);
  m.splice(l);
  EXPECT_TRUE(l.empty());
  EXPECT_EQ(m.pop_front()->n, 2);
  EXPECT_EQ(m.pop_front()->n, 1);
  EXPECT_EQ(m.pop_front()->n, 3);
  EXPECT_EQ(m.pop_front(), nullptr);
}

}  // namespace
}  // namespace vexfs::test
