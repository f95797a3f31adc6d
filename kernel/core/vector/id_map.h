// SPDX-License-Identifier: GPL-2.0-only OR MIT
// From vector id to slot: runs of consecutive ids on consecutive slots, in the collections tree.
//
// Callers hold the collection's writer lock for changes; lookups need none (each is one tree operation). A mapping to
// a slot whose row is dead counts as absent; the caller asks the table. Deleting an id inside a run leaves the run, so
// that deleting half of a bulk load does not turn one item into many.
#pragma once
#include "keys.h"

namespace vexfs::vector {

class IdMap {
 public:
  IdMap(store::Volume &v, u32 cid) : volume_(v), tree_(v.tree(store::TreeId::collections)), cid_(cid) {}

  // The slot that the id is mapped to (its row may be dead). noent.
  Result<u32> find(u64 id) const;
  struct Run {
    u64 first = 0;
    u32 slot = 0, count = 0;
    u64 last() const { return first + (count - 1); }
  };
  // The first run that has an id >= id. noent.
  Result<Run> next(u64 id) const;
  // No id of first .. first + n - 1 is mapped, dead or alive.
  Result<bool> vacant(u64 first, u32 n) const;
  // Maps id to slot, whatever it was mapped to before. At most 3 mutations.
  Status set(store::Handle &h, u64 id, u32 slot);
  // Maps vacant ids. At most 1 mutation.
  Status set_run(store::Handle &h, u64 first, u32 slot, u32 n);
  // The row in `slot` is dead: drops the mapping if that is cheap and still this slot's. At most 1 mutation.
  Status drop(store::Handle &h, u64 id, u32 slot);

 private:
  store::Key key(u64 id) const { return item_key(cid_, VectorItem::ids, id); }
  Result<Run> covering_or_before(u64 id) const;
  Result<Run> parse(const store::Tree::Found &f, const disk::IdRunItem &item) const;
  Status put(store::Handle &h, const Run &r);

  store::Volume &volume_;
  store::Tree &tree_;
  u32 cid_;
};

}  // namespace vexfs::vector
