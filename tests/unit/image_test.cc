// SPDX-License-Identifier: MIT
// Commands on an image without a mount: what vexctl --image stands on. Files and vectors survive closing, many threads
// may add and search at once, and an image that cannot be opened says why.
// Thread sanitizer: ImageTest.SaysWhyItCannotBeOpened ImageTest.ThreadsOnAFlatCollection ImageTest.ThreadsOnAnHnswCollection
#include "../../lib/image/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "../../kernel/core/store/format.h"
#include "../../lib/client/commands.h"
#include "../../lib/client/pipe.h"
#include "../../lib/device.h"
#include "../../lib/host.h"

namespace vexfs::client {
namespace {

constexpr uint32_t dim = 16;

class ImageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "image.XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    file_ = dir_ + "/image";
    std::unique_ptr<host::FileDevice> d;
    host::FileDevice::Options o;
    o.create_size = 64 << 20;
    ASSERT_EQ(host::FileDevice::open(file_, o, &d), 0);
    ASSERT_TRUE(store::format(d.get(), store::FormatOptions{}, nullptr).ok());
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::unique_ptr<ImagePlace> open(bool read_only = false) {
    ImageOptions o;
    o.read_only = read_only;
    o.commit_interval_ms = 20;  // commits happen while the threads run
    return ImagePlace::open_image(file_, o);
  }
  static int error_of(const std::function<void()> &f) {
    try {
      f();
    } catch (const Error &e) {
      return e.err();
    }
    return 0;
  }
  static vexfs_collection spec(uint16_t index) {
    vexfs_collection c{};
    c.dim = dim;
    c.element = VEXFS_F32;
    c.metric = VEXFS_L2;
    c.index = index;
    c.ef_construction = 40;
    return c;
  }

