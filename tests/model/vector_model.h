// SPDX-License-Identifier: MIT
// The model that vector_model_test.cc drives, beside the filesystem it is compared with.
#pragma once
#include "vector_model_state.h"

namespace vexfs::vector::test {
class Model {
 public:
  Model(uint64_t seed, Options o) : rng_(seed), m_(o) {}

  void run(uint32_t ops) {
    for (uint32_t i = 0; i < ops && !::testing::Test::HasFatalFailure(); i++) {
      auto durable = m_.fs_info().txn_durable;
      bool commits = step();
      operations_++;
      // A commit that the store made by itself, for lack of memory or space: brought to a point that is known.
      if (!commits && m_.fs_info().txn_durable != durable) commit();
      if (::testing::Test::HasNonfatalFailure()) FAIL() << "at operation " << i;
    }
    check_all();
    ASSERT_TRUE(m_.check());
    reopen();
    check_all();
  }
  uint64_t operations() const { return operations_; }
  double recall() const { return wanted_ ? double(found_) / double(wanted_) : 1; }
  uint64_t counted(const char *what) { return counts_[what]; }
  std::string summary() {
    std::string s;
    for (auto &[k, v] : counts_) s += " " + k + "=" + std::to_string(v);
    return s + " recall=" + std::to_string(recall());
  }

 private:
  uint64_t pick(uint64_t n) { return rng_() % n; }
  template <class C>
  auto any_of(C &c) {
    auto it = c.begin();
    std::advance(it, static_cast<long>(pick(c.size())));
    return it;
  }

  bool step() {
    uint64_t dice = pick(1000);
    if (dice < 6 || now_.dirs.empty()) return make_dir();
    if (dice < 14) return make_collection();
    if (dice < 16) return drop_collection();
    if (dice < 17) return remove_dir();
    if (dice < 22) return commit();
    if (dice < 24) return remount();
    if (dice < 27) return crash();
    if (dice < 60) return make_file();
    if (dice < 76) return unlink_file();
    if (dice < 82) return link_file();
    if (dice < 95) return rename_file();
    if (dice < 99) return exchange_files();
    if (dice < 110) return write_file();
    if (dice < 115) return read_file();
    if (now_.collections.empty()) return make_collection();
    if (dice < 420) return add_one();
    if (dice < 440) return add_batch();
    if (dice < 560) return update_one();
    if (dice < 700) return delete_one();
    if (dice < 720) return delete_batch();
    if (dice < 850) return get_one();
    if (dice < 855) return manage();
    return search_one();
  }

  vx_inode *dir(const std::string &name) {
    vx_inode *ip = m_.open(m_.root(), name);
    EXPECT_NE(ip, nullptr) << name;
    return ip;
  }
  struct Close {
    Mount &m;
    vx_inode *ip;
    ~Close() { m.close(ip); }
  };

  bool make_dir() {
    if (now_.dirs.size() >= 6) return false;
    std::string name = "d" + std::to_string(serial_++);
    vx_inode *ip = m_.mkdir(m_.root(), name);
    now_.dirs[name] = vx_ino(ip);
    m_.close(ip);
    return false;
  }

  bool make_collection() {
    if (now_.dirs.empty()) return false;
    auto &[name, ino] = *any_of(now_.dirs);
    ModelCollection c;
    static const uint32_t dims[] = {1, 3, 8, 17, 32};
    c.dim = dims[pick(5)];
    c.element = static_cast<uint16_t>(1 + pick(4));
    c.metric = static_cast<uint16_t>(1 + pick(3));
    c.index = static_cast<uint16_t>(1 + pick(2));
    vx_inode *ip = dir(name);
    Close close{m_, ip};
    int e = m_.create(ip, c.dim, c.element, c.metric, c.index, &c.cid, static_cast<uint16_t>(4 + pick(12)), 60);
    if (now_.collections.count(name)) {
      EXPECT_EQ(e, -EEXIST);
      return false;
    }
    EXPECT_EQ(e, 0);
    now_.collections[name] = c;
    counts_["create"]++;
    return false;
  }

