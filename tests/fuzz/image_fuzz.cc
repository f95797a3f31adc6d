// SPDX-License-Identifier: MIT
// Fuzz target: hostile images. The input is a list of patches to a small but complete filesystem; the patched image is
// mounted, walked, changed, and unmounted. Nothing may crash, hang, leak or touch memory that is not ours.
//
// Input: byte 0 bit 0: put checksums right again afterwards, so that damage reaches the code behind them; bit 1: mount
// read-only; bit 2: prefer patching metadata blocks. Then patches: u24 place, u8 length (1..64), that many bytes.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../../include/uapi/vexfs.h"
#include "../../kernel/core/api.h"
#include "../../kernel/core/disk/node.h"
#include "../../kernel/core/store/format.h"
#include "../../lib/device.h"
#include "../../lib/host.h"

namespace {

using namespace vexfs;

constexpr uint64_t kImageBytes = 4 << 20;
constexpr uint32_t kBlock = 1024, kNode = 4096;
constexpr vx_time kNow{1700000000, 0, 0};

void require(bool ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "image_fuzz: building the template failed: %s\n", what);
  abort();
}

int copy_in(vx_caller *, void *dst, vx_u64 addr, size_t n) {
  memcpy(dst, reinterpret_cast<const void *>(addr), n);
  return 0;
}
int copy_out(vx_caller *, vx_u64 addr, const void *src, size_t n) {
  memcpy(reinterpret_cast<void *>(addr), src, n);
  return 0;
}
int may(vx_caller *, vx_u64, unsigned) { return 0; }
int fd_to_ino(vx_caller *, vx_s32, vx_u64 *) { return -9; }
vx_bool interrupted(vx_caller *) { return false; }
vx_caller caller() { return {copy_in, copy_out, may, fd_to_ino, interrupted, true}; }

struct MetaBlock {
  uint64_t off;
  uint32_t len;
};
struct Template {
  std::unique_ptr<host::MemDevice> dev;
  std::vector<MetaBlock> meta;  // where sealed blocks lie, and how much their checksum covers
};

vx_inode *create(vx_inode *dir, const std::string &name, uint32_t mode) {
  vx_attr init{};
  init.mode = mode;
  vx_inode *ip = nullptr;
  const std::string target = (mode & 0170000) == 0120000 ? "some/where/else" : "";
  require(vx_create(dir, name.data(), name.size(), &init, target.data(), target.size(), &kNow, &ip) == 0, "create");
  return ip;
}

void fill_file(vx_inode *ip, size_t n, uint64_t at) {
  std::vector<char> data(n);
  for (size_t i = 0; i < n; i++) data[i] = static_cast<char>(i * 7 + at);
  size_t done = 0;
  require(vx_pwrite(ip, data.data(), n, at, &kNow, &done) == 0 && done == n, "write");
}

void add_collection(vx_fs *fs, vx_inode *dir) {
  vx_caller c = caller();
  vexfs_collection coll{};
  coll.size = sizeof(coll);
  coll.dim = 8;
  coll.element = VEXFS_F32;
  coll.metric = VEXFS_L2;
  coll.index = VEXFS_INDEX_HNSW;
  require(vx_ioctl(fs, dir, VEXFS_IOCTL_COLLECTION_CREATE, reinterpret_cast<vx_u64>(&coll), &c) == 0, "collection");
  std::vector<float> rows(200 * 8);
  for (size_t i = 0; i < rows.size(); i++) rows[i] = static_cast<float>((i * 2654435761u) % 1000);
  vexfs_batch batch{};
  batch.size = sizeof(batch);
  batch.op = VEXFS_BATCH_ADD;
  batch.element = VEXFS_F32;
  batch.dim = 8;
  batch.count = 200;
  batch.data = reinterpret_cast<vx_u64>(rows.data());
  require(vx_ioctl(fs, dir, VEXFS_IOCTL_BATCH_OPERATIONS, reinterpret_cast<vx_u64>(&batch), &c) == 0, "batch");
}

