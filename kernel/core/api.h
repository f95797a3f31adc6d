/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The core as its hosts see it: plain C functions over opaque objects.
 *
 * The kernel shim (kernel/linux), the userspace library (lib/) and through it FUSE, tools and tests call these.
 * Return values: 0 or a negative errno. Strings (names) are counted bytes, not NUL-terminated.
 * Locking: every function may be called from several threads at once unless it says otherwise; functions may sleep.
 * The core keeps its own locks, so a host without a VFS above it is safe too; in the kernel the VFS's locks
 * (i_rwsem, invalidate_lock, folio lock) are always taken before the core's, never the other way round.
 * The core never calls back into the host's filesystem layer, except through struct vx_caller.
 */
#ifndef VEXFS_CORE_API_H
#define VEXFS_CORE_API_H
#include "platform.h"
#ifdef __cplusplus
/* A function may have the name of a struct (vx_map, vx_fs_info), as stat has; C++ spells the type `struct vx_map`. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
extern "C" {
#endif

struct vx_fs;    /* one mounted filesystem */
struct vx_inode; /* an inode in memory, reference counted, unique per (vx_fs, ino) */

/* ------------------------------------------------------------------- mount */
enum { VX_ERRORS_RO = 0, VX_ERRORS_PANIC = 1, VX_ERRORS_CONTINUE = 2 };
struct vx_mount_opts {
  vx_bool read_only;
  vx_bool ignore_log;        /* with read_only: the last commit, without what the intent log has beyond it */
  vx_bool no_data_sums;      /* new data of files gets no checksums; those that are there are still checked */
  vx_u32 errors;             /* VX_ERRORS_* */
  vx_u32 commit_interval_ms; /* 0: no commit thread, commits only when asked (tests, tools) */
  vx_u64 node_cache_bytes;   /* 0: default (64 MiB or 1/8 of what the host says) */
  vx_u64 vector_cache_bytes; /* resident vector data and indexes; 0: default */
  vx_u32 nvector_threads;    /* background index threads; 0: none (indexing happens in the caller) */
};
struct vx_fs_info {
  vx_u8 uuid[16];
  char label[64]; /* NUL-terminated */
  vx_u32 block_size;
  vx_u32 node_size;
  vx_u32 version_major, version_minor;
  vx_u64 blocks, blocks_free, blocks_avail, blocks_meta;
  vx_u64 inodes_used;
  vx_u64 root_ino;
  vx_u64 txn_open, txn_durable;
  vx_u64 feature_compat, feature_ro_compat, feature_incompat;
  vx_u32 block_groups;
  vx_u32 name_max;
  vx_u64 file_size_max;
  vx_bool read_only, aborted;
};
int vx_fs_mount(struct vx_bdev *dev, const struct vx_mount_opts *o, struct vx_fs **out);
void vx_fs_unmount(struct vx_fs *fs); /* all inodes released before; commits unless read-only or aborted */
int vx_fs_commit(struct vx_fs *fs);   /* all that was done before the call is on stable storage when it returns 0 */
int vx_fs_sync(struct vx_fs *fs);     /* the same, by a write to the intent log where there is one */
/* No background work touches the device any more (on, waits for what has begun), or it may again. Nests not at all. */
void vx_fs_quiesce(struct vx_fs *fs, vx_bool on);
/* Snapshots are made, listed and deleted by vx_ioctl; the host stops its writers first and has no dirty pages. Here one
 * is opened as a filesystem of its own, read-only, on the device of `of`, which must be unmounted after it. -ENOENT. */
