// SPDX-License-Identifier: GPL-2.0-only
/* Names: lookup, and every operation that makes, moves or removes one. */
#include <linux/fs.h>
#include <linux/namei.h>

#include "internal.h"

static struct dentry *vexfs_lookup(struct inode *dir, struct dentry *dentry, unsigned int flags)
{
	struct inode *inode = NULL;
	u64 ino;
	int err;

	if (dentry->d_name.len > vexfs_sb(dir->i_sb)->info.name_max)
		return ERR_PTR(-ENAMETOOLONG);
	err = vx_lookup(vexfs_core(dir), dentry->d_name.name, dentry->d_name.len, &ino);
	if (!err) {
		inode = vexfs_iget(dir->i_sb, ino, 0);
		if (inode == ERR_PTR(-ENOENT) || inode == ERR_PTR(-ESTALE)) {
			pr_err("vexfs: %s: directory %lu names inode %llu, which does not exist\n", dir->i_sb->s_id,
			       dir->i_ino, ino);
			return ERR_PTR(-EUCLEAN);
		}
	} else if (err != -ENOENT) {
		return ERR_PTR(vexfs_check(dir->i_sb, err));
	} else {
		inode = vexfs_history_of(dir, &dentry->d_name);
	}
	return d_splice_alias(inode, dentry);
}

/* A name has changed. Mounted or marked with sync or dirsync, the directory says so only when it is on the device. */
static int vexfs_dir_done(struct inode *dir)
{
	if (!IS_DIRSYNC(dir))
		return 0;
	return vexfs_check(dir->i_sb, vx_inode_sync(vexfs_core(dir)));
}

/* ------------------------------------------------------------------ new inodes */
struct vexfs_new {
	umode_t mode;
	dev_t rdev;
	const char *target; /* of a symlink */
};

static struct vx_attr vexfs_new_attr(struct inode *inode, dev_t rdev)
{
	return (struct vx_attr){
		.mode = inode->i_mode,
		.uid = i_uid_read(inode),
		.gid = i_gid_read(inode),
		.rdev = new_encode_dev(rdev),
	};
}

/*
 * Joins what the core has just made with the VFS inode that was prepared for it. Somebody with a file handle may have
 * been faster: then theirs is the inode, and the prepared one is dropped.
 */
static struct inode *vexfs_join_new(struct inode *inode, struct vx_inode *core)
{
	struct super_block *sb = inode->i_sb;
	u64 ino = vx_ino(core);
	int err = vexfs_inode_attach(inode, core);

	if (err) {
		vx_iput(core);
		iput(inode);
		return ERR_PTR(err);
	}
	if (!insert_inode_locked(inode))
		return inode;
	/* Not hashed, so that dropping it evicts it, and with it the reference on the core's inode. */
	iput(inode);
	return vexfs_iget(sb, ino, 0);
}

static void vexfs_discard(struct inode *inode)
{
	if (inode->i_state & I_NEW)
		discard_new_inode(inode);
	else
		iput(inode);
}

static struct inode *vexfs_make(vx_idmap *idmap, struct inode *dir, struct dentry *dentry, const struct vexfs_new *n)
{
	struct vx_time now = vexfs_now(dir);
	struct vx_inode *core;
	struct inode *inode;
	struct vx_attr a;
	int err;

	if (dentry->d_name.len > vexfs_sb(dir->i_sb)->info.name_max)
		return ERR_PTR(-ENAMETOOLONG);
	inode = new_inode(dir->i_sb);
	if (!inode)
		return ERR_PTR(-ENOMEM);
	inode_init_owner(idmap, inode, dir, n->mode);
	a = vexfs_new_attr(inode, n->rdev);
	err = vx_create(vexfs_core(dir), dentry->d_name.name, dentry->d_name.len, &a, n->target,
			n->target ? strlen(n->target) : 0, &now, &core);
	if (err) {
		iput(inode);
		return ERR_PTR(vexfs_check(dir->i_sb, err));
	}
	vexfs_refresh_dir(dir);
	return vexfs_join_new(inode, core);
}

