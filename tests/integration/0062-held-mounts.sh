#!/bin/bash
# Others mount over a mount of ours, bind it, and keep it in namespaces of their own.
# tags: quick asan
# timeout: 120
. "${0%/*}/lib.sh"
need root fuse jq unshare
start_daemon
import_empty empty >/dev/null
mount_at empty "$T/m" || bail "no mount"
id=$(mount_id "$T/m")
state() {
	varve --json mounts | jq -r --arg i "$id" '.[] | select(.id == $i) | .status'
}
said() { # COMMAND...: what it complains of
	"$@" 2>&1 >/dev/null | tr '\n' ' '
}

# A bind mount holds it.
mkdir "$T/bind"
mount --bind "$T/m" "$T/bind"
echo 1 >"$T/m/file"
ok "umount beside a bind mount" varve umount "$T/m"
is "it is held" "$(state)" held
like "umount says by whom" "$(said varve umount "$id")" "bind mount at $T/bind"
like "so does discard" "$(said varve discard "$id")" "bind mount at $T/bind"
ok "its place is free" mount_at empty "$T/m"
ok "and is left again" varve umount --discard "$T/m"
ok "it can be attached" varve attach "$id"
echo 2 >"$T/bind/file"
is "and is one with the bind mount" "$(cat "$T/m/file")" 2
ok "umount once more" varve umount "$T/m"
echo 3 >"$T/bind/late"
ok "--force cuts the bind mount off" varve umount --force "$id"
is "it is detached" "$(state)" detached
not_ok "who holds it gets errors" cat "$T/bind/file"
umount "$T/bind"
ok "attached again" varve attach "$id"
is "it has what was written last" "$(cat "$T/m/late")" 3

# Another mount namespace does.
unshare -m --propagation private sleep 100 &
sleeper=$!
while [ "$(readlink /proc/$sleeper/ns/mnt)" = "$(readlink /proc/self/ns/mnt)" ]; do sleep 0.05; done
ok "umount beside another namespace" varve umount "$T/m"
like "discard says who" "$(said varve discard "$id")" "process $sleeper \(sleep\)"
stop_daemon
start_daemon
is "what was unmounted stays so over a restart" "$(state)" detached
ok "and is attached" varve attach "$id"
kill $sleeper
wait $sleeper 2>/dev/null

# Mounted over.
mount_at empty "$T/above/in"
below=$(mount_id "$T/above/in")
for over in "$T/m" "$T/above"; do
	mount -t tmpfs theirs "$over"
	echo theirs >"$over/theirs"
	for how in '' --lazy --force --discard; do
		not_ok "umount ${how:-gently} leaves what is mounted at ${over##*/}" \
			varve umount ${how:+"$how"} "$([ "$over" = "$T/m" ] && echo "$id" || echo "$below")"
	done
	is "the other mount is there" "$(cat "$over/theirs")" theirs
done
theirs() {
	cat "$T/m/theirs" "$T/above/theirs" 2>&1 | tr '\n' ' '
}
like "umount says what it is" "$(said varve umount "$id")" "tmpfs \(theirs\) is mounted at $T/m "
stop_daemon
is "the end of the daemon leaves it" "$(theirs)" "theirs theirs "
start_daemon
is "the next start as well" "$(theirs)" "theirs theirs "
is "what it hides is detached" "$(state)" detached
umount "$T/m" "$T/above"
ok "and is attached when it has gone" varve attach "$id"
is "with its data" "$(cat "$T/m/late")" 3
kill_daemon
mount -t tmpfs theirs "$T/m"
echo theirs >"$T/m/theirs"
start_daemon
is "so is one that was left by kill -9" "$(state)" detached
is "which hides nothing of others" "$(cat "$T/m/theirs")" theirs
umount "$T/m"
restart_daemon
is "the next start tries again" "$(state)" mounted
is "again with its data" "$(cat "$T/m/late")" 3
done_testing
