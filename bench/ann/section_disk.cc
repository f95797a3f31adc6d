// SPDX-License-Identifier: MIT
// What has to do with the device: durable batches that can be found at once, beside a file of the host with an fsync for
// each; and the first answer after a mount.
#include <algorithm>
#include <cstdio>

#include "engine_vexfs.h"
#include "sections.h"

namespace vexfs::bench {
namespace {

struct Durable {
  uint32_t batch = 0, batches = 0, missed = 0;
  std::vector<double> rows, file;  // seconds of each batch
  double total(const std::vector<double> &v) const {
    double s = 0;
    for (const double x : v) s += x;
    return s;
  }
};

class HostFile {
 public:
  explicit HostFile(const std::string &dir) : file_(dir + "/vexfs-ann-append-" + std::to_string(getpid())) {
    fd_ = open(file_.path().c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    must(fd_ >= 0, file_.path().c_str());
  }
  ~HostFile() { close(fd_); }
  HostFile(const HostFile &) = delete;
  HostFile &operator=(const HostFile &) = delete;
  void append(const void *bytes, size_t n) {
    must(write(fd_, bytes, n) == static_cast<ssize_t>(n), "write");
    must(fsync(fd_) == 0, "fsync");
  }

 private:
  ScratchFile file_;
  int fd_;
};

Durable insert_durably(const Run &run, const EngineSpec &spec, uint32_t batch) {
  const Dataset &d = run.d;
  VexfsEngine e(spec, d);
  HostFile host(run.o.build.dir);
  e.create(d, run.o.build, true);
  e.make_index(run.o.build);
  e.set_effort({64, 10});
  Durable r;
  r.batch = batch;
  std::vector<int64_t> found(run.o.k);
  for (uint32_t at = 0; at + batch <= d.count && r.batches < 100; at += batch, r.batches++) {
    const Stopwatch a;
    host.append(d.row(at), size_t{batch} * d.dim * sizeof(float));
    r.file.push_back(a.seconds());
    const Stopwatch b;
    e.add(d, at, batch, VEXFS_BATCH_F_DURABLE);
    r.rows.push_back(b.seconds());
    e.search(d.row(at + batch - 1), 1, run.o.k, found.data());
    r.missed += std::find(found.begin(), found.end(), int64_t{at} + batch - 1) == found.end();
  }
  return r;
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[v.size() / 2];
}

}  // namespace

void section_durable(Run &run, const std::vector<Built> &engines) {
  printf("\n%-22s %8s %10s %10s %12s %14s %12s\n", "durable batches", "rows", "rows/s", "median ms", "file's rows/s",
         "file/rows (ms)", "new unfound");
  run.json.key("durable").begin_array();
  for (const Built &b : engines) {
    if (b.spec.kind != "vexfs") continue;
    EngineSpec flat = b.spec;
    flat.params["index"] = "flat";
    for (const EngineSpec &spec : {flat, b.spec}) {
      for (const uint32_t batch : {1u, 100u, 1000u}) {
        if (batch > run.d.count) continue;
        const Durable r = insert_durably(run, spec, batch);
        const std::string name = spec.params == b.spec.params ? b.spec.text : b.spec.text + ", flat";
        const double rows = static_cast<double>(r.batch) * r.batches;
        printf("  %-20s %8u %10.0f %10.2f %12.0f %14.2f %7u/%u\n", name.c_str(), batch, rows / r.total(r.rows),
               median(r.rows) * 1e3, rows / r.total(r.file), median(r.file) / median(r.rows), r.missed, r.batches);
        run.json.begin_object()
            .field("engine", name)
            .field("batch_rows", r.batch)
            .field("batches", r.batches)
            .field("rows_per_s", rows / r.total(r.rows))
            .field("median_ms", median(r.rows) * 1e3)
            .field("host_file_rows_per_s", rows / r.total(r.file))
            .field("host_file_median_ms", median(r.file) * 1e3)
            .field("newest_row_not_found", r.missed)
            .end_object();
        // A flat collection is scanned; a walk that misses what was asked for by its own vector is rare.
        if (r.missed * 50 > r.batches || (r.missed && spec.get("index", "hnsw") == "flat")) {
          printf("  FAILED: rows are not searchable at once\n");
          run.sound = false;
        }
      }
    }
  }
  run.json.end_array();
}

void section_cold(Run &run, std::vector<Built> &engines) {
  printf("\n%-22s %9s %9s %12s %12s %10s %10s\n", "cold start", "open ms", "MB read", "1st query ms", "MB read",
         "all, ms", "all, MB");
  run.json.key("cold").begin_array();
  for (Built &b : engines) {
    ColdStart c;
    b.engine->set_effort(b.usual());
    if (!b.engine->cold_start(run.d.q(0), run.o.k, &c)) continue;
    printf("  %-20s %9.2f %9.2f %12.2f %12.2f %10.1f %10.1f\n", b.engine->name().c_str(), c.open_seconds * 1e3,
           static_cast<double>(c.open_bytes) / 1e6, c.first_seconds * 1e3, static_cast<double>(c.first_bytes) / 1e6,
           c.whole_seconds * 1e3, static_cast<double>(c.whole_bytes) / 1e6);
    run.json.begin_object()
        .field("engine", b.engine->name())
        .field("open_ms", c.open_seconds * 1e3)
        .field("open_bytes_read", c.open_bytes)
        .field("first_query_ms", c.first_seconds * 1e3)
        .field("first_query_bytes_read", c.first_bytes)
        .field("read_all_ms", c.whole_seconds * 1e3)
        .field("read_all_bytes", c.whole_bytes)
        .end_object();
  }
  run.json.end_array();
}

}  // namespace vexfs::bench
