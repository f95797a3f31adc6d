// SPDX-License-Identifier: MIT
// asof DIRECTORY SNAPSHOT_ID X Y Z: a search by ioctl for the vector, in the snapshot; prints "N hits".
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vexfs.h"

int main(int argc, char **argv)
{
	struct vexfs_hit hits[8];
	struct vexfs_search s;
	float q[3];
	int fd, i;

	if (argc != 6) return 2;
	fd = open(argv[1], O_RDONLY | O_DIRECTORY);
	if (fd < 0) {
		perror(argv[1]);
		return 1;
	}
	for (i = 0; i < 3; i++) q[i] = strtof(argv[3 + i], NULL);
	memset(&s, 0, sizeof s);
	s.size = sizeof s;
	s.queries = (__u64)(unsigned long)q;
	s.hits = (__u64)(unsigned long)hits;
	s.nq = 1;
	s.dim = 3;
	s.element = VEXFS_F32;
	s.k = 8;
	s.as_of = strtoull(argv[2], NULL, 0);
	if (ioctl(fd, VEXFS_IOCTL_VECTOR_SEARCH, &s) != 0) {
		fprintf(stderr, "search: %s\n", strerror(errno));
		return 1;
	}
	printf("%u hits\n", s.found);
	return 0;
}