  bool drop_collection() {
    if (now_.collections.empty()) return false;
    auto it = any_of(now_.collections);
    vx_inode *ip = dir(it->first);
    Close close{m_, ip};
    vexfs_collection c{};
    c.size = sizeof c;
    EXPECT_EQ(m_.ioctl(ip, VEXFS_IOCTL_COLLECTION_DROP, &c), 0);
    now_.collections.erase(it);
    counts_["drop"]++;
    return commit();
  }

  bool remove_dir() {
    for (auto &[name, ino] : now_.dirs) {
      bool empty = true;
      for (auto &[f, where] : now_.files) empty = empty && where.dir != name && where.second_dir != name;
      if (!empty) continue;
      std::string gone = name;
      auto c = now_.collections.find(name);
      if (c != now_.collections.end() && !c->second.rows.empty()) {
        EXPECT_EQ(m_.unlink(m_.root(), gone, true), -ENOTEMPTY);
        counts_["rmdir_refused"]++;
        continue;
      }
      EXPECT_EQ(m_.unlink(m_.root(), gone, true), 0);
      now_.collections.erase(gone);
      now_.dirs.erase(gone);
      counts_["rmdir"]++;
      return commit();
    }
    return false;
  }

  bool commit() {
    EXPECT_EQ(m_.commit(), 0);
    saved_ = now_;
    written_.clear();
    counts_["commit"]++;
    return true;
  }
  void reopen() { EXPECT_NE(m_.root(), nullptr); }

  bool remount() {
    if (pick(4) == 0)
      EXPECT_TRUE(m_.check());
    else
      m_.remount();
    saved_ = now_;
    written_.clear();
    counts_["remount"]++;
    check_some();
    return true;
  }

  bool crash() {
    m_.crash();
    now_ = saved_;
    for (auto &[ino, f] : now_.files)
      if (written_.count(ino)) adopt(ino, f);
    written_.clear();
    saved_ = now_;
    counts_["crash"]++;
    check_some();
    return true;
  }

  bool make_file() {
    if (now_.files.size() > 200) return false;
    auto &[name, ino] = *any_of(now_.dirs);
    vx_inode *d = dir(name);
    Close close{m_, d};
    std::string file = "f" + std::to_string(serial_++);
    vx_inode *ip = m_.make(d, file);
    now_.files[vx_ino(ip)] = {name, file, "", "", "", name};
    m_.close(ip);
    return false;
  }

  // The rows go with the last name.
  void forget_name(std::map<uint64_t, ModelFile>::iterator it, bool second) {
    ModelFile &f = it->second;
    if (f.second_name.empty()) {
      forget_owner(it->first);
      now_.files.erase(it);
      return;
    }
    if (!second) {
      f.dir = f.second_dir;
      f.name = f.second_name;
    }
    f.second_dir = f.second_name = "";
  }

  void forget_owner(uint64_t ino) {
    for (auto &[name, c] : now_.collections)
      for (auto it = c.rows.begin(); it != c.rows.end();)
        it = it->second.owner == ino ? c.rows.erase(it) : std::next(it);
  }

  bool unlink_file() {
    if (now_.files.empty()) return false;
    auto it = any_of(now_.files);
    bool second = !it->second.second_name.empty() && pick(2);
    std::string where = second ? it->second.second_dir : it->second.dir;
    std::string name = second ? it->second.second_name : it->second.name;
    vx_inode *d = dir(where);
    Close close{m_, d};
    bool hold = pick(3) == 0;  // rows go with the name, also while somebody has the file open
    vx_inode *open = hold ? m_.open(d, name) : nullptr;
    EXPECT_EQ(m_.unlink(d, name), 0);
    forget_name(it, second);
    if (open) {
      search_one();
      m_.close(open);
    }
    counts_["unlink"]++;
    return false;
  }

  bool link_file() {
    if (now_.files.empty()) return false;
    auto it = any_of(now_.files);
    ModelFile &f = it->second;
    if (!f.second_name.empty()) return false;
    auto &[to, ino] = *any_of(now_.dirs);
    vx_inode *a = dir(f.dir), *b = dir(to);
    Close ca{m_, a}, cb{m_, b};
    vx_inode *ip = m_.open(a, f.name);
    std::string name = "l" + std::to_string(serial_++);
    vx_time t = Mount::now();
    EXPECT_EQ(vx_link(b, name.data(), name.size(), ip, &t), 0);
    m_.close(ip);
    f.second_dir = f.home = to;
    f.second_name = name;
    counts_["link"]++;
    return false;
  }

