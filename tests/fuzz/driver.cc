// SPDX-License-Identifier: MIT
// Runs a fuzz target without libFuzzer: first the inputs of a corpus, then seeded random mutations of them for a while.
//
//   NAME_fuzz [--seconds S] [--seed N] [--max-size BYTES] [--crash-dir DIR] [FILE|DIRECTORY]...
//
// An input that crashes, aborts or takes longer than 20 s is written to DIR/NAME-crash and its path is printed; give it
// as FILE with --seconds 0 to see it again. The seed is printed. What libFuzzer offers a target is offered here too:
// LLVMFuzzerInitialize, and LLVMFuzzerCustomMutator for inputs that must keep their checksums right.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" {
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);
__attribute__((weak)) size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
}

namespace {

using Input = std::vector<uint8_t>;

constexpr unsigned kInputLimitS = 20;
constexpr size_t kPoolMax = 512;  // inputs kept for further mutation

std::mt19937_64 g_random;
const Input *g_current = nullptr;
std::string g_crash_path;

// Async-signal-safe: the process is in an unknown state.
void dump_current() {
  if (g_current == nullptr) return;
  int fd = open(g_crash_path.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0644);
  if (fd < 0) return;
  size_t done = 0;
  while (done < g_current->size()) {
    ssize_t n = write(fd, g_current->data() + done, g_current->size() - done);
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  close(fd);
  static const char kText[] = "\nthe input is in ";
  (void)!write(STDERR_FILENO, kText, sizeof(kText) - 1);
  (void)!write(STDERR_FILENO, g_crash_path.data(), g_crash_path.size());
  (void)!write(STDERR_FILENO, "\n", 1);
  g_current = nullptr;
}

void on_signal(int number) {
  if (number == SIGALRM) {
    static const char kText[] = "\nan input takes too long";
    (void)!write(STDERR_FILENO, kText, sizeof(kText) - 1);
  }
  dump_current();
  signal(number, SIG_DFL);
  signal(SIGABRT, SIG_DFL);
  if (number == SIGALRM) abort();
  raise(number);
}

size_t below(size_t limit) { return static_cast<size_t>(g_random() % limit); }

// One small change. Values near the edges of integer types find more than random ones.
void mutate_once(Input &input, size_t max_size) {
  static constexpr uint64_t kEdges[] = {0,      1,      2,       0x7f,       0x80,       0xff,       0x7fff,
                                        0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff, UINT64_MAX};
  if (input.empty()) input.push_back(0);
  size_t at = below(input.size());
  switch (below(8)) {
    case 0:
      input[at] ^= static_cast<uint8_t>(1u << below(8));
      break;
    case 1:
      input[at] = static_cast<uint8_t>(g_random());
      break;
    case 2:
    case 3: {
      uint64_t value = kEdges[below(std::size(kEdges))] + below(3) - 1;
      size_t width = size_t{1} << below(4);
      at &= ~(width - 1);
      std::memcpy(input.data() + at, &value, std::min(width, input.size() - at));
      break;
    }
    case 4: {  // copy a piece elsewhere
      size_t length = std::min(1 + below(512), input.size() - at);
      size_t to = below(input.size() - length + 1);
      std::memmove(input.data() + to, input.data() + at, length);
      break;
    }
    case 5: {  // clear a piece
      size_t length = std::min(size_t{1} << below(13), input.size() - at);
      std::memset(input.data() + at, below(2) != 0 ? 0xff : 0, length);
      break;
    }
    case 6:
      if (input.size() < max_size) {
        size_t length = std::min(1 + below(64), max_size - input.size());
        input.insert(input.begin() + static_cast<ptrdiff_t>(at), length, static_cast<uint8_t>(g_random()));
      }
      break;
    default:
      if (below(8) == 0) input.resize(at);
      break;
  }
}

void mutate(Input &input, size_t max_size) {
  if (LLVMFuzzerCustomMutator != nullptr && below(4) != 0) {
    size_t size = input.size();
    input.resize(max_size);
    input.resize(LLVMFuzzerCustomMutator(input.data(), size, max_size, static_cast<unsigned>(g_random())));
    return;
  }
  for (size_t n = 1 + below(8); n > 0; n--) mutate_once(input, max_size);
}

void run_one(const Input &input) {
  g_current = &input;
  alarm(kInputLimitS);
  // A copy of exactly this size, so that a sanitizer sees a read beyond the end.
  uint8_t *copy = static_cast<uint8_t *>(std::malloc(std::max<size_t>(input.size(), 1)));
  if (!input.empty()) std::memcpy(copy, input.data(), input.size());
  (void)LLVMFuzzerTestOneInput(copy, input.size());
  std::free(copy);
  alarm(0);
  g_current = nullptr;
}

void load(const std::filesystem::path &path, std::vector<Input> &pool) {
  if (std::filesystem::is_directory(path)) {
    std::vector<std::filesystem::path> names;
    for (const auto &entry : std::filesystem::directory_iterator(path)) names.push_back(entry.path());
    std::sort(names.begin(), names.end());
    for (const auto &name : names) load(name, pool);
  } else if (std::filesystem::is_regular_file(path)) {
    std::ifstream file(path, std::ios::binary);
    pool.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  } else {
    std::fprintf(stderr, "%s: no such file, going on without\n", path.c_str());
  }
}

}  // namespace

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size) {
  Input input(data, data + size);
  for (size_t n = 1 + below(4); n > 0; n--) mutate_once(input, max_size);
  if (input.size() > max_size) input.resize(max_size);
  if (!input.empty()) std::memcpy(data, input.data(), input.size());
  return input.size();
}

