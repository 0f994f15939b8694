#!/bin/bash
# The daemon under a service manager, which this test plays: notifications, the watchdog, a socket
# that is handed over, priorities in the log, and the config file read again.
# tags: quick asan
# timeout: 120
. "${0%/*}/lib.sh"
need root fuse python3 jq curl

# Listens as systemd does: notifications go to a file, a line each. --give: hands a listening socket over.
cat >"$T/manager.py" <<'END'
import os, socket, subprocess, sys, threading
notify, log, give, stderr, *command = sys.argv[1:]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("\0" + notify[1:] if notify[0] == "@" else notify)
env = dict(os.environ, NOTIFY_SOCKET=notify, WATCHDOG_USEC="400000")
out = os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
st = os.fstat(out)
env["JOURNAL_STREAM"] = f"{st.st_dev}:{st.st_ino}"
listener = None
if give != "-":
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(give)
    listener.listen(16)
def run():
    if listener:
        os.dup2(listener.fileno(), 3)
        os.environ.update(env, LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    else:
        os.environ.update(env)
    os.dup2(out, 2)
    os.execvp(command[0], command)
pid = os.fork()
if pid == 0:
    run()
with open(log, "a", buffering=1) as f:
    def read():
        while True:
            f.write(s.recv(4096).decode().replace("\n", " ") + "\n")
    threading.Thread(target=read, daemon=True).start()
    import signal
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda n, _: os.kill(pid, n))
    _, status = os.waitpid(pid, 0)
    import time
    time.sleep(0.2)  # what was sent last is read
sys.exit(os.waitstatus_to_exitcode(status))
END
said() { # REGEX: in the notifications
	grep -qE "$1" "$T/said"
}
logged() { # REGEX: in the log
	grep -qE "$1" "$T/daemon.log"
}
# As start_daemon of lib.sh, with the manager in between.
managed() { # GIVE [ARGUMENT...]
	: >"$T/said"
	python3 "$T/manager.py" "$notify" "$T/said" "$1" "$T/daemon.log" snapshotd --state "$STATE" \
		--config "$T/config.json" "${@:2}" </dev/null &
	DAEMON=$!
	until_true 30 said '^READY=1'
}
config() { # JQ-OBJECT
	jq -n "$1" >"$T/config.json"
}

# --- notifications ---
notify=$T/notify
config '{logLevel: "info", "// note": "a comment", gcInterval: 1000, threads: 2}'
mkdir -p "$STATE"
ok "READY is told" managed - --socket "$SOCK"
ok "only then" daemon_ready
ok "the watchdog is fed" until_true 10 said '^WATCHDOG=1'
ok "lines of the log have priorities" logged '^<6>info: snapshotd .* serves'
not_ok "and no times" logged '20[0-9][0-9]-'

# --- the config file again ---
next_at() { varve --json stats | jq -r .gc.nextAt; }
before=$(next_at)
config '{logLevel: "debug", gcInterval: 5000, threads: 3, detachedMountAge: 100, hostRoots: ["/srv"]}'
kill -HUP "$DAEMON"
ok "a reload is told" until_true 10 said '^RELOADING=1 MONOTONIC_USEC=[0-9]+$'
ok "and its end" until_true 10 logged 'read again; 5 settings have changed'
ok "what changes is named" logged '^<6>info: config: gcInterval has changed$'
ok "what does not, too" logged '^<4>warning: config: threads has changed, which needs a restart$'
ok "so does what is new" logged 'config: hostRoots has changed, which needs a restart'
not_ok "nothing else is" logged 'note has changed'
not_ok "the next collection is later" [ "$(next_at)" = "$before" ]
echo '{"gcInterval": "soon"}' >"$T/config.json"
kill -HUP "$DAEMON"
ok "a mistake is told" until_true 10 logged '^<3>error: config: .*gcInterval.*; everything stays as it was$'
ok "and harms nothing" daemon_ready
config '{logLevel: "debug", gcInterval: 5000, threads: 3, detachedMountAge: 100, hostRoots: ["/srv"]}'
kill -HUP "$DAEMON"
ok "what needs a restart is told again, but nothing else" until_true 10 logged 'read again; 2 settings'
kill -TERM "$DAEMON"
wait "$DAEMON"
is "it ends well" "$?" 0
DAEMON=
ok "STOPPING is told" said '^STOPPING=1'

# --- a socket that is handed over; an abstract name ---
notify=@varve-test-$$
config '{}'
ok "it starts with a socket that it is given" managed "$SOCK"
ok "and serves that" daemon_ready
import_empty empty >/dev/null
ok "a mount" mount_at empty "$T/m"
kill -TERM "$DAEMON"
wait "$DAEMON"
DAEMON=
ok "the socket's file is left to its owner" test -S "$SOCK"
rm -f "$SOCK"

# --- checking ---
said_of() { # JSON: what --check-config says, and its status
	echo "$1" >"$T/config.json"
	snapshotd --check-config --config "$T/config.json" 2>&1
	echo "status $?"
}
like "a right one" "$(said_of '{}' | xargs)" 'the configuration is right status 0$'
like "an unknown setting" "$(said_of '{"gcIntervall": 3}')" 'gcIntervall.*status 2'
like "a wrong value" "$(said_of '{"zstdLevel": 99}')" 'zstdLevel must be 1 to 19.*status 2'
like "no JSON" "$(said_of '{"zstdLevel": ')" 'config.json:[0-9]+:[0-9]+: .*status 2'
like "a group that is not there" "$(said_of '{"socketGroup": "nobody-has-it"}')" 'socketGroup: no group "nobody-has-it".*status 2'
like "a runtime that is not" "$(said_of '{"runtime": "no-such-crun"}')" 'runtime: "no-such-crun" is not installed.*status 2'
like "an address that is not" "$(SNAPSHOTD_API_KEY=0123456789abcdef said_of '{"listen": "no host:80"}')" 'listen no host:80: .*status 2'
like "... or a directory" "$(said_of '{"runtime": "/usr"}')" 'runtime: "/usr" is not installed.*status 2'
again() { # whether the resolver of a host without a network says: ask again
	unshare -n python3 -c 'import socket
try:
    socket.getaddrinfo("somewhere.example", 80)
except socket.gaierror as e:
    raise SystemExit(e.errno != socket.EAI_AGAIN)
raise SystemExit(1)' 2>/dev/null
}
if again; then
	echo '{"listen": "somewhere.example:80"}' >"$T/config.json"
	like "an address that cannot be looked up just now is told" "$(SNAPSHOTD_API_KEY=0123456789abcdef unshare -n \
		snapshotd --check-config --config "$T/config.json" 2>&1; echo "status $?")" 'listen somewhere.example:80: .*status 0'
else
	skip "an address that cannot be looked up just now" "the resolver here answers without a network"
fi
like "a state that depends on where it is started is told" "$(said_of '{"state": "here"}')" 'state: where "here" is depends.*status 0'
done_testing
