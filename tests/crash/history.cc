// SPDX-License-Identifier: MIT
// See history.h.
#include "history.h"

#include <algorithm>

#include "../../kernel/core/api_internal.h"

namespace vexfs::crash {

using vector::test::Mount;

constexpr size_t kSector = 512, kBlock = 4096;

History::History(SimDevice &dev, Mount &m, bool mapping) : dev_(dev), mount_(m), mapping_(mapping) {
  note();
  acknowledged(0);
}

void History::note() {
  if (looking) looking(true);
  const Snapshot *before = states_.empty() ? nullptr : &states_.back().what;
  states_.push_back({take_snapshot(mount_, mapping_, before), now_});
  if (looking) looking(false);
  now_ = dev_.events();
}

void History::acknowledged(uint64_t ino) {
  now_ = dev_.events();
  acks_.push_back({states_.size() - 1, now_, ino});
}

History::Bounds History::bounds(Moment when) const {
  Bounds b;
  for (auto &a : acks_)
    if (a.at <= when.happened) b.least = a.state;
  b.most = b.least;
  for (size_t i = b.least + 1; i < states_.size() && states_[i].begun < when.begun; i++) b.most = i;
  return b;
}

// The last state in which everything of this inode was made durable.
size_t History::floor_of(uint64_t ino, size_t happened) const {
  size_t floor = 0;
  for (auto &a : acks_)
    if (a.at <= happened && (a.ino == 0 || a.ino == ino)) floor = a.state;
  return floor;
}

const InodeState *History::inode(size_t state, uint64_t ino) const {
  auto &all = states_[state].what.inodes;
  auto it = all.find(ino);
  return it == all.end() ? nullptr : it->second.get();
}

// The sector at `off` is not what state `as` says. Was the same block of the device written in place? Of an earlier state
// it may be old contents that no sync has made durable, but not bytes that its file had no room for: data comes before
// the size that shows it. Of a later state it may be anything that was written ahead of its sync, zeros behind the end
// included.
bool History::sector_allowed(const InodeState &got, uint64_t ino, size_t off, size_t as, Bounds b) const {
  size_t end = std::min(off + kSector, got.bytes.size());
  uint64_t where = got.where[off / kBlock];
  if (where == 0) return false;
  for (size_t j = b.least; j <= b.most; j++) {
    const InodeState *s = inode(j, ino);
    if (!s || off / kBlock >= s->where.size() || s->where[off / kBlock] != where) continue;
    if (j < as && s->bytes.size() < end) continue;
    bool same = true;
    for (size_t i = off; i < end && same; i++) same = got.bytes[i] == (i < s->bytes.size() ? s->bytes[i] : 0);
    if (same) return true;
  }
  return false;
}

// A write raises the version more than once, and any of these may have reached the tree.
bool History::lazy_allowed(const InodeState &got, uint64_t ino, size_t first, size_t last) const {
  bool known = false;
  uint64_t least = ~0ull, most = 0;
  for (size_t j = first; j <= last; j++) {
    const InodeState *s = inode(j, ino);
    if (!s) continue;
    known |= s->times == got.times;
    least = std::min(least, s->version);
    most = std::max(most, s->version);
  }
  return known && got.version >= least && got.version <= most;
}

std::string History::differences(const Snapshot &got, size_t as) const {
  auto a = states_[as].what.lines(), b = got.lines();
  std::string text;
  for (auto &l : a)
    if (std::find(b.begin(), b.end(), l) == b.end()) text += "  expected: " + l + "\n";
  for (auto &l : b)
    if (std::find(a.begin(), a.end(), l) == a.end()) text += "  found:    " + l + "\n";
  return text;
}

std::string History::refuse_as(const Snapshot &got, size_t as, Bounds b, size_t happened) const {
  if (!got.firm_equal(states_[as].what)) return "not state " + std::to_string(as) + ":\n" + differences(got, as);
  for (auto &[ino, s] : got.inodes) {
    std::string who = "state " + std::to_string(as) + ", but inode " + std::to_string(ino);
    const InodeState *want = inode(as, ino);
    if (want == s.get()) continue;
    for (size_t off = 0; off < s->bytes.size() && s->bytes != want->bytes; off += kSector)
      if (s->bytes.compare(off, kSector, want->bytes, off, kSector) != 0 && !sector_allowed(*s, ino, off, as, b))
        return who + " has other contents at " + std::to_string(off) + "\n";
    // Without the mapping: commits come in the middle of operations, so they may be ahead, too.
    if (!lazy_allowed(*s, ino, floor_of(ino, happened), mapping_ ? as : b.most))
      return who + " has times " + s->times + " version " + std::to_string(s->version) + ", expected " + want->times +
             " version " + std::to_string(want->version) + "\n";
  }
  return "";
}

std::optional<std::string> History::refuse(const Snapshot &got, Moment when) const {
  Bounds b = bounds(when);
  std::string why;
  for (size_t as = b.least; as <= b.most; as++) {
    std::string no = refuse_as(got, as, b, when.happened);
    if (no.empty()) return std::nullopt;
    if (b.most - b.least < 4 || as == b.least || as == b.most) why += no;
  }
  for (size_t as = 0; as < states_.size(); as++)
    if ((as < b.least || as > b.most) && refuse_as(got, as, {as, as}, 0).empty())
      why += "it is state " + std::to_string(as) + "\n";
  return "states " + std::to_string(b.least) + " to " + std::to_string(b.most) + " are allowed\n" + why;
}

// ---------------------------------------------------------------- judgement
Tally Judge::run() {
  for (CrashImages at(dev_);; at.step()) {
    event(at);
    if (::testing::Test::HasFailure() || at.at_end()) return tally_;
  }
}

Tally Judge::what_is_there(host::MemDevice &contents) {
  image(contents.clone(), {dev_.events(), dev_.events()}, "what is there");
  return tally_;
}

void Judge::event(const CrashImages &at) {
  // What is durable changes by a flush or a FUA write alone.
  bool fresh = at.position() == 0 || at.just_flushed() || dev_.event(at.position() - 1).fua;
  History::Moment now{at.position(), at.position()};
  if (fresh) image(at.none_arrived(), now, "none arrived");
  if (at.volatile_writes() && at.just_wrote()) {
    image(at.all_arrived(), now, "all arrived");
    image(at.some_arrived(rng_, 0.4, 0.4), now, "some arrived, some torn");
  }
  if (at.next_is_write()) image(at.next_torn(rng_, 0.5, 0.3), {now.happened, now.begun + 1}, "next write torn");
}

bool Judge::compare(Mount &m, History::Moment when) {
  auto why = h_.refuse(take_snapshot(m, h_.mapping()), when);
  EXPECT_FALSE(why) << *why;
  return !why;
}

void Judge::image(std::unique_ptr<host::MemDevice> image, History::Moment when, const char *what) {
  if (::testing::Test::HasFailure()) return;
  SCOPED_TRACE(std::string(what) + " at event " + std::to_string(when.happened) + " of " +
               std::to_string(dev_.events()));
  tally_.images++;
  host::seed_random(rng_());
  auto before = rng_() % 16 == 0 ? image->clone() : nullptr;
  {
    Mount m(kSmallMount, image.get());
    if (!m.fs() || !m.root()) return;
    bool replayed = m.fs()->volume->counters().log_replayed.load() != 0;
    tally_.replayed += replayed;
    if (!compare(m, when)) return;
    if (before && replayed) cut_again(*before, when);
    // It can be written to, and what the lost transaction took is free again.
    vx_attr a{};
    a.mode = disk::kModeFile | 0600;
    vx_time t{1, 0, 0};
    vx_inode *ip = nullptr;
    int err = vx_create(m.root(), "after", 5, &a, nullptr, 0, &t, &ip);
    EXPECT_TRUE(err == 0 || err == -ENOSPC) << err;
    if (ip) vx_iput(ip);
    EXPECT_EQ(m.commit(), 0);
  }
  EXPECT_EQ(errors_found(image.get()), "");
}

// The power fails once more while the log is replayed, or while what the crash left behind is cleared away.
void Judge::cut_again(const host::MemDevice &image, History::Moment when) {
  tally_.second_cuts++;
  SCOPED_TRACE("cut again while mounting");
  SimDevice dev(image);
  dev.start_recording();
  { Mount m(kSmallMount, &dev); }
  size_t point = rng_() % (dev.events() + 1);
  CrashImages cut(dev);
  while (cut.position() < point) cut.step();
  auto second = cut.some_arrived(rng_, 0.5, 0.3);
  {
    Mount m(kSmallMount, second.get());
    if (m.fs() && m.root()) compare(m, when);
  }
  EXPECT_EQ(errors_found(second.get()), "");
}

}  // namespace vexfs::crash