int main(int argc, char **argv) {
  double seconds = 10;
  uint64_t seed = std::random_device{}();
  size_t max_size = size_t{1} << 20;
  std::string crash_dir = ".";
  std::vector<std::string> paths;
  for (int i = 1; i < argc; i++) {
    std::string word = argv[i];
    if (word.starts_with("--") && i + 1 < argc) {
      std::string value = argv[++i];
      if (word == "--seconds") {
        seconds = std::stod(value);
      } else if (word == "--seed") {
        seed = std::stoull(value);
      } else if (word == "--max-size") {
        max_size = std::stoull(value);
      } else if (word == "--crash-dir") {
        crash_dir = value;
      } else {
        std::fprintf(stderr, "unknown option %s\n", word.c_str());
        return 2;
      }
    } else {
      paths.push_back(word);
    }
  }
  std::string name = std::filesystem::path(argv[0]).filename();
  g_crash_path = crash_dir + "/" + name + "-crash";
  g_random.seed(seed);
  if (LLVMFuzzerInitialize != nullptr) LLVMFuzzerInitialize(&argc, &argv);
  for (int number : {SIGABRT, SIGALRM, SIGILL, SIGFPE}) signal(number, on_signal);
  if (__sanitizer_set_death_callback != nullptr) {
    __sanitizer_set_death_callback(dump_current);
  } else {
    for (int number : {SIGSEGV, SIGBUS}) signal(number, on_signal);
  }

  std::vector<Input> pool;
  for (const auto &path : paths) load(path, pool);
  for (const auto &input : pool) run_one(input);
  size_t seeds = pool.size();
  if (pool.empty()) pool.emplace_back();

  std::printf("%s: %zu inputs from the corpus are fine; seed %llu\n", name.c_str(), seeds,
              static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  uint64_t runs = 0;
  auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (std::chrono::steady_clock::now() < end) {
    Input input = pool[below(pool.size())];
    mutate(input, std::max(max_size, input.size()));
    run_one(input);
    runs++;
    // Without coverage any mutant is as good as another; a few are kept so that changes add up.
    if (below(64) == 0) {
      if (pool.size() < kPoolMax) {
        pool.push_back(std::move(input));
      } else if (seeds < pool.size()) {
        pool[seeds + below(pool.size() - seeds)] = std::move(input);
      }
    }
  }
  std::printf("%llu mutations in %.0f s, none crashed\n", static_cast<unsigned long long>(runs), seconds);
  return 0;
}
