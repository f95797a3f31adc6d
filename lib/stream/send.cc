// SPDX-License-Identifier: MIT
// Makes a stream: names first, then contents, vectors, attributes.
#include "send.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "../../include/uapi/vexfs.h"
#include "../client/commands.h"
#include "plan.h"

namespace vexfs::stream {
namespace {

constexpr uint32_t locked = immutable | append_only;
constexpr size_t compare_step = 4096;  // bytes of a file that are sent or not

bool private_xattr(const std::string &name) { return name.compare(0, 14, "trusted.vexfs.") == 0; }

size_t depth(const std::string &path) { return static_cast<size_t>(std::count(path.begin(), path.end(), '/')); }

class Sender {
 public:
  Sender(const Source &s, Writer &out) : s_(s), out_(out), plan_(s.then, *s.now) {
    if (s.then)
      plan_.changes(*s.filesystem, s.header.base_id, s.header.id);
    else
      plan_.all();
  }

  Summary run() {
    Record h;
    h.type = Type::header;
    h.header = s_.header;
    h.header.staging = plan_.moves ? staging_ = free_name() : "";
    put(h);
    phase(detach);
    if (s_.then) send_detach();
    phase(directories);
    send_directories();
    phase(names);
    send_names();
    phase(contents);
    send_collections();
    send_contents();
    phase(vectors);
    send_vectors();
    phase(attributes);
    send_all_attributes();
    out_.end();
    summary_.header = h.header;
    summary_.records = out_.records();
    summary_.bytes = out_.bytes();
    return summary_;
  }

 private:
  void put(const Record &r) {
    out_.put(r);
    summary_.count(r);
  }
  void put(Type t, const std::string &path, const std::string &to = "") {
    Record r;
    r.type = t;
    r.path = path;
    r.to = to;
    put(r);
  }
  void phase(Phase p) {
    Record r;
    r.type = Type::phase;
    r.phase = p;
    put(r);
  }
  std::string staged(uint64_t ino) const { return staging_ + "/i" + std::to_string(ino); }

  // A name in the root that neither snapshot has.
  std::string free_name() {
    for (unsigned i = 0;; i++) {
      std::string name = ".vexfs-receive" + (i ? "." + std::to_string(i) : "");
      Attr a;
      if (!s_.now->stat(name, &a) && !s_.then->stat(name, &a)) return name;
    }
  }

  // ------------------------------------------------------------------ names
  void clear_if_locked(const std::string &path, std::set<std::string> *done) {
    Attr a;
    if (s_.then->stat(path, &a) && (a.flags & locked) && done->insert(path).second) put(Type::clear, path);
  }

  void send_detach() {
    Names &before = *plan_.names_then;
    std::set<std::string> cleared;
    struct Loss {
      size_t depth;
      std::string path;
      uint64_t ino;
    };
    std::vector<Loss> losses;
    for (auto &[ino, o] : plan_.objects) {
      if (o.entries && before.exists(ino)) clear_if_locked(*before.path(ino), &cleared);
      for (const Name &n : o.removed) {
        const std::string path = before.path(n);
        losses.push_back({depth(path), path, ino});
        clear_if_locked(path, &cleared);
        clear_if_locked(*before.path(n.dir), &cleared);
      }
      const bool had_vectors = (o.what & VEXFS_CHANGED_VECTORS) && !o.directory && !(o.what & VEXFS_CHANGED_DELETED);
      if (o.created || !o.removed.empty() || (o.added.empty() && !had_vectors)) continue;
      if (const auto path = plan_.path(ino)) clear_if_locked(plan_then_path(ino), &cleared);
    }
    for (uint64_t dir : plan_.dropped)
      if (before.exists(dir)) {
        clear_if_locked(*before.path(dir), &cleared);
        put(Type::drop, *before.path(dir));
      }
    // What is in a directory leaves before the directory does.
    std::stable_sort(losses.begin(), losses.end(), [](const Loss &a, const Loss &b) { return a.depth > b.depth; });
    for (const Loss &l : losses) {
      Object &o = plan_.objects[l.ino];
      if (o.added.empty() || o.staged) {
        put(o.directory ? Type::rmdir : Type::unlink, l.path);
      } else {
        put(Type::move, l.path, staged(l.ino));
        o.staged = true;
      }
    }
  }
  std::string plan_then_path(uint64_t ino) {
    plan_.names_then->want(ino);
    if (auto p = plan_.names_then->path(ino)) return *p;
    plan_.names_then->read_all();
    if (auto p = plan_.names_then->path(ino)) return *p;
    throw client::Error(EIO, s_.then->name() + ": inode " + std::to_string(ino) + " has no name");
  }

