#!/bin/bash
# SPDX-License-Identifier: MIT
# Inside the guest: runs the test scripts that tests/vm/run lists, one after the other, and tells how each ended.
# Arguments: NAME:TIMEOUT_S ... Lines that begin with "##vm" are for tests/vm/run, everything else is output of scripts.
scripts=$SHARE/guest
export LIB=$scripts/lib.sh
base_out=$OUT

# Leaves the guest as the next script expects it; prints what would not go away.
clean_up() {
	local left mount
	cd /
	left=$(pgrep -s "$1") && { echo "processes left behind: $(ps -o pid=,args= -p "$(echo $left | tr ' ' ,)")"; pkill -KILL -s "$1"; sleep 0.2; }
	while read -r mount; do umount "$mount" || { echo "cannot unmount $mount"; return 1; }; done \
		< <(awk '$3 == "vexfs" || $2 ~ "^/mnt/" || $2 ~ "^/tmp/" { print $2 }' /proc/self/mounts | tac)
	losetup -D
	dmsetup remove_all --force >/dev/null 2>&1
	rm -rf "/tmp/$2"
	return 0
}

# On a kernel with kmemleak: what the script has left allocated and out of reach. The kernel reports the number of the
# finds, which is a failure; what was found goes to the log here. Objects younger than 5 s are none to kmemleak.
leaks=/sys/kernel/debug/kmemleak
find_leaks() {
	[ -w "$leaks" ] || return 0
	sleep 6
	echo scan >"$leaks" || return 0
	grep . "$leaks" | head -n 100 | tee /dev/kmsg && echo clear >"$leaks"
	return 0
}
if [ -w "$leaks" ]; then
	echo scan=off >"$leaks" # at no time of its own choice
	echo scan >"$leaks"
	echo clear >"$leaks"
fi

run_one() {
	local name=$1 limit=$2 pid status waited=0
	echo "##vm begin $name"
	export OUT=$base_out/$name
	mkdir -p "$OUT" "/tmp/$name" && cd "/tmp/$name" || return
	echo "vexfs-vm: test $name begins" >/dev/kmsg
	setsid bash "$scripts/$name.sh" </dev/null 2>&1 &
	pid=$!
	while kill -0 "$pid" 2>/dev/null && [ "$waited" -lt $((limit * 5)) ]; do
		sleep 0.2
		waited=$((waited + 1))
	done
	if kill -0 "$pid" 2>/dev/null; then
		echo "time limit of $limit s; what is blocked, and where, is in the kernel log"
		echo w >/proc/sysrq-trigger
		pkill -TERM -s "$pid"
		sleep 3
		pkill -KILL -s "$pid"
		sleep 10
		if kill -0 "$pid" 2>/dev/null || pgrep -s "$pid" >/dev/null; then
			echo "it cannot be killed: $(ps -o pid=,stat=,wchan=,args= -s "$pid")"
			echo "##vm end $name 124"
			exit 97
		fi
		wait "$pid"
		status=124
	else
		wait "$pid"
		status=$?
	fi
	# The limit is for whole cleaning too: an unmount that hangs must not take the other tests along unnoticed.
	clean_up "$pid" "$name" || status=98
	find_leaks
	echo "##vm end $name $status"
	[ "$status" != 98 ] || exit 97
}

for test in "$@"; do
	run_one "${test%%:*}" "${test##*:}"
done
echo "##vm done"
