// SPDX-License-Identifier: MIT
// What all commands of vexctl share.
#include "context.h"

#include <unistd.h>

#include <array>
#include <cctype>
#include <charconv>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <iostream>

#include "../../lib/host.h"

namespace vexfs::vexctl {

client::Place &Context::place(Access access) {
  if (place_ && access == Access::write && access_ == Access::read && image_place_) {
    finish();  // a command asked for reading first and now has to write
  }
  if (!place_) {
    access_ = access;
    if (image.empty() && !snapshot.empty())
      throw Usage("--snapshot goes with --image; of a mounted filesystem: mount -o ro,snapshot=NAME");
    if (image.empty()) {
      place_ = client::mounted();
    } else {
      client::ImageOptions o;
      if (!snapshot.empty() && access == Access::write) throw Usage("a snapshot cannot be changed");
      o.read_only = access == Access::read;
      o.snapshot = snapshot;
      if (as_json) host::set_log_level(-1);  // errors are one JSON object each
      // Once: the command stops where it is safe, and the image is closed properly. A second one ends the program.
      struct sigaction stop {};
      stop.sa_handler = [](int) { client::interrupt_image_commands(); };
      stop.sa_flags = static_cast<int>(SA_RESETHAND);
      sigaction(SIGINT, &stop, nullptr);
      auto p = client::ImagePlace::open_image(image, o);
      image_place_ = p.get();
      place_ = std::move(p);
    }
  }
  return *place_;
}

client::ImagePlace &Context::image_place(Access access) {
  if (image.empty()) throw Usage("this command works on an image: give --image FILE");
  place(access);
  return *image_place_;
}

std::unique_ptr<client::Target> Context::open(const std::string &path, Access access) {
  client::Place &p = place(access);
  return p.open(path.empty() ? p.default_path() : path);
}

void Context::finish() {
  if (image_place_) image_place_->close();
  image_place_ = nullptr;
  place_.reset();
  std::cout << pending_.str();
  pending_.str({});
}

std::ostream &Context::out() const {
  return image_place_ && access_ == Access::write ? static_cast<std::ostream &>(pending_) : std::cout;
}

void Context::print(const json &j) const { out() << j.dump(2, ' ', false, json::error_handler_t::replace) << '\n'; }

void Context::say(const std::string &line) const {
  if (!as_json && !quiet) out() << line << '\n';
}

void Context::complain(const std::string &what, int err, int code) {
  result = code;
  error(what, err, code);
}

void Context::warn(const std::string &what) const {
  if (as_json)
    std::cerr << json{{"warning", what}}.dump(-1, ' ', false, json::error_handler_t::replace) << '\n';
  else
    std::cerr << "vexctl: warning: " << what << '\n';
}

void Context::error(const std::string &what, int err, int code, std::optional<uint64_t> done) const {
  if (!as_json) {
    std::cerr << "vexctl: " << what << '\n';
    return;
  }
  json j{{"error", what}, {"errno", err}, {"exit", code}};
  if (done) j["done"] = *done;
  std::cerr << j.dump(-1, ' ', false, json::error_handler_t::replace) << '\n';
}

TextAsJson::TextAsJson(const Context &ctx, std::string key, bool raw) : ctx_(ctx), key_(std::move(key)), raw_(raw) {
  if (ctx_.as_json) before_ = std::cout.rdbuf(text_.rdbuf());
}

TextAsJson::~TextAsJson() {
  if (before_) std::cout.rdbuf(before_);
}

void TextAsJson::finish() {
  if (!before_) return;
  std::cout.rdbuf(before_);
  before_ = nullptr;
  const std::string text = text_.str();
  if (raw_) return ctx_.print(json{{key_, text}});
  std::vector<std::string> lines = split(text, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  ctx_.print(json{{key_, std::move(lines)}});
}

// ---------------------------------------------------------------- progress
uint64_t now_ns() {
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
}

Progress::Progress(const Context &ctx, std::string what, uint64_t total)
    : what_(std::move(what)),
      total_(total),
      shown_(!ctx.quiet && !ctx.as_json && isatty(STDERR_FILENO)),
      begin_ns_(now_ns()) {}

Progress::~Progress() {
  if (shown_ && last_ns_) fputs("\r\033[K", stderr);
}

void Progress::at(uint64_t done) {
  const uint64_t now = now_ns();
  if (!shown_ || now - last_ns_ < 100'000'000) return;
  last_ns_ = now;
  const double share = total_ ? std::min(1.0, static_cast<double>(done) / static_cast<double>(total_)) : 0;
  const double seconds = static_cast<double>(now - begin_ns_) / 1e9;
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  const int width = 30;
  const int full = static_cast<int>(share * width);
  std::string bar(static_cast<size_t>(full), '#');
  bar.resize(width, '.');
  const double left = rate > 0 ? static_cast<double>(total_ - std::min(done, total_)) / rate : 0;
  fprintf(stderr, "\r%s [%s] %3.0f %%  %s/s  %.0f s left\033[K", what_.c_str(), bar.c_str(), share * 100,
          human_count(static_cast<uint64_t>(rate)).c_str(), left);
}

// -------------------------------------------------------------------- text
std::string fixed(double v, int digits) {
  std::array<char, 64> b;
  snprintf(b.data(), b.size(), "%.*f", digits, v);
  return b.data();
}

std::string human_bytes(uint64_t n) {
  static constexpr std::array<const char *, 7> units{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto v = static_cast<double>(n);
  size_t u = 0;
  while (v >= 1024 && u + 1 < units.size()) v /= 1024, u++;
  return fixed(v, u == 0 ? 0 : 1) + " " + units[u];
}

std::string human_count(uint64_t n) {
  std::string s = std::to_string(n);
  for (auto at = static_cast<ptrdiff_t>(s.size()) - 3; at > 0; at -= 3) s.insert(static_cast<size_t>(at), ",");
  return s;
}

std::string human_time(int64_t sec) {
  const auto t = static_cast<time_t>(sec);
  tm parts{};
  std::array<char, 64> b{};
  if (!localtime_r(&t, &parts) || !strftime(b.data(), b.size(), "%Y-%m-%dT%H:%M:%S%z", &parts))
    return std::to_string(sec);
  return b.data();
}

double shortest(float v) {
  if (!std::isfinite(v)) return v;
  std::array<char, 64> b;
  const auto end = std::to_chars(b.data(), b.data() + b.size(), v).ptr;
  double d = v;
  std::from_chars(b.data(), end, d);
  return d;
}

std::vector<std::string> split(const std::string &text, char at) {
  std::vector<std::string> parts;
  size_t from = 0;
  for (size_t i = 0; i <= text.size(); i++)
    if (i == text.size() || text[i] == at) {
      parts.push_back(text.substr(from, i - from));
      from = i + 1;
    }
  return parts;
}

namespace {

std::optional<uint64_t> number_in(const std::string &text) {
  uint64_t v = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), v);
  if (ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return v;
}

uint64_t parse_number(const std::string &text, const std::string &whole) {
  const auto v = number_in(text);
  if (!v) throw Usage("'" + whole + "' is not a number");
  return *v;
}

}  // namespace

uint64_t parse_size(const std::string &text) {
  static const std::string units = "kmgtpe";
  size_t digits = 0;
  while (digits < text.size() && isdigit(static_cast<unsigned char>(text[digits]))) digits++;
  const uint64_t v = parse_number(text.substr(0, digits), text);
  std::string unit = text.substr(digits);
  for (char &c : unit) c = static_cast<char>(tolower(static_cast<unsigned char>(c)));
  if (unit.empty() || unit == "b") return v;
  const size_t u = units.find(unit[0]);
  const std::string rest = unit.substr(1);
  if (u == std::string::npos || (!rest.empty() && rest != "b" && rest != "ib"))
    throw Usage("'" + text + "' is not a size (a number, with k, m, g, t, p or e)");
  const unsigned shift = 10 * (static_cast<unsigned>(u) + 1);
  if (v > (UINT64_MAX >> shift)) throw Usage("'" + text + "' is too large");
  return v << shift;
}

CLI::Validator unsigned_number(uint64_t greatest) {
  return CLI::Validator(
      [greatest](const std::string &text) -> std::string {
        const auto v = number_in(text);
        if (v && *v <= greatest) return {};
        return "'" + text + "' is not a number from 0 to " + std::to_string(greatest);
      },
      "NUMBER");
}

Range parse_range(const std::string &text) {
  const size_t dots = text.find("..");
  if (dots == std::string::npos) {
    const uint64_t v = parse_number(text, text);
    return Range{v, v};
  }
  const std::string a = text.substr(0, dots);
  const std::string b = text.substr(dots + 2);
  const Range r{a.empty() ? 0 : parse_number(a, text), b.empty() ? UINT64_MAX : parse_number(b, text)};
  if (r.from > r.to) throw Usage("'" + text + "': the range is empty");
  return r;
}

void Table::print() const {
  std::vector<size_t> width;
  for (const auto &r : rows_)
    for (size_t i = 0; i < r.size(); i++) {
      if (i == width.size()) width.push_back(0);
      width[i] = std::max(width[i], r[i].size());
    }
  auto number = [](const std::string &s) {
    return !s.empty() && s.find_first_not_of("0123456789.,-+e%") == std::string::npos;
  };
  for (const auto &r : rows_) {
    std::string line;
    for (size_t i = 0; i < r.size(); i++) {
      const std::string pad(width[i] - r[i].size(), ' ');
      const bool right =
          &r == &rows_.front() ? rows_.size() > 1 && i < rows_[1].size() && number(rows_[1][i]) : number(r[i]);
      line += right ? pad + r[i] : r[i] + (i + 1 < r.size() ? pad : "");
      if (i + 1 < r.size()) line += "  ";
    }
    std::cout << line << '\n';
  }
}

}  // namespace vexfs::vexctl
