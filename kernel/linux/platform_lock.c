// SPDX-License-Identifier: GPL-2.0-only
/* The host side of kernel/core/platform.h: locks, wait queues and epochs. */
#include <linux/lockdep.h>
#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/string.h>
#include <linux/wait.h>

#include "internal.h"

static_assert(sizeof(spinlock_t) <= sizeof(struct vx_spin));
static_assert(sizeof(struct mutex) <= sizeof(struct vx_mutex));
static_assert(sizeof(struct rw_semaphore) <= sizeof(struct vx_rwsem));
static_assert(sizeof(wait_queue_head_t) <= sizeof(struct vx_waitq));
static_assert(sizeof(struct srcu_struct *) <= sizeof(struct vx_epoch));

/* ----------------------------------------------------------------- lockdep */
/*
 * lockdep wants a static key for each class of locks. The core initialises its locks in one function for each kind, so
 * the keys are told apart by the lock's name: one entry here for each name.
 */
#ifdef CONFIG_DEBUG_LOCK_ALLOC
static struct {
	const char *name;
	struct lock_class_key key;
} vexfs_classes[96];
static DEFINE_SPINLOCK(vexfs_classes_lock);

static struct lock_class_key *vexfs_class(const char *name)
{
	size_t last = ARRAY_SIZE(vexfs_classes) - 1;
	unsigned long flags;
	size_t i;

	spin_lock_irqsave(&vexfs_classes_lock, flags);
	for (i = 0; i < last && vexfs_classes[i].name; i++)
		if (!strcmp(vexfs_classes[i].name, name))
			break;
	WARN_ON_ONCE(i == last);
	vexfs_classes[i].name = name;
	spin_unlock_irqrestore(&vexfs_classes_lock, flags);
	return &vexfs_classes[i].key;
}
#define vexfs_set_class(lock, name) lockdep_set_class_and_name(lock, vexfs_class(name), name)
#else
#define vexfs_set_class(lock, name) ((void)(name))
#endif

/* ------------------------------------------------------------------- locks */
static spinlock_t *vexfs_spin(struct vx_spin *s)
{
	return (spinlock_t *)s->opaque;
}

static struct mutex *vexfs_mutex(struct vx_mutex *m)
{
	return (struct mutex *)m->opaque;
}

static struct rw_semaphore *vexfs_rwsem(struct vx_rwsem *s)
{
	return (struct rw_semaphore *)s->opaque;
}

void vx_spin_init(struct vx_spin *s, const char *name)
{
	spin_lock_init(vexfs_spin(s));
	vexfs_set_class(vexfs_spin(s), name);
}

void vx_spin_lock(struct vx_spin *s)
{
	spin_lock(vexfs_spin(s));
}

void vx_spin_unlock(struct vx_spin *s)
{
	spin_unlock(vexfs_spin(s));
}

void vx_spin_destroy(struct vx_spin *s)
{
}

void vx_mutex_init(struct vx_mutex *m, const char *name)
{
	mutex_init(vexfs_mutex(m));
	vexfs_set_class(vexfs_mutex(m), name);
}

void vx_mutex_lock(struct vx_mutex *m)
{
	mutex_lock(vexfs_mutex(m));
}

bool vx_mutex_trylock(struct vx_mutex *m)
{
	return mutex_trylock(vexfs_mutex(m));
}

void vx_mutex_unlock(struct vx_mutex *m)
{
	mutex_unlock(vexfs_mutex(m));
}

void vx_mutex_destroy(struct vx_mutex *m)
{
	mutex_destroy(vexfs_mutex(m));
}

void vx_rwsem_init(struct vx_rwsem *s, const char *name)
{
	init_rwsem(vexfs_rwsem(s));
	vexfs_set_class(vexfs_rwsem(s), name);
}

void vx_read_lock(struct vx_rwsem *s, int subclass)
{
	down_read_nested(vexfs_rwsem(s), subclass);
}

