// SPDX-License-Identifier: MIT
// Applies a stream to a tree. What makes it safe to begin again: every phase is durable before the next one begins, the
// tree says which one that is, and doing a phase again, from its begin, has the same result as doing it once.
#include "receive.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <unordered_map>

#include "../../include/uapi/vexfs.h"
#include "../client/commands.h"

namespace vexfs::stream {
namespace {

constexpr uint32_t locked = immutable | append_only;
constexpr char forced_mark[] = ";forced";

// "uuid id txn": which snapshot. With the base's, which stream.
std::string identity(const Uuid &uuid, uint64_t id, uint64_t txn) {
  return uuid_text(uuid) + " " + std::to_string(id) + " " + std::to_string(txn);
}

class Receiver {
 public:
  Receiver(Reader &reader, Tree &tree, const ReceiveOptions &o) : reader_(reader), tree_(tree), o_(o) {}

  Received run() {
    Record r;
    if (!reader_.next(&r)) throw Damage("it is empty");
    begin(r.header);
    if (!result_.already && o_.starting) o_.starting(header_);
    result_.summary.count(r);
    while (reader_.next(&r)) {
      result_.summary.count(r);
      if (r.type == Type::phase)
        begin_phase(r.phase);
      else if (!skipped() || r.type == Type::collection)
        apply(r);
    }
    finish_file();
    finish();
    result_.summary.header = header_;
    result_.summary.records = reader_.records();
    result_.summary.bytes = reader_.bytes();
    return result_;
  }

 private:
  // ------------------------------------------------------------------ is this the right tree?
  void begin(const Header &h) {
    header_ = h;
    mine_ = identity(h.uuid, h.id, h.txn);
    stream_ = mine_ + " from " + (h.incremental() ? std::to_string(h.base_id) : "nothing");
    result_.name = o_.name.empty() ? h.name : o_.name;
    std::string under_way, received;
    bool interrupted = tree_.xattr("", receiving_xattr, &under_way);
    tree_.xattr("", received_xattr, &received);
    if (interrupted && settled(under_way, received)) {
      tree_.remove_xattr("", receiving_xattr);
      interrupted = false;
    }
    if (interrupted && under_way.compare(0, stream_.size() + 1, stream_ + ";") == 0)
      return resume(under_way.substr(stream_.size() + 1));
    forced_ = o_.force && h.incremental();
    if (forced_) return;
    if (interrupted && !o_.force)
      throw client::Error(EBUSY, tree_.name() + ": the receive of another stream was interrupted here (" +
                                     printable(under_way) + "): receive that one again, or use --force");
    if (!interrupted && received.compare(0, mine_.size() + 1, mine_ + " ") == 0) {
      if (!has_snapshot(received))
        throw client::Error(ESTALE, tree_.name() + ": snapshot '" + h.name +
                                        "' was received before, but its snapshot is gone; what is here may have "
                                        "changed: receive it into an empty directory");
      result_.already = true;
      result_.name = local_name(received);
      resume_ = finished;
      return;
    }
    if (h.incremental())
      check_base(received);
    else
      check_empty(received);
  }

  static std::string local_name(const std::string &received) {  // "uuid id txn NAME"
    size_t at = 0;
    for (int i = 0; i < 3 && at != std::string::npos; i++) at = received.find(' ', at ? at + 1 : 0);
    return at == std::string::npos ? "" : received.substr(at + 1);
  }
  bool has_snapshot(const std::string &received) {
    const std::string name = local_name(received);
    return !o_.kept || (!name.empty() && o_.kept(name, received));
  }

  // All was done but for taking the mark off. So it is, too, where the tree was rolled back to the snapshot: that was
  // made before.
  bool settled(const std::string &under_way, const std::string &received) {
    const std::string last = ";" + std::to_string(finished), from = " from ";
    const size_t semicolon = under_way.find(';'), at = under_way.find(from);
    if (!o_.kept || semicolon == std::string::npos || at == std::string::npos || at > semicolon) return false;
    if (under_way.compare(semicolon, last.size(), last) != 0) return false;
    return received.compare(0, at + 1, under_way.substr(0, at) + " ") == 0 && has_snapshot(received);
  }

