/* SPDX-License-Identifier: GPL-2.0-only */
/* Everything in which the kernels 6.1 to 6.12 differ, as far as this module sees it. No other file asks for a version. */
#ifndef VEXFS_LINUX_COMPAT_H
#define VEXFS_LINUX_COMPAT_H
#include <linux/version.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/iomap.h>
#include <linux/pagemap.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/writeback.h>
#include <linux/xattr.h>

#define VX_KERNEL(major, minor) (LINUX_VERSION_CODE >= KERNEL_VERSION(major, minor, 0))

/* ------------------------------------------------------------------ id mapping of mounts */
#if VX_KERNEL(6, 3)
typedef struct mnt_idmap vx_idmap;
#define vx_nop_idmap (&nop_mnt_idmap)
#define vx_file_idmap(file) file_mnt_idmap(file)
#define vx_fillattr(idmap, mask, inode, stat) generic_fillattr(idmap, mask, inode, stat)
#else
typedef struct user_namespace vx_idmap;
#define vx_nop_idmap (&init_user_ns)
#define vx_file_idmap(file) file_mnt_user_ns(file)
#define vx_fillattr(idmap, mask, inode, stat) generic_fillattr(idmap, inode, stat)
#endif

/* ------------------------------------------------------------------ freezing */
/* In the user's name: not beside a freeze of theirs, under which the device must not change. So it has always been. */
#if VX_KERNEL(6, 6)
#define vx_freeze_super(sb) freeze_super(sb, FREEZE_HOLDER_USERSPACE)
#define vx_thaw_super(sb) thaw_super(sb, FREEZE_HOLDER_USERSPACE)
#else
#define vx_freeze_super(sb) freeze_super(sb)
#define vx_thaw_super(sb) thaw_super(sb)
#endif

/* ------------------------------------------------------------------ paths */
#if !VX_KERNEL(6, 5)
int vfs_path_lookup(struct dentry *dentry, struct vfsmount *mnt, const char *name, unsigned int flags,
		    struct path *path); /* exported, but only fs/internal.h said so */
#endif

/* ------------------------------------------------------------------ inode timestamps */
#if !VX_KERNEL(6, 7)
static inline struct timespec64 inode_get_atime(const struct inode *inode)
{
	return inode->i_atime;
}

static inline struct timespec64 inode_get_mtime(const struct inode *inode)
{
	return inode->i_mtime;
}

static inline void inode_set_atime_to_ts(struct inode *inode, struct timespec64 ts)
{
	inode->i_atime = ts;
}

static inline void inode_set_mtime_to_ts(struct inode *inode, struct timespec64 ts)
{
	inode->i_mtime = ts;
}
#endif
/* inode_{get,set}_ctime*: 6.6, and stable 6.1 since the end of its second year; Debian's 6.1 has them. */

/* ------------------------------------------------------------------ page cache */
#if VX_KERNEL(6, 5)
#define vx_splice_read filemap_splice_read
#else
#define vx_splice_read generic_file_splice_read
#endif

#if VX_KERNEL(6, 6)
#define vx_dirty_folio iomap_dirty_folio
#else
#define vx_dirty_folio filemap_dirty_folio
#endif

#if VX_KERNEL(6, 8)
#define VX_ERROR_REMOVE .error_remove_folio = generic_error_remove_folio
#else
#define VX_ERROR_REMOVE .error_remove_page = generic_error_remove_page
#endif

/*
 * Before 6.6 writeback takes every block of a folio that is up to date for one that was written to: clean ones would move
 * without a promise of space. Folios of one page have few of them.
 */
static inline void vx_set_large_folios(struct address_space *mapping)
{
#if VX_KERNEL(6, 6)
	mapping_set_large_folios(mapping);
#endif
}

/* A folio of the cache, or NULL: 6.3 turned the miss into an error pointer. */
static inline struct folio *vx_cached_folio(struct address_space *mapping, pgoff_t index)
{
	struct folio *folio = filemap_get_folio(mapping, index);

	return IS_ERR(folio) ? NULL : folio;
}

static inline struct folio *vx_lock_cached_folio(struct address_space *mapping, pgoff_t index)
{
	struct folio *folio = filemap_lock_folio(mapping, index);

	return IS_ERR(folio) ? NULL : folio;
}

/* A folio that could not be read: later kernels see that by its not being uptodate alone. */
static inline void vx_folio_failed(struct folio *folio)
{
	folio_clear_uptodate(folio);
#if !VX_KERNEL(6, 11)
	folio_set_error(folio);
#endif
}

