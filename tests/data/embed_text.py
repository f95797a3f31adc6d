#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A deterministic text embedder that needs no model: feature hashing of words and word pairs, weighted by TF-IDF.

    embed_text.py [--dim N] [--lines L] OUT.npy FILE...

Each file is one row of float32 of unit length; with --lines every L lines of a file are one, and a line
"ROW FILE OFFSET LENGTH" is printed for each. Term weights are relative to the files given.
"""
import argparse
import collections
import math
import re
import struct
import zlib

WORD = re.compile(r"[a-z][a-z'-]+")


def chunks(path: str, lines: int):
    """(offset, length, text) of the pieces of a file, in bytes; one piece when lines is 0."""
    with open(path, "rb") as file:
        content = file.read().splitlines(keepends=True)
    step = lines or max(len(content), 1)
    offset = 0
    for begin in range(0, len(content), step):
        piece = b"".join(content[begin:begin + step])
        yield offset, len(piece), piece.decode(errors="replace")
        offset += len(piece)


def features(text: str) -> collections.Counter:
    """How often each word and each pair of neighbouring words occurs."""
    words = WORD.findall(text.lower())
    counts = collections.Counter(word for word in words if len(word) > 2)
    counts.update(f"{first} {second}" for first, second in zip(words, words[1:]))
    return counts


def embed(counted: list[collections.Counter], dim: int) -> list[list[float]]:
    """The hashed TF-IDF vector of each document, of unit length. A document without words points along axis 0."""
    spread = collections.Counter(term for counts in counted for term in counts)
    rows = []
    for counts in counted:
        row = [0.0] * dim
        for term, count in counts.items():
            weight = (1 + math.log(count)) * math.log((1 + len(counted)) / spread[term])
            code = zlib.crc32(term.encode())
            row[code % dim] += weight if code >> 31 else -weight
        norm = math.sqrt(sum(value * value for value in row))
        rows.append([value / norm for value in row] if norm else [1.0] + [0.0] * (dim - 1))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--lines", type=int, default=0)
    parser.add_argument("out")
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    pieces = [(path, *piece) for path in args.files for piece in chunks(path, args.lines)]
    rows = embed([features(text) for _, _, _, text in pieces], args.dim)
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(rows)}, {args.dim}), }}"
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    with open(args.out, "wb") as out:
        out.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        for row in rows:
            out.write(struct.pack(f"<{args.dim}f", *row))
    if args.lines:
        for number, (path, offset, length, _) in enumerate(pieces):
            print(number, path, offset, length)


if __name__ == "__main__":
    main()
