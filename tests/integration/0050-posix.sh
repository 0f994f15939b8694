#!/bin/bash
# POSIX and Linux behaviour on a mount: the cases of posixset, and what needs the
# daemon's options (quota, read-only, nodev, nosuid).
# tags: quick asan
# timeout: 240
. "${0%/*}/lib.sh"
need root fuse curl jq helper:posixset
posixset=$(helper posixset)
start_daemon
import_empty empty >/dev/null

# Each case is one point here.
tap_through() { # LABEL COMMAND...: take another program's points over as ours
	local label=$1 line why=
	shift
	while IFS= read -r line; do
		case $line in
		'ok '*'# SKIP'*) skip "$label: ${line#ok * - }" "as it says" ;;
		'ok '*) pass "$label: ${line#ok * - }" ;;
		'not ok '*) fail "$label: ${line#not ok * - }" "$why" ;;
		'#'*) why=$line && continue ;;
		esac
		why=
	done < <("$@" 2>&1)
}

mkdir "$T/ext4"
ok "the cases hold on the file system of $T" "$posixset" "$T/ext4"
rm -rf "$T/ext4"
m=$T/m
ok "mount" mount_at empty "$m"
tap_through mount "$posixset" "$m"
rm -rf "${m:?}"/*
ok "checkpoint" varve checkpoint "$m" after
mkdir "$m/again"
tap_through "after a checkpoint" "$posixset" "$m/again" rename times default_acl setuid unlinked
ok "umount" varve umount --discard "$m"

# Containers within: overlayfs takes a mount as its upper.
ok "mount" mount_at empty "$m"
mkdir "$m/lower" "$m/upper" "$m/work" "$m/over"
echo low >"$m/lower/gone"
echo low >"$m/lower/moved"
if mount -t overlay -o "lowerdir=$m/lower,upperdir=$m/upper,workdir=$m/work" over "$m/over"; then
	ok "overlayfs deletes" rm "$m/over/gone"
	ok "and moves" mv "$m/over/moved" "$m/over/here"
	is "and shows what is left" "$(ls "$m/over")" here
	ok "umount of it" umount "$m/over"
else
	skip "overlayfs over a mount" "this kernel has none"
fi
ok "umount" varve umount --discard "$m"

# What /proc/mounts says, and what the options do.
ok "mount" mount_at empty "$m"
options=$(awk -v d="$m" '$2 == d { print $4 }' /proc/self/mounts)
like "nodev by default" ",$options," ',nodev,'
like "nosuid by default" ",$options," ',nosuid,'
is "type" "$(awk -v d="$m" '$2 == d { print $3 }' /proc/self/mounts)" fuse.varve
is "source is the snapshot's name" "$(awk -v d="$m" '$2 == d { print $1 }' /proc/self/mounts)" empty
mknod "$m/null" c 1 3 && chmod 666 "$m/null"
not_ok "devices do not open" bash -c "echo x >'$m/null'"
echo data >"$m/file"
ok "checkpoint" varve checkpoint "$m" devices
ok "umount" varve umount "$m"
ok "mount with devices" mount_at devices "$m" --dev
ok "devices open" bash -c "echo x >'$m/null'"
ok "umount" varve umount --discard "$m"

ok "mount read-only" mount_at devices "$m" --read-only
is "reads" "$(cat "$m/file")" data
errno_of() { # COMMAND...: the error text in English
	LC_ALL=C "$@" 2>&1 | tail -n 1
}
like "create fails with EROFS" "$(errno_of touch "$m/new")" 'Read-only file system'
like "write fails with EROFS" "$(errno_of dd if=/dev/zero of="$m/file" count=1)" 'Read-only file system'
like "unlink fails with EROFS" "$(errno_of rm -f "$m/file")" 'Read-only file system'
like "mkdir fails with EROFS" "$(errno_of mkdir "$m/d")" 'Read-only file system'
like "chmod fails with EROFS" "$(errno_of chmod 600 "$m/file")" 'Read-only file system'
like "rename fails with EROFS" "$(errno_of mv "$m/file" "$m/f2")" 'Read-only file system'
ok "umount" varve umount --discard "$m"

# Quota: EDQUOT or ENOSPC, and everything else goes on.
ok "mount with a quota" mount_at devices "$m" --quota 20M
ok "writes below it" dd if=/dev/urandom of="$m/some" bs=1M count=8 conv=fsync status=none
like "more than it fails" "$(errno_of dd if=/dev/urandom of="$m/more" bs=1M count=40 conv=fsync)" \
	'Disk quota exceeded|No space left|copied'
not_ok "and says so" dd if=/dev/urandom of="$m/more2" bs=1M count=40 conv=fsync status=none
like "nor is there room to set aside" "$(errno_of fallocate -l 40M "$m/more3")" 'Disk quota exceeded'
is "what was there is readable" "$(cat "$m/file")" data
is "size of what was written" "$(stat -c %s "$m/some")" 8388608
ok "removing works" rm -f "$m/more" "$m/more2"
ok "and makes room" dd if=/dev/urandom of="$m/again" bs=1M count=8 conv=fsync status=none
ok "names can be made" mkdir "$m/dir"
ok "checkpoint of it" varve checkpoint "$m" quota
ok "umount" varve umount --discard "$m"

# A quota counts what is no data, too.
fill() { # COMMAND...: run it with N added, from 0 on, until it fails; say how often and why
	local i why
	for ((i = 0; i < 1000; i++)); do
		why=$(errno_of "$@" "$i") || true
		[ -z "$why" ] || break
	done
	echo "$i $why"
}
value=$(printf '%050000d' 0)
add_xattr() { setfattr -n "user.$1" -v "$value" "$m/file"; }
add_symlink() { ln -s "${value:0:4000}" "$m/link$1"; }
ok "mount with a quota" mount_at empty "$m" --quota 10M
touch "$m/file"
before=$(du -sm "$STATE" | cut -f 1)
like "xattrs stop at it" "$(fill add_xattr)" '^2[0-9][0-9] .*Disk quota exceeded'
ok "little more was taken" test $(($(du -sm "$STATE" | cut -f 1) - before)) -lt 20
like "and so do symlinks" "$(fill add_symlink)" '^1?[0-9] .*Disk quota exceeded'
ok "mounts tell what is used" test "$(varve mounts --json |
	jq -r ".[] | select(.quotaBytes == 10485760) | .metaBytes")" -gt 10000000
ok "removing works" rm "$m/file"
ok "and makes room" add_symlink new
ok "umount" varve umount --discard "$m"
ok "mount with a limit on inodes" mount_at empty "$m" --inodes 5
ok "five can be made" mkdir "$m/"{1,2,3,4,5}
like "but not six" "$(errno_of mkdir "$m/6")" 'Disk quota exceeded'
is "df says so" "$(df --output=iavail "$m" | tail -n 1 | tr -d ' ')" 0
ok "one less" rmdir "$m/1"
ok "and one more" mkdir "$m/6"
ok "umount" varve umount --discard "$m"
ok "volatile mount" mount_at empty "$m" --volatile
ok "fsync returns" dd if=/dev/zero of="$m/x" bs=4k count=10 conv=fsync status=none
ok "verify" varve verify
done_testing
