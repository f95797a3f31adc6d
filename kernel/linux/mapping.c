// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where a file's blocks are, as iomap asks for it.
 *
 * The core's answer is a struct vx_map. Two kinds need translating. A piece that is in flight has blocks whose contents
 * are not on the device yet: what is there is older than the file, so a reader must take zeros for it. Inline contents
 * are handed to iomap in a buffer of our own and, after a write, go back to the core in iomap_end; such a file never
 * has a dirty folio. Writeback moves small files into the inode (writeback.c), which is excluded here by i_rwsem, and a
 * fault moves them out under the folio's lock.
 *
 * Reads into the page cache do without iomap (read.c).
 */
#include <linux/fs.h>
#include <linux/iomap.h>
#include <linux/pagemap.h>
#include <linux/slab.h>

#include "internal.h"
#include "vexfs_trace.h"

/* A buffered write reserves at most this much at a time: a larger write still gets as far as there is space. */
#define VEXFS_RESERVE_MAX SZ_4M

/* Called with the folio locked: may the write go on with the mapping that it looked up before? */
static bool vexfs_iomap_valid(struct inode *inode, const struct iomap *iomap)
{
	return iomap->validity_cookie == vexfs_write_cookie(inode) && vexfs_edges_held(inode);
}

VX_FOLIO_OPS(vexfs_folio_ops, vexfs_hold_edges, vexfs_release_edges, vexfs_iomap_valid);

static u16 vexfs_iomap_type(const struct vx_map *m, unsigned int flags)
{
	if (m->flags & VX_MAP_F_INFLIGHT)
		return flags & IOMAP_REPORT ? IOMAP_DELALLOC : IOMAP_UNWRITTEN;
	switch (m->type) {
	case VX_MAP_HOLE:
		return IOMAP_HOLE;
	case VX_MAP_DELALLOC:
		/* A direct read that raced with a fault: the data was not there when it began. */
		return flags & IOMAP_DIRECT ? IOMAP_UNWRITTEN : IOMAP_DELALLOC;
	case VX_MAP_UNWRITTEN:
		return IOMAP_UNWRITTEN;
	}
	return IOMAP_MAPPED;
}

static void vexfs_fill_iomap(struct inode *inode, const struct vx_map *m, unsigned int flags, struct iomap *iomap)
{
	iomap->type = vexfs_iomap_type(m, flags);
	iomap->offset = m->off;
	iomap->length = m->len;
	iomap->bdev = vexfs_bdev(inode);
	iomap->addr = m->type == VX_MAP_MAPPED || m->type == VX_MAP_UNWRITTEN ? m->disk : IOMAP_NULL_ADDR;
	if (iomap->type == IOMAP_HOLE || iomap->type == IOMAP_DELALLOC)
		iomap->addr = IOMAP_NULL_ADDR;
	if ((flags & IOMAP_REPORT) && (m->flags & VX_MAP_F_SHARED))
		iomap->flags |= IOMAP_F_SHARED;
}

/* [*off, *off + *len) becomes whole blocks. */
static void vexfs_round(struct inode *inode, loff_t pos, loff_t length, u64 *off, u64 *len)
{
	u64 bs = i_blocksize(inode);

	*off = round_down((u64)pos, bs);
	*len = round_up((u64)pos + length, bs) - *off;
}

/* ------------------------------------------------------------------ inline contents */
/*
 * With the invalidate lock held, or the lock of the folio with the contents: a buffered read has one of them from where
 * it sees that a file is inline to where it has copied the contents, and the file must not outgrow them meanwhile.
 */
int vexfs_uninline(struct inode *inode)
{
	int err = vx_uninline(vexfs_core(inode));

	vexfs_mapping_cut(inode);
	return err;
}

/* A buffer as large as inline contents may become, never across a page (iomap insists). */
static void *vexfs_inline_buffer(struct inode *inode, size_t *len)
{
	size_t cap = vexfs_sb(inode->i_sb)->inline_max;
	void *buf = kzalloc(roundup_pow_of_two(cap), GFP_NOFS);
	int err;

	if (!buf)
		return ERR_PTR(-ENOMEM);
	err = vx_inline_read(vexfs_core(inode), buf, cap, len);
	if (err) {
		kfree(buf);
		return ERR_PTR(err);
	}
	return buf;
}

static void vexfs_fill_inline(struct inode *inode, void *buf, size_t len, struct iomap *iomap)
{
	iomap->type = IOMAP_INLINE;
	iomap->offset = 0;
	iomap->length = len;
	iomap->bdev = vexfs_bdev(inode);
	iomap->addr = IOMAP_NULL_ADDR;
	iomap->inline_data = buf;
	iomap->private = buf;
}

