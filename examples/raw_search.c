/* SPDX-License-Identifier: MIT */
/*
 * raw_search: VexFS without any library. Makes a directory of a mounted VexFS a collection of 3-dimensional vectors,
 * adds four of them and asks for the nearest to one. Needs nothing but libc and the ABI header.
 *
 *   cc -o raw_search raw_search.c -I ../include/uapi && ./raw_search /mnt/vexfs/somewhere
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <vexfs.h>
#include <unistd.h>

#define DIM 3
#define USER(p) ((__u64)(uintptr_t)(p))

static int failed(const char *what) {
  fprintf(stderr, "raw_search: %s: %s\n", what, strerror(errno));
  return 1;
}

int main(int argc, char **argv) {
  static const float rows[4][DIM] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {0.9f, 0.1f, 0}};
  static const float query[DIM] = {1, 0.2f, 0};
  struct vexfs_collection collection = {.size = sizeof(collection), .dim = DIM, .element = VEXFS_F32,
                                        .metric = VEXFS_COSINE, .index = VEXFS_INDEX_HNSW, .name = "raw_search"};
  struct vexfs_batch add = {.size = sizeof(add), .op = VEXFS_BATCH_ADD, .element = VEXFS_F32, .dim = DIM, .count = 4,
                            .data = USER(rows)};
  struct vexfs_hit hits[2];
  struct vexfs_search search = {.size = sizeof(search), .element = VEXFS_F32, .dim = DIM, .nq = 1, .k = 2,
                                .queries = USER(query), .hits = USER(hits)};
  int dir;

  if (argc != 2) {
    fprintf(stderr, "usage: raw_search DIRECTORY\n");
    return 2;
  }
  if (mkdir(argv[1], 0755) != 0 && errno != EEXIST) return failed(argv[1]);
  dir = open(argv[1], O_RDONLY | O_DIRECTORY);
  if (dir < 0) return failed(argv[1]);
  if (ioctl(dir, VEXFS_IOCTL_COLLECTION_CREATE, &collection) != 0 && errno != EEXIST) return failed("create collection");
  if (ioctl(dir, VEXFS_IOCTL_BATCH_OPERATIONS, &add) != 0) return failed("add vectors");
  if (ioctl(dir, VEXFS_IOCTL_VECTOR_SEARCH, &search) != 0) return failed("search");
  for (__u32 i = 0; i < search.found; i++) {
    float distance;
    memcpy(&distance, &hits[i].distance, sizeof(distance));
    printf("%u. vector %llu at distance %f\n", i + 1, (unsigned long long)hits[i].id, (double)distance);
  }
  close(dir);
  return 0;
}
