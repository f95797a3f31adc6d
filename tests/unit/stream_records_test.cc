// SPDX-License-Identifier: MIT
// Single records of streams of snapshots: forms that are older, and what no form is.
#include <gtest/gtest.h>

#include "../../include/uapi/vexfs.h"
#include "../../lib/stream/format.h"

namespace vexfs {
namespace {

// Records of before there were these parameters say nothing of them.
TEST(StreamRecords, CollectionsMayEndBeforeTheirParameters) {
  stream::Record c;
  c.type = stream::Type::collection;
  c.dim = 16;
  c.element = VEXFS_F32;
  c.metric = VEXFS_L2;
  c.index = VEXFS_INDEX_LSH;
  c.m = 16;
  c.ef_construction = 200;
  c.ef_search = 64;
  c.collection = 1;
  const std::string old = stream::encode(c);
  c.with_params = true;
  c.tables = 6;
  c.flags = stream::collection_compact;
  const std::string now = stream::encode(c);
  ASSERT_EQ(now.size(), old.size() + 20);
  ASSERT_EQ(now.substr(0, old.size()), old);
  const auto decoded = [](const std::string &s) {
    return stream::decode(stream::Type::collection, reinterpret_cast<const uint8_t *>(s.data()), s.size());
  };
  EXPECT_FALSE(decoded(old).with_params);
  EXPECT_EQ(decoded(now).tables, 6u);
  EXPECT_EQ(stream::encode(decoded(now)), now);
  for (size_t n = old.size() + 1; n < now.size(); n++) EXPECT_THROW(decoded(now.substr(0, n)), stream::Damage) << n;
  EXPECT_THROW(decoded(now + '\0'), stream::Damage);
  for (const size_t at : {old.size() + 12, old.size() + 15, old.size() + 16, old.size() + 19}) {
    std::string odd = now;  // no such codes; recall beyond all; flags nobody knows
    odd[at] = static_cast<char>(odd[at] | 0x40);
    EXPECT_THROW(decoded(odd), stream::Damage) << at;
  }
}

}  // namespace
}  // namespace vexfs
