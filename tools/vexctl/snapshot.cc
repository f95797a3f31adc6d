// SPDX-License-Identifier: MIT
// vexctl snapshot create | list | rollback | delete (diff: snapshot_diff.cc; send, receive, verify: snapshot_send.cc, snapshot_receive.cc)
#include "context.h"

namespace vexfs::vexctl {
namespace {

struct Options {
  std::string name, path;
  bool account = false, cancel = false;
};

json to_json(const vexfs_snapshot &s, bool account) {
  json j;
  j["id"] = s.id;
  j["name"] = std::string(s.name, strnlen(s.name, sizeof s.name));
  j["txn"] = s.txn;
  j["created_sec"] = s.created_sec;
  j["created_nsec"] = s.created_nsec;
  j["used_bytes"] = s.used_bytes;
  if (account) j["own_bytes"] = s.own_bytes;
  j["next"] = (s.state & VEXFS_SNAPSHOT_S_NEXT) != 0;
  j["counting"] = (s.state & VEXFS_SNAPSHOT_S_COUNTING) != 0;
  j["replaced_by"] = s.replaced_by;
  return j;
}

void create(Context &ctx, const Options &o) {
  auto t = ctx.open(o.path, Access::write);
  const vexfs_snapshot s = client::snapshot_create(*t, o.name);
  if (ctx.as_json) return ctx.print(to_json(s, false));
  ctx.say("snapshot " + std::to_string(s.id) + " '" + o.name + "' made");
}

std::string state_of(const vexfs_snapshot &s) {
  if (s.state & VEXFS_SNAPSHOT_S_NEXT) return "next mount";
  if (s.state & VEXFS_SNAPSHOT_S_COUNTING) return "counting";
  return s.replaced_by ? "replaced" : "-";
}

void list(Context &ctx, const Options &o) {
  auto t = ctx.open(o.path, Access::read);
  const auto all = client::snapshot_list(*t, o.account);
  json j = json::array();
  Table table(o.account ? std::vector<std::string>{"ID", "CREATED", "OWN", "STATE", "NAME"}
                        : std::vector<std::string>{"ID", "CREATED", "STATE", "NAME"});
  for (const auto &s : all) {
    j.push_back(to_json(s, o.account));
    std::vector<std::string> row{std::to_string(s.id), human_time(static_cast<int64_t>(s.created_sec))};
    if (o.account) row.push_back(human_bytes(s.own_bytes));
    row.push_back(state_of(s));
    row.emplace_back(s.name, strnlen(s.name, sizeof s.name));
    table.row(row);
  }
  if (ctx.as_json) return ctx.print(j);
  if (all.empty()) return ctx.say("no snapshots");
  if (!ctx.quiet) table.print();
}

// Of an image at once: to open it again is its next mount.
void rollback(Context &ctx, const Options &o) {
  auto t = ctx.open(o.path, Access::write);
  if (o.cancel) {
    client::snapshot_rollback_cancel(*t);
    if (ctx.as_json) return ctx.print(json{{"next", nullptr}});
    return ctx.say("no rollback at the next mount");
  }
  client::snapshot_rollback(*t, o.name);
  if (ctx.image.empty()) {
    if (ctx.as_json) return ctx.print(json{{"next", o.name}});
    return ctx.say("the next mount goes back to snapshot '" + o.name +
                   "', and keeps what is there until then as another; --cancel takes this back");
  }
  t.reset();
  ctx.finish();
  t = ctx.open(o.path, Access::write);
  for (const auto &s : client::snapshot_list(*t, false))
    if (s.state & VEXFS_SNAPSHOT_S_NEXT) throw client::Error(EIO, ctx.image + ": the rollback failed; see the log");
  if (ctx.as_json) return ctx.print(json{{"rolled_back", o.name}});
  ctx.say("went back to snapshot '" + o.name + "'; what was there before is the newest snapshot");
}

void remove(Context &ctx, const Options &o) {
  auto t = ctx.open(o.path, Access::write);
  client::snapshot_delete(*t, o.name);
  if (ctx.as_json) return ctx.print(json{{"deleted", o.name}});
  ctx.say("snapshot '" + o.name + "' deleted");
}

}  // namespace

void add_snapshot_commands(CLI::App &app, Context &ctx) {
  auto o = std::make_shared<Options>();
  CLI::App *group =
      app.add_subcommand("snapshot", "Make, list, compare (diff), send, receive, delete and go back to snapshots")
          ->alias("snap");
  group->require_subcommand(1);

  CLI::App *c = group->add_subcommand("create", "Keep all files and vectors as they are now");
  c->add_option("NAME", o->name, "its name: 1 to 63 bytes of UTF-8")->required();
  c->add_option("PATH", o->path, "any file or directory of the filesystem");
  c->callback([&ctx, o] { create(ctx, *o); });

  c = group->add_subcommand("list", "All snapshots of the filesystem");
  c->add_option("PATH", o->path, "any file or directory of the filesystem");
  c->add_flag("-s,--space", o->account, "with what deleting each would free (takes time)");
  c->callback([&ctx, o] { list(ctx, *o); });

  c = group->add_subcommand("rollback",
                            "Go back to a snapshot: of an image at once, of a mounted filesystem at its next mount");
  auto *name = c->add_option("NAME", o->name, "the snapshot");
  c->add_option("PATH", o->path, "any file or directory of the filesystem");
  c->add_flag("--cancel", o->cancel, "take a rollback at the next mount back (with PATH alone)");
  c->callback([&ctx, o, name] {
    if (o->cancel && o->path.empty()) std::swap(o->name, o->path);
    if (!o->cancel && name->empty()) throw Usage("give the NAME of a snapshot, or --cancel");
    rollback(ctx, *o);
  });

  add_snapshot_diff_command(*group, ctx);
  add_snapshot_send_command(*group, ctx);
  add_snapshot_receive_commands(*group, ctx);

  c = group->add_subcommand("delete", "Let a snapshot go; its space comes back in the background");
  c->add_option("NAME", o->name, "the snapshot")->required();
  c->add_option("PATH", o->path, "any file or directory of the filesystem");
  c->callback([&ctx, o] { remove(ctx, *o); });
}

}  // namespace vexfs::vexctl
