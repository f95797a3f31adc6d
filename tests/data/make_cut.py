#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Cuts the vectors of this directory out of larger .fvecs files and computes their exact ground truth (README.md).

    make_cut.py BASE.fvecs QUERY.fvecs [--rows 10000] [--queries 200]

Standard library only. Base rows are taken evenly spread; values are rounded to float16, and the ground truth is that of
the rounded values: cosine distance in double precision, nearest first, equal distances by row number.
"""
import argparse
import heapq
import math
import operator
import os
import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent
NEIGHBOURS = 100
FILE_ROWS = 3400  # keeps each file below 2 MB


def read_fvecs(path: str, rows: int) -> list[tuple[float, ...]]:
    """That many rows, evenly spread over the file."""
    with open(path, "rb") as file:
        dim = struct.unpack("<i", file.read(4))[0]
        stride = 4 + 4 * dim
        total = os.fstat(file.fileno()).st_size // stride
        result = []
        for row in range(rows):
            file.seek(row * total // rows * stride)
            record = file.read(stride)
            if struct.unpack_from("<i", record)[0] != dim:
                raise SystemExit(f"{path}: row {row} has another dimension")
            result.append(struct.unpack_from(f"<{dim}f", record, 4))
        return result


def to_half(rows):
    """The rows rounded to float16: as bytes, and as the numbers these bytes stand for."""
    packed = [struct.pack(f"<{len(row)}e", *row) for row in rows]
    return packed, [struct.unpack(f"<{len(data) // 2}e", data) for data in packed]


def write_npy(path: pathlib.Path, packed: list[bytes]) -> None:
    """A version 1.0 .npy file of float16."""
    header = f"{{'descr': '<f2', 'fortran_order': False, 'shape': ({len(packed)}, {len(packed[0]) // 2}), }}"
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"".join(packed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("query")
    parser.add_argument("--rows", type=int, default=10000)
    parser.add_argument("--queries", type=int, default=200)
    args = parser.parse_args()

    base_packed, base = to_half(read_fvecs(args.base, args.rows))
    query_packed, query = to_half(read_fvecs(args.query, args.queries))
    for number, begin in enumerate(range(0, len(base), FILE_ROWS)):
        write_npy(HERE / f"rfc10k_base_{number}.npy", base_packed[begin:begin + FILE_ROWS])
    write_npy(HERE / "rfc10k_query.npy", query_packed)

    def dot(a, b):
        return sum(map(operator.mul, a, b))

    norms = [math.sqrt(dot(row, row)) for row in base]
    with open(HERE / "rfc10k_gt.ivecs", "wb") as out:
        for wanted in query:
            norm = math.sqrt(dot(wanted, wanted))
            distances = ((1.0 - dot(wanted, row) / (norm * norms[slot]), slot) for slot, row in enumerate(base))
            nearest = [slot for _, slot in heapq.nsmallest(NEIGHBOURS, distances)]
            out.write(struct.pack(f"<{NEIGHBOURS + 1}i", NEIGHBOURS, *nearest))


if __name__ == "__main__":
    main()
