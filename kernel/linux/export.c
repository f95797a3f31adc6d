// SPDX-License-Identifier: GPL-2.0-only
/* File handles, for NFS and open_by_handle_at: inode number and generation, with a parent's where it is asked for. */
#include <linux/exportfs.h>
#include <linux/fs.h>

#include "internal.h"

#define VEXFS_FH 0x81 /* the types that exportfs sets aside for 64-bit inode numbers with a generation */
#define VEXFS_FH_PARENT 0x82
#define VEXFS_FH_WORDS 3
#define VEXFS_FH_PARENT_WORDS 6

static void vexfs_put_id(u32 *fh, const struct inode *inode)
{
	fh[0] = (u32)inode->i_ino;
	fh[1] = (u32)((u64)inode->i_ino >> 32);
	fh[2] = inode->i_generation;
}

static struct inode *vexfs_get_id(struct super_block *sb, const u32 *fh)
{
	u64 ino = fh[0] | (u64)fh[1] << 32;
	struct inode *inode;

	if (!ino || !fh[2]) /* generation 0 would stand for any */
		return ERR_PTR(-ESTALE);
	inode = vexfs_iget(sb, ino, fh[2]);
	if (inode == ERR_PTR(-ENOENT))
		return ERR_PTR(-ESTALE);
	if (!IS_ERR(inode) && (inode->i_generation != fh[2] || !inode->i_nlink)) {
		iput(inode);
		return ERR_PTR(-ESTALE);
	}
	return inode;
}

static int vexfs_encode_fh(struct inode *inode, u32 *fh, int *max_len, struct inode *parent)
{
	int need = parent ? VEXFS_FH_PARENT_WORDS : VEXFS_FH_WORDS;

	if (*max_len < need) {
		*max_len = need;
		return FILEID_INVALID;
	}
	*max_len = need;
	vexfs_put_id(fh, inode);
	if (!parent)
		return VEXFS_FH;
	vexfs_put_id(fh + VEXFS_FH_WORDS, parent);
	return VEXFS_FH_PARENT;
}

static struct dentry *vexfs_fh_to_dentry(struct super_block *sb, struct fid *fid, int len, int type)
{
	if ((type != VEXFS_FH && type != VEXFS_FH_PARENT) || len < VEXFS_FH_WORDS)
		return NULL;
	return d_obtain_alias(vexfs_get_id(sb, fid->raw));
}

static struct dentry *vexfs_fh_to_parent(struct super_block *sb, struct fid *fid, int len, int type)
{
	if (type != VEXFS_FH_PARENT || len < VEXFS_FH_PARENT_WORDS)
		return NULL;
	return d_obtain_alias(vexfs_get_id(sb, fid->raw + VEXFS_FH_WORDS));
}

static struct dentry *vexfs_get_parent(struct dentry *child)
{
	struct inode *dir = d_inode(child);
	u64 ino;
	int err = vx_get_parent(vexfs_core(dir), &ino);

	if (err)
		return ERR_PTR(vexfs_check(dir->i_sb, err));
	return d_obtain_alias(vexfs_iget(dir->i_sb, ino, 0));
}

/* A server of NFS answers when what it did is on the device. */
static int vexfs_commit_metadata(struct inode *inode)
{
	int err = sync_inode_metadata(inode, 1);

	return err ?: vexfs_check(inode->i_sb, vx_inode_sync(vexfs_core(inode)));
}

const struct export_operations vexfs_export_ops = {
	.encode_fh = vexfs_encode_fh,
	.fh_to_dentry = vexfs_fh_to_dentry,
	.fh_to_parent = vexfs_fh_to_parent,
	.get_parent = vexfs_get_parent,
	.commit_metadata = vexfs_commit_metadata,
};