  bool rename_file() {
    if (now_.files.empty()) return false;
    auto it = any_of(now_.files);
    auto &[to, ino] = *any_of(now_.dirs);
    vx_inode *a = dir(it->second.dir), *b = dir(to);
    Close ca{m_, a}, cb{m_, b};
    std::string name = "f" + std::to_string(serial_++);
    if (pick(3) == 0)  // over another file
      for (auto other = now_.files.begin(); other != now_.files.end(); ++other)
        if (other->second.dir == to && other != it) {
          name = other->second.name;
          forget_name(other, false);
          break;
        }
    EXPECT_EQ(m_.rename(a, it->second.name, b, name), 0);
    if (it->second.dir != to) it->second.home = to;
    it->second.dir = to;
    it->second.name = name;
    counts_["rename"]++;
    return false;
  }

  // Owners are inodes: when two files change names their rows stay with them.
  bool exchange_files() {
    if (now_.files.size() < 2) return false;
    auto x = any_of(now_.files), y = any_of(now_.files);
    if (x == y) return false;
    ModelFile &f = x->second, &g = y->second;
    vx_inode *a = dir(f.dir), *b = dir(g.dir);
    Close ca{m_, a}, cb{m_, b};
    vx_time t = Mount::now();
    EXPECT_EQ(
        vx_rename(a, f.name.data(), f.name.size(), b, g.name.data(), g.name.size(), VX_RENAME_EXCHANGE, nullptr, &t),
        0);
    if (f.dir != g.dir) {
      f.home = g.dir;
      g.home = f.dir;
    }
    std::swap(f.dir, g.dir);
    std::swap(f.name, g.name);
    counts_["exchange"]++;
    return false;
  }

  void make_stale(uint64_t ino) {
    for (auto &[name, c] : now_.collections)
      for (auto &[id, r] : c.rows)
        if (r.owner == ino) r.fresh = false;
  }

  bool write_file() {
    if (now_.files.empty()) return false;
    auto it = any_of(now_.files);
    std::string &content = it->second.content;
    vx_inode *d = dir(it->second.dir);
    Close close{m_, d};
    vx_inode *f = m_.open(d, it->second.name);
    if (pick(5) == 0) {
      uint64_t size = pick(9000);
      vx_time t = Mount::now();
      EXPECT_EQ(vx_ptruncate(f, size, &t), 0);
      if (size != content.size()) make_stale(it->first);
      written_[it->first].push_back({std::min(size, content.size()), size_t{1} << 20});
      content.resize(size);
    } else {
      std::string data(1 + pick(5000), static_cast<char>('a' + pick(26)));
      uint64_t at = pick(3000);
      EXPECT_EQ(m_.write(f, data, at), 0);
      written_[it->first].push_back({std::min<size_t>(at, content.size()), data.size() + at});
      if (content.size() < at + data.size()) content.resize(at + data.size());
      content.replace(at, data.size(), data);
      make_stale(it->first);
    }
    m_.close(f);
    counts_["write"]++;
    return false;
  }

  void check_file(uint64_t ino, const ModelFile &want) {
    for (bool second : {false, true}) {
      if (second && want.second_name.empty()) break;
      vx_inode *d = dir(second ? want.second_dir : want.dir);
      Close close{m_, d};
      vx_inode *f = m_.open(d, second ? want.second_name : want.name);
      ASSERT_NE(f, nullptr) << want.dir << "/" << want.name;
      EXPECT_EQ(vx_ino(f), ino);
      std::string have(want.content.size() + 100, 'z');
      size_t done = 0;
      EXPECT_EQ(vx_pread(f, have.data(), have.size(), 0, &done), 0);
      have.resize(done);
      size_t at = static_cast<size_t>(
          std::mismatch(have.begin(), have.end(), want.content.begin(), want.content.end()).first - have.begin());
      EXPECT_TRUE(have == want.content) << want.dir << "/" << want.name << " differs at " << at << ": length " << done
                                        << " instead of " << want.content.size() << ", byte "
                                        << int{at < done ? have[at] : '-'} << " instead of "
                                        << int{at < want.content.size() ? want.content[at] : '-'};
      m_.close(f);
    }
  }

