// SPDX-License-Identifier: GPL-2.0-only
/*
 * O_DIRECT.
 *
 * Data that gets a checksum is written through the page cache, and out of it before the call returns: the writer's own
 * memory may change while the device reads it. What follows is for files without.
 *
 * Writes over blocks that exist run side by side under a shared i_rwsem, and asynchronously. A write that needs new
 * blocks, extends the file or covers only part of a block has the file for itself and waits for its data, so that no
 * block is ever in flight for two writers at once. So has a write that may have to take privileges (setuid bits,
 * capabilities) away from the file, which changes its mode.
 */
#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/iomap.h>
#include <linux/pagemap.h>

#include "internal.h"

/* A part of a block cannot be compared with a checksum: the page cache reads the block and keeps it for the next. */
static bool vexfs_reads_parts(struct inode *inode, loff_t pos, size_t len)
{
	u64 device = bdev_logical_block_size(vexfs_bdev(inode)) - 1;
	u64 parts = (u64)pos | len;

	return (parts & (i_blocksize(inode) - 1)) && !(parts & device) && vx_wants_sums(vexfs_core(inode));
}

ssize_t vexfs_direct_read(struct kiocb *iocb, struct iov_iter *to)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t ret;

	if (!iov_iter_count(to))
		return 0;
	if (vexfs_reads_parts(inode, iocb->ki_pos, iov_iter_count(to)))
		return filemap_read(iocb, to, 0);
	if (iocb->ki_flags & IOCB_NOWAIT) {
		if (!inode_trylock_shared(inode))
			return -EAGAIN;
	} else {
		inode_lock_shared(inode);
	}
	file_accessed(iocb->ki_filp);
	ret = iomap_dio_rw(iocb, to, &vexfs_read_ops, &vexfs_direct_read_ops, 0, NULL, 0);
	inode_unlock_shared(inode);
	return ret;
}

/* The data is on the device, or as much of it as could be written. */
static int vexfs_direct_done(struct kiocb *iocb, ssize_t size, int error, unsigned int flags)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	u64 bs = i_blocksize(inode);
	u64 off = round_down((u64)iocb->ki_pos, bs);
	u64 end = iocb->ki_pos + size;
	int err;

	if (size <= 0)
		return error;
	err = vx_write_done(vexfs_core(inode), off, round_up(end, bs) - off, end, error, NULL);
	vexfs_mapping_done(inode);
	if (error) {
		vexfs_mapping_cut(inode);
		return error;
	}
	if (err)
		return vexfs_check(inode->i_sb, err);
	if (end > i_size_read(inode))
		i_size_write(inode, end); /* only with i_rwsem held exclusively */
	return 0;
}

static const struct iomap_dio_ops vexfs_dio_ops = {
	.end_io = vexfs_direct_done,
};

/* Are all of [pos, pos + len) blocks of the file that are not in flight, so that writing them changes no mapping? */
static bool vexfs_is_overwrite(struct inode *inode, loff_t pos, size_t len)
{
	u64 bs = i_blocksize(inode);
	u64 off = pos;
	u64 end = pos + len;

	if (((u64)pos | len) & (bs - 1) || end > i_size_read(inode))
		return false;
	while (off < end) {
		struct vx_map m;

		if (vx_map(vexfs_core(inode), off, end - off, &m))
			return false;
		if ((m.type != VX_MAP_MAPPED && m.type != VX_MAP_UNWRITTEN) ||
		    (m.flags & (VX_MAP_F_INFLIGHT | VX_MAP_F_KEPT)))
			return false;
		off = m.off + m.len;
	}
	return true;
}

static ssize_t vexfs_direct_overwrite(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t ret;

	inode_lock_shared(inode);
	/*
	 * Appends and growing files go the other way, and so do files that may have to lose set-id bits or capabilities,
	 * which changes the inode; what is checked here holds as long as the lock does.
	 */
	if ((iocb->ki_flags & IOCB_APPEND) || !IS_NOSEC(inode) ||
	    !vexfs_is_overwrite(inode, iocb->ki_pos, iov_iter_count(from))) {
		inode_unlock_shared(inode);
		return -EAGAIN;
	}
	ret = vexfs_write_prepare(iocb, from);
	if (ret > 0)
		ret = iomap_dio_rw(iocb, from, &vexfs_direct_write_ops, &vexfs_dio_ops, 0, NULL, 0);
	inode_unlock_shared(inode);
	return ret;
}

/* What has been written to the cache at pos in place of a direct write: out of it, then dropped. */
static ssize_t vexfs_write_out(struct kiocb *iocb, loff_t pos, ssize_t len)
{
	struct address_space *mapping = iocb->ki_filp->f_mapping;
	int err = filemap_write_and_wait_range(mapping, pos, pos + len - 1);

	if (err)
		return err;
	invalidate_mapping_pages(mapping, pos >> PAGE_SHIFT, (pos + len - 1) >> PAGE_SHIFT);
	return len;
}

static ssize_t vexfs_direct_by_cache(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t ret;

	inode_lock(inode);
	ret = vexfs_write_prepare(iocb, from);
	if (ret > 0)
		ret = vexfs_buffered_write(iocb, from);
	inode_unlock(inode);
	/* Without the lock, so that other writers' data goes to the device at the same time. */
	if (ret > 0)
		ret = vexfs_write_out(iocb, iocb->ki_pos - ret, ret);
	return ret;
}

/* The part of a direct write that the cache would not let go of. */
static ssize_t vexfs_direct_fallback(struct kiocb *iocb, struct iov_iter *from, ssize_t done)
{
	ssize_t ret = vexfs_buffered_write(iocb, from);

	if (ret > 0)
		ret = vexfs_write_out(iocb, iocb->ki_pos - ret, ret);
	if (ret <= 0)
		return done ?: ret;
	return done + ret;
}

static ssize_t vexfs_direct_exclusive(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t ret;
	int err;

	inode_lock(inode);
	inode_dio_wait(inode);
	ret = vexfs_write_prepare(iocb, from);
	if (ret <= 0)
		goto out;
	filemap_invalidate_lock(inode->i_mapping);
	err = vexfs_uninline(inode);
	filemap_invalidate_unlock(inode->i_mapping);
	if (err) {
		ret = vexfs_check(inode->i_sb, err);
		goto out;
	}
	ret = iomap_dio_rw(iocb, from, &vexfs_direct_write_ops, &vexfs_dio_ops, IOMAP_DIO_FORCE_WAIT, NULL, 0);
	if (ret == -ENOTBLK)
		ret = 0;
	if (ret >= 0 && iov_iter_count(from))
		ret = vexfs_direct_fallback(iocb, from, ret);
out:
	inode_unlock(inode);
	return ret;
}

ssize_t vexfs_direct_write(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	u64 mask = bdev_logical_block_size(vexfs_bdev(inode)) - 1;
	ssize_t ret;

	if (iocb->ki_flags & IOCB_NOWAIT)
		return -EAGAIN;
	if (!(iocb->ki_flags & IOCB_APPEND) && (((u64)iocb->ki_pos | iov_iter_count(from)) & mask))
		return -EINVAL;
	if (vx_wants_sums(vexfs_core(inode))) {
		ret = vexfs_direct_by_cache(iocb, from);
	} else {
		ret = vexfs_direct_overwrite(iocb, from);
		if (ret == -EAGAIN || ret == -ENOTBLK)
			ret = vexfs_direct_exclusive(iocb, from);
	}
	if (ret > 0)
		ret = generic_write_sync(iocb, ret);
	return ret;
}