static int vexfs_read_inline(struct inode *inode, loff_t pos, unsigned int flags, struct iomap *iomap)
{
	u32 cap = vexfs_sb(inode->i_sb)->inline_max;
	size_t len;
	void *buf;

	if (flags & IOMAP_REPORT) {
		vexfs_fill_inline(inode, NULL, max_t(u64, i_size_read(inode), pos + 1), iomap);
		return 0;
	}
	if (pos >= min_t(u64, cap, i_size_read(inode))) {
		struct vx_map hole = { .off = pos, .len = i_blocksize(inode), .type = VX_MAP_HOLE };

		vexfs_fill_iomap(inode, &hole, flags, iomap);
		return 0;
	}
	buf = vexfs_inline_buffer(inode, &len);
	if (IS_ERR(buf))
		return PTR_ERR(buf);
	vexfs_fill_inline(inode, buf, min_t(u64, cap, i_size_read(inode)), iomap);
	return 0;
}

/*
 * A write to a file whose contents are inline. 1: done, the write goes through a buffer. 0: the file is not inline (any
 * more), go on. A fault or a write that would make it too large moves the contents into a block.
 */
static int vexfs_write_inline(struct inode *inode, loff_t pos, loff_t length, unsigned int flags, struct iomap *iomap)
{
	u32 cap = vexfs_sb(inode->i_sb)->inline_max;
	struct vx_map m;
	size_t len;
	void *buf;
	int err;

	if (i_size_read(inode) > cap)
		return 0;
	err = vx_map(vexfs_core(inode), 0, i_blocksize(inode), &m);
	if (err || m.type != VX_MAP_INLINE)
		return err;
	if (flags & IOMAP_ZERO) {
		/* What lies behind the contents is zero, in the cache as well, for it has been clean since it was read. */
		m = (struct vx_map){ .type = VX_MAP_HOLE };
		vexfs_round(inode, pos, length, &m.off, &m.len);
		vexfs_fill_iomap(inode, &m, flags, iomap);
		return 1;
	}
	if (flags & IOMAP_FAULT) /* with the lock of the folio */
		return vexfs_uninline(inode);
	if (pos + length > cap) {
		filemap_invalidate_lock(inode->i_mapping);
		err = vexfs_uninline(inode);
		filemap_invalidate_unlock(inode->i_mapping);
		return err;
	}
	buf = vexfs_inline_buffer(inode, &len);
	if (IS_ERR(buf))
		return PTR_ERR(buf);
	vexfs_fill_inline(inode, buf, cap, iomap);
	return 1;
}

static void vexfs_write_inline_end(struct inode *inode, ssize_t written, struct iomap *iomap)
{
	int err;

	if (written <= 0)
		return;
	err = vx_inline_write(vexfs_core(inode), iomap->inline_data, i_size_read(inode));
	/*
	 * -EBUSY: a fault has moved the contents to a block meanwhile, and made the folio dirty after we had written to it.
	 * Anything else must be reported; iomap does not do that for a write that it thinks is done.
	 */
	if (err && err != -EBUSY)
		vexfs_i(inode)->inline_error = err;
}

/* ------------------------------------------------------------------ reports and direct reads */
static int vexfs_read_begin(struct inode *inode, loff_t pos, loff_t length, unsigned int flags, struct iomap *iomap,
			    struct iomap *srcmap)
{
	struct vexfs_sums *sums = NULL;
	struct vx_map m;
	u64 off, len;
	int err;

	if (flags & IOMAP_NOWAIT)
		return -EAGAIN; /* the tree may have to be read */
	vexfs_round(inode, pos, length, &off, &len);
	do {
		if (flags & IOMAP_DIRECT)
			err = vexfs_look_up(inode, off, len, &m, &sums);
		else
			err = vx_map(vexfs_core(inode), off, len, &m);
		if (err)
			return vexfs_check(inode->i_sb, err);
		if (m.type != VX_MAP_INLINE) {
			vexfs_fill_iomap(inode, &m, flags, iomap);
			iomap->private = sums; /* for vexfs_submit_direct_read() */
			return 0;
		}
		/* -ENOENT: a fault moved the contents to a block while a direct read looked. */
		err = vexfs_read_inline(inode, pos, flags, iomap);
	} while (err == -ENOENT);
	return vexfs_check(inode->i_sb, err);
}

static int vexfs_read_end(struct inode *inode, loff_t pos, loff_t length, ssize_t written, unsigned int flags,
			  struct iomap *iomap)
{
	if (iomap->type == IOMAP_INLINE)
		kfree(iomap->private);
	else
		vexfs_sums_put(iomap->private);
	return 0;
}

const struct iomap_ops vexfs_read_ops = {
	.iomap_begin = vexfs_read_begin,
	.iomap_end = vexfs_read_end,
};

