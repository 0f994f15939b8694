#!/bin/bash
# Times, inode numbers and devices survive checkpoint and fork as git wants it:
# `git status` in a fork reads no file of the work tree.
# tags: quick
# timeout: 120
. "${0%/*}/lib.sh"
need root fuse curl jq git strace
start_daemon
import_empty empty >/dev/null
export HOME=$T GIT_CONFIG_NOSYSTEM=1
git config --global user.name Test && git config --global user.email test@localhost
git config --global init.defaultBranch main && git config --global safe.directory '*'

git init -q "$T/origin"
(
	cd "$T/origin" || exit
	for d in src doc test; do
		mkdir -p $d/sub
		for i in $(seq 150); do echo "$d $i" >$d/sub/file$i; done
	done
	git add . && git commit -qm first
) || bail "no repository"

m=$T/m
ok "mount" mount_at empty "$m"
ok "git clone into it" git clone -q "$T/origin" "$m/clone"
is "git status is clean" "$(git -C "$m/clone" status --porcelain)" ""
# Racily clean entries (index as old as the files) are read once, by design of git.
sleep 1.1
git -C "$m/clone" status --porcelain >/dev/null
touch "$m/clone/.git/index" && git -C "$m/clone" update-index --refresh -q
ok "checkpoint" varve checkpoint "$m" cloned
ok "fork" fork_at "$m" "$T/fork"

opened() { # DIR: work-tree files that git status opens
	strace -f -qq -e trace=openat,open -o "$T/trace" git -C "$1" status --porcelain >"$T/status"
	grep -cE 'sub/file[0-9]+' "$T/trace"
}
is "git status in the fork opens no file of the work tree" "$(opened "$T/fork/clone")" 0
is "and is clean" "$(cat "$T/status")" ""
is "the second neither" "$(opened "$T/fork/clone")" 0
echo changed >"$T/fork/clone/src/sub/file1"
is "a change is seen" "$(git -C "$T/fork/clone" status --porcelain)" " M src/sub/file1"
ok "git commit in the fork" git -C "$T/fork/clone" commit -qam second
is "the source does not have it" "$(git -C "$m/clone" log --oneline | wc -l)" 1
ok "git fsck in the fork" git -C "$T/fork/clone" fsck --strict
ok "git gc in the fork" git -C "$T/fork/clone" gc -q
ok "git checkout of the old state" git -C "$T/fork/clone" checkout -q HEAD~1
is "gives the old content" "$(cat "$T/fork/clone/src/sub/file1")" "src 1"

sleep 1.1
git -C "$T/fork/clone" update-index --refresh -q
restart_daemon
is "git status after a restart opens no file" "$(opened "$T/fork/clone")" 0
ok "umount" varve umount "$m"
ok "attach" varve attach "$m"
is "git status after attach opens no file" "$(opened "$m/clone")" 0
ok "verify" varve verify
done_testing