int vx_snapshot_find(struct vx_fs *of, const char *name, size_t len, vx_u64 *id);
/* The first with an id >= *id, which is set to its; name gets NUL-terminated. -ENOENT: there is none. */
int vx_snapshot_next(struct vx_fs *of, vx_u64 *id, char name[64]);
int vx_snapshot_mount(struct vx_fs *of, vx_u64 id, const struct vx_mount_opts *o, struct vx_fs **out);
int vx_fs_set_read_only(struct vx_fs *fs, vx_bool ro);
void vx_fs_set_vector_cache(struct vx_fs *fs, vx_u64 bytes); /* vx_mount_opts.vector_cache_bytes, changed */
void vx_fs_set_data_sums(struct vx_fs *fs, vx_bool on);      /* vx_mount_opts.no_data_sums, changed */
void vx_fs_info(struct vx_fs *fs, struct vx_fs_info *out);
void vx_fs_abort(struct vx_fs *fs, int err); /* forced shutdown: nothing more reaches the disk */
/* Memory: objects that could be given back, and giving them back (the kernel's shrinker). kind 0: nodes, 1: vectors. */
size_t vx_fs_cache_count(struct vx_fs *fs, int kind);
size_t vx_fs_cache_shrink(struct vx_fs *fs, int kind, size_t want);
/* Text for /proc and /sys: prints section `what` ("stats", "performance", "simd", "space", "cache") through emit. */
int vx_fs_print(struct vx_fs *fs, const char *what, void (*emit)(void *ctx, const char *s, size_t n), void *ctx);
const char *vx_core_version(void);    /* "0.1.0" */
const char *vx_simd_level_name(void); /* "avx2", ... in use */
vx_u32 vx_simd_width_bits(void);
int vx_core_init(void); /* once per process or module load: picks SIMD, self-tests it */

/* ------------------------------------------------------------------ inodes */
struct vx_time {
  vx_s64 sec;
  vx_u32 nsec;
  vx_u32 pad;
};
struct vx_attr {
  vx_u64 ino;
  vx_u32 generation;
  vx_u32 mode; /* type and permission bits, as st_mode */
  vx_u32 uid, gid;
  vx_u32 nlink;
  vx_u32 flags;  /* VX_INODE_* */
  vx_u64 size;   /* bytes */
  vx_u64 blocks; /* 512-byte units, delayed allocation included */
  vx_u64 rdev;   /* the host's encoding (new_encode_dev) */
  struct vx_time atime, mtime, ctime, btime;
  vx_u64 version; /* content version: grows with every change of content */
  vx_u64 parent;  /* the directory (of the most recent link) */
};
/* vx_attr.flags: persistent, low 16 bits as FS_*_FL semantics */
enum {
  VX_INODE_IMMUTABLE = 1,
  VX_INODE_APPEND = 2,
  VX_INODE_NODUMP = 4,
  VX_INODE_NOATIME = 8,
  VX_INODE_SYNC = 16,
  VX_INODE_NOSUM =
      32, /* new data has no checksums, and is overwritten in place (FS_NOCOW_FL); directories hand it on */
  VX_INODE_COLLECTION = 1 << 16, /* this directory carries a collection */
  VX_INODE_HAS_VECTORS = 1 << 17,
  VX_INODE_INLINE = 1 << 18,
};
enum {
  VX_SET_MODE = 1,
  VX_SET_UID = 2,
  VX_SET_GID = 4,
  VX_SET_ATIME = 8,
  VX_SET_MTIME = 16,
  VX_SET_CTIME = 32,
  VX_SET_FLAGS = 64,
  VX_SET_VERSION = 128,
  VX_SET_RDEV = 256,
  VX_SET_BTIME = 512
};

/* generation 0: any. -ENOENT: no such inode; -ESTALE: another generation, or deleted. */
int vx_iget(struct vx_fs *fs, vx_u64 ino, vx_u32 generation, struct vx_inode **out);
void vx_ihold(struct vx_inode *ip);
/* Drops a reference. With the last one, an inode whose nlink is 0 is deleted (its blocks, xattrs and vectors with it);
 * until that is done it stays on the orphan list, which mount works off after a crash. */
void vx_iput(struct vx_inode *ip);
void vx_getattr(struct vx_inode *ip, struct vx_attr *out);
int vx_setattr(struct vx_inode *ip, vx_u32 mask, const struct vx_attr *a); /* not size: see vx_truncate */
vx_u64 vx_ino(const struct vx_inode *ip);
/* What was done to this inode, and all names and mappings, are on stable storage when it returns 0 (data written by the
 * host is too: the device is flushed). */
