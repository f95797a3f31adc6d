// SPDX-License-Identifier: MIT
// vexctl snapshot receive | verify: applies a stream to a filesystem, or only looks whether it is whole.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>

#include "../../lib/image/tree.h"
#include "../../lib/stream/receive.h"
#include "context.h"

namespace vexfs::vexctl {

std::string stream_title(const stream::Header &h);
json stream_json(const stream::Summary &s);
std::string stream_counts(const stream::Summary &s);

namespace {

struct Options {
  std::string in, into, as;
  bool dry_run = false, force = false;
};

class Source {
 public:
  explicit Source(const std::string &name) : name_(name) {
    if (name.empty() || name == "-") {
      if (isatty(STDIN_FILENO)) throw Usage("a stream is expected: give -i FILE, or a pipe");
      fd_ = STDIN_FILENO;
      name_ = "standard input";
    } else {
      fd_ = opened_ = ::open(name.c_str(), O_RDONLY | O_CLOEXEC);
      if (fd_ < 0) throw client::Error(errno, name + ": " + strerror(errno));
    }
    struct stat st {};
    start_ = ::lseek(fd_, 0, SEEK_CUR);
    seekable_ = start_ >= 0 && ::fstat(fd_, &st) == 0 && S_ISREG(st.st_mode);
  }
  ~Source() {
    if (opened_ >= 0) ::close(opened_);
  }
  Source(const Source &) = delete;
  Source &operator=(const Source &) = delete;
  // Can it be read twice? Then rewind() begins again.
  bool seekable() const { return seekable_; }
  void rewind() {
    if (::lseek(fd_, start_, SEEK_SET) < 0) throw client::Error(errno, name_ + ": " + strerror(errno));
  }
  // Reads it; what is wrong with the stream is told with its name.
  template <class F>
  auto named(F f) {
    stream::Reader reader(stream::from_fd(fd_, stream::printable(name_)));
    try {
      return f(reader);
    } catch (const stream::BadStream &e) {
      throw client::Error(e.err(), stream::printable(name_) + ": " + e.what());
    }
  }

