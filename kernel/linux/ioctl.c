// SPDX-License-Identifier: GPL-2.0-only
/* ioctl: the commands of include/uapi/vexfs.h, which the core decodes, and a few that all filesystems share. */
#include <linux/blkdev.h>
#include <linux/capability.h>
#include <linux/compat.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "internal.h"
#include "vexfs_abi.h"
#include "vexfs_trace.h"

/* Forced shutdown, with the number and meaning that XFS gave it and that ext4, f2fs and test suites use. */
#define VEXFS_IOC_SHUTDOWN _IOR('X', 125, __u32)
#define VEXFS_SHUTDOWN_SYNC 0 /* flush everything first */
#define VEXFS_SHUTDOWN_LOGFLUSH 1 /* sync first what the core has */
#define VEXFS_SHUTDOWN_NOLOGFLUSH 2

/* ------------------------------------------------------------------ what the core asks of the caller */
struct vexfs_caller {
	struct vx_caller c;
	struct file *file;
	bool may_write; /* the mount lets us write, and stays so until the command ends */
};

static struct vexfs_caller *vexfs_caller(struct vx_caller *c)
{
	return container_of(c, struct vexfs_caller, c);
}

static int vexfs_copy_in(struct vx_caller *c, void *dst, u64 uaddr, size_t n)
{
	if (uaddr != (unsigned long)uaddr)
		return -EFAULT;
	return copy_from_user(dst, (const void __user *)(unsigned long)uaddr, n) ? -EFAULT : 0;
}

static int vexfs_copy_out(struct vx_caller *c, u64 uaddr, const void *src, size_t n)
{
	if (uaddr != (unsigned long)uaddr)
		return -EFAULT;
	return copy_to_user((void __user *)(unsigned long)uaddr, src, n) ? -EFAULT : 0;
}

static int vexfs_may(struct vx_caller *c, u64 ino, unsigned int mask)
{
	struct vexfs_caller *vc = vexfs_caller(c);
	struct inode *own = file_inode(vc->file);
	struct inode *inode;
	int want = 0;
	int err;

	if ((mask & 2) && !vc->may_write)
		return -EROFS;
	if (mask & 2)
		want |= MAY_WRITE;
	if (mask & 4)
		want |= MAY_READ;
	if (ino == own->i_ino)
		return inode_permission(vx_file_idmap(vc->file), own, want);
	inode = vexfs_iget(own->i_sb, ino, 0);
	if (IS_ERR(inode))
		return PTR_ERR(inode);
	err = inode_permission(vx_file_idmap(vc->file), inode, want);
	iput(inode);
	return err;
}

static int vexfs_fd_to_ino(struct vx_caller *c, s32 fd, u64 *ino)
{
	struct vexfs_caller *vc = vexfs_caller(c);
	struct fd f = fdget(fd);
	int err = 0;

	if (!vx_fd_file(f))
		return -EBADF;
	if (file_inode(vx_fd_file(f))->i_sb != file_inode(vc->file)->i_sb)
		err = -EXDEV;
	else
		*ino = file_inode(vx_fd_file(f))->i_ino;
	fdput(f);
	return err;
}

static bool vexfs_interrupted(struct vx_caller *c)
{
	return fatal_signal_pending(current);
}

/* Commands that change nothing, whatever they carry. Of the others some only might: they run on a read-only mount too,
 * and the core is told -EROFS when it asks whether it may write. */
static bool vexfs_reads_only(u32 cmd)
{
	switch (_IOC_NR(cmd)) {
	case _IOC_NR(VEXFS_IOCTL_COLLECTION_INFO):
	case _IOC_NR(VEXFS_IOCTL_COLLECTION_LIST):
	case _IOC_NR(VEXFS_IOCTL_GET_EMBEDDING):
	case _IOC_NR(VEXFS_IOCTL_VECTOR_SEARCH):
	case _IOC_NR(VEXFS_IOCTL_HYBRID_SEARCH):
	case _IOC_NR(VEXFS_IOCTL_GET_VECTOR_STATS):
	case _IOC_NR(VEXFS_IOCTL_SNAPSHOT_INFO):
	case _IOC_NR(VEXFS_IOCTL_SNAPSHOT_LIST):
	case _IOC_NR(VEXFS_IOCTL_SNAPSHOT_DIFF):
	case _IOC_NR(VEXFS_IOCTL_SNAPSHOT_ROWS):
	case _IOC_NR(VEXFS_IOCTL_PARENT):
	case _IOC_NR(VEXFS_IOCTL_FS_INFO):
		return true;
	}
	return false;
}

/* Commands that look at everything, whoever may read it. */
static bool vexfs_needs_admin(u32 cmd)
{
	switch (_IOC_NR(cmd)) {
	case _IOC_NR(VEXFS_IOCTL_SCRUB):
	case _IOC_NR(VEXFS_IOCTL_SNAPSHOT_DIFF):
	case _IOC_NR(VEXFS_IOCTL_SNAPSHOT_ROWS):
	case _IOC_NR(VEXFS_IOCTL_PARENT):
		return true;
	}
	return false;
}

