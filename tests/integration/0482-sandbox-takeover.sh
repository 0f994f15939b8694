#!/bin/bash
# A supervised daemon that is killed is followed by one that goes on with its sandboxes: no
# process in them ends, and every byte of a program's output is there once.
# VARVE_TAKEOVER_KILLS (4; 20 with VARVE_LONG=1): kills while programs write.
# timeout: 600
# tags: sandbox
. "${0%/*}/lib.sh"
need root fuse curl jq python3 tar runc busybox
kills=${VARVE_TAKEOVER_KILLS:-$((LONG ? 20 : 4))}
[[ $(uname -r) =~ ^([0-9]+)\.([0-9]+) ]] || bail "no kernel version"
((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] >= 6009)) || skip_all "needs Linux 6.9"

# A root of nothing but busybox.
busybox=$(command -v busybox)
ldd "$busybox" >/dev/null 2>&1 && skip_all "needs a static busybox"
mkdir -p "$T/root"/{bin,etc,tmp,dev,proc,sys}
cp "$busybox" "$T/root/bin/busybox"
for name in sh cat echo sleep seq nc head true kill; do
	ln -s busybox "$T/root/bin/$name"
done
tar -C "$T/root" -cf "$T/root.tar" .

create() { # JSON
	api POST /api/sandboxes "$1" | tee "$T/created" | field .sandboxID
}
exec_async() { # SANDBOX SHELL-COMMAND [MEMBERS]: its id
	api POST "/api/sandboxes/$1/exec/run-async" \
		"$(jq -n --arg c "$2" "{cmd: \"sh\", args: [\"-c\", \$c]${3:+, $3}}")" | field .execId
}
run() { # SANDBOX SHELL-COMMAND
	api POST "/api/sandboxes/$1/exec/run" "$(jq -n --arg c "$2" '{cmd: "sh", args: ["-c", $c], timeout: 60}')" |
		jq -j '.stdout + .stderr // .error'
}
result() { # SANDBOX EXEC
	api GET "/api/sandboxes/$1/exec/$2/result"
}
has_ended() { # SANDBOX EXEC
	[[ $(result "$1" "$2") == *'"running":false'* ]]
}
daemon_pid() { api GET /healthz | jq .pid; }
generation() { api GET /healthz | jq .generation; }
kill_now() {
	local before=$(($(generation)))
	kill -9 "$(daemon_pid)"
	until_true 30 has_come "$before"
}
has_come() { # GENERATION
	local now
	now=$(api GET /healthz 2>/dev/null | jq .generation) && ((now > $1))
}
pids() { # SANDBOX
	find /sys/fs/cgroup -type d -name "varve-$1" -exec cat {}/cgroup.procs \; 2>/dev/null | sort -un
}
in_container() { # SANDBOX: how many processes
	pids "$1" | wc -l
}
# The processes of a sandbox that do not end by themselves: "PID COMMAND".
lasting() { # SANDBOX
	local p name
	for p in $(pids "$1"); do
		name=$({ tr '\0' ' ' <"/proc/$p/cmdline"; } 2>/dev/null)
		[[ -z $name || $name =~ ^sleep\ |begun ]] || echo "$p $name"
	done
}

start_daemon --supervise
varve import root tar "$T/root.tar" >/dev/null || bail 'the root cannot be imported'
sb=$(create '{"templateID":"root","memoryMB":256}')
[[ $sb == sb-* ]] || bail "no sandbox: $(cat "$T/created") $(tail -n 5 "$T/daemon.log")"

# Programs that go on: a server with a connection that stays open, one that writes lines all the
# time, one that reads what comes later, one that will be killed after its time.
exec_async "$sb" 'busybox mkfifo /tmp/f
nc -l -p 7482 </tmp/f | while read -r l; do echo "you said $l"; done >/tmp/f' >/dev/null
lines=$(exec_async "$sb" "i=0; while [ ! -e /tmp/enough ]; do echo \$i; i=\$((i + 1)); done; exit 7")
reader=$(exec_async "$sb" 'cat; exit 3' 'openStdin: true')
limited=$(exec_async "$sb" 'echo begun; sleep 1000' "timeout: $((kills + 10))")
signalled=$(exec_async "$sb" 'trap "echo got it; exit 9" USR1; while :; do sleep 0.1; done')
short=$(exec_async "$sb" 'echo short; echo wrong >&2; exit 5')
until_true 20 has_ended "$sb" "$short"
is 'programs run' "$(run "$sb" 'echo there')" there
# The connection of a client to the server within.
exec {conn}<>/dev/tcp/127.0.0.1/7482 || bail "no connection to the server"
echo first >&$conn
IFS= read -r -t 10 said <&$conn
is 'the server answers' "$said" 'you said first'