  void send_directories() {
    std::vector<std::pair<std::string, uint64_t>> come;
    for (auto &[ino, o] : plan_.objects)
      if (o.directory && !o.added.empty()) come.emplace_back(plan_.names_now->path(o.added.front()), ino);
    std::stable_sort(come.begin(), come.end(),
                     [](const auto &a, const auto &b) { return depth(a.first) < depth(b.first); });
    for (const auto &[path, ino] : come) {
      if (plan_.objects[ino].staged)
        put(Type::move, staged(ino), path);
      else
        put(Type::mkdir, path);
    }
  }

  void send_names() {
    for (auto &[ino, o] : plan_.objects) {
      if (o.directory || o.added.empty()) continue;
      std::string first;
      for (const Name &n : o.added) {
        const std::string path = plan_.names_now->path(n);
        if (!first.empty())
          put(Type::link, first, path);
        else if (o.staged)
          put(Type::move, staged(ino), path);
        else if (o.created)
          send_create(path, ino);
        else
          put(Type::link, plan_.kept(ino), path);
        if (first.empty()) first = path;
      }
    }
  }

  void send_create(const std::string &path, uint64_t ino) {
    const Attr a = s_.now->need(path);
    Record r;
    r.type = Type::create;
    r.path = path;
    r.ino = ino;
    r.mode = a.type();
    r.major = a.major;
    r.minor = a.minor;
    if (a.type() == 0120000) r.text = s_.now->read_link(path);
    put(r);
  }

  // ------------------------------------------------------------------ contents
  // Does it have what the first readers of streams did not know of?
  static bool has_params(const vexfs_collection &c) {
    return c.lists || c.probes || c.pq_m || c.tables || c.bits || c.codes || c.recall ||
           (c.flags & VEXFS_COLLECTION_COMPACT);
  }
  void send_collections() {
    collections_ = client::collection_list(*s_.now->target(""));
    std::set<uint64_t> had_params;
    if (s_.then)
      for (const vexfs_collection &c : client::collection_list(*s_.then->target("")))
        if (has_params(c)) had_params.insert(c.id);
    for (const vexfs_collection &c : collections_) {
      const auto path = plan_.names_now->path(c.dir_ino);
      if (!path) continue;
      Record r;
      r.type = Type::collection;
      r.path = *path;
      // Whoever is to change it has to unlock it, and is told afterwards what it is to be.
      if (s_.now->need(*path).flags & locked) plan_.objects[c.dir_ino].directory = true;
      r.collection = c.id;
      r.dim = c.dim;
      r.element = c.element;
      r.metric = c.metric;
      r.index = c.index;
      r.m = c.m;
      r.ef_construction = c.ef_construction;
      r.ef_search = c.ef_search;
      r.name.assign(c.name, strnlen(c.name, sizeof c.name));
      r.text.assign(c.model, strnlen(c.model, sizeof c.model));
      r.with_params = has_params(c) || had_params.count(c.id);
      r.lists = c.lists;
      r.probes = c.probes;
      r.pq_m = c.pq_m;
      r.tables = c.tables;
      r.bits = c.bits;
      r.codes = c.codes;
      r.recall = c.recall;
      r.flags = c.flags & VEXFS_COLLECTION_COMPACT ? collection_compact : 0;
      put(r);
    }
  }

