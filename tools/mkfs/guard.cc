// SPDX-License-Identifier: MIT
// mkfs.vexfs: may this device be overwritten?
#include "guard.h"

#include <blkid/blkid.h>
#include <mntent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "../../kernel/core/disk/super.h"

namespace vexfs::mkfs {
namespace {

namespace fs = std::filesystem;

bool same_device(const std::string &a, const struct stat &b) {
  struct stat s;
  return ::stat(a.c_str(), &s) == 0 && S_ISBLK(s.st_mode) && S_ISBLK(b.st_mode) && s.st_rdev == b.st_rdev;
}

void refuse_if_mounted(const std::string &path, const struct stat &st) {
  std::unique_ptr<FILE, int (*)(FILE *)> table(setmntent("/proc/mounts", "r"), endmntent);
  if (!table) return;
  while (const mntent *m = getmntent(table.get()))
    if (m->mnt_fsname[0] == '/' && same_device(m->mnt_fsname, st))
      throw std::runtime_error(path + " is mounted on " + m->mnt_dir);
}

void refuse_if_swap(const std::string &path, const struct stat &st) {
  std::ifstream in("/proc/swaps");
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) {
    std::string file;
    std::istringstream(line) >> file;
    struct stat s;
    const bool same_file =
        S_ISREG(st.st_mode) && ::stat(file.c_str(), &s) == 0 && s.st_dev == st.st_dev && s.st_ino == st.st_ino;
    if (same_file || same_device(file, st)) throw std::runtime_error(path + " is used as swap space");
  }
}

// Loop devices whose backing file is the image.
void refuse_if_looped(const std::string &path) {
  std::error_code ec;
  const std::string real = fs::canonical(path, ec).string();
  if (ec) return;
  for (const auto &entry : fs::directory_iterator("/sys/block", ec)) {
    std::ifstream in(entry.path() / "loop/backing_file");
    std::string backing;
    if (std::getline(in, backing) && backing == real)
      throw std::runtime_error(path + " is in use by /dev/" + entry.path().filename().string());
  }
}

using Probe = std::unique_ptr<std::remove_pointer_t<blkid_probe>, void (*)(blkid_probe)>;

Probe probe_of(const host::FileDevice &device) {
  Probe p(blkid_new_probe(), blkid_free_probe);
  if (!p || blkid_probe_set_device(p.get(), device.fd(), 0, 0) != 0) return Probe(nullptr, blkid_free_probe);
  blkid_probe_enable_superblocks(p.get(), 1);
  blkid_probe_set_superblocks_flags(p.get(),
                                    BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL | BLKID_SUBLKS_USAGE | BLKID_SUBLKS_MAGIC);
  blkid_probe_enable_partitions(p.get(), 1);
  blkid_probe_set_partitions_flags(p.get(), BLKID_PARTS_MAGIC);
  return p;
}

std::string value_of(blkid_probe p, const char *name) {
  const char *data = nullptr;
  return blkid_probe_lookup_value(p, name, &data, nullptr) == 0 ? data : "";
}

std::string own_contents(const host::FileDevice &device) {
  disk::SuperDisk s;
  const ssize_t n = ::pread(device.fd(), &s, sizeof s, static_cast<off_t>(disk::kSuperOffset));
  if (n != static_cast<ssize_t>(sizeof s) || memcmp(s.magic, disk::kSuperMagic, sizeof s.magic) != 0) return "";
  const auto *label = reinterpret_cast<const char *>(s.label);
  const std::string text(label, strnlen(label, sizeof s.label));
  return "a vexfs filesystem" + (text.empty() ? "" : " with the label '" + text + "'");
}

}  // namespace

void refuse_if_in_use(const std::string &path) {
  struct stat st;
  if (::stat(path.c_str(), &st) != 0) return;
  refuse_if_mounted(path, st);
  refuse_if_swap(path, st);
  if (S_ISREG(st.st_mode)) refuse_if_looped(path);
}

std::string existing_contents(const host::FileDevice &device) {
  std::string own = own_contents(device);
  if (!own.empty()) return own;
  const Probe p = probe_of(device);
  if (!p || blkid_do_safeprobe(p.get()) == 1) return "";
  const std::string type = value_of(p.get(), "TYPE");
  const std::string label = value_of(p.get(), "LABEL");
  const std::string table = value_of(p.get(), "PTTYPE");
  if (!type.empty()) return "a " + type + " filesystem" + (label.empty() ? "" : " with the label '" + label + "'");
  if (!table.empty()) return "a " + table + " partition table";
  return "signatures of several filesystems";  // the probe found more than one and would not choose
}

void wipe_signatures(const host::FileDevice &device) {
  const Probe p = probe_of(device);
  if (!p) return;
  constexpr int most = 64;  // far more than there are kinds: wiping one uncovers at most a few others
  for (int i = 0; i < most && blkid_do_probe(p.get()) == 0; i++)
    if (blkid_do_wipe(p.get(), 0) != 0) return;
}

bool may_overwrite(const Options &o, const std::string &contents) {
  if (contents.empty() || o.force || o.dry_run) return true;
  if (!isatty(STDIN_FILENO)) {
    if (!o.quiet) std::cerr << "mkfs.vexfs: " << o.device << " contains " << contents << ": overwriting it\n";
    return true;
  }
  std::cerr << o.device << " contains " << contents << ".\nOverwrite it? (y,N) " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  return !answer.empty() && (answer[0] == 'y' || answer[0] == 'Y');
}

}  // namespace vexfs::mkfs
