// SPDX-License-Identifier: GPL-2.0-only
/* Reading directories. A position is the core's cookie of an entry; 0 and 1 are "." and "..". */
#include <linux/fs.h>

#include "internal.h"

static bool vexfs_emit(void *p, const char *name, size_t len, u64 ino, unsigned int type, u64 cookie)
{
	struct dir_context *ctx = p;

	ctx->pos = cookie;
	return dir_emit(ctx, name, len, ino, type);
}

static int vexfs_iterate(struct file *file, struct dir_context *ctx)
{
	struct inode *dir = file_inode(file);
	u64 pos;
	int err;

	if (!dir_emit_dots(file, ctx))
		return 0;
	pos = ctx->pos;
	err = vx_readdir(vexfs_core(dir), &pos, vexfs_emit, ctx);
	if (err)
		return vexfs_check(dir->i_sb, err);
	ctx->pos = min_t(u64, pos, S64_MAX);
	return 0;
}

/* Cookies are hashes: any position up to 2^63 - 1 is one. */
static loff_t vexfs_dir_llseek(struct file *file, loff_t offset, int whence)
{
	return generic_file_llseek_size(file, offset, whence, S64_MAX, S64_MAX);
}

const struct file_operations vexfs_dir_fops = {
	.llseek = vexfs_dir_llseek,
	.read = generic_read_dir,
	.iterate_shared = vexfs_iterate,
	.fsync = vexfs_fsync,
	.unlocked_ioctl = vexfs_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.uring_cmd = vexfs_uring_cmd,
};
