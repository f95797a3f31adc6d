// SPDX-License-Identifier: MIT
// Images to be damaged and repaired: a filesystem with some of everything, what it holds as text, and its blocks by what
// they are for.
#pragma once
#include <map>
#include <optional>
#include <set>

#include "../../kernel/core/store/super_io.h"
#include "../../lib/overlay.h"
#include "../../lib/repair/mend.h"
#include "../../lib/repair/model.h"
#include "vector_fixture.h"

namespace vexfs::repair::test {

using vector::test::Mount;

// A full check; the errors and warnings as text in *text.
inline Result<u64> check_all(vx_bdev *dev, std::string *text = nullptr, u64 *warnings = nullptr) {
  struct Sink {
    std::string text;
    u64 errors = 0, warnings = 0;
  } s;
  store::CheckSink sink{};
  sink.ctx = &s;
  sink.line = [](void *ctx, store::Severity severity, const char *line) {
    auto *out = static_cast<Sink *>(ctx);
    out->errors += severity == store::Severity::error;
    out->warnings += severity == store::Severity::warning;
    if (severity != store::Severity::note) out->text += std::string(line) + "\n";
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
  if (text) *text = s.text;
  if (warnings) *warnings = s.warnings;
  if (!st.ok() && st.code() != Errno::corrupt) return st.code();
  return s.errors + (st.ok() ? 0 : 1);
}

inline std::string lines_of(const std::vector<Action> &actions) {
  std::string text;
  for (const Action &a : actions) text += a.text + "\n";
  return text;
}

// ---------------------------------------------------------------- contents
// Everything that can be asked of a filesystem: what was asked, and the answer; none: it was an error.
using Answers = std::map<std::string, std::optional<std::string>>;

class Reader {
 public:
  Reader(vx_fs *fs, Answers &out, std::string prefix) : fs_(fs), out_(out), prefix_(std::move(prefix)) {}
  void run() {
    struct vx_fs_info i;
    vx_fs_info(fs_, &i);
    visit(i.root_ino, "");
  }

 private:
  void say(const std::string &what, const std::string &path, int err, const std::string &value) {
    out_[prefix_ + what + ":" + path] = err ? std::nullopt : std::optional(value);
  }
  void visit(vx_u64 ino, const std::string &path) {
    vx_inode *ip = nullptr;
    int e = vx_iget(fs_, ino, 0, &ip);
    if (e != 0) return say("attr", path, e, "");
    vx_attr a;
    vx_getattr(ip, &a);
    inodes[prefix_ + path] = ino;
    say("attr", path, 0,
        std::to_string(a.mode) + " " + std::to_string(a.uid) + " " + std::to_string(a.nlink) + " " +
            ((a.mode & 0170000) == 0040000 ? "" : std::to_string(a.size)) + " " + std::to_string(a.mtime.sec));
    xattrs(ip, path);
    if ((a.mode & 0170000) == 0040000) directory(ip, path);
    if ((a.mode & 0170000) == 0100000) file(ip, path, a.size);
    if ((a.mode & 0170000) == 0120000) {
      char buf[4096];
      size_t n = 0;
      e = vx_readlink(ip, buf, sizeof buf, &n);
      say("target", path, e, e ? "" : std::string(buf, n));
    }
    vx_iput(ip);
  }
  void file(vx_inode *ip, const std::string &path, vx_u64 size) {
    constexpr vx_u64 kPiece = 4096;
    for (vx_u64 at = 0; at < size; at += kPiece) {
      std::string s(std::min(kPiece, size - at), '?');
      size_t done = 0;
      const int e = vx_pread(ip, s.data(), s.size(), at, &done);
      s.resize(e ? 0 : done);
      say("data", path + "@" + std::to_string(at), e, s);
    }
  }
  void xattrs(vx_inode *ip, const std::string &path) {
    std::vector<std::string> names;
    const int e = vx_xattr_list(
        ip,
        [](void *ctx, const char *name, size_t n) -> vx_bool {
          static_cast<std::vector<std::string> *>(ctx)->emplace_back(name, n);
          return true;
        },
        &names);
    std::string all;
    std::sort(names.begin(), names.end());
    for (const auto &n : names) all += n + "\n";
    say("xattrs", path, e, all);
    for (const auto &n : names) {
      std::string v(65536, 0);
      size_t len = 0;
      const int x = vx_xattr_get(ip, n.data(), n.size(), v.data(), v.size(), &len);
      v.resize(x ? 0 : len);
      say("xattr", path + " " + n, x, v);
    }
  }
  void directory(vx_inode *ip, const std::string &path) {
    std::vector<std::pair<std::string, vx_u64>> names;
    vx_u64 pos = 0;
    const int e = vx_readdir(
        ip, &pos,
        [](void *ctx, const char *name, size_t n, vx_u64 ino, unsigned, vx_u64) -> vx_bool {
          static_cast<decltype(names) *>(ctx)->push_back({std::string(name, n), ino});
          return true;
        },
        &names);
    std::sort(names.begin(), names.end());
    std::string all;
    for (const auto &[n, ino] : names) all += n + "\n";
    say("names", path, e, all);
    if (e != 0) return;
    for (const auto &[n, ino] : names) {
      vx_u64 found = 0;
      const int l = vx_lookup(ip, n.data(), n.size(), &found);
      say("lookup", path + "/" + n, l, std::to_string(found));
      visit(ino, path + "/" + n);
    }
    if (path == "/vec" || path == "/flat") vectors(ip, path);
  }
  template <class T>
  int command(vx_inode *ip, unsigned cmd, T *arg) {
    return vx_ioctl(fs_, ip, cmd, reinterpret_cast<vx_u64>(arg), &caller_);
  }
  void vectors(vx_inode *dir, const std::string &path) {
    for (uint64_t id = 1; id <= 700; id++) {
      std::vector<float> v(kDim);
      vexfs_embedding e{};
      e.size = sizeof e;
      e.row.id = id;
      e.data = reinterpret_cast<__u64>(v.data());
      e.dim = kDim;
      e.element = VEXFS_F32;
      const int r = command(dir, VEXFS_IOCTL_GET_EMBEDDING, &e);
      if (r == -ENOENT) {
        say("row", path + " " + std::to_string(id), 0, "none");
        continue;
      }
      say("row", path + " " + std::to_string(id), r,
          std::string(reinterpret_cast<char *>(v.data()), 4 * v.size()) + std::to_string(e.row.tag) + " " +
              std::to_string(e.row.owner));
    }
    std::vector<float> q(kDim, 0.25f);
    std::vector<vexfs_hit> hits(10);
    vexfs_search s{};
    s.size = sizeof s;
    s.flags = VEXFS_SEARCH_EXACT;
    s.queries = reinterpret_cast<__u64>(q.data());
    s.hits = reinterpret_cast<__u64>(hits.data());
    s.nq = 1;
    s.dim = kDim;
    s.element = VEXFS_F32;
    s.k = 10;
    const int r = command(dir, VEXFS_IOCTL_VECTOR_SEARCH, &s);
    std::string found;
    for (uint32_t i = 0; r == 0 && i < s.found; i++) found += std::to_string(hits[i].id) + " ";
    say("search", path, r, found);
  }

 public:
  static constexpr uint32_t kDim = 16;
  std::map<std::string, vx_u64> inodes;  // by path

 private:
  vx_fs *fs_;
  Answers &out_;
  std::string prefix_;
  vector::test::Caller caller_;
};

// What the device holds, its snapshots included. False: it cannot be mounted. Nothing is written to it.
inline bool read_everything(vx_bdev *dev, Answers *out, std::map<std::string, vx_u64> *inodes = nullptr) {
  host::OverlayDevice trial(dev);
  vx_mount_opts o{};
  o.read_only = true;
  vx_fs *fs = nullptr;
  if (vx_fs_mount(&trial, &o, &fs) != 0) return false;
  Reader r(fs, *out, "");
  r.run();
  if (inodes) *inodes = r.inodes;
  vx_u64 id = 0;
  char name[64];
  for (; vx_snapshot_next(fs, &id, name) == 0; id++) {
    vx_fs *snap = nullptr;
    const int e = vx_snapshot_mount(fs, id, &o, &snap);
    const std::string prefix = std::string("snapshot ") + name + " ";
    (*out)[prefix] = e ? std::nullopt : std::optional<std::string>("there");
    if (e != 0) continue;
    Reader(snap, *out, prefix).run();
    vx_fs_unmount(snap);
  }
  vx_fs_unmount(fs);
  return true;
}

// ------------------------------------------------------------------- images
// Remembers, for each block, what it held before it was last written.
struct History {
  std::map<u64, std::vector<u8>> older;  // by block
};

struct ImageOptions {
  u64 size = 12 << 20;
  u32 block_size = 1024, node_size = 2048;
  int files = 40;
  bool snapshots = true;
  u8 node_copies = 1;
};

class Image {
 public:
  explicit Image(ImageOptions o = {}) : o_(o), device_(std::make_unique<host::MemDevice>(o.size)), tap_(device_.get()) {
    vx_core_init();
    store::FormatOptions f;
    f.block_size = o.block_size;
    f.node_size = o.node_size;
    f.log_blocks = 0;
    f.node_copies = o.node_copies;
    store::Layout layout;
    EXPECT_TRUE(store::format(device_.get(), f, &layout).ok());
    tap_.on_write([this](const vx_io &io) {
      for (u64 at = io.off; at + o_.block_size <= io.off + io.len; at += o_.block_size) {
        std::vector<u8> was(o_.block_size);
        device_->peek(at, was.data(), was.size());
        const bool any = std::any_of(was.begin(), was.end(), [](u8 b) { return b != 0; });
        if (any) history_.older[at / o_.block_size] = std::move(was);
      }
      return 0;
    });
    fill();
  }
  host::MemDevice &device() { return *device_; }
  const History &history() const { return history_; }

 private:
  static std::string text(int seed, size_t n) {
    std::string s(n, 0);
    std::mt19937 rng(static_cast<unsigned>(seed));
    for (char &c : s) c = static_cast<char>(rng());
    return s;
  }
  void xattr(vx_inode *ip, const std::string &name, const std::string &value) {
    vx_time t = Mount::now();
    EXPECT_EQ(vx_xattr_set(ip, name.data(), name.size(), value.data(), value.size(), 0, &t), 0);
  }
  void snapshot(Mount &m, const char *name) {
    if (!o_.snapshots) return;
    vexfs_snapshot s{};
    s.size = sizeof s;
    strncpy(reinterpret_cast<char *>(s.name), name, sizeof s.name - 1);
    EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SNAPSHOT_CREATE, &s), 0);
  }
  void rows(Mount &m, vx_inode *dir, uint64_t first, uint64_t n, vx_inode *owner = nullptr) {
    std::mt19937_64 rng(first);
    for (uint64_t i = 0; i < n; i++) {
      uint64_t id = first + i;
      const auto v = vector::test::random_row(rng, Reader::kDim);
      EXPECT_EQ(m.add(dir, v, &id, 0, owner ? vx_ino(owner) : 0, id % 7), 0);
    }
  }
  void files(Mount &m) {
    for (int d = 0; d < 4; d++) {
      vx_inode *dir = m.mkdir(m.root(), "d" + std::to_string(d));
      for (int i = 0; i < o_.files; i++) {
        vx_inode *ip = m.make(dir, "file" + std::to_string(i));
        const size_t n = i % 5 == 0 ? 100 + static_cast<size_t>(i) : 900 * static_cast<size_t>(i % 9 + 1);
        EXPECT_EQ(m.write(ip, text(d * 1000 + i, n)), 0);
        if (i % 8 == 3) xattr(ip, "user.small", text(i, 50));
        if (i % 16 == 5) xattr(ip, "user.large", text(i, 3000));
      }
      m.mkdir(dir, "empty");
    }
    vx_time t = Mount::now();
    vx_inode *d0 = m.open(m.root(), "d0"), *ip = m.open(d0, "file7");
    EXPECT_EQ(vx_link(m.root(), "hard", 4, ip, &t), 0);
    vx_attr a{};
    a.mode = 0120777;
    vx_inode *link = nullptr;
    EXPECT_EQ(vx_create(m.root(), "link", 4, &a, "d0/file7", 8, &t, &link), 0);
    vx_iput(link);
    m.make(m.root(), "pipe", 0010600);
    vx_inode *sparse = m.make(m.root(), "sparse");
    EXPECT_EQ(m.write(sparse, text(5, 5000), 200000), 0);
  }
  void fill() {
    vector::test::Options mo;
    mo.size = o_.size;
    Mount m(mo, &tap_);
    files(m);
    vx_inode *vec = m.mkdir(m.root(), "vec"), *flat = m.mkdir(m.root(), "flat");
    EXPECT_EQ(m.create(vec, Reader::kDim, VEXFS_F32, VEXFS_L2, VEXFS_INDEX_HNSW), 0);
    EXPECT_EQ(m.create(flat, Reader::kDim), 0);
    rows(m, vec, 1, 560);
    EXPECT_EQ(m.index(vec, VEXFS_INDEX_BUILD), 0);
    vx_inode *owner = m.make(flat, "owner");
    EXPECT_EQ(m.write(owner, text(77, 3000)), 0);
    rows(m, flat, 1, 40);
    rows(m, flat, 41, 20, owner);
    EXPECT_EQ(m.commit(), 0);
    snapshot(m, "first");
    for (int i = 0; i < 10; i++)
      EXPECT_EQ(m.write(m.open(m.open(m.root(), "d1"), "file" + std::to_string(i)), text(9000 + i, 700)), 0);
    for (int i = 20; i < 25; i++) EXPECT_EQ(m.unlink(m.open(m.root(), "d2"), "file" + std::to_string(i)), 0);
    for (uint64_t id = 5; id < 12; id++) EXPECT_EQ(m.del(vec, id), 0);
    EXPECT_EQ(m.commit(), 0);
    m.unmount();
    EXPECT_EQ(m.mount(), 0);
    EXPECT_EQ(m.index(m.open(m.root(), "vec"), VEXFS_INDEX_CHECKPOINT), 0);
    snapshot(m, "second");
    EXPECT_EQ(m.unlink(m.open(m.root(), "d3"), "file1"), 0);
    EXPECT_EQ(m.commit(), 0);
  }

