// SPDX-License-Identifier: GPL-2.0-only
/*
 * .vexfs/snapshots/NAME: every snapshot as a directory of the filesystem, mounted when somebody walks into it.
 *
 * ".vexfs" is a name in the root directory that lookups find and readdir does not tell (as ZFS has its .zfs), unless there
 * is an entry of that name. Its inodes have no counterpart in the core: i_op and i_fop are all that is ever called of
 * them, S_IMMUTABLE keeps the VFS from passing them to operations of their parent.
 *
 * What is mounted on NAME is the superblock that "mount -o snapshot=NAME" would get. It goes away when it has not been
 * used for a while, and when the filesystem that it is in is unmounted: the VFS takes mounts that expire along.
 */
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "internal.h"
#include "vexfs_abi.h"

#define VEXFS_HISTORY_EXPIRY (60 * HZ)
#define VEXFS_HISTORY_CACHE SZ_64M /* for vectors, in each: anybody may look at all of them at once */
/* Object ids are a counter from 1 on, and will not come here. */
#define VEXFS_HISTORY_INO(n) (~0UL - (n))

static LIST_HEAD(vexfs_expiring);
static void vexfs_expire(struct work_struct *work);
static DECLARE_DELAYED_WORK(vexfs_expiry, vexfs_expire);

static void vexfs_expire(struct work_struct *work)
{
	mark_mounts_for_expiry(&vexfs_expiring);
	if (!list_empty(&vexfs_expiring))
		schedule_delayed_work(&vexfs_expiry, VEXFS_HISTORY_EXPIRY);
}

/* Mounts that nobody is in go now: the first time marks them, the second takes what is still marked. */
void vexfs_history_expire_now(void)
{
	mark_mounts_for_expiry(&vexfs_expiring);
	mark_mounts_for_expiry(&vexfs_expiring);
}

void vexfs_history_exit(void)
{
	cancel_delayed_work_sync(&vexfs_expiry);
}

/* ------------------------------------------------------------------ inodes */
static int vexfs_history_getattr(vx_idmap *idmap, const struct path *path, struct kstat *stat, u32 mask,
				 unsigned int flags)
{
	vx_fillattr(idmap, mask, d_inode(path->dentry), stat);
	return 0;
}

static struct inode *vexfs_history_inode(struct super_block *sb, u64 number, const struct inode_operations *iop,
					 const struct file_operations *fop)
{
	struct inode *inode = new_inode(sb);
	struct timespec64 now;

	if (!inode)
		return ERR_PTR(-ENOMEM);
	inode->i_ino = VEXFS_HISTORY_INO(number);
	inode->i_mode = S_IFDIR | 0555;
	inode->i_opflags &= ~IOP_XATTR;
	inode->i_op = iop;
	inode->i_fop = fop;
	set_nlink(inode, 2);
	now = current_time(inode);
	inode_set_atime_to_ts(inode, now);
	inode_set_mtime_to_ts(inode, now);
	inode_set_ctime_to_ts(inode, now);
	inode_set_flags(inode, S_IMMUTABLE | S_NOATIME, S_IMMUTABLE | S_NOATIME);
	return inode;
}

/* ------------------------------------------------------------------ NAME */
/* The name is kept by the dentry alone: the inode says which snapshot it was, so that a new one of the same name is seen. */
static int vexfs_history_revalidate_name(const struct dentry *dentry, const struct qstr *name)
{
	u64 id;
	int err = vx_snapshot_find(vexfs_sb(dentry->d_sb)->core, name->name, name->len, &id);

	if (d_really_is_negative(dentry))
		return err == -ENOENT;
	return !err && d_inode(dentry)->i_ino == VEXFS_HISTORY_INO(id + 1);
}

static int vexfs_history_valid(struct dentry *dentry)
{
	struct name_snapshot name;
	int valid;

	if (d_mountpoint(dentry)) /* the snapshot that is there is in use, so it exists */
		return 1;
	take_dentry_name_snapshot(&name, dentry);
	valid = vexfs_history_revalidate_name(dentry, &name.name);
	release_dentry_name_snapshot(&name);
	return valid;
}