vx_fs *mount(vx_bdev *dev, bool read_only) {
  vx_mount_opts o{};
  o.read_only = read_only;
  o.node_cache_bytes = 4 << 20;
  o.vector_cache_bytes = 4 << 20;
  vx_fs *fs = nullptr;
  return vx_fs_mount(dev, &o, &fs) == 0 ? fs : nullptr;
}

void populate(vx_bdev *dev) {
  vx_fs *fs = mount(dev, false);
  require(fs != nullptr, "mount");
  struct vx_fs_info info;
  vx_fs_info(fs, &info);
  vx_inode *root = nullptr;
  require(vx_iget(fs, info.root_ino, 0, &root) == 0, "root");
  vx_inode *dir = create(root, "directory", 0040755);
  for (int i = 0; i < 60; i++) vx_iput(create(dir, "entry number " + std::to_string(i), 0100644));
  vx_inode *file = create(root, "file", 0100644);
  fill_file(file, 20000, 0);
  fill_file(file, 5000, 100000);
  const std::string big(9000, 'x');
  require(vx_xattr_set(file, "user.small", 10, "value", 5, 0, &kNow) == 0, "xattr");
  require(vx_xattr_set(file, "user.big", 8, big.data(), big.size(), 0, &kNow) == 0, "large xattr");
  vx_iput(create(root, "link", 0120777));
  vx_inode *coll = create(root, "vectors", 0040755);
  add_collection(fs, coll);
  for (vx_inode *ip : {dir, file, coll, root}) vx_iput(ip);
  require(vx_fs_commit(fs) == 0, "commit");
  vx_fs_unmount(fs);
}

const Template &template_image() {
  static Template t = [] {
    vx_core_init();
    host::set_log_hook([](vx_bdev *, int, const char *) {});
    Template made;
    made.dev = std::make_unique<host::MemDevice>(kImageBytes);
    store::FormatOptions f;
    f.block_size = kBlock;
    f.node_size = kNode;
    f.node_copies = 2;
    f.log_blocks = 64;
    f.uuid[0] = 1;
    store::Layout layout;
    require(store::format(made.dev.get(), f, &layout).ok(), "format");
    populate(made.dev.get());
    std::vector<uint8_t> b(kBlock);
    for (uint64_t off = 0; off < kImageBytes; off += kBlock) {
      made.dev->peek(off, b.data(), kBlock);
      disk::BlockHeader h;
      memcpy(&h, b.data(), sizeof(h));
      uint32_t magic = h.magic;
      if (magic == static_cast<uint32_t>(disk::Magic::node)) made.meta.push_back({off, kNode});
      if (magic == static_cast<uint32_t>(disk::Magic::bitmap) ||
          magic == static_cast<uint32_t>(disk::Magic::descriptor))
        made.meta.push_back({off, kBlock});
      if (magic == static_cast<uint32_t>(disk::Magic::root))
        made.meta.push_back({off, static_cast<uint32_t>(layout.root_blocks / 4 * kBlock)});
    }
    require(made.meta.size() > 8, "metadata blocks");
    return made;
  }();
  return t;
}

void patch(host::MemDevice &dev, const Template &t, const uint8_t *p, size_t n, bool aim_at_meta, bool reseal) {
  std::vector<bool> touched(t.meta.size());
  while (n >= 5) {
    uint64_t place = p[0] | p[1] << 8 | static_cast<uint64_t>(p[2]) << 16;
    size_t len = std::min<size_t>(1 + p[3] % 64, n - 4);
    uint64_t off = place % kImageBytes;
    if (aim_at_meta) {
      size_t m = place % t.meta.size();
      off = t.meta[m].off + (place / t.meta.size()) % t.meta[m].len;
    }
    len = std::min<size_t>(len, kImageBytes - off);
    dev.poke(off, p + 4, len);
    for (size_t i = 0; i < t.meta.size(); i++)
      if (off < t.meta[i].off + t.meta[i].len && off + len > t.meta[i].off) touched[i] = true;
    p += 4 + len;
    n -= 4 + len;
  }
  for (size_t i = 0; reseal && i < t.meta.size(); i++) {
    if (!touched[i]) continue;
    std::vector<uint8_t> block(t.meta[i].len);
    dev.peek(t.meta[i].off, block.data(), block.size());
    disk::checksum_block({block.data(), block.size()});
    dev.poke(t.meta[i].off, block.data(), block.size());
  }
}

