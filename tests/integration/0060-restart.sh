#!/bin/bash
# The daemon is restarted, killed, and finds stale mounts: uppers are kept.
# tags: quick asan
# timeout: 120
. "${0%/*}/lib.sh"
need root fuse curl jq helper:fsmodel
start_daemon
import_empty empty >/dev/null
for i in a b kept gone; do
	mount_at empty "$T/$i" || bail "no mount"
	mkdir "$T/$i/dir" && echo $i >"$T/$i/dir/file"
done
head -c 1000000 /dev/urandom >"$T/a/data"
truncate -s 5M "$T/a/data"
setfattr -n user.x -v 1 "$T/a/dir" 2>/dev/null
ln "$T/a/data" "$T/a/dir/link"
kept=$(mount_id "$T/kept")
ok "one is unmounted" varve umount "$T/kept"
ok "one is discarded" varve umount --discard "$T/gone"
cp -a "$T/a/." "$T/want"
before=$(varve --json mounts | jq -c 'map({id, mountpoint, attached}) | sort')

varve_mounts() { # everything of ours that is mounted below $T
	awk -v d="$T/" 'index($2, d) == 1 { print $2 }' /proc/self/mounts | sort
}
stop_daemon
ok "the daemon ends on SIGTERM" daemon_ended_well
is "and leaves no mount" "$(varve_mounts)" ""
not_ok "its mounts are gone" is_mounted "$T/a"
start_daemon
is "after the restart the mounts are as before" \
	"$(varve --json mounts | jq -c 'map({id, mountpoint, attached}) | sort')" "$before"
ok "they are mounted" is_mounted "$T/a"
ok "with what was written" same_tree "$T/a" "$T/want"
is "and the other" "$(cat "$T/b/dir/file")" b
not_ok "what was unmounted stays so" is_mounted "$T/kept"
ok "and can be attached" varve attach "$kept"
is "with what was written" "$(cat "$T/kept/dir/file")" kept
ok "it works on" bash -c "echo more >>'$T/a/dir/file' && cat '$T/a/dir/file' | wc -l | grep -qx 2"

echo synced >"$T/b/synced" && sync -f "$T/b"
mv "$T/b/dir" "$T/b/renamed" && mkdir "$T/b/made" && ln -s x "$T/b/link" && chmod 700 "$T/b/made"
kill_daemon
not_ok "after kill -9 the mount answers errors" ls "$T/b"
start_daemon
ok "the next daemon mounts again" ls "$T/b"
is "synced data are there" "$(cat "$T/b/synced")" synced
is "names are there" "$(cat "$T/b/renamed/file")" b
is "modes are there" "$(stat -c %a "$T/b/made")" 700
ok "symlinks are there" test -L "$T/b/link"
is "no stale mount is below one" "$(varve_mounts | uniq -d)" ""

# Killed while a process stands in the mount, and while a checkpoint is stored.
(cd "$T/b" && exec sleep 60) &
sleeper=$!
head -c 40000000 /dev/urandom >"$T/b/big" && sync -f "$T/b"
varve checkpoint "$T/b" during >/dev/null 2>&1 &
until_true 10 varve show during # it is being stored
kill_daemon
wait $!
start_daemon
ok "mounted again beside a process in the old mount" test -s "$T/b/big"
kill $sleeper && wait $sleeper 2>/dev/null
is "size" "$(stat -c %s "$T/b/big")" 40000000
for _ in $(seq 100); do
	status=$(varve --json show during 2>/dev/null | field .status)
	[ "$status" = building ] || break
	pause 0.1
done
like "the interrupted checkpoint is decided" "${status:-none}" '^(ready|failed|none)$'
diag "status: ${status:-none}"
if [ "$status" = ready ]; then
	ok "it holds the data" mount_at during "$T/during"
	ok "all of it" cmp "$T/during/big" "$T/b/big"
else
	ok "a new one works" varve checkpoint "$T/b" anew
fi

