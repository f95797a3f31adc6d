// SPDX-License-Identifier: GPL-2.0-only
/* Loading and unloading of the module. */
#include <linux/fs_context.h>
#include <linux/module.h>

#include "internal.h"

static int __init vexfs_init(void)
{
	int err;

	err = vx_core_init();
	if (err)
		return err;
	err = vexfs_bio_init();
	if (err)
		return err;
	err = vexfs_read_init();
	if (err)
		goto no_reads;
	err = vexfs_direct_read_init();
	if (err)
		goto no_direct_reads;
	err = vexfs_inode_cache_init();
	if (err)
		goto no_inodes;
	err = vexfs_sysfs_init();
	if (err)
		goto no_sysfs;
	err = vexfs_proc_init();
	if (err)
		goto no_proc;
	err = register_filesystem(&vexfs_type);
	if (err)
		goto no_type;
	pr_info("vexfs: version %s loaded, SIMD %s, vectors of %u bits\n", vx_core_version(), vx_simd_level_name(),
		vx_simd_width_bits());
	return 0;

no_type:
	vexfs_proc_exit();
no_proc:
	vexfs_sysfs_exit();
no_sysfs:
	vexfs_inode_cache_exit();
no_inodes:
	vexfs_direct_read_exit();
no_direct_reads:
	vexfs_read_exit();
no_reads:
	vexfs_bio_exit();
	return err;
}

static void __exit vexfs_exit(void)
{
	unregister_filesystem(&vexfs_type);
	vexfs_history_exit();
	vexfs_proc_exit();
	vexfs_sysfs_exit();
	vexfs_inode_cache_exit();
	vexfs_direct_read_exit();
	vexfs_read_exit();
	vexfs_bio_exit();
	pr_info("vexfs: unloaded\n");
}

module_init(vexfs_init);
module_exit(vexfs_exit);

MODULE_DESCRIPTION("VexFS: a filesystem in which vectors are a native kind of data");
MODULE_AUTHOR("The VexFS developers");
MODULE_LICENSE("GPL");
MODULE_VERSION(VX_VERSION);
MODULE_ALIAS_FS("vexfs");
MODULE_SOFTDEP("pre: crc32c");