  void send_contents() {
    for (auto &[ino, o] : plan_.objects) {
      if (o.directory || (o.what & VEXFS_CHANGED_DELETED)) continue;
      const bool written = o.what & (VEXFS_CHANGED_DATA | VEXFS_CHANGED_WRITTEN);
      if (!o.created && !written && !(o.what & VEXFS_CHANGED_ATTRIBUTES)) continue;
      const auto path = plan_.path(ino);
      if (!path) continue;
      const Attr a = s_.now->need(*path);
      if (!a.is_file()) continue;
      if (o.created) {
        if (a.size || (a.flags & no_sum)) send_file(*path, a, nullptr, false);
        continue;
      }
      const std::string old = plan_then_path(ino);
      const Attr before = s_.then->need(old);
      if (!written && ((a.flags ^ before.flags) & no_sum) == 0) continue;
      const std::unique_ptr<File> then = s_.then->open(old, false);
      send_file(*path, a, then.get(), o.what & VEXFS_CHANGED_WRITTEN, before.size);
    }
  }

  // touched: it has been written to, which its vectors are to know even if it has become what it was.
  void send_file(const std::string &path, const Attr &a, File *then, bool touched, uint64_t size_then = 0) {
    Record r;
    r.type = Type::file;
    r.path = path;
    r.size = a.size;
    r.flags = a.flags & no_sum;
    put(r);
    const std::unique_ptr<File> now = s_.now->open(path, false);
    bool changed = then && size_then != a.size;
    for (uint64_t off = 0; off < a.size;) {
      Extent e = now->extent(off);
      uint64_t end = std::min(e.end, a.size);
      Extent old{UINT64_MAX, false, 0};
      if (then && off < size_then) {
        old = then->extent(off);
        // Up to its end: what a block has beyond it is nothing that a reader of the older file would see.
        end = std::min({end, size_then, std::max(old.end, off + 1)});
      }
      if (end <= off) throw client::Error(EIO, path + ": its extents make no sense");
      const bool same_place = e.data && old.data && e.disk && e.disk == old.disk;
      if (e.data && !same_place) changed |= send_range(path, *now, old.data ? then : nullptr, off, end);
      if (!e.data && old.data) {
        Record h;
        h.type = Type::hole;
        h.offset = off;
        h.length = end - off;
        put(h);
        changed = true;
      }
      off = end;
    }
    if (then && touched && !changed) put(Type::touch, "");
  }

  // Data of [from, to), without what `then` has as well. True: there was some.
  bool send_range(const std::string &path, File &now, File *then, uint64_t from, uint64_t to) {
    std::string data(data_step, '\0'), old(data_step, '\0');
    bool any = false;
    while (from < to) {
      // Steps stay at multiples of their own size, so that blocks are compared with blocks.
      const size_t n = static_cast<size_t>(std::min<uint64_t>(to - from, data_step - from % data_step));
      if (now.read(from, data.data(), n) != n) throw client::Error(EIO, path + ": it is shorter than it says");
      size_t had = 0;
      if (then) {
        had = then->read(from, old.data(), n);
        memset(old.data() + had, 0, n - had);
      }
      for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n) {  // as long as it differs
          const size_t step = std::min(compare_step - (from + end) % compare_step, n - end);
          if (then && memcmp(data.data() + end, old.data() + end, step) == 0) break;
          end += step;
        }
        if (end > i) {
          Record w;
          w.type = Type::write;
          w.offset = from + i;
          w.data = data.substr(i, end - i);
          put(w);
          any = true;
        }
        if (end < n) end += std::min(compare_step - (from + end) % compare_step, n - end);
        i = end;
      }
      from += n;
    }
    return any;
  }

  // ------------------------------------------------------------------ vectors
  enum class Rows { all, added, gone };
  void each_row(uint64_t collection, uint64_t owner, Rows which,
                const std::function<void(const vexfs_snapshot_row &)> &fn) {
    std::vector<vexfs_snapshot_row> some(1024);
    const bool compare = s_.then && which != Rows::all;
    const std::unique_ptr<client::Target> view = compare ? nullptr : s_.now->target("");
    client::Target &at = compare ? *s_.filesystem : *view;
    vexfs_snapshot_rows v{};
    v.size = sizeof v;
    v.flags = which == Rows::gone ? VEXFS_ROWS_GONE : 0;
    v.from = compare ? s_.header.base_id : 0;
    v.to = compare ? s_.header.id : 0;
    v.collection = collection;
    v.owner = owner;
    v.rows = reinterpret_cast<uintptr_t>(some.data());
    v.capacity = static_cast<uint32_t>(some.size());
    v.entry_size = sizeof(vexfs_snapshot_row);
    while (!v.done) {
      const int rc = at.command(VEXFS_IOCTL_SNAPSHOT_ROWS, &v);
      if (rc != 0) throw client::command_error(at.path(), "compare vectors", -rc);
      if (v.count == 0 && !v.done) throw client::Error(EIO, at.path() + ": compare vectors: no progress");
      for (uint32_t i = 0; i < std::min<size_t>(v.count, some.size()); i++) fn(some[i]);
    }
  }

