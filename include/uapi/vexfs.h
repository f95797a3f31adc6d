/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * vexfs.h: the ABI of VexFS. ioctl numbers, the structs they carry, and nothing else.
 *
 * C89-clean C, also valid C++; needs nothing but <linux/types.h> and <linux/ioctl.h>.
 *
 * Rules that hold for every struct here:
 *  - It begins with __u32 size (bytes the caller knows of: sizeof the struct it was compiled with) and __u32 flags.
 *    A larger struct than the kernel knows is accepted when the surplus is all zero (else -E2BIG); a smaller one is
 *    read as if its missing tail were zero, and no byte beyond it is written (see copy_struct_from_user()).
 *  - Unknown flags and non-zero reserved fields are -EINVAL, with nothing changed.
 *  - Pointers are __u64 user addresses. Layout is the same for 32- and 64-bit callers.
 *  - Floats cross as IEEE-754 bits: vector data as arrays of the element type, single floats as __u32 bits.
 *  - The same number works as ioctl(fd, NUMBER, &arg) and as io_uring's IORING_OP_URING_CMD with cmd_op = NUMBER
 *    and the address of arg as a __u64 in the command's first 8 bytes.
 *
 * The fd: any file or directory of the filesystem, opened for reading. Where a command works on a collection, it is
 * the one named by `collection` when that is not 0, else the one that the fd's directory (or the nearest of its
 * ancestors) carries; -ENOENT when there is none.
 *
 * Permissions: changing a collection or its vectors needs write permission on the collection's directory, or, for a
 * vector that belongs to a file, on that file; searching and reading need read permission on the directory, and a hit
 * whose owner the caller may not read is not returned. -EROFS on read-only mounts.
 *
 * Errors common to all: -EINVAL (malformed, or dimension, type, NaN, infinity refused), -EFAULT, -E2BIG, -EPERM or
 * -EACCES, -EROFS, -EIO, -EUCLEAN (damage found on disk), -ENOMEM, -EINTR (a fatal signal arrived), -ENOTTY.
 */
#ifndef _UAPI_VEXFS_H
#define _UAPI_VEXFS_H

#ifndef VEXFS_UAPI_HAVE_TYPES /* a freestanding includer brings __u8 .. __s64 and _IOWR itself */
#include <linux/ioctl.h>
#include <linux/types.h>
#endif

#define VEXFS_SUPER_MAGIC 0x56455846 /* "VEXF": statfs f_type */
#define VEXFS_ABI_VERSION 1

/* ------------------------------------------------------------------ limits */
#define VEXFS_DIM_MAX 8192
#define VEXFS_K_MAX 4096
#define VEXFS_EF_MAX 65536
#define VEXFS_BATCH_MAX 65536  /* rows in one call */
#define VEXFS_QUERIES_MAX 4096 /* queries in one call */
#define VEXFS_COLLECTION_NAME_MAX 63
#define VEXFS_MODEL_MAX 63

/* ------------------------------------------------------------ enumerations */
enum vexfs_element { VEXFS_F32 = 1, VEXFS_F16 = 2, VEXFS_BF16 = 3, VEXFS_I8 = 4 };

enum vexfs_metric {
  VEXFS_L2 = 1,     /* distance = squared Euclidean distance */
  VEXFS_COSINE = 2, /* distance = 1 - cosine similarity, 0..2 */
  VEXFS_IP = 3      /* distance = -(inner product): smaller is nearer */
};

enum vexfs_index_kind {
  VEXFS_INDEX_FLAT = 1,    /* exact scan */
  VEXFS_INDEX_HNSW = 2,    /* graph */
  VEXFS_INDEX_LSH = 3,     /* hash tables of random projections, several buckets of each looked into */
  VEXFS_INDEX_IVF_PQ = 4,  /* lists by centroid, with codes of 4 bits; the best are scored on the rows */
  VEXFS_INDEX_DISKANN = 5, /* graph on disk beside the rows, codes in memory: for more rows than memory holds */
  VEXFS_INDEX_IVF_FLAT = 6 /* lists by centroid */
};

/* What a graph is built and walked on; hits are scored on the rows all the same. */
enum vexfs_codes {
  /* Decided by the rows there are: 4 bits an element where that ranks them well enough, from 512 elements on 2 bits; in
   * compact collections the fewest that do; DiskANN: 4 bits where that ranks them well enough, else 8. */
  VEXFS_CODES_AUTO = 0,
  VEXFS_CODES_NONE = 1,    /* the rows; DiskANN: as AUTO */
  VEXFS_CODES_SQ8 = 2,     /* 8 bits an element */
  VEXFS_CODES_SQ4 = 3,     /* 4 bits */
  VEXFS_CODES_RABITQ1 = 4, /* 1 bit an element of the rotated vector */
  VEXFS_CODES_RABITQ2 = 5  /* 2 bits */
};

