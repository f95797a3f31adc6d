# SPDX-License-Identifier: MIT
# Helpers for the scripts that run inside a virtual machine; see tests/vm/README.md. Sourced, never run.
set -Eeuo pipefail

say() { printf -- '-- %s\n' "$*"; }
die() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
skip() { printf 'SKIPPED: %s\n' "$*"; exit 77; }

_lib_report() {
	local status=$? line=$1 command=$2
	[ "$status" = 77 ] || printf 'FAILED (status %s) in %s line %s: %s\n' "$status" "${BASH_SOURCE[1]##*/}" \
		"$line" "$command" >&2
}
trap '_lib_report "$LINENO" "$BASH_COMMAND"' ERR

make_fs() {
	local dev=$1
	shift
	mkfs.vexfs -q -f "$@" "$dev" || die "mkfs.vexfs $* $dev"
}

mount_fs() {
	local dev=$1 dir=$2
	shift 2
	mkdir -p "$dir"
	mount -t vexfs ${1:+-o "$1"} "$dev" "$dir" || die "mount -t vexfs ${1:+-o $1 }$dev $dir"
}

umount_fs() { umount "$1" || die "umount $1"; }

check_fs() {
	local dev=$1 report status=0
	report=$(fsck.vexfs -n -f "$dev" 2>&1) || status=$?
	[ "$status" = 0 ] || { printf '%s\n' "$report"; die "fsck.vexfs -n -f $dev: status $status"; }
}

remount_cycle() {
	local dev=$1 dir=$2
	shift 2
	umount_fs "$dir"
	check_fs "$dev"
	mount_fs "$dev" "$dir" "$@"
}

fresh_fs() {
	local dev=$1 dir=$2
	shift 2
	if mountpoint -q "$dir"; then umount_fs "$dir"; fi
	make_fs "$dev" "$@"
	mount_fs "$dev" "$dir"
}

expect_eq() { [ "$2" = "$3" ] || die "$1: got '$2', expected '$3'"; }
expect_ok() { "$@" || die "status $?: $*"; }
expect_fail() { if "$@"; then die "succeeded, but had to fail: $*"; fi; }

# The texts are glibc's, in the C locale.
_lib_strerror() {
	case $1 in
	EPERM) echo 'Operation not permitted' ;;
	ENOENT) echo 'No such file or directory' ;;
	EIO) echo 'Input/output error' ;;
	EACCES) echo 'Permission denied' ;;
	EBUSY) echo 'Device or resource busy' ;;
	EEXIST) echo 'File exists' ;;
	EXDEV) echo 'Invalid cross-device link' ;;
	ENODEV) echo 'No such device' ;;
	ENOTDIR) echo 'Not a directory' ;;
	EISDIR) echo 'Is a directory' ;;
	EINVAL) echo 'Invalid argument' ;;
	EFBIG) echo 'File too large' ;;
	ENOSPC) echo 'No space left on device' ;;
	EROFS) echo 'Read-only file system' ;;
	EMLINK) echo 'Too many links' ;;
	ERANGE) echo 'Numerical result out of range' ;;
	ENAMETOOLONG) echo 'File name too long' ;;
	ENOTEMPTY) echo 'Directory not empty' ;;
	ELOOP) echo 'Too many levels of symbolic links' ;;
	ENODATA) echo 'No data available' ;;
	EOPNOTSUPP) echo 'Operation not supported' ;;
	ESTALE) echo 'Stale file handle' ;;
	EUCLEAN) echo 'Structure needs cleaning' ;;
	*) die "expect_errno does not know $1" ;;
	esac
}

expect_errno() {
	local name=$1 text output status=0
	shift
	text=$(_lib_strerror "$name")
	output=$(LC_ALL=C "$@" 2>&1) || status=$?
	[ "$status" != 0 ] || die "succeeded, but had to fail with $name: $*"
	case $output in
	*"$text"*) ;;
	*) die "had to fail with $name ($text), said '$output': $*" ;;
	esac
}

module_reload() {
	if [ -d /sys/module/vexfs ]; then rmmod vexfs || die "rmmod vexfs"; fi
	modprobe vexfs || die "modprobe vexfs"
}

# await CONDITION: until the shell finds it true; fails after 20 s.
await() {
	local i
	for ((i = 0; i < 200; i++)); do
		if eval "$1"; then return 0; fi
		sleep 0.1
	done
	return 1
}

# shutdown_fs DIR HOW: nothing more reaches the device, as in a power cut. HOW: commit (first; but data that is only in the
# page cache is lost) or now.
shutdown_fs() {
	local how=2
	[ "$2" != commit ] || how=1
	perl -e 'open(my $f, "<", $ARGV[0]) or die "$ARGV[0]: $!\n";
		ioctl($f, 0x8004587d, pack("L", $ARGV[1])) or die "shutdown: $!\n"' "$1" "$how"
}
