// SPDX-License-Identifier: MIT
// fsck.vexfs: parsing the command line.
#include "options.h"

#include <getopt.h>

#include <array>

namespace vexfs::fsck {
namespace {

enum LongOption : int { opt_version = 1000, opt_json, opt_check_data };

const std::array<option, 10> long_options{{
    {"no-change", no_argument, nullptr, 'n'},
    {"yes", no_argument, nullptr, 'y'},
    {"force", no_argument, nullptr, 'f'},
    {"verbose", no_argument, nullptr, 'v'},
    {"progress", no_argument, nullptr, 'C'},
    {"json", no_argument, nullptr, opt_json},
    {"check-data", no_argument, nullptr, opt_check_data},
    {"help", no_argument, nullptr, 'h'},
    {"version", no_argument, nullptr, opt_version},
    {nullptr, 0, nullptr, 0},
}};

}  // namespace

Options parse_options(int argc, char **argv) {
  Options o;
  optind = 1;
  opterr = 0;
  // -C may carry a file descriptor, as fsck(8) passes it on; -t and -r are given by old callers and mean nothing here.
  for (int opt; (opt = getopt_long(argc, argv, "nypafvC::rthV", long_options.data(), nullptr)) != -1;) {
    switch (opt) {
      case 'n':
        o.no_change = true;
        break;
      case 'y':
        o.yes = true;
        break;
      case 'p':
      case 'a':
        o.preen = true;
        break;
      case 'f':
        o.force = true;
        break;
      case 'v':
        o.verbose = true;
        break;
      case 'C':
        o.progress = true;
        break;
      case 'r':
      case 't':
        break;
      case 'h':
        o.help = true;
        break;
      case 'V':
      case opt_version:
        o.version = true;
        break;
      case opt_check_data:
        o.check_data = o.force = true;
        break;
      case opt_json:
        o.as_json = true;
        break;
      default:
        throw Usage(std::string(argv[optind - 1]) + ": unknown option");
    }
  }
  if (o.help || o.version) return o;
  if (int{o.no_change} + int{o.yes} + int{o.preen} > 1) throw Usage("only one of -n, -y and -p");
  if (optind >= argc) throw Usage("which device or image file?");
  o.device = argv[optind++];
  if (optind < argc) throw Usage(std::string("'") + argv[optind] + "': one device is all that is expected");
  return o;
}

const char *usage_text() {
  return "Usage: fsck.vexfs [options] DEVICE\n"
         "\n"
         "Checks a VexFS filesystem on a block device or in an image file. It must not be mounted (with -n it may be, "
         "but\n"
         "what changes meanwhile can look like damage).\n"
         "\n"
         "  -n, --no-change  only look (as without -n, -p and -y); also the way to look at a mounted filesystem\n"
         "  -y, --yes      repair all that can be repaired, without asking\n"
         "  -p, -a         at boot: superblock, roots, space maps and tree tops; the rest only when damage is or was "
         "met.\n"
         "                 Repairs what nothing is lost by\n"
         "  -f, --force    check everything, also with -p\n"
         "      --check-data  everything, and all file data against its checksums, snapshots included\n"
         "  -C, --progress progress\n"
         "  -v, --verbose  what is checked, and figures\n"
         "      --json     a report for programs, on stdout\n"
         "  -h, --help     -V, --version\n"
         "\n"
         "Exit status: 0 no errors, 1 errors were repaired, 4 errors found and left, 8 could not check, 16 wrong "
         "usage,\n"
         "32 canceled.\n";
}

}  // namespace vexfs::fsck