#define VEXFS_IVF_LISTS_MAX 65536 /* and lists * dim at most 2^27 */
#define VEXFS_PROBES_MAX 65536
#define VEXFS_PQ_M_MAX 256
#define VEXFS_LSH_TABLES_MAX 64
#define VEXFS_LSH_BITS_MAX 32

/* ------------------------------------------------------------- collections */
struct vexfs_collection {
  __u32 size;
  __u32 flags;           /* CREATE, ALTER, out: VEXFS_COLLECTION_*; else 0 */
  __u64 id;              /* in: 0 = of the fd; out: the collection's id */
  __u64 dir_ino;         /* out: inode number of the directory that carries it */
  __u32 dim;             /* 1..VEXFS_DIM_MAX */
  __u16 element;         /* enum vexfs_element */
  __u16 metric;          /* enum vexfs_metric */
  __u16 index;           /* enum vexfs_index_kind */
  __u16 m;               /* HNSW: links per row and upper level, 2..128; 0 = 16 (level 0 has 2 m) */
  __u32 ef_construction; /* 1..VEXFS_EF_MAX; 0 = 200 */
  __u32 ef_search;       /* default of searches, 1..VEXFS_EF_MAX; 0 = 64 */
  __u32 reserved0;
  __u64 rows;                               /* out: live vectors */
  __u64 slots;                              /* out: slots used, dead rows included */
  __u64 created_sec;                        /* out: seconds since the epoch */
  char name[VEXFS_COLLECTION_NAME_MAX + 1]; /* optional label, NUL-terminated UTF-8 */
  char model[VEXFS_MODEL_MAX + 1];          /* optional: name and version of the embedding model */
  __u32 lists;                              /* IVF: centroids; 0 = automatic, as all that follow */
  __u32 probes;                             /* IVF: lists, LSH: buckets of each table, looked into for 64 of ef */
  __u16 pq_m;                               /* IVF_PQ: codes of 4 bits for a vector, at most dim */
  __u8 tables;                              /* LSH */
  __u8 bits;                                /* LSH: hash functions of a table */
  __u16 codes;                              /* HNSW, DISKANN: enum vexfs_codes */
  __u16 recall; /* that searches without one and without ef are to reach, per mille, 1..1000; 0: ef_search counts.
                 * ALTER: 0 = as it is, VEXFS_RECALL_OFF = none any more. INFO, DROP, in: 0. See vexfs_search */
  __u64 reserved[6];
};

/* Rows stay on the device: memory holds the index, and of the rows those that are new; a search reads the blocks of the few
 * dozen rows that it scores last. ALTER leaves it as it is if it has neither flag. */
#define VEXFS_COLLECTION_COMPACT 1u
#define VEXFS_COLLECTION_RESIDENT 2u /* in: ALTER: not compact any more */
#define VEXFS_RECALL_OFF 0xffffu
#define VEXFS_RECALL_ALL 1000

struct vexfs_collection_list {
  __u32 size;
  __u32 flags;
  __u64 after;       /* in: list collections with id > after */
  __u64 collections; /* user address of struct vexfs_collection[capacity] */
  __u32 capacity;    /* in */
  __u32 count;       /* out: filled; fewer than capacity means the end */
  __u64 reserved[4];
};

/* ----------------------------------------------------------------- vectors */
/* One row as it goes in or comes out, without its data. 64 bytes. */
struct vexfs_row {
  __u64 id;     /* caller's id; VEXFS_ID_AUTO: assigned, returned here */
  __u64 owner;  /* inode number of the owning file; 0 = a bulk row that no file owns */
  __u64 offset; /* byte range (chunk) of the owner this vector stands for; 0,0 = the whole file */
  __u64 length;
  __u64 owner_version; /* out: content version of the owner when the vector was made */
  __u32 flags;         /* out: VEXFS_ROW_* */
  __s32 owner_fd;      /* in, with VEXFS_VEC_OWNER_FD or VEXFS_BATCH_F_OWNER_FD: open file that owns the row */
  __u32 generation;    /* out: owner's generation, for open_by_handle_at */
  __u32 reserved0;
  __u64 tag; /* the caller's own 64 bits, stored and returned */
};
#define VEXFS_ID_AUTO (~(__u64)0)
#define VEXFS_ROW_STALE 1u   /* the owner's content changed after the vector was made */
#define VEXFS_ROW_INDEXED 2u /* reached by the index (else by exact scan of the tail) */
/* Of the last hit of a query with VEXFS_SEARCH_RADIUS, _AFTER or _BY_OWNER: there are more behind it. */
#define VEXFS_ROW_MORE 4u

/* ADD, UPDATE, GET, DELETE of one vector. For ADD on an fd of a regular file, the owner is that file unless
 * VEXFS_VEC_NO_OWNER. ADD of an id that exists: -EEXIST. UPDATE, GET, DELETE of one that does not: -ENOENT.
 * UPDATE replaces data and keeps id; the owner is replaced too when VEXFS_VEC_SET_OWNER. */
