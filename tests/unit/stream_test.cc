// SPDX-License-Identifier: MIT
// Snapshots sent and received: random changes of a tree and its vectors arrive as they are, whatever they are; what was
// interrupted is finished by the same stream; streams that are not whole are refused.
#include "../../lib/client/commands.h"
#include "../../lib/image/tree.h"
#include "../../lib/stream/receive.h"
#include "../../lib/stream/send.h"
#include "vector_fixture.h"

namespace vexfs::vector::test {
namespace {

using stream::Attr;
using stream::Entry;
using stream::Tree;

std::string to_text(const stream::Time &t) { return std::to_string(t.sec) + "." + std::to_string(t.nsec); }

// All that a stream carries of a tree, one line each.
std::vector<std::string> describe(Tree &tree) {
  std::vector<std::string> lines;
  std::map<uint64_t, std::string> first;
  std::vector<std::string> todo{""};
  while (!todo.empty()) {
    const std::string path = todo.back();
    todo.pop_back();
    const Attr a = tree.need(path);
    std::string l = "/" + path + " mode " + std::to_string(a.mode) + " links " + std::to_string(a.nlink) + " of " +
                    std::to_string(a.uid) + ":" + std::to_string(a.gid) + " flags " + std::to_string(a.flags) +
                    " dev " + std::to_string(a.major) + ":" + std::to_string(a.minor) + " " + to_text(a.atime) + " " +
                    to_text(a.mtime);
    if (a.is_file()) {
      const auto f = tree.open(path, false);
      std::string data(a.size, '\0');
      EXPECT_EQ(f->read(0, data.data(), data.size()), a.size) << path;
      l += " size " + std::to_string(a.size) + " data " + std::to_string(std::hash<std::string>()(data));
    }
    if (a.type() == 0120000) l += " -> " + tree.read_link(path);
    for (const auto &name : tree.xattrs(path)) {
      std::string v;
      if (name.compare(0, 14, "trusted.vexfs.") != 0 && tree.xattr(path, name, &v)) l += " " + name + "=" + v;
    }
    lines.push_back(l);
    std::vector<Entry> entries;
    if (a.is_dir()) tree.list(path, [&](const Entry &e) { entries.push_back(e); });
    std::sort(entries.begin(), entries.end(), [](auto &x, auto &y) { return x.name < y.name; });
    for (const Entry &e : entries) todo.push_back(stream::join(path, e.name));
    const auto [it, fresh] = first.emplace(a.ino, path);
    if (!fresh && it->second > path) it->second = path;
  }
  // Which names are one file.
  for (size_t i = 0, n = lines.size(); i < n; i++) {
    const std::string path = lines[i].substr(1, lines[i].find(" mode ") - 1);
    lines.push_back("/" + path + " is " + first[tree.need(path).ino]);
  }
  const auto root = tree.target("");
  for (const auto &c : client::collection_list(*root)) {
    std::string dir = "?";
    for (const auto &[ino, path] : first)
      if (ino == c.dir_ino) dir = path;
    const std::string head = "collection /" + dir;
    lines.push_back(head + " dim " + std::to_string(c.dim) + " element " + std::to_string(c.element) + " metric " +
                    std::to_string(c.metric) + " index " + std::to_string(c.index) + " m " + std::to_string(c.m) +
                    " efc " + std::to_string(c.ef_construction) + " efs " + std::to_string(c.ef_search) + " rows " +
                    std::to_string(c.rows) + " " + c.name + " " + c.model + " lists " + std::to_string(c.lists) +
                    " probes " + std::to_string(c.probes) + " pq_m " + std::to_string(c.pq_m) + " tables " +
                    std::to_string(c.tables) + " bits " + std::to_string(c.bits) + " codes " + std::to_string(c.codes) +
                    " recall " + std::to_string(c.recall) + " flags " + std::to_string(c.flags));
    std::vector<vexfs_snapshot_row> rows(100000);
    vexfs_snapshot_rows v{};
    v.size = sizeof v;
    v.collection = c.id;
    v.owner = VEXFS_OWNER_ANY;
    v.rows = reinterpret_cast<__u64>(rows.data());
    v.capacity = 100000;
    v.entry_size = sizeof(vexfs_snapshot_row);
    EXPECT_EQ(root->command(VEXFS_IOCTL_SNAPSHOT_ROWS, &v), 0);
    EXPECT_EQ(v.done, 1u);
    for (uint32_t i = 0; i < v.count; i++) {
      client::Vector x;
      try {
        x = client::vector_get(*root, c.id, rows[i].row.id, c.dim, c.element);
      } catch (const client::Error &e) {
        EXPECT_EQ(e.err(), ENOENT);
        continue;
      }
      std::string owner = x.row.owner ? first.count(x.row.owner) ? first[x.row.owner] : "gone" : "none";
      lines.push_back(head + " row " + std::to_string(x.row.id) + " owner " + owner + " " +
                      std::to_string(x.row.offset) + "+" + std::to_string(x.row.length) + " tag " +
                      std::to_string(x.row.tag) + " stale " + std::to_string(x.row.flags & VEXFS_ROW_STALE) + " data " +
                      std::to_string(std::hash<std::string>()(std::string(x.data.begin(), x.data.end()))));
    }
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

// A filesystem that streams come from or go to.
class World {
 public:
  explicit World(uint64_t seed, uint32_t block_size = 4096)
      : m({.size = 96 << 20, .block_size = block_size}), rng_(seed) {}
  ~World() {
    for (auto &[name, v] : views_) vx_fs_unmount(v);
  }

  uint64_t keep(const std::string &name) {
    vexfs_snapshot s{};
    s.size = sizeof s;
    name.copy(s.name, sizeof s.name - 1);
    EXPECT_EQ(m.ioctl(m.root(), VEXFS_IOCTL_SNAPSHOT_CREATE, &s), 0) << name;
    return s.id;
  }
  std::unique_ptr<Tree> live() { return client::image_tree(m.fs(), "live"); }
  std::unique_ptr<Tree> view(const std::string &name) {
    if (!views_.count(name)) {
      vx_u64 id = 0;
      vx_mount_opts o{};
      o.read_only = true;
      EXPECT_EQ(vx_snapshot_find(m.fs(), name.data(), name.size(), &id), 0);
      vx_fs *v = nullptr;
      EXPECT_EQ(vx_snapshot_mount(m.fs(), id, &o, &v), 0);
      views_[name] = v;
    }
    return client::image_tree(views_[name], name);
  }

  std::string send(const std::string &name, const std::string &from = "", stream::Summary *summary = nullptr) {
    const auto fs = live()->target("");
    const auto now = view(name), then = from.empty() ? nullptr : view(from);
    stream::Source s;
    s.filesystem = fs.get();
    s.now = now.get();
    s.then = then.get();
    vexfs_fs_info i{};
    i.size = sizeof i;
    EXPECT_EQ(fs->command(VEXFS_IOCTL_FS_INFO, &i), 0);
    std::copy(std::begin(i.uuid), std::end(i.uuid), s.header.uuid.begin());
    s.header.block_size = i.block_size;
    for (const auto &x : client::snapshot_list(*fs, false)) {
      if (name == x.name) s.header.id = x.id, s.header.txn = x.txn, s.header.name = name;
      if (from == x.name) s.header.base_id = x.id, s.header.base_txn = x.txn, s.header.base_name = from;
    }
    std::string out;
    stream::Writer w([&](const void *p, size_t n) { out.append(static_cast<const char *>(p), n); });
    const auto done = stream::send(s, w);
    if (summary) *summary = done;
    return out;
  }

  // Random changes.
  void change(int steps) {
    for (int i = 0; i < steps; i++) step();
  }
  uint64_t pick(uint64_t n) { return rng_() % n; }

  Mount m;

 private:
  struct Place {
    std::string path;
    Attr a;
  };
  std::vector<Place> places() {
    std::vector<Place> all{{"", live()->need("")}};
    const auto t = live();
    for (size_t i = 0; i < all.size(); i++)
      if (all[i].a.is_dir()) {
        const std::string dir = all[i].path;
        t->list(dir, [&](const Entry &e) {
          const std::string p = stream::join(dir, e.name);
          all.push_back({p, t->need(p)});
        });
      }
    return all;
  }
  vx_time time() {
    return {static_cast<vx_s64>(1'600'000'000 + pick(1'000'000)), static_cast<vx_u32>(pick(1'000'000'000)), 0};
  }
  vx_inode *get(uint64_t ino) {
    vx_inode *ip = nullptr;
    EXPECT_EQ(vx_iget(m.fs(), ino, 0, &ip), 0);
    return ip;
  }
  std::string bytes(size_t n) {
    std::string s(n, '\0');
    for (char &c : s) c = static_cast<char>('a' + pick(26));
    return s;
  }

  void step() {
    const auto all = places();
    std::vector<Place> dirs, files;
    for (const auto &p : all) {
      if (p.a.is_dir()) dirs.push_back(p);
      if (p.a.is_file()) files.push_back(p);
    }
    const Place dir = dirs[pick(dirs.size())];
    const Place any = all[pick(all.size())];
    const auto t = live();
    const std::string name = stream::join(dir.path, std::string(1, static_cast<char>('a' + pick(12))));
    Attr there;
    const bool taken = t->stat(name, &there);
    auto slash = [](const std::string &p) { return p.rfind('/'); };
    auto base = [&](const std::string &p) { return slash(p) == std::string::npos ? p : p.substr(slash(p) + 1); };
    auto parent = [&](const std::string &p) {
      return get(t->need(slash(p) == std::string::npos ? "" : p.substr(0, slash(p))).ino);
    };
    vx_inode *ip = get(any.a.ino);
    const vx_time now = time();
    switch (pick(24)) {
      case 0:
      case 1:
      case 2:
        if (!taken) t->make(name, 0040000, 0, 0, "");
        break;
      case 3:
      case 4:
      case 5:
        if (!taken) t->make(name, 0100000, 0, 0, "");
        break;
      case 6: {
        static constexpr uint32_t types[] = {0120000, 0020000, 0060000, 0010000, 0140000};
        const uint32_t type = types[pick(5)];
        const bool device = type == 0020000 || type == 0060000;
        if (!taken)
          t->make(name, type, device ? 7 : 0, device ? static_cast<uint32_t>(pick(1000)) : 0, "target" + name);
        break;
      }
      case 7:
      case 8:
        if (!taken && !any.a.is_dir()) t->link(any.path, name);
        break;
      case 9:
      case 10: {
        if (any.path.empty()) break;
        vx_inode *d = parent(any.path);
        const std::string n = base(any.path);
        vx_unlink(d, n.data(), n.size(), any.a.is_dir(), &now);
        vx_iput(d);
        break;
      }
      case 11:
      case 12:
      case 13: {  // renames, over what is there, and exchanges
        if (any.path.empty() || (name + "/").compare(0, any.path.size() + 1, any.path + "/") == 0) break;
        if (taken && (any.path + "/").compare(0, name.size() + 1, name + "/") == 0) break;
        vx_inode *od = parent(any.path), *nd = get(dir.a.ino);
        const std::string o = base(any.path), n = base(name);
        vx_rename(od, o.data(), o.size(), nd, n.data(), n.size(), taken && pick(2) ? VX_RENAME_EXCHANGE : 0, nullptr,
                  &now);
        vx_iput(od);
        vx_iput(nd);
        break;
      }
      case 14:
      case 15:
      case 16:
        if (!files.empty()) {
          const Place f = files[pick(files.size())];
          const auto h = t->open(f.path, true);
          const std::string data = bytes(1 + pick(pick(4) ? 6000 : 100000));
          const uint64_t at = pick(4) ? pick(f.a.size + 1) : pick(400000);
          switch (pick(6)) {
            case 0:
              h->resize(pick(300000));
              break;
            case 1:
              if (f.a.size > 1) h->punch(pick(f.a.size) / 4096 * 4096, 4096 * (1 + pick(20)));
              break;
            case 2:  // with what it has
              if (f.a.size) {
                char c;
                h->read(0, &c, 1);
                h->write(0, &c, 1);
              }
              break;
            default:
              h->write(at, data.data(), data.size());
          }
        }
        break;
      case 17: {
        const std::string x = "user." + std::string(1, static_cast<char>('a' + pick(4)));
        if (pick(3))
          t->set_xattr(any.path, x, bytes(pick(5) ? pick(50) : 3000));
        else
          t->remove_xattr(any.path, x);
        break;
      }
      case 18: {
        vx_attr a{};
        a.mode = any.a.type() | static_cast<uint32_t>(pick(07777));
        a.uid = static_cast<uint32_t>(pick(70000));
        a.gid = static_cast<uint32_t>(pick(70000));
        a.atime = time();
        a.mtime = time();
        vx_setattr(ip, VX_SET_MODE | VX_SET_UID | VX_SET_GID | VX_SET_ATIME | VX_SET_MTIME, &a);
        break;
      }
      case 19:
        if (any.a.is_dir() || any.a.is_file()) t->set_flags(any.path, static_cast<uint32_t>(pick(64)));
        break;
      case 20: {
        auto at = t->target(dir.path);
        vexfs_collection c{};
        c.size = sizeof c;
        if (at->command(VEXFS_IOCTL_COLLECTION_INFO, &c) == 0 && c.dir_ino == at->ino()) {
          if (pick(4) == 0) client::collection_drop(*at, c.id);
          break;
        }
        c = {};
        c.dim = static_cast<__u32>(1 + pick(20));
        c.element = static_cast<__u16>(1 + pick(4));
        c.metric = VEXFS_L2;
        c.index = static_cast<__u16>(1 + pick(2));
        c.m = static_cast<__u16>(2 + pick(20));
        c.ef_construction = static_cast<__u32>(20 + pick(200));
        c.ef_search = static_cast<__u32>(20 + pick(200));
        c.name[0] = static_cast<char>('a' + pick(26));
        if (pick(2)) {
          c.codes = static_cast<__u16>(pick(6));
          c.recall = static_cast<__u16>(pick(3) * 450);
          c.lists = static_cast<__u32>(pick(50));
          c.probes = static_cast<__u32>(pick(9));
          c.tables = static_cast<__u8>(pick(5));
          c.bits = static_cast<__u8>(pick(8));
          c.pq_m = static_cast<__u16>(pick(2));
          c.flags = pick(2) ? VEXFS_COLLECTION_COMPACT : 0;
        }
        client::collection_create(*at, c);
        break;
      }
      default:
        rows(files);
    }
    vx_iput(ip);
  }

  void rows(const std::vector<Place> &files) {
    const auto root = live()->target("");
    const auto all = client::collection_list(*root);
    if (all.empty()) return;
    const auto &c = all[pick(all.size())];
    for (uint64_t n = pick(40); n > 0; n--) {
      const uint64_t id = 1 + pick(150);
      client::Vector v;
      v.row.id = id;
      v.dim = c.dim;
      v.element = VEXFS_F32;
      std::vector<float> f(c.dim);
      for (float &x : f) x = static_cast<float>(pick(100));
      v.data.assign(reinterpret_cast<uint8_t *>(f.data()), reinterpret_cast<uint8_t *>(f.data() + f.size()));
      v.row.tag = pick(1000);
      if (!files.empty() && pick(2)) {
        v.row.owner = files[pick(files.size())].a.ino;
        v.row.offset = pick(100);
        v.row.length = pick(100);
      }
      try {
        if (pick(3) == 0)
          client::vector_delete(*root, c.id, id, 0);
        else if (pick(2))
          client::vector_update(*root, c.id, v, pick(2) ? VEXFS_VEC_SET_OWNER : 0);
        else
          client::vector_add(*root, c.id, v, 0);
      } catch (const client::Error &e) {
        EXPECT_TRUE(e.err() == ENOENT || e.err() == EEXIST) << e.what();
      }
    }
  }

  std::mt19937_64 rng_;
  std::map<std::string, vx_fs *> views_;
};

struct Stop {};

// stop_at: the input fails there, as if the program had been killed.
stream::Received take(World &to, const std::string &text, bool force = false, size_t stop_at = ~size_t{0}) {
  size_t at = 0;
  stream::Reader r([&](void *p, size_t n) -> size_t {
    if (at >= stop_at) throw Stop();
    n = std::min({n, text.size() - at, stop_at - at});
    memcpy(p, text.data() + at, n);
    at += n;
    return n;
  });
  stream::ReceiveOptions o;
  o.force = force;
  return stream::receive(r, *to.live(), o);
}

void expect_same(World &from, const std::string &name, World &to) {
  const auto want = describe(*from.view(name)), have = describe(*to.live());
  for (size_t i = 0; i < std::max(want.size(), have.size()); i++) {
    const std::string a = i < want.size() ? want[i] : "(nothing)", b = i < have.size() ? have[i] : "(nothing)";
    ASSERT_EQ(a, b) << "snapshot " << name;
  }
}

class StreamRuns : public ::testing::TestWithParam<int> {};

TEST_P(StreamRuns, EverythingArrives) {
  const char *env = getenv("VX_SEED");
  const uint64_t seed = env ? strtoull(env, nullptr, 0) : 20261122 + static_cast<uint64_t>(GetParam());
  std::cout << "seed " << seed << "\n";
  World from(seed), to(1, GetParam() % 3 == 0 ? 1024 : GetParam() % 3 == 1 ? 16384 : 4096), direct(2);
  std::string before;
  for (int i = 0; i < 5; i++) {
    from.change(i == 0 ? 120 : 5 + static_cast<int>(from.pick(60)));
    const std::string name = "s" + std::to_string(i);
    from.keep(name);
    stream::Summary s;
    const std::string text = from.send(name, before, &s);
    EXPECT_EQ(s.bytes, text.size());
    // Interrupted at places of any kind, then again, with the same result.
    for (int stop = static_cast<int>(from.pick(4)); stop > 0; stop--)
      EXPECT_THROW(take(to, text, false, from.pick(text.size() - 1)), Stop);
    try {
      take(to, text);
    } catch (const client::Error &e) {
      FAIL() << name << ": " << e.what();
    }
    expect_same(from, name, to);
    if (HasFatalFailure()) return;
    before = name;
  }
  take(direct, from.send("s0"));
  take(direct, from.send("s4", "s0"));
  expect_same(from, "s4", direct);
  if (HasFatalFailure()) return;
  take(direct, from.send("s1", "s4"));  // and back
  expect_same(from, "s1", direct);
  EXPECT_TRUE(direct.m.check());
  EXPECT_TRUE(to.m.check());
}

INSTANTIATE_TEST_SUITE_P(Seeds, StreamRuns, ::testing::Range(0, 12));

TEST(Stream, OnlyWhatFits) {
  World a(1), b(2), c(3);
  a.change(60);
  a.keep("one");
  a.change(30);
  a.keep("two");
  b.change(20);
  b.keep("one");
  const std::string one = a.send("one"), two = a.send("two", "one"), other = b.send("one");
  EXPECT_THROW(take(c, two), client::Error);  // nothing is there
  EXPECT_FALSE(take(c, one).already);
  EXPECT_TRUE(take(c, one).already);
  EXPECT_THROW(take(c, other), client::Error);  // not empty
  expect_same(a, "one", c);
  EXPECT_THROW(take(c, two, false, two.size() / 2), Stop);
  EXPECT_THROW(take(c, other), client::Error);
  EXPECT_THROW(take(c, one), client::Error);  // another receive is under way
  EXPECT_TRUE(take(c, two).resumed);
  expect_same(a, "two", c);
}

TEST(Stream, NothingChangedIsNothingSent) {
  World a(5);
  a.change(100);
  a.keep("one");
  a.keep("two");
  stream::Summary s;
  a.send("two", "one", &s);
  EXPECT_EQ(s.created + s.removed + s.moved + s.data_bytes + s.rows + s.rows_gone, 0u);
}

TEST(Stream, ARenameIsSentAsOne) {
  World a(6);
  const auto t = a.live();
  t->make("dir", 0040000, 0, 0, "");
  t->make("dir/large", 0100000, 0, 0, "");
  const std::string data(3 << 20, 'x');
  t->open("dir/large", true)->write(0, data.data(), data.size());
  a.keep("one");
  t->move("dir", "other");
  const auto f = t->open("other/large", true);
  f->write(1 << 20, "y", 1);
  f->punch(2 << 20, 65536);
  a.keep("two");
  stream::Summary s;
  const std::string text = a.send("two", "one", &s);
  EXPECT_EQ(s.moved, 2u);
  EXPECT_EQ(s.data_bytes, 4096u);
  EXPECT_LT(text.size(), 8192u);
}

// Records as somebody might make them, in frames that are right.
std::string made(stream::Header h, const std::vector<stream::Record> &records) {
  std::string out;
  stream::Writer w([&](const void *p, size_t n) { out.append(static_cast<const char *>(p), n); });
  stream::Record r;
  r.type = stream::Type::header;
  h.id = 5;
  h.block_size = 4096;
  r.header = h;
  w.put(r);
  size_t next = 0;
  for (uint32_t p = stream::detach; p <= stream::attributes; p++) {
    stream::Record phase;
    phase.type = stream::Type::phase;
    phase.phase = p;
    w.put(phase);
    for (; next < records.size() && records[next].phase == p; next++) w.put(records[next]);
  }
  w.end();
  return out;
}
stream::Record record(uint32_t phase, stream::Type type, const std::string &path, const std::string &to = "") {
  stream::Record r;
  r.phase = phase;
  r.type = type;
  r.path = path;
  r.to = to;
  return r;
}
int refused(World &to, const std::string &text, bool force = false) {
  try {
    take(to, text, force);
    return 0;
  } catch (const client::Error &e) {
    return e.err();
  }
}

TEST(Stream, RefusesWhatNoSenderMakes) {
  using stream::Type;
  World to(1);
  stream::Header full, more;
  full.name = more.name = "new";
  more.base_id = 3;
  more.base_name = "base";
  more.staging = "wait";
  for (const std::string &name :
       {std::string(""), std::string("."), std::string(".."), std::string("a/b"), std::string("a\nb"),
        std::string("\x1b[31m"), std::string("\xff"), std::string(64, 'x'), std::string("a\0b", 3)}) {
    stream::Header h = full;
    h.name = name;
    EXPECT_EQ(refused(to, made(h, {})), EUCLEAN) << name;
    h = more;
    h.base_name = name;
    EXPECT_EQ(refused(to, made(h, {}), true), EUCLEAN) << name;
  }
  stream::Header staging = full;
  staging.staging = "wait";
  EXPECT_EQ(refused(to, made(staging, {})), EUCLEAN);
  // Nothing is marked by what cannot be in a whole snapshot's stream.
  EXPECT_EQ(refused(to, made(full, {record(1, Type::unlink, "x")})), EUCLEAN);
  std::string value;
  EXPECT_FALSE(to.live()->xattr("", stream::receiving_xattr, &value));
  EXPECT_EQ(refused(to, made(full, {record(2, Type::mkdir, ".vexfs"), record(2, Type::mkdir, ".vexfs/x")})), EUCLEAN);
  EXPECT_EQ(refused(to, made(more, {record(2, Type::mkdir, "wait/x")}), true), EUCLEAN);
  stream::Record c = record(4, Type::collection, "");
  c.dim = 2;
  c.element = VEXFS_F32;
  c.metric = VEXFS_L2;
  c.index = VEXFS_INDEX_FLAT;
  c.collection = 1;
  stream::Record again = c;
  again.collection = 2;
  World other(2);
  EXPECT_EQ(refused(other, made(full, {c, again})), EUCLEAN);
  c.with_params = true;
  c.lists = ~0u;
  EXPECT_EQ(refused(other, made(full, {c}), true), EINVAL);
  for (const char *name : {"system.posix_acl_access", "user.", "odd", "trusted.vexfs.received"}) {
    World w(3);
    stream::Record i = record(6, Type::inode, ""), x = record(6, Type::xattr, ""), a = record(6, Type::attributes, "");
    i.mode = 0040755;
    i.with_xattrs = true;
    x.name = name;
    EXPECT_NE(refused(w, made(full, {i, x, a})), 0) << name;
  }
}

vexfs_collection carried(World &w, const std::string &dir) {
  vexfs_collection c{};
  c.size = sizeof c;
  EXPECT_EQ(w.live()->target(dir)->command(VEXFS_IOCTL_COLLECTION_INFO, &c), 0);
  return c;
}

// What is asked for of an index, and whether rows stay on the device, are the same at the other end, also after changes.
TEST(Stream, CollectionsKeepTheirParameters) {
  World a(20), b(21);
  const auto t = a.live();
  t->make("c", 0040000, 0, 0, "");
  t->make("plain", 0040000, 0, 0, "");
  vexfs_collection c{};
  c.dim = 16;
  c.element = VEXFS_F32;
  c.metric = VEXFS_L2;
  c.index = VEXFS_INDEX_IVF_PQ;
  client::collection_create(*t->target("plain"), c);
  c.lists = 42;
  c.probes = 3;
  c.pq_m = 8;
  c.tables = 5;
  c.bits = 7;
  c.codes = VEXFS_CODES_SQ8;
  c.recall = 950;
  c.flags = VEXFS_COLLECTION_COMPACT;
  client::collection_create(*t->target("c"), c);
  a.keep("one");
  take(b, a.send("one"));
  expect_same(a, "one", b);
  EXPECT_EQ(carried(b, "c").recall, 950u);
  vexfs_index x{};
  x.op = VEXFS_INDEX_REBUILD;
  x.lists = 20;
  x.probes = 4;
  client::index_command(*t->target("c"), x);
  vexfs_collection resident{};
  resident.flags = VEXFS_COLLECTION_RESIDENT;
  resident.id = carried(a, "c").id;
  resident.recall = VEXFS_RECALL_OFF;
  client::collection_alter(*t->target("c"), resident);
  resident.recall = 0;
  resident.flags = VEXFS_COLLECTION_COMPACT, resident.id = carried(a, "plain").id;
  client::collection_alter(*t->target("plain"), resident);
  a.keep("two");
  take(b, a.send("two", "one"));
  expect_same(a, "two", b);
  EXPECT_EQ(carried(b, "c").recall, 0u);
  resident.flags = VEXFS_COLLECTION_RESIDENT;
  client::collection_alter(*t->target("plain"), resident);
  a.keep("three");  // back to what needs no words, which must be said all the same
  take(b, a.send("three", "two"));
  expect_same(a, "three", b);
  EXPECT_EQ(carried(b, "plain").flags, 0u);
}

// The mark stays until the snapshot is there; without it nothing that was received is taken for what it was.
TEST(Stream, WithoutItsSnapshotNothingWasReceived) {
  World a(9), c(10);
  a.change(40);
  a.keep("one");
  a.change(20);
  a.keep("two");
  bool fails = true, there = false;
  std::string kept_name, kept_value;
  stream::ReceiveOptions o;
  o.name = "mine";
  o.kept = [&](const std::string &name, const std::string &v) { return there && name == kept_name && v == kept_value; };
  o.keep = [&](const std::string &name) {
    if (fails) throw client::Error(ENOSPC, "no");
    kept_name = name;
    EXPECT_TRUE(c.live()->xattr("", stream::received_xattr, &kept_value));
    there = true;
  };
  auto give = [&](const std::string &text) {
    size_t at = 0;
    stream::Reader r([&](void *p, size_t n) -> size_t {
      n = std::min(n, text.size() - at);
      memcpy(p, text.data() + at, n);
      at += n;
      return n;
    });
    return stream::receive(r, *c.live(), o);
  };
  const std::string one = a.send("one"), two = a.send("two", "one");
  std::string mark, mark_now;
  EXPECT_THROW(give(one), client::Error);
  EXPECT_TRUE(c.live()->xattr("", stream::receiving_xattr, &mark));
  EXPECT_NE(mark.find(";7"), std::string::npos);
  EXPECT_THROW(give(two), client::Error);  // its base is not finished
  fails = false;
  EXPECT_TRUE(give(one).resumed);
  EXPECT_EQ(kept_name, "mine");
  EXPECT_FALSE(c.live()->xattr("", stream::receiving_xattr, &mark_now));
  EXPECT_TRUE(give(one).already);
  there = false;
  EXPECT_THROW(give(one), client::Error);
  EXPECT_THROW(give(two), client::Error);
  there = true;
  // As after a rollback to the snapshot: the mark is there again, and says nothing any more.
  c.live()->set_xattr("", stream::receiving_xattr, mark);
  o.name = "two here";
  EXPECT_FALSE(give(two).resumed);
  EXPECT_EQ(kept_name, "two here");
  expect_same(a, "two", c);
}

// A write at the receiver takes capabilities away, so they come again; what is in a directory comes before it is given away.
TEST(Stream, AttributesComeInAnOrderThatIsSafe) {
  World a(14);
  const auto t = a.live();
  for (const char *dir : {"a", "a/b", "z"}) t->make(dir, 0040000, 0, 0, "");
  for (const char *file : {"f", "a/f", "a/b/f"}) {
    t->make(file, 0100000, 0, 0, "");
    t->set_xattr(file, "security.capability", "mine");
  }
  a.keep("one");
  t->open("a/b/f", true)->write(0, "x", 1);
  t->set_owner("a/f", 1, 1, 0100600);
  a.keep("two");
  auto attributes_of = [](const std::string &text) {
    size_t at = 0;
    stream::Reader reader([&](void *p, size_t n) {
      n = std::min(n, text.size() - at);
      memcpy(p, text.data() + at, n);
      at += n;
      return n;
    });
    std::vector<std::string> seen;
    for (stream::Record r; reader.next(&r);) {
      if (r.type == stream::Type::inode) seen.push_back("/" + r.path);
      if (r.type == stream::Type::xattr) seen.back() += " " + r.name;
    }
    return seen;
  };
  const auto all = attributes_of(a.send("one"));
  ASSERT_EQ(all.size(), 7u);
  EXPECT_EQ(all[3], "/a/b");
  EXPECT_EQ(all[6], "/");
  const auto changed = attributes_of(a.send("two", "one"));
  for (const char *line : {"/a/b/f security.capability", "/a/f security.capability"})
    EXPECT_EQ(std::count(changed.begin(), changed.end(), line), 1) << line;
}

// What even --force does not take stays refused however often it is tried, and needs --force from then on.
TEST(Stream, ForceIsNotForgotten) {
  World a(11), c(12), full(13);
  a.live()->make("d", 0040000, 0, 0, "");
  a.keep("one");
  a.live()->make("f", 0100000, 0, 0, "");
  a.live()->open("f", true)->write(100000, "end", 3);
  a.live()->make("g", 0100000, 0, 0, "");
  a.keep("two");
  const std::string one = a.send("one"), two = a.send("two", "one");
  full.live()->make("mine", 0100000, 0, 0, "");
  EXPECT_EQ(refused(full, one, true), ENOTEMPTY);
  EXPECT_EQ(refused(full, one, true), ENOTEMPTY);
  take(c, one);
  c.live()->make("f", 0100000, 0, 0, "");
  c.live()->open("f", true)->write(0, "what was here", 13);
  c.live()->make("g", 0040000, 0, 0, "");
  EXPECT_EQ(refused(c, two, true), EEXIST);
  EXPECT_EQ(refused(c, two, true), EEXIST);
  EXPECT_EQ(refused(c, two), EBUSY);
  c.live()->remove("g", true);
  EXPECT_EQ(refused(c, two), EBUSY);
  EXPECT_TRUE(take(c, two, true).resumed);
  expect_same(a, "two", c);
}

// No prefix, no flipped bit, no record out of its place is taken for a stream; what is before the damage is all that
// may have been looked at.
TEST(Stream, DamageIsSeen) {
  World a(7);
  a.change(80);
  a.keep("one");
  const std::string text = a.send("one");
  auto whole = [&](const std::string &s) {
    size_t at = 0;
    stream::Reader r([&](void *p, size_t n) {
      n = std::min(n, s.size() - at);
      memcpy(p, s.data() + at, n);
      at += n;
      return n;
    });
    try {
      stream::verify(r);
      return true;
    } catch (const client::Error &e) {
      EXPECT_TRUE(e.err() == EUCLEAN || (e.err() == EINVAL && s.compare(0, 12, text, 0, 12) != 0)) << e.what();
      return false;
    }
  };
  ASSERT_TRUE(whole(text));
  EXPECT_FALSE(whole(text + "x"));
  std::vector<size_t> borders;
  for (size_t at = stream::preamble_bytes; at < text.size();) {
    borders.push_back(at);
    uint32_t n;
    memcpy(&n, text.data() + at + 4, 4);
    at += stream::frame_bytes + n;
  }
  for (size_t b : borders) EXPECT_FALSE(whole(text.substr(0, b)));
  for (size_t i = 1; i + 2 < borders.size(); i++) {
    const size_t x = borders[i], y = borders[i + 1], z = borders[i + 2];
    EXPECT_FALSE(whole(text.substr(0, x) + text.substr(y)));                                                  // lost
    EXPECT_FALSE(whole(text.substr(0, y) + text.substr(x)));                                                  // twice
    EXPECT_FALSE(whole(text.substr(0, x) + text.substr(y, z - y) + text.substr(x, y - x) + text.substr(z)));  // swapped
  }
  std::mt19937_64 rng(8);
  for (int i = 0; i < 2000; i++) {
    std::string s = text;
    s[rng() % s.size()] ^= static_cast<char>(1 << rng() % 8);
    EXPECT_FALSE(whole(s));
  }
}

}  // namespace
}  // namespace vexfs::vector::test