  void resume(const std::string &where) {
    char *end = nullptr;
    resume_ = static_cast<uint32_t>(strtoul(where.c_str(), &end, 10));
    const std::string rest = end;
    if (resume_ < detach || resume_ > finished || (!rest.empty() && rest != forced_mark))
      throw client::Error(EINVAL, tree_.name() + ": " + receiving_xattr + " makes no sense");
    if (!rest.empty() && !o_.force)
      throw client::Error(EBUSY,
                          tree_.name() + ": a receive with --force was interrupted here; it goes on with --force only");
    forced_ = o_.force && header_.incremental();
    result_.resumed = true;
  }

  void check_empty(const std::string &received) {
    bool empty = received.empty() || o_.force;
    tree_.list("", [&](const Entry &) { empty = false; });
    vexfs_collection c{};
    if (!empty || collection_at(*tree_.target(""), &c))
      throw client::Error(ENOTEMPTY, tree_.name() +
                                         ": is not empty, and the stream holds everything: receive it into an empty "
                                         "directory (--force is for streams of changes)");
  }

  void check_base(const std::string &received) {
    const std::string base = identity(header_.uuid, header_.base_id, header_.base_txn);
    if (received.compare(0, base.size() + 1, base + " ") != 0)
      throw client::Error(EINVAL, tree_.name() + ": base does not match: the stream goes on from snapshot '" +
                                      header_.base_name + "' (" + base + "), what is here is " +
                                      (received.empty() ? "none that was received" : "'" + printable(received) + "'"));
    const std::string name = local_name(received);
    if (!has_snapshot(received))
      throw client::Error(ENOENT, tree_.name() + ": snapshot '" + printable(name) +
                                      "', which the stream goes on from, is not here any more: whether files have "
                                      "changed since cannot be told (--force goes on all the same)");
    if (!o_.changed_since) return;
    const std::vector<std::string> changed = o_.changed_since(name);
    if (!changed.empty())
      throw client::Error(EBUSY, tree_.name() + ": has changed since snapshot '" + printable(name) +
                                     "': " + printable(changed.front()) + (changed.size() > 1 ? ", and more" : "") +
                                     " (--force goes on all the same)");
  }

  // ------------------------------------------------------------------ phases
  bool skipped() const { return phase_ < resume_; }
  bool again() const { return phase_ == resume_; }  // some of this phase may have been done already

  void begin_phase(uint32_t p) {
    finish_file();
    if (phase_ == names && !skipped() && !header_.staging.empty()) remove(header_.staging, true, true);
    phase_ = p;
    // Of a stream that holds everything nothing may be in the first phase: what is there is refused before any mark.
    if (skipped() || (p == detach && !header_.incremental())) return;
    mark(p);
    if (p == detach && !header_.staging.empty() && !there(header_.staging))
      tree_.make(header_.staging, 0040000, 0, 0, "");
  }

  void mark(uint32_t p) {
    tree_.sync();
    tree_.set_xattr("", receiving_xattr, stream_ + ";" + std::to_string(p) + (forced_ ? forced_mark : ""));
    tree_.sync();
  }

  void finish() {
    phase_ = finished;
    if (result_.already) return;
    if (!again()) mark(finished);
    tree_.set_xattr("", received_xattr, mine_ + " " + result_.name);
    tree_.sync();
    if (o_.keep) o_.keep(result_.name);  // the mark is in the snapshot, too: see settled()
    tree_.remove_xattr("", receiving_xattr);
    tree_.sync();
  }

  // ------------------------------------------------------------------ one record
  void apply(const Record &r) {
    switch (r.type) {
      case Type::clear:
        clear(r.path);
        break;
      case Type::drop:
        drop(r.path);
        break;
      case Type::unlink:
      case Type::rmdir:
        remove(r.path, r.type == Type::rmdir, again() || forced_);
        break;
      case Type::move:
        move(r);
        break;
      case Type::mkdir:
        make(r.path, 0040000, r);
        break;
      case Type::create:
        make(r.path, r.mode, r);
        break;
      case Type::link:
        link(r);
        break;
      case Type::collection:
        collection(r);
        break;
      case Type::file:
        begin_file(r);
        break;
      case Type::write:
        file_->write(r.offset, r.data.data(), r.data.size());
        break;
      case Type::hole:
        file_->punch(r.offset, r.length);
        break;
      case Type::touch:
        touch();
        break;
      case Type::rows_gone:
        rows_gone(r);
        break;
      case Type::rows:
        rows(r);
        break;
      case Type::inode:
        clear(r.path);
        tree_.set_owner(r.path, r.uid, r.gid, r.mode);
        inode_ = r.path;
        xattrs_ = r.with_xattrs;
        seen_.clear();
        seen_bytes_ = 0;
        break;
      case Type::xattr:
        xattr(r);
        break;
      case Type::attributes:
        finish_inode(r);
        break;
      default:
        break;
    }
  }

