#!/bin/bash
# SPDX-License-Identifier: MIT
# The guest's part of the demo: a tour of VexFS on the virtual disk $DEV1, each step checked.
set -Eeuo pipefail
trap 'echo "demo: line $LINENO failed: $BASH_COMMAND" >&2' ERR
mnt=/mnt/vexfs
data=$SHARE/data
work=/tmp/demo
mkdir -p "$mnt" "$work"

title() { printf '\n%s== %s%s\n' "${BOLD:-}" "$*" "${PLAIN:-}"; }
run() {
	printf '$ %s\n' "$*"
	"$@"
}
fail() {
	echo "demo: $*" >&2
	exit 1
}

title "A filesystem, on Linux $KVER"
run mkfs.vexfs -L demo "$DEV1"
run mount -t vexfs "$DEV1" "$mnt"
grep " $mnt " /proc/mounts
run df -h "$mnt"

title "10,000 real vectors (passages of RFCs, 256 x float16)"
run vexctl collection create --mkdir -d 256 -e f16 -m cosine --index hnsw "$mnt/rfc"
first=0
for part in 0 1 2; do
	run vexctl --quiet import "$data/rfc10k_base_$part.npy" "$mnt/rfc" --first-id "$first"
	first=$(vexctl --json collection info "$mnt/rfc" | sed -n 's/.*"rows": *\([0-9]*\).*/\1/p')
done
[ "$first" = 10000 ] || fail "$first vectors, expected 10000"
run vexctl --quiet index build "$mnt/rfc"
run vexctl collection info "$mnt/rfc"

title "Recall against the exact ground truth, 200 queries of other documents"
run vexctl eval "$mnt/rfc" --queries "$data/rfc10k_query.npy" --truth "$data/rfc10k_gt.ivecs" -k 10 \
	--ef 64,128 --min-recall 0.95

title "Files that own their vectors"
library=$mnt/library
mkdir "$library"
for name in GPL-1 GPL-2 GPL-3 LGPL-2 LGPL-2.1 LGPL-3 GFDL-1.2 GFDL-1.3 Apache-2.0 MPL-1.1 MPL-2.0 Artistic BSD CC0-1.0; do
	cp "/usr/share/common-licenses/$name" "$library/"
done
cp "$SHARE"/docs/*.md "$library/"
vexctl --quiet collection create -d 512 -e f32 -m cosine --model "hashed TF-IDF" "$library"
files=("$library"/*)
python3 "$data/embed_text.py" --dim 512 "$work/texts.npy" "${files[@]}"
for row in "${!files[@]}"; do
	vexctl --quiet add "${files[$row]}" --vector "$work/texts.npy" --row "$row"
done
echo "${#files[@]} text files, each with its embedding. What is like the GPL, version 2?"
run vexctl search --like "$library/GPL-2" -k 5

echo "A rename costs the vector nothing; a deleted file's vector is gone in the same transaction:"
run mv "$library/GPL-1" "$library/the-first-gpl"
run rm "$library/LGPL-2"
run vexctl search --like "$library/GPL-2" -k 4 | tee "$work/similar"
grep -q the-first-gpl "$work/similar" || fail "the renamed file is not found by its new name"
if grep -q 'LGPL-2$' "$work/similar"; then fail "the deleted file is still found"; fi

# A search as JSON, without what a search may cost.
results() {
	vexctl --json search "$@" -k 10 | python3 -c '
import json, sys
answer = json.load(sys.stdin)
for hits in answer["results"]:
    print([(hit["id"], hit["distance"], hit["path"], hit["stale"]) for hit in hits])'
}

# What must be the same after unmount and mount: files, metadata, vectors, search results, recall.
snapshot() {
	(cd "$mnt" && find . -type f -print0 | sort -z | xargs -0 sha256sum)
	(cd "$mnt" && find . -printf '%p %y %m %n %s %T@ %i\n' | sort)
	results "$mnt/rfc" --query "$data/rfc10k_query.npy"
	results --like "$library/GPL-2"
	vexctl get "$mnt/rfc" --id 0..9999 --out "$work/rows.npy" >/dev/null
	sha256sum <"$work/rows.npy"
}

title "Unmount, check, mount again"
snapshot >"$work/before"
run umount "$mnt"
run fsck.vexfs -n -f "$DEV1"
run mount -t vexfs "$DEV1" "$mnt"
snapshot >"$work/after"
cmp "$work/before" "$work/after" || { diff "$work/before" "$work/after" | head -20; fail "something changed"; }
echo "$(grep -c '  \./' "$work/after") files, 10000 + $((${#files[@]} - 1)) vectors and the results of 201 searches: all as before"
run vexctl eval "$mnt/rfc" --queries "$data/rfc10k_query.npy" --truth "$data/rfc10k_gt.ivecs" -k 10 --ef 128 --min-recall 0.95
run umount "$mnt"
run rmmod vexfs
