#!/bin/bash
# One build of the daemon follows another under load: nobody notices, and a program that does not
# come up gives way to the one before it.
# VARVE_UPGRADES (5; 100 with VARVE_LONG=1)
# tags: model
# timeout: 900
. "${0%/*}/lib.sh"
need root fuse curl jq python3 helper:newer
upgrades=${VARVE_UPGRADES:-$((LONG ? 100 : 5))}
[[ $(uname -r) =~ ^([0-9]+)\.([0-9]+) ]] || bail "no kernel version"
((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] >= 6009)) || skip_all "needs Linux 6.9"

generation() { api GET /healthz | jq .generation; }
daemon_pid() { api GET /healthz | jq .pid; }
program_of() { readlink "/proc/$1/exe"; }

# A program of its own, that can be replaced.
mkdir "$T/bin"
real=$(command -v snapshotd)
other=${VARVE_OTHER_DAEMON:-$(helper newer)} # another build: its version is another, too
cp "$real" "$T/bin/snapshotd"
PATH=$T/bin:$PATH
echo '{}' >"$T/config.json"
chmod 600 "$T/config.json"
start_daemon --supervise --config "$T/config.json"
import_empty empty >/dev/null
m=$T/m
mount_at empty "$m" || bail "no mount"

# Writes, reads and renames all the time; prints calls, and how long the longest tenth took.
cat >"$T/load.py" <<'PY'
import os, sys, time
d, stop = sys.argv[1:]
times, i = [], 0
held = open(d + "/held", "w+b", buffering=0)
while not os.path.exists(stop):
    t = time.monotonic()
    p = f"{d}/f{i % 50}"
    with open(p + ".new", "wb") as f:
        f.write(b"%d" % i * 100)
    os.rename(p + ".new", p)
    with open(p, "rb") as f:
        assert f.read() == b"%d" % i * 100
    held.write(b"x")
    times.append(time.monotonic() - t)
    i += 1
assert held.seek(0, 2) == i, "appended twice, or not"
times.sort()
print(i, " ".join(f"{1000 * t:.0f}" for t in times[-100:]))
PY
python3 "$T/load.py" "$m" "$T/stop" >"$T/load.out" 2>"$T/load.err" &
load=$!
# Calls the API all the time: an answer may be broken off, but nobody is refused.
cat >"$T/calls.py" <<'PY'
import os, socket, sys
path, stop = sys.argv[1:]
calls = broken = 0
while not os.path.exists(stop):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(path)
    try:
        s.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
        broken += not s.recv(100).startswith(b"HTTP/1.")
    except (ConnectionResetError, BrokenPipeError):
        broken += 1
    s.close()
    calls += 1
print(calls, "calls,", broken, "broken off")
sys.exit(broken > calls / 2)
PY
python3 "$T/calls.py" "$SOCK" "$T/stop" >"$T/calls.out" 2>&1 &
calls=$!
failed=''
# What a leak would make more, of keeper and daemon: descriptors, threads, kilobytes.
used() {
	local p
	for p in "$DAEMON" "$(daemon_pid)"; do
		echo "$(find "/proc/$p/fd" -mindepth 1 2>/dev/null | wc -l) $(awk '/^Threads/ { n = $2 } /^VmRSS/ { m = $2 }
			END { print n, m }' "/proc/$p/status")"
	done
}
builds=("$real" "$other") versions=
for ((i = 1; i <= upgrades; i++)); do
	before=$(daemon_pid)
	cp "${builds[i % 2]}" "$T/bin/next"
	mv "$T/bin/next" "$T/bin/snapshotd"
	varve daemon upgrade >"$T/upgrade.out" 2>&1 || failed+=" $i: $(cat "$T/upgrade.out")"
	[ "$(program_of "$(daemon_pid)")" = "$T/bin/snapshotd" ] || failed+=" $i: an old program"
	[ "$(daemon_pid)" != "$before" ] || failed+=" $i: the same process"
	versions+="$(api GET /healthz | jq -r .version) "
	((i != 1)) || first=$(used)
	[ -z "$failed" ] || {
		diag "$(tail -n 20 "$T/daemon.log")"
		break
	}
done
is "$upgrades upgrades" "$failed" ''
last=$(used)
is 'two builds took turns' "$(tr ' ' '\n' <<<"$versions" | grep . | sort -u | wc -l)" 2
diag "descriptors, threads, KiB of keeper and daemon: $(xargs <<<"$first"), and then $(xargs <<<"$last")"
read -r -d '' kf0 kt0 km0 df0 dt0 dm0 <<<"$first"
read -r -d '' kf1 kt1 km1 df1 dt1 dm1 <<<"$last"
is 'the keeper has no more descriptors and threads' "$kf1 $kt1" "$kf0 $kt0"
ok '... nor memory' [ "$km1" -le $((km0 + 300)) ]
# Connections of the clients come and go.
ok 'nor have daemons' [ "$df1" -le $((df0 + 8)) -a "$dt1" -le $((dt0 + 8)) ]
is_sanitized || ok '... nor memory' [ "$dm1" -le $((dm0 + dm0 / 3)) ]
is 'as many daemons' "$(generation)" $((upgrades + 1))