  bool there(const std::string &path) {
    Attr a;
    return tree_.stat(path, &a);
  }

  void clear(const std::string &path) {
    Attr a;
    if (!tree_.stat(path, &a)) {
      if ((again() || forced_) && phase_ == detach) return;  // it has been moved away
      throw client::Error(ENOENT, tree_.name() + "/" + printable(path) + ": " + strerror(ENOENT));
    }
    if (a.flags & locked) tree_.set_flags(path, a.flags & ~locked);
  }

  void remove(const std::string &path, bool directory, bool may_be_gone) {
    try {
      tree_.remove(path, directory);
    } catch (const client::Error &e) {
      if (!may_be_gone || (e.err() != ENOENT && e.err() != ENOTDIR)) throw;
    }
  }

  void move(const Record &r) {
    if (again() && !there(r.path) && there(r.to)) return;
    if (!again() || there(r.path)) make_room(r.to, false);
    tree_.move(r.path, r.to);
  }

  // Forced: what is there and is not wanted goes, but for directories, whose contents nobody knows: they are an error,
  // now and whenever it is tried again.
  void make_room(const std::string &path, bool for_directory) {
    Attr a;
    if (!forced_ || !tree_.stat(path, &a)) return;
    if (a.is_dir() && for_directory) return;
    if (a.is_dir())
      throw client::Error(EEXIST, tree_.name() + "/" + printable(path) +
                                      ": is a directory, which even --force does not replace: remove it");
    if (a.flags & locked) tree_.set_flags(path, a.flags & ~locked);
    tree_.remove(path, false);
  }

  void make(const std::string &path, uint32_t type, const Record &r) {
    Attr a;
    if (forced_) {
      make_room(path, type == 0040000);
      if (tree_.stat(path, &a)) return;  // a directory
    }
    if (again() && tree_.stat(path, &a)) {
      const bool same = a.type() == type && a.major == r.major && a.minor == r.minor &&
                        (type != 0120000 || tree_.read_link(path) == r.text);
      if (same) return;
    }
    tree_.make(path, type, r.major, r.minor, r.text);
  }

  void link(const Record &r) {
    Attr a, b;
    if ((again() || forced_) && tree_.stat(r.path, &a) && tree_.stat(r.to, &b) && a.ino == b.ino) return;
    make_room(r.to, false);
    tree_.link(r.path, r.to);
  }

  // ------------------------------------------------------------------ contents
  void begin_file(const Record &r) {
    finish_file();
    const Attr a = tree_.need(r.path);
    const uint32_t wanted = (a.flags & ~(locked | no_sum)) | r.flags;
    if (a.flags != wanted) tree_.set_flags(r.path, wanted);
    file_ = tree_.open(r.path, true);
    size_ = r.size;
    if (a.size != r.size) file_->resize(r.size);
  }
  void finish_file() { file_.reset(); }

  // Written to, with what it has.
  void touch() {
    char byte = 0;
    if (size_ && file_->read(0, &byte, 1) == 1)
      file_->write(0, &byte, 1);
    else
      file_->resize(size_);
  }

  // ------------------------------------------------------------------ vectors
  // The collection that the directory itself carries.
  bool collection_at(client::Target &t, vexfs_collection *out) {
    vexfs_collection c{};
    c.size = sizeof c;
    const int rc = t.command(VEXFS_IOCTL_COLLECTION_INFO, &c);
    if (rc == -ENOENT) return false;
    if (rc != 0) throw client::command_error(t.path(), "collection", -rc);
    *out = c;
    return c.dir_ino == t.ino();
  }

  void drop(const std::string &path) {
    if ((again() || forced_) && !there(path)) return;
    const auto t = tree_.target(path);
    vexfs_collection c{};
    if (collection_at(*t, &c)) client::collection_drop(*t, c.id);
  }

