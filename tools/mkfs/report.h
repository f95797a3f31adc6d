// SPDX-License-Identifier: MIT
// mkfs.vexfs: the figures of a filesystem, for people.
#pragma once
#include <string>

#include "../../kernel/core/store/format.h"
#include "options.h"

namespace vexfs::mkfs {

std::string human(uint64_t bytes);  // "1.5 GiB"

// How many vectors fit into the free space, an estimate: rows, their metadata, ids and the index's checkpoint.
uint64_t vector_capacity(const store::Layout &l, const CollectionOptions &c);

std::string report(const Options &o, const store::Layout &l, uint64_t device_bytes);

}  // namespace vexfs::mkfs
