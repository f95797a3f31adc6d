// SPDX-License-Identifier: MIT
// vexctl ls | cat | put | mkdir | rm: files of an image, without mounting it.
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "context.h"

namespace vexfs::vexctl {
namespace {

struct Options {
  std::string path, source;
  bool is_long = false, parents = false;
};

struct Release {
  void operator()(vx_inode *ip) const { vx_iput(ip); }
};
using Inode = std::unique_ptr<vx_inode, Release>;

[[noreturn]] void fail(const std::string &path, int rc) { throw client::Error(-rc, path + ": " + strerror(-rc)); }

Inode inode_at(vx_fs *fs, uint64_t ino, const std::string &path) {
  vx_inode *ip = nullptr;
  if (const int rc = vx_iget(fs, ino, 0, &ip)) fail(path, rc);
  return Inode(ip);
}

std::string mode_text(uint32_t mode) {
  static constexpr std::array<char, 16> types{'?', 'p', 'c', '?', 'd', '?', 'b', '?',
                                              '-', '?', 'l', '?', 's', '?', '?', '?'};
  std::string s(1, types[(mode >> 12) & 15]);
  for (int i = 8; i >= 0; i--) s += (mode >> i) & 1 ? "rwx"[2 - i % 3] : '-';
  return s;
}

struct Entry {
  std::string name;
  uint64_t ino;
};

std::vector<Entry> entries_of(vx_inode *dir, const std::string &path) {
  std::vector<Entry> list;
  vx_u64 pos = 0;
  auto emit = [](void *ctx, const char *name, size_t len, vx_u64 ino, unsigned, vx_u64) -> vx_bool {
    static_cast<std::vector<Entry> *>(ctx)->push_back(Entry{std::string(name, len), ino});
    return true;
  };
  if (const int rc = vx_readdir(dir, &pos, emit, &list)) fail(path, rc);
  std::sort(list.begin(), list.end(), [](const Entry &a, const Entry &b) { return a.name < b.name; });
  return list;
}

void ls(Context &ctx, const Options &o) {
  auto &image = ctx.image_place(Access::read);
  auto t = image.open(o.path.empty() ? "/" : o.path);
  std::vector<Entry> list{{t->path(), t->ino()}};
  Inode at = inode_at(image.fs(), t->ino(), t->path());
  if (t->is_directory()) list = entries_of(at.get(), t->path());
  json j = json::array();
  Table table({"MODE", "LINKS", "UID", "GID", "SIZE", "MODIFIED", "INODE", "NAME"});
  for (const Entry &e : list) {
    const Inode ip = inode_at(image.fs(), e.ino, e.name);
    vx_attr a;
    vx_getattr(ip.get(), &a);
    j.push_back(json{{"name", e.name},
                     {"ino", a.ino},
                     {"mode", a.mode},
                     {"nlink", a.nlink},
                     {"uid", a.uid},
                     {"gid", a.gid},
                     {"size", a.size},
                     {"mtime_sec", a.mtime.sec},
                     {"version", a.version},
                     {"collection", (a.flags & VX_INODE_COLLECTION) != 0}});
    if (ctx.as_json) continue;
    if (!o.is_long)
      ctx.say(e.name + (S_ISDIR(a.mode) ? "/" : ""));
    else
      table.row({mode_text(a.mode), std::to_string(a.nlink), std::to_string(a.uid), std::to_string(a.gid),
                 std::to_string(a.size), human_time(a.mtime.sec), std::to_string(a.ino),
                 e.name + (a.flags & VX_INODE_COLLECTION ? " (collection)" : "")});
  }
  if (ctx.as_json) return ctx.print(j);
  if (o.is_long && !ctx.quiet) table.print();
}

void cat(Context &ctx, const Options &o) {
  auto &image = ctx.image_place(Access::read);
  auto t = image.open(o.path);
  if (t->is_directory()) fail(o.path, -EISDIR);
  const Inode ip = inode_at(image.fs(), t->ino(), o.path);
  TextAsJson text(ctx, "text", true);
  std::vector<char> buf(size_t{1} << 18);
  for (uint64_t off = 0;;) {
    size_t done = 0;
    if (const int rc = vx_pread(ip.get(), buf.data(), buf.size(), off, &done)) fail(o.path, rc);
    if (done == 0) break;
    std::cout.write(buf.data(), static_cast<std::streamsize>(done));
    off += done;
  }
  text.finish();
}

// What a file that is there now will give back. 0 when there is none.
uint64_t blocks_at(client::ImagePlace &image, const std::string &path) {
  try {
    vx_attr a;
    vx_getattr(inode_at(image.fs(), image.open(path)->ino(), path).get(), &a);
    return a.blocks;
  } catch (const client::Error &) {
    return 0;  // writing will say what is wrong
  }
}

void put(Context &ctx, const Options &o) {
  std::string contents;
  if (o.source == "-") {
    contents.assign(std::istreambuf_iterator<char>(std::cin), {});
  } else {
    std::error_code ec;
    if (std::filesystem::is_directory(o.source, ec)) throw client::Error(EISDIR, o.source + ": is a directory");
    std::ifstream in(o.source, std::ios::binary);
    if (!in) throw client::Error(errno, o.source + ": " + strerror(errno));
    contents.assign(std::istreambuf_iterator<char>(in), {});
    if (in.bad()) throw client::Error(EIO, o.source + ": cannot be read");
  }
  if (o.path.empty() || o.path.back() == '/') throw Usage("'" + o.path + "': the name of a file is wanted");
  client::ImagePlace &image = ctx.image_place(Access::write);
  // Before the old contents are gone.
  const client::Space space = image.space(*image.open("/"));
  if (contents.size() / space.block_size >= space.blocks_available + blocks_at(image, o.path))
    throw client::Error(ENOSPC, o.path + ": " + human_bytes(contents.size()) + " do not fit, nothing was done");
  image.write_file(o.path, contents);
  if (ctx.as_json) return ctx.print(json{{"path", o.path}, {"bytes", contents.size()}});
}

void make_directory(Context &ctx, const Options &o) {
  if (o.path.empty()) throw Usage("the name of a directory is wanted");
  ctx.image_place(Access::write).make(o.path, true, o.parents);
  if (ctx.as_json) ctx.print(json{{"path", o.path}});
}

void remove(Context &ctx, const Options &o) {
  auto &image = ctx.image_place(Access::write);
  std::string path = o.path;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const size_t slash = path.rfind('/');
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  auto victim = image.open(path);
  auto dir = image.open(slash == std::string::npos || slash == 0 ? "/" : path.substr(0, slash));
  const Inode ip = inode_at(image.fs(), dir->ino(), path);
  const bool is_directory = victim->is_directory();
  const uint64_t victim_ino = victim->ino();
  victim.reset();
  vx_time t{};
  vx_clock_real(&t.sec, &t.nsec);
  const int rc = vx_unlink(ip.get(), name.data(), name.size(), is_directory, &t);
  if (rc == -ENOTEMPTY && is_directory && entries_of(inode_at(image.fs(), victim_ino, path).get(), path).empty())
    throw client::Error(ENOTEMPTY, path + ": holds vectors: vexctl collection drop removes them");
  if (rc) fail(path, rc);
  if (ctx.as_json) ctx.print(json{{"removed", path}});
}

}  // namespace

void add_dump_commands(CLI::App &app, Context &ctx);

void add_image_commands(CLI::App &app, Context &ctx) {
  auto o = std::make_shared<Options>();
  CLI::App *c = app.add_subcommand("ls", "List a directory of an image");
  c->add_option("PATH", o->path, "path inside the image");
  c->add_flag("-l,--long", o->is_long, "with modes, sizes, times");
  c->callback([&ctx, o] { ls(ctx, *o); });

  c = app.add_subcommand("cat", "Print a file of an image");
  c->add_option("PATH", o->path, "path inside the image")->required();
  c->callback([&ctx, o] { cat(ctx, *o); });

  c = app.add_subcommand("put", "Copy a file into an image");
  c->add_option("SOURCE", o->source, "file to copy, - for stdin")->required();
  c->add_option("PATH", o->path, "path inside the image; missing directories are made")->required();
  c->callback([&ctx, o] { put(ctx, *o); });

  c = app.add_subcommand("mkdir", "Make a directory in an image");
  c->add_option("PATH", o->path, "path inside the image")->required();
  c->add_flag("-p,--parents", o->parents, "missing parents too; no error when it exists");
  c->callback([&ctx, o] { make_directory(ctx, *o); });

  c = app.add_subcommand("rm", "Remove a file or an empty directory of an image, with the vectors it owns");
  c->add_option("PATH", o->path, "path inside the image")->required();
  c->callback([&ctx, o] { remove(ctx, *o); });
  add_dump_commands(app, ctx);
}

}  // namespace vexfs::vexctl