/* What is cached from now on is cached in single pages. Bit by bit: somebody may be setting others of these flags. */
static inline void vx_no_large_folios(struct address_space *mapping)
{
#if VX_KERNEL(6, 12)
	int bit;

	for (bit = AS_FOLIO_ORDER_MAX; bit < AS_FOLIO_ORDER_MAX + AS_FOLIO_ORDER_BITS; bit++)
		clear_bit(bit, &mapping->flags);
#else
	clear_bit(AS_LARGE_FOLIO_SUPPORT, &mapping->flags);
#endif
}
/* mapping_*_stable_writes(): 6.7, and stable 6.1 like inode_get_ctime(). */

/* ------------------------------------------------------------------ iomap */
#if VX_KERNEL(6, 12)
#define vx_iomap_buffered_write(iocb, from, ops) iomap_file_buffered_write(iocb, from, ops, NULL)
#else
#define vx_iomap_buffered_write(iocb, from, ops) iomap_file_buffered_write(iocb, from, ops)
#endif

/*
 * VX_FOLIO_OPS(NAME, prepare, done, valid): what surrounds a buffered write of each folio. prepare(inode, pos, len)
 * comes before the folio is looked up; unless it fails, done(inode) comes when the folio is unlocked, or was not there.
 */
#if VX_KERNEL(6, 4)
typedef struct iomap_folio_ops vx_iomap_folio_ops;
#define vx_iomap_set_folio_ops(iomap, ops) ((iomap)->folio_ops = (ops))

static inline struct folio *vx_iomap_get_folio(struct iomap_iter *iter, loff_t pos, unsigned int len)
{
#if VX_KERNEL(6, 6)
	return iomap_get_folio(iter, pos, len);
#else
	return iomap_get_folio(iter, pos);
#endif
}

