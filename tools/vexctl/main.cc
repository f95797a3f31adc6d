// SPDX-License-Identifier: MIT
// vexctl: collections, vectors, searches and indexes of a VexFS, mounted or in an image file.
#include <cerrno>
#include <cstdio>
#include <iostream>
#include <optional>

#include "../../lib/vecfile/vecfile.h"
#include "context.h"

namespace vexfs::vexctl {
namespace {

int exit_code(int err) {
  switch (err) {
    case ENOENT:
    case ENODATA:
      return exit_not_found;
    case EACCES:
    case EPERM:
    case EROFS:
      return exit_denied;
    case EIO:
    case EUCLEAN:
      return exit_damage;
    default:
      return exit_failed;
  }
}

int report(const Context &ctx, const std::string &what, int err, int code, std::optional<uint64_t> done = {}) {
  ctx.error(what, err, code, done);
  return code;
}

template <class F>
int guarded(const Context &ctx, F f) {
  try {
    f();
    return exit_ok;
  } catch (const client::PartlyDone &e) {
    return report(ctx, e.what(), e.err(), exit_code(e.err()), e.done());
  } catch (const client::Error &e) {
    return report(ctx, e.what(), e.err(), exit_code(e.err()));
  } catch (const Usage &e) {
    return report(ctx, e.what(), EINVAL, exit_usage);
  } catch (const vecfile::Error &e) {
    return report(ctx, e.what(), e.err(), exit_code(e.err()));
  } catch (const std::bad_alloc &) {
    return report(ctx, "out of memory", ENOMEM, exit_failed);
  } catch (const std::exception &e) {
    return report(ctx, e.what(), 0, exit_failed);
  }
}

void add_global_options(CLI::App &app, Context &ctx) {
  app.set_version_flag("-V,--version", std::string("vexctl ") + vx_core_version());
  app.add_option("--image", ctx.image, "work on this image file or unmounted device instead of a mount");
  app.add_option("--snapshot", ctx.snapshot, "with --image: as it was in this snapshot, read-only");
  app.add_flag("--json", ctx.as_json, "print JSON (errors too, on stderr)");
  app.add_flag("--quiet", ctx.quiet, "no words, no progress bars");
  app.require_subcommand(1);
  app.fallthrough();  // global options may stand behind the command
  app.footer(
      "Without --image a PATH is any file or directory inside a mounted VexFS (default: the current directory);\n"
      "with --image it is a path inside the image (default: /).\n"
      "Exit status: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 not permitted, 5 damage, 6 recall too low.");
}

// What the command line is found wrong for. That a command is missing is no help to who mistyped it.
std::string wrong_line(const CLI::App &app, const CLI::ParseError &e) {
  const CLI::App *at = &app;
  std::string path;
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().front();
    path += at->get_name() + " ";
  }
  const auto left = app.remaining(true);
  const bool no_command = dynamic_cast<const CLI::RequiredError *>(&e) && !at->get_subcommands({}).empty();
  if (no_command && !left.empty()) return "unknown command '" + path + left.front() + "' (vexctl " + path + "--help)";
  return std::string(e.what()) + " (vexctl " + path + "--help)";
}

}  // namespace

int run(int argc, char **argv) {
  Context ctx;
  CLI::App app{"vexctl - vectors in a VexFS filesystem", "vexctl"};
  add_global_options(app, ctx);
  add_status_commands(app, ctx);
  add_collection_commands(app, ctx);
  add_vector_commands(app, ctx);
  add_import_command(app, ctx);
  add_search_command(app, ctx);
  add_eval_command(app, ctx);
  add_index_commands(app, ctx);
  add_snapshot_commands(app, ctx);
  add_clone_command(app, ctx);
  add_scrub_command(app, ctx);
  add_image_commands(app, ctx);
  add_completion_command(app, ctx);
  int code = guarded(ctx, [&] {
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success &e) {
      app.exit(e);
    } catch (const CLI::ParseError &e) {
      throw Usage(wrong_line(app, e));
    }
  });
  const int closing = guarded(ctx, [&] { ctx.finish(); });
  if (code == exit_ok) code = closing;
  if (code == exit_ok) code = ctx.result;
  if (fflush(stdout) != 0 || !std::cout.flush()) return report(ctx, "cannot write the output", errno, exit_failed);
  return code;
}

}  // namespace vexfs::vexctl

int main(int argc, char **argv) {
  try {
    return vexfs::vexctl::run(argc, argv);
  } catch (const std::exception &e) {  // before there are commands
    fprintf(stderr, "vexctl: %s\n", e.what());
    return vexfs::vexctl::exit_failed;
  }
}
