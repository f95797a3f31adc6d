// SPDX-License-Identifier: GPL-2.0-only OR MIT
// api.h: mounting, unmounting, commits, figures. Here the rooms are put together.
#include "api_internal.h"

using vexfs::store::Volume;

namespace vexfs::api_mount_impl {
namespace {

store::OpenOptions volume_options(const vx_mount_opts &o) {
  store::OpenOptions v;
  v.read_only = o.read_only;
  v.ignore_log = o.ignore_log;
  v.commit_interval_ms = o.commit_interval_ms;
  v.node_cache_bytes = o.node_cache_bytes;
  v.on_error = o.errors == VX_ERRORS_PANIC      ? store::ErrorPolicy::panic
               : o.errors == VX_ERRORS_CONTINUE ? store::ErrorPolicy::keep_going
                                                : store::ErrorPolicy::read_only;
  return v;
}

// Undoes what mount() has done so far, from the top down.
void take_apart(vx_fs &m) {
  if (m.engine) m.engine->stop();
  if (m.fs) (void)m.fs->shutdown();
  if (m.volume && m.fs) (void)m.volume->commit();
  if (m.fs) m.fs->set_hooks(nullptr);
  m.engine.reset();
  m.fs.reset();
  if (m.volume) (void)m.volume->close();
  m.volume.reset();
}

// On top of m.volume.
Status put_together(vx_fs &m, const vx_mount_opts &o, vector::Engine *present) {
  m.fs = VX_TRY(fs::Filesystem::open(*m.volume, fs::Options{.data_sums = !o.no_data_sums}));
  m.fs->handle = &m;
  vector::EngineOptions eo;
  eo.cache_bytes = o.vector_cache_bytes;
  eo.threads = o.nvector_threads;
  eo.present = present;
  m.engine = VX_TRY(vector::Engine::create(*m.fs, eo));
  VX_TRY(m.engine->start());
  VX_TRY(m.fs->recover());
  return m.engine->recover();
}

// present: of the filesystem that the volume is a snapshot of.
int mount(Result<Box<Volume>> volume, const vx_mount_opts &o, vector::Engine *present, vx_fs **out) {
  if (!volume.ok()) return volume.error().negative();
  auto made = Box<vx_fs>::make();
  if (!made.ok()) {
    (void)(*volume)->close();
    return made.error().negative();
  }
  Box<vx_fs> m = made.take();
  m->volume = volume.take();
  Status st = put_together(*m, o, present);
  if (!st.ok()) {
    take_apart(*m);
    return st.to_c();
  }
  *out = m.release();
  return 0;
}

void copy_text(char *out, usize cap, const char *in) {
  usize n = 0;
  for (; n + 1 < cap && in[n]; n++) out[n] = in[n];
  out[n] = 0;
}

bool same(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}

}  // namespace
}  // namespace vexfs::api_mount_impl