/* The snapshot that a search is to look into, 0: none, it is no search, or the core is to say what is wrong with it. */
static u64 vexfs_as_of(u32 cmd, u64 uarg)
{
	size_t at = offsetof(struct vexfs_search, as_of);
	u64 id;

	if (_IOC_NR(cmd) == _IOC_NR(VEXFS_IOCTL_HYBRID_SEARCH))
		at += offsetof(struct vexfs_hybrid_search, search);
	else if (_IOC_NR(cmd) != _IOC_NR(VEXFS_IOCTL_VECTOR_SEARCH))
		return 0;
	return vexfs_copy_in(NULL, &id, uarg + at, sizeof(id)) ? 0 : id;
}

static long vexfs_search_then(struct file *file, u32 cmd, u64 uarg, u64 id)
{
	struct file *then = vexfs_history_open(file, id);
	long err;

	if (IS_ERR(then))
		return PTR_ERR(then);
	err = vexfs_command(then, cmd, uarg);
	fput(then);
	return err;
}

long vexfs_command(struct file *file, u32 cmd, u64 uarg)
{
	struct inode *inode = file_inode(file);
	u64 as_of = vexfs_sb(inode->i_sb)->owner ? 0 : vexfs_as_of(cmd, uarg);
	struct vexfs_caller vc = {
		.c = {
			.copy_in = vexfs_copy_in,
			.copy_out = vexfs_copy_out,
			.may = vexfs_may,
			.fd_to_ino = vexfs_fd_to_ino,
			.interrupted = vexfs_interrupted,
		},
		.file = file,
	};
	int err;

	if (_IOC_TYPE(cmd) != VEXFS_IOC)
		return -ENOTTY;
	if (as_of)
		return vexfs_search_then(file, cmd, uarg, as_of);
	if (_IOC_NR(cmd) == _IOC_NR(VEXFS_IOCTL_SNAPSHOT_CREATE) ||
	    _IOC_NR(cmd) == _IOC_NR(VEXFS_IOCTL_SNAPSHOT_DELETE) ||
	    _IOC_NR(cmd) == _IOC_NR(VEXFS_IOCTL_SNAPSHOT_ROLLBACK))
		return vexfs_check(inode->i_sb, vexfs_snapshot_command(file, cmd, uarg, &vc.c));
	if (vexfs_needs_admin(cmd) && !capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (!vexfs_reads_only(cmd)) {
		err = mnt_want_write_file(file);
		if (err && err != -EROFS)
			return err;
		vc.may_write = !err;
	}
	trace_vexfs_command(inode, _IOC_NR(cmd));
	err = vx_ioctl(vexfs_fs(inode), vexfs_core(inode), cmd, uarg, &vc.c);
	trace_vexfs_command_done(inode, _IOC_NR(cmd), err);
	if (vc.may_write)
		mnt_drop_write_file(file);
	return vexfs_check(inode->i_sb, err);
}

/* ------------------------------------------------------------------ commands that all filesystems share */
static int vexfs_shutdown(struct super_block *sb, u32 __user *arg)
{
	struct vx_fs *fs = vexfs_sb(sb)->core;
	u32 how;
	int err = 0;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (get_user(how, arg))
		return -EFAULT;
	switch (how) {
	case VEXFS_SHUTDOWN_SYNC:
		down_read(&sb->s_umount);
		err = sync_filesystem(sb);
		up_read(&sb->s_umount);
		break;
	case VEXFS_SHUTDOWN_LOGFLUSH:
		err = vx_fs_sync(fs);
		break;
	case VEXFS_SHUTDOWN_NOLOGFLUSH:
		break;
	default:
		return -EINVAL;
	}
	pr_warn("vexfs: %s: shut down by %s (%d)\n", sb->s_id, current->comm, current->pid);
	vx_fs_abort(fs, -EIO);
	return err;
}

static int vexfs_get_label(struct super_block *sb, char __user *arg)
{
	char label[FSLABEL_MAX] = {};
	struct vx_fs_info info;

	vx_fs_info(vexfs_sb(sb)->core, &info);
	static_assert(sizeof(info.label) <= sizeof(label));
	memcpy(label, info.label, sizeof(info.label));
	return copy_to_user(arg, label, sizeof(label)) ? -EFAULT : 0;
}

long vexfs_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct inode *inode = file_inode(file);

	if (_IOC_TYPE(cmd) == VEXFS_IOC)
		return vexfs_command(file, cmd, arg);
	switch (cmd) {
	case FS_IOC_GETVERSION:
	case FS_IOC32_GETVERSION:
		return put_user(inode->i_generation, (int __user *)arg);
	case FS_IOC_GETFSLABEL:
		return vexfs_get_label(inode->i_sb, (char __user *)arg);
	case VEXFS_IOC_SHUTDOWN:
		return vexfs_shutdown(inode->i_sb, (u32 __user *)arg);
	}
	return -ENOTTY;
}