struct vexfs_embedding {
  __u32 size;
  __u32 flags;          /* VEXFS_VEC_* */
  __u64 collection;     /* 0 = of the fd */
  struct vexfs_row row; /* in/out */
  __u64 data;           /* user address of dim elements */
  __u32 dim;            /* must equal the collection's (GET: capacity of data; out: dim) */
  __u16 element;        /* element type of data: the collection's own, or VEXFS_F32 (converted) */
  __u16 reserved0;
  __u64 reserved[4];
};
#define VEXFS_VEC_NO_OWNER 1u
#define VEXFS_VEC_SET_OWNER 2u
#define VEXFS_VEC_DURABLE 4u  /* return after the vector is on stable storage */
#define VEXFS_VEC_OWNER_FD 8u /* row.owner_fd names the owner */

/* Many rows in one call. All-or-nothing per row, in order; `done` says how many were applied before an error. */
enum vexfs_batch_op {
  VEXFS_BATCH_ADD = 1,
  VEXFS_BATCH_UPDATE = 2,
  VEXFS_BATCH_UPSERT = 3,
  VEXFS_BATCH_DELETE = 4,
  VEXFS_BATCH_GET = 5
};
struct vexfs_batch {
  __u32 size;
  __u32 flags; /* VEXFS_BATCH_F_* */
  __u64 collection;
  __u64 rows;  /* user address of struct vexfs_row[count]; 0 with ADD: ids assigned, no owners */
  __u64 data;  /* user address of count * dim elements, row after row; unused by DELETE */
  __u32 count; /* 1..VEXFS_BATCH_MAX */
  __u32 dim;
  __u16 op; /* enum vexfs_batch_op */
  __u16 element;
  __u32 done;     /* out */
  __u64 first_id; /* out, ADD without rows: ids first_id .. first_id + count - 1 */
  __u64 reserved[4];
};
#define VEXFS_BATCH_F_DURABLE 1u
#define VEXFS_BATCH_F_OWNER_FD 2u /* rows[i].owner_fd is valid (-1 = none) */
/* ADD, UPSERT: rows[i].flags is in: 0, or VEXFS_ROW_STALE: the vector is one from before its owner's last change. */
#define VEXFS_BATCH_F_ROW_FLAGS 4u
/* UPSERT: a row that is replaced keeps its owner and place (offset, length), or its tag; rows[i]'s own are for new rows. */
#define VEXFS_BATCH_F_KEEP_OWNER 8u
#define VEXFS_BATCH_F_KEEP_TAG 16u

/* ------------------------------------------------------------------ search */
struct vexfs_hit {
  __u64 id;
  __u64 owner; /* inode number, 0 = none */
  __u64 offset;
  __u64 length;
  __u64 tag;
  __u32 generation;
  __u32 flags;    /* VEXFS_ROW_* */
  __u32 distance; /* IEEE-754 binary32 bits; see enum vexfs_metric */
  __u32 reserved0;
  __u64 slot; /* the row's place: hits of one distance come in this order. For vexfs_search.after_slot */
};

struct vexfs_search {
  __u32 size;
  __u32 flags;      /* VEXFS_SEARCH_* */
  __u64 collection; /* 0 = of the fd */
  __u64 queries;    /* user address of nq * dim elements */
  __u64 hits;       /* user address of struct vexfs_hit[nq * k] */
  __u64 counts;     /* user address of __u32[nq]: hits found for each query; 0 = not wanted if nq is 1 */
  __u32 nq;         /* 1..VEXFS_QUERIES_MAX */
  __u32 dim;
  __u16 element; /* the collection's, or VEXFS_F32 */
  __u16 reserved0;
  __u32 k;          /* 1..VEXFS_K_MAX */
  __u32 ef;         /* breadth; 0 = the collection's default; raised to k */
  __u32 found;      /* out: hits of the last query */
  __u64 as_of;      /* id of a snapshot: search there, what could be read then; 0: the present */
  __u64 like_owner; /* with VEXFS_SEARCH_LIKE: inode whose first vector is the query; nq = 1, queries = 0 */
  /* out, summed over the queries; 0 where rows of files are in the collection, for they count those that the caller may not
   * read (a tool on an image may read all): */
  __u64 distances; /* distance evaluations */
  __u64 hops;      /* graph nodes expanded, lists or buckets looked into */
  __u64 scanned;   /* rows scored by exact scan */
  __u64 elapsed_ns;
  /* in: */
  __u32 radius;         /* with VEXFS_SEARCH_RADIUS: binary32 bits of the largest distance; else 0 */
  __u32 after_distance; /* with VEXFS_SEARCH_AFTER: distance and slot of the last hit of the page before; else 0 */
  __u64 after_slot;
  __u32 plan; /* out: enum vexfs_plan, of the last queries */
  /* in: the recall of the nearest k that is wanted, per mille, 1..999: the breadth is chosen by what was measured of the
   * index. 1000: as VEXFS_SEARCH_EXACT. 0: ef, or the collection's recall. -EINVAL together with ef. */
  __u32 recall;
  __u32 ef_used; /* out: the breadth of an index's walk; 0: a scan was asked for, or is what it takes */
  __u32 reserved1;
};
#define VEXFS_SEARCH_EXACT 1u      /* scan, whatever the index */
#define VEXFS_SEARCH_LIKE 2u       /* like_owner gives the query (0 = the fd's own file); itself is left out */
#define VEXFS_SEARCH_SKIP_STALE 4u /* leave out hits whose owner's content changed since */
/* Only rows within the radius, the nearest k of them; VEXFS_ROW_MORE: there are more than k. NaN is -EINVAL. A scan finds
 * all of them, an index those that a search without a radius would have found. */