  // Blocks of a file are overwritten in place: after a crash they may hold what was written since the last commit. The
  // size is as committed, and where nothing was written so are the bytes.
  void adopt(uint64_t ino, ModelFile &f) {
    vx_inode *ip = nullptr;
    ASSERT_EQ(vx_iget(m_.fs(), ino, 0, &ip), 0);
    std::string have(f.content.size() + 100, 'z');
    size_t done = 0;
    EXPECT_EQ(vx_pread(ip, have.data(), have.size(), 0, &done), 0);
    vx_iput(ip);
    ASSERT_EQ(done, f.content.size());
    have.resize(done);
    for (auto &[at, len] : written_[ino])
      if (at < done) f.content.replace(at, std::min(len, done - at), have, at, std::min(len, done - at));
    EXPECT_TRUE(have == f.content) << f.dir << "/" << f.name << " differs where it was not written";
  }

  bool read_file() {
    if (now_.files.empty()) return false;
    auto it = any_of(now_.files);
    check_file(it->first, it->second);
    counts_["read"]++;
    return false;
  }

  Row vector_of(const ModelCollection &c) {
    Row r(c.dim);
    for (float &x : r)
      x = static_cast<float>(static_cast<int>(pick(201)) - 100) / (c.element == VEXFS_I8 ? 1.0f : 7.0f);
    r[0] += r[0] == 0 ? 1.0f : 0.0f;  // never the zero vector
    return r;
  }
  static ModelRow encoded(const ModelCollection &c, const Row &v) {
    ModelRow r;
    auto s = space(c);
    r.bytes.resize(s.row_bytes());
    EXPECT_TRUE(s.encode_row(v.data(), r.bytes.data(), &r.aux).ok());
    return r;
  }

  bool add_one() {
    auto &[name, c] = *any_of(now_.collections);
    vx_inode *d = dir(name);
    Close close{m_, d};
    Row v = vector_of(c);
    ModelRow r = encoded(c, v);
    r.tag = pick(10);
    uint64_t id = pick(2) ? VEXFS_ID_AUTO : pick(5000);
    if (!now_.files.empty() && pick(2)) r.owner = any_of(now_.files)->first;
    bool durable = pick(60) == 0;
    bool taken = id != VEXFS_ID_AUTO && c.rows.count(id);
    int e = m_.add(d, v, &id, durable ? VEXFS_VEC_DURABLE : 0, r.owner, r.tag);
    EXPECT_EQ(e, taken ? -EEXIST : 0);
    if (e) return false;
    EXPECT_FALSE(c.rows.count(id)) << "id given twice";
    c.rows[id] = r;
    counts_["add"]++;
    if (pick(8) == 0) expect_found(d, c, id, v);
    return durable ? commit() : false;
  }

  // The next search finds what was acknowledged: through the index where there is one.
  void expect_found(vx_inode *d, const ModelCollection &c, uint64_t id, const Row &v) {
    std::vector<vexfs_hit> hits;
    const uint32_t k = 20;
    m_.caller.denied.clear();
    EXPECT_EQ(m_.search(d, v, k, &hits, 0, 200), 0);
    auto own = brute(c, v, [id](uint64_t i, const ModelRow &) { return i == id; });
    ASSERT_EQ(own.size(), 1u);
    bool found = false, farther = hits.size() < std::min<size_t>(k, c.rows.size());
    for (auto &h : hits) {
      found = found || h.id == id;
      farther = farther || simd::key_from_f32(h.distance) > own[0].first;
    }
    // Inner product is no metric, and under cosine rows of one dimension are all one of two points: a walk can miss even
    // the row it asks for. Counted as recall.
    if (c.metric == VEXFS_IP || (c.metric == VEXFS_COSINE && c.dim == 1)) {
      found_ += found || !farther;
      wanted_++;
    } else {
      EXPECT_TRUE(found || !farther) << "id " << id << " of " << c.rows.size() << " rows is not found, metric "
                                     << c.metric << ", element " << c.element << ", dim " << c.dim;
    }
    counts_["insert_found"]++;
  }

