// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Finding and reading superblocks and root slots, with their fallbacks. Used by open and by the checker.
#pragma once
#include "../base/memory.h"
#include "../disk/root.h"

namespace vexfs::store {

// Reads bytes of the device in pieces; io, nxio when out of range.
Status device_read(vx_bdev *dev, u64 off, MutBytes out, bool meta);
Status device_write(vx_bdev *dev, u64 off, Bytes in, u32 flags);

struct SuperFound {
  Box<disk::SuperDisk> super;
  disk::Geometry geo;
  u64 at = disk::kSuperOffset;  // byte offset of the copy that was used
  disk::Refusal primary;        // why the primary was refused, if it was
};
// The primary superblock or, if that is damaged, a backup. inval: there is no VexFS here; corrupt, io, nomem.
Result<SuperFound> find_super(vx_bdev *dev);

// Reads slot `slot` (0, 1), copy `mirror`, into buf (root_blocks). What was wrong with it is in *why.
Status read_root(vx_bdev *dev, const disk::Geometry &g, unsigned slot, unsigned mirror, MutBytes buf,
                 disk::Refusal *why);
// Writes copy `mirror` of a slot with what `from`, a usable root of that slot, says; from becomes that copy.
Status copy_root(vx_bdev *dev, const disk::Geometry &g, MutBytes from, unsigned mirror);
// Is the newest root that is found the newest that there was? A commit writes the first copy of a slot and, when that is
// durable, the mirror, and sees to it that both are usable before; so a power cut leaves the slot as it was, with the first
// copy torn, or with a new first copy and a mirror that is old or torn. Of anything else damage is the cause, and the slot
// may have held a later state.
enum class NewerRoot : u8 {
  none,      // the slots are as commits and power cuts leave them
  possible,  // the mirror of the other slot is unusable, its first copy is old: was that not the newest, it is lost
  likely,    // neither copy of the other slot is usable
};
struct RootFound {
  unsigned slot = 0, mirror = 0;
  u64 txn = 0;
  NewerRoot newer = NewerRoot::none;
  bool bad[2][2] = {};  // by slot and copy: unusable
};
// The newest valid root of all copies, in buf. corrupt: none is valid. Calls told for each damaged copy.
Result<RootFound> newest_root(vx_bdev *dev, const disk::Geometry &g, MutBytes buf,
                              FnRef<void(unsigned slot, unsigned mirror, Errno err, const disk::Refusal &)> told);

}  // namespace vexfs::store
