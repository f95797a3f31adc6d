// SPDX-License-Identifier: GPL-2.0-only
/* Inodes of the VFS and of the core: joining them, attributes, writing back, letting go. */
#include <linux/blkdev.h>
#include <linux/fileattr.h>
#include <linux/fs.h>
#include <linux/mount.h>

#include "internal.h"

/* ------------------------------------------------------------------ core -> VFS */
static void vexfs_set_vfs_flags(struct inode *inode, u32 flags)
{
	unsigned int f = 0;

	if (flags & VX_INODE_IMMUTABLE)
		f |= S_IMMUTABLE;
	if (flags & VX_INODE_APPEND)
		f |= S_APPEND;
	if (flags & VX_INODE_NOATIME)
		f |= S_NOATIME;
	if (flags & VX_INODE_SYNC)
		f |= S_SYNC;
	inode_set_flags(inode, f, S_IMMUTABLE | S_APPEND | S_NOATIME | S_SYNC);
}

static int vexfs_set_ops(struct inode *inode, dev_t rdev)
{
	switch (inode->i_mode & S_IFMT) {
	case S_IFREG:
		inode->i_op = &vexfs_file_iops;
		inode->i_fop = &vexfs_file_fops;
		inode->i_mapping->a_ops = &vexfs_aops;
		vx_set_large_folios(inode->i_mapping);
		return 0;
	case S_IFDIR:
		inode->i_op = &vexfs_dir_iops;
		inode->i_fop = &vexfs_dir_fops;
		return 0;
	case S_IFLNK:
		inode->i_op = &vexfs_symlink_iops;
		return 0;
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		inode->i_op = &vexfs_special_iops;
		init_special_inode(inode, inode->i_mode, rdev);
		return 0;
	}
	pr_err("vexfs: %s: inode %lu has mode %o, which is of no known type\n", inode->i_sb->s_id, inode->i_ino,
	       inode->i_mode);
	return -EUCLEAN;
}

/* Fills a new VFS inode from the core's, whose reference it takes over on success. */
int vexfs_inode_attach(struct inode *inode, struct vx_inode *core)
{
	struct vexfs_inode *vi = vexfs_i(inode);
	struct vx_attr a;
	int err;

	vx_getattr(core, &a);
	inode->i_ino = a.ino;
	inode->i_mode = a.mode;
	i_uid_write(inode, a.uid);
	i_gid_write(inode, a.gid);
	set_nlink(inode, a.nlink);
	inode->i_generation = a.generation;
	inode->i_size = a.size;
	inode_set_atime_to_ts(inode, vexfs_timespec(a.atime));
	inode_set_mtime_to_ts(inode, vexfs_timespec(a.mtime));
	inode_set_ctime_to_ts(inode, vexfs_timespec(a.ctime));
	vi->btime = vexfs_timespec(a.btime);
	vi->flags = a.flags;
	vexfs_set_vfs_flags(inode, a.flags);
	err = vexfs_set_ops(inode, new_decode_dev(a.rdev));
	if (!err)
		vi->core = core;
	return err;
}

struct inode *vexfs_iget(struct super_block *sb, u64 ino, u32 generation)
{
	struct inode *inode = iget_locked(sb, ino);
	struct vx_inode *core;
	int err;

	if (!inode)
		return ERR_PTR(-ENOMEM);
	if (!(inode->i_state & I_NEW)) {
		if (generation && inode->i_generation != generation) {
			iput(inode);
			return ERR_PTR(-ESTALE);
		}
		return inode;
	}
	err = vx_iget(vexfs_sb(sb)->core, ino, generation, &core);
	if (!err) {
		err = vexfs_inode_attach(inode, core);
		if (err)
			vx_iput(core);
	}
	if (err) {
		iget_failed(inode);
		return ERR_PTR(vexfs_check(sb, err));
	}
	unlock_new_inode(inode);
	return inode;
}

/* After an operation that changed the links of an inode: what the core counted is what is true. */
void vexfs_refresh_links(struct inode *inode)
{
	struct vx_attr a;

	vx_getattr(vexfs_core(inode), &a);
	set_nlink(inode, a.nlink);
	inode_set_ctime_to_ts(inode, vexfs_timespec(a.ctime));
}

