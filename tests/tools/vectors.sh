#!/bin/bash
# SPDX-License-Identifier: MIT
# vexctl on an image, end to end: collections, vectors of files and of none, imports, searches, deletions, indexes, and
# that everything is there again when the image is opened anew (every command opens and closes it).
. "$(dirname "$0")/lib.sh"
ok mkfs.vexfs -q image 256M
v() { vexctl --image image "$@"; }

# ---- no collection yet
status 3 v collection info /
says "no collection here"
status 3 v search / -q "[1, 2, 3]"
status 3 v collection info /nowhere
ok v --json collection list
json "j == []"

# ---- what is refused is refused with its reason, and a command that got half way says how far
ok v collection create -p /refuse -d 3 -m cosine -e f16 --index flat
status 1 v add /refuse -v "[0, 0, 0]"
says "all components are zero" cosine
status 1 v add /refuse -v "[1, 70000, 0]"
says "component 1 is too large for f16"
for id in -4 18446744073709551615 18446744073709551616 x ""; do
	status 2 v add /refuse -v "[1, 2, 3]" --id "$id"
done
ok v add /refuse -v "[1, 2, 3]" --id 5
status 3 v add /refuse -v nowhere.npy
status 3 v search /refuse -q nowhere.npy
status 3 v get /refuse --id 4..6
says "no vector with id 4" "no vector with id 6" "[1.0, 2.0, 3.0]"
status 3 v get /refuse --id 4..6 -o three.npy
[ ! -e three.npy ] || fail "a file that lacks rows was written"
python3 - <<'PY'
import struct
head = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 3), }".ljust(117) + '\n'
with open('zero.npy', 'wb') as f:
    f.write(b'\x93NUMPY\x01\x00' + struct.pack('<H', len(head)) + head.encode() + struct.pack('<9f', 1, 2, 3, 0, 0, 0, 1, 1, 1))
PY
status 1 v import zero.npy /refuse
says "row 1" "all components are zero" "(1 row was imported: row 0)" "--rows 1..2"
ok v index drop /refuse
ok v index rebuild /refuse
says hnsw
status 1 v rm /refuse
says "holds vectors" "collection drop"
status 2 v collection create -p /x -d 3 -m euclid
says "l2, cosine or ip"
status 2 v frobnicate
says "unknown command 'frobnicate'"
status 2 v collection frobnicate
says "unknown command 'collection frobnicate'"
ok v collection drop --yes /refuse
ok v rm /refuse
for bad in "-M 1" "--ef-search 65537" "--ef-construction 1000000"; do
	status 2 v collection create -p /never -d 3 $bad
done
status 3 v ls /never
ok v collection create -p /bytes -d 2 -e i8 --index flat
status 1 v add /bytes -v "[1, 128]"
says "does not fit i8"
status 2 v add /bytes -v "[1, 2]" --shift
ok v collection drop --yes /bytes
ok v rm /bytes
mkdir dir
status 1 v put dir /q
says "is a directory"
printf 'precious\n' | v put - /keep
head -c 300M /dev/zero >large
status 1 v put large /keep
says "do not fit"
rm large
ok v cat /keep
says precious
status 2 v put zero.npy /newd/
ok v rm /keep

# ---- a collection of three dimensions
status 3 v collection create /docs -d 3
ok v collection create -p /docs/deep -d 3 -m cosine --index flat --name small --model "by hand"
says "3 x f32" cosine flat small "by hand"
status 1 v collection create /docs/deep -d 3
says "carries a collection already"
printf 'first\n' | v put - /docs/deep/a.txt
printf 'second\n' | v put - /docs/deep/sub/b.txt
printf 'third\n' >c.txt
ok v put c.txt /docs/deep/c.txt
ok v cat /docs/deep/c.txt
says third
status 1 v collection create /docs/deep/a.txt -d 3
says "carried by a directory"
ok v --json ls /docs/deep
json "[e['name'] for e in j] == ['a.txt', 'c.txt', 'sub']"
ok v ls -l /docs
says "(collection)"

