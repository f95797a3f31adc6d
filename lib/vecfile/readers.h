// SPDX-License-Identifier: MIT
// The formats behind vecfile::open().
#pragma once
#include <memory>

#include "file.h"
#include "vecfile.h"

namespace vexfs::vecfile {

std::unique_ptr<Reader> open_npy(std::unique_ptr<File> f, bool list);
std::unique_ptr<Reader> open_xvecs(std::unique_ptr<File> f, Type type);
bool looks_like_npy(const File &f);

// The header of a version 1.0 .npy file for a C-ordered array of count x dim.
std::string npy_header(Type type, uint32_t dim, uint64_t count);

}  // namespace vexfs::vecfile
