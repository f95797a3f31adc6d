#!/bin/bash
# SPDX-License-Identifier: MIT
# What vexctl says where a user would else be left to guess: rounding to i8, imports that end early, dropped indexes.
. "$(dirname "$0")/lib.sh"
ok mkfs.vexfs -q image 64M
v() { vexctl --image image "$@"; }
python3 - <<'PY'
import struct
def npy(name, code, fmt, shape, values):
    head = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (code, shape)
    head += ' ' * (-(10 + len(head) + 1) % 64) + '\n'
    open(name, 'wb').write(b'\x93NUMPY\x01\x00' + struct.pack('<H', len(head)) + head.encode() +
                           struct.pack('<%d%s' % (len(values), fmt), *values))
npy('unit.npy', '<f4', 'f', (4, 2), [.5, .5, 0, 0, .1, -.4, 1, 0])  # rows 0 and 2 become zero in i8, row 1 is
npy('late.npy', '<f4', 'f', (4, 2), [3, .5, 1, 0, .1, -.4, 1, 0])  # row 2 does
npy('ids.npy', '<i8', 'q', (4,), [90, 70, 50, 30])
npy('floats.npy', '<f4', 'f', (4,), [9, 7, 5, 3])
bad = 805
npy('many.npy', '<f4', 'f', (1000, 2), [0 if i // 2 == bad else 1 + i for i in range(2000)])
npy('fewer.npy', '<f4', 'f', (1000, 2), [1 + i for i in range(2000)])
npy('truth.npy', '<i8', 'q', (4, 2), [0, 1, 2, 3, 0, 90000, -1, 90001])
npy('right.npy', '<i8', 'q', (4, 2), [0, 1, 2, 3, 0, 1, 2, 3])
open('bytes.bvecs', 'wb').write(b''.join(struct.pack('<iBB', 2, 1 + i * 90, 1 + i * 50) for i in range(3)))
open('broken.fvecs', 'wb').write(struct.pack('<iffiffiff', 2, 1, 2, 2, 3, 4, 3, 5, 6))
open('text.txt', 'w').write('1\n')
PY

# ---- i8 rounds and does not scale
ok v collection create -p /l2 -d 2 -e i8 --index flat
ok v import unit.npy /l2
says "warning: 2 rows were not zero and became all zeroes" "does not scale" "4 vectors imported"
v --json import unit.npy /l2 >out 2>err
json "j['rows'] == 4 and j['rounded_to_zero'] == 2"
mv err out
json "'2 rows' in j['warning']"
ok v add /l2 -v "[0.2, 0.3]"
says "warning: 1 row was not zero"
ok v update /l2 --id 0 -v "[0.2, 0.3]"
says "warning: 1 row was not zero"
ok v add /l2 -v "[0.2, 0.6]"
says_not warning
ok v import bytes.bvecs /l2 --shift
says_not warning
ok v import bytes.bvecs /l2 --rows 0..1
says_not warning
status 1 v import bytes.bvecs /l2
says "row 2: component 0 does not fit i8 (-128 to 127); --shift takes unsigned bytes"
status 1 v add /l2 -v bytes.bvecs --row 2
says "--shift takes unsigned bytes"
status 1 v add /l2 -v "[1, 128]"
says_not --shift
ok v collection create -p /cos -d 2 -e i8 -m cosine
zero="all components are zero (after rounding to i8): such a vector has no direction"
status 1 v add /cos -v "[0.2, -0.5]"
says "the vector: $zero"
status 1 v search /cos -q "[0.2, -0.5]"
says "the query: $zero"
ok v add /cos -v "[0.2, 0.51]"
status 1 v add /cos -v "[0, 0]"
says "all components are zero: such"
ok v collection create -p /half -d 2 -e f16 -m cosine
status 1 v add /half -v "[1e-9, 0]"
says "all components are zero (after rounding to f16)"

# ---- an import that ends early says what it left, and how to go on; what it says works
status 2 v import late.npy /half --ids floats.npy
says "integers wanted" "--ids takes a .npy of integers, or an .ivecs"
ok v collection create -p /early -d 2 -e i8 -m cosine
status 1 v import late.npy /early
says "row 2: $zero" "(2 rows were imported: ids 0..1)" "the same with --rows 2..3 --first-id 2"
status 1 v import late.npy /early
says "(2 rows were imported: rows 0..1)" "--rows 2..3"
says_not "ids were assigned"
status 1 v import late.npy /early --ids ids.npy
says "(2 rows were imported: rows 0..1)" "the same with --rows 2..3"
status 1 v import late.npy /early --ids ids.npy
says "its id exists already (nothing was imported). With --upsert the same import replaces what exists"
status 1 v import late.npy /early --rows 2..3 --first-id 700
says "(nothing was imported)"
ok v import late.npy /early --rows 3
says "the collection was not empty: ids were assigned"
ok v collection create -p /many -d 2 -m cosine --index flat
status 1 v import many.npy /many --batch 10 -t 4
says "row 805: all components are zero" "imported: ids 0..804" "the same with --rows 805"
ok v import fewer.npy /many --upsert --first-id 0
ok v --json collection info /many
json "j['rows'] == 1000"
status 1 v import many.npy /many --rows 800..900 --first-id 5000 --batch 10 -t 1
says "(5 rows were imported: ids 5000..5004)"
ok v collection create -p /broken -d 2 --index flat
status 1 v import broken.fvecs /broken --batch 1 -t 1
says "row 2 has dimension 3" "(2 rows were imported: ids 0..1)"

# ---- tags, codes, rows, truth
status 2 v import late.npy /l2 --tags text.txt
says "--tags takes a .npy of integers, or an .ivecs of one number a row"
status 2 v import late.npy /l2 --tags late.npy
says "one number a row expected" "--tags takes"
status 3 v import late.npy /l2 --tags none.npy
says_not takes
status 2 v collection create -p /never -d 2 --codes foo
says "--codes: unknown codes 'foo' (known: auto, none, "
says_not "->"
ok v collection create -p /codes -d 2 --codes sq4
says "codes sq4"
status 1 v search /many -q late.npy --row 5000
says "row 5000 wanted, the file has 4 rows, the first is 0"
ok v eval /many --queries late.npy --truth truth.npy -k 2
says "warning: truth.npy: 3 of 7 ids that were looked up are not in the collection"
ok v eval /many --queries late.npy --truth right.npy -k 2
says_not warning

# ---- what a kind does not use, also where there are no words for people; what a drop leaves
v --json collection create -p /idle -d 2 --index hnsw --lists 50 >/dev/null 2>out
json "j['warning'] == '--lists: not used by hnsw'"
ok v index drop /idle
says "It was hnsw. 'index build' makes hnsw again, 'index build --kind KIND' another"
ok v index drop /idle
says_not "It was"
ok v index build /idle --kind ivf-flat
ok v index drop /idle
says "It was ivf-flat. 'index build' makes hnsw, 'index build --kind ivf-flat' this one again"
ok v index build /idle
says "index        hnsw"
ok fsck.vexfs -f image
echo passed
