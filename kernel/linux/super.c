// SPDX-License-Identifier: GPL-2.0-only
/* The superblock: mounting, remounting, syncing, freezing, statfs, giving memory back. */
#include <linux/blkdev.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/sched/mm.h>
#include <linux/statfs.h>

#include "internal.h"
#include "vexfs_abi.h"
#include "vexfs_trace.h"

LIST_HEAD(vexfs_mounts);
DEFINE_MUTEX(vexfs_mounts_lock);

static struct kmem_cache *vexfs_inode_cache;

/* ------------------------------------------------------------------ inodes in memory */
static void vexfs_inode_once(void *p)
{
	struct vexfs_inode *vi = p;

	inode_init_once(&vi->vfs);
	spin_lock_init(&vi->ioend_lock);
	INIT_LIST_HEAD(&vi->ioends);
}

int vexfs_inode_cache_init(void)
{
	vexfs_inode_cache = kmem_cache_create("vexfs_inode", sizeof(struct vexfs_inode), 0,
					      SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT, vexfs_inode_once);
	return vexfs_inode_cache ? 0 : -ENOMEM;
}

void vexfs_inode_cache_exit(void)
{
	rcu_barrier(); /* inodes are freed by RCU callbacks */
	kmem_cache_destroy(vexfs_inode_cache);
}

static struct inode *vexfs_alloc_inode(struct super_block *sb)
{
	struct vexfs_inode *vi = alloc_inode_sb(sb, vexfs_inode_cache, GFP_NOFS);

	if (!vi)
		return NULL;
	vi->core = NULL;
	vi->btime = (struct timespec64){};
	vi->flags = 0;
	vi->inline_error = 0;
	vi->held = NULL;
	atomic_long_set(&vi->cut_seq, 0);
	atomic_long_set(&vi->done_seq, 0);
	INIT_WORK(&vi->ioend_work, vexfs_ioend_work);
	return &vi->vfs;
}

static void vexfs_free_inode(struct inode *inode)
{
	kmem_cache_free(vexfs_inode_cache, vexfs_i(inode));
}

/* ------------------------------------------------------------------ errors */
/*
 * The core turns itself read-only when it finds damage or cannot write; the VFS learns of it when the next call fails, or
 * by vx_bdev_aborted() if there is none: the thread that commits works for nobody's call. Its flag may change only under
 * s_umount, and not while the filesystem is frozen or being frozen: a thaw leaves alone what it takes for a read-only
 * filesystem, so that writers would wait for ever. Callers of vexfs_check() hold all kinds of locks, perhaps this one: it
 * is only tried, and tried again by a worker.
 */
static bool vexfs_set_read_only(struct super_block *sb)
{
	if (!down_write_trylock(&sb->s_umount))
		return false;
	if (sb->s_writers.frozen == SB_UNFROZEN)
		sb->s_flags |= SB_RDONLY;
	up_write(&sb->s_umount);
	return true;
}

static void vexfs_read_only_work(struct work_struct *work)
{
	struct vexfs_sb *sbi = container_of(to_delayed_work(work), struct vexfs_sb, read_only_work);

	if (!vexfs_set_read_only(sbi->sb))
		schedule_delayed_work(&sbi->read_only_work, HZ / 10);
}

void vx_bdev_aborted(struct vx_bdev *dev)
{
	schedule_delayed_work(&container_of(dev, struct vexfs_sb, bdev)->read_only_work, 1);
}

int vexfs_check(struct super_block *sb, int err)
{
	struct vx_fs_info info;

	if (likely(err != -EROFS && err != -EIO && err != -EUCLEAN))
		return err;
	if (sb_rdonly(sb))
		return err;
	vx_fs_info(vexfs_sb(sb)->core, &info);
	if (!info.aborted)
		return err;
	if (!xchg(&vexfs_sb(sb)->abort_told, 1))
		pr_err("vexfs: %s: filesystem is read-only now\n", sb->s_id);
	if (!vexfs_set_read_only(sb))
		schedule_delayed_work(&vexfs_sb(sb)->read_only_work, 1);
	return err;
}

