// SPDX-License-Identifier: MIT
// An inode of a filesystem that this process has mounted, held open, and the Target that gives commands to it.
#pragma once
#include <sys/stat.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "../../kernel/core/api.h"
#include "../client/error.h"
#include "../client/place.h"
#include "caller.h"

namespace vexfs::client {

struct InodeRelease {
  void operator()(vx_inode *ip) const { vx_iput(ip); }
};
using InodeRef = std::unique_ptr<vx_inode, InodeRelease>;

[[noreturn]] inline void fail(const std::string &what, int rc) { throw Error(-rc, what + ": " + strerror(-rc)); }

class ImageTarget : public Target {
 public:
  ImageTarget(vx_fs *fs, std::string path, InodeRef ip) : fs_(fs), ip_(std::move(ip)) {
    path_ = std::move(path);
    vx_attr a;
    vx_getattr(ip_.get(), &a);
    ino_ = a.ino;
    is_directory_ = S_ISDIR(a.mode);
  }
  int command(uint32_t cmd, void *arg) override {
    vx_caller c = trusted_caller();
    return vx_ioctl(fs_, ip_.get(), cmd, reinterpret_cast<uintptr_t>(arg), &c);
  }

 private:
  vx_fs *fs_;
  InodeRef ip_;
};

}  // namespace vexfs::client
