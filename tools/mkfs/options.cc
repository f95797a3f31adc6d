// SPDX-License-Identifier: MIT
// mkfs.vexfs: parsing the command line.
#include "options.h"

#include <getopt.h>
#include <uuid/uuid.h>

#include <cctype>
#include <charconv>
#include <climits>
#include <cstring>
#include <string_view>
#include <vector>

#include "../../include/uapi/vexfs.h"
#include "../../kernel/core/base/utf8.h"
#include "../../lib/client/commands.h"

namespace vexfs::mkfs {
namespace {

// Text that ends up on the disk: valid UTF-8 without control characters.
void check_text(std::string_view s, const char *what) {
  const Bytes bytes(reinterpret_cast<const u8 *>(s.data()), s.size());
  for (size_t at = 0; at < s.size();) {
    const size_t n = bytes[at] < 0x20 || bytes[at] == 0x7f ? 0 : utf8_character(bytes, at);
    if (n == 0) throw Usage(std::string(what) + ": wants UTF-8 without control characters");
    at += n;
  }
}

uint64_t number(std::string_view text, const char *what) {
  uint64_t v = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), v);
  if (ec != std::errc() || end != text.data() + text.size() || text.empty())
    throw Usage(std::string(what) + ": '" + std::string(text) + "' is not a number");
  return v;
}

uint32_t number32(std::string_view text, const char *what, uint32_t from, uint32_t to) {
  const uint64_t v = number(text, what);
  if (v < from || v > to)
    throw Usage(std::string(what) + ": " + std::string(text) + " is not in " + std::to_string(from) + ".." +
                std::to_string(to));
  return static_cast<uint32_t>(v);
}

// A number with an optional k, m, g, t, p (binary); `plain` is the unit of a number without one, in bytes.
uint64_t size_of(std::string_view text, const char *what, uint64_t plain) {
  size_t digits = 0;
  while (digits < text.size() && isdigit(static_cast<unsigned char>(text[digits]))) digits++;
  if (digits == 0) throw Usage(std::string(what) + ": '" + std::string(text) + "' is not a size (such as 512M)");
  const uint64_t v = number(text.substr(0, digits), what);
  std::string unit(text.substr(digits));
  for (char &c : unit) c = static_cast<char>(tolower(static_cast<unsigned char>(c)));
  uint64_t factor = plain;
  if (!unit.empty()) {
    static constexpr std::string_view units = "bkmgtp";
    const size_t u = units.find(unit[0]);
    const std::string rest = unit.substr(1);
    if (u == std::string_view::npos || (!rest.empty() && rest != "b" && rest != "ib"))
      throw Usage(std::string(what) + ": '" + std::string(text) + "' is not a size");
    factor = uint64_t{1} << (10 * u);
  }
  if (v > UINT64_MAX / factor) throw Usage(std::string(what) + ": '" + std::string(text) + "' is too large");
  return v * factor;
}

void set_uuid(Options &o, const std::string &text) {
  o.uuid = {};
  if (text == "random") return;
  if (text == "clear") throw Usage("-U clear: a VexFS cannot be without a UUID (its blocks carry it)");
  uuid_t u;
  if (text == "time")
    uuid_generate_time(u);
  else if (uuid_parse(text.c_str(), u) != 0 || uuid_is_null(u))
    throw Usage("-U: '" + text + "' is neither a UUID nor 'random' nor 'time'");
  memcpy(o.uuid.data(), u, sizeof u);
}

void set_journal(Options &o, const std::string &text) {
  constexpr std::string_view key = "size=";
  std::string_view v = text;
  if (v.starts_with(key)) v.remove_prefix(key.size());
  o.journal_bytes = size_of(v, "-J", 1 << 20);
}

void set_extended(Options &o, const std::string &text) {
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    const std::string word = text.substr(at, comma - at);
    if (word == "discard")
      o.discard = true;
    else if (word == "nodiscard")
      o.discard = false;
    else
      throw Usage("-E: '" + word + "' is not known (discard, nodiscard)");
    at = comma + 1;
  }
}

uint8_t copies(const std::string &text) {
  if (text == "dup") return 2;
  if (text == "single") return 1;
  throw Usage("-m: '" + text + "' is not known (dup, single)");
}

template <class F>
uint16_t name(F find, const char *what, const char *text, const std::string &known) {
  const auto v = find(text);
  if (!v) throw Usage(std::string(what) + ": '" + text + "' is not known (" + known + ")");
  return *v;
}