int vx_inode_sync(struct vx_inode *ip);
struct vx_fs *vx_inode_fs(struct vx_inode *ip);

/* -------------------------------------------------------------- namespace */
/* `now` is what the operation writes into mtime/ctime (and btime of what it creates). */
int vx_lookup(struct vx_inode *dir, const char *name, size_t len, vx_u64 *ino); /* -ENOENT */
/* Creates any type (init->mode says which): regular, directory, symlink (target), device, fifo, socket. init: mode,
 * uid, gid, rdev, flags. -EEXIST, -ENAMETOOLONG, -ENOSPC, -EMLINK. Returns the new inode with a reference. */
int vx_create(struct vx_inode *dir, const char *name, size_t len, const struct vx_attr *init, const char *target,
              size_t target_len, const struct vx_time *now, struct vx_inode **out);
int vx_tmpfile(struct vx_inode *dir, const struct vx_attr *init, const struct vx_time *now, struct vx_inode **out);
int vx_link(struct vx_inode *dir, const char *name, size_t len, struct vx_inode *ip, const struct vx_time *now);
/* rmdir: the entry must be an empty directory, else it must be none. victim may be NULL (the core looks it up). */
int vx_unlink(struct vx_inode *dir, const char *name, size_t len, vx_bool rmdir, const struct vx_time *now);
enum { VX_RENAME_NOREPLACE = 1, VX_RENAME_EXCHANGE = 2, VX_RENAME_WHITEOUT = 4 };
int vx_rename(struct vx_inode *odir, const char *oname, size_t olen, struct vx_inode *ndir, const char *nname,
              size_t nlen, unsigned flags, const struct vx_attr *whiteout_init, const struct vx_time *now);
/* Entries with cookie >= *pos, in cookie order, without "." and ".."; cookies are stable, 2..2^63-1. type is DT_*.
 * emit returns false to stop (that entry is not consumed). *pos becomes the cookie to go on from. emit may sleep and
 * may call the core (no lock is held). */
int vx_readdir(struct vx_inode *dir, vx_u64 *pos,
               vx_bool (*emit)(void *ctx, const char *name, size_t len, vx_u64 ino, unsigned type, vx_u64 cookie),
               void *ctx);
int vx_readlink(struct vx_inode *ip, char *buf, size_t cap, size_t *len);
int vx_get_parent(struct vx_inode *dir, vx_u64 *ino);

/* ------------------------------------------------------------------ xattrs */
/* name is the full name ("user.x"). size 0: asks for the length. -ENODATA, -ERANGE, -E2BIG. */
enum { VX_XATTR_CREATE = 1, VX_XATTR_REPLACE = 2 };
int vx_xattr_get(struct vx_inode *ip, const char *name, size_t nlen, void *buf, size_t size, size_t *len);
int vx_xattr_set(struct vx_inode *ip, const char *name, size_t nlen, const void *v, size_t vlen, unsigned flags,
                 const struct vx_time *now);
int vx_xattr_remove(struct vx_inode *ip, const char *name, size_t nlen, const struct vx_time *now);
int vx_xattr_list(struct vx_inode *ip, vx_bool (*emit)(void *ctx, const char *name, size_t nlen), void *ctx);

/* --------------------------------------------------------------- file data */
/*
 * The host owns the page cache; the core owns the mapping from file blocks to device blocks. An inode keeps, in
 * memory, an overlay of ranges that were promised but are not yet on disk: delayed (space reserved, no blocks) and in
 * flight (blocks allocated, data being written). A mapping enters the tree only when its data is on the device
 * (vx_write_done), so a crash shows either the old or the new contents, never stale blocks.
 * Offsets and lengths are in bytes, block-aligned where it says so.
 */