#define VEXFS_SEARCH_RADIUS 8u
/* The next page: only hits that come behind (after_distance, after_slot), in the order of hits. Nothing is kept between
 * calls: a row that was added, deleted or updated meanwhile is where it is now (an update gives a row a new slot), all
 * others come once. nq is 1, and not with BY_OWNER. With an index a page costs a walk as wide as all pages up to it, and
 * from about a sixteenth of the collection on an exact scan, whose cost is the same for every page. */
#define VEXFS_SEARCH_AFTER 16u
/* k different owners, of each its nearest row; rows that no file owns are left out. */
#define VEXFS_SEARCH_BY_OWNER 32u

/* HYBRID_SEARCH: a search restricted by a filter. Filters not served by this version: -EOPNOTSUPP. */
enum vexfs_filter_kind {
  VEXFS_FILTER_ID_RANGE = 1,  /* a <= id <= b */
  VEXFS_FILTER_SUBTREE = 2,   /* the owner lies below the directory with inode number a */
  VEXFS_FILTER_OWNER = 3,     /* owner == a */
  VEXFS_FILTER_TAG_RANGE = 4, /* a <= tag <= b */
  VEXFS_FILTER_PROGRAM = 5    /* reserved: -EOPNOTSUPP */
};
struct vexfs_filter {
  __u32 kind;
  __u32 flags; /* VEXFS_FILTER_NOT or 0 */
  __u64 a;
  __u64 b;
  __u64 reserved;
};
#define VEXFS_FILTER_NOT 1u
#define VEXFS_FILTERS_MAX 16
struct vexfs_hybrid_search {
  __u32 size;
  __u32 flags;                /* 0 */
  struct vexfs_search search; /* its own size and flags are checked like those of a plain search */
  __u64 filters;              /* user address of struct vexfs_filter[nfilters]; all must hold */
  __u32 nfilters;             /* 0..VEXFS_FILTERS_MAX */
  __u32 plan;                 /* out: enum vexfs_plan */
  __u64 reserved[4];
};
enum vexfs_plan {
  VEXFS_PLAN_SCAN = 1,           /* every row was scored */
  VEXFS_PLAN_INDEX = 2,          /* a walk through the index; filters were asked of near rows */
  VEXFS_PLAN_NAMED = 3,          /* a filter names few rows (an owner, a short range of ids): these were scored */
  VEXFS_PLAN_MATCHING = 4,       /* the filters were evaluated for all rows, and those that match were scored */
  VEXFS_PLAN_FILTERED_INDEX = 5, /* the filters were evaluated for all rows, then a walk through the index */
  VEXFS_PLAN_INDEX_MATCHING = 6  /* a walk that brought too few; then all rows that match were scored */
};

/* ------------------------------------------------------------------- index */
enum vexfs_index_op {
  VEXFS_INDEX_BUILD = 1,   /* index what is not indexed yet, all of it; with `kind`, change the kind first */
  VEXFS_INDEX_DROP = 2,    /* back to flat */
  VEXFS_INDEX_REBUILD = 3, /* from nothing: dead rows leave the graph; of a flat collection: BUILD */
  VEXFS_INDEX_STATUS = 4,
  VEXFS_INDEX_CHECKPOINT = 5
};
struct vexfs_index {
  __u32 size;
  __u32 flags;
  __u64 collection;
  __u16 op;
  __u16 kind;            /* in: BUILD: 0 = as it is; out: what it is */
  __u16 m;               /* in: BUILD/REBUILD: 0 = as it is; out */
  __u16 threads;         /* in: BUILD/REBUILD: 0 or 1 = the caller alone; at most the online CPUs */
  __u32 ef_construction; /* likewise */
  __u32 ef_search;
  __u64 rows;             /* out: live rows */
  __u64 indexed;          /* out: rows reached by the index */
  __u64 dead;             /* out: dead rows still in the graph */
  __u64 memory_bytes;     /* out: of the index in memory */
  __u64 checkpoint_slots; /* out: slots that the checkpoint on disk covers */
  __u64 checkpoint_bytes; /* out: its size on disk */
  __u32 max_level;        /* out */
  __u32 reserved0;
  __u32 lists; /* in: BUILD/REBUILD: 0 = as it is, be it automatic; out: 0 = automatic. All as in vexfs_collection */
  __u32 probes;
  __u16 pq_m;
  __u8 tables;
  __u8 bits;
  __u16 codes;      /* in: 0 = as it is, be it automatic; out */
  __u16 codes_used; /* out: what an automatic choice came to; 0: none yet, or neither HNSW nor DiskANN */
  /* Recall of the nearest 10: */
  __u16 recall;          /* in: STATUS: the one asked about, per mille, 0 = the collection's; else 0; out; 0: none */
  __u16 recall_measured; /* out: what was measured for recall_ef, per mille; 0: nothing was */
  __u32 recall_ef;       /* out: the breadth of a search for `recall`; 0: an exact scan, or recall is 0 */
  __u32 recall_slots;    /* out: slots that the index held when it was measured; 0: it was not */
  __u16 recall_queries;  /* out: how many queries it was measured with ... */
  __u16 recall_by;       /* out: ... enum vexfs_recall_by */
  __u32 lists_used;      /* out: what is used, be it chosen automatically; 0: nothing yet, or not of this kind */
  __u16 pq_m_used;
  __u8 tables_used;
  __u8 bits_used;
};

