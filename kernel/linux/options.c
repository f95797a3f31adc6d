// SPDX-License-Identifier: GPL-2.0-only
/* Mount options: parsing, checking, remounting, showing. */
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/seq_file.h>
#include <linux/string.h>

#include "internal.h"

enum {
	VEXFS_OPT_ERRORS,
	VEXFS_OPT_COMMIT,
	VEXFS_OPT_NODE_CACHE,
	VEXFS_OPT_VECTOR_CACHE,
	VEXFS_OPT_VECTOR_THREADS,
	VEXFS_OPT_DATASUM,
	VEXFS_OPT_DISCARD,
	VEXFS_OPT_NORECOVERY,
	VEXFS_OPT_SNAPSHOT,
};

#define VEXFS_COMMIT_DEFAULT 5 /* seconds */
#define VEXFS_COMMIT_MAX 300
#define VEXFS_VECTOR_THREADS_MAX 64
#define VEXFS_CACHE_MIN SZ_1M

static const struct constant_table vexfs_errors[] = {
	{ "ro", VX_ERRORS_RO },
	{ "remount-ro", VX_ERRORS_RO },
	{ "panic", VX_ERRORS_PANIC },
	{ "continue", VX_ERRORS_CONTINUE },
	{}
};

const struct fs_parameter_spec vexfs_parameters[] = {
	fsparam_enum("errors", VEXFS_OPT_ERRORS, vexfs_errors),
	fsparam_u32("commit", VEXFS_OPT_COMMIT),
	fsparam_string("node_cache", VEXFS_OPT_NODE_CACHE),
	fsparam_string("vector_cache", VEXFS_OPT_VECTOR_CACHE),
	fsparam_u32("vector_threads", VEXFS_OPT_VECTOR_THREADS),
	fsparam_flag_no("datasum", VEXFS_OPT_DATASUM),
	fsparam_flag_no("discard", VEXFS_OPT_DISCARD),
	fsparam_flag("norecovery", VEXFS_OPT_NORECOVERY),
	fsparam_string("snapshot", VEXFS_OPT_SNAPSHOT),
	{}
};

/* A number of bytes with an optional suffix K, M, G or T. */
static int vexfs_parse_bytes(struct fs_context *fc, const struct fs_parameter *param, u64 *out)
{
	char *end;
	u64 n = memparse(param->string, &end);

	if (end == param->string || *end)
		return invalf(fc, "vexfs: %s=%s: not a size", param->key, param->string);
	if (n && n < VEXFS_CACHE_MIN)
		return invalf(fc, "vexfs: %s=%s: at least 1M, or 0 for the default", param->key, param->string);
	*out = n;
	return 0;
}

static int vexfs_parse_param(struct fs_context *fc, struct fs_parameter *param)
{
	struct vexfs_opts *o = fc->fs_private;
	struct fs_parse_result result;
	int opt = fs_parse(fc, vexfs_parameters, param, &result);

	if (opt < 0)
		return opt;
	switch (opt) {
	case VEXFS_OPT_ERRORS:
		o->errors = result.uint_32;
		return 0;
	case VEXFS_OPT_COMMIT:
		if (result.uint_32 > VEXFS_COMMIT_MAX)
			return invalf(fc, "vexfs: commit=%u: at most %u seconds", result.uint_32, VEXFS_COMMIT_MAX);
		o->commit_s = result.uint_32 ?: VEXFS_COMMIT_DEFAULT;
		return 0;
	case VEXFS_OPT_NODE_CACHE:
		return vexfs_parse_bytes(fc, param, &o->node_cache);
	case VEXFS_OPT_VECTOR_CACHE:
		return vexfs_parse_bytes(fc, param, &o->vector_cache);
	case VEXFS_OPT_VECTOR_THREADS:
		if (result.uint_32 > VEXFS_VECTOR_THREADS_MAX)
			return invalf(fc, "vexfs: vector_threads=%u: at most %u", result.uint_32,
				      VEXFS_VECTOR_THREADS_MAX);
		o->vector_threads = result.uint_32;
		return 0;
	case VEXFS_OPT_DATASUM:
		o->nodatasum = result.negated;
		return 0;
	case VEXFS_OPT_DISCARD:
		o->discard = !result.negated;
		return 0;
	case VEXFS_OPT_NORECOVERY:
		o->norecovery = true;
		return 0;
	case VEXFS_OPT_SNAPSHOT:
		if (!*param->string || strlen(param->string) >= sizeof(o->snapshot))
			return invalf(fc, "vexfs: snapshot=%s: a name has 1 to %zu bytes", param->string,
				      sizeof(o->snapshot) - 1);
		strscpy(o->snapshot, param->string, sizeof(o->snapshot));
		return 0;
	}
	return -EINVAL;
}

static void vexfs_free_context(struct fs_context *fc)
{
	kfree(fc->fs_private);
}

static const struct fs_context_operations vexfs_context_ops = {
	.free = vexfs_free_context,
	.parse_param = vexfs_parse_param,
	.get_tree = vexfs_get_tree,
	.reconfigure = vexfs_reconfigure,
};

int vexfs_init_fs_context(struct fs_context *fc)
{
	struct vexfs_opts *o = kzalloc(sizeof(*o), GFP_KERNEL);

	if (!o)
		return -ENOMEM;
	if (fc->purpose == FS_CONTEXT_FOR_RECONFIGURE) {
		*o = vexfs_sb(fc->root->d_sb)->opts;
	} else {
		o->errors = VX_ERRORS_RO;
		o->commit_s = VEXFS_COMMIT_DEFAULT;
		o->vector_threads = 1;
	}
	fc->fs_private = o;
	fc->ops = &vexfs_context_ops;
	return 0;
}

/* Exactly what was given: mount(8) reads it here and gives it back when it remounts. */
static void vexfs_show_bytes(struct seq_file *m, const char *key, u64 n)
{
	if (n && n % SZ_1K)
		seq_printf(m, ",%s=%llu", key, n);
	else if (n)
		seq_printf(m, ",%s=%lluK", key, n >> 10);
}

int vexfs_show_options(struct seq_file *m, struct dentry *root)
{
	const struct vexfs_opts *o = &vexfs_sb(root->d_sb)->opts;

	if (o->errors == VX_ERRORS_PANIC)
		seq_puts(m, ",errors=panic");
	else if (o->errors == VX_ERRORS_CONTINUE)
		seq_puts(m, ",errors=continue");
	else
		seq_puts(m, ",errors=ro");
	seq_printf(m, ",commit=%u", o->commit_s);
	vexfs_show_bytes(m, "node_cache", o->node_cache);
	vexfs_show_bytes(m, "vector_cache", o->vector_cache);
	seq_printf(m, ",vector_threads=%u", o->vector_threads);
	if (o->nodatasum)
		seq_puts(m, ",nodatasum");
	if (o->discard)
		seq_puts(m, ",discard");
	if (o->norecovery)
		seq_puts(m, ",norecovery");
	if (o->snapshot[0])
		seq_show_option(m, "snapshot", o->snapshot);
	return 0;
}
