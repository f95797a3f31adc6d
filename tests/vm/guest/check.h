// SPDX-License-Identifier: MIT
// What the test programs of the guest share: checks that say where and why, and leave with status 1.
#pragma once
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#define CHECK(condition)                                                                                 \
  do {                                                                                                   \
    if (!(condition)) {                                                                                  \
      int check_errno = errno;                                                                           \
      fprintf(stderr, "FAILED: %s:%d: %s (errno %d: %s)\n", __FILE__, __LINE__, #condition, check_errno, \
              strerror(check_errno));                                                                    \
      exit(1);                                                                                           \
    }                                                                                                    \
  } while (0)

// The call must fail with that errno.
#define CHECK_ERRNO(call, code)                                                                                   \
  do {                                                                                                            \
    errno = 0;                                                                                                    \
    long check_result = static_cast<long>(call);                                                                  \
    int check_errno = errno;                                                                                      \
    if (check_result != -1 || check_errno != (code)) {                                                            \
      fprintf(stderr, "FAILED: %s:%d: %s: returned %ld, errno %d (%s), expected %s\n", __FILE__, __LINE__, #call, \
              check_result, check_errno, strerror(check_errno), #code);                                           \
      exit(1);                                                                                                    \
    }                                                                                                             \
  } while (0)

#define CHECK_EQ(a, b)                                                                           \
  do {                                                                                           \
    auto check_a = (a);                                                                          \
    auto check_b = (b);                                                                          \
    if (!(check_a == static_cast<decltype(check_a)>(check_b))) {                                 \
      fprintf(stderr, "FAILED: %s:%d: %s is %lld, expected %s = %lld\n", __FILE__, __LINE__, #a, \
              static_cast<long long>(check_a), #b, static_cast<long long>(check_b));             \
      exit(1);                                                                                   \
    }                                                                                            \
  } while (0)

// SplitMix64 (Steele, Lea, Flood 2014): the same numbers everywhere from one seed.
class Random {
 public:
  explicit Random(unsigned long long seed) : state_(seed) {}
  unsigned long long next() {
    unsigned long long z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  unsigned long long below(unsigned long long n) { return next() % n; }

 private:
  unsigned long long state_;
};
