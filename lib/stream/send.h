// SPDX-License-Identifier: MIT
// Makes a stream of a snapshot, or of what has changed since an older one.
#pragma once
#include "io.h"
#include "tree.h"

namespace vexfs::stream {

struct Source {
  client::Target *filesystem = nullptr;  // for commands that compare snapshots
  Tree *now = nullptr;                   // the snapshot
  Tree *then = nullptr;                  // the older one; null: everything is sent
  Header header;                         // complete but for `staging`
};

// Throws client::Error; what has been written then is no complete stream. Memory: some for each inode that is sent.
Summary send(const Source &source, Writer &out);

}  // namespace vexfs::stream