enum vx_map_type { VX_MAP_HOLE = 0, VX_MAP_DELALLOC, VX_MAP_MAPPED, VX_MAP_UNWRITTEN, VX_MAP_INLINE };
struct vx_map {
  vx_u64 off;   /* file offset of the piece, bytes, block-aligned, <= what was asked */
  vx_u64 len;   /* bytes, block-aligned, > 0 */
  vx_u64 disk;  /* byte address on the device (MAPPED, UNWRITTEN) */
  vx_u32 type;  /* enum vx_map_type */
  vx_u32 flags; /* VX_MAP_F_* */
};
enum {
  VX_MAP_F_NEW = 1 /* freshly allocated: parts not written must be zeroed */,
  VX_MAP_F_INFLIGHT = 2,
  VX_MAP_F_KEPT = 4, /* a write goes elsewhere: a snapshot or another file needs these blocks, or they have checksums */
  VX_MAP_F_SUMMED = 8, /* they have checksums */
  VX_MAP_F_SHARED = 16 /* another file may have them too */
};
/* The crc32c of a block's contents (standard: seed and result inverted), or that there is none. */
typedef vx_u64 vx_sum;
#define VX_SUM_NONE (~(vx_u64)0)

/* What is at [off, off+len)? One piece. Holes extend to the next mapping. INLINE: whole contents, read with vx_inline_read. */
int vx_map(struct vx_inode *ip, vx_u64 off, vx_u64 len, struct vx_map *out);
/* vx_map, with the checksums of what a MAPPED piece has on the device: sums[i] is that of block off / block size + i. The
 * piece is cut to `max` blocks (> 0), and begins where `off` says (rounded down to a block). */
int vx_map_sums(struct vx_inode *ip, vx_u64 off, vx_u64 len, vx_sum *sums, vx_u32 max, struct vx_map *out);
vx_bool vx_wants_sums(struct vx_inode *ip); /* new data of this file is to have checksums */
vx_sum vx_sum_of(const void *block, size_t n);
/* What was read for the block at `off` is not what was written there: counts it, tells the log. Returns -EIO. */
int vx_sum_mismatch(struct vx_inode *ip, vx_u64 off, vx_u64 disk, vx_sum expected, vx_sum found);
/* Buffered write is about to dirty [off, off+len) (block-aligned): reserves space for the holes in it. Returns the first
 * piece as vx_map would after the reservation. Fails with -ENOSPC and reserves nothing. Inline files: the caller calls
 * vx_uninline first when the file will not fit inline any more (vx_inline_max). */
int vx_map_reserve(struct vx_inode *ip, vx_u64 off, vx_u64 len, struct vx_map *out);
/* A reserved range is no longer wanted (failed or punched write): only DELALLOC pieces inside are dropped. */
void vx_map_unreserve(struct vx_inode *ip, vx_u64 off, vx_u64 len);
/* Writeback: gives device blocks for a piece starting at off, of at most len. DELALLOC and HOLE pieces are allocated
 * (becoming in flight); MAPPED and UNWRITTEN ones are returned as they are. Never returns HOLE or DELALLOC.
 * direct: the caller is O_DIRECT (holes need no earlier reservation). */
int vx_map_allocate(struct vx_inode *ip, vx_u64 off, vx_u64 len, vx_bool direct, struct vx_map *out);
/* The data of [off, off+len) is on the device (err 0) or failed: in-flight pieces enter the tree, unwritten ones become
 * written, the size on disk grows to new_size when that is larger (the host passes min(off+len, i_size)). One
 * transaction. On err the in-flight blocks are given back and the range reverts to a hole (of the old contents).
 * sums: one for each block, as it was written; null: none has any. */
int vx_write_done(struct vx_inode *ip, vx_u64 off, vx_u64 len, vx_u64 new_size, int err, const vx_sum *sums);
vx_u32 vx_inline_max(struct vx_inode *ip);
int vx_inline_read(struct vx_inode *ip, void *buf, size_t cap, size_t *len);
/* Writeback of a small file: stores the whole contents [0, len) inline; drops its delayed range. -EFBIG or -EBUSY when the
 * file has extents or is too large: then allocate as usual. */
int vx_inline_write(struct vx_inode *ip, const void *buf, size_t len);
/* Moves inline contents to a block of its own (synchronously written). No-op when not inline. */
int vx_uninline(struct vx_inode *ip);
/* The host has zeroed the tail of the last block in its cache. Grows or shrinks the size on disk; frees what lies
 * beyond; drops delayed ranges beyond. Long truncates run as several transactions, safely (orphan-like record). */
