// SPDX-License-Identifier: MIT
// A whole repair: planned, tried on an overlay, checked there, and only then written.
#include "mend.h"

#include "../../kernel/core/store/check.h"
#include "../../kernel/core/store/log_reader.h"
#include "../../kernel/core/store/volume.h"
#include "../overlay.h"

namespace vexfs::repair {
namespace {

constexpr int kRounds = 3;  // a repair can bring to light what damage had hidden

// Of a filesystem without errors: what a mount would do.
Errno replay(vx_bdev *dev, bool *done) {
  store::Checker look(dev, {[](void *, store::Severity, const char *) {}, nullptr, nullptr});
  const Status st = look.open();
  if (!st.ok()) return st.code();
  store::LogReader log(dev, look.geometry(), look.root());
  const Status scanned = log.scan();
  if (!scanned.ok()) return scanned.code();
  if (log.groups() == 0) return Errno::ok;
  auto volume = store::Volume::open(dev, {});
  if (!volume.ok()) return volume.code();
  *done = true;
  return (*volume)->close().code();
}

void copies_alone(vx_bdev *dev, Depth depth, Mended &out) {
  Repair r(dev);
  out.failure = r.plan(depth);
  if (out.failure != Errno::ok || !r.anything()) return;
  out.failure = r.apply(dev);
  out.written = out.failure == Errno::ok;
  out.actions.insert(out.actions.end(), r.actions().begin(), r.actions().end());
}

// Plans on the overlay, round by round, until the check is content or nothing more can be done.
std::vector<std::unique_ptr<Repair>> rounds(vx_bdev *trial, bool all, const Check &check, Mended &out) {
  std::vector<std::unique_ptr<Repair>> done;
  for (int i = 0; i < kRounds; i++) {
    auto r = std::make_unique<Repair>(trial);
    out.failure = r->plan(Depth::all);
    if (out.failure != Errno::ok) break;
    out.actions.insert(out.actions.end(), r->actions().begin(), r->actions().end());
    if (!all && !r->only_safe()) {
      out.refused = true;
      break;
    }
    if (r->anything()) {
      out.failure = r->apply(trial);
      if (out.failure != Errno::ok) break;
    }
    const bool idle = !r->anything();
    done.push_back(std::move(r));
    Result<u64> errors = check(trial);
    if (!errors.ok()) {
      out.failure = errors.code();
      break;
    }
    out.errors_left = *errors;
    if (out.errors_left == 0 || idle) break;
  }
  return done;
}

}  // namespace

Mended mend(vx_bdev *dev, bool found, bool all, const Check &check) {
  Mended out;
  if (!found) {
    out.failure = replay(dev, &out.replayed);
    // Whoever met damage has marked the root, and with the mark everything is checked: there is none any more.
    if (out.failure == Errno::ok) copies_alone(dev, Depth::checked, out);
    return out;
  }
  host::OverlayDevice trial(dev);
  const auto repairs = rounds(&trial, all, check, out);
  if (out.refused) {  // what is only a matter of copies is put right all the same
    const std::vector<Action> needed = std::exchange(out.actions, {});
    copies_alone(dev, Depth::copies, out);
    out.refused = true;
    out.actions = needed;
    return out;
  }
  if (out.failure != Errno::ok || out.errors_left) return out;
  for (const auto &r : repairs) {
    out.failure = r->apply(dev);
    if (out.failure != Errno::ok) return out;
    out.written = out.written || r->anything();
  }
  return out;
}

}  // namespace vexfs::repair
