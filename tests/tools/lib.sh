# SPDX-License-Identifier: MIT
# Common part of the tool tests, sourced with the arguments BINDIR SOURCEDIR: paths, a scratch directory, expectations.
set -euo pipefail
bin=$(cd "$1" && pwd)
src=$(cd "$2" && pwd)
PATH=$bin/tools/mkfs:$bin/tools/fsck:$bin/tools/vexctl:/usr/sbin:/sbin:$PATH
export PATH LC_ALL=C.UTF-8
work=$(mktemp -d "${TMPDIR:-/tmp}/vexfs-tools.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
exec </dev/null

fail() {
	echo "FAILED: $*" >&2
	[ ! -s out ] || { echo "--- its output:" >&2; head -50 out >&2; }
	exit 1
}

# status CODE COMMAND...: runs it, its output (both streams) in the file `out`; any other exit status fails the test.
status() {
	local want=$1 got=0
	shift
	"$@" >out 2>&1 || got=$?
	[ "$got" = "$want" ] || fail "exit status $got, expected $want: $*"
}

ok() { status 0 "$@"; }

# says TEXT...: the last output contains each text.
says() {
	local text
	for text; do grep -qF -e "$text" out || fail "the output does not say: $text"; done
}

says_not() {
	local text
	for text; do if grep -qF -e "$text" out; then fail "the output says: $text"; fi; done
}

# json EXPRESSION: the last output is one JSON document `j` and the Python expression holds for it.
json() {
	python3 - "$1" <<'PY' || fail "not so: $1"
import json, sys
j = json.load(open("out"))
sys.exit(0 if eval(sys.argv[1]) else 1)
PY
}

# vectors FILE COUNT DIM [SEED]: an .npy file of f32 vectors that are different from each other and the same every time.
vectors() {
	python3 - "$@" <<'PY'
import random, struct, sys
name, count, dim = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
head = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }" % (count, dim)
head += ' ' * (-(10 + len(head) + 1) % 64) + '\n'
with open(name, 'wb') as f:
    f.write(b'\x93NUMPY\x01\x00' + struct.pack('<H', len(head)) + head.encode())
    for _ in range(count):
        f.write(struct.pack('<%df' % dim, *(rng.uniform(-1, 1) for _ in range(dim))))
PY
}

flip() { # FILE OFFSET: inverts one byte
	python3 - "$1" "$2" <<'PY'
import sys
with open(sys.argv[1], 'r+b') as f:
    f.seek(int(sys.argv[2])); b = f.read(1)[0]
    f.seek(int(sys.argv[2])); f.write(bytes([b ^ 0xff]))
PY
}
