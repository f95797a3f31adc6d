// SPDX-License-Identifier: GPL-2.0-only
/* Changing a file's size, and the space that it has: truncate and fallocate. */
#include <linux/fs.h>
#include <linux/falloc.h>
#include <linux/iomap.h>
#include <linux/pagemap.h>

#include "internal.h"

/*
 * Before the size changes, what the new one will show goes to the device: data between the size on disk and the new one (a
 * crash must not leave zeros in its place), and, if it grows, the zeros that follow the old end in its block, where
 * something that was cut off earlier may still be.
 */
int vexfs_flush_to(struct inode *inode, loff_t old, loff_t size)
{
	u64 bs = i_blocksize(inode);
	struct vx_attr a;

	vx_getattr(vexfs_core(inode), &a);
	if (size <= old && (u64)size <= a.size)
		return 0;
	return filemap_write_and_wait_range(inode->i_mapping, round_down(min_t(u64, old, a.size), bs),
					    min_t(u64, size, round_up((u64)old, bs)) - 1);
}

/*
 * Writeback asks for blocks ahead of the folios that it has seen. Where the cache has been emptied, all I/O is over, so
 * what is still in flight of [off, end) was never started and goes back.
 */
void vexfs_forget_inflight(struct inode *inode, u64 off, u64 end)
{
	u64 bs = i_blocksize(inode);
	u64 first = round_up(off, bs);

	vexfs_mapping_cut(inode);
	end = min_t(u64, end, round_down((u64)inode->i_sb->s_maxbytes, bs));
	if (first < end)
		vx_write_done(vexfs_core(inode), first, end - first, 0, -EIO, NULL);
}

static int vexfs_resize(struct inode *inode, loff_t old, loff_t size)
{
	struct vx_time now = vexfs_now(inode);
	struct vx_attr a;
	int err = 0;

	if (old <= vexfs_sb(inode->i_sb)->inline_max && size > vexfs_sb(inode->i_sb)->inline_max)
		err = vexfs_uninline(inode);
	if (err)
		return err;
	if (size > old) {
		vexfs_zero_cached_tail(inode, old);
		err = iomap_zero_range(inode, old, size - old, NULL, &vexfs_write_ops);
	} else {
		err = iomap_truncate_page(inode, size, NULL, &vexfs_write_ops);
	}
	if (!err)
		err = vexfs_flush_to(inode, old, size);
	if (err)
		return err;
	truncate_setsize(inode, size);
	vexfs_forget_inflight(inode, size, U64_MAX);
	err = vx_truncate(vexfs_core(inode), size, &now);
	if (err) {
		vx_getattr(vexfs_core(inode), &a);
		i_size_write(inode, a.size);
	}
	return err;
}

/* Under i_rwsem. */
int vexfs_set_size(struct inode *inode, loff_t size)
{
	int err;

	inode_dio_wait(inode);
	filemap_invalidate_lock(inode->i_mapping);
	err = vexfs_resize(inode, i_size_read(inode), size);
	filemap_invalidate_unlock(inode->i_mapping);
	return err;
}

/* ------------------------------------------------------------------ fallocate */
static int vexfs_zero_part(struct inode *inode, u64 off, u64 end)
{
	/* Behind the end of the file nothing shows, and zeroing there would move the end. */
	end = min_t(u64, end, i_size_read(inode));
	if (off >= end)
		return 0;
	return iomap_zero_range(inode, off, end - off, NULL, &vexfs_write_ops);
}

/* Zeros the parts of [off, end) that are not whole blocks, through the cache; *first and *last are the whole blocks. */
static int vexfs_zero_edges(struct inode *inode, u64 off, u64 end, u64 *first, u64 *last)
{
	u64 bs = i_blocksize(inode);
	int err;

	*first = round_up(off, bs);
	*last = round_down(end, bs);
	if (*first > *last) /* within one block */
		return vexfs_zero_part(inode, off, end);
	err = vexfs_zero_part(inode, off, *first);
	return err ?: vexfs_zero_part(inode, *last, end);
}

