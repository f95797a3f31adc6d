// SPDX-License-Identifier: GPL-2.0-only
/* The host side of kernel/core/platform.h: block devices. Metadata and vector data go through here; file data has iomap. */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "internal.h"

static struct bio_set vexfs_bios;

/* One call of vx_bdev_submit: waits until every bio has ended. */
struct vexfs_batch {
	atomic_t pending;
	struct completion done;
};

struct vexfs_bio {
	struct vexfs_batch *batch;
	struct vx_io *io;
	struct bio bio; /* last: its vectors follow */
};

int vexfs_bio_init(void)
{
	return bioset_init(&vexfs_bios, 64, offsetof(struct vexfs_bio, bio), BIOSET_NEED_BVECS);
}

void vexfs_bio_exit(void)
{
	bioset_exit(&vexfs_bios);
}

static void vexfs_batch_put(struct vexfs_batch *batch)
{
	if (atomic_dec_and_test(&batch->pending))
		complete(&batch->done);
}

static void vexfs_bio_end(struct bio *bio)
{
	struct vexfs_bio *vb = container_of(bio, struct vexfs_bio, bio);
	struct vexfs_batch *batch = vb->batch;

	if (bio->bi_status)
		cmpxchg(&vb->io->err, 0, blk_status_to_errno(bio->bi_status));
	bio_put(bio);
	vexfs_batch_put(batch);
}

static blk_opf_t vexfs_op(u32 flags)
{
	blk_opf_t op = flags & VX_IO_WRITE ? REQ_OP_WRITE | REQ_SYNC : REQ_OP_READ;

	if (flags & VX_IO_META)
		op |= REQ_META | REQ_PRIO;
	if (flags & VX_IO_FUA)
		op |= REQ_FUA;
	return op;
}

/* Adds as much of [p, p + n) as one bio takes; returns how much. */
static size_t vexfs_bio_fill(struct bio *bio, const void *p, size_t n)
{
	bool mapped = is_vmalloc_addr(p);
	size_t left = n;

	while (left) {
		struct page *page = mapped ? vmalloc_to_page(p) : virt_to_page(p);
		size_t in_page = min_t(size_t, left, PAGE_SIZE - offset_in_page(p));

		if (bio_add_page(bio, page, in_page, offset_in_page(p)) != in_page)
			break;
		p += in_page;
		left -= in_page;
	}
	return n - left;
}

static void vexfs_submit_one(struct vx_bdev *dev, struct vx_io *io, struct vexfs_batch *batch)
{
	blk_opf_t op = vexfs_op(io->flags);
	u8 *p = io->buf;
	u64 off = io->off;
	u64 left = io->len;

	if (is_vmalloc_addr(p) && (io->flags & VX_IO_WRITE))
		flush_kernel_vmap_range(p, io->len);
	while (left) {
		size_t pages = DIV_ROUND_UP(offset_in_page(p) + left, PAGE_SIZE);
		struct bio *bio = bio_alloc_bioset(dev->bdev, bio_max_segs(min_t(size_t, pages, UINT_MAX)), op, GFP_NOIO,
						   &vexfs_bios);
		struct vexfs_bio *vb = container_of(bio, struct vexfs_bio, bio);
		size_t n = vexfs_bio_fill(bio, p, min_t(u64, left, SZ_1G));

		if (WARN_ON_ONCE(!n)) {
			bio_put(bio);
			io->err = -EIO;
			return;
		}
		vb->batch = batch;
		vb->io = io;
		bio->bi_iter.bi_sector = off >> SECTOR_SHIFT;
		bio->bi_end_io = vexfs_bio_end;
		atomic_inc(&batch->pending);
		submit_bio(bio);
		p += n;
		off += n;
		left -= n;
	}
}

u64 vx_bdev_size(struct vx_bdev *dev)
{
	return bdev_nr_bytes(dev->bdev);
}

u32 vx_bdev_logical_block(struct vx_bdev *dev)
{
	return bdev_logical_block_size(dev->bdev);
}

bool vx_bdev_read_only(struct vx_bdev *dev)
{
	return bdev_read_only(dev->bdev);
}

const char *vx_bdev_name(struct vx_bdev *dev)
{
	return dev->name;
}

int vx_bdev_submit(struct vx_bdev *dev, struct vx_io *ios, size_t n)
{
	struct vexfs_batch batch = { .pending = ATOMIC_INIT(1) };
	u64 size = vx_bdev_size(dev);
	struct blk_plug plug;
	int err = 0;
	size_t i;

	init_completion(&batch.done);
	blk_start_plug(&plug);
	for (i = 0; i < n; i++) {
		ios[i].err = 0;
		/* A damaged pointer must not reach the block layer, which would cut the request short. */
		if (ios[i].off > size || ios[i].len > size - ios[i].off)
			ios[i].err = -EIO;
		else
			vexfs_submit_one(dev, &ios[i], &batch);
	}
	blk_finish_plug(&plug);
	vexfs_batch_put(&batch);
	wait_for_completion_io(&batch.done);

	for (i = 0; i < n; i++) {
		if (!(ios[i].flags & VX_IO_WRITE) && is_vmalloc_addr(ios[i].buf))
			invalidate_kernel_vmap_range(ios[i].buf, ios[i].len);
		if (ios[i].err && !err)
			err = ios[i].err;
	}
	return err;
}

int vx_bdev_flush(struct vx_bdev *dev)
{
	return blkdev_issue_flush(dev->bdev);
}

int vx_bdev_discard(struct vx_bdev *dev, u64 off, u64 len)
{
	if (!dev->discard)
		return -EOPNOTSUPP;
	return blkdev_issue_discard(dev->bdev, off >> SECTOR_SHIFT, len >> SECTOR_SHIFT, GFP_NOFS);
}
