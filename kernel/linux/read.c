// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading file data into the page cache.
 *
 * Blocks that have a checksum are compared with it by a worker before anybody can see them. A bio is a run of the file
 * and of the device at once, and what it has of checksums was looked up together, with the mapping. A folio that is not
 * one such run, or zeros as a whole, is read in pieces that are counted.
 *
 * iomap reads as well, but offers no place to look at what was read. What it keeps about the blocks of a folio that was
 * written to in part cannot be changed from outside, so such a folio is read anew as a whole (vexfs_forget_part()).
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/iomap.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "internal.h"

static struct bio_set vexfs_read_bios;

/* A folio that is read in pieces. */
struct vexfs_pieces {
	atomic_t pending; /* bytes */
	bool failed;
};

struct vexfs_read_bio {
	struct inode *inode; /* kept by the folios, until the last of them is unlocked */
	struct vexfs_sums *sums; /* NULL: the blocks have none */
	u64 pos;
	bool quiet;
	/* Its first folio and its last one may have other pieces elsewhere. */
	struct {
		struct folio *folio;
		struct vexfs_pieces *pieces;
	} part[2];
	struct work_struct work;
	struct bio bio; /* last: its vectors follow */
};

/* One call of ->read_folio or ->readahead. */
struct vexfs_reader {
	struct inode *inode;
	u64 end; /* of what is wanted */
	blk_opf_t op;
	bool quiet; /* what is wrong will be read again, and told then */
	struct vexfs_read_bio *vb; /* not submitted yet */
	struct vx_map map;
	struct vexfs_sums *sums; /* of what map says */
};

/* ------------------------------------------------------------------ completion */
static void vexfs_end_folio(struct folio *folio, bool ok)
{
	if (ok)
		folio_mark_uptodate(folio);
	else
		vx_folio_failed(folio);
	folio_unlock(folio);
}

static void vexfs_end_piece(struct folio *folio, struct vexfs_pieces *pieces, size_t len, bool ok)
{
	if (!ok)
		WRITE_ONCE(pieces->failed, true);
	if (!atomic_sub_and_test(len, &pieces->pending))
		return;
	ok = !pieces->failed;
	kfree(pieces);
	vexfs_end_folio(folio, ok);
}

/* The inode may be gone afterwards. */
static void vexfs_end_part(struct vexfs_read_bio *vb, struct folio *folio, size_t len, bool ok)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(vb->part); i++) {
		if (vb->part[i].folio == folio) {
			vexfs_end_piece(folio, vb->part[i].pieces, len, ok);
			return;
		}
	}
	vexfs_end_folio(folio, ok);
}

/*
 * The block at pos is not what its checksum says: it is read once more, with the checksum that it has now. What was
 * read first may have been the block's old place, when a direct write has moved it meanwhile.
 */
static bool vexfs_read_again(struct inode *inode, struct folio *folio, size_t off, u64 pos)
{
	size_t bs = i_blocksize(inode);
	struct bio_vec bvec;
	struct vx_map m;
	vx_sum sum, found;
	struct bio bio;
	void *data;
	int err;

	err = vx_map_sums(vexfs_core(inode), pos, bs, &sum, 1, &m);
	if (err || m.type != VX_MAP_MAPPED)
		return false;
	bio_init(&bio, vexfs_bdev(inode), &bvec, 1, REQ_OP_READ);
	bio.bi_iter.bi_sector = m.disk >> SECTOR_SHIFT;
	__bio_add_page(&bio, folio_page(folio, 0), bs, off);
	err = submit_bio_wait(&bio);
	bio_uninit(&bio);
	if (err)
		return false;
	data = kmap_local_folio(folio, off);
	found = vx_sum_of(data, bs);
	kunmap_local(data);
	if (sum == VX_SUM_NONE || sum == found)
		return true;
	vx_sum_mismatch(vexfs_core(inode), pos, m.disk, sum, found);
	return false;
}