enum LongOption : int {
  opt_version = 1000,
  opt_element,
  opt_metric,
  opt_index,
  opt_ef_construction,
  opt_ef_search,
  opt_name,
  opt_node_size
};

const std::vector<option> long_options{
    {"label", required_argument, nullptr, 'L'},
    {"uuid", required_argument, nullptr, 'U'},
    {"block-size", required_argument, nullptr, 'b'},
    {"node-size", required_argument, nullptr, opt_node_size},
    {"dry-run", no_argument, nullptr, 'n'},
    {"metadata", required_argument, nullptr, 'm'},
    {"journal", required_argument, nullptr, 'J'},
    {"vector", no_argument, nullptr, 'V'},
    {"dim", required_argument, nullptr, 'D'},
    {"element", required_argument, nullptr, opt_element},
    {"metric", required_argument, nullptr, opt_metric},
    {"index", required_argument, nullptr, opt_index},
    {"links", required_argument, nullptr, 'M'},
    {"ef-construction", required_argument, nullptr, opt_ef_construction},
    {"ef-search", required_argument, nullptr, opt_ef_search},
    {"collection-name", required_argument, nullptr, opt_name},
    {"force", no_argument, nullptr, 'f'},
    {"quiet", no_argument, nullptr, 'q'},
    {"verbose", no_argument, nullptr, 'v'},
    {"nodiscard", no_argument, nullptr, 'K'},
    {"help", no_argument, nullptr, 'h'},
    {"version", no_argument, nullptr, opt_version},
    {nullptr, 0, nullptr, 0},
};

void collection_option(CollectionOptions &c, int opt, const char *arg) {
  c.wanted = true;
  switch (opt) {
    case 'V':
      break;
    case 'D':
      c.dim = number32(arg, "-D", 1, VEXFS_DIM_MAX);
      break;
    case 'M':
      c.m = static_cast<uint16_t>(number32(arg, "-M", 2, 128));
      break;
    case opt_element:
      c.element = name(client::element_from, "--element", arg, client::element_names());
      break;
    case opt_metric:
      c.metric = name(client::metric_from, "--metric", arg, client::metric_names());
      break;
    case opt_index:
      c.index = name(client::index_from, "--index", arg, client::index_names());
      break;
    case opt_ef_construction:
      c.ef_construction = number32(arg, "--ef-construction", 1, VEXFS_EF_MAX);
      break;
    case opt_ef_search:
      c.ef_search = number32(arg, "--ef-search", 1, VEXFS_EF_MAX);
      break;
    case opt_name:
      c.name = arg;
      if (c.name.size() > VEXFS_COLLECTION_NAME_MAX) throw Usage("--collection-name: at most 63 bytes");
      check_text(c.name, "--collection-name");
      break;
    default:
      break;
  }
}

void one_option(Options &o, int opt, const char *arg) {
  switch (opt) {
    case 'L':
      o.label = arg;
      if (o.label.size() > 63) throw Usage("-L: a label has at most 63 bytes");
      check_text(o.label, "-L");
      break;
    case 'U':
      set_uuid(o, arg);
      break;
    case 'b':
      o.block_size = static_cast<uint32_t>(std::min<uint64_t>(size_of(arg, "-b", 1), UINT32_MAX));
      break;
    case opt_node_size:
      o.node_size = static_cast<uint32_t>(std::min<uint64_t>(size_of(arg, "--node-size", 1), UINT32_MAX));
      break;
    case 'm':
      o.node_copies = copies(arg);
      break;
    case 'J':
      set_journal(o, arg);
      break;
    case 'i':
      o.bytes_per_inode = size_of(arg, "-i", 1);
      break;
    case 'N':
      o.inode_count = number(arg, "-N");
      break;
    case 'E':
      set_extended(o, arg);
      break;
    case 'K':
      o.discard = false;
      break;
    case 'n':
      o.dry_run = true;
      break;
    case 'f':
    case 'F':
      o.force = true;
      break;
    case 'q':
      o.quiet = true;
      break;
    case 'v':
      o.verbose = true;
      break;
    case 'h':
      o.help = true;
      break;
    case opt_version:
      o.version = true;
      break;
    case 'V':
    case 'D':
    case 'M':
    case opt_element:
    case opt_metric:
    case opt_index:
    case opt_ef_construction:
    case opt_ef_search:
    case opt_name:
      collection_option(o.collection, opt, arg);
      break;
    case ':':
      throw Usage("an option wants a value");
    default:
      throw Usage("unknown option");
  }
}

