// SPDX-License-Identifier: GPL-2.0-only
/*
 * The same commands through io_uring: IORING_OP_URING_CMD with cmd_op = the ioctl's number and, in the first eight bytes
 * of the command, the address of its argument.
 */
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/string.h>

#include "internal.h"

int vexfs_uring_cmd(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	u64 uarg;

	/* They all may sleep: io_uring hands them to a worker thread of the caller's. */
	if (issue_flags & IO_URING_F_NONBLOCK)
		return -EAGAIN;
	memcpy(&uarg, vx_uring_payload(cmd), sizeof(uarg));
	return vexfs_command(cmd->file, cmd->cmd_op, uarg);
}
