// SPDX-License-Identifier: MIT
// vexctl snapshot send: a snapshot, or what has changed since an older one, as a stream.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "../../lib/image/tree.h"
#include "../../lib/stream/send.h"
#include "context.h"

namespace vexfs::vexctl {

std::string stream_title(const stream::Header &h) {
  std::string s = "snapshot '" + h.name + "' of " + stream::uuid_text(h.uuid);
  return h.incremental() ? s + " since '" + h.base_name + "'" : s;
}

json stream_json(const stream::Summary &s) {
  json j;
  j["uuid"] = stream::uuid_text(s.header.uuid);
  j["snapshot"] = s.header.name;
  j["id"] = s.header.id;
  j["txn"] = s.header.txn;
  j["created_sec"] = s.header.created.sec;
  j["created_nsec"] = s.header.created.nsec;
  j["block_size"] = s.header.block_size;
  j["from"] = s.header.incremental() ? json(s.header.base_name) : json();
  j["from_id"] = s.header.base_id;
  j["from_txn"] = s.header.base_txn;
  j["records"] = s.records;
  j["bytes"] = s.bytes;
  j["created"] = s.created;
  j["removed"] = s.removed;
  j["moved"] = s.moved;
  j["files"] = s.files;
  j["data_bytes"] = s.data_bytes;
  j["inodes"] = s.inodes;
  j["collections"] = s.collections;
  j["rows"] = s.rows;
  j["rows_gone"] = s.rows_gone;
  return j;
}

std::string stream_counts(const stream::Summary &s) {
  return human_bytes(s.bytes) + " in " + human_count(s.records) + " records: " + human_count(s.created) + " made, " +
         human_count(s.removed) + " removed, " + human_count(s.moved) + " moved, " + human_bytes(s.data_bytes) +
         " in " + human_count(s.files) + " files, " + human_count(s.rows) + " vectors, " + human_count(s.rows_gone) +
         " vectors gone";
}

namespace {

struct Options {
  std::string name, path, from, out;
};

const vexfs_snapshot &find(const std::vector<vexfs_snapshot> &all, const std::string &name) {
  for (const auto &s : all)
    if (name == std::string(s.name, strnlen(s.name, sizeof s.name))) return s;
  throw client::Error(ENOENT, "no snapshot '" + name + "'");
}

stream::Header header_of(client::Target &t, const Options &o) {
  const auto all = client::snapshot_list(t, false);
  const vexfs_snapshot &s = find(all, o.name);
  vexfs_fs_info i{};
  i.size = sizeof i;
  if (const int rc = t.command(VEXFS_IOCTL_FS_INFO, &i); rc != 0)
    throw client::command_error(t.path(), "describe the filesystem", -rc);
  stream::Header h;
  std::copy(std::begin(i.uuid), std::end(i.uuid), h.uuid.begin());
  h.id = s.id;
  h.txn = s.txn;
  h.created = {static_cast<int64_t>(s.created_sec), s.created_nsec};
  h.block_size = i.block_size;
  h.name = o.name;
  if (o.from.empty()) return h;
  const vexfs_snapshot &base = find(all, o.from);
  if (base.id == s.id) throw Usage("--from: that is the snapshot itself");
  h.base_id = base.id;
  h.base_txn = base.txn;
  h.base_name = o.from;
  return h;
}

std::unique_ptr<stream::Tree> view(Context &ctx, const std::string &path, const std::string &name) {
  if (ctx.image.empty()) return stream::posix_tree(client::path_in_snapshot(client::find_mount(path).point, name));
  return client::image_tree(ctx.image_place(Access::read).view(name), ctx.image + "@" + name);
}

// Where the stream goes. A file is there under its name when it is whole.
class Sink {
 public:
  explicit Sink(const std::string &name) : name_(name) {
    if (name.empty() || name == "-") {
      if (isatty(STDOUT_FILENO)) throw Usage("a stream is nothing for a terminal: give -o FILE, or a pipe");
      fd_ = STDOUT_FILENO;
      name_ = "standard output";
      return;
    }
    struct stat st {};
    if (::stat(name_.c_str(), &st) == 0 && !S_ISREG(st.st_mode)) {  // a pipe, a device: written to as it is
      fd_ = ::open(name_.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
      if (fd_ < 0) throw client::Error(errno, stream::printable(name_) + ": " + strerror(errno));
      return;
    }
    follow();
    std::string part = name_ + ".XXXXXX";  // O_EXCL: nobody has put anything in its place
    fd_ = ::mkostemp(part.data(), O_CLOEXEC);
    if (fd_ < 0) throw client::Error(errno, stream::printable(name_) + ": " + strerror(errno));
    part_ = part;
    const mode_t mask = ::umask(0);
    ::umask(mask);
    if (::fchmod(fd_, 0666 & ~mask) != 0) {
      const int err = errno;
      discard();
      throw client::Error(err, stream::printable(part) + ": " + strerror(err));
    }
  }
  ~Sink() { discard(); }
  Sink(const Sink &) = delete;
  Sink &operator=(const Sink &) = delete;
  stream::Output output() { return stream::to_fd(fd_, stream::printable(name_)); }
  void finish() {
    if (part_.empty()) return;
    const std::string dir = std::filesystem::path(name_).parent_path().string();
    if (::fsync(fd_) != 0 || ::rename(part_.c_str(), name_.c_str()) != 0) failed();
    part_.clear();
    const int d = ::open(dir.empty() ? "." : dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool done = d >= 0 && (::fsync(d) == 0 || errno == EINVAL);  // EINVAL: of those that need none
    const int err = errno;
    if (d >= 0) ::close(d);
    errno = err;
    if (!done) failed();
  }

 private:
  [[noreturn]] void failed() { throw client::Error(errno, stream::printable(name_) + ": " + strerror(errno)); }
  // A symbolic link stays: what it leads to is written, in that one's directory.
  void follow() {
    namespace fs = std::filesystem;
    std::error_code ec;
    for (int i = 0; fs::is_symlink(fs::symlink_status(name_, ec)); i++) {
      const fs::path to = fs::read_symlink(name_, ec);
      if (ec || i == 40)
        throw client::Error(ec ? ec.value() : ELOOP, stream::printable(name_) + ": " + strerror(ELOOP));
      name_ = (fs::path(name_).parent_path() / to).string();
    }
  }
  void discard() {
    if (fd_ >= 0 && fd_ != STDOUT_FILENO) ::close(fd_);
    if (!part_.empty()) ::unlink(part_.c_str());
    fd_ = -1;
    part_.clear();
  }

  std::string name_, part_;
  int fd_ = -1;
};

void send(Context &ctx, const Options &o) {
  auto t = ctx.open(o.path, Access::read);
  stream::Source s;
  s.filesystem = t.get();
  s.header = header_of(*t, o);
  const std::unique_ptr<stream::Tree> now = view(ctx, t->path(), o.name);
  std::unique_ptr<stream::Tree> then;
  if (!o.from.empty()) then = view(ctx, t->path(), o.from);
  s.now = now.get();
  s.then = then.get();
  signal(SIGPIPE, SIG_IGN);  // the reader that goes is an error like another
  Sink sink(o.out);
  stream::Writer writer(sink.output());
  const stream::Summary done = stream::send(s, writer);
  sink.finish();
  // What it says may not go where the stream goes.
  if (o.out.empty() || o.out == "-") return;
  if (ctx.as_json) return ctx.print(stream_json(done));
  ctx.say(stream_title(done.header) + " sent: " + stream_counts(done));
}

}  // namespace

void add_snapshot_send_command(CLI::App &group, Context &ctx) {
  auto o = std::make_shared<Options>();
  CLI::App *c = group.add_subcommand("send", "Write a snapshot, or what changed since another, as a stream");
  c->add_option("NAME", o->name, "the snapshot")->required();
  c->add_option("PATH", o->path, "any file or directory of the filesystem");
  c->add_option("--from", o->from, "an older snapshot: only what is not the same there is sent");
  c->add_option("-o,--out", o->out, "the file to write; without, or with -: standard output");
  c->callback([&ctx, o] { send(ctx, *o); });
}

}  // namespace vexfs::vexctl
