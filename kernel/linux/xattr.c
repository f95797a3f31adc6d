// SPDX-License-Identifier: GPL-2.0-only
/* Extended attributes: user., trusted., security.; names of other kinds are refused by having no handler here. */
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/security.h>
#include <linux/xattr.h>

#include "internal.h"

static int vexfs_xattr_get(const struct xattr_handler *h, struct dentry *dentry, struct inode *inode, const char *name,
			   void *buf, size_t size)
{
	const char *full = xattr_full_name(h, name);
	size_t len;
	int err = vx_xattr_get(vexfs_core(inode), full, strlen(full), buf, size, &len);

	return err ? vexfs_check(inode->i_sb, err) : (int)len;
}

static int vexfs_xattr_set(const struct xattr_handler *h, vx_idmap *idmap, struct dentry *dentry, struct inode *inode,
			   const char *name, const void *value, size_t size, int flags)
{
	const char *full = xattr_full_name(h, name);
	struct timespec64 ts = current_time(inode);
	struct vx_time now = vexfs_time(ts);
	unsigned int vx = 0;
	int err;

	if (flags & XATTR_CREATE)
		vx |= VX_XATTR_CREATE;
	if (flags & XATTR_REPLACE)
		vx |= VX_XATTR_REPLACE;
	if (value)
		err = vx_xattr_set(vexfs_core(inode), full, strlen(full), value, size, vx, &now);
	else
		err = vx_xattr_remove(vexfs_core(inode), full, strlen(full), &now);
	if (!err)
		inode_set_ctime_to_ts(inode, ts);
	return vexfs_check(inode->i_sb, err);
}

#define VEXFS_XATTR(kind, text)                            \
	static const struct xattr_handler vexfs_xattr_##kind = { \
		.prefix = text,                                  \
		.get = vexfs_xattr_get,                          \
		.set = vexfs_xattr_set,                          \
	}
VEXFS_XATTR(user, XATTR_USER_PREFIX);
VEXFS_XATTR(trusted, XATTR_TRUSTED_PREFIX);
VEXFS_XATTR(security, XATTR_SECURITY_PREFIX);

VX_XATTR_TABLE vexfs_xattr_handlers[] = {
	&vexfs_xattr_user,
	&vexfs_xattr_trusted,
	&vexfs_xattr_security,
	NULL
};

struct vexfs_list {
	char *buf;
	size_t size;
	size_t used;
	bool overflow;
	bool trusted;
};

static bool vexfs_list_emit(void *p, const char *name, size_t len)
{
	struct vexfs_list *l = p;

	if (!l->trusted && len > XATTR_TRUSTED_PREFIX_LEN &&
	    !memcmp(name, XATTR_TRUSTED_PREFIX, XATTR_TRUSTED_PREFIX_LEN))
		return true;
	if (l->buf) {
		if (len + 1 > l->size - l->used) {
			l->overflow = true;
			return false;
		}
		memcpy(l->buf + l->used, name, len);
		l->buf[l->used + len] = '\0';
	}
	l->used += len + 1;
	return true;
}

ssize_t vexfs_listxattr(struct dentry *dentry, char *buf, size_t size)
{
	struct inode *inode = d_inode(dentry);
	struct vexfs_list l = { .buf = size ? buf : NULL, .size = size, .trusted = capable(CAP_SYS_ADMIN) };
	int err = vx_xattr_list(vexfs_core(inode), vexfs_list_emit, &l);

	if (err)
		return vexfs_check(inode->i_sb, err);
	return l.overflow ? -ERANGE : (ssize_t)l.used;
}

static int vexfs_initxattrs(struct inode *inode, const struct xattr *x, void *data)
{
	struct vx_time now = vexfs_now(inode);
	char name[XATTR_NAME_MAX + 1];
	int err;

	for (; x->name; x++) {
		int n = snprintf(name, sizeof(name), XATTR_SECURITY_PREFIX "%s", x->name);

		if (n >= (int)sizeof(name))
			return -ERANGE;
		err = vx_xattr_set(vexfs_core(inode), name, n, x->value, x->value_len, 0, &now);
		if (err)
			return err;
	}
	return 0;
}

/* Labels that a security module gives to new inodes. */
int vexfs_init_security(struct inode *inode, struct inode *dir, const struct qstr *name)
{
	return security_inode_init_security(inode, dir, name, vexfs_initxattrs, NULL);
}
