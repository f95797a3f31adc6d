// SPDX-License-Identifier: MIT
// Applies a stream to a tree.
#pragma once
#include "io.h"
#include "tree.h"

namespace vexfs::stream {

// On the root of a tree that streams were received into. In a stream, names that begin like these do not occur.
inline constexpr char received_xattr[] = "trusted.vexfs.received";    // which snapshot it is
inline constexpr char receiving_xattr[] = "trusted.vexfs.receiving";  // which is under way, and which phase

struct ReceiveOptions {
  bool force = false;  // whatever state the tree is in
  // Called before anything is changed; throws to refuse the stream.
  std::function<void(const Header &)> starting;
  // The changes of the tree since the snapshot (of this filesystem) of that name: one line each, some are enough. Throws
  // ENOENT: there is no such snapshot.
  std::function<std::vector<std::string>(const std::string &snapshot)> changed_since;
};

struct Received {
  Summary summary;
  bool resumed = false;  // goes on from where an earlier one was interrupted
  bool already = false;  // all of it was there: only the snapshot was missing, perhaps
};

// Throws client::Error. When it returns, everything is on stable storage, and the tree says what it is; the snapshot is
// still to be made. After an error in the middle the same stream can be received again. Memory: some records.
Received receive(Reader &reader, Tree &tree, const ReceiveOptions &options);

}  // namespace vexfs::stream
