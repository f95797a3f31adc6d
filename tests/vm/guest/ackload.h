// SPDX-License-Identifier: MIT
// What the load of ackload.cc writes, what may be found of it later, and the comparison of the two: shared by the load, by
// those who replay a log of device writes (logreplay.cc, ../logsweep.cc), and read from its lines by ../crash_rounds.
//
// A line "B KIND K G" comes before an operation begins, "A KIND K G" after it was acknowledged, "S KIND K G" says what was
// found. KIND w: file K has contents number G (0: there is none); a: log K has G records; v: the vector with id K is number
// G; p: snapshot K holds number G of a file and of a vector of its own.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <istream>
#include <map>
#include <memory>
#include <ostream>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace ackload {

constexpr uint64_t files = 40, logs = 6, vectors = 200, snapshots = 3;
constexpr uint64_t kept_id = 10000;  // + K: the id of the vector that snapshot K is asked for
constexpr uint32_t dim = 16;
constexpr size_t record = 100;  // bytes of a log's record

inline std::string contents(uint64_t k, uint64_t g) {
  std::mt19937_64 rng(k * 1000003 + g);
  const size_t size = 1 + rng() % (g % 4 ? 9000 : 200000);
  std::vector<uint64_t> words(size / sizeof(uint64_t) + 1);
  for (uint64_t &w : words) w = rng();
  return {reinterpret_cast<const char *>(words.data()), size};
}

inline std::string log_record(uint64_t k, uint64_t n) {
  std::string s = std::to_string(k) + ":" + std::to_string(n) + " ";
  s.resize(record - 1, 'x');
  return s + "\n";
}

inline void fill(uint64_t k, uint64_t g, float (&row)[dim]) {
  std::mt19937_64 rng(k * 7919 + g);
  for (float &x : row) x = static_cast<float>(rng() % 1000) / 8;
}

inline std::string file_name(char kind, uint64_t k) { return kind + std::to_string(k); }

// What may be found: of a log the least and the greatest number, of everything else the numbers that are possible.
class States {
 public:
  using Key = std::pair<char, uint64_t>;

  // ever: what was true once may be found, too (of a device that has lost writes in between).
  explicit States(bool ever = false) : ever_(ever) {}

  // A line of the load; others are passed by.
  void line(const std::string &text) {
    std::istringstream words(text);
    std::string what, kind;
    uint64_t k, g;
    if (!(words >> what >> kind >> k >> g) || what.size() != 1 || kind.size() != 1) return;
    if (std::string("BAS").find(what[0]) == std::string::npos || std::string("wavp").find(kind[0]) == std::string::npos)
      return;
    const bool log = kind[0] == 'a';
    auto [at, fresh] =
        possible_.try_emplace({kind[0], k}, log ? std::vector<uint64_t>{0, 0} : std::vector<uint64_t>{0});
    std::vector<uint64_t> &now = at->second;
    if (ever_ && log)
      now[1] = std::max(now[1], g);
    else if (ever_)
      now.push_back(g);
    else if (what[0] != 'B')
      now = log ? std::vector<uint64_t>{g, g} : std::vector<uint64_t>{g};
    else if (log)
      now[1] = g;
    else
      now.push_back(g);
    acknowledged_ += what[0] == 'A';
  }
  // As text, a line for each: KIND K NUMBERS.
  void write(std::ostream &out) const {
    for (auto &[key, numbers] : possible_) {
      out << key.first << ' ' << key.second;
      for (uint64_t g : numbers) out << ' ' << g;
      out << '\n';
    }
  }
  // False: something else.
  bool read(std::istream &in) {
    for (std::string text; std::getline(in, text);) {
      std::istringstream words(text);
      Key key;
      std::vector<uint64_t> numbers;
      if (!(words >> key.first >> key.second)) return false;
      for (uint64_t g; words >> g;) numbers.push_back(g);
      if (numbers.empty() || (key.first == 'a' && numbers.size() != 2)) return false;
      possible_[key] = numbers;
    }
    return true;
  }
  const std::map<Key, std::vector<uint64_t>> &possible() const { return possible_; }
  uint64_t acknowledged() const { return acknowledged_; }

 private:
  bool ever_;
  std::map<Key, std::vector<uint64_t>> possible_;
  uint64_t acknowledged_ = 0;
};

// How the load's directory is looked at: through a mount, or by the core in this process.
class Door {
 public:
  virtual ~Door() = default;
  virtual bool file(const std::string &name, std::string *bytes) = 0;   // false: there is none
  virtual bool row(uint64_t id, float (&row)[dim]) = 0;                 // false: there is none
  virtual std::unique_ptr<Door> snapshot(const std::string &name) = 0;  // null: there is none
};

constexpr uint64_t none_of_them = ~uint64_t{0};

class Verifier {
 public:
  explicit Verifier(Door &door) : door_(door) {}
  // The number that was found, or none_of_them.
  uint64_t find(const States::Key &key, const std::vector<uint64_t> &possible) {
    switch (key.first) {
      case 'w':
        return file(door_, key, key.second, possible);
      case 'a':
        return log(key.second, possible);
      case 'v':
        return row(door_, key.second, possible);
      default:
        return snapshot(key, possible);
    }
  }

 private:
  static uint64_t file(Door &door, const States::Key &key, uint64_t seed, const std::vector<uint64_t> &possible) {
    std::string bytes;
    const bool there = door.file(file_name(key.first, key.second), &bytes);
    for (uint64_t g : possible)
      if (g ? there && bytes == contents(seed, g) : !there) return g;
    return none_of_them;
  }
  static uint64_t row(Door &door, uint64_t id, const std::vector<uint64_t> &possible) {
    float got[dim], want[dim];
    const bool there = door.row(id, got);
    for (uint64_t g : possible) {
      fill(id, g, want);
      if (g ? there && std::equal(got, got + dim, want) : !there) return g;
    }
    return none_of_them;
  }
  uint64_t log(uint64_t k, const std::vector<uint64_t> &bounds) {
    std::string bytes;
    door_.file(file_name('a', k), &bytes);
    const uint64_t whole = bytes.size() / record;
    if (whole < bounds[0] || bytes.size() > bounds[1] * record) return none_of_them;
    for (uint64_t n = 0; n < whole; n++)
      if (bytes.compare(n * record, record, log_record(k, n)) != 0) return none_of_them;
    return whole;
  }
  uint64_t snapshot(const States::Key &key, const std::vector<uint64_t> &possible) {
    const std::unique_ptr<Door> then = door_.snapshot(file_name('p', key.second));
    if (!then) return std::count(possible.begin(), possible.end(), 0) ? 0 : none_of_them;
    std::vector<uint64_t> made = possible;  // if it is there it holds something
    made.erase(std::remove(made.begin(), made.end(), 0), made.end());
    const uint64_t g = file(*then, key, kept_id + key.second, made);
    return g != none_of_them && row(*then, kept_id + key.second, {g}) == g ? g : none_of_them;
  }

  Door &door_;
};

}  // namespace ackload
