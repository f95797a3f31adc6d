// SPDX-License-Identifier: GPL-2.0-only
/* /sys/fs/vexfs/DEV/: what is mounted, its geometry, and the core's counters. */
#include <linux/fs.h>
#include <linux/kobject.h>
#include <linux/sysfs.h>

#include "internal.h"

static struct kset *vexfs_kset;

struct vexfs_attribute {
	struct attribute attr;
	ssize_t (*show)(struct vexfs_sb *sbi, char *buf);
	ssize_t (*store)(struct vexfs_sb *sbi, const char *buf, size_t n);
};

/* ------------------------------------------------------------------ values */
struct vexfs_page {
	char *buf;
	size_t used;
};

static void vexfs_page_emit(void *p, const char *s, size_t n)
{
	struct vexfs_page *page = p;

	n = min(n, PAGE_SIZE - page->used);
	memcpy(page->buf + page->used, s, n);
	page->used += n;
}

static ssize_t vexfs_show_section(struct vexfs_sb *sbi, const char *what, char *buf)
{
	struct vexfs_page page = { .buf = buf };
	int err = vx_fs_print(sbi->core, what, vexfs_page_emit, &page);

	return err ?: (ssize_t)page.used;
}

#define VEXFS_SECTION(what)                                               \
	static ssize_t what##_show(struct vexfs_sb *sbi, char *buf)       \
	{                                                                 \
		return vexfs_show_section(sbi, #what, buf);               \
	}                                                                 \
	static struct vexfs_attribute vexfs_attr_##what = {               \
		.attr = { .name = #what, .mode = 0444 }, .show = what##_show }

#define VEXFS_VALUE(what, format, value)                                  \
	static ssize_t what##_show(struct vexfs_sb *sbi, char *buf)       \
	{                                                                 \
		struct vx_fs_info info;                                   \
		vx_fs_info(sbi->core, &info);                             \
		return sysfs_emit(buf, format "\n", value);               \
	}                                                                 \
	static struct vexfs_attribute vexfs_attr_##what = {               \
		.attr = { .name = #what, .mode = 0444 }, .show = what##_show }

VEXFS_SECTION(stats);
VEXFS_SECTION(performance);
VEXFS_SECTION(space);
VEXFS_SECTION(cache);
VEXFS_SECTION(simd);
VEXFS_VALUE(uuid, "%pU", info.uuid);
VEXFS_VALUE(label, "%s", info.label);
VEXFS_VALUE(block_size, "%u", info.block_size);
VEXFS_VALUE(node_size, "%u", info.node_size);
VEXFS_VALUE(blocks, "%llu", info.blocks);
VEXFS_VALUE(blocks_free, "%llu", info.blocks_free);
VEXFS_VALUE(inodes_used, "%llu", info.inodes_used);
VEXFS_VALUE(transaction, "%llu", info.txn_open);
VEXFS_VALUE(durable_transaction, "%llu", info.txn_durable);
VEXFS_VALUE(aborted, "%d", info.aborted);

/* Blocks that were compared with their checksum when they were read. */
static ssize_t blocks_verified_show(struct vexfs_sb *sbi, char *buf)
{
	return sysfs_emit(buf, "%lld\n", (long long)atomic64_read(&sbi->blocks_verified));
}
static struct vexfs_attribute vexfs_attr_blocks_verified = {
	.attr = { .name = "blocks_verified", .mode = 0444 }, .show = blocks_verified_show };

/* Writing anything here commits. */
static ssize_t commit_store(struct vexfs_sb *sbi, const char *buf, size_t n)
{
	int err = vexfs_check(sbi->sb, vx_fs_commit(sbi->core));

	return err ?: (ssize_t)n;
}
static struct vexfs_attribute vexfs_attr_commit = { .attr = { .name = "commit", .mode = 0200 }, .store = commit_store };

static struct attribute *vexfs_attrs[] = {
	&vexfs_attr_stats.attr,
	&vexfs_attr_performance.attr,
	&vexfs_attr_space.attr,
	&vexfs_attr_cache.attr,
	&vexfs_attr_simd.attr,
	&vexfs_attr_uuid.attr,
	&vexfs_attr_label.attr,
	&vexfs_attr_block_size.attr,
	&vexfs_attr_node_size.attr,
	&vexfs_attr_blocks.attr,
	&vexfs_attr_blocks_free.attr,
	&vexfs_attr_inodes_used.attr,
	&vexfs_attr_blocks_verified.attr,
	&vexfs_attr_transaction.attr,
	&vexfs_attr_durable_transaction.attr,
	&vexfs_attr_aborted.attr,
	&vexfs_attr_commit.attr,
	NULL
};
ATTRIBUTE_GROUPS(vexfs);

/* ------------------------------------------------------------------ plumbing */
static ssize_t vexfs_attr_show(struct kobject *kobj, struct attribute *attr, char *buf)
{
	struct vexfs_attribute *a = container_of(attr, struct vexfs_attribute, attr);

	return a->show ? a->show(container_of(kobj, struct vexfs_sb, kobj), buf) : -EIO;
}

static ssize_t vexfs_attr_store(struct kobject *kobj, struct attribute *attr, const char *buf, size_t n)
{
	struct vexfs_attribute *a = container_of(attr, struct vexfs_attribute, attr);

	return a->store ? a->store(container_of(kobj, struct vexfs_sb, kobj), buf, n) : -EIO;
}

static void vexfs_kobj_release(struct kobject *kobj)
{
	complete(&container_of(kobj, struct vexfs_sb, kobj)->kobj_released);
}

static const struct sysfs_ops vexfs_sysfs_ops = {
	.show = vexfs_attr_show,
	.store = vexfs_attr_store,
};

static const struct kobj_type vexfs_ktype = {
	.default_groups = vexfs_groups,
	.sysfs_ops = &vexfs_sysfs_ops,
	.release = vexfs_kobj_release,
};

int vexfs_sysfs_add(struct vexfs_sb *sbi)
{
	int err;

	init_completion(&sbi->kobj_released);
	sbi->kobj.kset = vexfs_kset;
	err = kobject_init_and_add(&sbi->kobj, &vexfs_ktype, NULL, "%s", sbi->sb->s_id);
	if (err) {
		kobject_put(&sbi->kobj);
		wait_for_completion(&sbi->kobj_released);
		return err;
	}
	sbi->kobj_added = true;
	return 0;
}

void vexfs_sysfs_remove(struct vexfs_sb *sbi)
{
	if (!sbi->kobj_added)
		return;
	kobject_del(&sbi->kobj);
	kobject_put(&sbi->kobj);
	wait_for_completion(&sbi->kobj_released);
	sbi->kobj_added = false;
}

int vexfs_sysfs_init(void)
{
	vexfs_kset = kset_create_and_add("vexfs", NULL, fs_kobj);
	return vexfs_kset ? 0 : -ENOMEM;
}

void vexfs_sysfs_exit(void)
{
	kset_unregister(vexfs_kset);
}