 private:
  std::string name_;
  int fd_ = -1, opened_ = -1;
  off_t start_ = -1;
  bool seekable_ = false;
};

void print(const Context &ctx, const stream::Summary &s, const std::string &what) {
  if (ctx.as_json) return ctx.print(stream_json(s));
  ctx.say(stream_title(s.header) + ", made " + human_time(s.header.created.sec));
  ctx.say(stream_counts(s));
  ctx.say(what);
}

stream::Summary read_through(Source &source) {
  return source.named([](stream::Reader &reader) { return stream::verify(reader); });
}

void verify(Context &ctx, const Options &o) {
  Source source(o.in);
  print(ctx, read_through(source), "the stream is whole");
}

// Where the tree is that the stream is applied to, and any directory of its filesystem for commands.
struct Place {
  std::unique_ptr<stream::Tree> tree;
  std::unique_ptr<client::Target> at;
  std::string below;  // the directory, from the root of the filesystem, "" for the root itself
};

Place place(Context &ctx, const Options &o) {
  Place p;
  p.at = ctx.open(o.into, Access::write);
  if (!p.at->is_directory()) throw client::Error(ENOTDIR, stream::printable(p.at->path()) + ": is no directory");
  // From here on under the one name that it has, however it was given: paths are compared with it.
  if (ctx.image.empty()) {
    const auto real = std::filesystem::canonical(p.at->path());
    p.at = ctx.open(real.string(), Access::write);
    p.tree = stream::posix_tree(real.string());
    p.below = real.lexically_relative(client::find_mount(real.string()).point).string();
    if (p.below == ".") p.below.clear();
  } else {
    for (const auto &part : split(o.into, '/')) {
      if (part == "..") throw Usage("--into: a path without '..'");
      if (!part.empty() && part != ".") p.below = stream::join(p.below, part);
    }
    p.at = ctx.open("/" + p.below, Access::write);
    p.tree = client::image_tree(ctx.image_place(Access::write).fs(), ctx.image, p.below);
  }
  return p;
}

// The tree as a snapshot has it; null: it does not have it.
std::unique_ptr<stream::Tree> tree_in(Context &ctx, const Place &p, const std::string &name) {
  try {
    if (ctx.image.empty()) return stream::posix_tree(client::path_in_snapshot(p.at->path(), name));
    return client::image_tree(ctx.image_place(Access::write).view(name), ctx.image + "@" + name, p.below);
  } catch (const client::Error &e) {
    if (e.err() == ENOENT || e.err() == ENOTDIR) return nullptr;
    throw;
  }
}

uint64_t id_of(client::Target &t, const std::string &name) {
  for (const auto &s : client::snapshot_list(t, false))
    if (name == std::string(s.name, strnlen(s.name, sizeof s.name))) return s.id;
  return 0;
}

bool kept(Context &ctx, const Place &p, const std::string &name, const std::string &received) {
  if (!id_of(*p.at, name)) return false;
  const auto then = tree_in(ctx, p, name);
  std::string value;
  return then && then->xattr("", stream::received_xattr, &value) && value == received;
}

// Everything but the time of access, which readers change. marks: nor what changes when the receiver's own attributes do.
bool same(const stream::Attr &a, const stream::Attr &b, bool marks) {
  return a.ino == b.ino && a.mode == b.mode && a.uid == b.uid && a.gid == b.gid && a.nlink == b.nlink &&
         a.flags == b.flags && a.size == b.size && a.mtime == b.mtime && (marks || a.ctime == b.ctime);
}

bool same_xattrs(stream::Tree &a, stream::Tree &b) {  // of the roots
  auto all = [](stream::Tree &t) {
    std::vector<std::pair<std::string, std::string>> found;
    for (const std::string &name : t.xattrs(""))
      if (name != stream::receiving_xattr) t.xattr("", name, &found.emplace_back(name, "").second);
    return found;
  };
  return all(a) == all(b);
}

// What is found different below the tree's root in a comparison of the filesystem with a snapshot.
class Changes {
 public:
  Changes(Context &ctx, Place &p, const std::string &name) : ctx_(ctx), p_(p), name_(name), root_(p.at->path()) {}

  void look(const vexfs_change &c) {
    const bool gone = c.what & VEXFS_CHANGED_DELETED;
    if (gone && (c.what & VEXFS_CHANGED_COLLECTION)) return dropped_.push_back(c.ino);
    if (gone) {
      deleted_.insert(c.ino);  // its directory is told of, too
      return;
    }
    if (found.size() < 2) compare(c);
  }
  void finish() {
    for (const uint64_t dir : dropped_)
      if (std::string in; found.size() < 2 && !deleted_.count(dir) && inside(dir, 0, &in))
        found.push_back("the collection of " + (in.empty() ? root_ : in));
  }
  std::vector<std::string> found;

 private:
  // in: the path below the root. What nobody can find a path of may well be there.
  bool inside(uint64_t ino, uint32_t generation, std::string *in) {
    in->clear();
    if (ino == p_.at->ino()) return true;
    const std::string path = ctx_.place(Access::write).path_of(ino, generation, *p_.at);
    if (path.empty()) {
      *in = "inode " + std::to_string(ino);
      return true;
    }
    if (root_ != "/" && (path.compare(0, root_.size(), root_) != 0 || path[root_.size()] != '/')) return false;
    *in = path.substr(root_ == "/" ? 1 : root_.size() + 1);
    return true;
  }

