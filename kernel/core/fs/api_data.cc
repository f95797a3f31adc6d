// SPDX-License-Identifier: GPL-2.0-only OR MIT
// api.h: file data.
#include "../base/crc.h"
#include "api_convert.h"
#include "file_map.h"
#include "filesystem.h"
#include "sums.h"

extern "C" {

int vx_map(vx_inode *ip, vx_u64 off, vx_u64 len, struct vx_map *out) {
  return vexfs::fs::map(vexfs::fs::inode(ip), off, len, *out).to_c();
}

int vx_map_sums(vx_inode *ip, vx_u64 off, vx_u64 len, vx_sum *sums, vx_u32 max, struct vx_map *out) {
  return vexfs::fs::map_sums(vexfs::fs::inode(ip), off, len, {sums, max}, *out).to_c();
}

vx_bool vx_wants_sums(vx_inode *ip) { return vexfs::fs::wants_sums(vexfs::fs::inode(ip)); }

vx_sum vx_sum_of(const void *block, size_t n) { return vexfs::crc32c_of(vexfs::fs::bytes(block, n)); }

int vx_sum_mismatch(vx_inode *ip, vx_u64 off, vx_u64 disk, vx_sum expected, vx_sum found) {
  return vexfs::fs::sum_mismatch(vexfs::fs::inode(ip), off, disk, expected, found).negative();
}

int vx_map_reserve(vx_inode *ip, vx_u64 off, vx_u64 len, struct vx_map *out) {
  return vexfs::fs::map_reserve(vexfs::fs::inode(ip), off, len, *out).to_c();
}

void vx_map_unreserve(vx_inode *ip, vx_u64 off, vx_u64 len) {
  vexfs::fs::map_unreserve(vexfs::fs::inode(ip), off, len);
}

int vx_map_allocate(vx_inode *ip, vx_u64 off, vx_u64 len, vx_bool direct, struct vx_map *out) {
  return vexfs::fs::map_allocate(vexfs::fs::inode(ip), off, len, direct, *out).to_c();
}

int vx_write_done(vx_inode *ip, vx_u64 off, vx_u64 len, vx_u64 new_size, int err, const vx_sum *sums) {
  return vexfs::fs::write_done(vexfs::fs::inode(ip), off, len, new_size, err, sums).to_c();
}

vx_u32 vx_inline_max(vx_inode *ip) { return vexfs::fs::inode(ip).filesystem().inline_max(); }

int vx_inline_read(vx_inode *ip, void *buf, size_t cap, size_t *len) {
  auto r = vexfs::fs::inline_read(vexfs::fs::inode(ip), {static_cast<vexfs::u8 *>(buf), cap});
  if (!r.ok()) return r.error().negative();
  *len = *r;
  return 0;
}

int vx_inline_write(vx_inode *ip, const void *buf, size_t len) {
  return vexfs::fs::inline_write(vexfs::fs::inode(ip), vexfs::fs::bytes(buf, len)).to_c();
}

int vx_uninline(vx_inode *ip) { return vexfs::fs::uninline(vexfs::fs::inode(ip)).to_c(); }

int vx_truncate(vx_inode *ip, vx_u64 size, const vx_time *now) {
  return vexfs::fs::truncate(vexfs::fs::inode(ip), size, vexfs::fs::to_time(now)).to_c();
}

int vx_ptruncate(vx_inode *ip, vx_u64 size, const vx_time *now) {
  return vexfs::fs::truncate_file(vexfs::fs::inode(ip), size, vexfs::fs::to_time(now)).to_c();
}

int vx_fallocate(vx_inode *ip, unsigned mode, vx_u64 off, vx_u64 len, vx_u64 new_size, const vx_time *now) {
  return vexfs::fs::fallocate(vexfs::fs::inode(ip), mode, off, len, new_size, vexfs::fs::to_time(now)).to_c();
}

int vx_clone_range(vx_inode *src, vx_u64 src_off, vx_inode *dst, vx_u64 dst_off, vx_u64 len, vx_bool dedupe,
                   const vx_time *now, vx_u64 *done) {
  return vexfs::fs::clone_range(vexfs::fs::inode(src), vexfs::fs::inode(dst), {src_off, dst_off, len, dedupe},
                                vexfs::fs::to_time(now), *done)
      .to_c();
}

int vx_pclone(vx_inode *src, vx_u64 src_off, vx_inode *dst, vx_u64 dst_off, vx_u64 len, const vx_time *now) {
  auto r = vexfs::fs::clone_file(vexfs::fs::inode(src), vexfs::fs::inode(dst), {src_off, dst_off, len, false},
                                 vexfs::fs::to_time(now));
  return r.ok() ? 0 : r.error().negative();
}

int vx_set_size(vx_inode *ip, vx_u64 size) { return vexfs::fs::set_size(vexfs::fs::inode(ip), size).to_c(); }

int vx_pread(vx_inode *ip, void *buf, size_t n, vx_u64 off, size_t *done) {
  auto r = vexfs::fs::read_file(vexfs::fs::inode(ip), {static_cast<vexfs::u8 *>(buf), n}, off);
  if (!r.ok()) return r.error().negative();
  *done = *r;
  return 0;
}

int vx_pwrite(vx_inode *ip, const void *buf, size_t n, vx_u64 off, const vx_time *now, size_t *done) {
  auto r = vexfs::fs::write_file(vexfs::fs::inode(ip), vexfs::fs::bytes(buf, n), off, vexfs::fs::to_time(now));
  if (!r.ok()) return r.error().negative();
  *done = *r;
  return 0;
}

}  // extern "C"