  bool add_batch() {
    auto &[name, c] = *any_of(now_.collections);
    vx_inode *d = dir(name);
    Close close{m_, d};
    auto n = static_cast<uint32_t>(1 + pick(300));
    std::vector<float> data;
    std::vector<vexfs_row> rows(n);
    for (auto &r : rows) {
      Row v = vector_of(c);
      data.insert(data.end(), v.begin(), v.end());
      r = {};
      r.id = pick(3) ? VEXFS_ID_AUTO : pick(5000);
      r.tag = pick(10);
      r.owner_fd = -1;
      if (!now_.files.empty() && pick(3) == 0) r.owner = any_of(now_.files)->first;
    }
    uint16_t op = pick(2) ? VEXFS_BATCH_ADD : VEXFS_BATCH_UPSERT;
    auto given = rows;
    uint32_t done = 0;
    int e = m_.batch(d, op, data, c.dim, &rows, &done);
    for (uint32_t i = 0; i < n; i++) {
      bool taken = given[i].id != VEXFS_ID_AUTO && c.rows.count(given[i].id);
      if (taken && op == VEXFS_BATCH_ADD) {
        EXPECT_EQ(e, -EEXIST);
        EXPECT_EQ(done, i);
        return false;
      }
      EXPECT_TRUE(i < done || e == 0);
      if (i >= done) return false;
      ModelRow r = encoded(c, Row(data.begin() + i * c.dim, data.begin() + (i + 1) * c.dim));
      r.owner = given[i].owner;
      r.tag = given[i].tag;
      if (given[i].id != VEXFS_ID_AUTO) {
        EXPECT_EQ(rows[i].id, given[i].id);
      }
      c.rows[rows[i].id] = r;
    }
    EXPECT_EQ(e, 0);
    EXPECT_EQ(done, n);
    counts_["batch_rows"] += n;
    for (int look = 0; look < 2; look++) {
      auto i = static_cast<uint32_t>(pick(n));
      bool again = false;  // the last of rows with one id counts
      for (uint32_t j = i + 1; j < n; j++) again = again || rows[j].id == rows[i].id;
      if (!again) expect_found(d, c, rows[i].id, Row(data.begin() + i * c.dim, data.begin() + (i + 1) * c.dim));
    }
    return false;
  }

  bool update_one() {
    auto &[name, c] = *any_of(now_.collections);
    vx_inode *d = dir(name);
    Close close{m_, d};
    uint64_t id = !c.rows.empty() && pick(10) ? any_of(c.rows)->first : pick(5000);
    Row v = vector_of(c);
    int e = m_.update(d, id, v);
    auto it = c.rows.find(id);
    EXPECT_EQ(e, it == c.rows.end() ? -ENOENT : 0);
    if (e) return false;
    ModelRow r = encoded(c, v);
    r.owner = it->second.owner;
    r.tag = it->second.tag;
    it->second = r;
    counts_["update"]++;
    return false;
  }

  bool delete_one() {
    auto &[name, c] = *any_of(now_.collections);
    vx_inode *d = dir(name);
    Close close{m_, d};
    uint64_t id = !c.rows.empty() && pick(10) ? any_of(c.rows)->first : pick(5000);
    EXPECT_EQ(m_.del(d, id), c.rows.count(id) ? 0 : -ENOENT);
    c.rows.erase(id);
    counts_["delete"]++;
    return false;
  }

  bool delete_batch() {
    auto &[name, c] = *any_of(now_.collections);
    if (c.rows.empty()) return false;
    vx_inode *d = dir(name);
    Close close{m_, d};
    std::vector<vexfs_row> rows;
    for (uint64_t i = pick(60) + 1; i > 0; i--) {
      vexfs_row r{};
      r.id = any_of(c.rows)->first;
      rows.push_back(r);
    }
    uint32_t done = 0;
    int e = m_.batch(d, VEXFS_BATCH_DELETE, {}, c.dim, &rows, &done);
    uint32_t i = 0;
    for (; i < rows.size(); i++)
      if (!c.rows.erase(rows[i].id)) break;  // an id named twice: the second is not there any more
    EXPECT_EQ(done, i);
    EXPECT_EQ(e, i == rows.size() ? 0 : -ENOENT);
    counts_["delete"] += i;
    return false;
  }

