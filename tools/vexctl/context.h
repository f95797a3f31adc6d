// SPDX-License-Identifier: MIT
// What all commands of vexctl share: global options, the place they work on, exit codes and ways to print.
#pragma once
#include <CLI/CLI.hpp>
#include <array>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "../../lib/client/commands.h"
#include "../../lib/image/image.h"

namespace vexfs::vexctl {

using json = nlohmann::ordered_json;

enum Exit : int {
  exit_ok = 0,
  exit_failed = 1,     // the command failed for a reason not below
  exit_usage = 2,      // wrong options or arguments; nothing was done
  exit_not_found = 3,  // no such file, collection or vector
  exit_denied = 4,     // permission, read-only
  exit_damage = 5,     // I/O error or damaged filesystem
  exit_below = 6,      // eval: recall is below what --min-recall demands
};

// Wrong use of an option that only the command itself can see.
class Usage : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class Access { read, write };

class Context {
 public:
  // Global options.
  std::string image, snapshot;
  bool as_json = false;
  bool quiet = false;

  // Opens the place (once) and path in it; an empty path is the place's default.
  std::unique_ptr<client::Target> open(const std::string &path, Access access);
  client::Place &place(Access access);
  client::ImagePlace &image_place(Access access);  // throws Usage without --image
  void finish();                                   // commits and closes an image; throws when that fails

  // One JSON document per command, on stdout.
  // Of a command that changes an image it waits until the image is closed well.
  void print(const json &j) const;  // bytes that are no UTF-8 (in names) become U+FFFD
  // A line for people; nothing with --json or --quiet.
  void say(const std::string &line) const;
  // A line on stderr (with --json an object) about a part of what was asked that could not be done; the command goes
  // on, and will exit with `code`.
  void complain(const std::string &what, int err, int code);
  // A line on stderr (with --json an object) that the user should know; the command is done all the same.
  void warn(const std::string &what) const;
  // The line alone. done: of a command on many vectors, for how many it was done.
  void error(const std::string &what, int err, int code, std::optional<uint64_t> done = {}) const;
  int result = exit_ok;  // of a command that worked but did not find what was asked

 private:
  std::ostream &out() const;
  mutable std::ostringstream pending_;
  std::unique_ptr<client::Place> place_;
  client::ImagePlace *image_place_ = nullptr;
  Access access_ = Access::read;
};

// A bar on stderr, when that is a terminal and the user did not ask for silence.
class Progress {
 public:
  Progress(const Context &ctx, std::string what, uint64_t total);
  ~Progress();
  void at(uint64_t done);

 private:
  std::string what_;
  uint64_t total_;
  bool shown_;
  uint64_t begin_ns_;
  uint64_t last_ns_ = 0;
};

// While it lives, with --json, what is written to std::cout is collected; finish() prints it as one document, with the
// lines under `key` or, if raw, all of it as one text.
class TextAsJson {
 public:
  TextAsJson(const Context &ctx, std::string key, bool raw = false);
  ~TextAsJson();
  TextAsJson(const TextAsJson &) = delete;
  TextAsJson &operator=(const TextAsJson &) = delete;
  void finish();

 private:
  const Context &ctx_;
  std::string key_;
  bool raw_;
  std::ostringstream text_;
  std::streambuf *before_ = nullptr;
};

// -------------------------------------------------------------------- text
std::string human_bytes(uint64_t n);  // "1.5 MiB"
std::string human_count(uint64_t n);  // "1,234,567"
std::string human_time(int64_t sec);  // local time, ISO 8601
std::string fixed(double v, int digits);
double shortest(float v);                      // the double that prints as the float does
uint64_t parse_size(const std::string &text);  // "4096", "64k", "2G"; throws Usage
struct Range {
  uint64_t from, to;
};  // inclusive
// For options of 64 bits: a decimal number, which CLI11 itself takes with a sign and wraps.
CLI::Validator unsigned_number(uint64_t greatest = UINT64_MAX);
Range parse_range(const std::string &text);  // "7", "7..9", "7..", "..9"; throws Usage
std::vector<std::string> split(const std::string &text, char at);
uint64_t now_ns();

// Columns of equal width, numbers to the right.
class Table {
 public:
  explicit Table(std::vector<std::string> head) { rows_.push_back(std::move(head)); }
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  void print() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// ------------------------------------------------------- groups of commands
void add_collection_commands(CLI::App &app, Context &ctx);
void add_vector_commands(CLI::App &app, Context &ctx);
void add_import_command(CLI::App &app, Context &ctx);
void add_search_command(CLI::App &app, Context &ctx);
void add_eval_command(CLI::App &app, Context &ctx);
void add_index_commands(CLI::App &app, Context &ctx);
void add_status_commands(CLI::App &app, Context &ctx);
void add_snapshot_commands(CLI::App &app, Context &ctx);
void add_snapshot_diff_command(CLI::App &group, Context &ctx);
void add_clone_command(CLI::App &app, Context &ctx);
void add_snapshot_send_command(CLI::App &group, Context &ctx);
void add_snapshot_receive_commands(CLI::App &group, Context &ctx);
void add_scrub_command(CLI::App &app, Context &ctx);
void add_image_commands(CLI::App &app, Context &ctx);
void add_completion_command(CLI::App &app, Context &ctx);

}  // namespace vexfs::vexctl
