#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Shows that check_arrows.py can fail: every rule against a made-up tree that breaks it, and one that does not."""
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
from check_arrows import Checker  # noqa: E402

CORE_HEAD = "// SPDX-License-Identifier: GPL-2.0-only OR MIT\n"
LINUX_HEAD = "// SPDX-License-Identifier: GPL-2.0-only\n"
GOOD = {
    "kernel/core/platform.h": CORE_HEAD + "#include <cstdint>\n#include VX_HOST_TYPES_HEADER\n",
    "kernel/core/api.h": CORE_HEAD + '#include "platform.h"\n',
    "kernel/core/uapi.h": CORE_HEAD + '#include "base/types.h"\n#include "../../include/uapi/vexfs.h"\n',
    "kernel/core/base/types.h": CORE_HEAD + "#include <span>\n",
    "kernel/core/disk/super.h": CORE_HEAD + '#include "../base/types.h"\n',
    "kernel/core/store/tree.h": CORE_HEAD + '#include "../disk/super.h"\n#include "../platform.h"\n',
    "kernel/core/fs/inode.h": CORE_HEAD + '#include "../store/tree.h"\n#include "../api.h"\n',
    "kernel/core/simd/simd_avx2.cc": CORE_HEAD + "#include <immintrin.h>\n",
    "kernel/core/simd/simd.h": CORE_HEAD + '#include "../base/types.h"\n',
    "kernel/core/vector/hnsw.cc": CORE_HEAD + '#include "../simd/simd.h"\n#include "../fs/inode.h"\n#include "../uapi.h"\n',
    "kernel/linux/super.c": LINUX_HEAD + '#include <linux/fs.h>\n#include "api.h"\n',
    "include/uapi/vexfs.h": "/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */\n"
                            "#include <linux/types.h>\n",
    "lib/host.cc": "// SPDX-License-Identifier: MIT\n#include <unistd.h>\n#include <linux/fs.h>\n",
}
# rule: (file, its text, a part of the complaint)
BAD = {
    "libc in the core": ("kernel/core/base/a.h", CORE_HEAD + "#include <string.h>\n", "freestanding"),
    "kernel header in the core": ("kernel/core/fs/a.cc", CORE_HEAD + "#include <linux/fs.h>\n", "freestanding"),
    "hosted C++ header": ("kernel/core/fs/a.cc", CORE_HEAD + "#  include <vector>\n", "freestanding"),
    "intrinsics outside simd": ("kernel/core/vector/a.cc", CORE_HEAD + "#include <immintrin.h>\n", "freestanding"),
    "upwards": ("kernel/core/store/a.cc", CORE_HEAD + '#include "../fs/inode.h"\n', "store/ may not include fs/"),
    "upwards from base": ("kernel/core/base/a.cc", CORE_HEAD + '#include "../disk/super.h"\n', "base/ may not"),
    "simd from fs": ("kernel/core/fs/a.cc", CORE_HEAD + '#include "../simd/simd.h"\n', "fs/ may not include simd/"),
    "store from simd": ("kernel/core/simd/a.cc", CORE_HEAD + '#include "../store/tree.h"\n', "simd/ may not"),
    "façade from below": ("kernel/core/store/a.cc", CORE_HEAD + '#include "../api.h"\n', "store/ may not include api.h"),
    "ABI from fs": ("kernel/core/fs/a.cc", CORE_HEAD + '#include "../uapi.h"\n', "fs/ may not include uapi.h"),
    "contract looks down": ("kernel/core/platform.h", CORE_HEAD + '#include "base/types.h"\n', "platform.h may not"),
    "out of the core": ("kernel/core/fs/a.cc", CORE_HEAD + '#include "../../../lib/host.cc"\n', "leaves the core"),
    "not relative": ("kernel/core/fs/a.cc", CORE_HEAD + '#include "store/tree.h"\n', "not a path relative"),
    "computed": ("kernel/core/fs/a.cc", CORE_HEAD + "#include HEADER\n", "computed include"),
    "unknown room": ("kernel/core/net/a.cc", CORE_HEAD + '#include "../base/types.h"\n', "no room"),
    "__KERNEL__": ("kernel/core/fs/a.cc", CORE_HEAD + "#ifdef __KERNEL__\n#endif\n", "which host"),
    "shim into a room": ("kernel/linux/a.c", LINUX_HEAD + '#include "fs/inode.h"\n', "the shim sees"),
    "shim into a room by path": ("kernel/linux/a.c", LINUX_HEAD + '#include "../core/fs/inode.h"\n', "the shim sees"),
    "no SPDX": ("tools/a.cc", "int main() {}\n", "no SPDX"),
    "wrong licence": ("kernel/linux/a.c", CORE_HEAD, "expected GPL-2.0-only"),
    "too long": ("lib/a.cc", "// SPDX-License-Identifier: MIT\n" + "\n" * 800, "two subjects"),
    "left-over": ("lib/a.cc", "// SPDX-License-Identifier: MIT\n// TO" + "DO\n", "left-over"),
    "large": ("tests/data/a.bin", "x" * 2_000_001, "bytes"),
}


class CheckArrows(unittest.TestCase):
    def complaints(self, extra: dict[str, str]) -> list[str]:
        with tempfile.TemporaryDirectory() as name:
            top = pathlib.Path(name)
            for path, text in {**GOOD, **extra}.items():
                (top / path).parent.mkdir(parents=True, exist_ok=True)
                (top / path).write_text(text)
            checker = Checker(top)
            checker.check()
            return checker.found

    def test_a_good_tree_has_no_complaints(self):
        self.assertEqual(self.complaints({}), [])

    def test_every_rule_finds_its_violation(self):
        for rule, (path, text, part) in BAD.items():
            with self.subTest(rule):
                found = self.complaints({path: text})
                self.assertTrue(any(line.startswith(path) and part in line for line in found), found)


if __name__ == "__main__":
    unittest.main()
