/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracepoints: /sys/kernel/tracing/events/vexfs. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vexfs

#if !defined(VEXFS_LINUX_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define VEXFS_LINUX_TRACE_H
#include <linux/fs.h>
#include <linux/tracepoint.h>

TRACE_EVENT(vexfs_mount,
	TP_PROTO(struct super_block *sb, u64 txn),
	TP_ARGS(sb, txn),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, txn)
	),
	TP_fast_assign(
		__entry->dev = sb->s_dev;
		__entry->txn = txn;
	),
	TP_printk("dev %d:%d txn %llu", MAJOR(__entry->dev), MINOR(__entry->dev), __entry->txn)
);

TRACE_EVENT(vexfs_unmount,
	TP_PROTO(struct super_block *sb),
	TP_ARGS(sb),
	TP_STRUCT__entry(
		__field(dev_t, dev)
	),
	TP_fast_assign(
		__entry->dev = sb->s_dev;
	),
	TP_printk("dev %d:%d", MAJOR(__entry->dev), MINOR(__entry->dev))
);

/* A commit that somebody waits for: fsync of an inode, or sync (ino 0). */
TRACE_EVENT(vexfs_sync,
	TP_PROTO(struct super_block *sb, u64 ino),
	TP_ARGS(sb, ino),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
	),
	TP_fast_assign(
		__entry->dev = sb->s_dev;
		__entry->ino = ino;
	),
	TP_printk("dev %d:%d ino %llu", MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino)
);

TRACE_EVENT(vexfs_synced,
	TP_PROTO(struct super_block *sb, u64 ino, int err),
	TP_ARGS(sb, ino, err),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(int, err)
	),
	TP_fast_assign(
		__entry->dev = sb->s_dev;
		__entry->ino = ino;
		__entry->err = err;
	),
	TP_printk("dev %d:%d ino %llu err %d", MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino, __entry->err)
);

#define vexfs_map_type(t) __print_symbolic(t, { 0, "hole" }, { 1, "delayed" }, { 2, "mapped" }, { 3, "unwritten" }, { 4, "inline" })

TRACE_EVENT(vexfs_reserve,
	TP_PROTO(struct inode *inode, u64 off, u64 len, u32 type, u64 got),
	TP_ARGS(inode, off, len, type, got),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(u64, off)
		__field(u64, len)
		__field(u64, got)
		__field(u32, type)
	),
	TP_fast_assign(
		__entry->dev = inode->i_sb->s_dev;
		__entry->ino = inode->i_ino;
		__entry->off = off;
		__entry->len = len;
		__entry->got = got;
		__entry->type = type;
	),
	TP_printk("dev %d:%d ino %llu off %llu len %llu %s %llu", MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino,
		  __entry->off, __entry->len, vexfs_map_type(__entry->type), __entry->got)
);

TRACE_EVENT(vexfs_allocate,
	TP_PROTO(struct inode *inode, u64 off, u64 len, u32 type, u64 disk, u64 got),
	TP_ARGS(inode, off, len, type, disk, got),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(u64, off)
		__field(u64, len)
		__field(u64, disk)
		__field(u64, got)
		__field(u32, type)
	),
	TP_fast_assign(
		__entry->dev = inode->i_sb->s_dev;
		__entry->ino = inode->i_ino;
		__entry->off = off;
		__entry->len = len;
		__entry->disk = disk;
		__entry->got = got;
		__entry->type = type;
	),
	TP_printk("dev %d:%d ino %llu off %llu len %llu %s disk %llu len %llu", MAJOR(__entry->dev),
		  MINOR(__entry->dev), __entry->ino, __entry->off, __entry->len, vexfs_map_type(__entry->type),
		  __entry->disk, __entry->got)
);

TRACE_EVENT(vexfs_written,
	TP_PROTO(struct inode *inode, u64 off, u64 len, int err),
	TP_ARGS(inode, off, len, err),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(u64, off)
		__field(u64, len)
		__field(int, err)
	),
	TP_fast_assign(
		__entry->dev = inode->i_sb->s_dev;
		__entry->ino = inode->i_ino;
		__entry->off = off;
		__entry->len = len;
		__entry->err = err;
	),
	TP_printk("dev %d:%d ino %llu off %llu len %llu err %d", MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino,
		  __entry->off, __entry->len, __entry->err)
);

/* A command of include/uapi/vexfs.h, by its number: 0x50 is a search. */
TRACE_EVENT(vexfs_command,
	TP_PROTO(struct inode *inode, u32 nr),
	TP_ARGS(inode, nr),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(u32, nr)
	),
	TP_fast_assign(
		__entry->dev = inode->i_sb->s_dev;
		__entry->ino = inode->i_ino;
		__entry->nr = nr;
	),
	TP_printk("dev %d:%d ino %llu nr %#x", MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino, __entry->nr)
);

TRACE_EVENT(vexfs_command_done,
	TP_PROTO(struct inode *inode, u32 nr, int err),
	TP_ARGS(inode, nr, err),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(u32, nr)
		__field(int, err)
	),
	TP_fast_assign(
		__entry->dev = inode->i_sb->s_dev;
		__entry->ino = inode->i_ino;
		__entry->nr = nr;
		__entry->err = err;
	),
	TP_printk("dev %d:%d ino %llu nr %#x err %d", MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino,
		  __entry->nr, __entry->err)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE vexfs_trace
#include <trace/define_trace.h>
