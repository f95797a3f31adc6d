#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Proves that the rooms of the house keep their one-way doors, by reading every include (docs/architecture.md).

    check_arrows.py [TOP]      prints each violation as FILE:LINE: TEXT; exit status 1 when there is one

Looks at the files git knows, and at new ones it does not ignore; without git at all files.
"""
import os
import pathlib
import re
import subprocess
import sys

CORE = "kernel/core"
# What each room may include besides itself. Files directly in kernel/core that are not listed in CONTRACTS (the façade's
# implementation) may include every room.
ROOMS = {
    "base": set(),
    "disk": {"base"},
    "store": {"base", "disk"},
    "fs": {"base", "disk", "store"},
    "simd": {"base"},
    "vector": {"base", "disk", "store", "fs", "simd"},
}
# Headers directly in kernel/core, and the rooms that may include them.
CONTRACTS = {
    "platform.h": set(ROOMS),
    "api.h": {"fs", "vector"},
    "uapi.h": {"vector"},
}
CONTRACT_NEEDS = {
    "platform.h": set(),
    "api.h": {"platform.h"},
    "uapi.h": {"base"},
}
ABI_HEADER = "include/uapi/vexfs.h"  # included by uapi.h alone
FREESTANDING = {
    "type_traits", "bit", "atomic", "span", "array", "utility", "concepts", "algorithm", "functional", "numeric",
    "compare", "limits", "new", "initializer_list", "cstdint", "cstddef", "tuple", "optional", "variant",
}
INTRINSICS = {"immintrin.h", "emmintrin.h", "arm_neon.h"}  # in simd only
# What the kernel's C files may see of the core.
FACADE = {"platform.h", "api.h"}

SOURCE = (".c", ".cc", ".h", ".py", ".sh")
LINES_MAX = 800
BYTES_MAX = 2_000_000
LICENCES = (
    ("kernel/linux/", "GPL-2.0-only"),
    ("kernel/core/", "GPL-2.0-only OR MIT"),
    ("include/uapi/", "(GPL-2.0-only WITH Linux-syscall-note) OR MIT"),
    ("kernel/", "GPL-2.0-only"),
    ("", "MIT"),
)
INCLUDE = re.compile(r"^\s*#\s*include\s*(<[^>]+>|\"[^\"]+\"|\w+)")
# Written so that this line is not itself a find.
LEFT_OVER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")


class Checker:
    """Collects violations under one top directory."""

    def __init__(self, top: pathlib.Path):
        self.top = top
        self.found: list[str] = []

    def _say(self, path: str, line: int, text: str) -> None:
        self.found.append(f"{path}:{line}: {text}")

    def files(self) -> list[str]:
        """Paths relative to the top."""
        listing = subprocess.run(["git", "-C", str(self.top), "ls-files", "-z", "--cached", "--others",
                                  "--exclude-standard"], capture_output=True, text=True, check=False)
        if listing.returncode == 0:
            names = [name for name in listing.stdout.split("\0") if name]
        else:
            names = [str(path.relative_to(self.top)) for path in self.top.rglob("*")]
        return sorted(name for name in names if (self.top / name).is_file() and not (self.top / name).is_symlink())

    def check(self) -> None:
        """Applies every rule to every file."""
        for path in self.files():
            size = (self.top / path).stat().st_size
            if size > BYTES_MAX:
                self._say(path, 1, f"{size} bytes, more than {BYTES_MAX}")
            data = (self.top / path).read_bytes()
            is_script = data.startswith(b"#!")
            if not path.endswith(SOURCE) and not is_script and os.path.basename(path) not in ("CMakeLists.txt", "Makefile",
                                                                                              "Kbuild"):
                continue
            lines = data.decode(errors="replace").splitlines()
            self._check_text(path, lines)
            if path.endswith((".c", ".cc", ".h")):
                self._check_includes(path, lines)

    def _check_text(self, path: str, lines: list[str]) -> None:
        if len(lines) >= LINES_MAX:
            self._say(path, len(lines), f"{len(lines)} lines: two subjects?")
        head = "\n".join(lines[:2])
        match = re.search(r"SPDX-License-Identifier: (.+?)\s*(\*/|-->|$)", head, re.MULTILINE)
        expected = next(licence for prefix, licence in LICENCES if path.startswith(prefix))
        if not match:
            self._say(path, 1, "no SPDX line at the top")
        elif match[1] != expected and not path.endswith("CMakeLists.txt"):
            self._say(path, 1, f"licence {match[1]}, expected {expected}")
        for number, line in enumerate(lines, 1):
            if LEFT_OVER.search(line):
                self._say(path, number, "a left-over")

    def _check_includes(self, path: str, lines: list[str]) -> None:
        in_core = path.startswith(CORE + "/")
        for number, line in enumerate(lines, 1):
            if in_core and "__KERNEL__" in line:
                self._say(path, number, "the core does not know which host it is compiled for")
            match = INCLUDE.match(line)
            if not match:
                continue
            target = match[1]
            if in_core:
                self._check_core_include(path, number, target)
            elif path.startswith("kernel/linux/") and not path.startswith("kernel/linux/cxx/"):
                self._check_shim_include(path, number, target)
            elif path.startswith("include/uapi/"):
                if target not in ("<linux/types.h>", "<linux/ioctl.h>"):
                    self._say(path, number, f"the ABI header needs no {target}")

    def _check_core_include(self, path: str, number: int, target: str) -> None:
        parts = path.removeprefix(CORE + "/").split("/")
        room = parts[0] if len(parts) > 1 else None
        if target == "VX_HOST_TYPES_HEADER" and parts == ["platform.h"]:
            return  # for a C host only
        if target.startswith("<"):
            name = target[1:-1]
            if name not in FREESTANDING and not (room == "simd" and name in INTRINSICS):
                self._say(path, number, f"{target} is not one of the freestanding headers")
            return
        if not target.startswith('"'):
            self._say(path, number, f"computed include {target}")
            return
        full = os.path.normpath(os.path.join(os.path.dirname(path), target[1:-1]))
        if not (self.top / full).is_file():
            self._say(path, number, f"{target} is not a path relative to this file")
            return
        if parts == ["uapi.h"] and full == ABI_HEADER:
            return
        if not full.startswith(CORE + "/"):
            self._say(path, number, f"{target} leaves the core")
            return
        into = full.removeprefix(CORE + "/").split("/")
        self._check_arrow(path, number, room, parts, into)

    def _check_arrow(self, path: str, number: int, room: str | None, parts: list[str], into: list[str]) -> None:
        to_contract = len(into) == 1
        if room is None:
            needs = CONTRACT_NEEDS.get(parts[0])
            if needs is not None and into[0] not in needs:
                self._say(path, number, f"{parts[0]} may not include {'/'.join(into)}")
            return
        if room not in ROOMS:
            self._say(path, number, f"{room}/ is no room of the core")
        elif to_contract:
            if room not in CONTRACTS.get(into[0], set()):
                self._say(path, number, f"{room}/ may not include {into[0]}")
        elif into[0] != room and into[0] not in ROOMS[room]:
            self._say(path, number, f"{room}/ may not include {into[0]}/")

    def _check_shim_include(self, path: str, number: int, target: str) -> None:
        if not target.startswith('"'):
            return
        full = os.path.normpath(os.path.join(os.path.dirname(path), target[1:-1]))
        if full.startswith("kernel/linux/") and (self.top / full).is_file():
            return
        name = target[1:-1]
        if full.startswith(CORE + "/"):
            name = full.removeprefix(CORE + "/")
        if name in FACADE or name == "vexfs.h" or full == ABI_HEADER or (self.top / "kernel/linux" / name).is_file():
            return
        self._say(path, number, f"{target}: the shim sees of the core only {', '.join(sorted(FACADE))}")


def main() -> int:
    top = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent.parent
    checker = Checker(top)
    checker.check()
    for line in checker.found:
        print(line)
    print(f"{len(checker.files())} files, {len(checker.found)} violations")
    return 1 if checker.found else 0


if __name__ == "__main__":
    sys.exit(main())