/* ------------------------------------------------------------------ shrinkers */
static unsigned long vexfs_count(struct shrinker *impl, int kind)
{
	struct vexfs_sb *sbi = vx_shrinker_data(impl);

	return vx_fs_cache_count(sbi->core, kind) ?: SHRINK_EMPTY;
}

static unsigned long vexfs_scan(struct shrinker *impl, struct shrink_control *sc, int kind)
{
	struct vexfs_sb *sbi = vx_shrinker_data(impl);

	/* The core allocates with GFP_NOFS while it holds its locks: do not come back to it then. */
	if (!(sc->gfp_mask & __GFP_FS))
		return SHRINK_STOP;
	return vx_fs_cache_shrink(sbi->core, kind, sc->nr_to_scan);
}

static unsigned long vexfs_count_nodes(struct shrinker *impl, struct shrink_control *sc)
{
	return vexfs_count(impl, VEXFS_SHRINK_NODES);
}

static unsigned long vexfs_scan_nodes(struct shrinker *impl, struct shrink_control *sc)
{
	return vexfs_scan(impl, sc, VEXFS_SHRINK_NODES);
}

static unsigned long vexfs_count_vectors(struct shrinker *impl, struct shrink_control *sc)
{
	return vexfs_count(impl, VEXFS_SHRINK_VECTORS);
}

static unsigned long vexfs_scan_vectors(struct shrinker *impl, struct shrink_control *sc)
{
	return vexfs_scan(impl, sc, VEXFS_SHRINK_VECTORS);
}

/* ------------------------------------------------------------------ super_operations */
static int vexfs_sync_fs(struct super_block *sb, int wait)
{
	struct vexfs_sb *sbi = vexfs_sb(sb);
	int err;

	if (sb_rdonly(sb) || !wait) /* a commit begun in advance would cost more than the write to the log that follows */
		return 0;
	trace_vexfs_sync(sb, 0);
	err = vx_fs_sync(sbi->core);
	trace_vexfs_synced(sb, 0, err);
	return vexfs_check(sb, err);
}

static int vexfs_freeze_fs(struct super_block *sb)
{
	struct vx_fs *core = vexfs_sb(sb)->core;
	int err;

	vx_fs_quiesce(core, true);
	err = sb_rdonly(sb) ? 0 : vexfs_check(sb, vx_fs_commit(core)); /* whoever copies the device needs no log */
	if (err)
		vx_fs_quiesce(core, false);
	return err;
}

static int vexfs_unfreeze_fs(struct super_block *sb)
{
	struct vexfs_sb *sbi = vexfs_sb(sb);
	struct vx_fs_info info;

	vx_fs_quiesce(sbi->core, false);
	vx_fs_info(sbi->core, &info);
	if (info.aborted) /* while it was frozen */
		schedule_delayed_work(&sbi->read_only_work, 1);
	return 0;
}

static int vexfs_statfs(struct dentry *dentry, struct kstatfs *st)
{
	struct super_block *sb = dentry->d_sb;
	struct vexfs_sb *sbi = vexfs_sb(sb);
	struct vx_fs_info info;

	vx_fs_info(sbi->core, &info);
	st->f_type = VEXFS_SUPER_MAGIC;
	st->f_bsize = info.block_size;
	st->f_blocks = info.blocks;
	st->f_bfree = info.blocks_free;
	st->f_bavail = info.blocks_avail;
	/* Inodes are made of free space as needed: each takes a part of a node, so no fewer than the free blocks fit. */
	st->f_files = info.inodes_used + info.blocks_avail;
	st->f_ffree = info.blocks_avail;
	st->f_namelen = info.name_max;
	st->f_fsid = uuid_to_fsid(info.uuid);
	st->f_fsid.val[0] ^= (u32)sbi->snapshot_id;
	return 0;
}

/* Everything but the memory of sbi itself, at which sget_fc() may look (vexfs_same_snapshot()). */
void vexfs_release(struct vexfs_sb *sbi)
{
	int i;

	for (i = 0; i < VEXFS_SHRINKERS; i++)
		vx_shrinker_stop(&sbi->shrinkers[i]);
	if (sbi->ioend_wq)
		destroy_workqueue(sbi->ioend_wq);
	if (sbi->direct_wq && !sbi->owner)
		destroy_workqueue(sbi->direct_wq);
	if (sbi->verify_wq && !sbi->owner)
		destroy_workqueue(sbi->verify_wq);
	vexfs_sysfs_remove(sbi);
	if (sbi->core)
		vx_fs_unmount(sbi->core);
	cancel_delayed_work_sync(&sbi->read_only_work); /* the core may have asked for it until its end */
}

