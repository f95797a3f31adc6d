// SPDX-License-Identifier: MIT
// See ace_workload.h.
#include "ace_workload.h"

#include <cerrno>

namespace vexfs::crash {
namespace {

using vector::test::Mount;

constexpr uint32_t kFile = disk::kModeFile | 0644, kDir = disk::kModeDir | 0755, kLink = disk::kModeLink | 0777;

struct Operation {
  const char *name;
  void (*run)(Session &s);
};

constexpr Operation kOperations[] = {
    {"create A/bar", [](Session &s) { s.make("A", "bar", kFile); }},
    {"mkdir C", [](Session &s) { s.make("", "C", kDir); }},
    {"symlink A/bar", [](Session &s) { s.make("A", "bar", kLink, "../B/foo"); }},
    {"rmdir C", [](Session &s) { s.unlink("", "C", true); }},
    {"rmdir A", [](Session &s) { s.unlink("", "A", true); }},
    {"append two blocks to A/foo", [](Session &s) { s.append("A/foo", 8192); }},
    {"create and write a little to A/bar",
     [](Session &s) {
       s.make("A", "bar", kFile);
       s.write("A/bar", 0, 50);
     }},
    {"write B/foo beyond what is kept inline", [](Session &s) { s.write("B/foo", 30, 6000); }},
    {"overwrite in A/foo", [](Session &s) { s.write("A/foo", 1000, 3000); }},
    {"overwrite in B/foo", [](Session &s) { s.write("B/foo", 10, 20); }},
    {"write A/foo behind a hole", [](Session &s) { s.write("A/foo", 65536, 4096); }},
    {"truncate A/foo to 5000", [](Session &s) { s.truncate("A/foo", 5000); }},
    {"truncate A/foo to 0", [](Session &s) { s.truncate("A/foo", 0); }},
    {"truncate A/foo to 30000", [](Session &s) { s.truncate("A/foo", 30000); }},
    {"truncate B/foo to 7000", [](Session &s) { s.truncate("B/foo", 7000); }},
    {"punch a block out of A/foo", [](Session &s) { s.fallocate("A/foo", VX_FALLOC_PUNCH, 4096, 4096); }},
    {"zero a block of A/foo", [](Session &s) { s.fallocate("A/foo", VX_FALLOC_ZERO, 0, 4096); }},
    {"fallocate A/foo, size kept", [](Session &s) { s.fallocate("A/foo", VX_FALLOC_KEEP_SIZE, 12288, 16384); }},
    {"fallocate A/foo", [](Session &s) { s.fallocate("A/foo", 0, 8192, 16384); }},
    {"clone A/foo as A/bar",
     [](Session &s) {
       s.make("A", "bar", kFile);
       s.clone("A/foo", 0, "A/bar", 0);
     }},
    {"clone A/foo over B/foo", [](Session &s) { s.clone("A/foo", 0, "B/foo", 0); }},
    {"clone B/foo behind A/foo", [](Session &s) { s.clone("B/foo", 0, "A/foo", 16384); }},
    {"clone a block within A/foo", [](Session &s) { s.clone("A/foo", 0, "A/foo", 4096, 4096); }},
    {"clone A/bar over A/foo", [](Session &s) { s.clone("A/bar", 0, "A/foo", 0); }},
    {"link A/foo as B/bar", [](Session &s) { s.link("A/foo", "B", "bar"); }},
    {"link B/foo as A/bar", [](Session &s) { s.link("B/foo", "A", "bar"); }},
    {"unlink A/foo", [](Session &s) { s.unlink("A", "foo"); }},
    {"unlink A/bar", [](Session &s) { s.unlink("A", "bar"); }},
    {"unlink B/foo", [](Session &s) { s.unlink("B", "foo"); }},
    {"unlink A/foo while open", [](Session &s) { s.unlink_open("A", "foo"); }},
    {"rename A/foo to A/bar", [](Session &s) { s.rename("A", "foo", "A", "bar"); }},
    {"rename A/foo to B/foo", [](Session &s) { s.rename("A", "foo", "B", "foo"); }},
    {"rename B/foo to A/foo", [](Session &s) { s.rename("B", "foo", "A", "foo"); }},
    {"rename A to C", [](Session &s) { s.rename("", "A", "", "C"); }},
    {"rename B to A/bar", [](Session &s) { s.rename("", "B", "A", "bar"); }},
    {"exchange A/foo and B/foo", [](Session &s) { s.rename("A", "foo", "B", "foo", VX_RENAME_EXCHANGE); }},
    {"exchange A and B", [](Session &s) { s.rename("", "A", "", "B", VX_RENAME_EXCHANGE); }},
    {"rename A/foo to A/bar, whiteout", [](Session &s) { s.rename("A", "foo", "A", "bar", VX_RENAME_WHITEOUT); }},
    {"tmpfile, linked as A/bar", [](Session &s) { s.tmpfile("A", "bar"); }},
    {"chmod A/foo", [](Session &s) { s.chmod("A/foo", kFile & ~044u); }},
    {"small xattr on A/foo", [](Session &s) { s.set_xattr("A/foo", 40); }},
    {"large xattr on A/foo", [](Session &s) { s.set_xattr("A/foo", 6000); }},
    {"xattr on A", [](Session &s) { s.set_xattr("A", 100); }},
    {"remove the xattr of A/foo", [](Session &s) { s.remove_xattr("A/foo"); }},
    {"create a collection on A, indexed", [](Session &s) { s.create_collection("A", VEXFS_INDEX_HNSW); }},
    {"drop the collection of A", [](Session &s) { s.drop_collection("A"); }},
    {"drop the collection of B", [](Session &s) { s.drop_collection("B"); }},
    {"add a row of A/foo", [](Session &s) { s.add_row("A/foo"); }},
    {"add a row of B/foo", [](Session &s) { s.add_row("B/foo"); }},
    {"add a row of nobody to B", [](Session &s) { s.add_row("B"); }},
    {"add three rows of nobody to B", [](Session &s) { s.add_rows("B"); }},
    {"add a row of nobody to B, durably", [](Session &s) { s.add_row("B", VEXFS_VEC_DURABLE); }},
    {"update the row of B/foo", [](Session &s) { s.update_row("B", 1); }},
    {"update the row of nobody", [](Session &s) { s.update_row("B", 2); }},
    {"delete the row of B/foo", [](Session &s) { s.delete_row("B", 1); }},
    {"delete the row of nobody", [](Session &s) { s.delete_row("B", 2); }},
    {"checkpoint the index of A", [](Session &s) { s.checkpoint("A"); }},
};
constexpr uint64_t kN = sizeof kOperations / sizeof kOperations[0];

// Of n operations, any; after each but the last any persistence point or none, after the last one.
constexpr uint64_t choices(bool last) { return kN * (last ? 3 : 4); }

void populate(Mount &m) {
  Session s(m);
  s.make("", "A", kDir);
  s.make("", "B", kDir);
  s.make("A", "foo", kFile);
  s.write("A/foo", 0, 10000);
  s.set_xattr("A/foo", 20);
  s.make("B", "foo", kFile);
  s.write("B/foo", 0, 60);
  s.create_collection("B", VEXFS_INDEX_FLAT);
  s.add_row("B/foo");
  s.add_row("B");
  EXPECT_EQ(s.failed, 0);
}

}  // namespace

uint64_t count_of_length(unsigned n) {
  uint64_t count = 1;
  for (unsigned i = 1; i <= n; i++) count *= choices(i == n);
  return count;
}

uint64_t first_of_length(unsigned n) {
  uint64_t first = 0;
  for (unsigned i = 1; i < n; i++) first += count_of_length(i);
  return first;
}

std::vector<Step> workload(uint64_t number) {
  unsigned n = 1;
  while (n < kLongest && number >= first_of_length(n + 1)) n++;
  number -= first_of_length(n);
  std::vector<Step> steps;
  for (unsigned i = 1; i <= n; i++) {
    uint64_t c = number % choices(i == n);
    number /= choices(i == n);
    steps.push_back({static_cast<unsigned>(c % kN), static_cast<Persist>(c / kN)});
  }
  return steps;
}

std::string describe(const std::vector<Step> &steps) {
  static constexpr const char *points[] = {", fsync", ", sync", ", commit", ""};
  std::string s;
  for (auto &step : steps)
    s += (s.empty() ? "" : "; ") + std::string(kOperations[step.operation].name) +
         points[static_cast<unsigned>(step.persist)];
  return s;
}

unsigned operations() { return kN; }
const char *operation_name(unsigned operation) { return kOperations[operation].name; }

int operate(Session &s, unsigned operation, unsigned position) {
  s.failed = 0;
  s.position = position;
  kOperations[operation].run(s);
  return s.failed;
}

std::unique_ptr<host::MemDevice> starting_image() {
  host::seed_random(4711);
  host::fix_clock(1700000000, 0);
  auto dev = std::make_unique<host::MemDevice>(6 << 20);
  store::FormatOptions f;
  f.node_size = 4096;
  f.node_copies = 2;
  f.log_blocks = disk::kLogBytesMin / 4096;
  EXPECT_TRUE(store::format(dev.get(), f, nullptr).ok());
  Mount m(kSmallMount, dev.get());
  populate(m);
  m.unmount();
  EXPECT_EQ(errors_found(dev.get()), "");
  return dev;
}

Tally run_workload(const host::MemDevice &start, const std::vector<Step> &steps, uint64_t seed) {
  host::seed_random(seed);
  SimDevice dev(start);
  std::optional<History> history;
  {
    Mount m(kSmallMount, &dev);
    Session s(m);
    // The first sync of a mount is a commit: that one is not of interest here.
    s.position = 99;
    s.chmod("", 040755);
    EXPECT_EQ(m.commit(), 0);
    dev.start_recording();
    history.emplace(dev, m);
    s.history = &*history;
    for (unsigned i = 0; i < steps.size(); i++) {
      (void)operate(s, steps[i].operation, i);
      EXPECT_EQ(s.persist(steps[i].persist), 0);
    }
  }
  return Judge(*history, dev, seed).run();
}

}  // namespace vexfs::crash