# One follows the lines all the time, and asks again when its connection ends.
cat >"$T/follow.py" <<'PY'
import base64, http.client, json, socket, sys, time
path, sandbox, program, out = sys.argv[1:]
class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
at = {"stdout": 0, "stderr": 0}
breaks = 0
with open(out, "wb") as f:
    while True:
        try:
            c = Unix("localhost", timeout=60)
            c.request("GET", f"/api/sandboxes/{sandbox}/exec/{program}/output"
                      f"?stdout={at['stdout']}&stderr={at['stderr']}", headers={"Accept": "text/event-stream"})
            r = c.getresponse()
            if r.status != 200:
                sys.exit(f"{r.status}: {r.read()}")
            event = None
            while True:
                line = r.readline()
                if not line.endswith(b"\n"):
                    raise ConnectionError("broken off")
                line = line.decode().rstrip("\n")
                if line.startswith("event: "):
                    event = line[7:]
                elif line.startswith("data: "):
                    j = json.loads(line[6:])
                    if event == "output":
                        data = base64.b64decode(j["dataBase64"]) if "dataBase64" in j else j["data"].encode()
                        at[j["stream"]] += len(data)
                        assert at[j["stream"]] == j["end"], (at, j["end"])
                        f.write(data)
                    elif event == "result":
                        print(json.dumps(j), breaks)
                        sys.exit(0)
                    elif event == "error":
                        sys.exit(str(j))
        except (ConnectionRefusedError, FileNotFoundError) as e:
            sys.exit(f"refused: {e}")
        except (OSError, http.client.HTTPException):
            breaks += 1
PY
python3 "$T/follow.py" "$SOCK" "$sb" "$lines" "$T/lines" >"$T/follow.out" 2>&1 &
follower=$!

before=$(lasting "$sb")
for ((i = 0; i < kills; i++)); do
	pause "0.$((RANDOM % 500 + 100))"
	kill_now || break
done
is "$kills daemons are killed" "$(generation)" "$((kills + 1))"
is 'no process in the sandbox has ended' "$(lasting "$sb")" "$before"
like 'the sandbox runs' "$(api GET "/api/sandboxes/$sb" | field .status)" running
echo second >&$conn
IFS= read -r -t 10 said <&$conn
is 'an open connection to its server goes on' "$said" 'you said second'
is 'the result of one that had ended is kept' \
	"$(result "$sb" "$short" | jq -c '[.exitCode, .stdout, .stderr]')" '[5,"short\n","wrong\n"]'

# The one that would end them if keeper and daemon died: a signal for the whole service is none to
# it, and if it was killed, there is another.
reaper() { pgrep -f "^varve-init reap $STATE/"; }
has_reaper() { [ "$(reaper | wc -l)" = 1 ]; }
first=$(reaper)
kill -USR1 "$first"
kill -USR2 "$first"
kill -TERM "$first"
kill_now
is 'no signal but one ends the reaper' "$(reaper)" "$first"
kill -9 "$first"
kill_now
ok 'another follows it' has_reaper
is '... and no process in the sandbox has ended' "$(lasting "$sb")" "$before"
echo third >&$conn
IFS= read -r -t 10 said <&$conn
is 'nor the connection' "$said" 'you said third'

# A checkpoint is as right as before.
run "$sb" 'echo kept >/tmp/kept'
cp=$(api POST "/api/sandboxes/$sb/checkpoints" '{"name":"after"}' | field .id)
run "$sb" 'echo later >/tmp/kept'
other=$(create "$(jq -n --arg t "$cp" '{templateID: $t}')")
is 'a checkpoint holds what was there' "$(run "$other" 'cat /tmp/kept')" kept
is 'a new program runs' "$(run "$sb" 'cat /tmp/kept')" later

