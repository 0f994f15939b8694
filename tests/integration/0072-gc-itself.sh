#!/bin/bash
# Space comes back by itself: by time, when enough was deleted, when the disk is full.
# tags: quick asan
# timeout: 300
. "${0%/*}/lib.sh"
need root fuse jq curl
config() { # JSON: the daemon's, from its next start on
	echo "$1" >"$T/config.json"
	# shellcheck disable=SC2034 # start_daemon uses it
	daemon_args=(--config "$T/config.json")
}
stat_of() { # JQ-FILTER
	varve --json stats | jq -r "$1"
}
eventually() { # DESCRIPTION WANTED COMMAND...
	local got i
	for ((i = 0; i < 300 * SLOW; i++)); do
		got=$("${@:3}")
		[ "$got" = "$2" ] && break
		pause 0.1
	done
	is "$1" "$got" "$2"
}
import_noise() { # NAME
	mkdir -p "$T/$1"
	head -c 3000000 /dev/urandom >"$T/$1/noise"
	varve import "$1" dir "$T/$1" >/dev/null
}
chunks() { stat_of .chunkCount; }

config '{"gcInterval": 0, "gcGarbageBytes": 0, "gcFreeBytes": 0}'
start_daemon
import_noise one
import_noise two
before=$(chunks)
varve rm one
sleep 2 # in which it would begin: it looks every second
is "turned off, nothing is collected" "$(stat_of .gc.runs) $(chunks)" "0 $before"
stop_daemon

config '{"gcInterval": 2, "gcGarbageBytes": 0, "gcFreeBytes": 0}'
start_daemon
mount_at two "$T/m"
eventually "by time, without a call" true stat_of '.gc.removedBytes > 2000000'
is "for that reason" "$(stat_of .gc.lastReason)" interval
ok "what is in use is kept" cmp "$T/m/noise" "$T/two/noise"
import_noise short
api PATCH /api/snapshots/short '{"ttl": 2}' >/dev/null
short() {
	varve --json snapshots | jq '[.[] | select(.name == "short")] | length'
}
is "a snapshot has a time to live" "$(short)" 1
eventually "and goes by itself when it is up" 0 short
stop_daemon

config '{"gcInterval": 0, "gcGarbageBytes": 1000000, "gcFreeBytes": 0}'
start_daemon
import_noise three
sleep 2 # the same
is "nothing was deleted, so nothing is collected" "$(stat_of .gc.runs)" 0
varve rm three
eventually "enough was deleted" deleted stat_of .gc.lastReason
ok "and the space is back" [ "$(stat_of .gc.removedBytes)" -gt 2000000 ]
stop_daemon

config '{"gcInterval": 0, "gcGarbageBytes": 0, "gcFreeBytes": 1000000000000000}'
start_daemon
eventually "the disk is nearly full" disk stat_of .gc.lastReason
import_noise four
sleep 2 # the same
is "but that is no reason every second" "$(stat_of .gc.runs)" 1
varve rm four
eventually "with something deleted, it soon is one again" true stat_of '.gc.removedBytes > 2000000'
ok "a reserve is kept" test -s "$STATE/reserve"
like "metrics tell" "$(api GET /metrics | grep gc_removed_bytes)" 'total [1-9]'
stop_daemon

# Detached mounts.
config '{"gcInterval": 1, "detachedMountAge": 8}'
start_daemon
mount_at two "$T/unchanged"
mount_at two "$T/changed"
echo x >"$T/changed/x"
unchanged=$(mount_id "$T/unchanged") changed=$(mount_id "$T/changed")
varve umount "$T/unchanged"
varve umount "$T/changed"
like "it is listed until when one is kept" \
	"$(varve mounts | grep "${unchanged:0:8}")" 'detached until 20[0-9-]+'
like "one that was written to is kept" "$(varve mounts | grep "${changed:0:8}")" 'detached  '
status_of() {
	varve --json mounts | jq -r --arg i "$1" '[.[] | select(.id == $i) | .status] | first'
}
eventually "the other one goes" null status_of "$unchanged"
is "the one that was written to is there" "$(status_of "$changed")" detached
is "stats tell" "$(stat_of .gc.discardedMounts)" 1
stop_daemon
config '{"gcInterval": 1, "detachedChangedMountAge": 1}'
start_daemon
eventually "if it is asked for, that goes as well" null status_of "$changed"
is "a mount in use stays" "$(status_of "$(mount_id "$T/m")")" mounted
ok "verify" varve verify
done_testing
