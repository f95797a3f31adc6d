#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Tests qemu/run itself on one kernel series: runner_test.sh 6.1|6.12. No module is needed. What has nothing to do with the
# kernel is tested with the first alone.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
series=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0

# check WHAT EXPECTED_STATUS EXPECTED_TEXT qemu/run arguments...
check() {
	local what=$1 expected=$2 text=$3 status=0 out
	shift 3
	out=$(mktemp -p "$scratch")
	"$top/qemu/run" --kernel "$series" "$@" >"$out" 2>&1 </dev/null || status=$?
	if [ "$status" != "$expected" ] || ! grep -q -e "$text" "$out"; then
		echo "FAILED $what: status $status, expected $expected and the text '$text':"
		cat "$out"
		failures=$((failures + 1))
	else
		echo "ok $what"
	fi
}

# Two guests side by side; each has its own disks.
other=
if [ "$series" = 6.1 ]; then
	(
		check "second guest beside the first" 0 '^hello from the other' --mem 512M -- 'echo hello from the other; sleep 3'
		exit "$failures"
	) &
	other=$!
fi
check "status, output, disks, files in and out" 3 '^release '"${series//./\\.}" --mem 512M \
	--disk 64M --disk "$scratch/kept:32M" --share "$top/qemu/packages.list" --out "$scratch/back" -- '
	echo release $KVER
	test -b $DEV1 && test -b $DEV2 || exit 1
	test $(blockdev --getsize64 $DEV1) = 67108864 || exit 1
	echo written by the guest | dd of=$DEV2 bs=512 conv=sync,fsync status=none || exit 1
	grep -q coreutils $SHARE/packages.list || exit 1
	exit 3'
[ -z "$other" ] || wait "$other" || failures=$((failures + 1))
grep -q -a 'written by the guest' "$scratch/kept" || { echo "FAILED: the disk file was not kept"; failures=$((failures + 1)); }
check "files come out" 0 'kernel: .*a message of the guest' --mem 512M --out "$scratch/back" -- '
	echo a message of the guest >/dev/kmsg; sleep 0.5; echo result >$OUT/file'
[ "$(cat "$scratch/back/file")" = result ] || { echo "FAILED: no \$OUT"; failures=$((failures + 1)); }
check "a crash is a failure" 120 'the kernel reported.*panic' --mem 512M -- 'echo c >/proc/sysrq-trigger; exit 0'
check "a report is a failure although the command succeeds" 120 'the kernel reported.*BUG: planted' --mem 512M -- \
	'echo "BUG: planted by the test" >/dev/kmsg; sleep 1; exit 0'
check "an expected report is not" 0 '' --mem 512M --reports-ok 'BUG: planted' -- \
	'echo "BUG: planted by the test" >/dev/kmsg; exit 0'
[ "$series" = 6.1 ] || exit "$((failures > 0))"
check "time limit" 124 'time limit of' --mem 512M --timeout 25 -- 'sleep 1000'
check "a guest that goes away" 125 'without an exit status' --mem 512M -- '/sbin/busybox poweroff -f; sleep 100'
check "a mistaken option" 125 'neither one of' --kernel /nonexistent -- true
exit "$((failures > 0))"