int vx_truncate(struct vx_inode *ip, vx_u64 size, const struct vx_time *now);
enum { VX_FALLOC_KEEP_SIZE = 1, VX_FALLOC_PUNCH = 2, VX_FALLOC_ZERO = 4 };
/* off, len: block-aligned for PUNCH and ZERO (the host zeroes the edges through its cache). */
int vx_fallocate(struct vx_inode *ip, unsigned mode, vx_u64 off, vx_u64 len, vx_u64 new_size,
                 const struct vx_time *now);
/* The range of dst becomes one of src by sharing blocks; both in one filesystem, or in one file where they do not overlap.
 * Offsets are block-aligned; len too, unless both files end there or before. The host has written back what is dirty of
 * both ranges and waited for it, lets nobody change either, has zeroed what the last block of dst has behind its end if
 * it grows, and forgets what it has of dst. *done: so many bytes have been done, also when an error is returned; fewer than
 * len without one: call again for the rest. dedupe: the host has seen that the contents are equal, neither times nor the
 * content version change. -EINVAL (also: one has checksums, the other none), -EOPNOTSUPP (made without the feature),
 * -EBUSY (in flight), -EMLINK, -ENOSPC, -EFBIG, -EROFS. */
int vx_clone_range(struct vx_inode *src, vx_u64 src_off, struct vx_inode *dst, vx_u64 dst_off, vx_u64 len,
                   vx_bool dedupe, const struct vx_time *now, vx_u64 *done);
vx_bool vx_can_clone(struct vx_fs *fs); /* it was made with the feature */
/* On-disk size is at least this, without data (the host's buffered extension of a hole). */
int vx_set_size(struct vx_inode *ip, vx_u64 size);
/* Host without a page cache (lib, FUSE, tests): whole read/write through the calls above, serialised per inode. */
int vx_pread(struct vx_inode *ip, void *buf, size_t n, vx_u64 off, size_t *done);
int vx_pwrite(struct vx_inode *ip, const void *buf, size_t n, vx_u64 off, const struct vx_time *now, size_t *done);
int vx_ptruncate(struct vx_inode *ip, vx_u64 size,
                 const struct vx_time *now); /* vx_truncate, zeroing the tail itself */
int vx_pclone(struct vx_inode *src, vx_u64 src_off, struct vx_inode *dst, vx_u64 dst_off, vx_u64 len,
              const struct vx_time *now); /* all of vx_clone_range, zeroing the tail itself */

/* ----------------------------------------------------------------- vectors */
/* Who calls, and how to reach the caller's memory and rights. All calls may sleep. */
struct vx_caller {
  int (*copy_in)(struct vx_caller *c, void *dst, vx_u64 uaddr, size_t n); /* 0 or -EFAULT */
  int (*copy_out)(struct vx_caller *c, vx_u64 uaddr, const void *src, size_t n);
  /* May the caller read (mask 4) or write (mask 2) the inode? 0, -EACCES, -EROFS, -ENOENT. */
  int (*may)(struct vx_caller *c, vx_u64 ino, unsigned mask);
  /* The inode number of an open file of the same filesystem: -EBADF, -EXDEV. */
  int (*fd_to_ino)(struct vx_caller *c, vx_s32 fd, vx_u64 *ino);
  vx_bool (*interrupted)(struct vx_caller *c); /* a fatal signal is pending */
  vx_bool trusted;                             /* tools on an image: no permission checks */
};
/* One command of include/uapi/vexfs.h on the file or directory ip; cmd as encoded by _IOWR, only its type and number
 * count. uarg: the caller's address of the struct. -ENOTTY: not ours. */
int vx_ioctl(struct vx_fs *fs, struct vx_inode *ip, vx_u32 cmd, vx_u64 uarg, struct vx_caller *c);

#ifdef __cplusplus
}
#pragma GCC diagnostic pop
#endif
#endif
