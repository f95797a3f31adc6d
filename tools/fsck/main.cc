// SPDX-License-Identifier: MIT
// fsck.vexfs: checks a VexFS filesystem and reports every kind of damage; repairs it with -p and -y.
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "../../kernel/core/api.h"
#include "../../lib/device.h"
#include "../../lib/host.h"
#include "../../lib/repair/mend.h"
#include "options.h"
#include "recover.h"
#include "rooms.h"

namespace vexfs::fsck {
namespace {

using json = nlohmann::ordered_json;

// Collects what the checker finds, and prints it as it comes.
class Report {
 public:
  explicit Report(const Options &o) : options_(o), bar_(o.progress && !o.as_json) {}

  store::CheckSink sink() { return store::CheckSink{&Report::on_line, &Report::on_progress, this}; }
  uint64_t errors() const { return errors_; }
  void add(store::Severity severity, const std::string &text) { on_line(this, severity, text.c_str()); }

  json to_json() const {
    json list = json::array();
    for (const auto &f : findings_) list.push_back(json{{"severity", name(f.severity)}, {"text", f.text}});
    return list;
  }
  void clear_bar() {
    if (bar_shown_) fputs("\r\033[K", stderr);
    bar_shown_ = false;
  }

 private:
  struct Finding {
    store::Severity severity;
    std::string text;
  };
  static constexpr size_t kept_max = 100000;  // of findings in the JSON report; all are counted

  static const char *name(store::Severity s) {
    return s == store::Severity::error ? "error" : s == store::Severity::warning ? "warning" : "note";
  }

  static void on_line(void *ctx, store::Severity severity, const char *text) {
    auto *r = static_cast<Report *>(ctx);
    if (severity == store::Severity::error) r->errors_++;
    if (r->options_.as_json) {
      if (r->findings_.size() < kept_max) r->findings_.push_back(Finding{severity, text});
      return;
    }
    if (severity == store::Severity::note && !r->options_.verbose) return;
    r->clear_bar();
    if (severity == store::Severity::note)
      printf("%s\n", text);
    else
      printf("%s: %s\n", name(severity), text);
  }

  static void on_progress(void *ctx, const char *what, u64 done, u64 total) {
    auto *r = static_cast<Report *>(ctx);
    if (!r->bar_) return;
    const uint64_t now = vx_clock_mono_ns();
    if (now - r->last_ns_ < 100'000'000 && done != total) return;
    r->last_ns_ = now;
    r->bar_shown_ = true;
    const double share = total ? 100.0 * static_cast<double>(done) / static_cast<double>(total) : 100.0;
    fprintf(stderr, "\r%-24s %5.1f %%\033[K", what, share);
  }