  void check_row(vx_inode *d, const ModelCollection &c, uint64_t id) {
    Row v;
    vexfs_row row;
    int e = m_.get(d, id, &v, &row);
    auto it = c.rows.find(id);
    EXPECT_EQ(e, it == c.rows.end() ? -ENOENT : 0) << "id " << id;
    if (e || it == c.rows.end()) return;
    Row want(c.dim);
    space(c).decode_row(it->second.bytes.data(), want.data());
    EXPECT_EQ(v, want) << "id " << id;
    EXPECT_EQ(row.owner, it->second.owner);
    EXPECT_EQ(row.tag, it->second.tag);
    EXPECT_EQ(bool(row.flags & VEXFS_ROW_STALE), it->second.owner != 0 && !it->second.fresh) << "id " << id;
  }

  bool get_one() {
    auto &[name, c] = *any_of(now_.collections);
    vx_inode *d = dir(name);
    Close close{m_, d};
    check_row(d, c, !c.rows.empty() && pick(4) ? any_of(c.rows)->first : pick(5000));
    counts_["get"]++;
    return false;
  }

  bool manage() {
    auto &[name, c] = *any_of(now_.collections);
    vx_inode *d = dir(name);
    Close close{m_, d};
    vexfs_index x{};
    switch (pick(5)) {
      case 0:
        EXPECT_EQ(m_.index(d, VEXFS_INDEX_DROP, &x), 0);
        c.index = VEXFS_INDEX_FLAT;
        break;
      case 1:
        EXPECT_EQ(m_.index(d, VEXFS_INDEX_BUILD, &x, VEXFS_INDEX_HNSW), 0);
        c.index = VEXFS_INDEX_HNSW;
        break;
      case 2:
        EXPECT_EQ(m_.index(d, VEXFS_INDEX_REBUILD, &x, VEXFS_INDEX_HNSW), 0);
        c.index = VEXFS_INDEX_HNSW;
        break;
      case 3:
        EXPECT_EQ(m_.index(d, VEXFS_INDEX_CHECKPOINT, &x), 0);
        break;
      default:
        EXPECT_EQ(m_.index(d, VEXFS_INDEX_STATUS, &x), 0);
        break;
    }
    EXPECT_EQ(x.kind, c.index);
    EXPECT_EQ(x.rows, c.rows.size());
    counts_["manage"]++;
    return false;
  }

