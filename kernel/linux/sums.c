// SPDX-License-Identifier: GPL-2.0-only
/* Checksums of file data between the core and I/O: looked up for what is read, made of what was written. */
#include <linux/bio.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/slab.h>

#include "internal.h"

/* Blocks looked up together, at most; and when there is no memory for that. */
#define VEXFS_SUMS_MAX 256
#define VEXFS_SUMS_FEW 4
/* Blocks told to the core at a time when they have been written; and when there is no memory for that. */
#define VEXFS_WRITTEN_MAX 4096
#define VEXFS_WRITTEN_FEW 16

/* ------------------------------------------------------------------ of what is to be read */
static struct vexfs_sums *vexfs_sums_alloc(u32 *count)
{
	struct vexfs_sums *sums;

	*count = min_t(u32, *count, VEXFS_SUMS_MAX);
	sums = kmalloc(struct_size(sums, of, *count), GFP_NOFS | __GFP_NOWARN | __GFP_NORETRY);
	if (!sums) {
		/* Somebody waits for this data, who may be what would free memory. */
		*count = min_t(u32, *count, VEXFS_SUMS_FEW);
		sums = kmalloc(struct_size(sums, of, *count), GFP_NOFS | __GFP_NOFAIL);
	}
	refcount_set(&sums->users, 1);
	return sums;
}

/*
 * What is at [off, off + len), block-aligned? *out: the checksums of that piece, which is not longer than they go, or
 * NULL when it has none. Files without checksums are spared all but the first question.
 */
int vexfs_look_up(struct inode *inode, u64 off, u64 len, struct vx_map *m, struct vexfs_sums **out)
{
	struct vexfs_sums *sums;
	u32 count;
	int err = vx_map(vexfs_core(inode), off, len, m);

	*out = NULL;
	if (err || m->type != VX_MAP_MAPPED || !(m->flags & VX_MAP_F_SUMMED))
		return err;
	count = min_t(u64, min(len, m->len) >> inode->i_blkbits, VEXFS_SUMS_MAX);
	sums = vexfs_sums_alloc(&count);
	err = vx_map_sums(vexfs_core(inode), off, len, sums->of, count, m);
	if (err || m->type != VX_MAP_MAPPED || !(m->flags & VX_MAP_F_SUMMED)) {
		kfree(sums);
		return err;
	}
	sums->off = m->off;
	*out = sums;
	return 0;
}

void vexfs_sums_put(struct vexfs_sums *sums)
{
	if (sums && refcount_dec_and_test(&sums->users))
		kfree(sums);
}

/* ------------------------------------------------------------------ of what has been written */
/*
 * From the page cache, where it is under writeback: whole, and as it was written (vexfs_map_blocks()). Only a device
 * that writes into pinned memory does not wait for that. Such a folio will be dirty once more, and is written without
 * until then.
 */
static void vexfs_sum_cached(struct inode *inode, u64 off, u32 count, vx_sum *sums)
{
	u64 bs = i_blocksize(inode);
	u64 end = off + count * bs;

	while (off < end) {
		struct folio *folio = vx_cached_folio(inode->i_mapping, off >> PAGE_SHIFT);
		bool known = !WARN_ON_ONCE(!folio) && !folio_maybe_dma_pinned(folio);
		u64 stop = folio ? folio_pos(folio) + folio_size(folio) : round_down(off, PAGE_SIZE) + PAGE_SIZE;

		for (; off < min(end, stop); off += bs) {
			void *data;

			*sums = VX_SUM_NONE;
			if (known) {
				data = kmap_local_folio(folio, offset_in_folio(folio, off));
				*sums = vx_sum_of(data, bs);
				kunmap_local(data);
			}
			sums++;
		}
		if (folio)
			folio_put(folio);
		cond_resched();
	}
}

/*
 * The data of [off, end) is on the device, and there as it is in the page cache: tells the core, with the checksums.
 * What comes after an error is given back, so that the file has nothing behind a gap that it should not have.
 */
int vexfs_written(struct inode *inode, u64 off, u64 end)
{
	struct vx_inode *core = vexfs_core(inode);
	u32 max = min_t(u64, DIV_ROUND_UP(end - off, i_blocksize(inode)), VEXFS_WRITTEN_MAX);
	vx_sum few[VEXFS_WRITTEN_FEW];
	vx_sum *many = NULL;
	int err = 0;

	if (max > VEXFS_WRITTEN_FEW)
		many = kvmalloc_array(max, sizeof(*many), GFP_NOFS | __GFP_NOWARN | __GFP_NORETRY);
	if (!many)
		max = min_t(u32, max, VEXFS_WRITTEN_FEW);
	while (off < end && !err) {
		u64 stop = min(end, off + max * (u64)i_blocksize(inode));
		u32 count = DIV_ROUND_UP(stop - off, i_blocksize(inode));
		vx_sum *sums = many ?: few;

		vexfs_sum_cached(inode, off, count, sums);
		err = vx_write_done(core, off, count * (u64)i_blocksize(inode), min_t(u64, stop, i_size_read(inode)), 0,
				    sums);
		off = stop;
	}
	if (off < end)
		vx_write_done(core, off, round_up(end - off, i_blocksize(inode)), 0, -EIO, NULL);
	kvfree(many);
	return err;
}
