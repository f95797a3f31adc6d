// SPDX-License-Identifier: MIT
// Batches in flight, and the carrier that runs them on threads.
#include "pipe.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <iterator>
#include <mutex>
#include <thread>

namespace vexfs::client {
namespace {

class ThreadCarrier : public Carrier {
 public:
  ThreadCarrier(Target &t, unsigned threads) : target_(t) {
    for (unsigned i = 0; i < threads; i++) threads_.emplace_back([this] { work(); });
  }
  ~ThreadCarrier() override {
    {
      std::lock_guard<std::mutex> g(lock_);
      stop_ = true;
    }
    todo_cond_.notify_all();
    for (auto &t : threads_) t.join();
  }
  void start(Batch *b) override {
    {
      std::lock_guard<std::mutex> g(lock_);
      todo_.push_back(b);
    }
    todo_cond_.notify_one();
  }
  Batch *wait(int *err) override {
    std::unique_lock<std::mutex> g(lock_);
    done_cond_.wait(g, [this] { return !done_.empty(); });
    auto [b, rc] = done_.front();
    done_.pop_front();
    *err = rc;
    return b;
  }
  const char *name() const override { return "threads"; }

 private:
  void work() {
    std::unique_lock<std::mutex> g(lock_);
    for (;;) {
      todo_cond_.wait(g, [this] { return stop_ || !todo_.empty(); });
      if (todo_.empty()) return;
      Batch *b = todo_.front();
      todo_.pop_front();
      g.unlock();
      const int rc = target_.command(VEXFS_IOCTL_BATCH_OPERATIONS, &b->command);
      g.lock();
      done_.emplace_back(b, rc);
      done_cond_.notify_one();
    }
  }

  Target &target_;
  std::mutex lock_;
  std::condition_variable todo_cond_;
  std::condition_variable done_cond_;
  std::deque<Batch *> todo_;
  std::deque<std::pair<Batch *, int>> done_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<Carrier> thread_carrier(Target &t, unsigned threads) {
  return std::make_unique<ThreadCarrier>(t, std::max(threads, 1u));
}

BatchPipe::BatchPipe(Target &t, unsigned depth, Via via) : target_(t), depth_(std::max(depth, 1u)) {
  if (via == Via::ring_or_threads) carrier_ = ring_carrier(t, depth_);
  if (!carrier_) carrier_ = thread_carrier(t, depth_);
}

BatchPipe::~BatchPipe() {
  while (in_flight_) reap();
}

std::unique_ptr<Batch> BatchPipe::take() {
  while (in_flight_ >= depth_) reap();
  if (spare_.empty()) return std::make_unique<Batch>();
  auto b = std::move(spare_.back());
  spare_.pop_back();
  return b;
}

void BatchPipe::submit(std::unique_ptr<Batch> b) {
  if (error_) {
    spare_.push_back(std::move(b));
    return;
  }
  b->command.size = sizeof b->command;
  b->command.rows = reinterpret_cast<uintptr_t>(b->rows.empty() ? nullptr : b->rows.data());
  b->command.data = reinterpret_cast<uintptr_t>(b->data.data());
  b->command.done = 0;
  in_flight_++;
  carrier_->start(b.release());
}

void BatchPipe::reap() {
  int rc = 0;
  std::unique_ptr<Batch> b(carrier_->wait(&rc));
  in_flight_--;
  const uint32_t done = rc == 0 ? b->command.count : std::min(b->command.done, b->command.count);
  rows_done_ += done;
  note_done(b->first, done);
  const uint64_t at = b->first + done;
  if (rc != 0 && (error_ == 0 || at < error_row_)) {
    error_ = rc;
    error_row_ = at;
  }
  spare_.push_back(std::move(b));
}

// Batches end in any order: each joins the runs that it touches, so that a whole import is one.
void BatchPipe::note_done(uint64_t first, uint64_t count) {
  if (!count) return;
  uint64_t last = first + count - 1;
  auto next = done_.upper_bound(first);
  if (next != done_.end() && next->first == last + 1) {
    last = next->second;
    next = done_.erase(next);
  }
  if (next != done_.begin() && std::prev(next)->second + 1 == first)
    std::prev(next)->second = last;
  else
    done_.emplace_hint(next, first, last);
}

void BatchPipe::finish() {
  while (in_flight_) reap();
}

}  // namespace vexfs::client