  bool search_one() {
    if (now_.collections.empty()) return false;
    auto &[name, c] = *any_of(now_.collections);
    vx_inode *d = dir(name);
    Close close{m_, d};
    Row q = vector_of(c);
    auto k = static_cast<uint32_t>(1 + pick(30));
    std::function<bool(uint64_t, const ModelRow &)> take = [](uint64_t, const ModelRow &) { return true; };
    std::vector<vexfs_filter> filters;
    uint32_t flags = 0;
    m_.caller.denied.clear();
    uint64_t kind = pick(7);
    SCOPED_TRACE("search of kind " + std::to_string(kind));
    switch (kind) {
      case 0: {
        uint64_t lo = pick(4000), hi = lo + pick(1500);
        filters.push_back({VEXFS_FILTER_ID_RANGE, 0, lo, hi, 0});
        take = [=](uint64_t id, const ModelRow &) { return id >= lo && id <= hi; };
        break;
      }
      case 1: {
        uint64_t lo = pick(10), hi = pick(10);
        bool negate = pick(2);
        filters.push_back({VEXFS_FILTER_TAG_RANGE, negate ? VEXFS_FILTER_NOT : 0, lo, hi, 0});
        take = [=](uint64_t, const ModelRow &r) { return (r.tag >= lo && r.tag <= hi) != negate; };
        break;
      }
      case 2: {
        uint64_t owner = now_.files.empty() ? 1 : any_of(now_.files)->first;
        filters.push_back({VEXFS_FILTER_OWNER, 0, owner, 0, 0});
        take = [=](uint64_t, const ModelRow &r) { return r.owner == owner; };
        break;
      }
      case 3: {
        auto &[below, ino] = *any_of(now_.dirs);
        filters.push_back({VEXFS_FILTER_SUBTREE, 0, ino, 0, 0});
        std::string where = below;
        take = [this, where](uint64_t, const ModelRow &r) {
          auto f = now_.files.find(r.owner);
          return f != now_.files.end() && f->second.home == where;
        };
        break;
      }
      case 4:
        for (auto &[ino, where] : now_.files)
          if (pick(2)) m_.caller.denied.insert({ino, 4u});
        take = [this](uint64_t, const ModelRow &r) { return !m_.caller.denied.count({r.owner, 4u}); };
        break;
      case 5:
        flags = VEXFS_SEARCH_SKIP_STALE;
        take = [](uint64_t, const ModelRow &r) { return r.owner == 0 || r.fresh; };
        break;
      default:
        break;
    }
    auto want = brute(c, q, take);
    bool exact = c.index == VEXFS_INDEX_FLAT || pick(2);
    if (exact) flags |= VEXFS_SEARCH_EXACT;
    const auto *f = filters.empty() ? nullptr : &filters;
    switch (shapes_() % 6) {
      case 0:
        pages(c, d, q, k, flags, f, want);
        break;
      case 1:
        by_owner(c, d, q, k, flags, f, take, want);
        break;
      case 2:
        if (exact) within(c, d, q, k, flags, f, take, want);
        break;
      default: {
        want.resize(std::min<size_t>(want.size(), k));
        std::vector<vexfs_hit> hits;
        EXPECT_EQ(m_.search(d, q, k, &hits, flags, 100, nullptr, f), 0);
        judge(c, take, want, hits, exact);
      }
    }
    m_.caller.denied.clear();
    counts_["search"]++;
    return false;
  }

  using Want = std::vector<std::pair<uint32_t, uint64_t>>;
  using Take = std::function<bool(uint64_t, const ModelRow &)>;

  // All pages, one behind the other: exactly the whole, or by way of the index no row twice, in order.
  void pages(const ModelCollection &c, vx_inode *d, const Row &q, uint32_t k, uint32_t flags,
             const std::vector<vexfs_filter> *filters, const Want &want) {
    k += 20;
    vexfs_search s{};
    s.after_distance = 0xff800000;  // -infinity
    std::set<uint64_t> seen;
    uint32_t key = 0;
    for (bool more = true; more;) {
      vexfs_search now = s;
      std::vector<vexfs_hit> hits;
      ASSERT_EQ(m_.search(d, q, k, &hits, flags | VEXFS_SEARCH_AFTER, 100, &now, filters), 0);
      for (const auto &h : hits) {
        EXPECT_TRUE(c.rows.count(h.id));
        EXPECT_GE(simd::key_from_f32(h.distance), key);
        key = simd::key_from_f32(h.distance);
        if (flags & VEXFS_SEARCH_EXACT && seen.size() < want.size()) {
          EXPECT_EQ(key, want[seen.size()].first);
        }
        EXPECT_TRUE(seen.insert(h.id).second) << "a hit twice: " << h.id;
      }
      more = !hits.empty() && hits.back().flags & VEXFS_ROW_MORE;
      if (!hits.empty()) s.after_distance = hits.back().distance, s.after_slot = hits.back().slot;
    }
    if (flags & VEXFS_SEARCH_EXACT) {
      EXPECT_EQ(seen.size(), want.size());
    }
    counts_["pages"]++;
  }

