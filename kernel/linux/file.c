// SPDX-License-Identifier: GPL-2.0-only
/* Regular files: reading, writing, mapping into memory, seeking, syncing. */
#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/iomap.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/splice.h>
#include <linux/writeback.h>

#include "internal.h"
#include "vexfs_trace.h"

static int vexfs_open(struct inode *inode, struct file *file)
{
	file->f_mode |= FMODE_NOWAIT | FMODE_CAN_ODIRECT;
	return generic_file_open(inode, file);
}

/* ------------------------------------------------------------------ reading and writing */
static ssize_t vexfs_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	if (iocb->ki_flags & IOCB_DIRECT)
		return vexfs_direct_read(iocb, to);
	return generic_file_read_iter(iocb, to);
}

/* Under i_rwsem: limits, privileges, times, and zeros between the old end of the file and where the write begins. */
ssize_t vexfs_write_prepare(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t ret = generic_write_checks(iocb, from);
	loff_t size;
	int err;

	if (ret <= 0)
		return ret;
	size = i_size_read(inode);
	if (iocb->ki_pos > size) {
		vexfs_zero_cached_tail(inode, size);
		err = iomap_zero_range(inode, size, iocb->ki_pos - size, NULL, &vexfs_write_ops);
		if (err)
			return err;
	}
	err = kiocb_modified(iocb);
	return err ?: ret;
}

/*
 * Promises are made for the worst case, and what was freed can be used again only once that is on disk: redeems the ones,
 * commits the other. 0: it may be worth another look.
 */
static int vexfs_make_room(struct inode *inode)
{
	filemap_write_and_wait(inode->i_mapping);
	return vx_fs_commit(vexfs_fs(inode));
}

/* A write into inline contents that the core refused: neither the cache nor the size may show it. */
static ssize_t vexfs_undo_inline(struct kiocb *iocb, loff_t pos, loff_t size)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	int err = vexfs_i(inode)->inline_error;

	vexfs_i(inode)->inline_error = 0;
	iocb->ki_pos = pos;
	i_size_write(inode, size);
	filemap_invalidate_lock(inode->i_mapping);
	truncate_inode_pages(inode->i_mapping, 0);
	filemap_invalidate_unlock(inode->i_mapping);
	return vexfs_check(inode->i_sb, err);
}

/* Under i_rwsem, after vexfs_write_prepare(). */
ssize_t vexfs_buffered_write(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	loff_t size = i_size_read(inode);
	loff_t pos = iocb->ki_pos;
	bool again = true;
	ssize_t ret;

	for (;;) {
		ret = vx_iomap_buffered_write(iocb, from, &vexfs_write_ops);
		if (vexfs_i(inode)->inline_error)
			return vexfs_undo_inline(iocb, pos, size);
		if (ret != -ENOSPC || !again || vexfs_make_room(inode))
			break;
		again = false;
	}
	if (ret > 0)
		iocb->ki_pos = pos + ret;
	return ret;
}

static ssize_t vexfs_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t ret;

	if (iocb->ki_flags & IOCB_DIRECT)
		return vexfs_direct_write(iocb, from);
	if (iocb->ki_flags & IOCB_NOWAIT)
		return -EAGAIN; /* a reservation may have to wait for a commit */
	inode_lock(inode);
	ret = vexfs_write_prepare(iocb, from);
	if (ret > 0)
		ret = vexfs_buffered_write(iocb, from);
	inode_unlock(inode);
	if (ret > 0)
		ret = generic_write_sync(iocb, ret);
	return ret;
}

/* ------------------------------------------------------------------ mmap */
static vm_fault_t vexfs_make_writable(struct vm_fault *vmf)
{
	struct address_space *mapping = vmf->vma->vm_file->f_mapping;
	vm_fault_t ret;

	filemap_invalidate_lock_shared(mapping);
	ret = iomap_page_mkwrite(vmf, &vexfs_write_ops);
	filemap_invalidate_unlock_shared(mapping);
	return ret;
}

