#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Builds vexfs.ko for one kernel: build.sh KVER OUTDIR [make arguments]. The sources stay untouched; everything that is
# made, and the list of what goes in, lies in OUTDIR. KVER may also be the build directory of a kernel tree.
set -eu

[ $# -ge 2 ] || { echo "usage: $0 KVER|KERNEL_BUILD_DIR OUTDIR [make arguments]" >&2; exit 2; }
kver=$1 out=$2
shift 2
src=$(cd "$(dirname "$0")" && pwd)

case $kver in
*/*) kbuild=$kver ;;
*) kbuild=/lib/modules/$kver/build ;;
esac
[ -e "$kbuild/Makefile" ] || { echo "$0: no kernel headers at $kbuild (package linux-headers-$kver)" >&2; exit 1; }

arch=${ARCH:-$(uname -m)}
mkdir -p "$out"
out=$(cd "$out" && pwd)

# Writes standard input to a file, but leaves the file (and its time) alone when nothing changed.
put() {
	cat >"$1.new"
	if cmp -s "$1.new" "$1"; then rm -f "$1.new"; else mv -f "$1.new" "$1"; fi
}

names_c=$(cd "$src/linux" && ls -- *.c | sed 's/\.c$//' | sort | tr '\n' ' ')
case $arch in
x86_64 | x86 | amd64 | um) foreign='_neon' ;;
aarch64 | arm64) foreign='_(sse|avx)' ;;
*) foreign='_(sse|avx|neon)' ;;
esac
names_simd=$(cd "$src/core/simd" && ls -- simd_*.cc | sed 's/\.cc$//' | grep -vE "$foreign" | sort | tr '\n' ' ')

for n in $names_c; do
	ln -sfn "$src/linux/$n.c" "$out/c_$n.c"
done
for n in $names_simd; do
	echo "#include \"$src/core/simd/$n.cc\"" | put "$out/$n.cc"
done
(cd "$src/core" && find . -name '*.cc' ! -path './simd/simd_*' | LC_ALL=C sort |
	sed "s|^\./|#include \"$src/core/|; s|\$|\"|") | put "$out/core_unity.cc"

version=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' "$src/dkms.conf")
put "$out/Kbuild" <<END
VX_SRC := $src
VX_C := $names_c
VX_SIMD := $names_simd
VX_VERSION := $version
include \$(VX_SRC)/Kbuild
END

# An empty CONFIG_DEBUG_INFO_BTF_MODULES: pahole cannot read C++ DWARF and would remove the module.
exec make -C "$kbuild" M="$out" CONFIG_DEBUG_INFO_BTF_MODULES= --no-print-directory "$@" modules
