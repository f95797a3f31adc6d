// SPDX-License-Identifier: GPL-2.0-only
/* The host side of kernel/core/platform.h: memory, threads, clock, random bytes, CPU, checksums, messages. */
#include <linux/bitops.h>
#include <linux/cpu.h>
#include <linux/crc32c.h>
#include <linux/gfp.h>
#include <linux/kthread.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/random.h>
#include <linux/ratelimit.h>
#include <linux/sched/mm.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/timekeeping.h>
#include <linux/vmalloc.h>
#ifdef CONFIG_X86
#include <asm/cpufeature.h>
#include <asm/fpu/api.h>
#endif
#ifdef CONFIG_ARM64
#include <asm/neon.h>
#endif

#include "internal.h"

/* ------------------------------------------------------------------ memory */
static gfp_t vexfs_gfp(unsigned int flags)
{
	gfp_t gfp = flags & VX_ALLOC_ATOMIC ? GFP_NOWAIT : GFP_NOFS;

	if (flags & VX_ALLOC_ZERO)
		gfp |= __GFP_ZERO;
	if (flags & VX_ALLOC_ACCOUNT)
		gfp |= __GFP_ACCOUNT;
	return gfp | __GFP_NOWARN;
}

void *vx_alloc(size_t n, unsigned int flags)
{
	/* Sizes of powers of two are aligned to themselves; those between 8 KiB and a page order are page-aligned. */
	if (n <= 192)
		n = roundup_pow_of_two(max_t(size_t, n, 16));
	return kvmalloc(n, vexfs_gfp(flags));
}

void vx_free(void *p)
{
	kvfree(p);
}

/*
 * Pages come in powers of two. A buffer a little longer than one, such as a chunk of vectors with a word for each of them,
 * would take twice its size: pages behind its end are given back. Where they are few, or soon free again, it does not pay.
 */
static bool vexfs_gives_back(size_t n)
{
	return n >= SZ_256K && n <= KMALLOC_MAX_SIZE && roundup_pow_of_two(n) - n >= n / 8;
}

void *vx_alloc_large(size_t n, unsigned int flags)
{
	gfp_t gfp = vexfs_gfp(flags);
	void *p;

	if (n <= KMALLOC_MAX_CACHE_SIZE)
		return kmalloc(roundup_pow_of_two(max_t(size_t, n, 64)), gfp);
	if (vexfs_gives_back(n)) {
		p = alloc_pages_exact(n, gfp | __GFP_NORETRY);
		if (p || (flags & VX_ALLOC_ATOMIC))
			return p;
		return __vmalloc(n, gfp);
	}
	if (n > INT_MAX)
		return flags & VX_ALLOC_ATOMIC ? NULL : __vmalloc(n, gfp);
	return kvmalloc(n, gfp);
}

void vx_free_large(void *p, size_t n)
{
	if (p && vexfs_gives_back(n) && !is_vmalloc_addr(p))
		free_pages_exact(p, n);
	else
		kvfree(p);
}

void vx_yield(void)
{
	cond_resched();
}

/* ----------------------------------------------------------------- threads */
struct vx_thread {
	struct task_struct *task;
	struct completion done;
	void (*fn)(void *arg);
	void *arg;
};