# ---- vectors of files
ok v add /docs/deep/a.txt -v "[1, 0, 0]"
ok v add /docs/deep/sub/b.txt -v "0.9 0.1 0" --tag 7
echo "[0, 1, 0]" >stdin.txt
ok sh -c "vexctl --image image --json add /docs/deep/c.txt --chunk 0:4 -v - <stdin.txt"
json "j['length'] == 4 and j['owner'] > 0 and not j['stale']"
ok v add /docs/deep -v "[0, 0, 1]" --id 1000
status 1 v add /docs/deep -v "[0, 0, 1]" --id 1000
says "id 1000 exists already"
status 2 v add /docs/deep -v "[0, 0, 1]" --chunk 0:4
status 2 v add /docs/deep -v "[1, 2]"
says "has 2 components" "have 3"
status 1 v add /docs/deep -v "[1, x, 2]"
status 1 v add /docs/deep -v "[nan, 0, 0]"
status 1 v add /docs/deep -v "[0, 0, 0]"
ok v --json collection info /docs/deep/sub
json "j['rows'] == 4 and j['name'] == 'small' and j['model'] == 'by hand' and j['path'] == '/docs/deep'"

# ---- search
ok v --json search /docs/deep -q "[1, 0.05, 0]" -k 3
json "[h['path'] for h in j['results'][0]] == ['/docs/deep/a.txt', '/docs/deep/sub/b.txt', '/docs/deep/c.txt']"
json "j['metric'] == 'cosine' and abs(j['results'][0][0]['distance'] - 0.00124765) < 1e-5"
ok v search /docs/deep -q "[1, 0.05, 0]" -k 1
says "/docs/deep/a.txt"
says_not b.txt
ok v --json search --like /docs/deep/a.txt -k 1
json "[h['path'] for h in j['results'][0]] == ['/docs/deep/sub/b.txt']"
ok v search /docs/deep -q "[1, 0, 0]" --metric cosine
status 2 v search /docs/deep -q "[1, 0, 0]" --metric l2
says "the collection's metric is cosine"
status 2 v search /docs/deep -q "[1, 0]"
ok v --json search /docs/deep -q "[1, 0, 0]" --under /docs/deep/sub
json "[h['path'] for h in j['results'][0]] == ['/docs/deep/sub/b.txt'] and j['plan'] in ('scan', 'index', 'matching', 'filtered index', 'index, then matching')"
ok v --json search -q "[1, 0, 0]" --under /docs/deep/sub /docs/deep # an option takes one value, not the path behind it
json "[h['path'] for h in j['results'][0]] == ['/docs/deep/sub/b.txt']"
ok v --json get --id 1000 /docs/deep
json "[r['id'] for r in j] == [1000]"
ok v --json search /docs/deep -q "[1, 0, 0]" --tag 7
json "len(j['results'][0]) == 1"
ok v --json search /docs/deep -q "[1, 0, 0]" --id 1000..
json "[h['id'] for h in j['results'][0]] == [1000]"
ok v --json search /docs/deep -q "[1, 0, 0]" --filter '!owner=/docs/deep/a.txt'
json "len(j['results'][0]) == 3"
status 2 v search /docs/deep -q "[1, 0, 0]" --filter nonsense=1
status 2 v collection create --mkdir -d 16 --index ivf-pq --pq-m 64 /narrow
says "--pq-m: at most one code for each of the 16 dimensions"
ok v collection create --mkdir -d 16 --index hnsw --pq-m 4 --tables 3 -M 8 /idle
says "index        hnsw, M 8, ef_construction 200, codes auto, ef_search 64"
says "--pq-m, --tables: not used by hnsw"
ok v index build --kind diskann --bits 9 /idle
says "index        diskann, M 8, ef_construction 200, codes auto, ef_search 64"
says "--bits: not used by diskann"
ok v collection drop /idle
status 2 v eval /docs/deep --queries none.npy --ef 16,70000
says "--ef"