/* What recall was measured with. */
enum vexfs_recall_by {
  VEXFS_RECALL_BY_NOTHING = 0,  /* it was not; a search for one is wider than most collections need */
  VEXFS_RECALL_BY_NEW_ROWS = 1, /* rows that the index did not hold yet */
  VEXFS_RECALL_BY_ROWS = 2,     /* rows that it holds, each left out of its own answers */
  VEXFS_RECALL_BY_QUERIES = 3   /* queries that the collection was searched with */
};

/* ------------------------------------------------------------------- stats */
struct vexfs_stats {
  __u32 size;
  __u32 flags;
  __u64 collection; /* 0 = of the fd, ~0 = the whole filesystem */
  __u64 rows;
  __u64 dead;
  __u64 slots;
  __u64 raw_bytes;            /* rows * dim * element size */
  __u64 table_bytes;          /* on disk: vector table, padding and row metadata included */
  __u64 index_bytes;          /* on disk */
  __u64 resident_bytes;       /* in memory: rows and their metadata */
  __u64 index_memory_bytes;   /* links, lists and codes */
  __u64 resident_limit_bytes; /* the mount option vector_cache= */
  __u64 searches;
  __u64 search_ns;
  __u64 distances;
  __u64 hops;
  __u64 inserts;
  __u64 insert_ns;
  __u64 deletes;
  __u64 chunk_loads;
  __u64 chunk_evictions;
  __u32 simd_level; /* enum vexfs_simd */
  __u32 abi_version;
  /* Since the mount, of the whole filesystem, as chunk_loads and chunk_evictions are. */
  __u64 index_evictions; /* indexes let go of because memory was short */
  __u64 index_reopens;   /* and brought back */
  __u64 row_reads;       /* rows read without the chunks that they lie in */
  __u64 row_read_bytes;  /* of the device, for these */
  __u64 reserved[4];
};
enum vexfs_simd {
  VEXFS_SIMD_SCALAR = 0,
  VEXFS_SIMD_SSE2 = 1,
  VEXFS_SIMD_AVX2 = 2,
  VEXFS_SIMD_AVX512 = 3,
  VEXFS_SIMD_NEON = 4
};

/* --------------------------------------------------------------- snapshots */
/*
 * A snapshot is the whole filesystem, files and vectors, as it was at one moment. It is read by mounting it
 * (mount -o ro,snapshot=NAME). The fd: any file or directory of the filesystem. CREATE and DELETE need CAP_SYS_ADMIN.
 *
 * CREATE: in: name. Everything that was done before the call is in it; writers wait for its end. -EEXIST; -EINVAL (a
 *   name is 1..63 bytes of UTF-8 without '/' and control characters, and not "." or ".."); -EBUSY (frozen);
 *   -EOPNOTSUPP (a filesystem made before there were snapshots); -ENOSPC.
 * DELETE: in: id, or 0 and the name. The space comes back in the background. -ENOENT; -EBUSY (it is mounted, or a
 *   rollback needs it: see state).
 * INFO: in: id, or 0 and the name. -ENOENT.
 * ROLLBACK: in: id, or 0 and the name. The next mount for writing makes the whole filesystem what it was in the snapshot,
 *   at once, whatever it holds; what it replaces is kept as a new snapshot "before-rollback-N", so a rollback is undone by
 *   another. With VEXFS_SNAPSHOT_CANCEL, and neither id nor name: the request is taken back. CAP_SYS_ADMIN. -ENOENT;
 *   -EOPNOTSUPP; -ENOSPC.
 */