static bool vexfs_verify_blocks(struct vexfs_read_bio *vb, struct folio *folio, size_t off, size_t len, u64 pos)
{
	struct inode *inode = vb->inode;
	size_t bs = i_blocksize(inode);
	bool ok = true;

	for (; len; off += bs, pos += bs, len -= bs) {
		vx_sum sum = vb->sums->of[(pos - vb->sums->off) >> inode->i_blkbits];
		void *data = kmap_local_folio(folio, off);
		bool good = sum == VX_SUM_NONE || vx_sum_of(data, bs) == sum;

		kunmap_local(data);
		/* All of them, so that the log has the whole of the damage. */
		if (!good && (vb->quiet || !vexfs_read_again(inode, folio, off, pos)))
			ok = false;
	}
	return ok;
}

static void vexfs_verify_work(struct work_struct *work)
{
	struct vexfs_read_bio *vb = container_of(work, struct vexfs_read_bio, work);
	struct bio *bio = &vb->bio;
	unsigned int nofs = memalloc_nofs_save();
	u64 pos = vb->pos;
	struct folio_iter fi;
	u64 blocks = 0;

	bio_for_each_folio_all(fi, bio)
		blocks += fi.length >> vb->inode->i_blkbits;
	atomic64_add(blocks, &vexfs_sb(vb->inode->i_sb)->blocks_verified);
	bio_for_each_folio_all(fi, bio) {
		vexfs_end_part(vb, fi.folio, fi.length, vexfs_verify_blocks(vb, fi.folio, fi.offset, fi.length, pos));
		pos += fi.length;
		cond_resched();
	}
	vexfs_sums_put(vb->sums);
	bio_put(bio);
	memalloc_nofs_restore(nofs);
}

static void vexfs_read_end_bio(struct bio *bio)
{
	struct vexfs_read_bio *vb = container_of(bio, struct vexfs_read_bio, bio);
	bool ok = !bio->bi_status;
	struct folio_iter fi;

	if (ok && vb->sums) {
		INIT_WORK(&vb->work, vexfs_verify_work);
		queue_work(vexfs_sb(vb->inode->i_sb)->verify_wq, &vb->work);
		return;
	}
	bio_for_each_folio_all(fi, bio)
		vexfs_end_part(vb, fi.folio, fi.length, ok);
	vexfs_sums_put(vb->sums);
	bio_put(bio);
}

/* ------------------------------------------------------------------ making bios */
static void vexfs_submit_read(struct vexfs_reader *r)
{
	if (r->vb)
		submit_bio(&r->vb->bio);
	r->vb = NULL;
}

/* Which place of vb->part has, or can have, a folio that is read in pieces? Negative: both are taken. */
static int vexfs_part_slot(struct vexfs_read_bio *vb, struct folio *folio)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(vb->part); i++)
		if (!vb->part[i].folio || vb->part[i].folio == folio)
			return i;
	return -1;
}

/* Adds [pos, pos + len), which is part of r->map, to the bio that is being made, if it fits there. */
static bool vexfs_extend_read(struct vexfs_reader *r, struct folio *folio, u64 pos, size_t len,
			      struct vexfs_pieces *pieces)
{
	struct vexfs_read_bio *vb = r->vb;
	u64 disk = r->map.disk + (pos - r->map.off);
	int slot = 0;

	if (!vb || vb->pos + vb->bio.bi_iter.bi_size != pos || bio_end_sector(&vb->bio) != disk >> SECTOR_SHIFT ||
	    vb->sums != r->sums)
		return false;
	if (pieces) {
		slot = vexfs_part_slot(vb, folio);
		if (slot < 0)
			return false;
	}
	if (bio_add_page(&vb->bio, folio_page(folio, 0), len, offset_in_folio(folio, pos)) != len)
		return false;
	if (pieces) {
		vb->part[slot].folio = folio;
		vb->part[slot].pieces = pieces;
	}
	return true;
}

