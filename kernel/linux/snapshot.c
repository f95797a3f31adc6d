// SPDX-License-Identifier: GPL-2.0-only
/*
 * Snapshots: making and deleting them, and mounting one.
 *
 * A mounted snapshot is a superblock of its own, read-only, with inodes and a page cache of its own. It has no device:
 * it reads that of the filesystem it is a snapshot of, which stays active as long as it does, and goes through a core that reads at the snapshot's roots.
 */
#include <linux/backing-dev.h>
#include <linux/blkdev.h>
#include <linux/capability.h>
#include <linux/fs_context.h>
#include <linux/mount.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "internal.h"
#include "vexfs_abi.h"
#include "vexfs_trace.h"

/* ------------------------------------------------------------------ making and deleting */
/*
 * A command whose argument was copied before, and is copied back afterwards: while everything is frozen, a page of this
 * very filesystem could not be written to.
 */
struct vexfs_copied {
	struct vx_caller c;
	u64 base; /* the user's address */
	size_t size;
	void *arg;
};

static void *vexfs_copied_at(struct vx_caller *c, u64 uaddr, size_t n)
{
	struct vexfs_copied *a = container_of(c, struct vexfs_copied, c);

	if (uaddr < a->base || uaddr - a->base > a->size || n > a->size - (uaddr - a->base))
		return NULL;
	return a->arg + (uaddr - a->base);
}

static int vexfs_copied_in(struct vx_caller *c, void *dst, u64 uaddr, size_t n)
{
	void *p = vexfs_copied_at(c, uaddr, n);

	if (!p)
		return -EFAULT;
	memcpy(dst, p, n);
	return 0;
}

static int vexfs_copied_out(struct vx_caller *c, u64 uaddr, const void *src, size_t n)
{
	void *p = vexfs_copied_at(c, uaddr, n);

	if (!p)
		return -EFAULT;
	memcpy(p, src, n);
	return 0;
}

/*
 * Freezing makes writers wait and writes everything back, faults on mapped pages included, so that the snapshot is of one
 * moment and everything done before is in it. What the core does meanwhile is not stopped by it.
 */
static int vexfs_create_frozen(struct inode *inode, u32 cmd, struct vexfs_copied *a)
{
	struct super_block *sb = inode->i_sb;
	int thawed;
	int err;

	down_read(&sb->s_umount);
	err = sync_filesystem(sb); /* most of what there is to write, while nobody has to wait for it */
	up_read(&sb->s_umount);
	if (!err)
		err = vx_freeze_super(sb);
	if (err)
		return err;
	err = vx_ioctl(vexfs_fs(inode), vexfs_core(inode), cmd, a->base, &a->c);
	atomic_long_inc(&vexfs_sb(sb)->kept_seq); /* a writeback that began before goes on after the thaw */
	thawed = vx_thaw_super(sb);
	if (thawed) /* somebody else was quicker: writers have not waited, but there it is */
		pr_warn("vexfs: %s: thawed while a snapshot was made (%d)\n", sb->s_id, thawed);
	return err;
}

static long vexfs_snapshot_create(struct inode *inode, u32 cmd, u64 uarg)
{
	struct vexfs_copied a = {
		.c = {
			.copy_in = vexfs_copied_in,
			.copy_out = vexfs_copied_out,
		},
		.base = uarg,
	};
	void __user *user = (void __user *)(unsigned long)uarg;
	u32 size;
	long err;

	if (uarg != (unsigned long)uarg || get_user(size, (u32 __user *)user))
		return -EFAULT;
	if (size < sizeof(size) || size > PAGE_SIZE)
		return size > PAGE_SIZE ? -E2BIG : -EINVAL;
	a.size = size;
	a.arg = memdup_user(user, size);
	if (IS_ERR(a.arg))
		return PTR_ERR(a.arg);
	*(u32 *)a.arg = size; /* as it was looked at */
	err = vexfs_create_frozen(inode, cmd, &a);
	if (!err && copy_to_user(user, a.arg, size))
		err = -EFAULT;
	kfree(a.arg);
	return err;
}

long vexfs_snapshot_command(struct file *file, u32 cmd, u64 uarg, struct vx_caller *c)
{
	struct inode *inode = file_inode(file);
	long err;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (sb_rdonly(inode->i_sb) || __mnt_is_readonly(file->f_path.mnt))
		return -EROFS;
	trace_vexfs_command(inode, _IOC_NR(cmd));
	if (_IOC_NR(cmd) == _IOC_NR(VEXFS_IOCTL_SNAPSHOT_CREATE)) {
		err = vexfs_snapshot_create(inode, cmd, uarg);
	} else {
		err = mnt_want_write_file(file);
		if (!err) {
			err = vx_ioctl(vexfs_fs(inode), vexfs_core(inode), cmd, uarg, c);
			/* Whoever asks again may find that it was mounted for nobody. */
			if (err == -EBUSY)
				vexfs_history_expire_now();
			mnt_drop_write_file(file);
		}
	}
	trace_vexfs_command_done(inode, _IOC_NR(cmd), err);
	return err;
}