#define VEXFS_SNAPSHOT_NAME_MAX 63
#define VEXFS_SNAPSHOT_ACCOUNT 1u /* INFO, LIST: fill own_bytes, which takes time where much has changed since */
#define VEXFS_SNAPSHOT_CANCEL 2u  /* ROLLBACK */
/* state: */
#define VEXFS_SNAPSHOT_S_NEXT 1u     /* the next mount for writing goes back to it */
#define VEXFS_SNAPSHOT_S_COUNTING 2u /* a rollback has replaced it, and its space is still being counted */
struct vexfs_snapshot {
  __u32 size;
  __u32 flags;       /* VEXFS_SNAPSHOT_* */
  __u64 id;          /* never used again */
  __u64 txn;         /* out: it is the state of the end of this transaction */
  __u64 created_sec; /* seconds since the epoch */
  __u32 created_nsec;
  __u32 state;                            /* out: VEXFS_SNAPSHOT_S_* */
  __u64 used_bytes;                       /* out: in use in the whole filesystem when it was made */
  __u64 own_bytes;                        /* out: what deleting it would free; ~0 when not asked for */
  char name[VEXFS_SNAPSHOT_NAME_MAX + 1]; /* NUL-terminated, zero after it */
  __u64 replaced_by;                      /* out: a rollback put the snapshot of that id into its place; 0: none did */
  __u64 reserved[3];
};

/*
 * DIFF: what has changed from one state to another: files in the order of their inode numbers, then collections in that
 * of their numbers. A call fills `changes` and returns; call again with the struct as it came back until done is 1. The
 * cost is that of what differs. Names: open the inode in .vexfs/snapshots by handle. CAP_SYS_ADMIN.
 * -ENOENT (no such snapshot); -EINVAL; -EINTR.
 */
#define VEXFS_CHANGED_CREATED 1u
#define VEXFS_CHANGED_DELETED 2u
#define VEXFS_CHANGED_DATA 4u  /* contents, or only where they lie */
#define VEXFS_CHANGED_NAMES 8u /* of a directory */
#define VEXFS_CHANGED_ATTRIBUTES 16u
#define VEXFS_CHANGED_XATTRS 32u
#define VEXFS_CHANGED_VECTORS 64u     /* owned by the file */
#define VEXFS_CHANGED_COLLECTION 128u /* ino is its directory; added and gone are rows */
#define VEXFS_CHANGED_WRITTEN \
  256u /* of a file: it was written to, be it with what it had; its older vectors are stale */
struct vexfs_change {
  __u64 ino;
  __u32 generation;
  __u32 mode; /* as st_mode; 0 for a collection */
  __u32 what; /* VEXFS_CHANGED_* */
  __u32 reserved0;
  __u64 size;  /* bytes; of a deleted file as it was */
  __u64 added; /* rows, those that were dead again by the end included; ~0: not known (after a rollback) */
  __u64 gone;
  __u64 reserved[2];
};
struct vexfs_snapshot_diff {
  __u32 size;
  __u32 flags;       /* 0 */
  __u64 from;        /* id of a snapshot */
  __u64 to;          /* id of a snapshot; 0: the present, which may change meanwhile */
  __u64 position[2]; /* 0 at first, then as it came back */
  __u64 changes;     /* user address of struct vexfs_change[capacity] */
  __u32 capacity;    /* 1 or more */
  __u32 count;       /* out: filled */
  __u32 entry_size;  /* in: sizeof(struct vexfs_change) as the caller knows it, 64..4096; no more of each is written */
  __u32 done;        /* out: 1: that was all */
  __u64 reserved[4];
};

/*
 * ROWS: the rows that one state has and another has not: what an incremental copy of a collection, or of a file's vectors,
 * consists of. In the order of slots; call again with the struct as it came back until done is 1. Without `from` that is
 * every row. The cost of a comparison is that of what differs. Elements are to be had from BATCH_OPERATIONS, GET, where
 * the snapshot is mounted. CAP_SYS_ADMIN. -ENOENT (no such snapshot; neither state has the collection); -EINVAL; -EINTR.
 */
#define VEXFS_ROWS_GONE 1u /* those of `from` that `to` has not; without: those of `to` that `from` has not */
#define VEXFS_OWNER_ANY (~(__u64)0)
struct vexfs_snapshot_row {
  struct vexfs_row row; /* flags, generation: 0 */
  __u64 collection;
  __u32 slot;
  __u32 reserved0;
  __u64 reserved[2];
};
struct vexfs_snapshot_rows {
  __u32 size;
  __u32 flags;       /* VEXFS_ROWS_GONE or 0 */
  __u64 from;        /* id of a snapshot; 0: compare with nothing */
  __u64 to;          /* id of a snapshot; 0: what the fd is in */
  __u64 collection;  /* its id; 0, with an owner: all of them */
  __u64 owner;       /* inode number: rows of that file; 0: of none; VEXFS_OWNER_ANY: all (GONE: only this) */
  __u64 position[2]; /* 0 at first, then as it came back */
  __u64 rows;        /* user address of struct vexfs_snapshot_row[capacity] */
  __u32 capacity;    /* 1 or more */
  __u32 count;       /* out: filled */
  __u32 entry_size;  /* in: sizeof(struct vexfs_snapshot_row) as the caller knows it, 64..4096 */
  __u32 done;        /* out: 1: that was all */
  __u64 reserved[4];
};