  ImageOptions o_;
  std::unique_ptr<host::MemDevice> device_;
  host::FaultDevice tap_;
  History history_;
};

// ------------------------------------------------------------------- blocks
enum class Use { super, root, descriptors, bitmap, node, file, chunk, blob, kept };
inline const char *use_name(Use u) {
  static constexpr const char *names[] = {"superblock", "root",    "descriptors", "bitmap",         "node",
                                          "file data",  "vectors", "index",       "snapshots' data"};
  return names[static_cast<int>(u)];
}

struct Target {
  Target(u64 b, Use u, u8 t = 0) : block(b), use(u), tree(t) {}
  u64 block;
  Use use;
  u8 tree, level = 0;
  bool of_snapshot = false;  // a snapshot refers to it (too)
  bool of_present = true;
  std::set<u64> objects;  // nodes: whose items are in it; data: whose it is
};

inline std::unique_ptr<Model> model_of(vx_bdev *dev) {
  auto m = std::make_unique<Model>(dev);
  auto f = store::find_super(dev);
  EXPECT_TRUE(f.ok());
  memcpy(&m->super, f->super.get(), sizeof m->super);
  m->geo = f->geo;
  m->root_block.resize(usize{m->geo.root_blocks} << m->geo.block_shift);
  EXPECT_TRUE(
      store::newest_root(dev, m->geo, m->root_block, [](unsigned, unsigned, Errno, const disk::Refusal &) {}).ok());
  m->txn = m->root().header.txn;
  m->seen = BlockSet(m->geo.total_blocks);
  for (u8 t = 0; t < disk::kTrees; t++) walk_tree(*m, t, m->root().trees[t], m->trees[t]);
  load_groups(*m);
  load_snapshots(*m);
  return m;
}

