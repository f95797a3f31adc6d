// SPDX-License-Identifier: MIT
// An image, or a snapshot of one, as a Tree of the stream library.
#pragma once
#include "../../kernel/core/api.h"
#include "../stream/tree.h"

namespace vexfs::client {

// `fs` must outlive it. root: a directory in it.
std::unique_ptr<stream::Tree> image_tree(vx_fs *fs, const std::string &name, const std::string &root = "");

}  // namespace vexfs::client