/*
 * PARENT: the directory that an inode has its latest name in. CAP_SYS_ADMIN. -ENOENT: no such inode, or it has no name.
 * FS_INFO: the filesystem itself.
 */
struct vexfs_parent {
  __u32 size;
  __u32 flags;      /* 0 */
  __u64 ino;        /* in */
  __u64 parent;     /* out: inode number; the root's own for the root */
  __u32 generation; /* out: of ino */
  __u32 mode;       /* out: of ino, as st_mode */
  __u64 reserved[4];
};
struct vexfs_fs_info {
  __u32 size;
  __u32 flags;       /* 0 */
  __u8 uuid[16];     /* out */
  __u64 root_ino;    /* out */
  __u64 view;        /* out: the id of the snapshot that this is; 0: the filesystem as it is now */
  __u32 block_size;  /* out: bytes */
  __u32 abi_version; /* out: VEXFS_ABI_VERSION */
  __u64 reserved[4];
};

struct vexfs_snapshot_list {
  __u32 size;
  __u32 flags;      /* VEXFS_SNAPSHOT_ACCOUNT or 0 */
  __u64 after;      /* in: list snapshots with id > after */
  __u64 snapshots;  /* user address of struct vexfs_snapshot[capacity] */
  __u32 capacity;   /* in */
  __u32 count;      /* out: filled; fewer than capacity means the end */
  __u32 entry_size; /* in: sizeof(struct vexfs_snapshot) as the caller knows it, 64..4096; no more of each is written */
  __u32 reserved0;
  __u64 reserved[4];
};

/* ------------------------------------------------------------------- scrub */
/*
 * Reads everything that has a checksum from the device, whatever memory has of it, and compares: tree nodes, file data,
 * rows of vectors, indexes. The filesystem is in use meanwhile. A call does a piece and returns; the caller calls again
 * with the struct as it came back until done is 1, as fast or slowly as it likes, and may keep position to go on another
 * day. The fd: any file or directory. Needs CAP_SYS_ADMIN.
 *
 * A tree node or a space map that is damaged on the device but not in memory is written anew, and so is a damaged copy
 * of the superblock or of a root (VEXFS_FOUND_REPAIRED). Damaged file data
 * is -EIO to its readers until it is overwritten or deleted, damaged rows are left out of searches; a damaged index is to
 * be rebuilt (MANAGE_INDEX).
 *
 * After the present come the snapshots, from the oldest on: of each what neither the one before it nor the present has.
 * Nodes of theirs with a good copy are written anew where they are; what else is damaged stays so as long as the snapshot
 * is there. One that is made, or deleted, between two calls (or during one) is looked at or is not; one that a deletion
 * waits for is let go of. On a snapshot that is mounted: that one alone.
 * -EINVAL: unknown flags, sizes. -ENOMEM, -EINTR, -EFAULT: position has not moved.
 */
enum vexfs_found_kind {
  VEXFS_FOUND_NODE = 1,  /* a tree node: ino is the tree's number, offset the node's level */
  VEXFS_FOUND_DATA = 2,  /* a block of file ino at offset (bytes) */
  VEXFS_FOUND_ROW = 3,   /* the vector with id `offset` in the collection of directory ino */
  VEXFS_FOUND_INDEX = 4, /* a piece of the index of the collection of directory ino */
  VEXFS_FOUND_FIXED = 5 /* what lies at a fixed place: ino is 0 for a superblock copy, 1 a root slot, 2 a block of group
                          * descriptors, 3 the bitmap of a block group; offset is which one */
};
#define VEXFS_FOUND_REPAIRED 1u
struct vexfs_found {
  __u32 kind;
  __u32 flags; /* VEXFS_FOUND_REPAIRED or 0 */
  __u64 ino;
  __u64 offset;
  __u64 device; /* byte address on the device; 0: not known */
  __u64 reserved[4];
  __u64 snapshot; /* id of the snapshot that has it; 0: the present */
  __u64 reserved1[3];
};
#define VEXFS_SCRUB_NODES 1u
#define VEXFS_SCRUB_DATA 2u
#define VEXFS_SCRUB_VECTORS 4u
#define VEXFS_SCRUB_FIXED 8u /* superblock copies, roots, space maps */
/* What only snapshots have: of it, what NODES, DATA and VECTORS say, and without these all. Takes a found_size that
 * includes `snapshot`; without that, flags 0 means the present alone. */
