// SPDX-License-Identifier: MIT
// mkfs.vexfs: may this device be overwritten?
#pragma once
#include <string>

#include "../../lib/device.h"
#include "options.h"

namespace vexfs::mkfs {

// Throws std::runtime_error when something uses the device or image: mounts and swap (also through a loop device).
void refuse_if_in_use(const std::string &path);

// What the device carries now, by libblkid and our own magic: "ext4 filesystem, label 'x'"; empty when nothing is
// known.
std::string existing_contents(const host::FileDevice &device);

// Removes the signatures of what was there before, so that nothing takes the device for that any more.
void wipe_signatures(const host::FileDevice &device);

// Asks on the terminal whether to go on. Without a terminal on stdin the answer is yes, as with mke2fs: scripts and
// test suites call mkfs that way, and -t on a terminal is where accidents happen.
bool may_overwrite(const Options &o, const std::string &contents);

}  // namespace vexfs::mkfs
