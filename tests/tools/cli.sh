#!/bin/bash
# SPDX-License-Identifier: MIT
# The command line itself: usage errors, exit codes, help, completion, manual pages. Nothing here needs a filesystem but
# an empty image.
. "$(dirname "$0")/lib.sh"

ok vexctl --version
says "vexctl 0."
ok vexctl --help
says collection search import eval index stats status completion
status 2 vexctl
status 2 vexctl nonsense
status 2 vexctl collection
status 2 vexctl collection create /tmp
says "--dim is required"
status 2 vexctl collection create /tmp --dim 0
status 2 vexctl collection create /tmp --dim 8193
status 2 vexctl search /tmp
says "either --query or --like"
status 2 vexctl search /tmp -q "[1]" --like x
status 2 vexctl search /tmp -q "[1]" -k 0
status 2 vexctl eval /tmp
status 2 vexctl import
status 2 vexctl import x --ids y --first-id 3
status 2 vexctl completion tcsh
status 2 vexctl ls /
says "--image"
status 2 vexctl dump super

# Not a VexFS, not there.
status 1 vexctl collection info /tmp
says "not on a VexFS"
status 3 vexctl collection info ./none
says "No such file"
status 3 vexctl --image none status
status 1 vexctl --json collection info /tmp
json "j['exit'] == 1 and 'VexFS' in j['error'] and j['errno'] == 25"
truncate -s 8M zeros
status 1 vexctl --image zeros status
says "no VexFS"
status 1 vexctl --image /dev/null status
status 3 vexctl status
says "no VexFS is mounted"

# An output that cannot be written is an error.
status 1 sh -c 'vexctl --help >/dev/full'

# ---- completion
for shell in bash zsh fish; do
	ok vexctl completion $shell
	says collection rebuild ef-construction
	mv out completion.$shell
done
ok bash -n completion.bash
if command -v zsh >/dev/null; then ok zsh -n completion.zsh; fi
if command -v fish >/dev/null; then ok fish -n completion.fish; fi
complete_words() { # WORDS...: what bash would offer for the last word
	bash -c '. ./completion.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vexctl; printf "%s\n" "${COMPREPLY[@]}"' - "$@" >out
}
complete_words vexctl coll
says collection
complete_words vexctl index re
says rebuild
if grep -qx build out; then fail "'re' completes to build"; fi
complete_words vexctl collection create --me
says --metric
complete_words vexctl search --ex
says --exact

# ---- fsck
ok fsck.vexfs --version
ok fsck.vexfs --help
status 16 fsck.vexfs
status 16 fsck.vexfs -n -y zeros
status 16 fsck.vexfs --bogus zeros
status 16 fsck.vexfs zeros more
status 8 fsck.vexfs none
says "No such file"
fsck.vexfs --json none >out 2>/dev/null || true
json "not j['clean'] and j['exit'] == 8 and 'No such file' in j['failure']"

fsck.vexfs --json zeros >out 2>/dev/null || true
json "'no VexFS' in j['failure']"
if fsck.vexfs --help >/dev/full 2>out; then fail "a report that cannot be written is status 0"; fi

# ---- manual pages: every option that help names is there, and they format without a warning
for page in mkfs/mkfs.vexfs.8 mkfs/vexfs.5 fsck/fsck.vexfs.8 vexctl/vexctl.1; do
	[ -s "$src/tools/$page" ] || fail "$page is missing"
	if command -v groff >/dev/null; then
		groff -man -t -Tutf8 -ww "$src/tools/$page" 2>out >/dev/null
		[ ! -s out ] || fail "$page: warnings"
	fi
done
documented() { # PAGE PROGRAM: every long option of its help
	local option
	sed 's/\\-/-/g' "$src/tools/$1" >page
	for option in $($2 --help | grep -oE -e '--[a-z][a-z-]+' | sort -u); do
		grep -qF -e "$option" page || fail "$1 does not say $option"
	done
}
documented mkfs/mkfs.vexfs.8 mkfs.vexfs
documented fsck/fsck.vexfs.8 fsck.vexfs
for command in "collection create" "collection alter" add get import search eval; do
	documented vexctl/vexctl.1 "vexctl $command"
done
echo passed