// Every block that the filesystem needs.
inline std::vector<Target> targets_of(vx_bdev *dev) {
  const auto m = model_of(dev);
  const disk::Geometry &geo = m->geo;
  std::vector<Target> out;
  auto add = [&](u64 start, u64 count, const Target &like) {
    for (u64 b = start; b < start + count; b++) {
      out.push_back(like);
      out.back().block = b;
    }
  };
  auto bytes = [&](u64 at) {
    add(at >> geo.block_shift, std::max<u64>(1, disk::kSuperBytes >> geo.block_shift), {0, Use::super});
  };
  bytes(disk::kSuperOffset);
  for (u64 g = 1; g < geo.groups; g *= 3) bytes(geo.backup_block(g) << geo.block_shift);
  bytes(geo.last_backup_byte());
  for (unsigned s = 0; s < 2; s++) {
    add(geo.root_slot[s], geo.root_blocks, {0, Use::root});
    add(geo.root_mirror[s], geo.root_blocks, {0, Use::root});
  }
  for (u64 d = 0; d < geo.desc_count; d++) {
    const u64 home = disk::root_desc(&m->root())[d] & disk::kHomeBit ? 1 : 0;
    add(geo.desc_start + home * geo.desc_count + d, 1, {0, Use::descriptors});
  }
  for (u64 g = 0; g < geo.groups; g++)
    if (!(m->groups[g].word & disk::kGroupUninit))
      add(geo.bitmap_block(g, m->groups[g].word & disk::kHomeBit ? 1 : 0), 1, {0, Use::bitmap});
  std::set<u64> present;
  Buffer buf(geo.node_size);
  auto node = [&](u64 addr, u8 tree, bool now) {
    EXPECT_EQ(read_at(dev, addr << geo.block_shift, buf), Errno::ok);
    Target t{0, Use::node, tree};
    const auto &h = *reinterpret_cast<const disk::NodeHeader *>(buf.data());
    t.tree = h.tree;
    t.level = h.level;
    t.of_present = now;
    t.of_snapshot = m->snapshot_nodes.count(addr) != 0;
    const auto *items = reinterpret_cast<const disk::LeafItem *>(buf.data() + sizeof h);
    for (u32 i = 0; h.level == 0 && i < h.count; i++) t.objects.insert(items[i].key.oid);
    add(addr, geo.node_blocks, t);
  };
  for (u8 t = 0; t < disk::kTrees; t++) {
    for (const NodePlace &n : m->trees[t].nodes) {
      for (u64 at : {n.addr, n.mirror}) {
        if (at == 0) continue;
        node(at, t, true);
        present.insert(at);
      }
    }
    each_ref(m->trees[t], t, [&](const Key &k, u64 start, u64 count, u64) {
      Target like{0, t == kFs                                             ? Use::file
                     : k.type == static_cast<u8>(disk::VectorItem::chunk) ? Use::chunk
                                                                          : Use::blob};
      like.objects = {k.oid};
      like.of_snapshot = m->kept.count(start) != 0;
      add(start, count, like);
      for (u64 b = start; b < start + count; b++) present.insert(b);
    });
  }
  for (u64 addr : m->snapshot_nodes)
    if (!present.count(addr)) node(addr, 0, false);
  for (const auto &[start, run] : m->kept) {
    if (m->snapshot_nodes.count(start)) continue;
    Target like{0, Use::kept};
    like.of_snapshot = true;
    like.of_present = false;
    for (u64 b = start; b < start + run.count; b++)
      if (!present.count(b)) add(b, 1, like);
  }
  return out;
}

}  // namespace vexfs::repair::test
