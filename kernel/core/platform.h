/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The one door between the core and its host: everything that a host must provide.
 *
 * Plain C, so that the kernel's C shim (kernel/linux/platform.c) and the userspace host (lib/platform.cc) implement
 * the same functions. The core calls nothing else. Unless said otherwise a function may sleep, and failures are
 * negative Linux errno values. All memory is allocated so that it cannot re-enter the filesystem (GFP_NOFS).
 */
#ifndef VEXFS_CORE_PLATFORM_H
#define VEXFS_CORE_PLATFORM_H

#ifdef __cplusplus
#include <cstddef>
#include <cstdint>
extern "C" {
typedef std::uint8_t vx_u8;
typedef std::uint16_t vx_u16;
typedef std::uint32_t vx_u32;
typedef std::uint64_t vx_u64;
typedef std::int32_t vx_s32;
typedef std::int64_t vx_s64;
typedef bool vx_bool;
#else
#include VX_HOST_TYPES_HEADER /* the C host names its header that defines vx_u8 .. vx_s64, vx_bool, size_t */
#endif

/* ------------------------------------------------------------------ memory */
enum {
  VX_ALLOC_ZERO = 1,    /* zero-filled */
  VX_ALLOC_ACCOUNT = 2, /* charged to the calling task's memory cgroup (scratch memory of a query) */
  VX_ALLOC_ATOMIC = 4,  /* must not sleep (called under a spinlock) */
};
void *vx_alloc(size_t n, unsigned flags); /* at least 16-byte aligned; NULL on failure; meant for n <= 64 KiB */
void vx_free(void *p);
/* Large buffers: 64-byte aligned, page-aligned from 4 KiB on; virtually contiguous. */
void *vx_alloc_large(size_t n, unsigned flags);
void vx_free_large(void *p, size_t n); /* n as it was asked for */

/* ------------------------------------------------------------------- locks */
/* Opaque storage, large enough for every host (lockdep kernels included). `name` must be a string literal; it is the
 * lock's class, so two locks that nest within each other must be initialised with different names or subclasses. */
struct vx_spin {
  vx_u64 opaque[10];
};
struct vx_mutex {
  vx_u64 opaque[24];
};
struct vx_rwsem {
  vx_u64 opaque[28];
};
struct vx_waitq {
  vx_u64 opaque[16];
};
struct vx_epoch {
  vx_u64 opaque[64];
};

void vx_spin_init(struct vx_spin *, const char *name);
void vx_spin_lock(struct vx_spin *);
void vx_spin_unlock(struct vx_spin *);
void vx_spin_destroy(struct vx_spin *);
void vx_mutex_init(struct vx_mutex *, const char *name);
void vx_mutex_lock(struct vx_mutex *);
vx_bool vx_mutex_trylock(struct vx_mutex *);
void vx_mutex_unlock(struct vx_mutex *);
void vx_mutex_destroy(struct vx_mutex *);
void vx_rwsem_init(struct vx_rwsem *, const char *name);
void vx_read_lock(struct vx_rwsem *, int subclass); /* subclass: nesting depth 0..7 among locks of one class */
void vx_read_unlock(struct vx_rwsem *);
vx_bool vx_read_trylock(struct vx_rwsem *);
void vx_write_lock(struct vx_rwsem *, int subclass);
vx_bool vx_write_trylock(struct vx_rwsem *, int subclass);
void vx_write_unlock(struct vx_rwsem *);
void vx_write_downgrade(struct vx_rwsem *);
void vx_rwsem_destroy(struct vx_rwsem *);

/* Waiting: the waiter calls vx_wait(q, cond, arg): returns when cond(arg) is true. The waker makes it true, then calls
 * vx_wake. cond must be cheap, must not sleep, and reads with atomics. timeout_ms < 0: for ever; else returns 0 when
 * cond came true, -ETIMEDOUT (-110) when not. */
void vx_waitq_init(struct vx_waitq *, const char *name);
int vx_wait(struct vx_waitq *, vx_bool (*cond)(void *), void *arg, vx_s64 timeout_ms);
void vx_wake(struct vx_waitq *);
void vx_waitq_destroy(struct vx_waitq *);

/* Read-mostly data (SRCU in the kernel): a reader's section may sleep; synchronize returns after every section that
 * was open when it was called has ended. */
int vx_epoch_init(struct vx_epoch *);
int vx_epoch_enter(struct vx_epoch *); /* returns a token for leave */
void vx_epoch_leave(struct vx_epoch *, int token);
void vx_epoch_synchronize(struct vx_epoch *);
void vx_epoch_destroy(struct vx_epoch *);

void vx_yield(void); /* cond_resched: call it between bounded pieces of long work */

/* ----------------------------------------------------------------- workers */
struct vx_thread;
/* A dedicated thread that runs fn(arg) until fn returns. join waits for that. */
int vx_thread_start(struct vx_thread **out, const char *name, void (*fn)(void *), void *arg);
void vx_thread_join(struct vx_thread *);

/* ----------------------------------------------------------- block devices */
struct vx_bdev; /* defined by the host */
enum { VX_IO_READ = 0, VX_IO_WRITE = 1, VX_IO_FUA = 2, VX_IO_META = 4 };
struct vx_io {
  vx_u64 off; /* bytes, multiple of the device's logical block size */
  vx_u64 len; /* bytes, likewise; buffers come from vx_alloc_large or are at least 512-byte aligned */
  void *buf;
  vx_s32 err;   /* out: 0 or negative errno */
  vx_u32 flags; /* VX_IO_* */
};
vx_u64 vx_bdev_size(struct vx_bdev *);          /* bytes */
vx_u32 vx_bdev_logical_block(struct vx_bdev *); /* bytes */
vx_bool vx_bdev_read_only(struct vx_bdev *);
const char *vx_bdev_name(struct vx_bdev *);
/* Starts all, in any order, and waits for all. 0, or the first error found. */
int vx_bdev_submit(struct vx_bdev *, struct vx_io *ios, size_t n);
int vx_bdev_flush(struct vx_bdev *);
int vx_bdev_discard(struct vx_bdev *, vx_u64 off, vx_u64 len); /* advisory; -EOPNOTSUPP is fine */
/* The filesystem on it has given up, and writes nothing from now on. Told once, from any context, between the begin of its
 * mounting and the end of its unmounting. */
void vx_bdev_aborted(struct vx_bdev *);

/* ------------------------------------------------------------ time, random */
vx_u64 vx_clock_mono_ns(void);
void vx_clock_real(vx_s64 *sec, vx_u32 *nsec); /* coarse, as inode timestamps are */
void vx_random_bytes(void *p, size_t n);

/* ----------------------------------------------------------------- CPU, FPU */
/* Brackets SIMD code. Nothing in between may sleep, fault, allocate, or take a lock. */
void vx_fpu_begin(void);
void vx_fpu_end(void);
/* what the CPU and the host's state saving allow */
enum {
  VX_CPU_AVX2 = 1,
  VX_CPU_FMA = 2,
  VX_CPU_F16C = 4,
  VX_CPU_AVX512 = 8 /* F,BW,DQ,VL */,
  VX_CPU_AVX512_VNNI = 16,
  VX_CPU_AVX512_BF16 = 32,
  VX_CPU_NEON = 64,
  VX_CPU_SSE42 = 128,
};
vx_u32 vx_cpu_features(void);
vx_u32 vx_cpu_count(void);
vx_u32 vx_cpu_here(void); /* number of the CPU that the caller is on, or was a moment ago: a hint */

/* crc32c (Castagnoli), seed and result not inverted: as the kernel's crc32c(). */
vx_u32 vx_crc32c(vx_u32 seed, const void *p, size_t n);

/* ---------------------------------------------------------------- messages */
enum { VX_LOG_ERR = 3, VX_LOG_WARN = 4, VX_LOG_NOTICE = 5, VX_LOG_INFO = 6, VX_LOG_DEBUG = 7 };
/* One whole line, no newline; dev may be NULL. The host rate-limits. */
void vx_log(struct vx_bdev *dev, int level, const char *line);
void vx_assert_fail(const char *expr, const char *file, int line);

/* -------------------------------------------------------- test-only hooks */
/* The host may make any named site fail (fault injection). Compiled in always; a host that has no injection returns
 * false. Called only on slow paths. */
vx_bool vx_fault(const char *site);

#ifdef __cplusplus
}
#endif
#endif
