// SPDX-License-Identifier: MIT
// Memory in huge pages: areas of 16 of them, given away by pages of 4096 bytes, first fit.
#include "huge_pages.h"

#include <sys/mman.h>

#include <bitset>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <new>

namespace vexfs::host {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool enabled = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
constexpr bool enabled = false;
#else
constexpr bool enabled = true;
#endif
#else
constexpr bool enabled = true;
#endif

constexpr size_t page_bytes = 4096;
constexpr size_t huge_bytes = size_t{2} << 20;
constexpr size_t area_huge = 16;
constexpr size_t area_bytes = area_huge * huge_bytes;
constexpr size_t area_pages = area_bytes / page_bytes;
constexpr size_t huge_pages = huge_bytes / page_bytes;
constexpr size_t least = 64 << 10;  // smaller blocks are malloc()'s
constexpr size_t most = area_bytes / 2;
constexpr size_t spare_max = 4;  // huge pages that nobody uses and that are not given back to the system

size_t pages_of(size_t n) { return (n + page_bytes - 1) / page_bytes; }

class Area {
 public:
  Area() {
    // As much again, so that a part of it is aligned.
    void *p = mmap(nullptr, area_bytes + huge_bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return;
    whole_ = static_cast<uint8_t *>(p);
    const uintptr_t at = reinterpret_cast<uintptr_t>(p);
    base_ = whole_ + ((huge_bytes - at % huge_bytes) % huge_bytes);
    madvise(base_, area_bytes, MADV_HUGEPAGE);  // where that is not to be had it works all the same
  }
  ~Area() {
    if (whole_) munmap(whole_, area_bytes + huge_bytes);
  }
  Area(const Area &) = delete;
  Area &operator=(const Area &) = delete;

  bool mapped() const { return whole_ != nullptr; }
  const uint8_t *base() const { return base_; }
  bool has(const void *p) const { return p >= base_ && p < base_ + area_bytes; }
  bool empty() const { return taken_ == 0; }
  // Huge pages that are in memory for nobody.
  size_t spare() const {
    size_t n = 0;
    for (size_t i = 0; i < area_huge; i++) n += touched_[i] && users_[i] == 0;
    return n;
  }

  void *take(size_t pages) {
    if (pages >= no_run_ || taken_ + pages > area_pages) return nullptr;
    size_t run = 0;
    for (size_t i = 0; i < area_pages; i++) {
      run = used_[i] ? 0 : run + 1;
      if (run < pages) continue;
      const size_t first = i + 1 - pages;
      mark(first, pages, true);
      length_[first] = static_cast<uint16_t>(pages);
      return base_ + first * page_bytes;
    }
    no_run_ = pages;
    return nullptr;
  }
  void give(void *p, size_t pages) {
    const size_t first = static_cast<size_t>(static_cast<uint8_t *>(p) - base_) / page_bytes;
    if (length_[first] != pages) abort();  // freed with another size, or twice
    length_[first] = 0;
    mark(first, pages, false);
    no_run_ = area_pages + 1;
  }
  void give_spare_back() {
    for (size_t i = 0; i < area_huge; i++) {
      if (!touched_[i] || users_[i]) continue;
      madvise(base_ + i * huge_bytes, huge_bytes, MADV_DONTNEED);
      touched_[i] = false;
    }
  }

 private:
  void mark(size_t first, size_t pages, bool taken) {
    for (size_t i = first; i < first + pages; i++) {
      used_[i] = taken;
      users_[i / huge_pages] = static_cast<uint16_t>(users_[i / huge_pages] + (taken ? 1 : -1));
      if (taken) touched_[i / huge_pages] = true;
    }
    taken_ = taken ? taken_ + pages : taken_ - pages;
  }

  uint8_t *whole_ = nullptr, *base_ = nullptr;
  size_t taken_ = 0;
  size_t no_run_ = area_pages + 1;  // nowhere are so many pages free, one behind the other: not to be looked for again
  std::bitset<area_pages> used_;
  uint16_t length_[area_pages] = {};  // of the block that begins here, in pages
  uint16_t users_[area_huge] = {};    // pages of each that are taken
  bool touched_[area_huge] = {};
};

// Never destroyed: what is freed by the last destructors of a process may be from here.
struct Areas {
  std::mutex lock;
  std::map<const uint8_t *, std::unique_ptr<Area>> by_base;
  size_t spare = 0;  // of all

  void *take(size_t pages) {
    for (auto &[base, area] : by_base)
      if (void *p = take_from(*area, pages)) return p;
    auto fresh = std::make_unique<Area>();
    if (!fresh->mapped()) return nullptr;
    Area &area = *by_base.emplace(fresh->base(), std::move(fresh)).first->second;
    return take_from(area, pages);
  }
  bool give(void *p, size_t pages) {
    auto after = by_base.upper_bound(static_cast<const uint8_t *>(p));
    if (after == by_base.begin()) return false;
    const auto at = std::prev(after);
    Area &area = *at->second;
    if (!area.has(p)) return false;
    spare -= area.spare();
    area.give(p, pages);
    if (spare + area.spare() > spare_max) area.give_spare_back();
    spare += area.spare();
    if (area.empty() && by_base.size() > 1) {
      spare -= area.spare();
      by_base.erase(at);
    }
    return true;
  }

 private:
  void *take_from(Area &area, size_t pages) {
    const size_t before = area.spare();
    void *p = area.take(pages);
    if (p) spare = spare - before + area.spare();
    return p;
  }
};
Areas &areas() {
  static Areas *const all = new Areas;
  return *all;
}

bool is_for(size_t n) { return enabled && n >= least && n <= most; }

}  // namespace

void *huge_alloc(size_t n) {
  if (!is_for(n)) return nullptr;
  try {
    Areas &a = areas();
    const std::lock_guard<std::mutex> guard(a.lock);
    return a.take(pages_of(n));
  } catch (const std::bad_alloc &) {  // callers know null only
    return nullptr;
  }
}

bool huge_free(void *p, size_t n) {
  if (!is_for(n)) return false;
  Areas &a = areas();
  const std::lock_guard<std::mutex> guard(a.lock);
  return a.give(p, pages_of(n));
}

}  // namespace vexfs::host
