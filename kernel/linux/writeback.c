// SPDX-License-Identifier: GPL-2.0-only
/*
 * The page cache's way to the device: writeback, and what happens when data has been written.
 *
 * Checksums are made of the page cache when the data is on the device, so no folio may change from where its write
 * begins until then. Whoever changes one locks it and waits if the mapping asks for that (AS_STABLE_WRITES), which it
 * does from the first write with checksums on. An ioend has checksums (marked IOMAP_F_SHARED: such and others are never
 * merged) or not as it was when its blocks were chosen, with the folio locked, whatever becomes of options meanwhile.
 */
#include <linux/bio.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/iomap.h>
#include <linux/migrate.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/writeback.h>

#include "internal.h"
#include "vexfs_trace.h"

/* One piece of a delayed range that writeback asks blocks for, at most. */
#define VEXFS_ALLOCATE_MAX SZ_128M

/* ------------------------------------------------------------------ completion */
/* The data of an ioend is on the device, or is not: the core is told, then the folios are let go. */
static void vexfs_finish_ioend(struct iomap_ioend *ioend)
{
	struct inode *inode = ioend->io_inode;
	u64 bs = i_blocksize(inode);
	u64 off = round_down((u64)ioend->io_offset, bs);
	u64 end = ioend->io_offset + ioend->io_size;
	int err = blk_status_to_errno(vx_ioend_bio(ioend)->bi_status);
	int done;

	if (!err && (ioend->io_flags & IOMAP_F_SHARED))
		done = vexfs_written(inode, off, end);
	else
		done = vx_write_done(vexfs_core(inode), off, round_up(end, bs) - off,
				     min_t(u64, end, i_size_read(inode)), err, NULL);
	vexfs_mapping_done(inode);
	if (!err)
		err = vexfs_check(inode->i_sb, done);
	if (err) /* the blocks have gone back */
		vexfs_mapping_cut(inode);
	trace_vexfs_written(inode, off, end - off, err);
	/* The last folio of these may be all that keeps the inode: do not touch it any more. */
	iomap_finish_ioends(ioend, err);
}

void vexfs_ioend_work(struct work_struct *work)
{
	struct vexfs_inode *vi = container_of(work, struct vexfs_inode, ioend_work);
	unsigned int nofs = memalloc_nofs_save();
	struct iomap_ioend *ioend;
	struct list_head list;
	unsigned long flags;

	spin_lock_irqsave(&vi->ioend_lock, flags);
	list_replace_init(&vi->ioends, &list);
	spin_unlock_irqrestore(&vi->ioend_lock, flags);

	iomap_sort_ioends(&list);
	while ((ioend = list_first_entry_or_null(&list, struct iomap_ioend, io_list))) {
		list_del_init(&ioend->io_list);
		iomap_ioend_try_merge(ioend, &list);
		vexfs_finish_ioend(ioend);
		cond_resched();
	}
	memalloc_nofs_restore(nofs);
}

static void vexfs_end_bio(struct bio *bio)
{
	struct iomap_ioend *ioend = vx_bio_ioend(bio);
	struct vexfs_inode *vi = vexfs_i(ioend->io_inode);
	struct workqueue_struct *wq = vexfs_sb(ioend->io_inode->i_sb)->ioend_wq;
	unsigned long flags;

	spin_lock_irqsave(&vi->ioend_lock, flags);
	if (list_empty(&vi->ioends))
		WARN_ON_ONCE(!queue_work(wq, &vi->ioend_work));
	list_add_tail(&ioend->io_list, &vi->ioends);
	spin_unlock_irqrestore(&vi->ioend_lock, flags);
}

static int vexfs_prepare_ioend(struct iomap_ioend *ioend, int status)
{
	loff_t size = i_size_read(ioend->io_inode);

	/*
	 * The last block is written as a whole, but what an append puts into it from now on may miss the device: the size
	 * on disk must not grow over that when this is done. Only the last of a file's ioends is cut, so merging works.
	 */
	if (size > ioend->io_offset && size - ioend->io_offset < ioend->io_size)
		ioend->io_size = size - ioend->io_offset;
	/* Also when it failed before it began: the blocks that were given to it must go back. */
	vx_ioend_bio(ioend)->bi_end_io = vexfs_end_bio;
	return status;
}

/* ------------------------------------------------------------------ mapping */
/* The folio that is to be written is locked. */
static bool vexfs_begin_sums(struct inode *inode)
{
	if (!vx_wants_sums(vexfs_core(inode)))
		return false;
	if (!mapping_stable_writes(inode->i_mapping))
		mapping_set_stable_writes(inode->i_mapping);
	return true;
}

/*
 * What was looked up for one folio serves the next ones, but not beyond a write that has ended in between: another
 * thread may have written a folio of this range, and whoever changed it since has been promised other blocks.
 */