static void vexfs_begin_read(struct vexfs_reader *r, u64 pos)
{
	gfp_t gfp = mapping_gfp_constraint(r->inode->i_mapping, GFP_KERNEL);
	u64 pages = DIV_ROUND_UP(r->end - pos, PAGE_SIZE);
	struct bio *bio;

	/* Before it waits for another one to become free. */
	vexfs_submit_read(r);
	bio = bio_alloc_bioset(vexfs_bdev(r->inode), bio_max_segs(min_t(u64, pages, UINT_MAX)), r->op, gfp,
			       &vexfs_read_bios);
	bio->bi_iter.bi_sector = (r->map.disk + (pos - r->map.off)) >> SECTOR_SHIFT;
	bio->bi_end_io = vexfs_read_end_bio;
	r->vb = container_of(bio, struct vexfs_read_bio, bio);
	r->vb->inode = r->inode;
	r->vb->sums = r->sums;
	r->vb->pos = pos;
	r->vb->quiet = r->quiet;
	memset(r->vb->part, 0, sizeof(r->vb->part));
	if (r->sums)
		refcount_inc(&r->sums->users);
}

static void vexfs_add_read(struct vexfs_reader *r, struct folio *folio, u64 pos, size_t len,
			   struct vexfs_pieces *pieces)
{
	if (vexfs_extend_read(r, folio, pos, len, pieces))
		return;
	vexfs_begin_read(r, pos);
	if (WARN_ON_ONCE(!vexfs_extend_read(r, folio, pos, len, pieces))) {
		if (pieces)
			vexfs_end_piece(folio, pieces, len, false);
		else
			vexfs_end_folio(folio, false);
	}
}

/* ------------------------------------------------------------------ one folio */
static int vexfs_reader_map(struct vexfs_reader *r, u64 pos)
{
	int err;

	if (pos >= r->map.off && pos < r->map.off + r->map.len)
		return 0;
	vexfs_sums_put(r->sums);
	r->sums = NULL;
	err = vexfs_look_up(r->inode, pos, r->end - pos, &r->map, &r->sums);
	if (err)
		r->map.len = 0;
	return vexfs_check(r->inode->i_sb, err);
}

/* The contents of a file that has them in its inode: all of them are in the first folio. */
static int vexfs_copy_inline(struct inode *inode, struct folio *folio)
{
	void *data = kmap_local_folio(folio, 0);
	size_t len;
	int err = vx_inline_read(vexfs_core(inode), data, vexfs_sb(inode->i_sb)->inline_max, &len);

	kunmap_local(data);
	if (err)
		return err;
	flush_dcache_folio(folio);
	folio_zero_segment(folio, min_t(u64, len, i_size_read(inode)), folio_size(folio));
	return 0;
}

/* How much from pos on is on the device, or is not and is filled in here? *on_device says which. */
static int vexfs_next_piece(struct vexfs_reader *r, struct folio *folio, u64 pos, size_t *len, bool *on_device)
{
	u64 end = folio_pos(folio) + folio_size(folio);
	u64 size = i_size_read(r->inode);
	int err;

	do {
		err = vexfs_reader_map(r, pos);
		if (err)
			return err;
		if (r->map.type != VX_MAP_INLINE)
			break;
		r->map.len = 0;
		*on_device = false;
		*len = folio_size(folio);
		err = vexfs_copy_inline(r->inode, folio);
		if (err != -ENOENT) /* else a fault has just moved it to a block */
			return err;
	} while (true);
	end = min(end, r->map.off + r->map.len);
	/* Data in flight is in the cache, not here. What is behind the end of the file may be mapped, and is zero. */
	*on_device = r->map.type == VX_MAP_MAPPED && !(r->map.flags & VX_MAP_F_INFLIGHT) && pos < size;
	if (*on_device)
		end = min_t(u64, end, round_up(size, i_blocksize(r->inode)));
	*len = end - pos;
	if (!*on_device)
		folio_zero_range(folio, offset_in_folio(folio, pos), *len);
	return 0;
}

static struct vexfs_pieces *vexfs_new_pieces(struct folio *folio)
{
	struct vexfs_pieces *pieces = kmalloc(sizeof(*pieces), GFP_NOFS | __GFP_NOFAIL);

	atomic_set(&pieces->pending, folio_size(folio));
	pieces->failed = false;
	return pieces;
}