# ---- a radius, pages, groups, plans
ok v --json search /docs/deep -q "[1, 0, 0]" --radius 0.2
json "all(h['distance'] <= 0.2 for h in j['results'][0]) and 0 < len(j['results'][0]) < 4 and j['more'] == [False]"
ok v --json search /docs/deep -q "[1, 0, 0]" --radius 2 -k 1
json "len(j['results'][0]) == 1 and j['more'] == [True] and 'next' not in j"
ok v search /docs/deep -q "[1, 0, 0]" --radius 2 -k 1
says "there are more"
ok v --json search /docs/deep -q "[1, 0, 0]" -k 4
all=$(python3 -c "import json, sys; print([h['id'] for h in json.load(open('out'))['results'][0]])")
ok v --json search /docs/deep -q "[1, 0, 0]" -k 1 --pages 3
json "[h['id'] for h in j['results'][0]] == $all[:3] and j['more'] == [True]"
next=$(python3 -c "import json; print(json.load(open('out'))['next'])")
ok v --json search /docs/deep -q "[1, 0, 0]" -k 5 --after "$next"
json "[h['id'] for h in j['results'][0]] == $all[3:] and j['more'] == [False] and 'next' not in j"
ok v search /docs/deep -q "[1, 0, 0]" -k 2 --pages 1
says "there are more: --after "
ok v --json search /docs/deep -q "[1, 0, 0]" -k 4 --pages 100
json "[h['id'] for h in j['results'][0]] == $all"
ok v --json search /docs/deep -q "[1, 0, 0]" -k 10 --group-by-file
json "len(j['results'][0]) == 3 and len({h['path'] for h in j['results'][0]}) == 3 and j['more'] == [False]"
ok v search /docs/deep -q "[1, 0, 0]" --explain
says "plan: scan" "rows scanned of 4"
ok v search /docs/deep -q "[1, 0, 0]" --tag 7 --explain
says "plan: matching"
ok v --json search /docs/deep -q "[1, 0, 0]" --explain
json "j['plan'] == 'scan'"
status 2 v search /docs/deep -q "[1, 0, 0]" --radius far
status 2 v search /docs/deep -q "[1, 0, 0]" --radius nan
status 2 v search /docs/deep -q "[1, 0, 0]" --after 7
status 2 v search /docs/deep -q "[1, 0, 0]" --after 7:x
status 2 v search /docs/deep -q "[1, 0, 0]" --pages 2 --group-by-file
status 2 v search /docs/deep -q "[1, 0, 0]" --id 9..3

# ---- a changed file's vector is stale, a deleted file's is gone
echo changed | v put - /docs/deep/a.txt
ok v --json search /docs/deep -q "[1, 0, 0]" -k 1
json "j['results'][0][0]['stale']"
ok v --json search /docs/deep -q "[1, 0, 0]" -k 1 --skip-stale
json "j['results'][0][0]['path'] == '/docs/deep/sub/b.txt'"
ok v rm /docs/deep/sub/b.txt
ok v --json search /docs/deep -q "[1, 0, 0]" -k 10
json "len(j['results'][0]) == 3 and 'b.txt' not in str(j)"

# ---- get, update, delete
ok v get /docs/deep --id 1000
says "[0.0, 0.0, 1.0]"
ok v update /docs/deep --id 1000 -v "[0, 0.5, 0.5]"
ok v --json get /docs/deep --id 1000
json "[round(x, 3) for x in j[0]['vector']] in ([0, 0.5, 0.5], [0, 0.707, 0.707])"
status 3 v get /docs/deep --id 1001
says "no vector with id 1001"
status 3 v update /docs/deep --id 1001 -v "[1, 1, 1]"
status 3 v delete /docs/deep --id 1001
ok v delete /docs/deep --id 1000
status 3 v get /docs/deep --id 1000
status 2 v get /docs/deep
ok fsck.vexfs -f image

# ---- import, against real vectors with known neighbours
data=$src/tests/data
ok v collection create -p /rfc -d 256 -e f16 -m cosine --index hnsw -M 16 --ef-construction 100
first=0
for part in 0 1 2; do
	ok v --json import "$data/rfc10k_base_$part.npy" /rfc --first-id $first --threads 2
	first=$((first + $(python3 -c 'import json; print(json.load(open("out"))["rows"])')))