void check(const Options &o) {
  auto power_of_two = [](uint32_t v) { return v != 0 && (v & (v - 1)) == 0; };
  if (!power_of_two(o.block_size) || o.block_size < 1024 || o.block_size > 65536)
    throw Usage("-b: the block size is a power of two from 1024 to 65536");
  if (o.node_size && (!power_of_two(o.node_size) || o.node_size < o.block_size || o.node_size > 65536))
    throw Usage("--node-size: a power of two from the block size to 65536");
}

// The argument that getopt complains of. It has gone on to the next one behind the last letter of an argument, not before:
// -5M is still to be finished when 5 is found to be unknown.
std::string given_at_fault(int argc, char **argv) {
  if (optind < argc && optopt > 0 && optopt <= UCHAR_MAX) {
    const std::string_view now = argv[optind];
    if (now.size() > 2 && now[0] == '-' && now[1] != '-' && now.find(static_cast<char>(optopt), 1) < now.size() - 1)
      return std::string(now);
  }
  return argv[optind - 1];
}

}  // namespace

Options parse_options(int argc, char **argv) {
  Options o;
  o.collection.element = VEXFS_F32;
  o.collection.metric = VEXFS_L2;
  o.collection.index = VEXFS_INDEX_HNSW;
  optind = 1;
  opterr = 0;
  for (int opt; (opt = getopt_long(argc, argv, ":L:U:b:nm:J:i:N:VD:M:fFqvKE:h", long_options.data(), nullptr)) != -1;) {
    try {
      one_option(o, opt, optarg);
    } catch (const Usage &e) {
      const std::string given = given_at_fault(argc, argv);
      throw Usage(opt == ':' || opt == '?' ? given + ": " + e.what() : e.what());
    }
  }
  if (o.help || o.version) return o;
  if (optind >= argc) throw Usage("which device or image file?");
  o.device = argv[optind++];
  if (optind < argc) {
    o.size = size_of(argv[optind++], "size", 1);
    if (o.size == 0) throw Usage("size: 0 makes no sense");
  }
  if (optind < argc)
    throw Usage(std::string("'") + argv[optind] + "': one device and one size are all that is expected");
  check(o);
  return o;
}

const char *usage_text() {
  return "Usage: mkfs.vexfs [options] DEVICE [SIZE]\n"
         "\n"
         "Makes a VexFS filesystem on a block device or in an image file; with SIZE (k, M, G, T) an image is made or\n"
         "grown, or less than the whole device used.\n"
         "\n"
         "  -L, --label TEXT         volume label, at most 63 bytes\n"
         "  -U, --uuid UUID          this UUID, 'random' (default) or 'time'\n"
         "  -b, --block-size BYTES   1024 to 65536, default 4096\n"
         "      --node-size BYTES    size of tree nodes, default 16384\n"
         "  -m, --metadata dup|single  how many copies of each tree node: two (default from 32 MiB on) or one\n"
         "  -J, --journal size=N     space kept for the intent log, N in MiB or with a unit; 0 for none\n"
         "  -E discard|nodiscard     whether to tell the device that its blocks are unused (default: yes); -K: no\n"
         "  -i BYTES, -N COUNT       accepted and without effect: inodes are made as they are needed\n"
         "  -n, --dry-run            show what would be made, touch nothing\n"
         "  -f, --force              do not ask, even if the device carries another filesystem\n"
         "  -q, --quiet   -v, --verbose   -h, --help   --version\n"
         "\n"
         "The root directory as a vector collection (any of these makes it one):\n"
         "  -V, --vector             with the defaults below\n"
         "  -D, --dim N              components of a vector, 1 to 8192, default 768\n"
         "      --element TYPE       f32 (default), f16, bf16, i8\n"
         "      --metric METRIC      l2 (default), cosine, ip\n"
         "      --index KIND         hnsw (default), diskann, ivf-flat, ivf-pq, lsh, flat\n"
         "  -M, --links N            HNSW, DiskANN: links per vector, default 16\n"
         "      --ef-construction N  HNSW, DiskANN: width of the search while building, default 200\n"
         "      --ef-search N        default breadth of searches, default 64\n"
         "      --collection-name TEXT\n";
}

}  // namespace vexfs::mkfs
