// SPDX-License-Identifier: MIT
// vexctl snapshot receive | verify: applies a stream to a filesystem, or only looks whether it is whole.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "../../lib/image/tree.h"
#include "../../lib/stream/receive.h"
#include "context.h"

namespace vexfs::vexctl {

std::string stream_title(const stream::Header &h);
json stream_json(const stream::Summary &s);
std::string stream_counts(const stream::Summary &s);

namespace {

struct Options {
  std::string in, into;
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
  stream::Input input() { return stream::from_fd(fd_, name_); }

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

void verify(Context &ctx, const Options &o) {
  Source source(o.in);
  stream::Reader reader(source.input());
  print(ctx, stream::verify(reader), "the stream is whole");
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
  if (!p.at->is_directory()) throw client::Error(ENOTDIR, p.at->path() + ": is no directory");
  if (ctx.image.empty()) {
    p.tree = stream::posix_tree(p.at->path());
    const auto real = std::filesystem::canonical(p.at->path());
    p.below = real.lexically_relative(client::find_mount(p.at->path()).point).string();
    if (p.below == ".") p.below.clear();
  } else {
    for (const auto &part : split(o.into, '/')) {
      if (part == "..") throw Usage("--into: a path without '..'");
      if (!part.empty() && part != ".") p.below = stream::join(p.below, part);
    }
    p.tree = client::image_tree(ctx.image_place(Access::write).fs(), ctx.image, p.below);
  }
  return p;
}

uint64_t id_of(client::Target &t, const std::string &name) {
  for (const auto &s : client::snapshot_list(t, false))
    if (name == std::string(s.name, strnlen(s.name, sizeof s.name))) return s.id;
  return 0;
}

// Everything but the time of access, which readers change.
bool same(const stream::Attr &a, const stream::Attr &b) {
  return a.ino == b.ino && a.mode == b.mode && a.uid == b.uid && a.gid == b.gid && a.nlink == b.nlink &&
         a.flags == b.flags && a.size == b.size && a.mtime == b.mtime && a.ctime == b.ctime;
}

std::vector<std::string> changed_since(Context &ctx, Place &p, const std::string &name) {
  const uint64_t id = id_of(*p.at, name);
  if (id == 0)
    throw client::Error(ENOENT,
                        p.at->path() + ": snapshot '" + name +
                            "', which the stream goes on from, is not here any more: whether files have changed "
                            "since cannot be told (--force goes on all the same)");
  p.tree->sync();
  std::vector<std::string> found;
  std::unique_ptr<stream::Tree> then;
  client::snapshot_diff(*p.at, id, 0, [&](const vexfs_change &c) {
    if (found.size() >= 2 || (c.what & VEXFS_CHANGED_DELETED)) return;  // its directory is told of, too
    const std::string path = ctx.place(Access::write).path_of(c.ino, c.generation, *p.at);
    std::string in;  // in the tree
    const std::string root = p.at->path();
    if (c.ino != p.at->ino()) {
      const bool inside = root == "/" || (path.compare(0, root.size(), root) == 0 && path[root.size()] == '/');
      if (!inside) return;
      in = path.substr(root == "/" ? 1 : root.size() + 1);
    }
    if (c.what == VEXFS_CHANGED_ATTRIBUTES) {
      if (!then)
        then = ctx.image.empty() ? stream::posix_tree(client::path_in_snapshot(root, name))
                                 : client::image_tree(ctx.image_place(Access::write).view(name), ctx.image, p.below);
      stream::Attr a, b;
      if (then->stat(in, &a) && p.tree->stat(in, &b) && same(a, b)) return;
    }
    found.push_back(in.empty() ? root : in);
  });
  return found;
}

void receive(Context &ctx, const Options &o) {
  if (o.dry_run) return verify(ctx, o);
  Source source(o.in);
  stream::Header header;
  if (source.seekable()) {  // then nothing is begun that cannot be finished
    stream::Reader first(source.input());
    header = stream::verify(first).header;
    source.rewind();
  }
  Place p = place(ctx, o);
  stream::ReceiveOptions options;
  options.force = o.force;
  options.starting = [&](const stream::Header &h) {
    if (id_of(*p.at, h.name))
      throw client::Error(EEXIST, p.at->path() + ": there is a snapshot '" + h.name + "' already");
  };
  options.changed_since = [&](const std::string &name) { return changed_since(ctx, p, name); };
  stream::Reader reader(source.input());
  const stream::Received done = stream::receive(reader, *p.tree, options);
  const std::string name = done.summary.header.name;
  if (done.already && id_of(*p.at, name))
    throw client::Error(EEXIST, p.at->path() + ": snapshot '" + name + "' has been received already");
  client::snapshot_create(*p.at, name);
  p.tree.reset();
  print(ctx, done.summary,
        "received" + std::string(done.resumed ? " (an interrupted receive was finished)" : "") + ", and snapshot '" +
            name + "' made");
}

}  // namespace

void add_snapshot_receive_commands(CLI::App &group, Context &ctx) {
  auto o = std::make_shared<Options>();
  CLI::App *c = group.add_subcommand("receive", "Apply a stream, then make a snapshot of the same name");
  c->add_option("--into", o->into, "the directory that becomes what the snapshot's root is");
  c->add_option("-i,--in", o->in, "the stream; without, or with -: standard input");
  c->add_flag("-n,--dry-run", o->dry_run, "only look whether the stream is whole");
  c->add_flag("--force", o->force, "even if the directory is not what the stream goes on from");
  c->callback([&ctx, o] { receive(ctx, *o); });

  c = group.add_subcommand("verify", "Whether a stream is whole, and what it holds");
  c->alias("stream-info");
  c->add_option("FILE", o->in, "the stream; without, or with -: standard input");
  c->callback([&ctx, o] { verify(ctx, *o); });
}

}  // namespace vexfs::vexctl
