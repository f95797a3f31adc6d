#!/bin/bash
# SPDX-License-Identifier: MIT
# The same searches on the same device, by the kernel and by the library on the unmounted device: the same ids and the
# same bits of distance, exact and through the index, for each metric and element type.
# vm: timeout=420
source "$LIB"

data=$SHARE/data
results() {
	vexctl --json "$@" | python3 -c '
import json, sys
for hits in json.load(sys.stdin)["results"]:
    print([(hit["id"], repr(hit["distance"])) for hit in hits])'
}

fresh_fs "$DEV1" "$MNT1"
combinations=(f32:l2 f16:cosine bf16:ip)
for combination in "${combinations[@]}"; do
	vexctl --quiet collection create --mkdir -d 256 -e "${combination%:*}" -m "${combination#*:}" --index hnsw \
		"$MNT1/$combination"
	vexctl --quiet import "$data/rfc10k_base_0.npy" "$MNT1/$combination" --rows 0..499 --first-id 0
	vexctl --quiet index build "$MNT1/$combination"
done
# Both read the graph that the unmount saves.
remount_cycle "$DEV1" "$MNT1"
for combination in "${combinations[@]}"; do
	for how in "--ef 40" "--exact"; do
		# shellcheck disable=SC2086
		results search "$MNT1/$combination" --query "$data/rfc10k_query.npy" -k 10 $how >"kernel.$combination${how% *}"
	done
done
umount_fs "$MNT1"
for combination in "${combinations[@]}"; do
	for how in "--ef 40" "--exact"; do
		# shellcheck disable=SC2086
		results --image "$DEV1" search "/$combination" --query "$data/rfc10k_query.npy" -k 10 $how >host
		[ "$(wc -l <host)" -ge 100 ] || die "only $(wc -l <host) answers"
		cmp "kernel.$combination${how% *}" host || die "$combination $how: kernel and host differ"
	done
	say "$combination: $(wc -l <host) queries, twice: identical"
done