static vm_fault_t vexfs_page_mkwrite(struct vm_fault *vmf)
{
	struct inode *inode = file_inode(vmf->vma->vm_file);
	vm_fault_t ret;

	sb_start_pagefault(inode->i_sb);
	file_update_time(vmf->vma->vm_file);
	ret = vexfs_make_writable(vmf);
	/* Most likely there was no space; blocks that the file has may have to move, too. */
	if (ret == VM_FAULT_SIGBUS && !vexfs_make_room(inode))
		ret = vexfs_make_writable(vmf);
	sb_end_pagefault(inode->i_sb);
	return ret;
}

static const struct vm_operations_struct vexfs_vm_ops = {
	.fault = filemap_fault,
	.map_pages = filemap_map_pages,
	.page_mkwrite = vexfs_page_mkwrite,
};

static int vexfs_mmap(struct file *file, struct vm_area_struct *vma)
{
	file_accessed(file);
	vma->vm_ops = &vexfs_vm_ops;
	return 0;
}

/* ------------------------------------------------------------------ syncing */
/* Times kept by the VFS go to the core, file data to the device; then the core writes its log, and flushes the device. */
int vexfs_fsync(struct file *file, loff_t start, loff_t end, int datasync)
{
	struct inode *inode = file->f_mapping->host;
	int err, err2;

	err = file_write_and_wait_range(file, start, end);
	if (err)
		return err;
	if (!datasync || (inode->i_state & I_DIRTY_DATASYNC))
		err = sync_inode_metadata(inode, 1);
	if (err)
		return err;
	trace_vexfs_sync(inode->i_sb, inode->i_ino);
	err2 = vexfs_check(inode->i_sb, vx_inode_sync(vexfs_core(inode)));
	trace_vexfs_synced(inode->i_sb, inode->i_ino, err2);
	return err2;
}

/* ------------------------------------------------------------------ seeking and reports */
static loff_t vexfs_llseek(struct file *file, loff_t offset, int whence)
{
	struct inode *inode = file->f_mapping->host;

	if (whence != SEEK_HOLE && whence != SEEK_DATA)
		return generic_file_llseek(file, offset, whence);
	inode_lock_shared(inode);
	if (whence == SEEK_HOLE)
		offset = iomap_seek_hole(inode, offset, &vexfs_read_ops);
	else
		offset = iomap_seek_data(inode, offset, &vexfs_read_ops);
	inode_unlock_shared(inode);
	if (offset < 0)
		return offset;
	return vfs_setpos(file, offset, inode->i_sb->s_maxbytes);
}

static int vexfs_fiemap(struct inode *inode, struct fiemap_extent_info *info, u64 start, u64 len)
{
	int err;

	inode_lock_shared(inode);
	err = iomap_fiemap(inode, info, start, min_t(u64, len, inode->i_sb->s_maxbytes), &vexfs_read_ops);
	inode_unlock_shared(inode);
	return err;
}

const struct inode_operations vexfs_file_iops = {
	.getattr = vexfs_getattr,
	.setattr = vexfs_setattr,
	.listxattr = vexfs_listxattr,
	.fiemap = vexfs_fiemap,
	.fileattr_get = vexfs_fileattr_get,
	.fileattr_set = vexfs_fileattr_set,
};

const struct file_operations vexfs_file_fops = {
	.llseek = vexfs_llseek,
	.open = vexfs_open,
	.read_iter = vexfs_read_iter,
	.write_iter = vexfs_write_iter,
	.splice_read = vx_splice_read,
	.splice_write = iter_file_splice_write,
	.mmap = vexfs_mmap,
	.get_unmapped_area = thp_get_unmapped_area,
	.fsync = vexfs_fsync,
	.fallocate = vexfs_fallocate,
	.remap_file_range = vexfs_remap_file_range,
	.unlocked_ioctl = vexfs_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.uring_cmd = vexfs_uring_cmd,
};