static void vexfs_put_super(struct super_block *sb)
{
	struct vexfs_sb *sbi = vexfs_sb(sb);

	mutex_lock(&vexfs_mounts_lock);
	list_del(&sbi->mounts);
	mutex_unlock(&vexfs_mounts_lock);
	trace_vexfs_unmount(sb);
	pr_info("vexfs: %s: unmounted\n", sb->s_id);
	vexfs_release(sbi);
}

static const struct super_operations vexfs_super_ops = {
	.alloc_inode = vexfs_alloc_inode,
	.free_inode = vexfs_free_inode,
	.write_inode = vexfs_write_inode,
	.evict_inode = vexfs_evict_inode,
	.put_super = vexfs_put_super,
	.sync_fs = vexfs_sync_fs,
	.freeze_fs = vexfs_freeze_fs,
	.unfreeze_fs = vexfs_unfreeze_fs,
	.statfs = vexfs_statfs,
	.show_options = vexfs_show_options,
};

/* ------------------------------------------------------------------ mounting */
static int vexfs_mount_core(struct vexfs_sb *sbi)
{
	struct super_block *sb = sbi->sb;
	struct vx_mount_opts o = {
		.read_only = sb_rdonly(sb),
		.errors = sbi->opts.errors,
		.commit_interval_ms = sbi->opts.commit_s * 1000,
		.node_cache_bytes = sbi->opts.node_cache,
		.ignore_log = sbi->opts.norecovery,
		.no_data_sums = sbi->opts.nodatasum,
		.vector_cache_bytes = sbi->opts.vector_cache,
		.nvector_threads = sbi->opts.vector_threads,
	};
	unsigned int nofs = memalloc_nofs_save();
	int err = vx_fs_mount(&sbi->bdev, &o, &sbi->core);

	memalloc_nofs_restore(nofs);
	if (!err)
		vx_fs_info(sbi->core, &sbi->info);
	return err;
}

static void vexfs_set_sb(struct super_block *sb, const struct vx_fs_info *info)
{
	sb->s_op = &vexfs_super_ops;
	sb->s_xattr = vexfs_xattr_handlers;
	sb->s_export_op = &vexfs_export_ops;
	sb->s_magic = VEXFS_SUPER_MAGIC;
	sb->s_maxbytes = min_t(u64, info->file_size_max, MAX_LFS_FILESIZE);
	sb->s_time_gran = 1;
	sb->s_time_min = S64_MIN;
	sb->s_time_max = S64_MAX;
	/* Writes look for privileges to take away once an inode, not each time: a set-id bit or capability clears the mark. */
	sb->s_flags |= SB_NOSEC;
	sb->s_iflags |= SB_I_CGROUPWB;
	vx_set_uuid(sb, info->uuid);
}

static int vexfs_start_shrinkers(struct vexfs_sb *sbi)
{
	int err = vx_shrinker_start(&sbi->shrinkers[VEXFS_SHRINK_NODES], vexfs_count_nodes, vexfs_scan_nodes, sbi,
				    "nodes", sbi->bdev.name);

	if (err)
		return err;
	return vx_shrinker_start(&sbi->shrinkers[VEXFS_SHRINK_VECTORS], vexfs_count_vectors, vexfs_scan_vectors, sbi,
				 "vectors", sbi->bdev.name);
}

static int vexfs_make_root(struct vexfs_sb *sbi)
{
	struct inode *root = vexfs_iget(sbi->sb, sbi->info.root_ino, 0);

	if (IS_ERR(root))
		return PTR_ERR(root);
	if (!S_ISDIR(root->i_mode)) {
		pr_err("vexfs: %s: inode %llu, the root, is no directory\n", sbi->bdev.name, sbi->info.root_ino);
		iput(root);
		return -EUCLEAN;
	}
	sbi->inline_max = vx_inline_max(vexfs_core(root));
	sbi->sb->s_root = d_make_root(root);
	return sbi->sb->s_root ? 0 : -ENOMEM;
}

