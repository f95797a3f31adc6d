// SPDX-License-Identifier: GPL-2.0-only
/*
 * Checking what a direct read has read.
 *
 * The data is in the reader's own memory by then, where he may be writing to it, and a block may have been moved by a
 * write after it was looked up. So what does not match its checksum, and what is no whole block, is taken from the page
 * cache, which reads it again if it has to, and whose verdict counts.
 */
#include <linux/bio.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/iomap.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "internal.h"

static struct bio_set vexfs_direct_read_bios;

struct vexfs_direct_bio {
	struct inode *inode; /* kept by the file that is read, until iomap_dio_bio_end_io() */
	struct vexfs_sums *sums;
	u64 pos;
	struct bvec_iter iter; /* of the whole bio; the block layer uses up the bio's own */
	struct work_struct work;
	struct bio bio; /* last: its vectors follow */
};

/* Copies n bytes between the bio's memory at *iter and buf, and moves *iter on. */
static void vexfs_copy_bio(struct bio *bio, struct bvec_iter *iter, void *buf, size_t n, bool to_bio)
{
	while (n) {
		struct bio_vec bv = bio_iter_iovec(bio, *iter); /* within a page */
		size_t part = min_t(size_t, n, bv.bv_len);

		if (to_bio)
			memcpy_to_page(bv.bv_page, bv.bv_offset, buf, part);
		else
			memcpy_from_page(buf, bv.bv_page, bv.bv_offset, part);
		bio_advance_iter(bio, iter, part);
		buf += part;
		n -= part;
	}
}

/* The checksum of the next n bytes of the bio. */
static vx_sum vexfs_sum_of_bio(struct bio *bio, struct bvec_iter iter, void *block, size_t n)
{
	struct bio_vec bv = bio_iter_iovec(bio, iter);
	vx_sum sum;
	void *data;

	if (bv.bv_len < n) { /* in several pieces of memory */
		vexfs_copy_bio(bio, &iter, block, n, false);
		return vx_sum_of(block, n);
	}
	data = bvec_kmap_local(&bv);
	sum = vx_sum_of(data, n);
	kunmap_local(data);
	return sum;
}

/* Fills the next n bytes of the bio, which are within one block at pos, from the page cache. */
static int vexfs_take_cached(struct vexfs_direct_bio *db, struct bvec_iter iter, u64 pos, size_t n)
{
	struct folio *folio = read_mapping_folio(db->inode->i_mapping, pos >> PAGE_SHIFT, NULL);
	void *data;

	if (IS_ERR(folio))
		return PTR_ERR(folio);
	data = kmap_local_folio(folio, offset_in_folio(folio, pos));
	vexfs_copy_bio(&db->bio, &iter, data, n, true);
	kunmap_local(data);
	folio_put(folio);
	return 0;
}

static int vexfs_verify_bio(struct vexfs_direct_bio *db, void *block)
{
	struct inode *inode = db->inode;
	size_t bs = i_blocksize(inode);
	struct bvec_iter iter = db->iter;
	u64 pos = db->pos;
	int err = 0;

	while (iter.bi_size && !err) {
		size_t n = min_t(size_t, iter.bi_size, bs - (pos & (bs - 1)));
		vx_sum sum = db->sums->of[(pos - db->sums->off) >> inode->i_blkbits];

		if (sum != VX_SUM_NONE && (n < bs || vexfs_sum_of_bio(&db->bio, iter, block, bs) != sum))
			err = vexfs_take_cached(db, iter, pos, n);
		bio_advance_iter(&db->bio, &iter, n);
		pos += n;
	}
	return err;
}

static void vexfs_direct_read_work(struct work_struct *work)
{
	struct vexfs_direct_bio *db = container_of(work, struct vexfs_direct_bio, work);
	unsigned int nofs = memalloc_nofs_save();
	void *block = kmalloc(i_blocksize(db->inode), GFP_NOFS | __GFP_NOFAIL);
	int err = vexfs_verify_bio(db, block);

	kfree(block);
	atomic64_add(db->iter.bi_size >> db->inode->i_blkbits, &vexfs_sb(db->inode->i_sb)->blocks_verified);
	if (err)
		db->bio.bi_status = errno_to_blk_status(err);
	vexfs_sums_put(db->sums);
	iomap_dio_bio_end_io(&db->bio);
	memalloc_nofs_restore(nofs);
}

static void vexfs_end_direct_read(struct bio *bio)
{
	struct vexfs_direct_bio *db = container_of(bio, struct vexfs_direct_bio, bio);

	if (bio->bi_status) {
		vexfs_sums_put(db->sums);
		iomap_dio_bio_end_io(bio);
		return;
	}
	INIT_WORK(&db->work, vexfs_direct_read_work);
	queue_work(vexfs_sb(db->inode->i_sb)->direct_wq, &db->work);
}

static void vexfs_submit_direct_read(const struct iomap_iter *iter, struct bio *bio, loff_t pos)
{
	struct vexfs_direct_bio *db = container_of(bio, struct vexfs_direct_bio, bio);
	struct vexfs_sums *sums = iter->iomap.private;

	if (sums) {
		refcount_inc(&sums->users);
		db->inode = iter->inode;
		db->sums = sums;
		db->pos = pos;
		db->iter = bio->bi_iter;
		bio->bi_end_io = vexfs_end_direct_read;
	}
	submit_bio(bio);
}

const struct iomap_dio_ops vexfs_direct_read_ops = {
	.submit_io = vexfs_submit_direct_read,
	.bio_set = &vexfs_direct_read_bios,
};

int vexfs_direct_read_init(void)
{
	return bioset_init(&vexfs_direct_read_bios, 16, offsetof(struct vexfs_direct_bio, bio), BIOSET_NEED_BVECS);
}

void vexfs_direct_read_exit(void)
{
	bioset_exit(&vexfs_direct_read_bios);
}