done
[ $first = 10000 ] || fail "$first rows were imported"
ok v index build /rfc
ok v --json index status /rfc
json "j['kind'] == 'hnsw' and j['rows'] == 10000 and j['indexed'] == 10000"
ok v --json eval /rfc --queries "$data/rfc10k_query.npy" --truth "$data/rfc10k_gt.ivecs" -k 10 --ef 32,128 --min-recall 0.95
json "len(j['runs']) == 2 and j['runs'][0]['recall'] > 0.8 and j['runs'][1]['recall'] >= 0.95"
json "j['runs'][1]['distances_per_query'] < 5000 and j['queries'] == 200"
ok v --json eval /rfc --queries "$data/rfc10k_query.npy" --truth "$data/rfc10k_gt.ivecs" -k 10 --exact --min-recall 1 --limit 50
ok v --json eval /rfc --queries "$data/rfc10k_query.npy" -k 10 --limit 20 --ef 128 --batch 20 --threads 2 --write-truth t.ivecs
ok cmp -n $((20 * 44)) t.ivecs <(python3 - "$data/rfc10k_gt.ivecs" <<'PY'
import struct, sys
d = open(sys.argv[1], 'rb').read()
k = struct.unpack_from('<i', d)[0]
for i in range(20):
    sys.stdout.buffer.write(struct.pack('<i', 10) + d[i * (4 + 4 * k) + 4:][:40])
PY
)
status 6 v eval /rfc --queries "$data/rfc10k_query.npy" --truth "$data/rfc10k_gt.ivecs" -k 100 --ef 1 --min-recall 1
says "is below 1.0000"
ok v --json search /rfc -q "$data/rfc10k_query.npy" --row 3 -k 5 --exact
json "len(j['results']) == 1 and len(j['results'][0]) == 5"
ok v --json search /rfc -q "$data/rfc10k_query.npy" -k 5
json "len(j['results']) == 200"
ok v --json stats /rfc
json "j['rows'] == 10000 and j['raw_bytes'] == 10000 * 512 and j['table_bytes'] >= j['raw_bytes']"

# ---- ids that exist stop an import, and say where; upsert replaces
vectors more.npy 100 256 5
status 1 v import more.npy /rfc --first-id 9950 --batch 10 --threads 1
says "row 0: its id exists already"
status 1 v import more.npy /rfc --first-id 9999 --batch 10 --threads 1
says "row 0"
ok v import more.npy /rfc --first-id 9950 --upsert
ok v --json collection info /rfc
json "j['rows'] == 10050"
ok v get /rfc --id 10000..10049 -o back.npy
ok v import more.npy /rfc --rows 10..19
says "ids were assigned"
ok v delete /rfc --id 9950..10049
says "100 vectors deleted"
ok v --json search /rfc -q more.npy --row 5 -k 1
json "j['results'][0][0]['id'] not in range(9950, 10050)"

# ---- what can be altered
ok v collection alter /rfc --ef-search 99 --name passages --model lsa-256
ok v --json collection info /rfc
json "j['ef_search'] == 99 and j['name'] == 'passages' and j['model'] == 'lsa-256' and j['m'] == 16"
status 2 v collection alter /rfc --name "$(printf 'x%.0s' {1..64})"

# ---- a recall instead of a breadth: what it takes is measured by who builds, and stored for who opens the image anew
ok v collection alter /rfc --recall 0.95
ok v --json collection info /rfc
json "j['recall'] == 0.95"
ok v collection info /rfc
says "recall 0.950"
ok v --json index build /rfc
json "j['recall'] == 0.95 and j['recall_by'] == 'rows' and j['recall_measured'] >= 0.95 and j['recall_slots'] > 9000"
json "10 <= j['recall_ef'] < 160 and j['recall_queries'] >= 64"
ok v index build /rfc
says "recall       0.950 of the nearest 10 by ef" "rows at"
ok v --json index status /rfc --recall 0.9
json "j['recall'] == 0.9 and j['recall_by'] == 'rows' and j['recall_measured'] >= 0.9 and 10 <= j['recall_ef'] < 80"
ok v --json search /rfc -q more.npy --row 5 --recall 0.9
json "10 <= j['ef'] < 80 and len(j['results'][0]) == 10"
ok v --json search /rfc -q more.npy --row 5 --explain
json "10 <= j['ef'] < 160"
ok v --json search /rfc -q more.npy --row 5 --recall 1 --explain
json "j['plan'] == 'scan' and 'ef' not in j"
status 2 v search /rfc -q more.npy --row 5 --recall 0.9 --ef 50
status 2 v search /rfc -q more.npy --row 5 --recall 1.01
status 2 v search /rfc -q more.npy --row 5 --recall nan
status 2 v collection alter /rfc --recall 0.0001
status 2 v collection alter /rfc --recall nan
status 6 v eval /rfc --queries "$data/rfc10k_query.npy" --truth "$data/rfc10k_gt.ivecs" -k 10 --exact --min-recall nan --limit 5
ok v collection alter /rfc --recall 0
ok v --json collection info /rfc
json "j['recall'] == 0 and j['ef_search'] == 99"

