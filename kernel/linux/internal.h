/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of the module share: the superblock and inode of the VFS side, and who defines what. */
#ifndef VEXFS_LINUX_INTERNAL_H
#define VEXFS_LINUX_INTERNAL_H
#include "compat.h"
#include <linux/fs_parser.h>
#include <linux/kobject.h>
#include <linux/ratelimit.h>
#include <linux/refcount.h>
#include <linux/workqueue.h>

#include "api.h"

/* The core's idea of a block device (platform.h). */
struct vx_bdev {
	struct block_device *bdev;
	char name[32];
	bool discard; /* mount option: freed blocks are discarded */
	/* Each mount has its own, as one device that is damaged must not silence what is said of another. */
	struct ratelimit_state messages;
};

/* A damaged device can complain about every block: the first lines tell what it is about. */
#define VEXFS_MESSAGES_INTERVAL (10 * HZ)
#define VEXFS_MESSAGES_BURST 50

#define VEXFS_SNAPSHOT_NAME_BYTES 64 /* with the NUL */

struct vexfs_opts {
	u32 errors; /* VX_ERRORS_* */
	u32 commit_s;
	u64 node_cache; /* bytes, 0: the core's choice */
	u64 vector_cache; /* bytes, 0: the core's choice */
	u32 vector_threads;
	bool discard;
	bool nodatasum; /* new data of files gets no checksums */
	bool norecovery; /* read-only: what the intent log has beyond the last commit is not looked at */
	char snapshot[VEXFS_SNAPSHOT_NAME_BYTES]; /* not empty: the mount shows this snapshot of the filesystem */
	struct super_block *owner; /* of a mount below .vexfs/snapshots, until it has taken hold of it */
};

enum { VEXFS_SHRINK_NODES, VEXFS_SHRINK_VECTORS, VEXFS_SHRINKERS };

/* One for each mounted filesystem: sb->s_fs_info. */
struct vexfs_sb {
	struct super_block *sb;
	struct vx_fs *core;
	struct super_block *owner; /* this is a snapshot of that filesystem, which it keeps active */
	u64 snapshot_id;
	struct vx_bdev bdev;
	struct vexfs_opts opts;
	struct vx_fs_info info; /* as it was at mount: geometry and limits */
	u32 inline_max;
	struct workqueue_struct *ioend_wq; /* completions of file data writes */
	struct workqueue_struct *verify_wq; /* checksums of what was read into the page cache; waits for no folio */
	struct workqueue_struct *direct_wq; /* of what was read directly, which may wait for the page cache */
	atomic64_t blocks_verified;
	atomic_long_t kept_seq; /* snapshots that were made: blocks that could be written over are to be kept */
	struct delayed_work read_only_work; /* vexfs_check() found that the core has given up */
	int abort_told; /* in the kernel log */
	struct vx_shrinker shrinkers[VEXFS_SHRINKERS];
	struct list_head mounts; /* in vexfs_mounts */
	struct kobject kobj;
	struct completion kobj_released;
	bool kobj_added;
};

struct vexfs_inode {
	struct inode vfs;
	struct vx_inode *core;
	struct timespec64 btime;
	u32 flags; /* VX_INODE_*, the persistent ones */
	/*
	 * Mappings that iomap keeps while no lock is held are checked against these. cut_seq: something that was mapped
	 * may be no more (truncate, punch, in and out of the inode). done_seq: written data has replaced a hole.
	 */
	atomic_long_t cut_seq;
	atomic_long_t done_seq;
	int inline_error; /* of a write into the inode's inline data; under i_rwsem */
	/* Of a write that begins or ends inside a block (edges.c), under i_rwsem, exclusive. */
	struct folio *held;
	u64 held_pos, held_end;
	spinlock_t ioend_lock;
	struct list_head ioends;
	struct work_struct ioend_work;
};

/* The checksums of a run of blocks, as they were looked up with their mapping; what is read of it shares them. */
struct vexfs_sums {
	refcount_t users;
	u64 off; /* in the file, of the first block */
	vx_sum of[];
};

