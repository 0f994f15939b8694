#!/bin/bash
# What a daemon leaves to its successor: the store, locked all the time, and its configuration, whatever
# is in the file by then.
# timeout: 300
# tags: model
. "${0%/*}/lib.sh"
need root fuse curl jq python3 helper:newer
[[ $(uname -r) =~ ^([0-9]+)\.([0-9]+) ]] || bail "no kernel version"
((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] >= 6009)) || skip_all "needs Linux 6.9"
child() { xargs <"/proc/$DAEMON/task/$DAEMON/children"; }
generation() { api GET /healthz | jq -r .generation; }
is_generation() { [ "$(generation)" = "$1" ]; }
goes_on() { echo "$1" >&$open && echo there >"$T/m/$1" && [ "$(cat "$T/m/$1")" = there ]; }
config() {
	cat >"$T/config.json.new"
	chmod 600 "$T/config.json.new"
	mv "$T/config.json.new" "$T/config.json"
}
# One that is killed has a successor.
crash() {
	local next=$(($(generation) + 1))
	kill -9 "$(child)"
	until_true 10 is_generation $next
}

mkdir "$T/bin"
cp "$(helper newer)" "$T/bin/snapshotd"
PATH=$T/bin:$PATH
: >"$T/newer"
export VARVE_NEWER=$T/newer
# Neither the store's place nor the socket's is among the flags.
accepted() {
	jq -n --arg t "$T" --argjson more "$1" '{state: ($t + "/state"), socket: ($t + "/sock"),
		apiKey: "0123456789abcdef"} + $more' | config
}
accepted '{"gcInterval": 3600, "takeoverTimeout": 60}'
# shellcheck disable=SC2154 # lib.sh has it
snapshotd --supervise --config "$T/config.json" >>"$T/daemon.log" 2>&1 </dev/null {never}<&- &
DAEMON=$!
until_true 60 daemon_ready || bail "the daemon does not answer"
import_empty empty >/dev/null
mount_at empty "$T/m" || bail "no mount"
exec {open}>"$T/m/open"

# --- the store is nobody else's ---
echo hang-before >"$T/newer"
first=$(child)
kill -9 "$first"
until_true 30 test ! -s "$T/newer" || bail "no successor hangs"
other() { snapshotd --state "$STATE" --socket "$T/other"; }
not_ok "between two daemons, a third does not get their store" other
like "... and is told whose it is" "$(cat "$T/.out")" "is kept for the successor of process $first"
kill -9 "$(child)"
ok "the mount goes on" goes_on kept
ok "... with a successor" until_true 30 is_generation 3
not_ok "nor while one runs" other
like "... and is told whose it is" "$(cat "$T/.out")" "is in use by process $(child)"

# --- what is told of it ---
value() { api GET /metrics | awk -v n="$1" 'index($0, n " ") == 1 { print $2 }'; }
is "it is the third daemon" "$(value snapshotd_generation)" 3
is "two were killed" "$(value 'snapshotd_takeovers_total{cause="kill"}')" 2
is "none has crashed" "$(value 'snapshotd_takeovers_total{cause="crash"}')" 0
like "callers have waited" "$(value snapshotd_takeover_seconds)" '^[0-9]+\.[0-9]*[1-9]'
kept=$(value snapshotd_kept_descriptors)
ok "descriptors are kept, and more could be" [ "$kept" -ge 3 -a "$kept" -lt "$(value snapshotd_kept_descriptors_limit)" ]
is "the mount's is" "$(varve --json mounts | jq -c '[.[].kept]')" '[true]'

# --- the configuration is what was accepted ---
next_gc() { api GET /api/stats | jq -r .gc.nextAt; }
has_no_gc() { [ "$(next_gc)" = "" ]; }
ok "there will be a collection" [ "$(next_gc)" != "" ]
accepted '{"gcInterval": 0, "takeoverTimeout": 60}'
kill -HUP "$DAEMON"
ok "the file is read again, and there will be none" until_true 30 has_no_gc
echo '{"state": ' | config
ok "a mistake in the file is no successor's" crash
ok "... and the mount goes on" goes_on broken
ok "... nor is what was read again lost" has_no_gc
has_gc() { [[ $(next_gc) == 2* ]]; }
accepted '{"gcInterval": 3600, "takeoverTimeout": 60}'
echo slow-before >"$T/newer"
kill -9 "$(child)"
until_true 30 test ! -s "$T/newer" || bail "no successor is slow"
kill -HUP "$DAEMON"
ok "a signal while a daemon starts has it read the file" until_true 30 has_gc
accepted '{"gcInterval": 0, "takeoverTimeout": 60}'
ok "... that one" crash
ok "... and none after it" has_gc
accepted '{}'
chmod 644 "$T/config.json"
ok "nor is it that others may read the key" crash
ok "... the mount goes on" goes_on readable
not_ok "an upgrade reads the file" varve daemon upgrade
like "... and says what is wrong with it" "$(cat "$T/.out")" 'goes on: .*config.json holds the API key, and others .* chmod 600'
ok "... the mount goes on" goes_on refused
rm "$T/config.json"
ok "nor that it has gone" crash

# --- it is the same store ---
accepted "{\"state\": \"$T/elsewhere\"}"
ok "another store in the file is no successor's" crash
ok "... the mount goes on" goes_on elsewhere
not_ok "nor that of another program" varve daemon upgrade
like "... which says so" "$(cat "$T/.out")" "goes on: what is to go on belongs to the store $STATE, not to $T/elsewhere"
not_ok "... and makes nothing there" test -e "$T/elsewhere"
ok "... the mount goes on" goes_on same
not_ok "no mount was dropped" grep -q "nothing is known of the mount" "$T/daemon.log"
accepted '{"gcInterval": 3600}'
ok "an upgrade takes what is right" varve daemon upgrade
ok "... at once" [ "$(next_gc)" != "" ]
ok "... and the mount goes on" goes_on upgraded
is "that is counted, too" "$(value 'snapshotd_takeovers_total{cause="upgrade"}')" 3
is "... and those that did not come up" "$(value 'snapshotd_takeovers_total{cause="start"}')" 2

# A lock that was deleted is none that keeps anybody from going on.
rm "$STATE/LOCK"
ok "a lock that was deleted is made again" crash
ok "... the mount goes on" goes_on unlocked
not_ok "... and keeps others out" other
exec {open}>&-
ok "umount" varve umount "$T/m"
stop_daemon
ok "it ends in order" daemon_ended_well
ulimit -n 2100 # 70 descriptors twice, and what daemons may have of their own, is more
start_daemon --supervise
ok "nothing is left locked" daemon_ready
for i in {1..70}; do mount_at empty "$T/many/$i" || break; done
exec {open}>"$T/many/70/open"
ok "where few files may be open, many mounts have a successor, too" crash
ok "... and go on" sh -c 'echo there >"$1/there" && cat "$1/there"' sh "$T/many/1"
exec {open}>&-
done_testing
