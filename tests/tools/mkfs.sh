#!/bin/bash
# SPDX-License-Identifier: MIT
# mkfs.vexfs on image files: what it accepts, refuses, prints and writes.
. "$(dirname "$0")/lib.sh"

# ---- usage
truncate -s 64M whole
status 1 mkfs.vexfs -q whole 1 # not all of it
says "too small"
status 2 mkfs.vexfs -q -L $'a\nb' whole
status 2 mkfs.vexfs -q --collection-name $'a\xff' whole
says UTF-8
ok mkfs.vexfs --version
says "mkfs.vexfs 0."
ok mkfs.vexfs --help
says "Usage: mkfs.vexfs"
status 2 mkfs.vexfs
status 2 mkfs.vexfs --no-such-option image
status 2 mkfs.vexfs -b 3000 image 64M
says "power of two"
status 2 mkfs.vexfs -b 512 image 64M
status 2 mkfs.vexfs -b 131072 image 64M
status 2 mkfs.vexfs -L "$(printf 'x%.0s' {1..64})" image 64M
says "63 bytes"
status 2 mkfs.vexfs -U clear image 64M
status 2 mkfs.vexfs -U nonsense image 64M
status 2 mkfs.vexfs -D 8193 image 64M
status 2 mkfs.vexfs -D 0 image 64M
status 2 mkfs.vexfs --element f64 image 64M
status 2 mkfs.vexfs -E bogus image 64M
status 2 mkfs.vexfs image 64Q
status 2 mkfs.vexfs image 64M more
status 2 mkfs.vexfs image -5M
says "-5M: unknown option"
status 2 mkfs.vexfs -L
says "-L: an option wants a value"
status 2 mkfs.vexfs image 64M -Z
says "-Z: unknown option"
status 1 mkfs.vexfs image 100000T
says "too large for blocks of 4.0 KiB"
[ ! -e image ] || fail "wrong usage made a file"
# Help and manual page name every kind that it takes.
status 2 mkfs.vexfs --index no-such-kind image 64M
for kind in $(sed -n "s/.*not known (\(.*\)) (.*/\1/p" out | sed 's/,\| or / /g'); do
	mkfs.vexfs --help | grep -e '--index KIND' | grep -qw -e "$kind" || fail "help does not name $kind"
	sed 's/\\-/-/g' "$src/tools/mkfs/mkfs.vexfs.8" | grep -A1 'index " kind"' | grep -qw -e "$kind" || fail "mkfs.vexfs.8 does not name $kind"
	ok mkfs.vexfs -n -q --index "$kind" image 64M
	seen=$kind
done
[ -n "${seen:-}" ] || fail "no kinds are named"
ok mkfs.vexfs -n --index flat -M 20 image 64M
says "-M and --ef-construction: not used by flat"

# ---- devices that cannot be
status 1 mkfs.vexfs image
says "no such file"
status 1 mkfs.vexfs .
status 1 mkfs.vexfs /dev/null
says "neither a block device nor a file"
status 1 mkfs.vexfs tiny 64K
says "too small"
[ ! -e tiny ] || fail "a file was made for nothing"
echo precious >letter
status 1 mkfs.vexfs letter 1M
[ "$(cat letter)" = precious ] && [ "$(stat -c %s letter)" = 9 ] || fail "a file was changed for nothing"

# ---- a dry run writes nothing
ok mkfs.vexfs -n image 256M
says "dry run" "block groups" "journal" "usable" "efficiency" "%"
[ ! -e image ] || fail "a dry run made a file"
truncate -s 64M image
sum=$(sha256sum <image)
ok mkfs.vexfs -n -v image
[ "$sum" = "$(sha256sum <image)" ] || fail "a dry run wrote to the image"

# ---- the real thing
uuid=12345678-9abc-def0-1122-334455667788
ok mkfs.vexfs -L "A label" -U $uuid image
says "$uuid" "A label" "16,384 blocks of 4,096 bytes (64.0 MiB)" "inodes            dynamic"
ok vexctl --image image dump super --backups
says "$uuid" "A label"
says_not REFUSED
ok vexctl --image image status
ok fsck.vexfs -f image
says clean
ok mkfs.vexfs -q -f image
[ ! -s out ] || fail "-q prints something"
ok mkfs.vexfs -q other 64M
cmp -s -i 4112 -n 16 image other && fail "two filesystems with the same random UUID"