static int vexfs_history_revalidate(struct dentry *dentry, unsigned int flags)
{
	if (flags & LOOKUP_RCU)
		return -ECHILD;
	return vexfs_history_valid(dentry);
}

static struct vfsmount *vexfs_history_mount(struct path *path)
{
	struct super_block *sb = path->dentry->d_sb;
	struct vfsmount *mnt;
	struct fs_context *fc;
	struct vexfs_opts *o;
	char source[48];
	int err;

	if (is_idmapped_mnt(path->mnt)) /* the snapshot's mount would not be: its files would belong to others */
		return ERR_PTR(-EOPNOTSUPP);
	if (path->dentry->d_name.len >= VEXFS_SNAPSHOT_NAME_BYTES)
		return ERR_PTR(-ENOENT);
	fc = fs_context_for_submount(&vexfs_type, path->dentry);
	if (IS_ERR(fc))
		return ERR_CAST(fc);
	o = fc->fs_private;
	/* No operation renames here, so that the name stays what it is. */
	strscpy(o->snapshot, path->dentry->d_name.name, sizeof(o->snapshot));
	o->owner = sb;
	o->vector_cache = VEXFS_HISTORY_CACHE;
	snprintf(source, sizeof(source), "/dev/%s", sb->s_id);
	err = vfs_parse_fs_string(fc, "source", source, strlen(source));
	mnt = err ? ERR_PTR(err) : fc_mount(fc);
	put_fs_context(fc);
	if (IS_ERR(mnt))
		return mnt;
	mntget(mnt); /* the VFS wants to see that it cannot expire before it is in its place */
	mnt_set_expiry(mnt, &vexfs_expiring);
	schedule_delayed_work(&vexfs_expiry, VEXFS_HISTORY_EXPIRY);
	return mnt;
}

static const struct dentry_operations vexfs_history_dops = {
	.d_revalidate = vexfs_history_revalidate,
	.d_delete = always_delete_dentry,
	.d_automount = vexfs_history_mount,
};

static const struct inode_operations vexfs_history_name_iops = {
	.getattr = vexfs_history_getattr,
};

static const struct file_operations vexfs_history_name_fops = {
	.open = simple_open,
};

/* ------------------------------------------------------------------ .vexfs/snapshots */
static struct dentry *vexfs_history_lookup_name(struct inode *dir, struct dentry *dentry, unsigned int flags)
{
	struct inode *inode = NULL;
	u64 id;
	int err = vx_snapshot_find(vexfs_sb(dir->i_sb)->core, dentry->d_name.name, dentry->d_name.len, &id);

	if (err && err != -ENOENT)
		return ERR_PTR(vexfs_check(dir->i_sb, err));
	if (!err) {
		inode = vexfs_history_inode(dir->i_sb, id + 1, &vexfs_history_name_iops, &vexfs_history_name_fops);
		if (IS_ERR(inode))
			return ERR_CAST(inode);
		inode->i_flags |= S_AUTOMOUNT;
	}
	d_set_d_op(dentry, &vexfs_history_dops);
	return d_splice_alias(inode, dentry);
}

static int vexfs_history_iterate(struct file *file, struct dir_context *ctx)
{
	struct super_block *sb = file_inode(file)->i_sb;
	char name[VEXFS_SNAPSHOT_NAME_BYTES];
	u64 id;
	int err;

	if (!dir_emit_dots(file, ctx))
		return 0;
	for (id = ctx->pos - 1;; id++) {
		err = vx_snapshot_next(vexfs_sb(sb)->core, &id, name);
		if (err)
			return err == -ENOENT ? 0 : vexfs_check(sb, err);
		ctx->pos = id + 1;
		if (!dir_emit(ctx, name, strnlen(name, sizeof(name)), VEXFS_HISTORY_INO(id + 1), DT_DIR))
			return 0;
		ctx->pos = id + 2;
	}
}

static const struct inode_operations vexfs_history_list_iops = {
	.lookup = vexfs_history_lookup_name,
	.getattr = vexfs_history_getattr,
};

static const struct file_operations vexfs_history_list_fops = {
	.llseek = generic_file_llseek,
	.read = generic_read_dir,
	.iterate_shared = vexfs_history_iterate,
};

