// SPDX-License-Identifier: MIT
// vexctl scrub: reads everything that has a checksum, at the pace asked for, and says which files and vectors are damaged.
#include <algorithm>
#include <csignal>
#include <cstring>
#include <fstream>
#include <map>
#include <thread>

#include "context.h"

namespace vexfs::vexctl {
namespace {

struct Options {
  std::string path, state, rate, only;
  bool repair = false;
};

struct Totals {
  uint64_t nodes = 0, data = 0, vectors = 0, unsummed = 0, damaged = 0, repaired = 0;
};

volatile std::sig_atomic_t stopped = 0;
void on_signal(int) { stopped = 1; }

uint32_t parts(const std::string &only) {
  uint32_t flags = 0;
  for (const std::string &part : split(only, ',')) {
    if (part == "nodes")
      flags |= VEXFS_SCRUB_NODES;
    else if (part == "data")
      flags |= VEXFS_SCRUB_DATA;
    else if (part == "vectors")
      flags |= VEXFS_SCRUB_VECTORS;
    else if (part == "fixed")
      flags |= VEXFS_SCRUB_FIXED;
    else if (part == "snapshots")
      flags |= VEXFS_SCRUB_SNAPSHOTS;
    else
      throw Usage("--only " + only + ": what there is: nodes, data, vectors, fixed, snapshots");
  }
  return flags;
}

// Where a scrub that was stopped is to go on, in a file of the user's.
class State {
 public:
  explicit State(std::string path) : path_(std::move(path)) {}

  void load(vexfs_scrub &v, Totals &t) const {
    std::ifstream in(path_);
    if (path_.empty() || !in) return;
    const json j = json::parse(in, nullptr, false);
    const auto number = [](const json &x) { return x.is_number_unsigned(); };
    bool good = j.is_object() && j.contains("position") && j["position"].is_array() && j["position"].size() == 4 &&
                std::all_of(j["position"].begin(), j["position"].end(), number);
    for (const char *key : keys) good = good && j.contains(key) && number(j[key]);
    if (!good) throw Usage(path_ + ": not the state of a scrub");
    for (size_t i = 0; i < 4; i++) v.position[i] = j["position"][i].get<uint64_t>();
    uint64_t *const to[] = {&t.nodes, &t.data, &t.vectors, &t.unsummed, &t.damaged, &t.repaired};
    for (size_t i = 0; i < std::size(keys); i++) *to[i] = j[keys[i]].get<uint64_t>();
  }
  void save(const vexfs_scrub &v, const Totals &t) const {
    if (path_.empty()) return;
    json j{{"position", v.position}};
    const uint64_t from[] = {t.nodes, t.data, t.vectors, t.unsummed, t.damaged, t.repaired};
    for (size_t i = 0; i < std::size(keys); i++) j[keys[i]] = from[i];
    const std::string fresh = path_ + ".new";
    std::ofstream out(fresh, std::ios::trunc);
    out << j.dump() << '\n';
    out.close();
    if (!out || std::rename(fresh.c_str(), path_.c_str()) != 0)
      throw client::Error(errno ? errno : EIO, path_ + ": cannot be written");
  }
  void forget() const {
    if (!path_.empty()) (void)std::remove(path_.c_str());
  }

 private:
  static constexpr const char *keys[] = {"nodes",          "data_bytes", "vector_bytes",
                                         "unsummed_bytes", "damaged",    "repaired"};
  std::string path_;
};

// Names and paths of what was found, in the present and in snapshots.
class Names {
 public:
  Names(Context &ctx, client::Target &t) : ctx_(ctx), t_(t) {}
  // "" for the present.
  std::string snapshot(uint64_t id) {
    if (id == 0) return "";
    auto it = names_.find(id);
    if (it != names_.end()) return it->second;
    for (const vexfs_snapshot &s : client::snapshot_list(t_, false))
      names_.emplace(s.id, std::string(s.name, strnlen(s.name, sizeof s.name)));
    return names_.emplace(id, "#" + std::to_string(id)).first->second;  // deleted meanwhile
  }
  // Of an inode; below .vexfs/snapshots for one of a snapshot. "" when there is none.
  std::string path(const vexfs_found &f) {
    if (f.snapshot == 0) return ctx_.place(Access::read).path_of(f.ino, 0, t_);
    try {
      return past(snapshot(f.snapshot), f.ino);
    } catch (const client::Error &) {
      return "";  // the snapshot has gone, or so much of it is damaged
    }
  }