  const vexfs_collection *find(uint64_t id) const {
    for (const auto &c : collections_)
      if (c.id == id) return &c;
    return nullptr;
  }

  void send_gone(uint64_t id) {
    Record r;
    r.type = Type::rows_gone;
    r.collection = id;
    each_row(id, VEXFS_OWNER_ANY, Rows::gone, [&](const vexfs_snapshot_row &row) {
      r.ids.push_back(row.row.id);
      if (r.ids.size() < 4096) return;
      put(r);
      r.ids.clear();
    });
    if (!r.ids.empty()) put(r);
  }

  // Rows with their elements, some at a time.
  void flush_rows(uint64_t collection, const std::string &owner, std::vector<uint64_t> *ids, bool fresh_only) {
    const vexfs_collection *c = find(collection);
    if (ids->empty() || !c) return ids->clear();
    std::vector<vexfs_row> rows(ids->size());
    for (size_t i = 0; i < rows.size(); i++) rows[i].id = (*ids)[i];
    Record r;
    r.type = Type::rows;
    r.collection = collection;
    r.path = owner;
    r.owned = !owner.empty();
    r.element = c->element;
    r.dim = c->dim;
    r.data.resize(rows.size() * c->dim * client::element_bytes(c->element));
    const auto at = s_.now->target("");
    vexfs_batch b{};
    b.size = sizeof b;
    b.collection = collection;
    b.op = VEXFS_BATCH_GET;
    b.rows = reinterpret_cast<uintptr_t>(rows.data());
    b.data = reinterpret_cast<uintptr_t>(r.data.data());
    b.count = static_cast<uint32_t>(rows.size());
    b.dim = c->dim;
    b.element = c->element;
    if (const int rc = at->command(VEXFS_IOCTL_BATCH_OPERATIONS, &b); rc != 0)
      throw client::command_error(at->path(), "read vectors of collection " + std::to_string(collection), -rc);
    ids->clear();
    const size_t bytes = c->dim * client::element_bytes(c->element);
    size_t kept = 0;
    for (size_t i = 0; i < rows.size(); i++) {
      const uint32_t stale = owner.empty() ? 0 : rows[i].flags & VEXFS_ROW_STALE;
      if (stale && fresh_only) continue;
      r.rows.push_back({rows[i].id, rows[i].offset, rows[i].length, rows[i].tag, stale});
      if (kept != i) memcpy(r.data.data() + kept * bytes, r.data.data() + i * bytes, bytes);
      kept++;
    }
    r.data.resize(kept * bytes);
    if (kept) put(r);
  }

  using RowKey = std::pair<uint64_t, uint64_t>;  // collection, id
  // sent: those that are sent are entered. known, with Rows::all: fresh ones alone, without those.
  void send_rows(uint64_t collection, uint64_t owner, const std::string &path, Rows which, std::set<RowKey> *sent,
                 const std::set<RowKey> *known) {
    std::vector<uint64_t> ids;
    uint64_t of = 0;
    each_row(collection, owner, which, [&](const vexfs_snapshot_row &row) {
      const vexfs_collection *c = find(row.collection);
      if (!c || (known && known->count({row.collection, row.row.id}))) return;
      const size_t room = std::max<size_t>(1, data_step / (c->dim * client::element_bytes(c->element)));
      if (row.collection != of || ids.size() >= std::min<size_t>(room, 4096))
        flush_rows(of, path, &ids, known != nullptr);
      of = row.collection;
      ids.push_back(row.row.id);
      if (sent) sent->insert({row.collection, row.row.id});
    });
    flush_rows(of, path, &ids, known != nullptr);
  }