/* ------------------------------------------------------------------ .vexfs */
static struct dentry *vexfs_history_lookup(struct inode *dir, struct dentry *dentry, unsigned int flags)
{
	struct inode *inode = NULL;

	if (dentry->d_name.len == 9 && !memcmp(dentry->d_name.name, "snapshots", 9))
		inode = vexfs_history_inode(dir->i_sb, 1, &vexfs_history_list_iops, &vexfs_history_list_fops);
	if (IS_ERR(inode))
		return ERR_CAST(inode);
	return d_splice_alias(inode, dentry);
}

static int vexfs_history_iterate_top(struct file *file, struct dir_context *ctx)
{
	if (!dir_emit_dots(file, ctx))
		return 0;
	if (ctx->pos == 2 && dir_emit(ctx, "snapshots", 9, VEXFS_HISTORY_INO(1), DT_DIR))
		ctx->pos = 3;
	return 0;
}

static const struct inode_operations vexfs_history_iops = {
	.lookup = vexfs_history_lookup,
	.getattr = vexfs_history_getattr,
};

static const struct file_operations vexfs_history_fops = {
	.llseek = generic_file_llseek,
	.read = generic_read_dir,
	.iterate_shared = vexfs_history_iterate_top,
};

/* For a name that the directory does not have: the inode of ".vexfs", if it is that; NULL if it is not. */
struct inode *vexfs_history_of(struct inode *dir, const struct qstr *name)
{
	struct vexfs_sb *sbi = vexfs_sb(dir->i_sb);

	if (dir->i_ino != sbi->info.root_ino || sbi->owner || name->len != 6 || memcmp(name->name, ".vexfs", 6))
		return NULL;
	return vexfs_history_inode(dir->i_sb, 0, &vexfs_history_iops, &vexfs_history_fops);
}

/* ------------------------------------------------------------------ searches in a snapshot */
/*
 * The same directory or file as it was in the snapshot, opened. Whoever has it open now may ask; what it was then decides
 * about the rest.
 */
struct file *vexfs_history_open(struct file *file, u64 id)
{
	struct super_block *sb = file_inode(file)->i_sb;
	char where[32 + VEXFS_SNAPSHOT_NAME_BYTES], name[VEXFS_SNAPSHOT_NAME_BYTES];
	struct inode *inode;
	struct path path, then;
	struct file *opened;
	u64 found = id;
	int err = vx_snapshot_next(vexfs_sb(sb)->core, &found, name);

	if (err || found != id)
		return ERR_PTR(err ?: -ENOENT);
	if (file->f_path.mnt->mnt_root != sb->s_root) /* nothing is to be mounted outside of what this mount shows */
		return ERR_PTR(-EOPNOTSUPP);
	snprintf(where, sizeof(where), ".vexfs/snapshots/%.*s", VEXFS_SNAPSHOT_NAME_BYTES, name);
	err = vfs_path_lookup(sb->s_root, file->f_path.mnt, where, LOOKUP_FOLLOW | LOOKUP_DIRECTORY | LOOKUP_AUTOMOUNT,
			      &path);
	if (err)
		return ERR_PTR(err);
	then.mnt = path.mnt;
	opened = ERR_PTR(-ENOENT);
	if (path.dentry->d_sb->s_type == &vexfs_type && vexfs_sb(path.dentry->d_sb)->owner == sb &&
	    vexfs_sb(path.dentry->d_sb)->snapshot_id == id) {
		inode = vexfs_iget(path.dentry->d_sb, file_inode(file)->i_ino, file_inode(file)->i_generation);
		if (!IS_ERR(inode) && !S_ISREG(inode->i_mode) && !S_ISDIR(inode->i_mode)) {
			iput(inode);
			inode = ERR_PTR(-ENOENT);
		}
		then.dentry = d_obtain_alias(inode); /* takes errors too */
		if (IS_ERR(then.dentry)) {
			opened = ERR_CAST(then.dentry);
			if (opened == ERR_PTR(-ESTALE)) /* it did not exist then */
				opened = ERR_PTR(-ENOENT);
		} else {
			opened = dentry_open(&then, O_RDONLY | O_NOATIME, current_cred());
			dput(then.dentry);
		}
	}
	path_put(&path);
	return opened;
}
