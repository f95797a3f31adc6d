// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sharing blocks between files: FICLONE, FICLONERANGE, FIDEDUPERANGE, and copy_file_range, which tries it first.
 *
 * Both files are locked against writes (i_rwsem) and faults (the invalidate lock), then what is dirty goes to the device,
 * so that the core's mapping is all there is. What the cache has of the target is dropped before the target changes. A
 * mapping that writeback has looked up before does not hold afterwards, on either side: blocks of the source are not
 * written over any more.
 */
#include <linux/fs.h>
#include <linux/iomap.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "internal.h"

static void vexfs_lock_both(struct inode *a, struct inode *b)
{
	lock_two_nondirectories(a, b);
	filemap_invalidate_lock_two(a->i_mapping, b->i_mapping);
}

static void vexfs_unlock_both(struct inode *a, struct inode *b)
{
	filemap_invalidate_unlock_two(a->i_mapping, b->i_mapping);
	unlock_two_nondirectories(a, b);
}

/* The file grows to `end`, and what lies between its old end and `pos` is to be zero. */
static int vexfs_clone_grow(struct inode *inode, loff_t pos, loff_t end)
{
	loff_t size = i_size_read(inode);
	int err;

	if (end <= size)
		return 0;
	if (pos > size) {
		err = vexfs_uninline(inode);
		if (err)
			return err;
		vexfs_zero_cached_tail(inode, size);
		err = iomap_truncate_page(inode, size, NULL, &vexfs_write_ops);
		if (err)
			return err;
	}
	return vexfs_flush_to(inode, size, end);
}

/* Nothing is in the cache of [pos, pos + len), whole pages of it, and nothing in flight. */
static int vexfs_clone_drop_cache(struct inode *inode, loff_t pos, loff_t len)
{
	loff_t first = round_down(pos, PAGE_SIZE);
	loff_t last = round_up(pos + len, PAGE_SIZE) - 1;
	int err = filemap_write_and_wait_range(inode->i_mapping, first, last);

	if (err)
		return err;
	truncate_pagecache_range(inode, first, last);
	return 0;
}

/* Returns how many bytes are done: all of them, or fewer if the caller can do with that; or an error. */
static loff_t vexfs_clone(struct inode *in, loff_t pos_in, struct inode *out, loff_t pos_out, loff_t len,
			  unsigned int flags)
{
	bool dedupe = flags & REMAP_FILE_DEDUP;
	struct vx_time now = vexfs_now(out);
	loff_t done = 0;
	int err = 0;

	while (!err && done < len) {
		vx_u64 n;

		err = vx_clone_range(vexfs_core(in), pos_in + done, vexfs_core(out), pos_out + done, len - done,
				     dedupe, &now, &n);
		done += n;
		if (!err && done < len && fatal_signal_pending(current))
			err = -EINTR;
		cond_resched();
	}
	if (!dedupe && pos_out + done > i_size_read(out)) {
		loff_t size = i_size_read(out);

		i_size_write(out, pos_out + done);
		pagecache_isize_extended(out, size, pos_out + done);
	}
	if (!err || (done > 0 && (flags & REMAP_FILE_CAN_SHORTEN)))
		return done;
	return err;
}

loff_t vexfs_remap_file_range(struct file *file_in, loff_t pos_in, struct file *file_out, loff_t pos_out, loff_t len,
			      unsigned int flags)
{
	struct inode *out = file_inode(file_out);
	struct inode *in = file_inode(file_in);
	loff_t ret;

	if (flags & ~(REMAP_FILE_DEDUP | REMAP_FILE_ADVISORY))
		return -EINVAL;
	if (!vx_can_clone(vexfs_fs(out)))
		return -EOPNOTSUPP;
	vexfs_lock_both(in, out);
	ret = generic_remap_file_range_prep(file_in, pos_in, file_out, pos_out, &len, flags);
	if (ret < 0 || len == 0)
		goto unlock;
	if (!(flags & REMAP_FILE_DEDUP))
		ret = vexfs_clone_grow(out, pos_out, pos_out + len);
	if (!ret)
		ret = vexfs_clone_drop_cache(out, pos_out, len);
	if (ret)
		goto unlock;
	/* All I/O of both ranges is over: what was given blocks ahead of it goes back. */
	vexfs_forget_inflight(in, pos_in, pos_in + len);
	vexfs_forget_inflight(out, pos_out, pos_out + len);
	ret = vexfs_clone(in, pos_in, out, pos_out, len, flags);
	vexfs_mapping_cut(in);
	vexfs_mapping_cut(out);
unlock:
	vexfs_unlock_both(in, out);
	if (ret > 0 && ((file_out->f_flags & O_DSYNC) || IS_SYNC(out))) {
		int err = vx_inode_sync(vexfs_core(out));

		if (err)
			ret = err;
	}
	return ret < 0 ? vexfs_check(out->i_sb, ret) : ret;
}