struct Walk {
  vx_fs *fs;
  int budget = 200;  // inodes; a damaged tree may be a graph
};

void visit(Walk &w, vx_u64 ino, int depth) {
  vx_inode *ip = nullptr;
  if (w.budget-- <= 0 || depth > 8 || vx_iget(w.fs, ino, 0, &ip) != 0) return;
  vx_attr a;
  vx_getattr(ip, &a);
  char buf[8192];
  size_t len = 0;
  for (vx_u64 off : {vx_u64{0}, vx_u64{4096}, vx_u64{100000}, a.size / 2}) vx_pread(ip, buf, sizeof(buf), off, &len);
  struct vx_map m;
  vx_u64 at = 0;
  for (int i = 0; i < 64 && at < a.size && vx_map(ip, at, kBlock * 1024, &m) == 0; i++) at = m.off + m.len;
  vx_readlink(ip, buf, sizeof(buf), &len);
  vx_xattr_list(
      ip, [](void *, const char *, size_t) -> vx_bool { return true; }, nullptr);
  vx_xattr_get(ip, "user.big", 8, buf, sizeof(buf), &len);
  struct Children {
    std::vector<vx_u64> ino;
  } children;
  vx_u64 pos = 0;
  vx_readdir(
      ip, &pos,
      [](void *ctx, const char *, size_t, vx_u64 child, unsigned, vx_u64) -> vx_bool {
        auto *c = static_cast<Children *>(ctx);
        c->ino.push_back(child);
        return c->ino.size() < 100;
      },
      &children);
  for (vx_u64 child : children.ino) visit(w, child, depth + 1);
  vx_iput(ip);
}

void search(vx_fs *fs, vx_inode *root) {
  vx_u64 ino = 0;
  vx_inode *dir = nullptr;
  if (vx_lookup(root, "vectors", 7, &ino) != 0 || vx_iget(fs, ino, 0, &dir) != 0) return;
  vx_caller c = caller();
  float q[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  vexfs_hit hits[10];
  for (uint32_t flags : {0u, VEXFS_SEARCH_EXACT}) {
    vexfs_search s{};
    s.size = sizeof(s);
    s.flags = flags;
    s.queries = reinterpret_cast<vx_u64>(q);
    s.hits = reinterpret_cast<vx_u64>(hits);
    s.nq = 1;
    s.dim = 8;
    s.element = VEXFS_F32;
    s.k = 10;
    vx_ioctl(fs, dir, VEXFS_IOCTL_VECTOR_SEARCH, reinterpret_cast<vx_u64>(&s), &c);
  }
  vx_iput(dir);
}

void change(vx_inode *root) {
  vx_attr init{};
  init.mode = 0100644;
  vx_inode *ip = nullptr;
  if (vx_create(root, "new", 3, &init, nullptr, 0, &kNow, &ip) == 0) {
    char data[3000] = {1};
    size_t done = 0;
    vx_pwrite(ip, data, sizeof(data), 0, &kNow, &done);
    vx_iput(ip);
  }
  vx_rename(root, "file", 4, root, "new", 3, 0, nullptr, &kNow);
  vx_unlink(root, "link", 4, false, &kNow);
  vx_unlink(root, "new", 3, false, &kNow);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const Template &t = template_image();
  if (size < 6) return 0;
  auto dev = t.dev->clone();
  patch(*dev, t, data + 1, size - 1, data[0] & 4, data[0] & 1);
  bool read_only = data[0] & 2;
  vx_fs *fs = mount(dev.get(), read_only);
  if (!fs) return 0;
  struct vx_fs_info info;
  vx_fs_info(fs, &info);
  Walk w{fs};
  visit(w, info.root_ino, 0);
  vx_inode *root = nullptr;
  if (vx_iget(fs, info.root_ino, 0, &root) == 0) {
    search(fs, root);
    if (!read_only) change(root);
    vx_iput(root);
  }
  vx_fs_commit(fs);
  vx_fs_unmount(fs);
  return 0;
}
