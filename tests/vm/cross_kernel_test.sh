#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# One image, two kernels: made and written under 6.1, checked and written on under 6.12, checked again under 6.1.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

in_guest() {
	local series=$1
	shift
	echo "== $series"
	"$top/qemu/run" --kernel "$series" --build "${BUILD:-$top/build/host}" --disk "$scratch/image:512M" --quiet \
		--share "$top/tests/data" --share "$scratch/sums" --out "$scratch/out" -- "$@"
}

# shellcheck disable=SC2016  # the guest expands these
summary='
	summary() {
		(cd /mnt/1 && find . -type f ! -path "./lost+found*" -print0 | sort -z | xargs -0 sha256sum)
		(cd /mnt/1 && find . -printf "%p %y %m %U %G %n %s %T@ %l\n" | sort)
		(cd /mnt/1 && getfattr -R -h -d -m - . 2>/dev/null)
		vexctl --json search /mnt/1/vectors -q $SHARE/data/rfc10k_query.npy -k 10 |
			python3 -c "import json, sys; [print([(h[\"id\"], h[\"distance\"]) for h in r]) for r in json.load(sys.stdin)[\"results\"]]"
	}
	same() { diff "$1" "$2" >/tmp/difference || { head -c 4000 /tmp/difference; return 1; }; }
	set -euo pipefail'
mkdir "$scratch/sums"

in_guest 6.1 "$summary"'
	mkfs.vexfs -q -f $DEV1 && mount -t vexfs $DEV1 /mnt/1
	cp -a /usr/bin /mnt/1/programs
	cp -a /etc /mnt/1/etc
	mkdir /mnt/1/many && for n in $(seq 500); do echo $n >/mnt/1/many/$n; done
	ln /mnt/1/many/1 /mnt/1/hard && setfattr -n user.colour -v blue /mnt/1/hard
	truncate -s 1T /mnt/1/sparse && echo end | dd of=/mnt/1/sparse bs=1M seek=1000000 conv=notrunc status=none
	truncate -s 100M /mnt/1/sparse
	vexctl --quiet collection create --mkdir -d 256 -e f16 -m cosine --index hnsw /mnt/1/vectors
	vexctl --quiet import $SHARE/data/rfc10k_base_0.npy /mnt/1/vectors --rows 0..999 --first-id 0
	vexctl --quiet index build /mnt/1/vectors
	umount /mnt/1 && mount -t vexfs $DEV1 /mnt/1
	summary >$OUT/sums; umount /mnt/1'
cp "$scratch/out/sums" "$scratch/sums/first"

in_guest 6.12 "$summary"'
	fsck.vexfs -n -f $DEV1 && mount -t vexfs $DEV1 /mnt/1
	summary >/tmp/now; same $SHARE/sums/first /tmp/now
	rm -r /mnt/1/programs && mv /mnt/1/many /mnt/1/renamed && cp -a /usr/sbin /mnt/1/programs
	vexctl --quiet import $SHARE/data/rfc10k_base_1.npy /mnt/1/vectors --rows 0..499 --first-id 100000
	# An unmount gives the index a bounded time; here it is to hold every row, so that both kernels walk one graph.
	vexctl --quiet index build /mnt/1/vectors
	umount /mnt/1 && mount -t vexfs $DEV1 /mnt/1
	summary >$OUT/sums; umount /mnt/1'
cp "$scratch/out/sums" "$scratch/sums/second"

in_guest 6.1 "$summary"'
	fsck.vexfs -n -f $DEV1 && mount -t vexfs $DEV1 /mnt/1
	summary >/tmp/now; same $SHARE/sums/second /tmp/now; umount /mnt/1'
echo "the same under both kernels: $(wc -l <"$scratch/sums/second") lines of names, contents, attributes and hits"