static int vexfs_thread_main(void *data)
{
	struct vx_thread *t = data;
	unsigned int nofs = memalloc_nofs_save();

	t->fn(t->arg);
	memalloc_nofs_restore(nofs);
	complete(&t->done);
	/* The thread may leave the module's text only when the joiner is there to see it. */
	set_current_state(TASK_IDLE);
	while (!kthread_should_stop()) {
		schedule();
		set_current_state(TASK_IDLE);
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

int vx_thread_start(struct vx_thread **out, const char *name, void (*fn)(void *), void *arg)
{
	struct vx_thread *t = kmalloc(sizeof(*t), GFP_NOFS);
	int err;

	if (!t)
		return -ENOMEM;
	init_completion(&t->done);
	t->fn = fn;
	t->arg = arg;
	t->task = kthread_run(vexfs_thread_main, t, "%s", name);
	if (IS_ERR(t->task)) {
		err = PTR_ERR(t->task);
		kfree(t);
		return err;
	}
	*out = t;
	return 0;
}

void vx_thread_join(struct vx_thread *t)
{
	wait_for_completion(&t->done);
	kthread_stop(t->task);
	kfree(t);
}

/* ------------------------------------------------------------ time, random */
u64 vx_clock_mono_ns(void)
{
	return ktime_get_ns();
}

void vx_clock_real(s64 *sec, u32 *nsec)
{
	struct timespec64 ts;

	ktime_get_coarse_real_ts64(&ts);
	*sec = ts.tv_sec;
	*nsec = ts.tv_nsec;
}

void vx_random_bytes(void *p, size_t n)
{
	get_random_bytes(p, n);
}

/* ----------------------------------------------------------------- CPU, FPU */
#if defined(CONFIG_X86)
void vx_fpu_begin(void)
{
	kernel_fpu_begin();
}

void vx_fpu_end(void)
{
	kernel_fpu_end();
}

/* Under UML the state is saved by the host kernel, which the CPU flags already account for. */
static bool vexfs_saves_state(u64 mask)
{
#ifdef CONFIG_UML
	return true;
#else
	return cpu_has_xfeatures(mask, NULL);
#endif
}

#ifdef CONFIG_UML
#define VEXFS_STATE_YMM 0
#define VEXFS_STATE_ZMM 0
#else
#include <asm/fpu/types.h>
#include <asm/fpu/xcr.h>
#define VEXFS_STATE_YMM (XFEATURE_MASK_SSE | XFEATURE_MASK_YMM)
#define VEXFS_STATE_ZMM (VEXFS_STATE_YMM | XFEATURE_MASK_AVX512)
#endif

u32 vx_cpu_features(void)
{
	u32 f = 0;

	if (boot_cpu_has(X86_FEATURE_XMM4_2))
		f |= VX_CPU_SSE42;
	if (!boot_cpu_has(X86_FEATURE_AVX) || !vexfs_saves_state(VEXFS_STATE_YMM))
		return f;
	if (boot_cpu_has(X86_FEATURE_AVX2))
		f |= VX_CPU_AVX2;
	if (boot_cpu_has(X86_FEATURE_FMA))
		f |= VX_CPU_FMA;
	if (boot_cpu_has(X86_FEATURE_F16C))
		f |= VX_CPU_F16C;
	if (!boot_cpu_has(X86_FEATURE_AVX512F) || !boot_cpu_has(X86_FEATURE_AVX512BW) ||
	    !boot_cpu_has(X86_FEATURE_AVX512DQ) || !boot_cpu_has(X86_FEATURE_AVX512VL) ||
	    !vexfs_saves_state(VEXFS_STATE_ZMM))
		return f;
	f |= VX_CPU_AVX512;
	if (boot_cpu_has(X86_FEATURE_AVX512_VNNI))
		f |= VX_CPU_AVX512_VNNI;
	if (boot_cpu_has(X86_FEATURE_AVX512_BF16))
		f |= VX_CPU_AVX512_BF16;
	return f;
}
#elif defined(CONFIG_UML) && defined(CONFIG_64BIT)
/* User-Mode Linux is a process: its vector registers are its own, and the host's kernel saves them. */
void vx_fpu_begin(void)
{
}

void vx_fpu_end(void)
{
}

/* Returns eax: of leaf 0 the greatest leaf there is. */
static u32 vexfs_cpuid(u32 leaf, u32 *b, u32 *c)
{
	u32 a = leaf, d = 0;

	*c = 0;
	asm volatile("cpuid" : "+a"(a), "=b"(*b), "+c"(*c), "=d"(d));
	return a;
}

u32 vx_cpu_features(void)
{
	u32 b, c1, b7 = 0, c7, f = 0, xcr = 0, high;

	if (vexfs_cpuid(0, &b, &c1) >= 7)
		vexfs_cpuid(7, &b7, &c7);
	vexfs_cpuid(1, &b, &c1);
	if (c1 & BIT(27)) /* OSXSAVE */
		asm volatile("xgetbv" : "=a"(xcr), "=d"(high) : "c"(0));
	if (c1 & BIT(20))
		f |= VX_CPU_SSE42;
	if ((xcr & 6) != 6)
		return f;
	if (b7 & BIT(5))
		f |= VX_CPU_AVX2;
	if (c1 & BIT(12))
		f |= VX_CPU_FMA;
	if (c1 & BIT(29))
		f |= VX_CPU_F16C;
	return f;
}
#elif defined(CONFIG_ARM64)
void vx_fpu_begin(void)
{
	kernel_neon_begin();
}

void vx_fpu_end(void)
{
	kernel_neon_end();
}

u32 vx_cpu_features(void)
{
	return VX_CPU_NEON;
}
#else
#error "vexfs has vector code for x86-64 and arm64"
#endif

u32 vx_cpu_count(void)
{
	return num_online_cpus();
}

u32 vx_cpu_here(void)
{
	return raw_smp_processor_id();
}

u32 vx_crc32c(u32 seed, const void *p, size_t n)
{
	/* crc32c() counts in 32 bits. */
	while (n > SZ_1G) {
		seed = crc32c(seed, p, SZ_1G);
		p += SZ_1G;
		n -= SZ_1G;
	}
	return crc32c(seed, p, n);
}

/* What std::popcount becomes where the compiler may not use the instruction, and libgcc is not there. */
int __popcountdi2(unsigned long n);
int __popcountdi2(unsigned long n)
{
	return hweight64(n);
}

/* ---------------------------------------------------------------- messages */
void vx_log(struct vx_bdev *dev, int level, const char *line)
{
	static DEFINE_RATELIMIT_STATE(of_none, VEXFS_MESSAGES_INTERVAL, VEXFS_MESSAGES_BURST);
	const char *colon = dev ? ": " : "";
	const char *name = dev ? dev->name : "";

	if (level >= VX_LOG_DEBUG) {
		pr_debug("vexfs: %s%s%s\n", name, colon, line);
		return;
	}
	if (!___ratelimit(dev ? &dev->messages : &of_none, __func__))
		return;
	if (level <= VX_LOG_ERR)
		pr_err("vexfs: %s%s%s\n", name, colon, line);
	else if (level == VX_LOG_WARN)
		pr_warn("vexfs: %s%s%s\n", name, colon, line);
	else if (level == VX_LOG_NOTICE)
		pr_notice("vexfs: %s%s%s\n", name, colon, line);
	else
		pr_info("vexfs: %s%s%s\n", name, colon, line);
}

/*
 * The core's objects know this as a function that returns, and go on after the call. objtool looks through the module
 * as a whole and would call that a mistake if it saw that there is no way back from here.
 */
void vx_assert_fail(const char *expr, const char *file, int line)
{
	static bool stop = true;

	pr_emerg("vexfs: %s:%d: broken invariant: %s\n", file, line, expr);
	if (READ_ONCE(stop))
		BUG();
}

/* Injection of faults is for the userspace host; here dm-flakey and failslab do it from outside. */
bool vx_fault(const char *site)
{
	return false;
}