# A program that does not come up, and one that never is ready.
printf '#!/bin/sh\nexit 1\n' >"$T/bin/next"
chmod +x "$T/bin/next"
mv "$T/bin/next" "$T/bin/snapshotd"
not_ok 'what is no program is refused' varve daemon upgrade
cp /bin/true "$T/bin/next"
mv "$T/bin/next" "$T/bin/snapshotd"
not_ok 'a program that ends is, too' varve daemon upgrade
is 'the one before it goes on' "$(program_of "$(daemon_pid)")" "$T/bin/snapshotd (deleted)"
cp "$real" "$T/bin/next"
mv "$T/bin/next" "$T/bin/snapshotd"
kill -USR2 "$DAEMON"
is_new() { [ "$(program_of "$(daemon_pid)")" = "$T/bin/snapshotd" ]; }
ok 'a signal to the keeper does the same' until_true 30 is_new

# What the new program reads in the config keeps it from starting: the one before it goes on with its own.
python3 - "$T/port" <<'PY' &
import os, socket, sys, time
s = socket.create_server(("127.0.0.1", 0))
with open(sys.argv[1] + ".new", "w") as f:
    f.write(str(s.getsockname()[1]))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(1000)
PY
owner=$!
until_true 20 test -e "$T/port"
echo "{\"listen\": \"127.0.0.1:$(cat "$T/port")\", \"apiKey\": \"0123456789abcdef\"}" >"$T/config.json"
before=$(generation)
not_ok 'a port that another has keeps a new program from starting' varve daemon upgrade
like '... and it says so' "$(cat "$T/.out")" 'goes on: .*listen 127.0.0.1:.*: Address already in use'
is 'the one before it goes on' "$(generation)" $((before + 2))
echo '{}' >"$T/config.json"
ok '... with the mount' sh -c 'echo there >"$1/after" && [ "$(cat "$1/after")" = there ]' sh "$m"
kill $owner
wait $owner 2>/dev/null
: >"$T/stop"
ok 'no call has failed' wait $load
ok 'nor was a client of the API refused' wait $calls
diag "$(tail -n 3 "$T/calls.out")"
diag "$(cut -c1-300 "$T/load.out" "$T/load.err")"
ok "umount" varve umount "$m"
stop_daemon
ok 'the keeper ends as the daemon does' daemon_ended_well

start_daemon
kill -USR2 "$DAEMON"
kill -TERM "$DAEMON"
is_down() { ! daemon_alive; }
ok 'told to end in the middle of an upgrade, it ends' until_true 30 is_down
_reap_daemon

# The same, once the daemon has looked whether it is told to.
: >"$T/newer"
cp "$other" "$T/bin/next"
mv "$T/bin/next" "$T/bin/snapshotd"
export VARVE_NEWER=$T/newer
start_daemon --supervise --config "$T/config.json"
unset VARVE_NEWER
ok 'mounted' mount_at empty "$m"
echo slow-leave >"$T/newer"
kill -USR2 "$DAEMON"
leaves() { [ ! -s "$T/newer" ]; }
ok 'the daemon leaves' until_true 30 leaves
kill -TERM "$DAEMON"
wait "$DAEMON"
is 'told to end then, its keeper ends in order' $? 0
DAEMON=
not_ok '... and has unmounted' mountpoint -q "$m"
ok '... by another daemon' grep -q 'has left, and another one ends in order' "$T/daemon.log"

# Nor does it matter that none runs, or one that dies, when it is told to end.
start_daemon --supervise --config "$T/config.json"
ok 'mounted again' mountpoint -q "$m"
kill -STOP "$DAEMON"
kill -9 "$(daemon_pid)"
kill -TERM "$DAEMON"
kill -CONT "$DAEMON"
wait "$DAEMON"
is 'told to end between two daemons, its keeper ends in order' $? 0
DAEMON=
not_ok '... and has unmounted' mountpoint -q "$m"

if ((LONG)); then # nor that the one that is to follow hangs
	echo "{\"takeoverTimeout\": $((12 * SLOW))}" >"$T/config.json"
	VARVE_NEWER=$T/newer start_daemon --supervise --config "$T/config.json"
	ok 'mounted again' mountpoint -q "$m"
	echo hang-before >"$T/newer"
	kill -USR2 "$DAEMON"
	ok 'a successor hangs' until_true 30 leaves
	kill -TERM "$DAEMON"
	wait "$DAEMON"
	is 'told to end then, its keeper ends in order' $? 0
	DAEMON=
	not_ok '... and has unmounted' mountpoint -q "$m"
fi

few() (ulimit -n 1000 && exec snapshotd --supervise --state "$T/few" --socket "$T/few.sock")
not_ok 'a keeper needs more open files' few
like '... and says so' "$(cat "$T/.out")" 'limit of open files'
start_daemon --foreground
not_ok 'without a keeper there is no upgrade' varve daemon upgrade
done_testing
