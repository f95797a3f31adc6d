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
  bool force = false;  // a stream of changes, whatever the tree is; what it makes takes the place of what is there
  std::string name;    // of the snapshot that is to be made here; "": the stream's
  // Called before anything is changed; throws to refuse the stream.
  std::function<void(const Header &)> starting;
  // The changes of the tree since the snapshot (of this filesystem) of that name: one line each, some are enough. Throws
  // ENOENT: there is no such snapshot.
  std::function<std::vector<std::string>(const std::string &snapshot)> changed_since;
  // Whether there is a snapshot of that name (of this filesystem), in which received_xattr of the tree is `received`.
  std::function<bool(const std::string &snapshot, const std::string &received)> kept;
  // Makes the snapshot, of the tree as it is then. The receive counts as interrupted until it has returned.
  std::function<void(const std::string &snapshot)> keep;
};

struct Received {
  Summary summary;
  bool resumed = false;  // goes on from where an earlier one was interrupted
  bool already = false;  // all of it was there, and its snapshot (where `kept` can tell): nothing was done
  std::string name;      // of the snapshot here
};

// Throws client::Error. When it returns, everything is on stable storage, the tree says what it is, and `keep` has made
// the snapshot. After an error in the middle the same stream can be received again. Memory: some records.
Received receive(Reader &reader, Tree &tree, const ReceiveOptions &options);

}  // namespace vexfs::stream