/* The folio is locked and new; it is unlocked when it has been read, which may be before this returns. */
static void vexfs_read_one(struct vexfs_reader *r, struct folio *folio)
{
	u64 pos = folio_pos(folio);
	u64 end = pos + folio_size(folio);
	struct vexfs_pieces *pieces = NULL;
	bool on_device;
	size_t len;
	int err;

	for (; pos < end; pos += len) {
		err = vexfs_next_piece(r, folio, pos, &len, &on_device);
		if (err)
			len = end - pos;
		if (!pieces && len < folio_size(folio))
			pieces = vexfs_new_pieces(folio);
		if (!err && on_device)
			vexfs_add_read(r, folio, pos, len, pieces);
		else if (pieces)
			vexfs_end_piece(folio, pieces, len, !err);
		else
			vexfs_end_folio(folio, !err);
	}
}

static void vexfs_reader_done(struct vexfs_reader *r)
{
	vexfs_submit_read(r);
	vexfs_sums_put(r->sums);
}

/* ------------------------------------------------------------------ address space operations */
/*
 * Some blocks of the folio were written while it was not uptodate. iomap knows which, and nobody else: when what was
 * written is on the device, so that nothing is lost, it can forget. 0: the folio is still locked. Else it is not.
 */
static int vexfs_forget_part(struct folio *folio)
{
	struct address_space *mapping = folio->mapping;
	loff_t pos = folio_pos(folio);
	loff_t last = pos + folio_size(folio) - 1;
	int err;

	if (!folio_test_private(folio))
		return 0;
	folio_wait_writeback(folio);
	if (iomap_release_folio(folio, GFP_NOFS))
		return 0;
	folio_unlock(folio);
	err = filemap_write_and_wait_range(mapping, pos, last);
	return err ?: AOP_TRUNCATED_PAGE;
}

/*
 * Something in a large folio could not be read. What is good beside it shall be: from now on this file has small ones.
 * The caller looks the folio up again.
 */
static int vexfs_read_smaller(struct address_space *mapping, pgoff_t first, pgoff_t last)
{
	vx_no_large_folios(mapping);
	/* Busy: somebody has written to it, and the next attempt will find that (vexfs_forget_part()). */
	invalidate_inode_pages2_range(mapping, first, last);
	cond_resched();
	return AOP_TRUNCATED_PAGE;
}

int vexfs_read_folio(struct file *file, struct folio *folio)
{
	struct address_space *mapping = folio->mapping;
	pgoff_t first = folio->index;
	pgoff_t last = first + folio_nr_pages(folio) - 1;
	struct vexfs_reader r = {
		.inode = mapping->host,
		.end = folio_pos(folio) + folio_size(folio),
		.op = REQ_OP_READ,
		.quiet = first != last, /* small ones follow if it fails */
	};
	int err = vexfs_forget_part(folio);

	if (err)
		return err;
	vexfs_read_one(&r, folio);
	vexfs_reader_done(&r);
	if (first == last)
		return 0; /* the caller waits, and sees whether it is uptodate */
	err = folio_wait_locked_killable(folio);
	if (err || folio_test_uptodate(folio))
		return err;
	return vexfs_read_smaller(mapping, first, last);
}

void vexfs_readahead(struct readahead_control *rac)
{
	struct vexfs_reader r = {
		.inode = rac->mapping->host,
		.end = readahead_pos(rac) + readahead_length(rac),
		.op = REQ_OP_READ | REQ_RAHEAD,
		.quiet = true,
	};
	struct folio *folio;

	while ((folio = readahead_folio(rac)))
		vexfs_read_one(&r, folio);
	vexfs_reader_done(&r);
}

int vexfs_read_init(void)
{
	return bioset_init(&vexfs_read_bios, 64, offsetof(struct vexfs_read_bio, bio), BIOSET_NEED_BVECS);
}

void vexfs_read_exit(void)
{
	synchronize_rcu(); /* the last completions may still be on their way out */
	bioset_exit(&vexfs_read_bios);
}