/* ------------------------------------------------------------------ buffered writes, zeroing, faults */
/*
 * The file is about to grow from `size`. A shared mapping may have left anything behind the end, within the last page;
 * the block with the end is zeroed as such, but blocks behind it are holes, which nobody zeroes in the cache.
 */
void vexfs_zero_cached_tail(struct inode *inode, loff_t size)
{
	struct folio *folio;

	if (!offset_in_page(size))
		return;
	folio = vx_lock_cached_folio(inode->i_mapping, size >> PAGE_SHIFT);
	if (!folio)
		return;
	folio_wait_stable(folio);
	folio_zero_segment(folio, offset_in_folio(folio, size), folio_size(folio));
	folio_unlock(folio);
	folio_put(folio);
}

static int vexfs_reserve(struct inode *inode, u64 off, u64 *len, struct vx_map *m)
{
	u64 bs = i_blocksize(inode);
	int err;

	*len = min_t(u64, *len, VEXFS_RESERVE_MAX);
	err = vx_map_reserve(vexfs_core(inode), off, *len, m);
	while (err == -ENOSPC && *len > bs) {
		*len = max(round_down(*len / 4, bs), bs);
		err = vx_map_reserve(vexfs_core(inode), off, *len, m);
	}
	return err;
}

static int vexfs_zero_begin(struct inode *inode, u64 off, u64 len, unsigned int flags, struct iomap *iomap)
{
	struct vx_map m;
	int err = vx_map(vexfs_core(inode), off, len, &m);

	if (err)
		return vexfs_check(inode->i_sb, err);
	len = min(len, m.off + m.len - off);
	if ((m.flags & VX_MAP_F_KEPT) &&
	    (m.type == VX_MAP_MAPPED || filemap_range_has_page(inode->i_mapping, off, off + len - 1))) {
		/* What is zeroed in the cache goes to another place. */
		err = vexfs_reserve(inode, off, &len, &m);
		if (err)
			return vexfs_check(inode->i_sb, err);
	}
	vexfs_fill_iomap(inode, &m, flags, iomap);
	/*
	 * iomap takes an unwritten range for zero, whatever the page cache has on top of it. Where it has anything, call
	 * the range delayed: then the cache is zeroed (and nothing is taken back in iomap_end, not being marked new).
	 */
	if (iomap->type == IOMAP_UNWRITTEN && filemap_range_has_page(inode->i_mapping, off, off + len - 1)) {
		iomap->type = IOMAP_DELALLOC;
		iomap->addr = IOMAP_NULL_ADDR;
		iomap->length = min(iomap->length, off + len - iomap->offset);
	}
	return 0;
}

/*
 * A page that is being written gets its promise of new blocks when that has ended: before, its blocks are those that are
 * being written to, and the next write would find no promise. The fault holds the folio locked.
 */
static void vexfs_wait_written(struct inode *inode, loff_t pos)
{
	struct folio *folio;

	if (!mapping_stable_writes(inode->i_mapping))
		return;
	folio = vx_cached_folio(inode->i_mapping, pos >> PAGE_SHIFT);
	if (!folio)
		return;
	folio_wait_writeback(folio);
	folio_put(folio);
}

static int vexfs_write_begin(struct inode *inode, loff_t pos, loff_t length, unsigned int flags, struct iomap *iomap,
			     struct iomap *srcmap)
{
	struct vx_map m;
	u64 off, len;
	int err;

	if (flags & IOMAP_NOWAIT)
		return -EAGAIN;
	iomap->validity_cookie = vexfs_write_cookie(inode);
	vx_iomap_set_folio_ops(iomap, &vexfs_folio_ops);
	err = vexfs_write_inline(inode, pos, length, flags, iomap);
	if (err)
		return err > 0 ? 0 : vexfs_check(inode->i_sb, err);
	/* It may just have been moved out of the inode. */
	iomap->validity_cookie = vexfs_write_cookie(inode);

	vexfs_round(inode, pos, length, &off, &len);
	if (flags & IOMAP_ZERO)
		return vexfs_zero_begin(inode, off, len, flags, iomap);
	if (flags & IOMAP_FAULT)
		vexfs_wait_written(inode, pos);
	err = vexfs_reserve(inode, off, &len, &m);
	if (err)
		return vexfs_check(inode->i_sb, err);
	trace_vexfs_reserve(inode, off, len, m.type, m.len);
	if (WARN_ON_ONCE(m.type == VX_MAP_INLINE || m.type == VX_MAP_HOLE))
		return -EIO;
	vexfs_fill_iomap(inode, &m, flags, iomap);
	if (iomap->type == IOMAP_DELALLOC)
		iomap->flags |= IOMAP_F_NEW;
	iomap->private = (void *)(unsigned long)len; /* how much may have been promised (vexfs_take_back()) */
	return 0;
}

