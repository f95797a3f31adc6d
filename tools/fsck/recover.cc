// SPDX-License-Identifier: MIT
// fsck.vexfs: replaying the intent log on an overlay.
#include "recover.h"

#include "../../kernel/core/store/log_reader.h"
#include "../../kernel/core/store/volume.h"

namespace vexfs::fsck {

Recovered recover(vx_bdev *dev) {
  Recovered out;
  // Silent: what is wrong with superblock and roots is said by the check itself.
  store::Checker look(dev, {[](void *, store::Severity, const char *) {}, nullptr, nullptr});
  if (!look.open().ok()) return out;
  store::LogReader log(dev, look.geometry(), look.root());
  out.failed = !log.scan().ok();
  out.hole = log.hole();
  out.newer = log.newer();
  out.syncs = log.groups();
  out.records = log.records();
  if (out.failed || out.newer || out.syncs == 0) return out;
  auto overlay = std::make_unique<host::OverlayDevice>(dev);
  auto volume = store::Volume::open(overlay.get(), {});
  out.failed = !volume.ok() || !(*volume)->close().ok();
  if (!out.failed) out.device = std::move(overlay);
  return out;
}

}  // namespace vexfs::fsck