  void collection(const Record &r) {
    if (!skipped()) clear(r.path);
    const auto t = tree_.target(r.path);
    vexfs_collection c{}, wanted{};
    wanted.dim = r.dim;
    wanted.element = r.element;
    wanted.metric = r.metric;
    wanted.index = r.index;
    wanted.m = r.m;
    wanted.ef_construction = r.ef_construction;
    wanted.ef_search = r.ef_search;
    r.name.copy(wanted.name, sizeof wanted.name - 1);
    r.text.copy(wanted.model, sizeof wanted.model - 1);
    wanted.lists = r.lists;
    wanted.probes = r.probes;
    wanted.pq_m = r.pq_m;
    wanted.tables = static_cast<__u8>(r.tables);
    wanted.bits = static_cast<__u8>(r.bits);
    wanted.codes = r.codes;
    wanted.recall = r.recall;
    wanted.flags = r.flags & collection_compact ? VEXFS_COLLECTION_COMPACT : 0;
    if (!collection_at(*t, &c)) {
      if (skipped()) throw client::Error(EIO, t->path() + ": the collection of an earlier receive is gone");
      c = client::collection_create(*t, wanted);
    } else if (!skipped()) {
      alter(*t, c, wanted, r.with_params);
    }
    if (collections_.size() == collections_max) throw Damage("too many collections");
    if (!collections_.emplace(r.collection, c).second || !used_.insert(c.id).second)
      throw Damage("a collection comes twice, or a directory carries two");
  }

  // Parameters of an index that are to be others; 0 says nothing of them.
  static bool other_params(const vexfs_collection &c, const vexfs_collection &w) {
    const auto other = [](uint32_t is, uint32_t wanted) { return wanted && is != wanted; };
    return other(c.lists, w.lists) || other(c.probes, w.probes) || other(c.pq_m, w.pq_m) || other(c.tables, w.tables) ||
           other(c.bits, w.bits) || other(c.codes, w.codes);
  }

  void alter(client::Target &t, const vexfs_collection &c, const vexfs_collection &wanted, bool with_params) {
    const auto unset = [](uint32_t is, uint32_t now) { return is && !now; };  // which no command does
    if (c.dim != wanted.dim || c.element != wanted.element || c.metric != wanted.metric ||
        (with_params && (unset(c.lists, wanted.lists) || unset(c.probes, wanted.probes) || unset(c.pq_m, wanted.pq_m) ||
                         unset(c.tables, wanted.tables) || unset(c.bits, wanted.bits) || unset(c.codes, wanted.codes))))
      throw client::Error(EEXIST, t.path() + ": carries another collection already");
    vexfs_collection a = wanted;
    a.id = c.id;
    if (with_params && !(a.flags & VEXFS_COLLECTION_COMPACT)) a.flags = VEXFS_COLLECTION_RESIDENT;
    if (with_params && !a.recall) a.recall = VEXFS_RECALL_OFF;
    const bool compact = c.flags & VEXFS_COLLECTION_COMPACT,
               stays =
                   with_params ? compact == (a.flags == VEXFS_COLLECTION_COMPACT) && c.recall == wanted.recall : true;
    if (c.m != wanted.m || c.ef_construction != wanted.ef_construction || other_params(c, wanted)) {
      vexfs_index x{};
      x.op = VEXFS_INDEX_REBUILD;
      x.collection = c.id;
      x.kind = wanted.index == VEXFS_INDEX_FLAT ? static_cast<__u16>(VEXFS_INDEX_HNSW) : wanted.index;
      x.m = wanted.m;
      x.ef_construction = wanted.ef_construction;
      x.lists = wanted.lists;
      x.probes = wanted.probes;
      x.pq_m = wanted.pq_m;
      x.tables = wanted.tables;
      x.bits = wanted.bits;
      x.codes = wanted.codes;
      client::index_command(t, x);
    } else if (c.index == wanted.index && c.ef_search == wanted.ef_search && stays &&
               strncmp(c.name, wanted.name, sizeof c.name) == 0 &&
               strncmp(c.model, wanted.model, sizeof c.model) == 0) {
      return;
    }
    client::collection_alter(t, a);
  }