static int vexfs_map_blocks(VX_MAP_BLOCKS_ARGS)
{
	struct iomap *iomap = &wpc->iomap;
	u64 cookie = vexfs_write_cookie(inode);
	u64 bs = i_blocksize(inode);
	u64 size = round_up((u64)i_size_read(inode), bs);
	struct vx_map m;
	u64 want;
	int err;

	if (offset >= iomap->offset && offset < iomap->offset + iomap->length && iomap->validity_cookie == cookie)
		return 0;
	want = size > offset ? min_t(u64, size - offset, VEXFS_ALLOCATE_MAX) : bs;
	err = vx_map_allocate(vexfs_core(inode), offset, want, false, &m);
	if (err)
		return vexfs_check(inode->i_sb, err);
	trace_vexfs_allocate(inode, offset, want, m.type, m.disk, m.len);
	if (WARN_ON_ONCE(m.type != VX_MAP_MAPPED && m.type != VX_MAP_UNWRITTEN))
		return -EIO;
	memset(iomap, 0, sizeof(*iomap));
	iomap->type = m.type == VX_MAP_UNWRITTEN ? IOMAP_UNWRITTEN : IOMAP_MAPPED;
	iomap->offset = m.off;
	iomap->length = m.len;
	iomap->bdev = vexfs_bdev(inode);
	iomap->addr = m.disk;
	if (vexfs_begin_sums(inode))
		iomap->flags = IOMAP_F_SHARED;
	iomap->validity_cookie = cookie;
	return 0;
}

/* A folio that could not be mapped: its data is lost (the error is in the mapping), and so is the promise of space. */
static void vexfs_discard_folio(struct folio *folio, loff_t pos)
{
	struct inode *inode = folio->mapping->host;
	u64 bs = i_blocksize(inode);
	u64 start = round_down((u64)pos, bs);
	u64 end = folio_pos(folio) + folio_size(folio);

	if (start < end)
		vx_map_unreserve(vexfs_core(inode), start, end - start);
}

static const struct iomap_writeback_ops vexfs_writeback_ops = {
	.map_blocks = vexfs_map_blocks,
	.prepare_ioend = vexfs_prepare_ioend,
	.discard_folio = vexfs_discard_folio,
};

/* ------------------------------------------------------------------ small files */
/* The folio is locked, dirty no more, and holds the whole file. */
static int vexfs_inline_folio(struct inode *inode, struct folio *folio)
{
	void *data = kmap_local_folio(folio, 0);
	int err = vx_inline_write(vexfs_core(inode), data, i_size_read(inode));

	kunmap_local(data);
	return err;
}

/*
 * Stores a small file in its inode instead of giving it a block. Whoever writes or truncates is kept out by i_rwsem,
 * which comes before the folio lock, so it is only tried: when somebody has it, the file gets its block.
 */
static void vexfs_try_inline(struct address_space *mapping, struct writeback_control *wbc)
{
	struct inode *inode = mapping->host;
	struct folio *folio;
	loff_t size;

	size = i_size_read(inode);
	if (!size || size > vexfs_sb(inode->i_sb)->inline_max || wbc->range_start > 0)
		return;
	if (!mapping_tagged(mapping, PAGECACHE_TAG_DIRTY) || !inode_trylock(inode))
		return;
	folio = vx_lock_cached_folio(mapping, 0);
	if (!folio)
		goto unlock_inode;
	size = i_size_read(inode);
	if (!size || size > vexfs_sb(inode->i_sb)->inline_max)
		goto unlock;
	folio_wait_writeback(folio);
	if (!folio_test_uptodate(folio) || !folio_clear_dirty_for_io(folio))
		goto unlock;
	if (vexfs_inline_folio(inode, folio)) {
		/* It has blocks already, or something is wrong, which the ordinary way will find and report. */
		folio_redirty_for_writepage(wbc, folio);
		goto unlock;
	}
	vexfs_mapping_cut(inode);
	wbc->nr_to_write--;
	folio_start_writeback(folio); /* moves the tags of the mapping on */
	folio_unlock(folio);
	folio_end_writeback(folio);
	folio_put(folio);
	inode_unlock(inode);
	return;

unlock:
	folio_unlock(folio);
	folio_put(folio);
unlock_inode:
	inode_unlock(inode);
}

static int vexfs_writepages(struct address_space *mapping, struct writeback_control *wbc)
{
	struct iomap_writepage_ctx wpc = {};

	vexfs_try_inline(mapping, wbc);
	return iomap_writepages(mapping, wbc, &wpc, &vexfs_writeback_ops);
}

const struct address_space_operations vexfs_aops = {
	.read_folio = vexfs_read_folio,
	.readahead = vexfs_readahead,
	.writepages = vexfs_writepages,
	.dirty_folio = vx_dirty_folio,
	.release_folio = iomap_release_folio,
	.invalidate_folio = iomap_invalidate_folio,
	.migrate_folio = filemap_migrate_folio,
	.is_partially_uptodate = iomap_is_partially_uptodate,
	VX_ERROR_REMOVE,
};