# ---- ids and tags from files, unsigned bytes, other element types
python3 - <<'PY'
import struct
def npy(name, code, fmt, values):
    head = "{'descr': '%s', 'fortran_order': False, 'shape': (%d,), }" % (code, len(values))
    head += ' ' * (-(10 + len(head) + 1) % 64) + '\n'
    open(name, 'wb').write(b'\x93NUMPY\x01\x00' + struct.pack('<H', len(head)) + head.encode() +
                           struct.pack('<%d%s' % (len(values), fmt), *values))
npy('ids.npy', '<i8', 'q', [5 * i + 3 for i in range(50)])
npy('tags.npy', '<i8', 'q', [i % 7 for i in range(50)])
with open('bytes.bvecs', 'wb') as f:
    for i in range(50):
        f.write(struct.pack('<i8B', 8, *[(i * 37 + j * 11) % 256 for j in range(8)]))
PY
ok v collection create -p /bytes -d 8 -e i8 -m l2 --index flat
ok v import bytes.bvecs /bytes --shift --ids ids.npy --tags tags.npy
ok v --json search /bytes -q bytes.bvecs --shift -k 1
json "[r[0]['id'] for r in j['results']] == [5 * i + 3 for i in range(50)] and all(r[0]['distance'] == 0 for r in j['results'])"
json "[r[0]['tag'] for r in j['results']] == [i % 7 for i in range(50)]"
ok v import bytes.bvecs /bytes --shift --ids ids.npy --upsert
ok v --json search /bytes -q bytes.bvecs --shift -k 1
json "[r[0]['tag'] for r in j['results']] == [i % 7 for i in range(50)]" # kept, as no others are given
ok v --json get /bytes --id 8
json "j[0]['vector'] == [float((37 + k * 11) % 256 - 128) for k in range(8)]"
ok v --json get /bytes --ids ids.npy
json "len(j) == 50"
ok v delete /bytes --ids ids.npy
says "50 vectors deleted"
status 2 v import bytes.bvecs /rfc
says "has 8 components"
status 2 v import bytes.bvecs /docs/deep --shift
for e in f16 bf16; do
	ok v collection create -p /$e -d 4 -e $e -m ip
	ok v add /$e -v "[0.5, -2, 1024, 0]" --id 1 --tag 42
	ok v --json get /$e --id 1
	json "j[0]['vector'] == [0.5, -2, 1024, 0]"
	ok v update /$e --id 1 -v "[1, 1, 1, 1]"
	ok v --json get /$e --id 1
	json "j[0]['tag'] == 42"
	ok v --json search /$e -q "[1, 2, 3, 4]" -k 1
	json "j['results'][0][0]['distance'] == -10"
done
ok v put c.txt /f16/owner.txt
ok v update /f16/owner.txt --id 1 -v "[2, 2, 2, 2]" --set-owner --chunk 1:3
ok v --json get /f16 --id 1
json "j[0]['owner_path'] == '/f16/owner.txt' and (j[0]['offset'], j[0]['length']) == (1, 3)"
status 2 v update /f16 --id 1 -v "[2, 2, 2, 2]" --set-owner

# ---- JSON of what is text otherwise
ok v --json dump super
json "any('UUID' in l or 'uuid' in l for l in j['lines'])"
ok v --json cat /f16/owner.txt
json "j['text'] == 'third\\n'"
ok v --json completion bash
json "'complete' in j['script']"

# ---- rebuild, checkpoint, drop
ok v index rebuild /rfc --threads 2
ok v --json index status /rfc
json "j['dead'] == 0 and j['indexed'] == j['rows']"
ok v index checkpoint /rfc
ok v --json index status /rfc
json "j['checkpoint_slots'] > 0"
for how in "build /rfc --kind ivf-pq" "checkpoint /rfc"; do # also of an index that nothing has woken since the image was opened
	ok v index $how
	ok v --json index status /rfc
	json "j['kind'] == 'ivf-pq' and j['checkpoint_slots'] >= 10000 and j['checkpoint_bytes'] > 10000 * 72"
	json "j['lists'] == 0 and j['lists_used'] > 16 and j['pq_m_used'] == 128 and j['tables_used'] == 0"
done
ok v index drop /rfc
ok v --json index status /rfc
json "j['kind'] == 'flat'"
ok fsck.vexfs -f image
status 2 v collection drop /rfc
says "--yes"
ok v collection drop /rfc --yes
ok v --json collection list
json "sorted(c['path'] for c in j) == ['/bf16', '/bytes', '/docs/deep', '/f16']"
ok fsck.vexfs -f -v image
says clean
echo passed