/* PUNCH and ZERO: the range reads as zeros afterwards. */
static int vexfs_clear_range(struct inode *inode, unsigned int vx, u64 off, u64 end, u64 new_size)
{
	struct vx_time now = vexfs_now(inode);
	u64 first, last;
	int err;

	err = filemap_write_and_wait_range(inode->i_mapping, off, end - 1);
	if (err)
		return err;
	err = vexfs_zero_edges(inode, off, end, &first, &last);
	if (err)
		return err;
	if (first >= last) /* nothing but the size */
		return new_size ? vx_set_size(vexfs_core(inode), new_size) : 0;
	truncate_pagecache_range(inode, first, last - 1);
	vexfs_forget_inflight(inode, first, last);
	return vx_fallocate(vexfs_core(inode), vx, first, last - first, new_size, &now);
}

/* Is anything of [off, end) delayed or in flight? */
static bool vexfs_is_delayed(struct inode *inode, u64 off, u64 end)
{
	struct vx_map m;

	for (; off < end; off = m.off + m.len) {
		if (vx_map(vexfs_core(inode), off, end - off, &m))
			return true; /* whoever writes it out says why */
		if (m.type == VX_MAP_DELALLOC || (m.flags & VX_MAP_F_INFLIGHT))
			return true;
	}
	return false;
}

static int vexfs_allocate_range(struct inode *inode, unsigned int vx, u64 off, u64 end, u64 new_size)
{
	struct vx_time now = vexfs_now(inode);
	u64 bs = i_blocksize(inode);
	u64 first = round_down(off, bs);
	u64 last = round_up(end, bs);
	int err;

	/*
	 * Delayed data in the range gets its blocks first; what is left are holes. A file that grows byte by byte within
	 * blocks that it has must not wait for the device each time.
	 */
	if (vexfs_is_delayed(inode, first, last)) {
		err = filemap_write_and_wait_range(inode->i_mapping, off, end - 1);
		if (err)
			return err;
	}
	err = vx_fallocate(vexfs_core(inode), vx, first, last - first, new_size, &now);
	vexfs_mapping_cut(inode);
	return err;
}

static int vexfs_do_fallocate(struct file *file, int mode, u64 off, u64 end)
{
	struct inode *inode = file_inode(file);
	loff_t size = i_size_read(inode);
	u64 new_size = 0;
	unsigned int vx = 0;
	int err;

	if (mode & FALLOC_FL_KEEP_SIZE)
		vx |= VX_FALLOC_KEEP_SIZE;
	else if (end > (u64)size)
		new_size = end;
	if (mode & FALLOC_FL_PUNCH_HOLE)
		vx |= VX_FALLOC_PUNCH;
	if (mode & FALLOC_FL_ZERO_RANGE)
		vx |= VX_FALLOC_ZERO;

	if (new_size) {
		err = inode_newsize_ok(inode, new_size);
		if (err)
			return err;
	}
	err = file_modified(file);
	if (err)
		return err;
	err = vexfs_uninline(inode);
	if (err)
		return err;
	if (new_size) {
		vexfs_zero_cached_tail(inode, size);
		err = iomap_truncate_page(inode, size, NULL, &vexfs_write_ops);
		if (!err)
			err = vexfs_flush_to(inode, size, new_size);
		if (err)
			return err;
	}
	if (vx & (VX_FALLOC_PUNCH | VX_FALLOC_ZERO))
		err = vexfs_clear_range(inode, vx, off, end, new_size);
	else
		err = vexfs_allocate_range(inode, vx, off, end, new_size);
	if (!err && new_size) {
		i_size_write(inode, new_size);
		pagecache_isize_extended(inode, size, new_size);
	}
	return err;
}

long vexfs_fallocate(struct file *file, int mode, loff_t offset, loff_t len)
{
	struct inode *inode = file_inode(file);
	int err;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	inode_lock(inode);
	inode_dio_wait(inode);
	filemap_invalidate_lock(inode->i_mapping);
	err = vexfs_do_fallocate(file, mode, offset, offset + len);
	filemap_invalidate_unlock(inode->i_mapping);
	inode_unlock(inode);
	if (!err && ((file->f_flags & O_DSYNC) || IS_SYNC(inode)))
		err = vx_inode_sync(vexfs_core(inode));
	return vexfs_check(inode->i_sb, err);
}
