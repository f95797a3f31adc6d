// SPDX-License-Identifier: GPL-2.0-only
/* Symbolic links. */
#include <linux/fs.h>
#include <linux/slab.h>

#include "internal.h"

static const char *vexfs_get_link(struct dentry *dentry, struct inode *inode, struct delayed_call *done)
{
	size_t cap = i_size_read(inode);
	size_t len;
	char *buf;
	int err;

	if (!dentry)
		return ERR_PTR(-ECHILD); /* an RCU walk, where nothing may sleep */
	if (!cap || cap >= PATH_MAX)
		return ERR_PTR(-EUCLEAN);
	buf = kmalloc(cap + 1, GFP_KERNEL);
	if (!buf)
		return ERR_PTR(-ENOMEM);
	err = vx_readlink(vexfs_core(inode), buf, cap, &len);
	if (err) {
		kfree(buf);
		return ERR_PTR(vexfs_check(inode->i_sb, err));
	}
	buf[min(len, cap)] = '\0';
	set_delayed_call(done, kfree_link, buf);
	return buf;
}

const struct inode_operations vexfs_symlink_iops = {
	.get_link = vexfs_get_link,
	.getattr = vexfs_getattr,
	.setattr = vexfs_setattr,
	.listxattr = vexfs_listxattr,
};
