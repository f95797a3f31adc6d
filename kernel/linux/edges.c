// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writes that begin or end inside a block.
 *
 * The rest of such a block has to be read first, and iomap would do it, but not compare it with the block's checksum: a
 * damaged rest would get a new one, that of the damage. So it is read here, as all reads are, before iomap looks for
 * the folio. Whoever writes like this has i_rwsem for himself, which keeps away what would take the folio out of the
 * cache again, but for memory reclaim, and a reference keeps that away.
 */
#include <linux/fs.h>
#include <linux/iomap.h>
#include <linux/pagemap.h>

#include "internal.h"

static bool vexfs_is_edge(struct inode *inode, u64 pos)
{
	return pos & (i_blocksize(inode) - 1);
}

/* Is the block around pos all there, or is there none to ask for? The folio is locked. */
static bool vexfs_edge_cached(struct inode *inode, struct folio *folio, u64 pos)
{
	u64 bs = i_blocksize(inode);

	return !vexfs_is_edge(inode, pos) || pos >= folio_pos(folio) + folio_size(folio) ||
	       iomap_is_partially_uptodate(folio, offset_in_folio(folio, round_down(pos, bs)), bs);
}

static bool vexfs_edges_cached(struct inode *inode, struct folio *folio, u64 pos, u64 end)
{
	if (folio->mapping != inode->i_mapping)
		return false;
	return folio_test_uptodate(folio) ||
	       (vexfs_edge_cached(inode, folio, pos) && vexfs_edge_cached(inode, folio, end));
}

/* Has the block around pos contents on the device? If that cannot be told, reading it will tell why. */
static bool vexfs_edge_on_device(struct inode *inode, u64 pos)
{
	u64 bs = i_blocksize(inode);
	struct vx_map m;

	if (!vexfs_is_edge(inode, pos) || round_down(pos, bs) >= i_size_read(inode))
		return false;
	return vx_map(vexfs_core(inode), round_down(pos, bs), bs, &m) || m.type == VX_MAP_MAPPED;
}

/*
 * [pos, pos + len) is about to be written, or as much of it as is in one folio. If there is none yet, it will not be
 * larger than what is written, so that no end is inside of it unless it has a single page.
 */
int vexfs_hold_edges(struct inode *inode, loff_t pos, unsigned int len)
{
	struct address_space *mapping = inode->i_mapping;
	struct vexfs_inode *vi = vexfs_i(inode);
	pgoff_t index = pos >> PAGE_SHIFT;
	u64 end = pos + len;
	struct folio *folio;
	bool cached;

	if (!vexfs_is_edge(inode, pos) && !vexfs_is_edge(inode, end))
		return 0;
	vi->held_pos = pos;
	vi->held_end = end;
	folio = vx_cached_folio(mapping, index);
	if (folio) {
		cached = folio_test_uptodate(folio);
		if (!cached) {
			folio_lock(folio);
			cached = vexfs_edges_cached(inode, folio, pos, end);
			folio_unlock(folio);
		}
		if (cached) {
			vi->held = folio;
			return 0;
		}
	}
	if (end >= (folio ? folio_pos(folio) + folio_size(folio) : (u64)(index + 1) << PAGE_SHIFT))
		end = 0;
	if (folio)
		folio_put(folio);
	if (!vexfs_edge_on_device(inode, pos) && !vexfs_edge_on_device(inode, end))
		return 0;
	folio = read_mapping_folio(mapping, index, NULL);
	if (IS_ERR(folio))
		return PTR_ERR(folio);
	vi->held = folio;
	return 0;
}

/*
 * With the folio that is written locked: is what was held still so? Not when its memory has failed, or when a reader
 * found it uptodate in part and read it anew, in vain.
 */
bool vexfs_edges_held(struct inode *inode)
{
	struct vexfs_inode *vi = vexfs_i(inode);

	return !vi->held || vexfs_edges_cached(inode, vi->held, vi->held_pos, vi->held_end);
}

void vexfs_release_edges(struct inode *inode)
{
	struct folio *folio = vexfs_i(inode)->held;

	vexfs_i(inode)->held = NULL;
	if (folio)
		folio_put(folio);
}