  // As many owners as there are, up to k, each once.
  void by_owner(const ModelCollection &c, vx_inode *d, const Row &q, uint32_t k, uint32_t flags,
                const std::vector<vexfs_filter> *filters, const Take &take, const Want &all) {
    Want want;
    std::set<uint64_t> of{0}, found{0};
    for (const auto &w : all)
      if (of.insert(c.rows.at(w.second).owner).second && want.size() < k) want.push_back(w);
    std::vector<vexfs_hit> hits;
    ASSERT_EQ(m_.search(d, q, k, &hits, flags | VEXFS_SEARCH_BY_OWNER, 100, nullptr, filters), 0);
    for (const auto &h : hits) EXPECT_TRUE(found.insert(h.owner).second) << "an owner twice";
    judge(c, take, want, hits, flags & VEXFS_SEARCH_EXACT);
    counts_["by_owner"]++;
  }

  void within(const ModelCollection &c, vx_inode *d, const Row &q, uint32_t k, uint32_t flags,
              const std::vector<vexfs_filter> *filters, const Take &take, Want want) {
    if (want.empty()) return;
    const uint32_t key = want[shapes_() % want.size()].first;
    size_t n = 0;
    while (n < want.size() && want[n].first <= key) n++;
    want.resize(std::min<size_t>(n, k));
    vexfs_search s{};
    s.radius = simd::f32_from_key(key);
    std::vector<vexfs_hit> hits;
    ASSERT_EQ(m_.search(d, q, k, &hits, flags | VEXFS_SEARCH_RADIUS, 100, &s, filters), 0);
    judge(c, take, want, hits, true);
    EXPECT_EQ(!hits.empty() && hits.back().flags & VEXFS_ROW_MORE, n > k);
    counts_["within"]++;
  }

  void judge(const ModelCollection &c, const std::function<bool(uint64_t, const ModelRow &)> &take,
             const std::vector<std::pair<uint32_t, uint64_t>> &want, const std::vector<vexfs_hit> &hits, bool exact) {
    EXPECT_EQ(hits.size(), want.size());
    std::set<uint64_t> ids;
    size_t found = 0;
    for (size_t i = 0; i < hits.size(); i++) {
      auto it = c.rows.find(hits[i].id);
      ASSERT_TRUE(it != c.rows.end()) << "a hit that does not exist: " << hits[i].id;
      EXPECT_TRUE(take(hits[i].id, it->second)) << "a hit that the filter refuses";
      EXPECT_TRUE(ids.insert(hits[i].id).second) << "a hit twice";
      EXPECT_EQ(hits[i].owner, it->second.owner);
      if (i) {
        EXPECT_LE(simd::key_from_f32(hits[i - 1].distance), simd::key_from_f32(hits[i].distance));
      }
      if (exact && i < want.size()) {
        EXPECT_EQ(hits[i].distance, simd::f32_from_key(want[i].first));
      }
      found += !want.empty() && simd::key_from_f32(hits[i].distance) <= want.back().first;
    }
    if (!exact) {
      found_ += std::min(found, want.size());
      wanted_ += want.size();
    }
  }

  void check_some() {
    for (auto &[name, c] : now_.collections) {
      vx_inode *d = dir(name);
      Close close{m_, d};
      EXPECT_EQ(m_.info(d).rows, c.rows.size());
      for (int i = 0; i < 5 && !c.rows.empty(); i++) check_row(d, c, any_of(c.rows)->first);
    }
    for (int i = 0; i < 5 && !now_.files.empty(); i++) {
      auto it = any_of(now_.files);
      check_file(it->first, it->second);
    }
  }
  void check_all() {
    for (auto &[ino, f] : now_.files) check_file(ino, f);
    for (auto &[name, c] : now_.collections) {
      vx_inode *d = dir(name);
      Close close{m_, d};
      vexfs_collection info = m_.info(d);
      EXPECT_EQ(info.rows, c.rows.size());
      EXPECT_EQ(info.id, c.cid);
      for (auto &[id, r] : c.rows) check_row(d, c, id);
    }
  }

  std::mt19937_64 rng_;
  std::mt19937_64 shapes_{4};  // apart: which way a search is done does not change what comes after it
  Mount m_;
  ModelState now_, saved_;
  std::map<uint64_t, std::vector<std::pair<size_t, size_t>>> written_;  // since the last commit: offset, length at most
  uint64_t serial_ = 0, found_ = 0, wanted_ = 0, operations_ = 0;
  std::map<std::string, uint64_t> counts_;
};

}  // namespace vexfs::vector::test
