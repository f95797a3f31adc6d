// SPDX-License-Identifier: MIT
// What durability costs: durability [--dir DIR] [--direct] [--rows N] [--files N] [replay] [snapshot] [insert] [amplify]
//
// The core works on an image file in DIR (default /tmp) of the host, with fdatasync for a flush. replay: how long a mount
// takes with a full intent log. snapshot: making one, with few files and many. insert: durable batches of vectors beside a
// file that gets the same bytes with an fsync after each. amplify: what a long ingest with an index writes.
#include <algorithm>

#include "ingest.h"

namespace {

using namespace vexfs::bench;

struct Options {
  std::string dir = "/tmp";
  bool direct = false;
  uint64_t rows = 200000, files = 1000000;
};

std::string image(const Options &o) { return o.dir + "/vexfs-bench-" + std::to_string(getpid()) + ".img"; }
double mb(uint64_t bytes) { return static_cast<double>(bytes) / 1e6; }

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// ------------------------------------------------------------------ replay
// Files with a little data and an fsync each, until the next sync would be a commit for want of room in the log.
void replay(const Options &o) {
  Volume v(image(o), 1 << 30, o.direct);
  v.mount(0, 0);
  const std::string data(200, 'x');
  vx_inode *dir = v.make(v.root(), "d", 040755);
  must(vx_fs_commit(v.fs()), "commit");
  uint64_t files = 0, used = 0;
  const uint64_t block = 4096;
  for (uint64_t now; (now = v.stat("log_used_blocks")) >= used; files++) {
    used = now;
    for (int i = 0; i < 50; i++) {
      vx_inode *ip = v.make(dir, std::to_string(files) + "." + std::to_string(i), 0100644);
      v.write(ip, data.data(), data.size(), 0);
      vx_iput(ip);
    }
    must(vx_inode_sync(dir), "fsync");
  }
  // One commit has emptied it; now it is filled to nearly as much, and the power fails.
  const uint64_t bound = used;
  while (v.stat("log_used_blocks") + (bound / 50) < bound) {
    for (int i = 0; i < 50; i++) {
      vx_inode *ip = v.make(dir, std::to_string(files) + "." + std::to_string(i), 0100644);
      v.write(ip, data.data(), data.size(), 0);
      vx_iput(ip);
    }
    must(vx_inode_sync(dir), "fsync");
    files++;
  }
  const uint64_t held = v.stat("log_used_blocks") * block;
  vx_iput(dir);
  v.cut();
  const auto before = v.counters();
  const double full = v.mount(0, 0);
  const auto after = v.counters();
  v.unmount();
  const double empty = v.mount(0, 0);
  printf(
      "replay     log bound %.1f MB; with %.1f MB in it a mount takes %.3f s (%.0f MB/s of log), reads %.1f MB, writes "
      "%.1f MB;"
      " with an empty log %.4f s\n",
      mb(bound * block), mb(held), full, mb(held) / full, mb(after.bytes_read - before.bytes_read),
      mb(after.bytes_written - before.bytes_written), empty);
}

// ---------------------------------------------------------------- snapshot
void snapshot_with(const Options &o, uint64_t files) {
  Volume v(image(o), files > 100000 ? uint64_t{4} << 30 : 1 << 28, o.direct);
  v.mount(0, 0);
  vx_inode *dir = nullptr;
  for (uint64_t i = 0; i < files; i++) {
    if (i % 10000 == 0) {
      if (dir) vx_iput(dir);
      dir = v.make(v.root(), "d" + std::to_string(i), 040755);
      must(vx_fs_commit(v.fs()), "commit");
    }
    vx_iput(v.make(dir, "file" + std::to_string(i), 0100644));
  }
  vx_iput(dir);
  must(vx_fs_commit(v.fs()), "commit");
  std::vector<double> times;
  uint64_t bytes = 0, writes = 0, flushes = 0;
  const int rounds = 5;
  for (int i = 0; i < rounds; i++) {
    const auto before = v.counters();
    vexfs_snapshot s{};
    snprintf(s.name, sizeof s.name, "s%d", i);
    const Stopwatch watch;
    must(v.command(v.root(), VEXFS_IOCTL_SNAPSHOT_CREATE, &s), "making a snapshot");
    times.push_back(watch.seconds());
    const auto after = v.counters();
    bytes += after.bytes_written - before.bytes_written;
    writes += after.writes - before.writes;
    flushes += after.flushes - before.flushes;
  }
  printf("snapshot   %8llu files: %.2f ms (median of %d), %llu KiB in %llu writes, %llu flushes each\n",
         static_cast<unsigned long long>(files), median(times) * 1e3, rounds,
         static_cast<unsigned long long>(bytes / 1024 / rounds), static_cast<unsigned long long>(writes / rounds),
         static_cast<unsigned long long>(flushes / rounds));
}

// ------------------------------------------------------------------ insert
// A file that grows by a batch at a time, synced after each.
class HostFile {
 public:
  explicit HostFile(const Options &o) : path_(image(o) + ".append") {
    fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    must(fd_ >= 0, path_.c_str());
  }
  ~HostFile() {
    close(fd_);
    unlink(path_.c_str());
  }
  void append(const void *bytes, size_t n) {
    must(write(fd_, bytes, n) == static_cast<ssize_t>(n), "write");
    must(fsync(fd_) == 0, "fsync");
  }