static inline struct vexfs_sb *vexfs_sb(struct super_block *sb)
{
	return sb->s_fs_info;
}

static inline struct vexfs_inode *vexfs_i(struct inode *inode)
{
	return container_of(inode, struct vexfs_inode, vfs);
}

static inline struct vx_inode *vexfs_core(struct inode *inode)
{
	return vexfs_i(inode)->core;
}

static inline struct vx_fs *vexfs_fs(struct inode *inode)
{
	return vexfs_sb(inode->i_sb)->core;
}

/* Where the data is: not always i_sb's own device, which a mounted snapshot does not have. */
static inline struct block_device *vexfs_bdev(struct inode *inode)
{
	return vexfs_sb(inode->i_sb)->bdev.bdev;
}

static inline struct vx_time vexfs_time(struct timespec64 ts)
{
	return (struct vx_time){ .sec = ts.tv_sec, .nsec = ts.tv_nsec };
}

static inline struct timespec64 vexfs_timespec(struct vx_time t)
{
	return (struct timespec64){ .tv_sec = t.sec, .tv_nsec = t.nsec };
}

static inline struct vx_time vexfs_now(struct inode *inode)
{
	return vexfs_time(current_time(inode));
}

/* super.c */
extern struct file_system_type vexfs_type;
extern struct list_head vexfs_mounts;
extern struct mutex vexfs_mounts_lock; /* protects vexfs_mounts; a filesystem on it is complete */
int vexfs_check(struct super_block *sb, int err); /* passes err on; notices when the core has given up writing */
struct vexfs_sb *vexfs_new_sb(const struct vexfs_opts *opts);
int vexfs_fill_sb(struct vexfs_sb *sbi); /* what all superblocks have in common; sbi->core is mounted */
void vexfs_release(struct vexfs_sb *sbi);
int vexfs_inode_cache_init(void);
void vexfs_inode_cache_exit(void);

/* options.c */
extern const struct fs_parameter_spec vexfs_parameters[];
int vexfs_init_fs_context(struct fs_context *fc);
int vexfs_show_options(struct seq_file *m, struct dentry *root);
int vexfs_get_tree(struct fs_context *fc); /* super.c */
int vexfs_reconfigure(struct fs_context *fc); /* super.c */

/* inode.c */
struct inode *vexfs_iget(struct super_block *sb, u64 ino, u32 generation); /* generation 0: any */
int vexfs_inode_attach(struct inode *inode, struct vx_inode *core);
void vexfs_refresh_links(struct inode *inode);
void vexfs_refresh_dir(struct inode *dir);
int vexfs_getattr(vx_idmap *idmap, const struct path *path, struct kstat *stat, u32 mask, unsigned int flags);
int vexfs_setattr(vx_idmap *idmap, struct dentry *dentry, struct iattr *attr);
int vexfs_write_inode(struct inode *inode, struct writeback_control *wbc);
void vexfs_evict_inode(struct inode *inode);
int vexfs_fileattr_get(struct dentry *dentry, struct fileattr *fa);
int vexfs_fileattr_set(vx_idmap *idmap, struct dentry *dentry, struct fileattr *fa);

/* namei.c, symlink.c, dir.c */
extern const struct inode_operations vexfs_dir_iops;
extern const struct inode_operations vexfs_special_iops;
extern const struct inode_operations vexfs_symlink_iops;
extern const struct file_operations vexfs_dir_fops;

/* file.c, direct.c, truncate.c */
extern const struct inode_operations vexfs_file_iops;
extern const struct file_operations vexfs_file_fops;
int vexfs_fsync(struct file *file, loff_t start, loff_t end, int datasync);
ssize_t vexfs_direct_read(struct kiocb *iocb, struct iov_iter *to);
ssize_t vexfs_direct_write(struct kiocb *iocb, struct iov_iter *from);
ssize_t vexfs_buffered_write(struct kiocb *iocb, struct iov_iter *from);
ssize_t vexfs_write_prepare(struct kiocb *iocb, struct iov_iter *from);
int vexfs_set_size(struct inode *inode, loff_t size);
long vexfs_fallocate(struct file *file, int mode, loff_t offset, loff_t len);
int vexfs_flush_to(struct inode *inode, loff_t old, loff_t size);
void vexfs_forget_inflight(struct inode *inode, u64 off, u64 end);

