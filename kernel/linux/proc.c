// SPDX-License-Identifier: GPL-2.0-only
/* /proc/vexfs: stats, simd_stats and performance, over all mounts. */
#include <linux/fs.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>

#include "internal.h"

static struct proc_dir_entry *vexfs_proc;

static void vexfs_seq_emit(void *p, const char *s, size_t n)
{
	seq_write(p, s, n);
}

static void vexfs_show_mounts(struct seq_file *m, const char *what)
{
	struct vexfs_sb *sbi;

	mutex_lock(&vexfs_mounts_lock);
	list_for_each_entry(sbi, &vexfs_mounts, mounts) {
		seq_printf(m, "device %s\n", sbi->bdev.name);
		vx_fs_print(sbi->core, what, vexfs_seq_emit, m);
		seq_putc(m, '\n');
	}
	mutex_unlock(&vexfs_mounts_lock);
}

static int vexfs_show_stats(struct seq_file *m, void *unused)
{
	seq_printf(m, "version %s\n\n", vx_core_version());
	vexfs_show_mounts(m, "stats");
	return 0;
}

static int vexfs_show_simd_stats(struct seq_file *m, void *unused)
{
	seq_printf(m, "level %s\nvector_bits %u\n\n", vx_simd_level_name(), vx_simd_width_bits());
	vexfs_show_mounts(m, "simd");
	return 0;
}

static int vexfs_show_performance(struct seq_file *m, void *unused)
{
	vexfs_show_mounts(m, "performance");
	return 0;
}

int vexfs_proc_init(void)
{
	vexfs_proc = proc_mkdir("vexfs", NULL);
	if (vexfs_proc && proc_create_single("stats", 0444, vexfs_proc, vexfs_show_stats) &&
	    proc_create_single("simd_stats", 0444, vexfs_proc, vexfs_show_simd_stats) &&
	    proc_create_single("performance", 0444, vexfs_proc, vexfs_show_performance))
		return 0;
	vexfs_proc_exit();
	return -ENOMEM;
}

void vexfs_proc_exit(void)
{
	proc_remove(vexfs_proc);
}