# ---- block sizes, journal, options of other filesystems
for b in 1024 2048 4096 8192 16384 65536; do
	ok mkfs.vexfs -f -b $b image 64M
	ok fsck.vexfs -f image
	ok vexctl --image image status --json
	json "j['filesystems'][0]['space']['block_size'] == $b"
done
ok mkfs.vexfs -f -J size=4 image
says "(4.0 MiB) at block"
ok mkfs.vexfs -f -J size=0 image
says "journal           none"
ok mkfs.vexfs -f -v -i 8192 -N 1000 image
says "have no effect" "vector capacity" "boot area"
ok mkfs.vexfs -f -K image
ok mkfs.vexfs -f -E nodiscard image
ok fsck.vexfs -f image

# ---- part of an image, growing one
ok mkfs.vexfs -f image 32M
says "8,192 blocks"
ok mkfs.vexfs -f image 128M
says "32,768 blocks"
[ "$(stat -c %s image)" = $((128 << 20)) ] || fail "the image did not grow"

# ---- what is there before
mkfs.ext4 -q -F -L oldlabel foreign.img 16M
ok mkfs.vexfs foreign.img
says "contains a ext4 filesystem with the label 'oldlabel': overwriting it"
blkid -p foreign.img >blkid.out 2>&1 && fail "the ext4 signature is still there: $(cat blkid.out)"
ok mkfs.vexfs foreign.img
says "contains a vexfs filesystem"
ok sh -c 'yes | mkfs.vexfs foreign.img'
ok mkfs.vexfs -f foreign.img
says_not contains

# On a terminal it asks.
on_terminal() { # ANSWER COMMAND...
	python3 - "$@" <<'PY'
import os, pty, sys
answer, command = sys.argv[1], sys.argv[2:]
pid, fd = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
seen = b''
sent = False
while True:
    try:
        piece = os.read(fd, 4096)
    except OSError:
        break
    if not piece:
        break
    seen += piece
    if b'(y,N)' in seen and not sent:
        os.write(fd, answer.encode() + b'\n')
        sent = True
sys.stdout.write(seen.decode())
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(code if sent or '-f' in command else 99)
PY
}
mkfs.ext4 -q -F -L oldlabel foreign.img 16M
sum=$(sha256sum <foreign.img)
status 1 on_terminal n mkfs.vexfs foreign.img
says "Overwrite it?" "nothing was done"
status 1 on_terminal "" mkfs.vexfs foreign.img
[ "$sum" = "$(sha256sum <foreign.img)" ] || fail "mkfs wrote after the answer no"
ok on_terminal y mkfs.vexfs foreign.img
says "Overwrite it?" "efficiency"
ok on_terminal "" mkfs.vexfs -f foreign.img
says_not "Overwrite it?"

# ---- somebody has it open
exec 9<>image
flock -x 9
status 1 mkfs.vexfs -f image
says "in use"
status 8 fsck.vexfs image
exec 9>&-
ok mkfs.vexfs -f image

# ---- the root directory as a collection
ok mkfs.vexfs -f -V image
says "768 x f32, metric l2, index hnsw (M 16, ef_construction 200, ef_search 64)" "vector capacity"
ok mkfs.vexfs -f -D 96 --element f16 --metric cosine --index hnsw -M 24 --ef-construction 150 --ef-search 80 \
	--collection-name root image
ok vexctl --image image --json collection info
json "j['dim'] == 96 and j['element'] == 'f16' and j['metric'] == 'cosine' and j['index'] == 'hnsw'"
json "j['m'] == 24 and j['ef_construction'] == 150 and j['ef_search'] == 80 and j['name'] == 'root'"
ok mkfs.vexfs -f -D 8192 --element i8 --index flat image
ok vexctl --image image --json collection info
json "j['dim'] == 8192 and j['element'] == 'i8' and j['index'] == 'flat'"
ok fsck.vexfs -f image
echo passed