/* reflink.c */
loff_t vexfs_remap_file_range(struct file *file_in, loff_t pos_in, struct file *file_out, loff_t pos_out, loff_t len,
			      unsigned int flags);

/* read.c, direct_read.c */
int vexfs_read_folio(struct file *file, struct folio *folio);
void vexfs_readahead(struct readahead_control *rac);
extern const struct iomap_dio_ops vexfs_direct_read_ops;
int vexfs_read_init(void);
void vexfs_read_exit(void);
int vexfs_direct_read_init(void);
void vexfs_direct_read_exit(void);

/* sums.c */
int vexfs_look_up(struct inode *inode, u64 off, u64 len, struct vx_map *m, struct vexfs_sums **out);
void vexfs_sums_put(struct vexfs_sums *sums);
int vexfs_written(struct inode *inode, u64 off, u64 end);

/* edges.c */
int vexfs_hold_edges(struct inode *inode, loff_t pos, unsigned int len);
bool vexfs_edges_held(struct inode *inode);
void vexfs_release_edges(struct inode *inode);

/* mapping.c, writeback.c */
extern const struct iomap_ops vexfs_read_ops; /* reports and direct reads */
extern const struct iomap_ops vexfs_write_ops; /* buffered writes, zeroing, faults */
extern const struct iomap_ops vexfs_direct_write_ops;
extern const struct address_space_operations vexfs_aops;
void vexfs_ioend_work(struct work_struct *work);
int vexfs_uninline(struct inode *inode);
void vexfs_zero_cached_tail(struct inode *inode, loff_t size);

static inline void vexfs_mapping_cut(struct inode *inode)
{
	atomic_long_inc(&vexfs_i(inode)->cut_seq);
}

static inline void vexfs_mapping_done(struct inode *inode)
{
	atomic_long_inc(&vexfs_i(inode)->done_seq);
}

/*
 * Where data is written to holds as long as this is the same: nothing was taken away, nothing that was written has
 * entered the file (its blocks have checksums then, and are not written over), no snapshot was made.
 */
static inline u64 vexfs_write_cookie(struct inode *inode)
{
	return atomic_long_read(&vexfs_i(inode)->cut_seq) + atomic_long_read(&vexfs_i(inode)->done_seq) +
	       atomic_long_read(&vexfs_sb(inode->i_sb)->kept_seq);
}

/* xattr.c */
extern VX_XATTR_TABLE vexfs_xattr_handlers[];
ssize_t vexfs_listxattr(struct dentry *dentry, char *buf, size_t size);
int vexfs_init_security(struct inode *inode, struct inode *dir, const struct qstr *name);

/* export.c */
extern const struct export_operations vexfs_export_ops;

/* ioctl.c, uring.c */
long vexfs_ioctl(struct file *file, unsigned int cmd, unsigned long arg);
long vexfs_command(struct file *file, u32 cmd, u64 uarg); /* a command of include/uapi/vexfs.h */
int vexfs_uring_cmd(struct io_uring_cmd *cmd, unsigned int issue_flags);

/* snapshot.c */
int vexfs_get_snapshot_tree(struct fs_context *fc);
long vexfs_snapshot_command(struct file *file, u32 cmd, u64 uarg, struct vx_caller *c);

/* history.c */
struct inode *vexfs_history_of(struct inode *dir, const struct qstr *name);
struct file *vexfs_history_open(struct file *file, u64 id);
void vexfs_history_expire_now(void);
void vexfs_history_exit(void);

/* sysfs.c, proc.c */
int vexfs_sysfs_init(void);
void vexfs_sysfs_exit(void);
int vexfs_sysfs_add(struct vexfs_sb *sbi);
void vexfs_sysfs_remove(struct vexfs_sb *sbi);
int vexfs_proc_init(void);
void vexfs_proc_exit(void);

/* platform_bio.c */
int vexfs_bio_init(void);
void vexfs_bio_exit(void);

#endif