#define VX_FOLIO_OPS(name, prepare, done, valid)                                                  \
	static struct folio *name##_get(struct iomap_iter *iter, loff_t pos, unsigned int len)    \
	{                                                                                         \
		int err = prepare(iter->inode, pos, len);                                         \
		struct folio *folio;                                                              \
												  \
		if (err)                                                                          \
			return ERR_PTR(err);                                                      \
		folio = vx_iomap_get_folio(iter, pos, len);                                       \
		if (IS_ERR(folio))                                                                \
			done(iter->inode);                                                        \
		return folio;                                                                     \
	}                                                                                         \
	static void name##_put(struct inode *inode, loff_t pos, unsigned int copied, struct folio *folio) \
	{                                                                                         \
		folio_unlock(folio);                                                              \
		folio_put(folio);                                                                 \
		done(inode);                                                                      \
	}                                                                                         \
	static const vx_iomap_folio_ops name = {                                                  \
		.get_folio = name##_get, .put_folio = name##_put, .iomap_valid = valid }
#else
typedef struct iomap_page_ops vx_iomap_folio_ops;
#define vx_iomap_set_folio_ops(iomap, ops) ((iomap)->page_ops = (ops))

#define VX_FOLIO_OPS(name, prepare, done, valid)                                                  \
	static int name##_prepare(struct inode *inode, loff_t pos, unsigned int len)              \
	{                                                                                         \
		return prepare(inode, pos, len);                                                  \
	}                                                                                         \
	static void name##_done(struct inode *inode, loff_t pos, unsigned int copied, struct page *page) \
	{                                                                                         \
		done(inode);                                                                      \
	}                                                                                         \
	static const vx_iomap_folio_ops name = {                                                  \
		.page_prepare = name##_prepare, .page_done = name##_done, .iomap_valid = valid }
#endif

#if VX_KERNEL(6, 8)
#define VX_MAP_BLOCKS_ARGS struct iomap_writepage_ctx *wpc, struct inode *inode, loff_t offset, unsigned int len
#else
#define VX_MAP_BLOCKS_ARGS struct iomap_writepage_ctx *wpc, struct inode *inode, loff_t offset
#endif

#if VX_KERNEL(6, 9)
static inline struct bio *vx_ioend_bio(struct iomap_ioend *ioend)
{
	return &ioend->io_bio;
}

static inline struct iomap_ioend *vx_bio_ioend(struct bio *bio)
{
	return iomap_ioend_from_bio(bio);
}
#else
static inline struct bio *vx_ioend_bio(struct iomap_ioend *ioend)
{
	return ioend->io_bio;
}

static inline struct iomap_ioend *vx_bio_ioend(struct bio *bio)
{
	return bio->bi_private;
}
#endif

/*
 * After a buffered write that was shorter than its mapping: takes the reservation back from [pos + written, pos +
 * length), except where dirty folios need it.
 */
#if VX_KERNEL(6, 12)
#define VX_PUNCH_ARGS struct inode *inode, loff_t pos, loff_t length, struct iomap *iomap
#define VX_PUNCH_RETURN void
#define VX_PUNCH_OK
static inline int vx_punch_unwritten_reservation(struct inode *inode, struct iomap *iomap, loff_t pos, loff_t length,
						 ssize_t written, unsigned int flags, iomap_punch_t punch)
{
	loff_t start = iomap_last_written_block(inode, pos, written);
	loff_t end = round_up(pos + length, i_blocksize(inode));

	if (iomap->type != IOMAP_DELALLOC || !(iomap->flags & IOMAP_F_NEW) || start >= end)
		return 0;
	filemap_invalidate_lock(inode->i_mapping);
	iomap_write_delalloc_release(inode, start, end, flags, iomap, punch);
	filemap_invalidate_unlock(inode->i_mapping);
	return 0;
}
#else
#define VX_PUNCH_ARGS struct inode *inode, loff_t pos, loff_t length
#define VX_PUNCH_RETURN int
#define VX_PUNCH_OK 0
static inline int vx_punch_unwritten_reservation(struct inode *inode, struct iomap *iomap, loff_t pos, loff_t length,
						 ssize_t written, unsigned int flags,
						 int (*punch)(struct inode *, loff_t, loff_t))
{
	return iomap_file_buffered_write_punch_delalloc(inode, iomap, pos, length, written, punch);
}
#endif

/* ------------------------------------------------------------------ xattr handlers */
#if VX_KERNEL(6, 6)
#define VX_XATTR_TABLE const struct xattr_handler * const
#else
#define VX_XATTR_TABLE const struct xattr_handler *
#endif

/* ------------------------------------------------------------------ superblock */
#if VX_KERNEL(6, 9)
#define vx_set_uuid(sb, uuid) super_set_uuid(sb, uuid, 16)
#else
#define vx_set_uuid(sb, uuid) memcpy(&(sb)->s_uuid, uuid, 16)
#endif

/* Some time between 6.1 and 6.12 exportfs lost its default encoding; ours is given on all. */

/* ------------------------------------------------------------------ files by number */
#if VX_KERNEL(6, 12)
#define vx_fd_file(f) fd_file(f)
#else
#define vx_fd_file(f) ((f).file)
#endif

/* ------------------------------------------------------------------ shrinkers */
struct vx_shrinker {
#if VX_KERNEL(6, 7)
	struct shrinker *impl;
#else
	struct shrinker impl;
	void *private_data;
	bool registered;
#endif
};

typedef unsigned long (*vx_shrink_fn)(struct shrinker *, struct shrink_control *);

#if VX_KERNEL(6, 7)
static inline void *vx_shrinker_data(struct shrinker *impl)
{
	return impl->private_data;
}

static inline int vx_shrinker_start(struct vx_shrinker *s, vx_shrink_fn count, vx_shrink_fn scan, void *data,
				    const char *kind, const char *dev)
{
	s->impl = shrinker_alloc(0, "vexfs-%s:%s", kind, dev);
	if (!s->impl)
		return -ENOMEM;
	s->impl->count_objects = count;
	s->impl->scan_objects = scan;
	s->impl->private_data = data;
	shrinker_register(s->impl);
	return 0;
}

static inline void vx_shrinker_stop(struct vx_shrinker *s)
{
	if (s->impl)
		shrinker_free(s->impl);
	s->impl = NULL;
}
#else
static inline void *vx_shrinker_data(struct shrinker *impl)
{
	return container_of(impl, struct vx_shrinker, impl)->private_data;
}

static inline int vx_shrinker_start(struct vx_shrinker *s, vx_shrink_fn count, vx_shrink_fn scan, void *data,
				    const char *kind, const char *dev)
{
	int err;

	s->impl.count_objects = count;
	s->impl.scan_objects = scan;
	s->impl.seeks = DEFAULT_SEEKS;
	s->private_data = data;
	err = register_shrinker(&s->impl, "vexfs-%s:%s", kind, dev);
	s->registered = !err;
	return err;
}

static inline void vx_shrinker_stop(struct vx_shrinker *s)
{
	if (s->registered)
		unregister_shrinker(&s->impl);
	s->registered = false;
}
#endif

/* ------------------------------------------------------------------ io_uring */
#if VX_KERNEL(6, 6)
#include <linux/io_uring/cmd.h>
#define vx_uring_payload(cmd) io_uring_sqe_cmd((cmd)->sqe)
#else
#define vx_uring_payload(cmd) ((cmd)->cmd)
#endif

#endif
