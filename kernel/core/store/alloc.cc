// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Block allocator: counting and promising, bitmap loading, searching for data runs and node places.
#include "alloc.h"

#include "state.h"

namespace vexfs::store {

namespace alloc_impl {
namespace {

using disk::BitmapDisk;

u32 find_bit(const u64 *w, u32 from, u32 end, bool one) {
  while (from < end) {
    u64 v = one ? w[from / 64] : ~w[from / 64];
    v >>= from % 64;
    if (v) {
      u32 at = from + static_cast<u32>(std::countr_zero(v));
      return at < end ? at : end;
    }
    from = (from / 64 + 1) * 64;
  }
  return end;
}

void change_bits(u64 *w, u32 at, u32 n, bool set) {
  while (n) {
    u32 bit = at % 64, take = min_of(64 - bit, n);
    u64 mask = (take == 64 ? ~u64{0} : ((u64{1} << take) - 1)) << bit;
    if (set) {
      w[at / 64] |= mask;
    } else {
      w[at / 64] &= ~mask;
    }
    at += take;
    n -= take;
  }
}

bool all_bits(const u64 *w, u32 at, u32 n, bool one) { return find_bit(w, at, at + n, !one) == at + n; }

// Bits of one word that begin an aligned free run of nb blocks (nb a power of two, 1..64).
u64 free_slot_bits(u64 word, u32 nb) {
  for (u32 d = 1; d < nb; d *= 2) word |= word >> d;
  u64 starts = 0;
  if (nb == 64) {
    starts = 1;
  } else {
    for (u32 i = 0; i < 64; i += nb) starts |= u64{1} << i;
  }
  return ~word & starts;
}

u64 *disk_words(GroupBits *b) { return reinterpret_cast<u64 *>(b->block + sizeof(BitmapDisk)); }
usize busy_bytes(const disk::Geometry &g) { return div_up<usize>(g.group_blocks, 64) * 8; }

void free_bits(GroupBits *b, const disk::Geometry &g) {
  if (!b) return;
  vx_free_large(b->block, g.block_size);
  vx_free_large(b->busy, busy_bytes(g));
  vx_free(b);
}

GroupBits *new_bits(const disk::Geometry &g) {
  auto *b = static_cast<GroupBits *>(vx_alloc(sizeof(GroupBits), VX_ALLOC_ZERO));
  if (!b) return nullptr;
  b->block = static_cast<u8 *>(vx_alloc_large(g.block_size, VX_ALLOC_ZERO));
  b->busy = static_cast<u64 *>(vx_alloc_large(busy_bytes(g), VX_ALLOC_ZERO));
  if (b->block && b->busy) return b;
  if (b->block) vx_free_large(b->block, g.block_size);
  if (b->busy) vx_free_large(b->busy, busy_bytes(g));
  vx_free(b);
  return nullptr;
}

}  // namespace
}  // namespace alloc_impl

Allocator::Allocator(State &s) : s_(s), load_lock_("vexfs_bitmap_load"), space_lock_("vexfs_space") {}

Allocator::~Allocator() {
  if (!groups_) return;
  for (u64 g = 0; g < s_.geo.groups; g++) {
    alloc_impl::free_bits(groups_[g].bits.load(), s_.geo);
    groups_[g].~Group();
  }
  vx_free_large(groups_, s_.geo.groups * sizeof(Group));
}

// ------------------------------------------------------------------ loading
Status Allocator::init(const le64 *root_desc) {
  const disk::Geometry &geo = s_.geo;
  groups_ = static_cast<Group *>(vx_alloc_large(geo.groups * sizeof(Group), 0));
  if (!groups_) return Errno::nomem;
  for (u64 g = 0; g < geo.groups; g++) new (groups_ + g) Group();
  u8 *buf = static_cast<u8 *>(vx_alloc_large(geo.block_size, 0));
  if (!buf) return Errno::nomem;
  Status st;
  u32 per = disk::descriptors_per_block(geo.block_size);
  for (u64 d = 0; d < geo.desc_count && st.ok(); d++) {
    unsigned home = root_desc[d] & disk::kHomeBit ? 1 : 0;
    u64 block = geo.desc_start + home * geo.desc_count + d;
    MutBytes b(buf, geo.block_size);
    st = s_.read_bytes(block << geo.block_shift, b, true);
    if (!st.ok()) break;
    disk::Refusal r = disk::verify_desc_block(b, geo, d, home, root_desc[d] & disk::kTxnMask);
    if (!r.ok()) {
      s_.log_refusal("group descriptor block", block, r);
      st = Errno::corrupt;
      break;
    }
    for (u64 g = d * per; g < min_of<u64>(geo.groups, (d + 1) * per); g++) {
      const disk::GroupDesc &gd = disk::desc_array(buf)[g - d * per];
      Group &grp = groups_[g];
      grp.word = gd.bitmap;
      grp.disk_free = gd.free;
      grp.free.store(gd.free, std::memory_order_relaxed);
      grp.longest.store(gd.free, std::memory_order_relaxed);
      grp.meta.store(gd.bitmap & disk::kGroupMeta, std::memory_order_relaxed);
      disk_free_total += gd.free;
    }
  }
  vx_free_large(buf, geo.block_size);
  free_ = disk_free_total;
  data_rotor_.store(geo.groups > 4 ? geo.groups / 8 + 1 : geo.groups - 1);
  return st;
}

void Allocator::set_bad(u64 g, Error why) {
  Group &grp = groups_[g];
  if (grp.bad.exchange(true)) return;
  {
    Guard l(space_lock_);
    u64 lost = grp.free.load(std::memory_order_relaxed);
    free_ -= min_of(lost, free_);
  }
  LogLine(s_.dev, VX_LOG_ERR).str("group ").dec(g).str(": bitmap unusable, no block will be allocated there");
  if (why.code() == Errno::corrupt) s_.damage(why);
}

Result<GroupBits *> Allocator::read_bitmap(u64 g) {
  const disk::Geometry &geo = s_.geo;
  Group &grp = groups_[g];
  GroupBits *b = alloc_impl::new_bits(geo);
  if (!b) return Errno::nomem;
  MutBytes block(b->block, geo.block_size);
  MutBytes bits = block.subspan(sizeof(disk::BitmapDisk));
  Errno err = Errno::ok;
  if (grp.word & disk::kGroupUninit) {
    u32 free = disk::fill_fixed_bits(geo, g, bits);
    if (free != grp.disk_free) {
      s_.log_refusal("group descriptor of an unwritten group", g,
                     {disk::Cause::bad_field, "free", grp.disk_free, free});
      err = Errno::corrupt;
    }
  } else {
    unsigned home = grp.word & disk::kHomeBit ? 1 : 0;
    u64 at = geo.bitmap_block(g, home);
    Status st = s_.read_bytes(at << geo.block_shift, block, true);
    s_.counters.bitmaps_read.fetch_add(1, std::memory_order_relaxed);
    err = st.code();
    if (st.ok()) {
      disk::Refusal r = disk::verify_bitmap(block, geo, g, home, grp.word & disk::kGroupTxnMask, grp.disk_free);
      if (!r.ok()) {
        s_.log_refusal("allocation bitmap", at, r);
        err = Errno::corrupt;
      }
    }
  }
  if (err != Errno::ok) {
    alloc_impl::free_bits(b, geo);
    return err;
  }
  // Bits beyond the end count as busy whatever the disk says.
  memset(b->busy, 0xff, alloc_impl::busy_bytes(geo));
  u32 n = geo.group_len(g);
  alloc_impl::change_bits(b->busy, 0, n, false);
  const u64 *disk = alloc_impl::disk_words(b);
  for (u32 i = 0; i < n / 64; i++) b->busy[i] = disk[i];
  for (u32 i = n / 64 * 64; i < n; i++)
    if (!alloc_impl::all_bits(disk, i, 1, false)) alloc_impl::change_bits(b->busy, i, 1, true);
  return b;
}

Status Allocator::load(u64 g) {
  Group &grp = groups_[g];
  if (grp.bits.load(std::memory_order_acquire)) return {};
  if (grp.bad.load(std::memory_order_relaxed)) return Errno::corrupt;
  Guard l(load_lock_);
  if (grp.bits.load(std::memory_order_acquire)) return {};
  Result<GroupBits *> r = read_bitmap(g);
  if (!r.ok()) {
    if (r.code() == Errno::corrupt) set_bad(g, r.error());
    if (r.code() == Errno::io)
      LogLine(s_.dev, VX_LOG_ERR).str("group ").dec(g).str(": cannot read the allocation bitmap");
    return r.error();
  }
  grp.bits.store(r.value(), std::memory_order_release);
  loaded_.fetch_add(1, std::memory_order_relaxed);
  return {};
}

// False: look elsewhere; *why keeps a reason that is not for ever, for when there is no elsewhere.
bool Allocator::usable(u64 g, Errno *why) {
  Status st = load(g);
  if (!st.ok() && st.code() != Errno::corrupt) *why = st.code();
  return st.ok();
}

// ----------------------------------------------------------------- counting
// Writing n promised blocks may need as many extent items, and items of checksums, in leaves that are half full.
u64 Allocator::share(u64 n) const {
  u64 item = sizeof(disk::LeafItem) + 32;
  if (s_.super->incompat & disk::kIncompatDataSums) item += sizeof(disk::LeafItem) + 64;
  // What is written over may be one of many in an entry of shared blocks, which is cut in two then.
  if (s_.trees[static_cast<u8>(TreeId::refcounts)].height() > 0) item += sizeof(disk::LeafItem) + 16;
  u64 copies = s_.geo.mirrored ? 2 : 1;
  return n ? copies * (2 * s_.geo.node_blocks + div_up<u64>(n * 2 * item, s_.geo.block_size)) : 0;
}

u64 Allocator::free_blocks() const {
  Guard l(space_lock_);
  return free_;
}
u64 Allocator::promised() const {
  Guard l(space_lock_);
  return promised_;
}
u64 Allocator::avail() const {
  Guard l(space_lock_);
  u64 held = promised_ + share(promised_);
  return free_ > held ? free_ - held : 0;
}

bool Allocator::promise(u64 n) {
  Guard l(space_lock_);
  if (n > free_ || promised_ > free_ - n) return false;
  u64 p = promised_ + n;
  if (p + share(p) > free_) return false;
  promised_ = p;
  return true;
}

void Allocator::unpromise(u64 n) {
  Guard l(space_lock_);
  VX_ASSERT(n <= promised_);
  promised_ -= n;
}

u64 Allocator::claim(u64 min, u64 max, bool promised) {
  Guard l(space_lock_);
  u64 n = max;
  if (promised) {
    // A promise covers what it covers; asking for more than was promised is the caller's error, not a reason to fail.
    VX_ASSERT(min <= promised_);
    n = min_of(n, min_of(promised_, free_));
    if (n < min) return 0;
    promised_ -= n;
  } else {
    u64 held = promised_ + share(promised_);
    u64 room = free_ > held ? free_ - held : 0;
    n = min_of(n, room);
    if (n < min) return 0;
  }
  free_ -= n;
  return n;
}

void Allocator::unclaim(u64 n, bool promised) {
  Guard l(space_lock_);
  free_ += n;
  if (promised) promised_ += n;
}

// ------------------------------------------------------------ data searches
Result<Extent> Allocator::take(u64 goal, u64 min, u64 max, bool promised) {
  VX_ASSERT(min > 0 && min <= max);
  max = min_of<u64>(max, s_.geo.group_blocks);
  if (min > max) return Errno::nospc;
  u64 n = claim(min, max, promised);
  if (n == 0) return Errno::nospc;
  s_.counters.allocs.fetch_add(1, std::memory_order_relaxed);
  Result<Extent> r = search(goal, static_cast<u32>(min), static_cast<u32>(n));
  u64 got = r.ok() ? r->count : 0;
  unclaim(n - got, promised);
  s_.counters.alloc_blocks.fetch_add(got, std::memory_order_relaxed);
  return r;
}

// Passes with falling ambition: the whole length, half of it, a decent run, then anything that will do; metadata groups
// only when nothing else is left.
Result<Extent> Allocator::search(u64 goal, u32 min, u32 max) {
  const disk::Geometry &geo = s_.geo;
  bool has_goal = goal != 0 && goal < geo.total_blocks;
  u64 first = has_goal ? geo.group_of(goal) : data_rotor_.load(std::memory_order_relaxed) % geo.groups;
  constexpr u32 kPasses = 4;
  u32 wants[kPasses] = {max, max_of(min, max / 2), max_of(min, min_of<u32>(max, 64)), min};
  Errno why = Errno::nospc;
  for (u32 pass = 0; pass < 2 * kPasses; pass++) {
    u32 step = pass % kPasses;
    if (step && wants[step] == wants[step - 1]) continue;
    for (u64 i = 0; i < geo.groups; i++) {
      u64 g = first + i < geo.groups ? first + i : first + i - geo.groups;
      Group &grp = groups_[g];
      // The group of the goal is looked at whatever it holds: going on where the file ends is worth a short run.
      u32 least = i == 0 && has_goal ? min : wants[step];
      if (grp.free.load(std::memory_order_relaxed) < least || grp.longest.load(std::memory_order_relaxed) < least)
        continue;
      if (grp.bad.load(std::memory_order_relaxed)) continue;
      if (pass < kPasses && grp.meta.load(std::memory_order_relaxed)) continue;
      if (!usable(g, &why)) continue;
      s_.counters.alloc_scans.fetch_add(1, std::memory_order_relaxed);
      Extent e = search_group(g, {i == 0 && has_goal ? goal : 0, min, wants[step], max});
      if (e.count == 0) continue;
      data_rotor_.store(g, std::memory_order_relaxed);
      return e;
    }
  }
  s_.counters.nospc.fetch_add(1, std::memory_order_relaxed);
  return why;
}

// Takes a run at the goal if it is decent, else the first run that is long enough, next fit.
Extent Allocator::search_group(u64 g, const Search &s) {
  const disk::Geometry &geo = s_.geo;
  Guard l(stripe(g));
  Group &grp = groups_[g];
  GroupBits *b = grp.bits.load(std::memory_order_acquire);
  if (!b) return {};  // trimmed since it was loaded
  u32 n = geo.group_len(g);
  u64 base = geo.group_start(g);
  auto take = [&](u32 at, u32 len) {
    alloc_impl::change_bits(b->busy, at, len, true);
    grp.free.fetch_sub(len, std::memory_order_relaxed);
    grp.rotor = at + len;
    return Extent{base + at, len};
  };
  if (s.goal >= base && s.goal < base + n) {
    u32 at = static_cast<u32>(s.goal - base);
    u32 end = alloc_impl::find_bit(b->busy, at, static_cast<u32>(min_of<u64>(n, u64{at} + s.max)), true);
    if (end - at >= s.min && end > at && (end - at == s.max || end - at >= 16)) return take(at, end - at);
    grp.rotor = at;
  }
  u32 longest = 0, from = grp.rotor < n ? grp.rotor : 0;
  for (u32 lap = 0; lap < 2; lap++) {
    // The second lap covers what lies before the rotor, and runs that reach across it.
    u32 at = lap ? 0 : from, end = lap ? static_cast<u32>(min_of<u64>(n, u64{from} + s.want)) : n;
    while ((at = alloc_impl::find_bit(b->busy, at, end, false)) < end) {
      u32 stop = alloc_impl::find_bit(b->busy, at, static_cast<u32>(min_of<u64>(n, u64{at} + s.max)), true);
      if (stop - at >= s.want) return take(at, stop - at);
      longest = max_of(longest, stop - at);
      at = stop;
    }
  }
  // Runs were measured up to s.max only, but none reached s.want, so each was seen to its end.
  grp.longest.store(longest, std::memory_order_relaxed);
  return {};
}

void Allocator::give_back(Extent e, bool promise_again) {
  u64 g = s_.geo.group_of(e.start);
  VX_ASSERT(s_.geo.is_data(e.start, e.count));
  Group &grp = groups_[g];
  {
    Guard l(stripe(g));
    GroupBits *b = grp.bits.load(std::memory_order_acquire);
    VX_ASSERT(b);
    u32 at = static_cast<u32>(e.start - s_.geo.group_start(g)), n = static_cast<u32>(e.count);
    VX_ASSERT(alloc_impl::all_bits(b->busy, at, n, true));
    alloc_impl::change_bits(b->busy, at, n, false);
    grp.free.fetch_add(n, std::memory_order_relaxed);
    grp.longest.store(s_.geo.group_blocks, std::memory_order_relaxed);
  }
  Guard l(space_lock_);
  if (!grp.bad.load(std::memory_order_relaxed)) free_ += e.count;
  if (promise_again) promised_ += e.count;
}

Status Allocator::take_exactly(Extent e) {
  u64 g = s_.geo.group_of(e.start);
  VX_TRY(load(g));
  Group &grp = groups_[g];
  u32 at = static_cast<u32>(e.start - s_.geo.group_start(g)), n = static_cast<u32>(e.count);
  {
    Guard l(stripe(g));
    GroupBits *b = grp.bits.load(std::memory_order_acquire);
    if (!b || !alloc_impl::all_bits(b->busy, at, n, false)) return Errno::corrupt;
    alloc_impl::change_bits(b->busy, at, n, true);
    grp.free.fetch_sub(n, std::memory_order_relaxed);
  }
  Guard l(space_lock_);
  free_ -= min_of<u64>(n, free_);
  return {};
}

// -------------------------------------------------------------- node places
// First copies from the beginning of the group on, second ones from its end: on a device of few groups they lie apart, too.
u32 Allocator::slots_in_group(u64 g, u64 NodePlace::*which, NodePlace *out, u32 want) {
  const disk::Geometry &geo = s_.geo;
  u32 nb = geo.node_blocks, got = 0;
  bool from_end = which == &NodePlace::mirror;
  Guard l(stripe(g));
  Group &grp = groups_[g];
  GroupBits *b = grp.bits.load(std::memory_order_acquire);
  if (!b) return 0;  // trimmed since it was loaded
  u32 words = div_up(geo.group_len(g), 64u);
  for (u32 i = 0; i < words && got < want; i++) {
    u32 w = from_end ? words - 1 - i : i;
    u64 starts = alloc_impl::free_slot_bits(b->busy[w], nb);
    while (starts && got < want) {
      u32 bit = static_cast<u32>(from_end ? 63 - std::countl_zero(starts) : std::countr_zero(starts)),
          at = w * 64 + bit;
      starts &= ~(u64{1} << bit);
      alloc_impl::change_bits(b->busy, at, nb, true);
      out[got++].*which = geo.group_start(g) + at;
    }
  }
  grp.free.fetch_sub(got * nb, std::memory_order_relaxed);
  return got;
}

// Groups that hold nodes already come first, then emptier ones become node groups, then whatever has room.
Result<u32> Allocator::take_copies(u64 NodePlace::*which, NodePlace *out, u32 n) {
  const disk::Geometry &geo = s_.geo;
  u32 nb = geo.node_blocks, got = 0;
  bool second = which == &NodePlace::mirror;
  // The half of the groups that this copy should lie in; of one group there are no halves.
  u64 half = geo.mirrored ? geo.groups / 2 : 0, low = second ? half : 0;
  u64 high = half && !second ? half : geo.groups;
  u64 first = meta_rotor_[second].load(std::memory_order_relaxed);
  if (first < low || first >= high) first = low;
  Errno why = Errno::ok;
  for (u32 pass = 0; pass < 3 && got < n; pass++) {
    for (u64 i = 0; i < geo.groups && got < n; i++) {
      u64 g = first + i < geo.groups ? first + i : first + i - geo.groups;
      Group &grp = groups_[g];
      u32 free = grp.free.load(std::memory_order_relaxed);
      bool meta = grp.meta.load(std::memory_order_relaxed);
      if (free < nb || grp.bad.load(std::memory_order_relaxed)) continue;
      if (pass < 2 && (g < low || g >= high)) continue;
      if (pass == 0 ? !meta : pass == 1 ? free < geo.group_len(g) / 2 : false) continue;
      if (!usable(g, &why)) continue;
      u64 claimed = claim(nb, u64{n - got} * nb, false);
      if (claimed == 0) return got;
      u32 more = slots_in_group(g, which, out + got, static_cast<u32>(claimed / nb));
      unclaim(claimed - u64{more} * nb, false);
      if (more) {
        grp.meta.store(true, std::memory_order_relaxed);
        meta_rotor_[second].store(g, std::memory_order_relaxed);
      }
      got += more;
    }
  }
  if (got == 0 && why != Errno::ok) return why;
  return got;
}

Result<u32> Allocator::take_slots(NodePlace *out, u32 n) {
  for (;; n /= 2) {
    for (u32 i = 0; i < n; i++) out[i] = {};
    u32 got = VX_TRY(take_copies(&NodePlace::addr, out, n));
    if (!s_.geo.mirrored || got == 0) return got;
    Result<u32> second = take_copies(&NodePlace::mirror, out, got);
    u32 whole = second.ok() ? *second : 0;
    for (u32 i = whole; i < got; i++) give_back({out[i].addr, s_.geo.node_blocks}, false);
    if (!second.ok()) return second.error();
    // None: the first copies have taken all that there was, but half of them might have had room for both.
    if (whole || got == 1) return whole;
    n = got;
  }
}

// ------------------------------------------------------------ committer only
bool Allocator::mark_used(Extent e) {
  u64 g = s_.geo.group_of(e.start);
  Group &grp = groups_[g];
  u64 *w = alloc_impl::disk_words(grp.bits.load(std::memory_order_acquire));
  u32 at = static_cast<u32>(e.start - s_.geo.group_start(g)), n = static_cast<u32>(e.count);
  if (!alloc_impl::all_bits(w, at, n, false)) return false;
  alloc_impl::change_bits(w, at, n, true);
  grp.disk_free -= n;
  disk_free_total -= n;
  return touch(g);
}

bool Allocator::mark_unused(Extent e) {
  u64 g = s_.geo.group_of(e.start);
  Group &grp = groups_[g];
  u64 *w = alloc_impl::disk_words(grp.bits.load(std::memory_order_acquire));
  u32 at = static_cast<u32>(e.start - s_.geo.group_start(g)), n = static_cast<u32>(e.count);
  if (!alloc_impl::all_bits(w, at, n, true)) return false;
  alloc_impl::change_bits(w, at, n, false);
  grp.disk_free += n;
  disk_free_total += n;
  return touch(g);
}

void Allocator::trim(usize keep) {
  const disk::Geometry &geo = s_.geo;
  for (u64 i = 0; i < geo.groups && loaded_.load(std::memory_order_relaxed) > keep; i++) {
    u64 g = trim_hand_++ % geo.groups;
    Group &grp = groups_[g];
    GroupBits *b = grp.bits.load(std::memory_order_acquire);
    if (!b) continue;
    Guard l(stripe(g));
    // Equal counts mean equal bits: busy has every bit of disk, and then maybe more.
    if (grp.free.load(std::memory_order_relaxed) != grp.disk_free) continue;
    grp.bits.store(nullptr, std::memory_order_release);
    alloc_impl::free_bits(b, geo);
    loaded_.fetch_sub(1, std::memory_order_relaxed);
  }
}

bool Allocator::touch(u64 g) {
  Group &grp = groups_[g];
  if (!grp.bits.load(std::memory_order_acquire)) return false;
  if (grp.touched) return true;
  grp.touched = true;
  grp.next_touched = touched_;
  touched_ = static_cast<u32>(g);
  return true;
}

void Allocator::clear_touched() {
  while (touched_ != kNoGroup) {
    Group &g = groups_[touched_];
    touched_ = g.next_touched;
    g.touched = false;
  }
}

}  // namespace vexfs::store
