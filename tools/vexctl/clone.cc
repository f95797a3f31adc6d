// SPDX-License-Identifier: MIT
// vexctl clone: a file that shares the blocks of another, with the vectors that stand for its contents if asked for.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "context.h"

namespace vexfs::vexctl {
namespace {

struct Options {
  std::string from, to;
  bool with_vectors = false, force = false;
};

class File {
 public:
  File(const std::string &path, int flags, mode_t mode = 0)
      : path_(path), fd_(open(path.c_str(), flags | O_CLOEXEC, mode)) {
    if (fd_ < 0) fail("open");
  }
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File &) = delete;
  int fd() const { return fd_; }
  struct stat status() const {
    struct stat st;
    if (fstat(fd_, &st) != 0) fail("stat");
    return st;
  }
  [[noreturn]] void fail(const char *what) const {
    const int err = errno;
    throw client::Error(err, path_ + ": " + what + ": " + strerror(err));
  }

 private:
  std::string path_;
  int fd_;
};

// Appends the ids, of those asked for, of rows that belong to the file and were made from its present contents. A search
// gives the nearest so many, which are all there are if it could have given more; else either half of the ids is asked for.
void rows_of(client::Target &t, const vexfs_collection &c, uint64_t owner, Range ids, std::vector<uint64_t> &out) {
  client::Query q;
  q.collection = c.id;
  q.dim = c.dim;
  q.k = VEXFS_K_MAX;
  q.flags = VEXFS_SEARCH_EXACT | VEXFS_SEARCH_SKIP_STALE;
  vexfs_filter by_owner{}, by_id{};
  by_owner.kind = VEXFS_FILTER_OWNER;
  by_owner.a = owner;
  by_id.kind = VEXFS_FILTER_ID_RANGE;
  by_id.a = ids.from;
  by_id.b = ids.to;
  q.filters = {by_owner, by_id};
  std::vector<float> any(c.dim);  // as good as any other, and not zero, which has no direction
  any[0] = 1;
  const client::Answer a = client::search(t, q, any.data(), 1);
  const auto &hits = a.hits.at(0);
  if (hits.size() < VEXFS_K_MAX || ids.from == ids.to) {
    for (const vexfs_hit &h : hits) out.push_back(h.id);
    return;
  }
  const uint64_t middle = ids.from + (ids.to - ids.from) / 2;
  rows_of(t, c, owner, {ids.from, middle}, out);
  rows_of(t, c, owner, {middle + 1, ids.to}, out);
}

vexfs_collection collection_of(client::Target &t) {
  try {
    return client::collection_info(t);
  } catch (const client::Error &e) {
    if (e.err() != ENOENT) throw;
    throw client::Error(ENOENT, t.path() + ": is in no collection, so its vectors have no place");
  }
}

// What both collections must agree in, or a vector of one would mean something else in the other.
void must_match(const vexfs_collection &a, const vexfs_collection &b) {
  if (a.dim == b.dim && a.element == b.element && a.metric == b.metric) return;
  auto text = [](const vexfs_collection &c) {
    return std::to_string(c.dim) + " x " + client::element_name(c.element) + ", " + client::metric_name(c.metric);
  };
  throw client::Error(EINVAL, "the collections differ: " + text(a) + " and " + text(b) + "; nothing was cloned");
}

// The file was cloned before this: rows that are not stale now were made from what both hold.
uint64_t carry(client::Target &from, const vexfs_collection &c, client::Target &to, const vexfs_collection &d) {
  std::vector<uint64_t> ids;
  rows_of(from, c, from.ino(), {0, VEXFS_ID_AUTO - 1}, ids);
  std::sort(ids.begin(), ids.end());
  uint64_t done = 0;
  try {
    for (uint64_t id : ids) {
      client::Vector v = client::vector_get(from, c.id, id, c.dim, c.element);
      if (v.row.owner != from.ino() || (v.row.flags & VEXFS_ROW_STALE)) continue;
      vexfs_row row{};
      row.id = VEXFS_ID_AUTO;
      row.offset = v.row.offset;
      row.length = v.row.length;
      row.tag = v.row.tag;
      row.owner_fd = -1;
      v.row = row;
      (void)client::vector_add(to, d.id, v, 0);
      done++;
    }
  } catch (const client::Error &e) {
    throw client::PartlyDone(e.err(), done,
                             std::string(e.what()) + " (" + human_count(done) + " vectors were carried along)");
  }
  return done;
}

void clone(Context &ctx, const Options &o) {
  if (!ctx.image.empty()) throw Usage("clone works on a mount, not on an image");
  const File src(o.from, O_RDONLY);
  std::unique_ptr<client::Target> from;
  vexfs_collection c{}, d{};
  if (o.with_vectors) {
    from = ctx.open(o.from, Access::write);
    c = collection_of(*from);
    const size_t slash = o.to.rfind('/');
    auto dir = ctx.open(slash == std::string::npos ? "." : slash == 0 ? "/" : o.to.substr(0, slash), Access::write);
    d = collection_of(*dir);
    must_match(c, d);
  }
  const bool exists = access(o.to.c_str(), F_OK) == 0;
  const File dst(o.to, O_WRONLY | O_CREAT | (o.force ? 0 : O_EXCL), src.status().st_mode & 0777);
  const struct stat a = src.status(), b = dst.status();
  if (a.st_dev == b.st_dev && a.st_ino == b.st_ino) throw client::Error(EINVAL, o.to + ": is the same file");
  // A longer one is cut first: the rest of a block would stay otherwise.
  errno = EXDEV;
  const bool cloned = a.st_dev == b.st_dev && (b.st_size <= a.st_size || ftruncate(dst.fd(), a.st_size) == 0) &&
                      ioctl(dst.fd(), FICLONE, src.fd()) == 0;
  if (!cloned) {
    const int err = errno;
    if (!exists) unlink(o.to.c_str());
    throw client::Error(err,
                        o.to + ": clone: " + (err == EXDEV ? "the files are in different filesystems" : strerror(err)));
  }
  uint64_t rows = 0;
  if (o.with_vectors) {
    auto to = ctx.open(o.to, Access::write);
    rows = carry(*from, c, *to, d);
  }
  if (ctx.as_json) return ctx.print(json{{"cloned", o.to}, {"bytes", a.st_size}, {"vectors", rows}});
  ctx.say(o.to + " shares " + human_bytes(static_cast<uint64_t>(a.st_size)) + " with " + o.from +
          (o.with_vectors ? ", " + human_count(rows) + (rows == 1 ? " vector" : " vectors") + " carried along" : ""));
}

}  // namespace

void add_clone_command(CLI::App &app, Context &ctx) {
  auto o = std::make_shared<Options>();
  CLI::App *c = app.add_subcommand("clone", "Make a file that shares the blocks of another");
  c->add_option("SOURCE", o->from, "the file")->required();
  c->add_option("TARGET", o->to, "the new one")->required();
  c->add_flag("--with-vectors", o->with_vectors, "and give it the vectors that were made from these contents");
  c->add_flag("-f,--force", o->force, "TARGET may exist: its contents are replaced");
  c->callback([&ctx, o] { clone(ctx, *o); });
}

}  // namespace vexfs::vexctl
