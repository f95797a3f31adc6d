// SPDX-License-Identifier: MIT
// Fuzz target: hostile callers. The input is a sequence of vector commands with arbitrary structs, sizes and addresses,
// on a small filesystem in memory. Nothing may crash, hang or touch memory that is not ours, memory outside of the
// caller's may not be written, and what is on disk afterwards must pass a full check.
//
// Input, for each command: u8 command, u8 file, u8 number of patches, then patches of the command's struct (u16 place,
// u8 length - 1 (three bits), bytes). The struct is filled in sensibly before the patches, so that they reach deep.
#include <linux/ioctl.h>
#include <linux/types.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "../../include/uapi/vexfs.h"
#include "../../kernel/core/api.h"
#include "../../kernel/core/fs/check.h"
#include "../../kernel/core/store/format.h"
#include "../../kernel/core/vector/check.h"
#include "../../lib/device.h"
#include "../../lib/host.h"

namespace {

using namespace vexfs;

constexpr uint64_t kImageBytes = 8 << 20;
constexpr uint64_t kBase = 0x10000;   // where the caller's memory begins
constexpr size_t kArena = 256 << 10;  // and how much it has
constexpr vx_time kNow{1700000000, 0, 0};
constexpr uint64_t kStruct = kBase, kRows = kBase + 0x2000, kData = kBase + 0x8000, kHits = kBase + 0x20000;
constexpr unsigned kCommandsMax = 24;

struct User : vx_caller {
  std::vector<uint8_t> memory = std::vector<uint8_t>(kArena);
  vx_u64 file = 0;
  bool restricted = false;  // one of five inodes may not be written
  uint8_t *at(vx_u64 addr, size_t n) {
    if (addr < kBase || n > kArena || addr - kBase > kArena - n) return nullptr;
    return memory.data() + (addr - kBase);
  }
  User() {
    copy_in = [](vx_caller *c, void *dst, vx_u64 addr, size_t n) {
      uint8_t *p = static_cast<User *>(c)->at(addr, n);
      if (!p) return -14;
      memcpy(dst, p, n);
      return 0;
    };
    copy_out = [](vx_caller *c, vx_u64 addr, const void *src, size_t n) {
      uint8_t *p = static_cast<User *>(c)->at(addr, n);
      if (!p) return -14;
      memcpy(p, src, n);
      return 0;
    };
    may = [](vx_caller *c, vx_u64 ino, unsigned mask) {
      return static_cast<User *>(c)->restricted && ino % 5 == 4 && mask == 2 ? -13 : 0;
    };
    fd_to_ino = [](vx_caller *c, vx_s32 fd, vx_u64 *ino) {
      if (fd != 3) return -9;
      *ino = static_cast<User *>(c)->file;
      return 0;
    };
    interrupted = [](vx_caller *) -> vx_bool { return false; };
    trusted = false;
  }
};

[[noreturn]] void fail(const char *what, const std::string &detail = "") {
  fprintf(stderr, "ioctl_fuzz: %s\n%s", what, detail.c_str());
  abort();
}

template <class T>
T *place(User &u, uint64_t addr) {
  auto *p = reinterpret_cast<T *>(u.at(addr, sizeof(T)));
  memset(p, 0, sizeof(T));
  return p;
}

// Sensible contents of the caller's memory for one command; returns the size of its struct.
size_t prepare(User &u, unsigned nr, unsigned variant) {
  auto sized = [&](auto *p) {
    p->size = sizeof *p;
    return sizeof *p;
  };
  uint32_t dim = 4;
  for (unsigned i = 0; i < 64; i++) {
    auto *row = place<vexfs_row>(u, kRows + i * sizeof(vexfs_row));
    row->id = variant % 3 ? i + variant : VEXFS_ID_AUTO;
    row->owner_fd = -1;
    row->owner = variant % 4 == 0 ? u.file : 0;
    float values[4] = {float(i), float(variant), 1.0f, float(i % 7)};
    memcpy(u.at(kData + i * sizeof values, sizeof values), values, sizeof values);
  }
  switch (nr) {
    case 0x40:
    case 0x41:
    case 0x42:
    case 0x43: {
      auto *c = place<vexfs_collection>(u, kStruct);
      if (nr == 0x40) {
        c->dim = dim;
        c->element = static_cast<__u16>(1 + variant % 4);
        c->metric = static_cast<__u16>(1 + variant % 3);
        constexpr __u16 kinds[] = {VEXFS_INDEX_FLAT, VEXFS_INDEX_HNSW, VEXFS_INDEX_IVF_FLAT, VEXFS_INDEX_IVF_PQ,
                                   VEXFS_INDEX_LSH};
        c->index = kinds[variant % 5];
      }
      return sized(c);
    }
    case 0x44: {
      auto *l = place<vexfs_collection_list>(u, kStruct);
      l->collections = kHits;
      l->capacity = variant % 9;
      return sized(l);
    }
    case 0x48:
    case 0x49:
    case 0x4a:
    case 0x4b: {
      auto *e = place<vexfs_embedding>(u, kStruct);
      e->row.id = nr == 0x48 && variant % 2 ? VEXFS_ID_AUTO : 1 + variant % 40;
      e->data = kData + (variant % 60) * 16;
      e->dim = dim;
      e->element = VEXFS_F32;
      return sized(e);
    }
    case 0x4c: {
      auto *b = place<vexfs_batch>(u, kStruct);
      b->rows = variant % 5 ? kRows : 0;
      b->data = kData;
      b->count = 1 + variant % 63;
      b->dim = dim;
      b->op = static_cast<__u16>(1 + variant % 5);
      b->element = VEXFS_F32;
      return sized(b);
    }
    case 0x50:
    case 0x51: {
      auto *h = place<vexfs_hybrid_search>(u, kStruct);
      auto *s = nr == 0x50 ? reinterpret_cast<vexfs_search *>(h) : &h->search;
      s->size = sizeof *s;
      s->queries = kData;
      s->hits = kHits;
      s->counts = kRows;
      s->nq = 1 + variant % 20;
      s->dim = dim;
      s->element = VEXFS_F32;
      s->k = 1 + variant % 15;
      if (variant % 7 == 1) s->flags = VEXFS_SEARCH_BY_OWNER;
      if (variant % 7 == 2) s->flags = VEXFS_SEARCH_RADIUS, s->radius = 0x3f800000u + variant;
      if (variant % 7 == 3)
        s->flags = VEXFS_SEARCH_AFTER, s->nq = 1, s->after_distance = 0x3f000000, s->after_slot = variant;
      if (nr == 0x50) return sizeof *s;
      h->size = sizeof *h;
      h->filters = kBase + 0x1000;
      h->nfilters = variant % 4;
      for (unsigned i = 0; i < 4; i++) {
        auto *f = place<vexfs_filter>(u, kBase + 0x1000 + i * sizeof(vexfs_filter));
        f->kind = 1 + (variant + i) % 4;
        f->a = variant % 8;
        f->b = 100;
      }
      return sizeof *h;
    }
    case 0x58:
    case 0x59:
    case 0x5d:
    case 0x5a: {
      auto *s = place<vexfs_snapshot>(u, kStruct);
      s->id = nr != 0x58 && variant % 3 == 0 ? variant % 5 : 0;
      s->flags = nr == 0x5a && variant % 2 ? VEXFS_SNAPSHOT_ACCOUNT : 0;
      if (nr == 0x5d && variant % 2) s->flags = VEXFS_SNAPSHOT_CANCEL;
      if (nr != 0x5d || variant % 4 != 3) s->name[0] = static_cast<char>('a' + variant % 6);
      return sized(s);
    }
    case 0x5b: {
      auto *l = place<vexfs_snapshot_list>(u, kStruct);
      l->after = variant % 4;
      l->snapshots = kData;
      l->capacity = variant % 9;
      l->entry_size = sizeof(vexfs_snapshot);
      l->flags = variant % 2 ? VEXFS_SNAPSHOT_ACCOUNT : 0;
      return sized(l);
    }
    case 0x5e: {
      auto *d = place<vexfs_snapshot_diff>(u, kStruct);
      d->from = variant % 4;
      d->to = variant / 4 % 4;
      d->position[0] = variant % 3;
      d->position[1] = variant % 7;
      d->changes = kData;
      d->capacity = variant % 9;
      d->entry_size = sizeof(vexfs_change);
      return sized(d);
    }
    case 0x60: {
      auto *r = place<vexfs_snapshot_rows>(u, kStruct);
      r->flags = variant % 5 == 4 ? VEXFS_ROWS_GONE : 0;
      r->from = variant % 3;
      r->to = variant / 4 % 3;
      r->collection = variant % 4;
      r->owner = variant % 5 == 4 || variant % 2 ? VEXFS_OWNER_ANY : u.file * (variant / 2 % 2);
      r->position[0] = variant % 3;
      r->position[1] = variant % 40;
      r->rows = kData;
      r->capacity = 1 + variant % 70;
      r->entry_size = sizeof(vexfs_snapshot_row);
      return sized(r);
    }
    case 0x61: {
      auto *p = place<vexfs_parent>(u, kStruct);
      p->ino = variant;
      return sized(p);
    }
    case 0x62:
      return sized(place<vexfs_fs_info>(u, kStruct));
    case 0x5c: {
      auto *c = place<vexfs_scrub>(u, kStruct);
      c->flags = variant % 32;
      c->position[0] = variant % 6;
      c->budget = variant % 5 * 100000;
      c->found = kData;
      c->capacity = 1 + variant % 5;
      c->found_size = sizeof(vexfs_found);
      return sized(c);
    }
    case 0x54: {
      auto *x = place<vexfs_index>(u, kStruct);
      x->op = static_cast<__u16>(1 + variant % 5);
      x->kind = static_cast<__u16>(variant % 3);
      return sized(x);
    }
    default: {
      auto *s = place<vexfs_stats>(u, kStruct);
      s->collection = variant % 2 ? 0 : ~__u64{0};
      return sized(s);
    }
  }
}

vx_inode *create(vx_inode *dir, const char *name, uint32_t mode) {
  vx_attr init{};
  init.mode = mode;
  vx_inode *ip = nullptr;
  if (vx_create(dir, name, strlen(name), &init, nullptr, 0, &kNow, &ip) != 0) fail("create");
  return ip;
}

vx_inode *open(vx_fs *fs, vx_inode *dir, const char *name) {
  vx_u64 ino;
  vx_inode *ip = nullptr;
  if (vx_lookup(dir, name, strlen(name), &ino) != 0 || vx_iget(fs, ino, 0, &ip) != 0) fail("open");
  return ip;
}

int command(vx_fs *fs, vx_inode *ip, User &u, unsigned nr) {
  return vx_ioctl(fs, ip, static_cast<vx_u32>(VEXFS_IOC << 8 | nr), kStruct, &u);
}

vx_fs *mount(vx_bdev *dev) {
  vx_mount_opts o{};
  o.vector_cache_bytes = 128 << 10;
  vx_fs *fs = nullptr;
  if (vx_fs_mount(dev, &o, &fs) != 0) fail("mount");
  return fs;
}

vx_inode *root_of(vx_fs *fs) {
  struct vx_fs_info i;
  vx_fs_info(fs, &i);
  vx_inode *root = nullptr;
  if (vx_iget(fs, i.root_ino, 0, &root) != 0) fail("root");
  return root;
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
  vx_fs *fs = mount(dev.get());
  vx_inode *root = root_of(fs);
  User u;
  const char *const dirs[] = {"a", "b"};
  for (unsigned i = 0; i < 2; i++) {
    vx_inode *d = create(root, dirs[i], 040755);
    prepare(u, 0x40, i);
    if (command(fs, d, u, 0x40) != 0) fail("collection");
    vx_inode *file = create(d, "file", 0100644);
    u.file = vx_ino(file);
    for (unsigned variant : {0u, 5u}) {
      prepare(u, 0x4c, variant);
      reinterpret_cast<vexfs_batch *>(u.at(kStruct, sizeof(vexfs_batch)))->op = VEXFS_BATCH_ADD;
      if (command(fs, d, u, 0x4c) != 0) fail("rows");
    }
    vx_iput(file);
    vx_iput(d);
  }
  vx_iput(root);
  vx_fs_unmount(fs);
  return dev;
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
  if (st.ok()) st = c.check_snapshots();
  for (usize i = 0; st.ok() && c.enter_snapshot(i); i++) {
    st = fs::check(c);
    if (st.ok()) st = vector::check(c);
  }
  if (st.ok()) st = c.compare_space();
  if (!st.ok() || !text.empty()) fail("the check of the filesystem found:", text);
}

struct Input {
  const uint8_t *p;
  size_t left;
  uint8_t u8() {
    if (!left) return 0;
    left--;
    return *p++;
  }
  uint16_t u16() {
    auto low = u8();
    return static_cast<uint16_t>(low | u8() << 8);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const std::unique_ptr<host::MemDevice> base = make_template();
  auto dev = base->clone();
  vx_fs *fs = mount(dev.get());
  vx_inode *root = root_of(fs);
  vx_inode *a = open(fs, root, "a"), *b = open(fs, root, "b"), *file = open(fs, a, "file");
  vx_inode *const files[] = {root, a, b, file};
  User u;
  u.file = vx_ino(file);
  u.restricted = true;
  static const unsigned numbers[] = {0x40, 0x41, 0x42, 0x43, 0x44, 0x48, 0x49, 0x4a, 0x4b, 0x4c, 0x4c, 0x50, 0x50, 0x51,
                                     0x54, 0x55, 0x58, 0x59, 0x5a, 0x5b, 0x5c, 0x5d, 0x5e, 0x60, 0x60, 0x61, 0x62};
  Input in{data, size};
  for (unsigned n = 0; n < kCommandsMax && in.left; n++) {
    unsigned choice = in.u8(), which = in.u8(), patches = in.u8() % 12;
    unsigned nr = numbers[choice % std::size(numbers)];
    size_t bytes = prepare(u, nr, choice / 16 * 7 + which / 4);
    for (unsigned i = 0; i < patches; i++) {
      size_t where = in.u16() % (i % 4 == 3 ? kArena : bytes + 64);
      size_t length = 1 + in.u8() % 8;
      for (size_t k = 0; k < length && where + k < kArena; k++) u.memory[where + k] = in.u8();
    }
    (void)command(fs, files[which % 4], u, nr);
    if (which % 64 == 63) (void)vx_fs_commit(fs);
    if (which % 64 == 62) (void)vx_fs_cache_shrink(fs, 1, 100);
  }
  bool aborted;
  {
    struct vx_fs_info i;
    vx_fs_info(fs, &i);
    aborted = i.aborted;
  }
  for (vx_inode *ip : {file, a, b, root}) vx_iput(ip);
  vx_fs_unmount(fs);
  if (aborted) fail("a caller made the volume abort");
  check(dev.get());
  return 0;
}