  // Lets go of the snapshots that were looked into: one that is held cannot be deleted.
  void forget() { places_.clear(); }

 private:
  std::string past(const std::string &name, uint64_t ino) {
    if (ctx_.place(Access::read).is_image()) {
      const std::string path = ctx_.image_place(Access::read).path_in(name, ino);
      return path.empty() ? "" : "/.vexfs/snapshots/" + name + path;
    }
    const auto now = client::find_mount(t_.path()).point;
    auto &p = places_[name];
    if (!p.place) {
      p.place = client::mounted();
      p.root = p.place->open(client::path_in_snapshot(now, name));
    }
    return p.place->path_of(ino, 0, *p.root);
  }
  struct Past {
    std::unique_ptr<client::Place> place;
    std::unique_ptr<client::Target> root;
  };
  Context &ctx_;
  client::Target &t_;
  std::map<uint64_t, std::string> names_;
  std::map<std::string, Past> places_;
};

std::string place_of(Names &names, const vexfs_found &f) {
  const std::string in = f.snapshot ? "snapshot " + names.snapshot(f.snapshot) + ": " : "";
  if (f.kind == VEXFS_FOUND_NODE && f.ino == 2 && f.snapshot) return in + "the top of one of its trees";
  if (f.kind == VEXFS_FOUND_NODE)
    return in + "tree " + std::to_string(f.ino) + ", a node of level " + std::to_string(f.offset);
  if (f.kind == VEXFS_FOUND_FIXED) {
    static constexpr const char *what[] = {"copy of the superblock, number ", "root slot ", "group descriptor block ",
                                           "space map of block group "};
    return (f.ino < std::size(what) ? what[f.ino] : "structure ") + std::to_string(f.offset);
  }
  std::string path = names.path(f);
  if (path.empty()) path = in + "inode " + std::to_string(f.ino);
  if (f.kind == VEXFS_FOUND_DATA) return path + ": data at offset " + std::to_string(f.offset);
  if (f.kind == VEXFS_FOUND_ROW) return path + ": vector " + std::to_string(f.offset);
  return path + (f.snapshot ? ": the index" : ": the index (vexctl index rebuild makes a new one)");
}

json to_json(Names &names, const vexfs_found &f) {
  static constexpr const char *kinds[] = {"?", "node", "data", "row", "index", "fixed"};
  json j{{"kind", f.kind < std::size(kinds) ? kinds[f.kind] : "?"}};
  if (f.kind == VEXFS_FOUND_FIXED) {
    static constexpr const char *what[] = {"superblock", "root", "descriptors", "bitmap"};
    j["structure"] = f.ino < std::size(what) ? what[f.ino] : "?";
    j["number"] = f.offset;
    j["device_byte"] = f.device;
    j["repaired"] = (f.flags & VEXFS_FOUND_REPAIRED) != 0;
    return j;
  }
  if (f.snapshot) j["snapshot"] = names.snapshot(f.snapshot);
  if (f.kind != VEXFS_FOUND_NODE) j["path"] = names.path(f);
  j[f.kind == VEXFS_FOUND_NODE ? "tree" : "ino"] = f.ino;
  j[f.kind == VEXFS_FOUND_NODE ? "level" : f.kind == VEXFS_FOUND_DATA ? "offset" : "id"] = f.offset;
  j["device_byte"] = f.device;
  j["repaired"] = (f.flags & VEXFS_FOUND_REPAIRED) != 0;
  return j;
}

void print_totals(Context &ctx, const Totals &t, bool done, json findings) {
  if (ctx.as_json)
    return ctx.print(json{{"done", done},
                          {"nodes", t.nodes},
                          {"data_bytes", t.data},
                          {"vector_bytes", t.vectors},
                          {"unsummed_bytes", t.unsummed},
                          {"damaged", t.damaged},
                          {"repaired", t.repaired},
                          {"findings", std::move(findings)}});
  ctx.say((done ? "read " : "stopped; so far read ") + human_count(t.nodes) + " tree nodes, " + human_bytes(t.data) +
          " of file data, " + human_bytes(t.vectors) + " of vectors and indexes");
  if (t.unsummed) ctx.say(human_bytes(t.unsummed) + " of file data without checksums were passed by");
  ctx.say(t.damaged == 0
              ? "no damage found"
              : std::to_string(t.damaged) + " damaged, " + std::to_string(t.repaired) + " of these repaired");
}

void scrub(Context &ctx, const Options &o) {
  auto target = ctx.open(o.path, o.repair ? Access::write : Access::read);
  const uint64_t rate = o.rate.empty() ? 0 : parse_size(o.rate);
  if (!o.rate.empty() && rate < 4096) throw Usage("--rate " + o.rate + ": at least 4k a second");
  const State state(o.state);
  Totals totals;
  vexfs_scrub v{};
  v.flags = o.only.empty() ? 0 : parts(o.only);
  v.budget = rate ? std::min<uint64_t>(rate / 4 + 1, 64 << 20) : 32 << 20;
  state.load(v, totals);
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  json findings = json::array();
  Names names(ctx, *target);
  const client::Space space = ctx.place(o.repair ? Access::write : Access::read).space(*target);
  // At most: a part of it is less, and what is stored twice counts once when it is read.
  Progress bar(ctx, "scrub", (space.blocks - space.blocks_free) * space.block_size);
  while (!v.done && !stopped) {
    const uint64_t begin = now_ns();
    const std::vector<vexfs_found> found = client::scrub(*target, v);
    for (const vexfs_found &f : found) {
      if (ctx.as_json)
        findings.push_back(to_json(names, f));
      else
        ctx.say(place_of(names, f) + " is damaged" + (f.flags & VEXFS_FOUND_REPAIRED ? "; repaired" : ""));
      totals.damaged++;
      totals.repaired += f.flags & VEXFS_FOUND_REPAIRED ? 1 : 0;
    }
    names.forget();
    totals.nodes += v.nodes;
    totals.data += v.data_bytes;
    totals.vectors += v.vector_bytes;
    totals.unsummed += v.unsummed;
    state.save(v, totals);
    bar.at(totals.nodes * 16384 + totals.data + totals.vectors + totals.unsummed);
    if (!rate) continue;
    const uint64_t read = v.data_bytes + v.vector_bytes + v.nodes * 16384;
    // A call that found nothing to compare has read nodes to know it.
    const double due = static_cast<double>(read ? read : 65536) / static_cast<double>(rate);
    const double spent = static_cast<double>(now_ns() - begin) / 1e9;
    if (due > spent) std::this_thread::sleep_for(std::chrono::duration<double>(due - spent));
  }
  if (v.done) state.forget();
  print_totals(ctx, totals, v.done, std::move(findings));
  if (totals.damaged > totals.repaired)
    ctx.result = exit_damage;
  else if (!v.done)
    ctx.result = exit_failed;
}

}  // namespace

void add_scrub_command(CLI::App &app, Context &ctx) {
  auto o = std::make_shared<Options>();
  CLI::App *c = app.add_subcommand("scrub", "Read everything, compare it with its checksums, say what is damaged");
  c->add_option("PATH", o->path, "any file or directory of the filesystem");
  c->add_option("-r,--rate", o->rate, "bytes a second at most (64k, 100M)");
  c->add_option("--only", o->only, "part of it: nodes, data, vectors, fixed, snapshots (several: with commas)");
  c->add_option("-s,--state", o->state, "a file to go on from when stopped: written meanwhile, gone at the end");
  c->add_flag("--repair", o->repair, "with --image: write anew what can be (of a mount this is always done)");
  c->callback([&ctx, o] { scrub(ctx, *o); });
}

}  // namespace vexfs::vexctl
