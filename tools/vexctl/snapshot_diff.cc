// SPDX-License-Identifier: MIT
// vexctl snapshot diff: what has changed between two snapshots, or since one.
#include <algorithm>

#include "context.h"

namespace vexfs::vexctl {
namespace {

struct Options {
  std::string from, to, path;
};

uint64_t id_of(const std::vector<vexfs_snapshot> &all, const std::string &name) {
  for (const auto &s : all)
    if (name == std::string(s.name, strnlen(s.name, sizeof s.name))) return s.id;
  throw client::Error(ENOENT, "no snapshot '" + name + "'");
}

// Names of inodes as they were in one state; "" is the present. Of an image one state is open at a time.
class Names {
 public:
  Names(Context &ctx, const std::string &path, const std::string &snapshot) {
    if (ctx.image.empty()) {
      place_ = client::mounted();
      const std::string point = client::find_mount(path).point;
      at_ = place_->open(snapshot.empty() ? point : client::path_in_snapshot(point, snapshot));
      prefix_ = at_->path();
    } else {
      ctx.finish();
      ctx.snapshot = snapshot;
      at_ = ctx.open("/", Access::read);
    }
    if (prefix_ == "/") prefix_.clear();
  }
  // From the root of the filesystem; "" if it has none.
  std::string of(Context &ctx, const vexfs_change &c) {
    client::Place &p = place_ ? *place_ : ctx.place(Access::read);
    const std::string path = c.ino == at_->ino() ? prefix_ + "/" : p.path_of(c.ino, c.generation, *at_);
    return path.compare(0, prefix_.size(), prefix_) == 0 ? path.substr(prefix_.size()) : path;
  }

 private:
  std::unique_ptr<client::Place> place_;
  std::unique_ptr<client::Target> at_;
  std::string prefix_;
};

std::vector<std::string> words(uint32_t what) {
  static constexpr std::pair<uint32_t, const char *> known[] = {
      {VEXFS_CHANGED_CREATED, "created"}, {VEXFS_CHANGED_DELETED, "deleted"},       {VEXFS_CHANGED_DATA, "data"},
      {VEXFS_CHANGED_NAMES, "names"},     {VEXFS_CHANGED_ATTRIBUTES, "attributes"}, {VEXFS_CHANGED_XATTRS, "xattrs"},
      {VEXFS_CHANGED_VECTORS, "vectors"}, {VEXFS_CHANGED_COLLECTION, "collection"}, {VEXFS_CHANGED_WRITTEN, "written"}};
  if (what & VEXFS_CHANGED_DATA) what &= ~VEXFS_CHANGED_WRITTEN;
  std::vector<std::string> w;
  for (auto [bit, name] : known)
    if (what & bit) w.emplace_back(name);
  return w;
}

json to_json(const vexfs_change &c, const std::string &path) {
  json j;
  j["path"] = path;
  j["ino"] = c.ino;
  j["what"] = words(c.what);
  if (c.what & VEXFS_CHANGED_COLLECTION) {
    j["added"] = c.added == ~uint64_t{0} ? json() : json(c.added);
    j["gone"] = c.gone == ~uint64_t{0} ? json() : json(c.gone);
  } else {
    j["mode"] = c.mode;
    j["size"] = c.size;
  }
  return j;
}

std::string line(const vexfs_change &c, const std::string &path) {
  std::string l = c.what & VEXFS_CHANGED_CREATED ? "+ " : c.what & VEXFS_CHANGED_DELETED ? "- " : "M ";
  l += path.empty() ? "(inode " + std::to_string(c.ino) + ")" : path;
  if (c.what & VEXFS_CHANGED_COLLECTION) {
    if (c.added == ~uint64_t{0}) return l + "  vectors have changed";
    return l + "  vectors: +" + std::to_string(c.added) + " -" + std::to_string(c.gone);
  }
  if (c.what & (VEXFS_CHANGED_CREATED | VEXFS_CHANGED_DELETED)) return l;
  l += "  (";
  bool first = true;
  for (const auto &w : words(c.what)) {
    l += (first ? "" : ", ") + w;
    first = false;
  }
  return l + ")";
}

void diff(Context &ctx, const Options &o) {
  std::vector<vexfs_change> changes;
  std::string path;
  {
    auto t = ctx.open(o.path, Access::read);
    path = t->path();
    const auto all = client::snapshot_list(*t, false);
    client::snapshot_diff(*t, id_of(all, o.from), o.to.empty() ? 0 : id_of(all, o.to),
                          [&](const vexfs_change &c) { changes.push_back(c); });
  }
  std::vector<std::string> names(changes.size());
  for (bool deleted : {true, false}) {
    auto wanted = [&](const vexfs_change &c) { return ((c.what & VEXFS_CHANGED_DELETED) != 0) == deleted; };
    if (std::none_of(changes.begin(), changes.end(), wanted)) continue;
    Names in(ctx, path, deleted ? o.from : o.to);
    for (size_t i = 0; i < changes.size(); i++)
      if (wanted(changes[i])) names[i] = in.of(ctx, changes[i]);
  }
  json j = json::array();
  for (size_t i = 0; i < changes.size(); i++) {
    if (ctx.as_json)
      j.push_back(to_json(changes[i], names[i]));
    else
      ctx.say(line(changes[i], names[i]));
  }
  if (ctx.as_json) return ctx.print(j);
  if (changes.empty()) ctx.say("no differences");
}

}  // namespace

void add_snapshot_diff_command(CLI::App &group, Context &ctx) {
  auto o = std::make_shared<Options>();
  CLI::App *c = group.add_subcommand("diff", "What has changed since a snapshot, or from one to another");
  c->add_option("FROM", o->from, "the snapshot")->required();
  c->add_option("PATH", o->path, "any file or directory of the filesystem");
  c->add_option("--to", o->to, "the other snapshot, instead of the present");
  c->callback([&ctx, o] { diff(ctx, *o); });
}

}  // namespace vexfs::vexctl