/* ------------------------------------------------------------------ mounting */
/* The filesystem itself, which may be mounted already, for writing or not: active until deactivate_super(). */
static struct super_block *vexfs_hold_owner(const char *source)
{
	struct vfsmount *mnt = vfs_kern_mount(&vexfs_type, SB_RDONLY, source, NULL);
	struct super_block *sb;

	if (mnt == ERR_PTR(-EBUSY))
		mnt = vfs_kern_mount(&vexfs_type, 0, source, NULL);
	if (IS_ERR(mnt))
		return ERR_CAST(mnt);
	sb = mnt->mnt_sb;
	atomic_inc(&sb->s_active); /* the mount has it active too */
	mntput(mnt);
	return sb;
}

static int vexfs_same_snapshot(struct super_block *sb, struct fs_context *fc)
{
	const struct vexfs_sb *have = sb->s_fs_info;
	const struct vexfs_sb *want = fc->s_fs_info;

	/* Of a filesystem, which has a device, s_fs_info may be gone already; that of a snapshot leaves the list before. */
	return !sb->s_bdev && have && have->owner && have->owner == want->owner &&
	       have->snapshot_id == want->snapshot_id;
}

static int vexfs_mount_view(struct vexfs_sb *sbi)
{
	struct vx_mount_opts o = {
		.read_only = true,
		.errors = sbi->opts.errors,
		.node_cache_bytes = sbi->opts.node_cache,
		.vector_cache_bytes = sbi->opts.vector_cache,
	};
	unsigned int nofs = memalloc_nofs_save();
	int err = vx_snapshot_mount(vexfs_sb(sbi->owner)->core, sbi->snapshot_id, &o, &sbi->core);

	memalloc_nofs_restore(nofs);
	if (!err)
		vx_fs_info(sbi->core, &sbi->info);
	return err;
}

static int vexfs_fill_snapshot(struct super_block *sb, struct vexfs_sb *sbi)
{
	struct super_block *owner = sbi->owner;
	int err;

	sbi->sb = sb;
	sb->s_flags |= SB_RDONLY | SB_NOATIME;
	scnprintf(sb->s_id, sizeof(sb->s_id), "%.10s@%llu", owner->s_id, sbi->snapshot_id);
	strscpy(sbi->bdev.name, sb->s_id, sizeof(sbi->bdev.name));
	err = vexfs_mount_view(sbi);
	if (err)
		return err;
	/* No s_bdev: 6.1 would take this superblock for the filesystem's own when that is mounted again. */
	sbi->bdev.bdev = owner->s_bdev;
	sb->s_bdi = bdi_get(owner->s_bdi);
	sb->s_blocksize = owner->s_blocksize;
	sb->s_blocksize_bits = owner->s_blocksize_bits;
	return vexfs_fill_sb(sbi);
}

/* Takes over sbi, with its hold on the owner, whatever comes out. */
static int vexfs_snapshot_sb(struct fs_context *fc, struct vexfs_sb *sbi)
{
	struct super_block *sb;
	int err = 0;

	fc->s_fs_info = sbi;
	sb = sget_fc(fc, vexfs_same_snapshot, set_anon_super_fc);
	if (IS_ERR(sb) || sb->s_root) {
		struct super_block *owner = sbi->owner;

		fc->s_fs_info = NULL;
		kfree(sbi);
		deactivate_super(owner);
		if (IS_ERR(sb))
			return PTR_ERR(sb);
	} else {
		err = vexfs_fill_snapshot(sb, sbi);
		if (err) {
			deactivate_locked_super(sb);
			return err;
		}
		sb->s_flags |= SB_ACTIVE;
	}
	fc->root = dget(sb->s_root);
	return 0;
}

int vexfs_get_snapshot_tree(struct fs_context *fc)
{
	const struct vexfs_opts *o = fc->fs_private;
	struct super_block *owner = o->owner;
	struct vexfs_sb *sbi;
	u64 id;
	int err;

	if (!fc->source)
		return invalf(fc, "vexfs: no device given");
	fc->sb_flags |= SB_RDONLY;
	if (owner)
		atomic_inc(&owner->s_active); /* what we are below of has it active */
	else
		owner = vexfs_hold_owner(fc->source);
	if (IS_ERR(owner))
		return PTR_ERR(owner);
	err = vx_snapshot_find(vexfs_sb(owner)->core, o->snapshot, strlen(o->snapshot), &id);
	sbi = err ? NULL : vexfs_new_sb(o);
	if (sbi)
		sbi->opts.owner = NULL;
	if (!sbi) {
		if (err == -ENOENT)
			errorf(fc, "vexfs: %s: no snapshot \"%s\"", owner->s_id, o->snapshot);
		deactivate_super(owner);
		return err ?: -ENOMEM;
	}
	sbi->owner = owner;
	sbi->snapshot_id = id;
	return vexfs_snapshot_sb(fc, sbi);
}