static void vexfs_announce(struct vexfs_sb *sbi)
{
	const struct vx_fs_info *i = &sbi->info;

	pr_info("vexfs: %s: mounted %pU \"%s\" %s, format %u.%u, blocks of %u, nodes of %u bytes, version %s, SIMD %s, vectors of %u bits\n",
		sbi->bdev.name, i->uuid, i->label, sb_rdonly(sbi->sb) ? "read-only" : "read-write", i->version_major,
		i->version_minor, i->block_size, i->node_size, vx_core_version(), vx_simd_level_name(),
		vx_simd_width_bits());
}

struct vexfs_sb *vexfs_new_sb(const struct vexfs_opts *opts)
{
	struct vexfs_sb *sbi = kzalloc(sizeof(*sbi), GFP_KERNEL);

	if (!sbi)
		return NULL;
	sbi->opts = *opts;
	ratelimit_state_init(&sbi->bdev.messages, VEXFS_MESSAGES_INTERVAL, VEXFS_MESSAGES_BURST);
	INIT_LIST_HEAD(&sbi->mounts);
	INIT_DELAYED_WORK(&sbi->read_only_work, vexfs_read_only_work);
	return sbi;
}

/* A snapshot writes nothing, and what it reads is verified by the workers of its filesystem. */
static int vexfs_make_workers(struct vexfs_sb *sbi)
{
	if (sbi->owner) {
		sbi->verify_wq = vexfs_sb(sbi->owner)->verify_wq;
		sbi->direct_wq = vexfs_sb(sbi->owner)->direct_wq;
		return 0;
	}
	sbi->ioend_wq = alloc_workqueue("vexfs-io/%s", WQ_MEM_RECLAIM | WQ_FREEZABLE, 0, sbi->sb->s_id);
	sbi->verify_wq = alloc_workqueue("vexfs-read/%s", WQ_MEM_RECLAIM | WQ_HIGHPRI, 0, sbi->sb->s_id);
	sbi->direct_wq = alloc_workqueue("vexfs-dio/%s", WQ_MEM_RECLAIM | WQ_HIGHPRI, 0, sbi->sb->s_id);
	return sbi->ioend_wq && sbi->verify_wq && sbi->direct_wq ? 0 : -ENOMEM;
}

int vexfs_fill_sb(struct vexfs_sb *sbi)
{
	int err = vexfs_make_workers(sbi);

	if (err)
		return err;
	vexfs_set_sb(sbi->sb, &sbi->info);
	err = vexfs_start_shrinkers(sbi);
	if (err)
		return err;
	err = vexfs_sysfs_add(sbi);
	if (err)
		return err;
	err = vexfs_make_root(sbi);
	if (err)
		return err;
	mutex_lock(&vexfs_mounts_lock);
	list_add_tail(&sbi->mounts, &vexfs_mounts);
	mutex_unlock(&vexfs_mounts_lock);
	trace_vexfs_mount(sbi->sb, sbi->info.txn_durable);
	vexfs_announce(sbi);
	return 0;
}

/* On failure vexfs_kill_sb() releases what is there. */
static int vexfs_fill_super(struct super_block *sb, struct fs_context *fc)
{
	struct vexfs_sb *sbi = vexfs_new_sb(fc->fs_private);
	int err;

	if (!sbi)
		return -ENOMEM;
	sb->s_fs_info = sbi;
	sbi->sb = sb;
	sbi->bdev.bdev = sb->s_bdev;
	sbi->bdev.discard = sbi->opts.discard && bdev_max_discard_sectors(sb->s_bdev);
	strscpy(sbi->bdev.name, sb->s_id, sizeof(sbi->bdev.name));

	err = vexfs_mount_core(sbi);
	if (err == -EINVAL)
		errorf(fc, "vexfs: %s: no vexfs here", sb->s_id);
	if (err)
		return err;
	if (sbi->info.block_size > PAGE_SIZE) {
		errorf(fc, "vexfs: %s: blocks of %u bytes are larger than this machine's pages", sb->s_id,
		       sbi->info.block_size);
		return -EINVAL;
	}
	if (!sb_set_blocksize(sb, sbi->info.block_size)) {
		errorf(fc, "vexfs: %s: the device cannot do blocks of %u bytes", sb->s_id, sbi->info.block_size);
		return -EINVAL;
	}
	return vexfs_fill_sb(sbi);
}