static VX_PUNCH_RETURN vexfs_punch_reservation(VX_PUNCH_ARGS)
{
	vx_map_unreserve(vexfs_core(inode), pos, length);
	return VX_PUNCH_OK;
}

/*
 * The write was cut short: what was promised to the rest of it goes back, also behind this mapping, and where blocks
 * that there are were to move.
 */
static int vexfs_take_back(struct inode *inode, loff_t pos, loff_t length, ssize_t written, unsigned int flags,
			   const struct iomap *iomap)
{
	loff_t end = iomap->offset + (unsigned long)iomap->private;
	struct iomap promised = *iomap;

	promised.type = IOMAP_DELALLOC;
	promised.flags |= IOMAP_F_NEW;
	return vx_punch_unwritten_reservation(inode, &promised, pos, max(length, end - pos), written, flags,
					      vexfs_punch_reservation);
}

static int vexfs_write_end(struct inode *inode, loff_t pos, loff_t length, ssize_t written, unsigned int flags,
			   struct iomap *iomap)
{
	if (iomap->type == IOMAP_INLINE) {
		vexfs_write_inline_end(inode, written, iomap);
		kfree(iomap->private);
		return 0;
	}
	if (flags & (IOMAP_FAULT | IOMAP_ZERO))
		return 0; /* both hold the invalidate lock, and neither leaves part of a reservation unused */
	return written < length ? vexfs_take_back(inode, pos, length, written, flags, iomap) : 0;
}

const struct iomap_ops vexfs_write_ops = {
	.iomap_begin = vexfs_write_begin,
	.iomap_end = vexfs_write_end,
};

/* ------------------------------------------------------------------ direct writes */
/* Would a direct write of part of a block have to copy the rest of it? The page cache can do that. */
static int vexfs_copies_rest(struct inode *inode, loff_t pos, loff_t length, u64 off, u64 len)
{
	u64 end = off + len;
	struct vx_map m;
	int err;

	if (!(((u64)pos | length) & (i_blocksize(inode) - 1)))
		return 0;
	for (; off < end; off = m.off + m.len) {
		err = vx_map(vexfs_core(inode), off, end - off, &m);
		if (err)
			return err;
		if (m.flags & VX_MAP_F_KEPT)
			return -ENOTBLK;
	}
	return 0;
}

static int vexfs_direct_begin(struct inode *inode, loff_t pos, loff_t length, unsigned int flags, struct iomap *iomap,
			      struct iomap *srcmap)
{
	struct vx_map m;
	u64 off, len;
	int err;

	if (flags & IOMAP_NOWAIT)
		return -EAGAIN;
	vexfs_round(inode, pos, length, &off, &len);
	err = vexfs_copies_rest(inode, pos, length, off, len);
	if (err)
		return err == -ENOTBLK ? err : vexfs_check(inode->i_sb, err);
	err = vx_map_allocate(vexfs_core(inode), off, len, true, &m);
	if (err)
		return vexfs_check(inode->i_sb, err);
	trace_vexfs_allocate(inode, off, len, m.type, m.disk, m.len);
	iomap->type = m.type == VX_MAP_UNWRITTEN ? IOMAP_UNWRITTEN : IOMAP_MAPPED;
	iomap->offset = m.off;
	iomap->length = m.len;
	iomap->bdev = vexfs_bdev(inode);
	iomap->addr = m.disk;
	/* The mapping of new blocks enters the tree when the data is there; a datasync has to wait for that commit. */
	iomap->flags |= IOMAP_F_DIRTY;
	if (m.flags & (VX_MAP_F_NEW | VX_MAP_F_INFLIGHT))
		iomap->flags |= IOMAP_F_NEW;
	return 0;
}

/* Blocks that were allocated and for which no write was started are given back. */
static int vexfs_direct_end(struct inode *inode, loff_t pos, loff_t length, ssize_t written, unsigned int flags,
			    struct iomap *iomap)
{
	u64 bs = i_blocksize(inode);
	u64 start = round_up((u64)pos + max_t(ssize_t, written, 0), bs);
	u64 end = round_up((u64)pos + length, bs);

	if (written <= 0)
		start = round_down((u64)pos, bs);
	if (start < end && (iomap->flags & IOMAP_F_NEW))
		vx_write_done(vexfs_core(inode), start, end - start, 0, -EIO, NULL);
	return 0;
}

const struct iomap_ops vexfs_direct_write_ops = {
	.iomap_begin = vexfs_direct_begin,
	.iomap_end = vexfs_direct_end,
};
