# SPDX-License-Identifier: MIT
"""The filesystem that searches are measured on: the rows of tests/data and their index."""
import pathlib
import subprocess

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
QUERIES = TOP / "tests/data/rfc10k_query.npy"
IMAGE_MIB = 96


def prepare(build: pathlib.Path, image: pathlib.Path, element: str) -> None:
    """Makes `image`: 10,000 rows of 256 `element`, cosine, with HNSW, in /rows, and an empty collection in /more."""
    with open(image, "wb") as file:
        file.truncate(IMAGE_MIB << 20)
    vexctl = [build / "tools/vexctl/vexctl", "--image", image, "--quiet"]
    steps = [[build / "tools/mkfs/mkfs.vexfs", "-q", "-f", image]]
    for name, index in (("/rows", "hnsw"), ("/more", "flat")):
        steps.append([*vexctl, "collection", "create", "--mkdir", "-d", "256", "-e", element, "-m", "cosine",
                      "--index", index, name])
    for part in sorted((TOP / "tests/data").glob("rfc10k_base_*.npy")):
        steps.append([*vexctl, "import", part, "/rows", "--auto-ids"])
    steps.append([*vexctl, "index", "build", "/rows"])
    for step in steps:
        subprocess.run([*map(str, step)], check=True)