#define VEXFS_SCRUB_SNAPSHOTS 16u
#define VEXFS_SCRUB_BUDGET_MAX (1u << 30)
struct vexfs_scrub {
  __u32 size;
  __u32 flags;        /* VEXFS_SCRUB_*, what to look at; 0: everything */
  __u64 position[4];  /* in, out: zero to begin, then as it came back */
  __u64 budget;       /* bytes to read in this call, about; 0: 8 MiB; at most VEXFS_SCRUB_BUDGET_MAX */
  __u64 found;        /* user address of struct vexfs_found[capacity] */
  __u32 capacity;     /* in: 1..4096; a call ends when it has found so many */
  __u32 count;        /* out */
  __u32 found_size;   /* in: sizeof(struct vexfs_found) as the caller knows it, 32..4096 */
  __u32 done;         /* out: 1 when everything has been looked at */
  __u64 nodes;        /* out: tree nodes read in this call */
  __u64 data_bytes;   /* out: file data read in this call */
  __u64 vector_bytes; /* out: rows and indexes read in this call */
  __u64 unsummed;     /* out: bytes of file data without checksums that were passed by */
  __u64 reserved[4];
};

/* ----------------------------------------------------------------- numbers */
/* 0xB7 with 0x40-0x6F: a range that Documentation/userspace-api/ioctl/ioctl-number.rst does not list as taken. */
#define VEXFS_IOC 0xB7
#define VEXFS_IOCTL_COLLECTION_CREATE _IOWR(VEXFS_IOC, 0x40, struct vexfs_collection)
#define VEXFS_IOCTL_COLLECTION_ALTER _IOWR(VEXFS_IOC, 0x41, struct vexfs_collection)
#define VEXFS_IOCTL_COLLECTION_DROP _IOWR(VEXFS_IOC, 0x42, struct vexfs_collection)
#define VEXFS_IOCTL_COLLECTION_INFO _IOWR(VEXFS_IOC, 0x43, struct vexfs_collection)
#define VEXFS_IOCTL_COLLECTION_LIST _IOWR(VEXFS_IOC, 0x44, struct vexfs_collection_list)
#define VEXFS_IOCTL_ADD_EMBEDDING _IOWR(VEXFS_IOC, 0x48, struct vexfs_embedding)
#define VEXFS_IOCTL_GET_EMBEDDING _IOWR(VEXFS_IOC, 0x49, struct vexfs_embedding)
#define VEXFS_IOCTL_UPDATE_EMBEDDING _IOWR(VEXFS_IOC, 0x4a, struct vexfs_embedding)
#define VEXFS_IOCTL_DELETE_EMBEDDING _IOWR(VEXFS_IOC, 0x4b, struct vexfs_embedding)
#define VEXFS_IOCTL_BATCH_OPERATIONS _IOWR(VEXFS_IOC, 0x4c, struct vexfs_batch)
#define VEXFS_IOCTL_VECTOR_SEARCH _IOWR(VEXFS_IOC, 0x50, struct vexfs_search)
#define VEXFS_IOCTL_HYBRID_SEARCH _IOWR(VEXFS_IOC, 0x51, struct vexfs_hybrid_search)
#define VEXFS_IOCTL_MANAGE_INDEX _IOWR(VEXFS_IOC, 0x54, struct vexfs_index)
#define VEXFS_IOCTL_GET_VECTOR_STATS _IOWR(VEXFS_IOC, 0x55, struct vexfs_stats)
#define VEXFS_IOCTL_SNAPSHOT_CREATE _IOWR(VEXFS_IOC, 0x58, struct vexfs_snapshot)
#define VEXFS_IOCTL_SNAPSHOT_DELETE _IOWR(VEXFS_IOC, 0x59, struct vexfs_snapshot)
#define VEXFS_IOCTL_SNAPSHOT_INFO _IOWR(VEXFS_IOC, 0x5a, struct vexfs_snapshot)
#define VEXFS_IOCTL_SNAPSHOT_LIST _IOWR(VEXFS_IOC, 0x5b, struct vexfs_snapshot_list)
#define VEXFS_IOCTL_SCRUB _IOWR(VEXFS_IOC, 0x5c, struct vexfs_scrub)
#define VEXFS_IOCTL_SNAPSHOT_DIFF _IOWR(VEXFS_IOC, 0x5e, struct vexfs_snapshot_diff)
#define VEXFS_IOCTL_SNAPSHOT_ROLLBACK _IOWR(VEXFS_IOC, 0x5d, struct vexfs_snapshot)
#define VEXFS_IOCTL_SNAPSHOT_ROWS _IOWR(VEXFS_IOC, 0x60, struct vexfs_snapshot_rows)
#define VEXFS_IOCTL_PARENT _IOWR(VEXFS_IOC, 0x61, struct vexfs_parent)
#define VEXFS_IOCTL_FS_INFO _IOWR(VEXFS_IOC, 0x62, struct vexfs_fs_info)
/* Other names of the same calls. */
#define VEXFS_IOCTL_CREATE_VECTOR VEXFS_IOCTL_ADD_EMBEDDING
#define VEXFS_IOCTL_SIMILARITY_SEARCH VEXFS_IOCTL_VECTOR_SEARCH
#define VEXFS_IOCTL_BUILD_INDEX VEXFS_IOCTL_MANAGE_INDEX

#endif /* _UAPI_VEXFS_H */