# A mount point that is gone: the mount is kept, detached, and all others work.
stop_daemon
is "SIGTERM leaves no mount, stale ones included" "$(varve_mounts)" ""
mv "$T/kept" "$T/away"
start_daemon
is "a mount whose place is gone is detached" \
	"$(varve --json mounts | jq -r --arg i "$kept" '.[] | select(.id == $i) | .attached')" false
ok "others are mounted" is_mounted "$T/a"
ok "it can be attached elsewhere" varve attach "$kept" "$T/away"
is "with its data" "$(cat "$T/away/dir/file")" kept

# Mounts inside mounts, siblings among them, and one below a place that is a bind mount.
for i in n n/dir n/dir/in n/dir/in/most n/dir/beside; do
	mkdir -p "$T/$i" && mount_at empty "$T/$i" --force || bail "no mount in a mount"
	echo $i >"$T/$i/mark"
	mkdir -p "$T/$i/dir" "$T/$i/in/most" "$T/$i/beside" "$T/$i/bound"
done
nested() { # how many are there and show what they hold
	local n=0 i
	for i in n n/dir n/dir/in n/dir/in/most n/dir/beside; do
		is_mounted "$T/$i" && [ "$(cat "$T/$i/mark")" = $i ] && n=$((n + 1))
	done
	echo $n
}
stop_daemon
is "SIGTERM leaves no mount inside another" "$(varve_mounts)" ""
start_daemon
is "mounts inside mounts are back after a restart" "$(nested)" 5
kill_daemon
start_daemon
is "and after kill -9" "$(nested)" 5
is "once each" "$(varve_mounts | uniq -d)" ""
mkdir "$T/elsewhere" "$T/elsewhere/x"
mount --bind "$T/elsewhere" "$T/n/bound"
mount_at empty "$T/n/bound/x"
between=$(mount_id "$T/n/bound/x")
echo kept >"$T/n/bound/x/file"
stop_daemon
start_daemon
is "a bind mount between them is not the daemon's: what was in it is detached" \
	"$(varve --json mounts | jq -r --arg i "$between" '.[] | select(.id == $i) | .attached')" false
is "the others are back" "$(nested)" 5
mount --bind "$T/elsewhere" "$T/n/bound"
stop_daemon # with the bind mount, which goes with the mount that it is in
start_daemon
mount --bind "$T/elsewhere" "$T/n/bound"
ok "it can be attached where it was" varve attach "$between"
is "with what it holds" "$(cat "$T/n/bound/x/file")" kept
# The outer one cannot be loaded: those in it are detached, and come back with it.
outer=$(mount_id "$T/n")
stop_daemon
mkdir "$STATE/journal/$outer"
start_daemon
is "where the outer mount cannot be loaded, those inside are detached" \
	"$(varve --json mounts | jq --arg d "$T/n/dir" \
		'[.[] | select(.mountpoint | startswith($d)) | .attached] | tostring')" \
	'"[false,false,false,false]"'
mkdir "$T/inner"
inner=$(varve --json mounts | jq -r --arg d "$T/n/dir/beside" '.[] | select(.mountpoint == $d) | .id')
ok "and can be attached elsewhere" varve attach "$inner" "$T/inner"
is "with what they hold" "$(cat "$T/inner/mark")" n/dir/beside
ok "they are unmounted" varve umount "$T/inner"
ok "and discarded" varve discard "$inner"
stop_daemon
rmdir "$STATE/journal/$outer"
start_daemon
is "all are back with the outer one" "$(nested)" 4

# Idle repetition: restarts lose nothing.
for _ in 1 2 3; do
	kill_daemon
	start_daemon
done
ok "after three more kills" same_tree_but_times "$T/a/dir" "$T/a/dir"
is "data" "$(cat "$T/a/dir/file" | wc -l)" 2
ok "verify" varve verify
not_ok "a second daemon on the state is refused" timeout $((20 * SLOW)) snapshotd --state "$STATE" \
	--socket "$T/sock2" --foreground
ok "the first lives" daemon_ready
done_testing