static int vexfs_instantiate(struct dentry *dentry, struct inode *inode)
{
	struct dentry *other;

	if (inode->i_state & I_NEW) {
		d_instantiate_new(dentry, inode);
		return 0;
	}
	/* Somebody with a file handle may have given the inode a dentry too, and a directory has one and no more. */
	d_drop(dentry);
	other = d_splice_alias(inode, dentry);
	if (IS_ERR(other))
		return PTR_ERR(other);
	dput(other);
	return 0;
}

static int vexfs_make_entry(vx_idmap *idmap, struct inode *dir, struct dentry *dentry, const struct vexfs_new *n)
{
	struct inode *inode = vexfs_make(idmap, dir, dentry, n);
	struct vx_time now = vexfs_now(dir);
	int err;

	if (IS_ERR(inode))
		return PTR_ERR(inode);
	err = vexfs_init_security(inode, dir, &dentry->d_name);
	if (err) {
		vx_unlink(vexfs_core(dir), dentry->d_name.name, dentry->d_name.len, S_ISDIR(n->mode), &now);
		vexfs_refresh_dir(dir);
		vexfs_refresh_links(inode);
		vexfs_discard(inode);
		return err;
	}
	err = vexfs_instantiate(dentry, inode);
	return err ?: vexfs_dir_done(dir);
}

static int vexfs_create(vx_idmap *idmap, struct inode *dir, struct dentry *dentry, umode_t mode, bool excl)
{
	return vexfs_make_entry(idmap, dir, dentry, &(struct vexfs_new){ .mode = (mode & ~S_IFMT) | S_IFREG });
}

static int vexfs_mkdir(vx_idmap *idmap, struct inode *dir, struct dentry *dentry, umode_t mode)
{
	return vexfs_make_entry(idmap, dir, dentry, &(struct vexfs_new){ .mode = (mode & ~S_IFMT) | S_IFDIR });
}

static int vexfs_mknod(vx_idmap *idmap, struct inode *dir, struct dentry *dentry, umode_t mode, dev_t rdev)
{
	return vexfs_make_entry(idmap, dir, dentry, &(struct vexfs_new){ .mode = mode, .rdev = rdev });
}

static int vexfs_symlink(vx_idmap *idmap, struct inode *dir, struct dentry *dentry, const char *target)
{
	return vexfs_make_entry(idmap, dir, dentry, &(struct vexfs_new){ .mode = S_IFLNK | 0777, .target = target });
}

static int vexfs_tmpfile(vx_idmap *idmap, struct inode *dir, struct file *file, umode_t mode)
{
	struct vx_time now = vexfs_now(dir);
	struct vx_inode *core;
	struct inode *inode;
	struct vx_attr a;
	int err;

	inode = new_inode(dir->i_sb);
	if (!inode)
		return -ENOMEM;
	inode_init_owner(idmap, inode, dir, mode);
	a = vexfs_new_attr(inode, 0);
	err = vx_tmpfile(vexfs_core(dir), &a, &now, &core);
	if (err) {
		iput(inode);
		return vexfs_check(dir->i_sb, err);
	}
	inode = vexfs_join_new(inode, core);
	if (IS_ERR(inode))
		return PTR_ERR(inode);
	err = vexfs_init_security(inode, dir, NULL);
	if (err) {
		vexfs_discard(inode);
		return err;
	}
	set_nlink(inode, 1); /* d_tmpfile takes it back */
	d_tmpfile(file, inode);
	if (inode->i_state & I_NEW)
		unlock_new_inode(inode);
	return finish_open_simple(file, 0);
}

/* ------------------------------------------------------------------ links */
static int vexfs_link(struct dentry *old, struct inode *dir, struct dentry *dentry)
{
	struct inode *inode = d_inode(old);
	struct vx_time now = vexfs_now(dir);
	int err;

	if (dentry->d_name.len > vexfs_sb(dir->i_sb)->info.name_max)
		return -ENAMETOOLONG;
	err = vx_link(vexfs_core(dir), dentry->d_name.name, dentry->d_name.len, vexfs_core(inode), &now);
	if (err)
		return vexfs_check(dir->i_sb, err);
	vexfs_refresh_dir(dir);
	vexfs_refresh_links(inode);
	ihold(inode);
	d_instantiate(dentry, inode);
	return vexfs_dir_done(dir);
}

