// SPDX-License-Identifier: MIT
// Power cuts under every short workload there is: all of one operation, and as many of two and three as time allows, in
// a seeded order that repeats none and leaves none out.
//
// VX_SEED=N another order and other images, VX_CRASH_SECONDS=N goes on for so long, VX_ACE=N runs workload N alone.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "ace_workload.h"

namespace vexfs::crash {
namespace {

using Clock = std::chrono::steady_clock;

// With the address sanitizer everything takes many times as long; all of length 1 is run in any case.
#if defined(__SANITIZE_ADDRESS__)
constexpr int kSecondsOfTwo = 4, kSeconds = 8;
#else
constexpr int kSecondsOfTwo = 10, kSeconds = 18;
#endif

uint64_t number_from(const char *name, uint64_t otherwise) {
  const char *s = getenv(name);
  return s ? strtoull(s, nullptr, 0) : otherwise;
}

// A permutation of 0 .. n-1 that needs no memory.
class Order {
 public:
  Order(uint64_t n, uint64_t seed) : n_(n), first_(seed % n), stride_(n * 618 / 1000 + seed % 1000) {
    if (stride_ == 0) stride_ = 1;
    while (std::gcd(stride_, n_) != 1) stride_++;
  }
  uint64_t operator()(uint64_t i) const {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(i) * stride_ + first_) % n_);
  }

 private:
  uint64_t n_, first_, stride_;
};

class AceCrash : public ::testing::Test {
 protected:
  void SetUp() override {
    host::set_log_level(VX_LOG_ERR);
    start_ = starting_image();
  }
  void TearDown() override {
    host::set_log_level(VX_LOG_NOTICE);
    host::unseed_random();
    host::unfix_clock();
  }
  void run(uint64_t number) {
    auto steps = workload(number);
    SCOPED_TRACE("VX_SEED=" + std::to_string(seed_) + " VX_ACE=" + std::to_string(number) +
                 " ace_crash_test: " + describe(steps));
    tally_ += run_workload(*start_, steps, seed_ ^ (number << 20));
    workloads_++;
  }
  // All of one length, until the time is over. Returns how many.
  uint64_t run_length(unsigned n, Clock::time_point until) {
    Order order(count_of_length(n), n == 1 ? 0 : seed_);
    uint64_t i = 0;
    while (i < count_of_length(n) && (n == 1 || Clock::now() < until) && !HasFailure())
      run(first_of_length(n) + order(i++));
    return i;
  }

  uint64_t seed_ = number_from("VX_SEED", 1), workloads_ = 0;
  Tally tally_;
  std::unique_ptr<host::MemDevice> start_;
};

TEST_F(AceCrash, ShortWorkloads) {
  ASSERT_FALSE(HasFailure());
  if (getenv("VX_ACE")) {
    uint64_t number = number_from("VX_ACE", 0);
    ASSERT_LT(number, first_of_length(kLongest + 1));
    printf("%s\n", describe(workload(number)).c_str());
    run(number);
  } else {
    auto begun = Clock::now();
    uint64_t budget = number_from("VX_CRASH_SECONDS", 0);
    auto end = begun + std::chrono::seconds(budget ? budget : kSeconds);
    uint64_t done[kLongest + 1] = {};
    done[1] = run_length(1, end);
    done[2] = run_length(2, budget ? end : begun + std::chrono::seconds(kSecondsOfTwo));
    done[3] = run_length(3, end);
    for (unsigned n = 1; n <= kLongest; n++)
      printf("length %u: %llu of %llu workloads\n", n, static_cast<unsigned long long>(done[n]),
             static_cast<unsigned long long>(count_of_length(n)));
    EXPECT_TRUE(HasFailure() || done[1] == count_of_length(1));
    EXPECT_TRUE(HasFailure() || (tally_.replayed > 0 && tally_.second_cuts > 0));
  }
  printf("explored: seed %llu, %llu workloads, %llu images, %llu replayed a log, %llu cut again\n",
         static_cast<unsigned long long>(seed_), static_cast<unsigned long long>(workloads_),
         static_cast<unsigned long long>(tally_.images), static_cast<unsigned long long>(tally_.replayed),
         static_cast<unsigned long long>(tally_.second_cuts));
}

// What is meant to be done is done: of every operation there is a workload in which it succeeds.
TEST_F(AceCrash, EveryOperationSucceedsSomewhere) {
  for (unsigned op = 0; op < operations(); op++) {
    bool went = false;
    for (unsigned before = 0; before <= operations() && !went; before++) {
      auto image = start_->clone();
      vector::test::Mount m(kSmallMount, image.get());
      Session s(m);
      if (before) (void)operate(s, before - 1, 0);
      went = operate(s, op, 1) == 0;
    }
    EXPECT_TRUE(went) << operation_name(op);
  }
}

}  // namespace
}  // namespace vexfs::crash