  // The rows of a file. One that was written to makes those stale that it keeps, which they are here, too; but after a
  // rollback of the source a row may fit the file again.
  void send_owned(uint64_t ino, uint32_t what, const std::string &path) {
    std::set<RowKey> sent;
    const bool written = s_.then && (what & VEXFS_CHANGED_WRITTEN);
    send_rows(0, ino, path, Rows::added, written ? &sent : nullptr, nullptr);
    if (written) send_rows(0, ino, path, Rows::all, nullptr, &sent);
  }

  void send_vectors() {
    std::set<uint64_t> owners, before;
    if (s_.then)
      for (const auto &c : client::collection_list(*s_.then->target(""))) before.insert(c.id);
    for (const vexfs_collection &c : collections_) {
      if (s_.then && !plan_.collections.count(c.dir_ino)) continue;
      if (before.count(c.id)) send_gone(c.id);
      if (!s_.then)
        each_row(c.id, VEXFS_OWNER_ANY, Rows::all, [&](const vexfs_snapshot_row &r) {
          if (r.row.owner) owners.insert(r.row.owner);
        });
    }
    for (const vexfs_collection &c : collections_)
      if (!s_.then || plan_.collections.count(c.dir_ino)) send_rows(c.id, 0, "", Rows::added, nullptr, nullptr);
    if (s_.then)
      for (auto &[ino, o] : plan_.objects)
        if ((o.what & (VEXFS_CHANGED_VECTORS | VEXFS_CHANGED_WRITTEN)) && !(o.what & VEXFS_CHANGED_DELETED) &&
            !o.directory)
          owners.insert(ino);
    for (uint64_t ino : owners) {
      const auto it = plan_.objects.find(ino);
      if (it == plan_.objects.end()) continue;  // it has no name, and its rows are going
      if (const auto path = plan_.path(ino); path && !path->empty()) send_owned(ino, it->second.what, *path);
    }
  }

  // ------------------------------------------------------------------ attributes
  // Directories last, and of them the deepest first: as long as something is to be done below one, nobody else owns it.
  void send_all_attributes() {
    struct Place {
      size_t depth;
      std::string path;
      uint64_t ino;
    };
    std::vector<Place> directories;
    for (const auto &[ino, o] : plan_.objects) {
      if (o.what & VEXFS_CHANGED_DELETED) continue;
      const auto path = plan_.path(ino);
      if (!path) continue;
      if (o.directory)
        directories.push_back({path->empty() ? 0 : depth(*path) + 1, *path, ino});
      else
        send_attributes(*path, o);
    }
    std::stable_sort(directories.begin(), directories.end(),
                     [](const Place &a, const Place &b) { return a.depth > b.depth; });
    for (const Place &d : directories) send_attributes(d.path, plan_.objects[d.ino]);
  }

  void send_attributes(const std::string &path, const Object &o) {
    Attr a;
    if (!s_.now->stat(path, &a)) return;
    Record r;
    r.type = Type::inode;
    r.path = path;
    r.mode = a.mode;
    r.uid = a.uid;
    r.gid = a.gid;
    // What is written to, or given to somebody, loses its capabilities (security.capability) at the receiver.
    constexpr uint32_t strips = VEXFS_CHANGED_DATA | VEXFS_CHANGED_WRITTEN | VEXFS_CHANGED_ATTRIBUTES;
    r.with_xattrs = !s_.then || o.created || (o.what & VEXFS_CHANGED_XATTRS) || (!o.directory && (o.what & strips));
    put(r);
    if (r.with_xattrs)
      for (const std::string &name : s_.now->xattrs(path)) {
        Record x;
        x.type = Type::xattr;
        x.name = name;
        if (!private_xattr(name) && s_.now->xattr(path, name, &x.data)) put(x);
      }
    Record t;
    t.type = Type::attributes;
    t.flags = a.flags;
    t.atime = a.atime;
    t.mtime = a.mtime;
    t.ctime = a.ctime;
    t.btime = a.btime;
    put(t);
  }

  const Source &s_;
  Writer &out_;
  Plan plan_;
  std::string staging_;
  std::vector<vexfs_collection> collections_;
  Summary summary_;
};

}  // namespace

Summary send(const Source &source, Writer &out) { return Sender(source, out).run(); }

}  // namespace vexfs::stream