static void vexfs_kill_sb(struct super_block *sb)
{
	struct vexfs_sb *sbi = vexfs_sb(sb);
	struct super_block *owner = sbi ? sbi->owner : NULL;

	if (sbi && !sb->s_root) /* else vexfs_put_super() does it */
		vexfs_release(sbi);
	if (owner) {
		kill_anon_super(sb);
		deactivate_super(owner);
	} else {
		kill_block_super(sb);
	}
	kfree(sbi);
}

int vexfs_get_tree(struct fs_context *fc)
{
	const struct vexfs_opts *o = fc->fs_private;

	if (o->norecovery && !(fc->sb_flags & SB_RDONLY))
		return invalf(fc, "vexfs: norecovery is for read-only mounts (ro,norecovery)");
	if (o->snapshot[0])
		return vexfs_get_snapshot_tree(fc);
	return get_tree_bdev(fc, vexfs_fill_super);
}

static void vexfs_set_vector_cache(struct vexfs_sb *sbi, u64 bytes)
{
	if (bytes != sbi->opts.vector_cache)
		vx_fs_set_vector_cache(sbi->core, bytes);
	sbi->opts.vector_cache = bytes;
}

int vexfs_reconfigure(struct fs_context *fc)
{
	struct super_block *sb = fc->root->d_sb;
	struct vexfs_sb *sbi = vexfs_sb(sb);
	const struct vexfs_opts *want = fc->fs_private;
	bool ro = fc->sb_flags & SB_RDONLY;
	struct vx_fs_info info;
	int err = 0;

	if (want->errors != sbi->opts.errors || want->commit_s != sbi->opts.commit_s ||
	    want->node_cache != sbi->opts.node_cache || want->vector_threads != sbi->opts.vector_threads ||
	    want->norecovery != sbi->opts.norecovery || strcmp(want->snapshot, sbi->opts.snapshot))
		return invalf(fc, "vexfs: %s: only ro, rw, datasum, discard and vector_cache can change while mounted",
			      sb->s_id);

	sync_filesystem(sb);
	vx_fs_info(sbi->core, &info);
	if (ro && info.aborted)
		return 0; /* it is read-only already: the VFS is to know */
	if (sbi->owner && !ro)
		return invalf(fc, "vexfs: %s: a snapshot cannot be written", sb->s_id);
	if (sbi->owner) {
		vexfs_set_vector_cache(sbi, want->vector_cache);
		return 0;
	}
	if (!ro) {
		if (info.aborted) {
			errorf(fc, "vexfs: %s: stopped after an error: unmount and run fsck.vexfs", sb->s_id);
			return -EROFS;
		}
		if (want->norecovery) {
			errorf(fc, "vexfs: %s: mounted with norecovery, it cannot be written: unmount first", sb->s_id);
			return -EROFS;
		}
		if (bdev_read_only(sb->s_bdev)) {
			errorf(fc, "vexfs: %s: the device is read-only", sb->s_id);
			return -EROFS;
		}
	}
	if (ro != sb_rdonly(sb))
		err = vx_fs_set_read_only(sbi->core, ro);
	if (err)
		return err;
	vexfs_set_vector_cache(sbi, want->vector_cache);
	if (want->nodatasum != sbi->opts.nodatasum)
		vx_fs_set_data_sums(sbi->core, !want->nodatasum);
	sbi->opts.nodatasum = want->nodatasum;
	sbi->opts.discard = want->discard;
	sbi->bdev.discard = want->discard && bdev_max_discard_sectors(sb->s_bdev);
	return 0;
}

struct file_system_type vexfs_type = {
	.owner = THIS_MODULE,
	.name = "vexfs",
	.init_fs_context = vexfs_init_fs_context,
	.parameters = vexfs_parameters,
	.kill_sb = vexfs_kill_sb,
	.fs_flags = FS_REQUIRES_DEV | FS_ALLOW_IDMAP,
};