 private:
  std::string path_;
  int fd_;
};

// Turn by turn, so that a busy machine is busy for all of them. Prints rates, and the ratio to the host's file.
void insert(const Options &o, uint16_t index) {
  const bool indexed = index == VEXFS_INDEX_HNSW;
  const uint64_t batches =
      std::max<uint64_t>(1, (indexed ? std::min<uint64_t>(o.rows, 30000) : o.rows) / Ingest::batch);
  Volume v(image(o), (uint64_t{1} << 29) + batches * Ingest::batch_bytes * 3, o.direct);
  v.mount(indexed ? 1 : 0, 5000);
  Ingest rows(v, "collection", index);
  HostFile host(o);
  vx_inode *file = v.make(v.root(), "append", 0100644);
  std::vector<double> in_host, in_file, in_rows;
  uint64_t off = 0, tail = 0, missed = 0;
  vexfs::host::FaultDevice::Counters of_file, of_rows;
  const auto add_up = [&v](vexfs::host::FaultDevice::Counters *sum, const vexfs::host::FaultDevice::Counters &before) {
    const auto after = v.counters();
    sum->bytes_written += after.bytes_written - before.bytes_written;
    sum->writes += after.writes - before.writes;
    sum->flushes += after.flushes - before.flushes;
    sum->fua += after.fua - before.fua;
  };
  for (uint64_t n = 0; n < batches; n++) {
    rows.prepare(n);
    const Stopwatch a;
    host.append(rows.rows().data(), Ingest::batch_bytes);
    in_host.push_back(a.seconds());
    const auto before_file = v.counters();
    const Stopwatch b;
    v.write(file, rows.rows().data(), Ingest::batch_bytes, off);
    must(vx_inode_sync(file), "fsync");
    in_file.push_back(b.seconds());
    add_up(&of_file, before_file);
    off += Ingest::batch_bytes;
    const auto before = v.counters();
    const Stopwatch c;
    rows.add();
    in_rows.push_back(c.seconds());
    add_up(&of_rows, before);
    if (indexed) {
      const vexfs_index i = rows.index();
      tail = std::max<uint64_t>(tail, i.rows - i.indexed);
      missed += !rows.finds_last();
    }
  }
  vx_iput(file);
  const auto rate = [](const std::vector<double> &times) {
    double all = 0;
    for (double t : times) all += t;
    return static_cast<double>(times.size()) * mb(Ingest::batch_bytes) / all;
  };
  printf(
      "insert     %s, %llu rows in durable batches of %u: %.0f rows/s; MB/s (median ms a batch): rows %.1f (%.2f), the "
      "same"
      " bytes appended to a file with fsync: VexFS %.1f (%.2f), host %.1f (%.2f); ratio of the medians %.2f to VexFS's "
      "file,"
      " %.2f to the host's",
      indexed ? "HNSW, one thread behind" : "no index", static_cast<unsigned long long>(batches * Ingest::batch),
      Ingest::batch, rate(in_rows) * 1e6 / (Ingest::dim * sizeof(float)), rate(in_rows), median(in_rows) * 1e3,
      rate(in_file), median(in_file) * 1e3, rate(in_host), median(in_host) * 1e3, median(in_file) / median(in_rows),
      median(in_host) / median(in_rows));
  if (indexed)
    printf("; at most %llu rows not indexed, %llu of %llu last rows not found at once",
           static_cast<unsigned long long>(tail), static_cast<unsigned long long>(missed),
           static_cast<unsigned long long>(batches));
  const auto each = [batches](uint64_t sum) { return static_cast<double>(sum) / static_cast<double>(batches); };
  printf(
      "; to the device for a batch: %.0f kB in %.1f writes, %.1f flushes and %.1f FUA; for the file %.0f kB, %.1f, "
      "%.1f, %.1f\n",
      each(of_rows.bytes_written) / 1e3, each(of_rows.writes), each(of_rows.flushes), each(of_rows.fua),
      each(of_file.bytes_written) / 1e3, each(of_file.writes), each(of_file.flushes), each(of_file.fua));
  must(missed == 0, "finding each row at once");
}

// ----------------------------------------------------------------- amplify
void amplify(const Options &o) {
  const uint64_t batches = o.rows / Ingest::batch, raw = batches * Ingest::batch_bytes;
  Volume v(image(o), (uint64_t{1} << 29) + raw * 4, o.direct);
  v.mount(1, 5000);
  Ingest rows(v, "collection", VEXFS_INDEX_HNSW);
  const auto before = v.counters();
  const Stopwatch watch;
  for (uint64_t n = 0; n < batches; n++) {
    rows.prepare(n);
    rows.add();
  }
  const auto ingested = v.counters();
  const double seconds = watch.seconds();
  const vexfs_index built = rows.index(VEXFS_INDEX_BUILD);  // all rows, and the checkpoint
  must(vx_fs_commit(v.fs()), "commit");
  const auto after = v.counters();
  printf(
      "amplify    %llu rows of %u bytes with HNSW: %.1f MB of rows, %.1f MB written while they came (%.2f times), %.1f "
      "MB with"
      " the whole index checkpointed (%.2f times; the checkpoint is %.1f MB); %.0f rows/s\n",
      static_cast<unsigned long long>(batches * Ingest::batch), Ingest::dim * 4, mb(raw),
      mb(ingested.bytes_written - before.bytes_written),
      static_cast<double>(ingested.bytes_written - before.bytes_written) / static_cast<double>(raw),
      mb(after.bytes_written - before.bytes_written),
      static_cast<double>(after.bytes_written - before.bytes_written) / static_cast<double>(raw),
      mb(built.checkpoint_bytes), static_cast<double>(batches * Ingest::batch) / seconds);
}

int run(int argc, char **argv) {
  Options o;
  std::vector<std::string> wanted;
  for (int i = 1; i < argc; i++) {
    const std::string word = argv[i];
    const auto value = [&] {
      errno = EINVAL;
      must(i + 1 < argc, word.c_str());
      return std::string(argv[++i]);
    };
    if (word == "--help") {
      printf(
          "usage: durability [--dir DIR] [--direct] [--rows N] [--files N] [replay] [snapshot] [insert] [amplify]\n");
      return 0;
    }
    if (word == "--dir")
      o.dir = value();
    else if (word == "--direct")
      o.direct = true;
    else if (word == "--rows")
      o.rows = std::max<uint64_t>(Ingest::batch, strtoull(value().c_str(), nullptr, 10));
    else if (word == "--files")
      o.files = strtoull(value().c_str(), nullptr, 10);
    else
      wanted.push_back(word);
  }
  if (wanted.empty()) wanted = {"replay", "snapshot", "insert", "amplify"};
  must(vx_core_init(), "starting the core");
  for (const std::string &what : wanted) {
    if (what == "replay") {
      replay(o);
    } else if (what == "snapshot") {
      snapshot_with(o, 10);
      snapshot_with(o, o.files);
    } else if (what == "insert") {
      insert(o, VEXFS_INDEX_FLAT);
      insert(o, VEXFS_INDEX_HNSW);
    } else {
      errno = EINVAL;
      must(what == "amplify", what.c_str());
      amplify(o);
    }
    fflush(stdout);
  }
  return 0;
}

}  // namespace

int main(int argc, char **argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception &e) {
    fprintf(stderr, "durability: %s\n", e.what());
    return 1;
  }
}