  std::string dir_, file_;
};

TEST_F(ImageTest, FilesAndNamesSurviveClosing) {
  {
    auto p = open();
    p->make("/a/b/c", true, true);
    p->write_file("/a/b/file", std::string(100000, 'x'));
    p->write_file("/a/b/file", "short");
    EXPECT_EQ(error_of([&] { p->make("/a/b", true, false); }), EEXIST);
    EXPECT_EQ(error_of([&] { p->make("/no/such", true, false); }), ENOENT);
    EXPECT_EQ(error_of([&] { p->open("/a/none"); }), ENOENT);
    EXPECT_EQ(error_of([&] { p->open("/a/b/file/below"); }), ENOTDIR);
    p->close();
  }
  auto p = open(true);
  auto file = p->open("//a/./b/../b/file");
  auto root = p->open("/");
  EXPECT_FALSE(file->is_directory());
  EXPECT_TRUE(root->is_directory());
  EXPECT_EQ(p->path_of(file->ino(), 0, *root), "/a/b/file");
  EXPECT_EQ(p->path_of(root->ino(), 0, *root), "/");
  EXPECT_EQ(p->path_of(987654321, 0, *root), "");
  EXPECT_EQ(error_of([&] { p->write_file("/a/b/file", "no"); }), EROFS);
  const Space s = p->space(*root);
  EXPECT_EQ(s.blocks * s.block_size, 64u << 20);
  EXPECT_GT(s.blocks_available, 1000u);
}

TEST_F(ImageTest, SaysWhyItCannotBeOpened) {
  auto writer = open();
  EXPECT_EQ(error_of([&] { open(); }), EBUSY);
  EXPECT_EQ(error_of([&] { open(true); }), EBUSY);
  writer.reset();
  auto reader = open(true);
  auto another = open(true);
  EXPECT_EQ(error_of([&] { open(); }), EBUSY);
  EXPECT_EQ(error_of([&] { ImagePlace::open_image(dir_ + "/none", {}); }), ENOENT);
  std::ofstream(dir_ + "/zeros") << std::string(1 << 20, '\0');
  EXPECT_EQ(error_of([&] { ImagePlace::open_image(dir_ + "/zeros", {}); }), EINVAL);
}

// Several batches in flight, while another thread searches and a third makes and removes files with vectors.
void add_and_search_at_once(ImagePlace &p, uint16_t index) {
  p.make("/vec", true, true);
  auto t = p.open("/vec");
  vexfs_collection c{};
  c.dim = dim;
  c.element = VEXFS_F32;
  c.metric = VEXFS_L2;
  c.index = index;
  c.ef_construction = 40;
  collection_create(*t, c);
  constexpr uint32_t batches = 40;
  constexpr uint32_t rows = 25;
  std::mt19937 rng(3);
  std::normal_distribution<float> normal;
  std::vector<float> data(batches * rows * dim);
  for (float &x : data) x = normal(rng);

  std::atomic<bool> stop{false};
  std::atomic<uint64_t> searches{0};
  std::thread searcher([&] {
    auto mine = p.open("/vec");
    Query q;
    q.dim = dim;
    q.k = 5;
    while (!stop || searches == 0) {
      const Answer a = search(*mine, q, data.data() + (searches % 1000) * dim, 1);
      for (size_t i = 1; i < a.hits[0].size(); i++) {
        EXPECT_LE(hit_distance(a.hits[0][i - 1]), hit_distance(a.hits[0][i]));
        EXPECT_NE(a.hits[0][i - 1].id, a.hits[0][i].id);
      }
      searches++;
    }
  });
  std::thread owner([&] {
    for (int i = 0; i < 20; i++) {
      const std::string path = "/vec/file" + std::to_string(i % 3);
      p.write_file(path, std::to_string(i));
      auto file = p.open(path);
      Vector v;
      v.dim = dim;
      v.row.id = VEXFS_ID_AUTO - 10 - static_cast<uint64_t>(i);
      v.row.owner_fd = -1;
      v.data.assign(dim * sizeof(float), 0x41);
      vector_add(*file, 0, v, 0);
    }
  });
  BatchPipe pipe(*t, 3, BatchPipe::Via::threads);
  for (uint32_t i = 0; i < batches; i++) {
    auto b = pipe.take();
    b->first = i * rows;
    b->command = vexfs_batch{};
    b->command.op = VEXFS_BATCH_ADD;
    b->command.element = VEXFS_F32;
    b->command.dim = dim;
    b->command.count = rows;
    b->rows.assign(rows, vexfs_row{});
    for (uint32_t j = 0; j < rows; j++) b->rows[j].id = i * rows + j, b->rows[j].owner_fd = -1;
    const auto *from = reinterpret_cast<const uint8_t *>(data.data() + i * rows * dim);
    b->data.assign(from, from + rows * dim * sizeof(float));
    pipe.submit(std::move(b));
  }
  pipe.finish();
  owner.join();
  stop = true;
  searcher.join();
  EXPECT_EQ(pipe.error(), 0);
  EXPECT_EQ(pipe.rows_done(), batches * rows);
  EXPECT_EQ(collection_info(*t).rows, batches * rows + 20u);

  Query q;
  q.dim = dim;
  q.k = 1;
  const Answer a = search(*t, q, data.data(), batches * rows);
  size_t found = 0;
  for (size_t i = 0; i < a.hits.size(); i++) found += a.hits[i].size() == 1 && a.hits[i][0].id == i;
  EXPECT_GE(found, index == VEXFS_INDEX_FLAT ? 1000u : 980u);
}

TEST_F(ImageTest, ThreadsOnAFlatCollection) {
  auto p = open();
  add_and_search_at_once(*p, VEXFS_INDEX_FLAT);
  p->close();
  auto again = open(true);
  EXPECT_EQ(collection_info(*again->open("/vec")).rows, 1020u);
}

TEST_F(ImageTest, ThreadsOnAnHnswCollection) {
  auto p = open();
  add_and_search_at_once(*p, VEXFS_INDEX_HNSW);
  p->close();
  auto again = open(true);
  auto t = again->open("/vec");
  EXPECT_EQ(collection_info(*t).rows, 1020u);
  Query q;
  q.dim = dim;
  q.k = 3;
  const std::vector<float> zero(dim, 0.0f);
  EXPECT_EQ(search(*t, q, zero.data(), 1).hits[0].size(), 3u);
}

TEST_F(ImageTest, NothingIsLeakedByOpeningAndClosing) {
  open()->close();
  const int64_t before = host::alloc_stats().outstanding;
  for (int i = 0; i < 3; i++) {
    auto p = open();
    if (i == 0) collection_create(*p->open("/"), spec(VEXFS_INDEX_HNSW));
    Vector v;
    v.dim = dim;
    v.row.id = VEXFS_ID_AUTO;
    v.row.owner_fd = -1;
    v.data.assign(dim * sizeof(float), 0x40);
    vector_add(*p->open("/"), 0, v, 0);
    p->close();
  }
  EXPECT_EQ(host::alloc_stats().outstanding, before);
}

}  // namespace
}  // namespace vexfs::client
