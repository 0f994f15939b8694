#!/bin/bash
# A daemon whose main thread hangs costs no more than one that dies: its keeper kills it, feeds the service
# manager's watchdog meanwhile, and a successor goes on. Who adopts the mounts may be slow after that.
# timeout: 300
# tags: model
. "${0%/*}/lib.sh"
need root fuse curl jq python3 helper:newer
[[ $(uname -r) =~ ^([0-9]+)\.([0-9]+) ]] || bail "no kernel version"
((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] >= 6009)) || skip_all "needs Linux 6.9"
child() { cat "/proc/$DAEMON/task/$DAEMON/children"; }
generation() { api GET /healthz | jq -r .generation; }

mkdir "$T/bin"
cp "$(helper newer)" "$T/bin/snapshotd"
PATH=$T/bin:$PATH
: >"$T/newer"
export VARVE_NEWER=$T/newer
# A service manager that notes what it is told.
cat >"$T/manager.py" <<'END'
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
with open(sys.argv[2], "a", buffering=1) as f:
    while True:
        f.write(s.recv(4096).decode().replace("\n", " ") + "\n")
END
python3 "$T/manager.py" "$T/notify" "$T/said" &
manager=$!
until_true 20 test -S "$T/notify" || bail "no manager"
export NOTIFY_SOCKET=$T/notify WATCHDOG_USEC=$((6000000 * SLOW))
echo "{\"takeoverTimeout\": $((6 * SLOW))}" >"$T/config.json"
chmod 600 "$T/config.json"
start_daemon --supervise --config "$T/config.json"
unset NOTIFY_SOCKET WATCHDOG_USEC
keeper=$DAEMON
import_empty empty >/dev/null
mount_at empty "$T/m" || bail "no mount"
exec {open}>"$T/m/open"
goes_on() { echo "$1" >&$open && echo there >"$T/m/$1" && [ "$(cat "$T/m/$1")" = there ]; }
fed() { [ "$(grep -c '^WATCHDOG=1' "$T/said")" -gt "$1" ]; }
is_generation() { [ "$(generation)" = "$1" ]; }

ok "the watchdog is fed" until_true 20 fed 0
kill -STOP "$(child)"
ok "a daemon that hangs only makes callers wait" goes_on stopped
ok "... it was killed" grep -q "daemon 1 .* has given no sign of life for .* it is killed" "$T/daemon.log"
ok "... and has a successor" until_true 30 is_generation 2
fed=$(grep -c '^WATCHDOG=1' "$T/said")
ok "the watchdog is fed still" until_true 20 fed "$fed"

# Whoever was at the same place before, and is not now, is not asked there: a daemon would wait for itself.
for i in 1 2 3 4 5 6; do
	mount_at empty "$T/place" && echo $i >"$T/place/file" && varve umount "$T/place" >/dev/null || bail "no mount"
done
mount_at empty "$T/place" || bail "no mount"
before=$(generation)
kill -9 "$(child)"
ok "a place that others had before goes on" sh -c 'echo now >"$1/now"' sh "$T/place"
ok "... with the next daemon" until_true 30 is_generation $((before + 1))
ok "umount" varve umount "$T/place"

echo hang-before >"$T/newer"
kill -9 "$(child)"
# While its keeper is stopped, as the machine may be, no time runs out.
until_true 20 test ! -s "$T/newer" || bail "it does not hang"
kill -STOP "$keeper"
sleep $((7 * SLOW))
kill -CONT "$keeper"
ok "a successor that hangs before it adopts has one after it in time" goes_on hung
ok "... it was killed" grep -q "daemon 4 .* has given no sign of life" "$T/daemon.log"
ok "... and has a successor" until_true 30 is_generation 5

# Longer than takeoverTimeout.
echo slow-after >"$T/newer"
before=$SECONDS
kill -9 "$(child)"
ok "a successor that is slow once it has adopted serves the mounts" goes_on slow
ok "... before it is ready" [ $((SECONDS - before)) -lt $((9 * SLOW)) ]
ok "... and is let be" until_true 60 is_generation 6
not_ok "... though it is late" grep -q "daemon 6 .* has given no sign of life\|no daemon has served" "$T/daemon.log"
value() { api GET /metrics | awk -v n="$1" 'index($0, n " ") == 1 { print $2 }'; }
ended_by() { value "snapshotd_takeovers_total{cause=\"$1\"}"; }
echo hang-before >"$T/newer"
not_ok "a program that hangs is no upgrade" varve daemon upgrade
ok "... the one before it goes on" goes_on late
is "how daemons ended is counted" "start $(ended_by start), hang $(ended_by hang), kill $(ended_by kill)" \
	'start 1, hang 2, kill 3'
is "the keeper is the same" "$DAEMON" "$keeper"
exec {open}>&-
ok "umount" varve umount "$T/m"
stop_daemon
ok "it ends in order" daemon_ended_well

if ((LONG)); then # daemons that adopt the mounts and die have an end
	export NOTIFY_SOCKET=$T/notify
	echo '{"takeoverTimeout": 1}' >"$T/config.json"
	start_daemon --supervise --config "$T/config.json"
	unset NOTIFY_SOCKET
	mount_at empty "$T/m" || bail "no mount"
	echo die-late >"$T/newer"
	kill -9 "$(child)"
	is_down() { ! daemon_alive; }
	ok "daemons that adopt mounts and die: their keeper gives up" until_true 60 is_down
	ok "... it says why" grep -qE '^STATUS=no daemon has become ready for 1[0-9] s' "$T/said"
	_reap_daemon
fi
# A manager keeps all of a mount, or nothing: not what is open in it alone.
export NOTIFY_SOCKET=$T/notify FDSTORE=12
start_daemon --foreground
unset NOTIFY_SOCKET FDSTORE
(((12 - $(value snapshotd_kept_descriptors)) % 2)) || mount_at empty "$T/one" || bail "no mount"
for i in 1 2 3 4 5 6; do
	mount_at empty "$T/shared$i" --cache shared || bail "no mount"
	[ "$(value snapshotd_kept_refused_total)" = 0 ] || break
done
is "a mount for which there is no room leaves the room" \
	"$(value snapshotd_kept_refused_total) $(value snapshotd_kept_descriptors)" '1 11'
stop_daemon
kill $manager
wait $manager 2>/dev/null
done_testing