run "$sb" 'echo >/tmp/enough'
until_true 30 has_ended "$sb" "$lines"
is 'the one that wrote ends as it wants' "$(result "$sb" "$lines" | field .exitCode)" 7
result "$sb" "$lines" | jq -j .stdout >"$T/all"
# What was too much is cut, with a line that says so.
grep -v '^varve: ' "$T/all" >"$T/numbers"
n=$(grep -c . "$T/numbers")
if grep -q '^varve: output cut' "$T/all"; then n=$((n - 1)); fi
ok "it has written lines ($n)" [ "$n" -ge 1000 ]
seq 0 $((n - 1)) >"$T/wanted"
ok 'each of its lines is there once, in order' cmp <(head -n "$n" "$T/numbers") "$T/wanted"
wait $follower
is 'who followed it got all of it' "$? $(cut -d' ' -f1-2 "$T/follow.out" | grep -o 'exitCode": 7')" '0 exitCode": 7' ||
	diag "$(cat "$T/follow.out")"
ok '... the same bytes' cmp "$T/lines" "$T/all"
like '... on several connections' "$(cat "$T/follow.out")" ' [1-9][0-9]*$'

printf 'given after %s kills' "$kills" >"$T/input"
curl -sS --unix-socket "$SOCK" -X POST --data-binary @"$T/input" -H 'Content-Type: application/octet-stream' \
	"http://localhost/api/sandboxes/$sb/exec/$reader/stdin" >"$T/stdin.out"
until_true 20 has_ended "$sb" "$reader"
is 'one that waited for its input reads it, and its end' \
	"$(result "$sb" "$reader" | jq -c '[.exitCode, .stdout]')" "[3,\"given after $kills kills\"]" || diag "$(cat "$T/stdin.out")"
api POST "/api/sandboxes/$sb/exec/$signalled/signal" '{"signal":"USR1"}' >/dev/null
until_true 20 has_ended "$sb" "$signalled"
is 'a signal reaches its program' "$(result "$sb" "$signalled" | jq -c '[.exitCode, .stdout]')" '[9,"got it\n"]'
until_true 60 has_ended "$sb" "$limited"
is 'a timeout ends its program' "$(result "$sb" "$limited" | field .exitCode)" 124
ok 'a sandbox is killed' [ "$(api DELETE "/api/sandboxes/$other" -o /dev/null; api GET /api/sandboxes | jq length)" = 1 ]
exec {conn}>&-

# As many as may run at a time, beside a result: one more does nothing at all, and a kill loses none.
many=$(create '{"templateID":"root","memoryMB":256}')
short=$(exec_async "$many" 'echo short; exit 5')
until_true 20 has_ended "$many" "$short"
for ((n = 0; n < 64; n++)); do
	exec_async "$many" 'while [ ! -e /tmp/enough ]; do sleep 1; done' >/dev/null
done
like 'of so many one more is refused' \
	"$(api POST "/api/sandboxes/$many/exec/run-async" '{"cmd":"sh","args":["-c","echo >/tmp/refused"]}')" 'running in the sandbox already'
pause 0.3
is '... and has done nothing' "$(run "$many" 'cat /tmp/refused; echo' | grep -c 'No such file')" 1
kill_now
is 'a result is kept beside them' "$(result "$many" "$short" | field .stdout)" short
ok '... and they go on' [ "$(lasting "$many" | grep -c enough)" -ge 64 ] # those that fork count twice
api DELETE "/api/sandboxes/$many" >/dev/null

# Killed while a checkpoint holds everything up.
exec_async "$sb" 'i=0; while :; do i=$((i + 1)); echo $i >/tmp/n.new; busybox mv /tmp/n.new /tmp/n; done' >/dev/null
for ((i = 0; i < 3; i++)); do
	api POST "/api/sandboxes/$sb/checkpoints" "{\"name\":\"during$i\"}" >/dev/null 2>&1 &
	checkpoint=$!
	pause "0.0$((RANDOM % 40 + 10))"
	kill_now
	wait $checkpoint
done
counted=$(run "$sb" 'cat /tmp/n')
counts_on() { [ "$(run "$sb" 'cat /tmp/n')" != "$counted" ]; }
ok 'nothing stays held up' until_true 10 counts_on

# Nobody comes: what happens today happens.
ok 'processes of it run' [ "$(in_container "$sb")" -ge 2 ]
kill -9 "$DAEMON" "$(daemon_pid)"
is_empty() { [ "$(in_container "$sb")" = 0 ]; }
ok 'without keeper and daemon the container ends' until_true 20 is_empty
wait "$DAEMON" 2>/dev/null
DAEMON=
start_daemon --supervise
until_true 20 test -n "$(run "$sb" 'echo back')"
is 'and is started again by the next' "$(run "$sb" 'cat /tmp/kept')" later
stop_daemon
ok 'the keeper ends as the daemon does' daemon_ended_well
is 'and leaves no container' "$(in_container "$sb")" 0
done_testing