void vexfs_refresh_dir(struct inode *dir)
{
	struct vx_attr a;

	vx_getattr(vexfs_core(dir), &a);
	set_nlink(dir, a.nlink);
	i_size_write(dir, a.size);
	inode_set_mtime_to_ts(dir, vexfs_timespec(a.mtime));
	inode_set_ctime_to_ts(dir, vexfs_timespec(a.ctime));
}

/* ------------------------------------------------------------------ attributes */
int vexfs_getattr(vx_idmap *idmap, const struct path *path, struct kstat *stat, u32 mask, unsigned int flags)
{
	struct inode *inode = d_inode(path->dentry);
	struct vexfs_inode *vi = vexfs_i(inode);
	struct vx_attr a;

	vx_fillattr(idmap, mask, inode, stat);
	vx_getattr(vi->core, &a);
	stat->blocks = a.blocks;
	if (mask & STATX_BTIME) {
		stat->result_mask |= STATX_BTIME;
		stat->btime = vi->btime;
	}
	if (vi->flags & VX_INODE_IMMUTABLE)
		stat->attributes |= STATX_ATTR_IMMUTABLE;
	if (vi->flags & VX_INODE_APPEND)
		stat->attributes |= STATX_ATTR_APPEND;
	if (vi->flags & VX_INODE_NODUMP)
		stat->attributes |= STATX_ATTR_NODUMP;
	stat->attributes_mask |= STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP;
	if ((mask & STATX_DIOALIGN) && S_ISREG(inode->i_mode)) {
		stat->result_mask |= STATX_DIOALIGN;
		stat->dio_mem_align = bdev_dma_alignment(vexfs_bdev(inode)) + 1;
		stat->dio_offset_align = bdev_logical_block_size(vexfs_bdev(inode));
	}
	return 0;
}

static u32 vexfs_attr_mask(unsigned int valid)
{
	u32 mask = VX_SET_CTIME;

	if (valid & ATTR_MODE)
		mask |= VX_SET_MODE;
	if (valid & ATTR_UID)
		mask |= VX_SET_UID;
	if (valid & ATTR_GID)
		mask |= VX_SET_GID;
	if (valid & ATTR_ATIME)
		mask |= VX_SET_ATIME;
	if (valid & ATTR_MTIME)
		mask |= VX_SET_MTIME;
	return mask;
}

static struct vx_attr vexfs_attr_of(struct inode *inode)
{
	return (struct vx_attr){
		.mode = inode->i_mode,
		.uid = i_uid_read(inode),
		.gid = i_gid_read(inode),
		.atime = vexfs_time(inode_get_atime(inode)),
		.mtime = vexfs_time(inode_get_mtime(inode)),
		.ctime = vexfs_time(inode_get_ctime(inode)),
	};
}

int vexfs_setattr(vx_idmap *idmap, struct dentry *dentry, struct iattr *attr)
{
	struct inode *inode = d_inode(dentry);
	struct timespec64 atime, mtime, ctime;
	struct vx_attr a;
	umode_t mode;
	kuid_t uid;
	kgid_t gid;
	int err;

	err = setattr_prepare(idmap, dentry, attr);
	if (err)
		return err;
	if (attr->ia_valid & ATTR_SIZE) {
		/* truncate(2) leaves it to us to say that the contents changed; open(O_TRUNC) and ftruncate(2) do not. */
		if (attr->ia_size != i_size_read(inode))
			attr->ia_valid |= ATTR_MTIME | ATTR_CTIME;
		err = vexfs_set_size(inode, attr->ia_size);
		if (err)
			return vexfs_check(inode->i_sb, err);
	}

	mode = inode->i_mode;
	uid = inode->i_uid;
	gid = inode->i_gid;
	atime = inode_get_atime(inode);
	mtime = inode_get_mtime(inode);
	ctime = inode_get_ctime(inode);
	setattr_copy(idmap, inode, attr);
	a = vexfs_attr_of(inode);
	err = vx_setattr(vexfs_core(inode), vexfs_attr_mask(attr->ia_valid), &a);
	if (err) {
		inode->i_mode = mode;
		inode->i_uid = uid;
		inode->i_gid = gid;
		inode_set_atime_to_ts(inode, atime);
		inode_set_mtime_to_ts(inode, mtime);
		inode_set_ctime_to_ts(inode, ctime);
	} else if (IS_SYNC(inode)) {
		err = vx_inode_sync(vexfs_core(inode));
	}
	return vexfs_check(inode->i_sb, err);
}