extern "C" {

int vx_core_init(void) {
  vexfs::simd::init();
  return 0;
}
const char *vx_core_version(void) { return "0.1.0"; }
const char *vx_simd_level_name(void) { return vexfs::simd::level_name(vexfs::simd::level()); }
vx_u32 vx_simd_width_bits(void) { return vexfs::simd::level_width_bits(vexfs::simd::level()); }

int vx_fs_mount(vx_bdev *dev, const vx_mount_opts *o, vx_fs **out) {
  return vexfs::api_mount_impl::mount(Volume::open(dev, vexfs::api_mount_impl::volume_options(*o)), *o, nullptr, out);
}

int vx_snapshot_find(vx_fs *of, const char *name, size_t len, vx_u64 *id) {
  auto r = of->volume->snapshot_find({reinterpret_cast<const vx_u8 *>(name), len});
  if (!r.ok()) return r.error().negative();
  *id = *r;
  return 0;
}

int vx_snapshot_next(vx_fs *of, vx_u64 *id, char name[64]) {
  vexfs::store::SnapshotInfo info;
  auto r = of->volume->snapshot_next(*id, &info);
  if (!r.ok()) return r.error().negative();
  *id = *r;
  memcpy(name, info.name, sizeof info.name);
  return 0;
}

int vx_snapshot_mount(vx_fs *of, vx_u64 id, const vx_mount_opts *o, vx_fs **out) {
  return vexfs::api_mount_impl::mount(of->volume->open_snapshot(id, vexfs::api_mount_impl::volume_options(*o)), *o,
                                      of->engine.get(), out);
}

void vx_fs_unmount(vx_fs *fs) {
  vexfs::Box<vx_fs> m(fs);
  vexfs::api_mount_impl::take_apart(*m);
}

int vx_fs_commit(vx_fs *fs) { return fs->fs->commit().to_c(); }

int vx_fs_sync(vx_fs *fs) { return fs->fs->sync().to_c(); }

void vx_fs_quiesce(vx_fs *fs, vx_bool on) {
  fs->engine->quiesce(on);
  fs->volume->quiesce(on);
}

int vx_fs_set_read_only(vx_fs *fs, vx_bool ro) {
  if (ro) {
    fs->engine->quiesce(true);  // of background threads: whose last checkpoint is the next line
    fs->engine->save_indexes();
    auto st = fs->fs->shutdown();
    if (st.ok()) st = fs->volume->set_read_only(true);
    fs->engine->quiesce(false);
    return st.to_c();
  }
  auto st = fs->volume->set_read_only(false);
  if (!st.ok()) return st.to_c();
  st = fs->fs->recover();
  if (st.ok()) st = fs->engine->recover();
  return st.to_c();
}

void vx_fs_set_vector_cache(vx_fs *fs, vx_u64 bytes) { fs->engine->set_limit(bytes); }

void vx_fs_set_data_sums(vx_fs *fs, vx_bool on) { fs->fs->set_data_sums(on); }

void vx_fs_abort(vx_fs *fs, int err) {
  fs->volume->abort(static_cast<vexfs::Errno>(err < 0 ? -err : err ? err : static_cast<int>(vexfs::Errno::io)));
}

void vx_fs_info(vx_fs *fs, struct vx_fs_info *out) {
  Volume &v = *fs->volume;
  auto space = v.space();
  *out = {};
  memcpy(out->uuid, v.uuid(), sizeof out->uuid);
  vexfs::api_mount_impl::copy_text(out->label, sizeof out->label, v.label());
  out->block_size = v.block_size();
  out->node_size = v.node_size();
  out->version_major = v.version_major();
  out->version_minor = v.version_minor();
  out->blocks = space.total;
  out->blocks_free = space.free;
  out->blocks_avail = space.avail;
  out->blocks_meta = space.meta;
  out->inodes_used = fs->fs->inode_count();
  out->root_ino = fs->fs->root_ino();
  out->txn_open = v.open_txn();
  out->txn_durable = v.durable_txn();
  out->feature_compat = v.feature_compat();
  out->feature_ro_compat = v.feature_ro_compat();
  out->feature_incompat = v.feature_incompat();
  out->block_groups = static_cast<vx_u32>(v.group_count());
  out->name_max = vexfs::disk::kNameMax;
  out->file_size_max = vexfs::disk::kFileSizeMax;
  out->read_only = v.read_only();
  out->aborted = v.aborted();
}

vx_bool vx_can_clone(vx_fs *fs) { return fs->fs->can_share(); }

size_t vx_fs_cache_count(vx_fs *fs, int kind) {
  return kind == 0 ? fs->volume->cache_count() : kind == 1 ? fs->engine->shrinkable() : 0;
}

size_t vx_fs_cache_shrink(vx_fs *fs, int kind, size_t want) {
  return kind == 0 ? fs->volume->cache_shrink(want) : kind == 1 ? fs->engine->shrink(want) : 0;
}

int vx_fs_print(vx_fs *fs, const char *what, void (*emit)(void *ctx, const char *s, size_t n), void *ctx) {
  using vexfs::api_mount_impl::same;
  auto text = [emit, ctx](const char *s, size_t n) { emit(ctx, s, n); };
  vexfs::TextSink out(text);
  bool known = true;
  if (same(what, "stats")) {
    fs->volume->print_stats(out);
    fs->fs->stats().print_counters(out);
  } else if (same(what, "performance")) {
    fs->fs->stats().print_performance(out);
  } else if (same(what, "space")) {
    fs->volume->print_space(out);
  } else if (same(what, "cache")) {
    fs->volume->print_cache(out);
    fs->fs->print_cache(out);
  } else {
    known = false;
  }
  known |= fs->engine->print(what, out);
  return known ? 0 : vexfs::Error(vexfs::Errno::inval).negative();
}

int vx_iget(vx_fs *fs, vx_u64 ino, vx_u32 generation, vx_inode **out) {
  auto r = fs->fs->get(ino, generation);
  if (!r.ok()) return r.error().negative();
  *out = r->release();
  return 0;
}

vx_fs *vx_inode_fs(vx_inode *ip) { return static_cast<vexfs::fs::Inode *>(ip)->filesystem().handle; }

}  // extern "C"