  const vexfs_collection &find(uint64_t id) {
    const auto it = collections_.find(id);
    if (it == collections_.end()) throw Damage("vectors of no collection");
    return it->second;
  }

  void rows_gone(const Record &r) {
    const vexfs_collection &c = find(r.collection);
    const auto t = tree_.target("");
    std::vector<uint64_t> left = r.ids;
    while (!left.empty()) {  // of a file that is gone its vectors are, too
      int err = 0;
      const uint32_t done = client::vectors_delete(*t, c.id, left, &err);
      if (err && err != ENOENT) throw client::command_error(t->path(), "delete vectors", err);
      left.erase(left.begin(), left.begin() + done + (err == ENOENT));
    }
  }

  void rows(const Record &r) {
    const vexfs_collection &c = find(r.collection);
    if (c.dim != r.dim || c.element != r.element) throw Damage("vectors of another kind than their collection's");
    const uint64_t owner = r.owned ? need_file(r.path) : 0;
    std::vector<vexfs_row> rows(r.rows.size());
    for (size_t i = 0; i < rows.size(); i++) {
      rows[i].id = r.rows[i].id;
      rows[i].owner = owner;
      rows[i].offset = r.rows[i].offset;
      rows[i].length = r.rows[i].length;
      rows[i].tag = r.rows[i].tag;
      rows[i].flags = r.rows[i].flags;
    }
    const auto t = tree_.target("");
    vexfs_batch b{};
    b.size = sizeof b;
    b.flags = VEXFS_BATCH_F_ROW_FLAGS;
    b.collection = c.id;
    b.op = VEXFS_BATCH_UPSERT;
    b.rows = reinterpret_cast<uintptr_t>(rows.data());
    b.data = reinterpret_cast<uintptr_t>(r.data.data());
    b.count = static_cast<uint32_t>(rows.size());
    b.dim = r.dim;
    b.element = r.element;
    const int rc = t->command(VEXFS_IOCTL_BATCH_OPERATIONS, &b);
    if (rc != 0)
      throw client::command_error(t->path(), "add vectors of collection " + std::to_string(r.collection), -rc);
  }

  uint64_t need_file(const std::string &path) {
    const Attr a = tree_.need(path);
    if (!a.is_file())
      throw client::Error(EINVAL, tree_.name() + "/" + printable(path) + ": is no file that could own vectors");
    if (a.flags & locked) tree_.set_flags(path, a.flags & ~locked);
    return a.ino;
  }

  // ------------------------------------------------------------------ attributes
  static bool reserved(const std::string &name) { return name.compare(0, 14, "trusted.vexfs.") == 0; }

  void xattr(const Record &r) {
    if (reserved(r.name)) throw Damage("an attribute with a reserved name");
    seen_bytes_ += r.name.size() + 1;
    if (seen_bytes_ > xattrs_max) throw Damage("too many attributes of one inode");
    seen_.insert(r.name);
    std::string had;
    if (!tree_.xattr(inode_, r.name, &had) || had != r.data) tree_.set_xattr(inode_, r.name, r.data);
  }

  void finish_inode(const Record &r) {
    if (xattrs_)
      for (const std::string &name : tree_.xattrs(inode_))
        if (!seen_.count(name) && !reserved(name)) tree_.remove_xattr(inode_, name);
    const Attr a = tree_.need(inode_);
    tree_.set_times(inode_, r);
    if (a.is_file() || a.is_dir()) tree_.set_flags(inode_, r.flags);
  }

  Reader &reader_;
  Tree &tree_;
  const ReceiveOptions &o_;
  Header header_;
  std::string mine_, stream_;
  uint32_t phase_ = 0, resume_ = 0;
  bool forced_ = false;
  Received result_;
  std::unique_ptr<File> file_;
  uint64_t size_ = 0;
  std::unordered_map<uint64_t, vexfs_collection> collections_;  // by their ids at the source
  std::set<uint64_t> used_;                                     // ids here
  std::string inode_;
  bool xattrs_ = false;
  std::set<std::string> seen_;
  size_t seen_bytes_ = 0;
};

}  // namespace

Received receive(Reader &reader, Tree &tree, const ReceiveOptions &options) {
  return Receiver(reader, tree, options).run();
}

}  // namespace vexfs::stream