int vexfs_fileattr_get(struct dentry *dentry, struct fileattr *fa)
{
	u32 flags = vexfs_i(d_inode(dentry))->flags;
	u32 fs = 0;

	if (flags & VX_INODE_IMMUTABLE)
		fs |= FS_IMMUTABLE_FL;
	if (flags & VX_INODE_APPEND)
		fs |= FS_APPEND_FL;
	if (flags & VX_INODE_NODUMP)
		fs |= FS_NODUMP_FL;
	if (flags & VX_INODE_NOATIME)
		fs |= FS_NOATIME_FL;
	if (flags & VX_INODE_SYNC)
		fs |= FS_SYNC_FL;
	if (flags & VX_INODE_NOSUM)
		fs |= FS_NOCOW_FL;
	fileattr_fill_flags(fa, fs);
	return 0;
}

#define VEXFS_FS_FLAGS \
	(FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL | FS_SYNC_FL | FS_NOCOW_FL)
#define VEXFS_VX_FLAGS \
	(VX_INODE_IMMUTABLE | VX_INODE_APPEND | VX_INODE_NODUMP | VX_INODE_NOATIME | VX_INODE_SYNC | VX_INODE_NOSUM)

int vexfs_fileattr_set(vx_idmap *idmap, struct dentry *dentry, struct fileattr *fa)
{
	struct inode *inode = d_inode(dentry);
	struct vexfs_inode *vi = vexfs_i(inode);
	struct timespec64 now = current_time(inode);
	struct vx_attr a = { .flags = vi->flags & ~VEXFS_VX_FLAGS, .ctime = vexfs_time(now) };
	int err;

	if (fileattr_has_fsx(fa) || (fa->flags & ~VEXFS_FS_FLAGS))
		return -EOPNOTSUPP;
	if (fa->flags & FS_IMMUTABLE_FL)
		a.flags |= VX_INODE_IMMUTABLE;
	if (fa->flags & FS_APPEND_FL)
		a.flags |= VX_INODE_APPEND;
	if (fa->flags & FS_NODUMP_FL)
		a.flags |= VX_INODE_NODUMP;
	if (fa->flags & FS_NOATIME_FL)
		a.flags |= VX_INODE_NOATIME;
	if (fa->flags & FS_SYNC_FL)
		a.flags |= VX_INODE_SYNC;
	if (fa->flags & FS_NOCOW_FL)
		a.flags |= VX_INODE_NOSUM;
	/* Direct writes that were begun in place end before the blocks may move. The VFS holds i_rwsem. */
	if (S_ISREG(inode->i_mode) && ((a.flags ^ vi->flags) & VX_INODE_NOSUM))
		inode_dio_wait(inode);
	err = vx_setattr(vi->core, VX_SET_FLAGS | VX_SET_CTIME, &a);
	if (err)
		return vexfs_check(inode->i_sb, err);
	vi->flags = a.flags;
	vexfs_set_vfs_flags(inode, a.flags);
	inode_set_ctime_to_ts(inode, now);
	return 0;
}

/* ------------------------------------------------------------------ writing back, letting go */
/* Everything but the times is given to the core when it changes; times wait here until the VFS writes the inode. */
int vexfs_write_inode(struct inode *inode, struct writeback_control *wbc)
{
	struct vx_attr a = vexfs_attr_of(inode);
	int err;

	if (sb_rdonly(inode->i_sb))
		return 0;
	err = vx_setattr(vexfs_core(inode), VX_SET_ATIME | VX_SET_MTIME | VX_SET_CTIME, &a);
	return vexfs_check(inode->i_sb, err);
}

void vexfs_evict_inode(struct inode *inode)
{
	struct vexfs_inode *vi = vexfs_i(inode);
	/* The last reference to an unlinked inode deletes it, which a frozen filesystem has to wait with. */
	bool deletes = vi->core && !inode->i_nlink && !is_bad_inode(inode) && !sb_rdonly(inode->i_sb);

	truncate_inode_pages_final(&inode->i_data);
	clear_inode(inode);
	if (!vi->core)
		return;
	if (deletes)
		sb_start_intwrite(inode->i_sb);
	vx_iput(vi->core);
	if (deletes)
		sb_end_intwrite(inode->i_sb);
	vi->core = NULL;
}