void vx_read_unlock(struct vx_rwsem *s)
{
	up_read(vexfs_rwsem(s));
}

bool vx_read_trylock(struct vx_rwsem *s)
{
	return down_read_trylock(vexfs_rwsem(s));
}

void vx_write_lock(struct vx_rwsem *s, int subclass)
{
	down_write_nested(vexfs_rwsem(s), subclass);
}

bool vx_write_trylock(struct vx_rwsem *s, int subclass)
{
	if (!down_write_trylock(vexfs_rwsem(s)))
		return false;
	/* There is no nested form of it: the class of what is held is corrected. */
	lock_set_subclass(&vexfs_rwsem(s)->dep_map, subclass, _RET_IP_);
	return true;
}

void vx_write_unlock(struct vx_rwsem *s)
{
	up_write(vexfs_rwsem(s));
}

void vx_write_downgrade(struct vx_rwsem *s)
{
	downgrade_write(vexfs_rwsem(s));
}

void vx_rwsem_destroy(struct vx_rwsem *s)
{
}

/* ----------------------------------------------------------------- waiting */
static wait_queue_head_t *vexfs_waitq(struct vx_waitq *q)
{
	return (wait_queue_head_t *)q->opaque;
}

void vx_waitq_init(struct vx_waitq *q, const char *name)
{
	init_waitqueue_head(vexfs_waitq(q));
	vexfs_set_class(&vexfs_waitq(q)->lock, name);
}

int vx_wait(struct vx_waitq *q, bool (*cond)(void *), void *arg, s64 timeout_ms)
{
	wait_queue_head_t *wq = vexfs_waitq(q);
	/* A thread of ours may wait for work for days: that is no hung task, and no load. */
	bool idle = current->flags & PF_KTHREAD;
	unsigned long left;

	if (timeout_ms < 0) {
		if (idle)
			wait_event_idle(*wq, cond(arg));
		else
			wait_event(*wq, cond(arg));
		return 0;
	}
	left = msecs_to_jiffies(min_t(s64, timeout_ms, INT_MAX));
	if (idle)
		left = wait_event_idle_timeout(*wq, cond(arg), left);
	else
		left = wait_event_timeout(*wq, cond(arg), left);
	return left ? 0 : -ETIMEDOUT;
}

void vx_wake(struct vx_waitq *q)
{
	wake_up_all(vexfs_waitq(q));
}

void vx_waitq_destroy(struct vx_waitq *q)
{
	/*
	 * A waiter returns as soon as its condition holds, perhaps while the waker is still inside wake_up_all() with the
	 * queue's lock: pass through that lock, so that the memory can go.
	 */
	spin_lock_irq(&vexfs_waitq(q)->lock);
	spin_unlock_irq(&vexfs_waitq(q)->lock);
}

/* ------------------------------------------------------------------ epochs */
static struct srcu_struct *vexfs_srcu(struct vx_epoch *e)
{
	return (struct srcu_struct *)e->opaque[0];
}

int vx_epoch_init(struct vx_epoch *e)
{
	struct srcu_struct *srcu = kmalloc(sizeof(*srcu), GFP_NOFS);
	int err;

	if (!srcu)
		return -ENOMEM;
	err = init_srcu_struct(srcu);
	if (err) {
		kfree(srcu);
		return err;
	}
	e->opaque[0] = (u64)(unsigned long)srcu;
	return 0;
}

int vx_epoch_enter(struct vx_epoch *e)
{
	return srcu_read_lock(vexfs_srcu(e));
}

void vx_epoch_leave(struct vx_epoch *e, int token)
{
	srcu_read_unlock(vexfs_srcu(e), token);
}

void vx_epoch_synchronize(struct vx_epoch *e)
{
	synchronize_srcu(vexfs_srcu(e));
}

void vx_epoch_destroy(struct vx_epoch *e)
{
	cleanup_srcu_struct(vexfs_srcu(e));
	kfree(vexfs_srcu(e));
}