  const Options &options_;
  bool bar_;
  bool bar_shown_ = false;
  uint64_t last_ns_ = 0;
  uint64_t errors_ = 0;
  std::vector<Finding> findings_;
};

std::unique_ptr<host::FileDevice> open_device(const Options &o) {
  std::unique_ptr<host::FileDevice> d;
  host::FileDevice::Options how;
  how.read_only = !o.repairs();
  int rc = host::FileDevice::open(o.device, how, &d);
  if ((rc == -EROFS || rc == -EACCES) && o.preen) {
    how.read_only = true;
    rc = host::FileDevice::open(o.device, how, &d);
  }
  if (rc == -EBUSY && (o.no_change || o.preen)) {  // preen: the root filesystem at boot is mounted read-only already
    if (o.no_change)
      fprintf(stderr, "fsck.vexfs: %s is in use: what changes meanwhile can look like damage\n", o.device.c_str());
    how.exclusive = false;
    how.read_only = true;  // whoever uses it would not know of what is written
    rc = host::FileDevice::open(o.device, how, &d);
  }
  if (rc == -EBUSY) throw std::runtime_error(o.device + " is in use (mounted?); -n looks at it all the same");
  if (rc != 0) throw std::runtime_error(o.device + ": " + strerror(-rc));
  return d;
}

// A mount recovers what the log holds; so that state is the one to check, not the last commit.
void tell(const Options &o, const Recovered &r, Report &report) {
  if (r.failed) report.add(store::Severity::error, "the intent log cannot be replayed: checking the last commit");
  if (r.hole)
    report.add(store::Severity::error,
               "the intent log is damaged: of what was synced since the last commit, the end is lost");
  if (r.newer)
    report.add(store::Severity::error,
               "the intent log goes on after a later root: that one, and what followed, is lost");
  if (!r.device || o.as_json) return;
  printf(
      "%s: the intent log holds %llu sync(s), %llu changes, which the next mount recovers; they are included in this "
      "check\n",
      o.device.c_str(), static_cast<unsigned long long>(r.syncs), static_cast<unsigned long long>(r.records));
}

struct Outcome {
  Errno failure = Errno::ok;  // why the check could not be done
  bool full = false;
  RoomFigures rooms;
};

Outcome check(const Options &o, store::Checker &c) {
  Outcome out;
  out.failure = c.open().code();
  if (out.failure != Errno::ok) return out;
  const bool damage_met = (c.root().state.get() & disk::kRootStateErrors) != 0;
  out.full = !o.preen || o.force || damage_met || c.figures().errors != 0;
  if (!out.full) {
    Result<bool> tops = c.tops_sound();
    out.failure = tops.code();
    out.full = tops.ok() && !*tops;
  }
  if (out.full) out.failure = check_rooms(c, &out.rooms, o.check_data).code();
  return out;
}

// What a check of the whole finds, without a word.
Result<u64> count_errors(vx_bdev *dev) {
  u64 errors = 0;
  store::CheckSink sink{};
  sink.ctx = &errors;
  sink.line = [](void *ctx, store::Severity s, const char *) {
    *static_cast<u64 *>(ctx) += s == store::Severity::error;
  };
  store::Checker c(dev, sink);
  Status st = c.open();
  RoomFigures rooms;
  if (st.ok()) st = check_rooms(c, &rooms);
  if (st.code() == Errno::corrupt) return errors + 1;
  if (!st.ok()) return st.error();
  return errors;
}

// Repairs what the check has found, or puts copies in order when it has found nothing.
repair::Mended repair_device(const Options &o, vx_bdev *dev, const Outcome &out, uint64_t errors) {
  repair::Mended none;
  if (!o.repairs() || vx_bdev_read_only(dev)) return none;
  if (out.failure != Errno::ok && out.failure != Errno::corrupt) return none;
  return repair::mend(dev, errors != 0 || out.failure == Errno::corrupt, o.yes, count_errors);
}

// The exit status after a repair was tried; `code` is that of the check.
int exit_code(const repair::Mended &m, int code) {
  if (code == exit_operational) return code;
  if (m.failure != Errno::ok || m.refused || m.errors_left) return exit_errors_left;
  if (m.written) return exit_corrected;
  return code;
}

void print_repair(const Options &o, const repair::Mended &m, uint64_t errors, uint64_t lost) {
  const char *dev = o.device.c_str();
  if (lost)
    printf("%s: of these, %llu in data, which no repair brings back\n", dev, static_cast<unsigned long long>(lost));
  const bool done = m.written && !m.refused;
  for (const repair::Action &a : m.actions)
    printf("%s: %s\n",
           done                     ? "repaired"
           : m.failure == Errno::ok ? "would be repaired"
                                    : "not repaired",
           a.text.c_str());
  if (m.replayed) printf("%s: the intent log was replayed\n", dev);
  if (m.failure == Errno::nospc)
    printf("%s: there is no space for what a repair has to write; nothing was changed\n", dev);
  else if (m.failure != Errno::ok)
    printf("%s: the repair failed: %s\n", dev, strerror(static_cast<int>(m.failure)));
  else if (m.refused)
    printf("%s: this takes decisions, or something is lost by it: run fsck.vexfs -y%s\n", dev,
           m.written ? " (damaged copies were repaired)" : "");
  else if (m.errors_left)
    printf("%s: %llu error(s) would be left after a repair; nothing was changed\n", dev,
           static_cast<unsigned long long>(m.errors_left));
  else if (m.written)
    printf("%s: repaired%s\n", dev, errors ? "" : " (copies and marks only)");
}

int exit_code(const Outcome &out, uint64_t errors) {
  if (out.failure == Errno::inval) return exit_operational;  // no VexFS: there is nothing to have errors
  if (errors || out.failure == Errno::corrupt) return exit_errors_left;
  return out.failure == Errno::ok ? exit_clean : exit_operational;
}

void print_json(const Options &o, const store::Checker &c, const Outcome &out, const Recovered &log,
                const Report &report, const repair::Mended &mended, int code) {
  const auto &f = c.figures();
  json j;
  j["device"] = o.device;
  j["clean"] = code == exit_clean;
  j["full"] = out.full;
  j["exit"] = code;
  j["failure"] = out.failure == Errno::ok      ? ""
                 : out.failure == Errno::inval ? "no VexFS filesystem"
                                               : strerror(static_cast<int>(out.failure));
  j["errors"] = f.errors;
  j["warnings"] = f.warnings;
  j["nodes"] = f.nodes;
  j["leaves"] = f.leaves;
  j["items"] = f.items;
  j["blocks"] = f.claimed_blocks;
  const RoomFigures &r = out.rooms;
  j["inodes"] = r.files.inodes;
  j["directories"] = r.files.directories;
  j["names"] = r.files.names;
  j["extents"] = r.files.extents;
  j["orphans"] = r.files.orphans;
  j["xattrs"] = r.files.xattrs;
  j["inline_files"] = r.files.inline_files;
  j["summed_blocks"] = r.files.summed_blocks;
  j["shared_blocks"] = r.files.shared_blocks;
  j["collections"] = r.vectors.collections;
  j["rows"] = r.vectors.rows;
  j["dead_rows"] = r.vectors.dead;
  j["owned_rows"] = r.vectors.owned;
  j["vector_chunks"] = r.vectors.chunks;
  j["snapshots"] = r.snapshots;
  if (o.check_data) {
    j["data_blocks"] = r.data.blocks;
    j["unsummed_blocks"] = r.data.unsummed;
    j["damaged_blocks"] = r.data.damaged;
  }
  j["log_syncs"] = log.syncs;
  j["log_records"] = log.records;
  j["replayed"] = mended.replayed;
  j["repaired"] = mended.written && !mended.refused;
  j["repairs"] = json::array();
  for (const repair::Action &a : mended.actions)
    j["repairs"].push_back(json{{"safe", a.kind == repair::Action::Kind::safe}, {"text", a.text}});
  j["findings"] = report.to_json();
  puts(j.dump(2, ' ', false, json::error_handler_t::replace).c_str());
}

void print_text(const Options &o, const store::Checker &c, const Outcome &out, int code) {
  const auto &f = c.figures();
  const char *dev = o.device.c_str();
  if (out.failure == Errno::inval)
    printf("%s: no VexFS filesystem\n", dev);
  else if (out.failure != Errno::ok && out.failure != Errno::corrupt)
    printf("%s: the check could not be finished: %s\n", dev, strerror(static_cast<int>(out.failure)));
  if (o.verbose && out.full) {
    auto n = [](u64 v) { return static_cast<unsigned long long>(v); };
    const RoomFigures &r = out.rooms;
    printf("%s: %llu tree nodes, %llu items, %llu blocks in use\n", dev, n(f.nodes), n(f.items), n(f.claimed_blocks));
    printf("%s: %llu inodes, %llu directories, %llu names, %llu extents, %llu inline files, %llu orphans\n", dev,
           n(r.files.inodes), n(r.files.directories), n(r.files.names), n(r.files.extents), n(r.files.inline_files),
           n(r.files.orphans));
    printf("%s: %llu collections, %llu vectors, %llu of these of files, %llu dead, %llu chunks\n", dev,
           n(r.vectors.collections), n(r.vectors.rows), n(r.vectors.owned), n(r.vectors.dead), n(r.vectors.chunks));
    if (r.snapshots) printf("%s: %llu snapshots, each checked in the same way\n", dev, n(r.snapshots));
    if (o.check_data)
      printf("%s: %llu blocks of file data compared with their checksums, %llu damaged\n", dev, n(r.data.blocks),
             n(r.data.damaged));
  }
  if (code == exit_clean) {
    printf("%s: clean", dev);
    if (f.warnings) printf(", %llu warning(s)", static_cast<unsigned long long>(f.warnings));
    puts(out.full ? "" : " (superblock, roots, space maps and the top of each tree; -f checks everything)");
  } else if (code == exit_errors_left) {
    printf("%s: %llu error(s), %llu warning(s)%s\n", dev, static_cast<unsigned long long>(f.errors),
           static_cast<unsigned long long>(f.warnings),
           o.repairs() || f.errors == f.lost ? "" : "; -p repairs what nothing is lost by, -y everything");
  }
}

int run(int argc, char **argv) {
  const Options o = parse_options(argc, argv);
  if (o.help) {
    fputs(usage_text(), stdout);
    return exit_clean;
  }
  if (o.version) {
    printf("fsck.vexfs %s\n", vx_core_version());
    return exit_clean;
  }
  // What the checker logs besides findings would only repeat them.
  host::set_log_hook([&o](vx_bdev *, int level, const char *line) {
    if (o.verbose && level <= VX_LOG_WARN) fprintf(stderr, "%s\n", line);
  });
  std::unique_ptr<host::FileDevice> device;
  try {
    device = open_device(o);
  } catch (const std::exception &e) {
    if (o.as_json)
      puts(json{{"device", o.device}, {"clean", false}, {"exit", exit_operational}, {"failure", e.what()}}
               .dump(2)
               .c_str());
    throw;
  }
  Report report(o);
  const Recovered log = recover(device.get());
  tell(o, log, report);
  vx_bdev *state = device.get();
  if (log.device) state = log.device.get();
  store::Checker checker(state, report.sink());
  const Outcome out = check(o, checker);
  report.clear_bar();
  const int found = exit_code(out, report.errors());
  if (!o.as_json) print_text(o, checker, out, found);
  // From here on a signal waits: what is being written is small, and written in an order that a crash cannot hurt.
  if (o.repairs()) signal(SIGINT, SIG_IGN);
  const uint64_t lost = checker.figures().lost;  // data: there is nothing to repair it from
  const repair::Mended mended = repair_device(o, device.get(), out, report.errors() - lost);
  int code = exit_code(mended, found);
  if (lost && code != exit_operational) code = exit_errors_left;
  if (o.as_json)
    print_json(o, checker, out, log, report, mended, code);
  else
    print_repair(o, mended, report.errors(), lost);
  return code;
}

}  // namespace
}  // namespace vexfs::fsck

int main(int argc, char **argv) {
  using namespace vexfs::fsck;                        // NOLINT(google-build-using-namespace)
  signal(SIGINT, [](int) { _exit(exit_canceled); });  // nothing has been written yet
  try {
    const int code = run(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) throw std::runtime_error("the report cannot be written");
    return code;
  } catch (const Usage &e) {
    fprintf(stderr, "fsck.vexfs: %s (fsck.vexfs --help)\n", e.what());
    return exit_usage;
  } catch (const std::exception &e) {
    fprintf(stderr, "fsck.vexfs: %s\n", e.what());
    return exit_operational;
  }
}