static int vexfs_remove(struct inode *dir, struct dentry *dentry, bool rmdir)
{
	struct vx_time now = vexfs_now(dir);
	int err = vx_unlink(vexfs_core(dir), dentry->d_name.name, dentry->d_name.len, rmdir, &now);

	if (err)
		return vexfs_check(dir->i_sb, err);
	vexfs_refresh_dir(dir);
	vexfs_refresh_links(d_inode(dentry));
	return vexfs_dir_done(dir);
}

static int vexfs_unlink(struct inode *dir, struct dentry *dentry)
{
	return vexfs_remove(dir, dentry, false);
}

static int vexfs_rmdir(struct inode *dir, struct dentry *dentry)
{
	return vexfs_remove(dir, dentry, true);
}

static struct vx_attr vexfs_whiteout_attr(vx_idmap *idmap, struct inode *dir)
{
	return (struct vx_attr){
		.mode = S_IFCHR | WHITEOUT_MODE,
		.uid = from_kuid(&init_user_ns, mapped_fsuid(idmap, dir->i_sb->s_user_ns)),
		.gid = dir->i_mode & S_ISGID ? i_gid_read(dir) :
					       from_kgid(&init_user_ns, mapped_fsgid(idmap, dir->i_sb->s_user_ns)),
		.rdev = new_encode_dev(WHITEOUT_DEV),
	};
}

static int vexfs_rename(vx_idmap *idmap, struct inode *odir, struct dentry *old, struct inode *ndir, struct dentry *new,
			unsigned int flags)
{
	struct inode *target = d_inode(new);
	struct vx_time now = vexfs_now(odir);
	struct vx_attr whiteout;
	unsigned int vx = 0;
	int err;

	if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	if (new->d_name.len > vexfs_sb(odir->i_sb)->info.name_max)
		return -ENAMETOOLONG;
	if (flags & RENAME_NOREPLACE)
		vx |= VX_RENAME_NOREPLACE;
	if (flags & RENAME_EXCHANGE)
		vx |= VX_RENAME_EXCHANGE;
	if (flags & RENAME_WHITEOUT) {
		vx |= VX_RENAME_WHITEOUT;
		whiteout = vexfs_whiteout_attr(idmap, odir);
	}
	err = vx_rename(vexfs_core(odir), old->d_name.name, old->d_name.len, vexfs_core(ndir), new->d_name.name,
			new->d_name.len, vx, flags & RENAME_WHITEOUT ? &whiteout : NULL, &now);
	if (err)
		return vexfs_check(odir->i_sb, err);
	vexfs_refresh_dir(odir);
	if (ndir != odir)
		vexfs_refresh_dir(ndir);
	vexfs_refresh_links(d_inode(old));
	if (target)
		vexfs_refresh_links(target);
	err = vexfs_dir_done(odir);
	return err ?: vexfs_dir_done(ndir);
}

const struct inode_operations vexfs_dir_iops = {
	.lookup = vexfs_lookup,
	.create = vexfs_create,
	.link = vexfs_link,
	.unlink = vexfs_unlink,
	.symlink = vexfs_symlink,
	.mkdir = vexfs_mkdir,
	.rmdir = vexfs_rmdir,
	.mknod = vexfs_mknod,
	.rename = vexfs_rename,
	.tmpfile = vexfs_tmpfile,
	.getattr = vexfs_getattr,
	.setattr = vexfs_setattr,
	.listxattr = vexfs_listxattr,
	.fileattr_get = vexfs_fileattr_get,
	.fileattr_set = vexfs_fileattr_set,
};

const struct inode_operations vexfs_special_iops = {
	.getattr = vexfs_getattr,
	.setattr = vexfs_setattr,
	.listxattr = vexfs_listxattr,
};