  void compare(const vexfs_change &c) {
    std::string in;
    if (!inside(c.ino, c.generation, &in)) return;
    // The root's own attributes are written after the snapshot has been made.
    const bool root = c.ino == p_.at->ino();
    const uint32_t harmless = VEXFS_CHANGED_ATTRIBUTES | (root ? VEXFS_CHANGED_XATTRS : 0);
    if ((c.what & ~harmless) == 0) {
      if (!then_) then_ = tree_in(ctx_, p_, name_);
      stream::Attr a, b;
      if (then_ && then_->stat(in, &a) && p_.tree->stat(in, &b) && same(a, b, root) &&
          (!root || same_xattrs(*then_, *p_.tree)))
        return;
    }
    found.push_back(in.empty() ? root_ : in);
  }

  Context &ctx_;
  Place &p_;
  std::string name_, root_;
  std::unique_ptr<stream::Tree> then_;
  std::vector<uint64_t> dropped_;  // directories that carried a collection
  std::set<uint64_t> deleted_;
};

std::vector<std::string> changed_since(Context &ctx, Place &p, const std::string &name) {
  const uint64_t id = id_of(*p.at, name);
  if (id == 0) throw client::Error(ENOENT, p.at->path() + ": no snapshot '" + name + "'");
  p.tree->sync();
  Changes changes(ctx, p, name);
  client::snapshot_diff(*p.at, id, 0, [&](const vexfs_change &c) { changes.look(c); });
  changes.finish();
  return changes.found;
}

void receive(Context &ctx, const Options &o) {
  if (o.dry_run) return verify(ctx, o);
  Source source(o.in);
  if (source.seekable()) {  // then nothing is begun that cannot be finished
    read_through(source);
    source.rewind();
  }
  Place p = place(ctx, o);
  stream::ReceiveOptions options;
  options.force = o.force;
  options.name = o.as;
  options.starting = [&](const stream::Header &h) {
    const std::string name = o.as.empty() ? h.name : o.as;
    if (id_of(*p.at, name))
      throw client::Error(
          EEXIST, p.at->path() + ": there is a snapshot '" + name + "' already (--as NAME: another name for this one)");
  };
  options.kept = [&](const std::string &name, const std::string &received) { return kept(ctx, p, name, received); };
  options.changed_since = [&](const std::string &name) { return changed_since(ctx, p, name); };
  options.keep = [&](const std::string &name) { client::snapshot_create(*p.at, name); };
  const stream::Received done =
      source.named([&](stream::Reader &reader) { return stream::receive(reader, *p.tree, options); });
  if (done.already)
    throw client::Error(EEXIST, p.at->path() + ": snapshot '" + done.summary.header.name +
                                    "' has been received already" +
                                    (done.name == done.summary.header.name ? "" : ", as '" + done.name + "'"));
  p.tree.reset();
  if (ctx.as_json) {
    json j = stream_json(done.summary);
    j["resumed"] = done.resumed;
    j["as"] = done.name;
    return ctx.print(j);
  }
  print(ctx, done.summary,
        "received" + std::string(done.resumed ? " (an interrupted receive was finished)" : "") + ", and snapshot '" +
            done.name + "' made");
}

}  // namespace

void add_snapshot_receive_commands(CLI::App &group, Context &ctx) {
  auto o = std::make_shared<Options>();
  CLI::App *c = group.add_subcommand("receive", "Apply a stream, then make a snapshot of the same name");
  c->add_option("--into", o->into, "the directory that becomes what the snapshot's root is");
  c->add_option("-i,--in", o->in, "the stream; without, or with -: standard input");
  c->add_flag("-n,--dry-run", o->dry_run, "only look whether the stream is whole");
  c->add_option("--as", o->as, "the name of the snapshot here, if it is to be another");
  c->add_flag("--force", o->force,
              "even if the directory is not what the stream goes on from (a whole snapshot needs an empty one always)");
  c->callback([&ctx, o] { receive(ctx, *o); });

  c = group.add_subcommand("verify", "Whether a stream is whole, and what it holds");
  c->alias("stream-info");
  c->add_option("FILE", o->in, "the stream; without, or with -: standard input");
  c->callback([&ctx, o] { verify(ctx, *o); });
}

}  // namespace vexfs::vexctl
