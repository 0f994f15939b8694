#!/bin/bash
# What clients ask of a daemon that is killed meanwhile is done, and done once: by its
# Idempotency-Key, whoever answers; and every client asks again by itself.
# timeout: 300
# tags: sandbox
. "${0%/*}/lib.sh"
need root fuse curl jq python3 tar runc busybox
[[ $(uname -r) =~ ^([0-9]+)\.([0-9]+) ]] || bail "no kernel version"
((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] >= 6009)) || skip_all "needs Linux 6.9"
busybox=$(command -v busybox)
ldd "$busybox" >/dev/null 2>&1 && skip_all "needs a static busybox"
unset VARVE_API_URL VARVE_API_KEY VARVE_SOCKET VARVE_RETRY_SECONDS
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$SRC/tools/sdk/python
mkdir -p "$T/root"/{bin,etc,tmp,dev,proc,sys} "$T/a" "$T/b" "$T/c"
cp "$busybox" "$T/root/bin/busybox"
for name in sh cat echo sleep seq; do ln -s busybox "$T/root/bin/$name"; done
tar -C "$T/root" -cf "$T/root.tar" .
jq -c . <<<'{"defaultTemplate": "root"}' >"$T/config.json"

keyed() { # KEY METHOD PATH [BODY [CURL-ARGUMENT...]]: the answer, and its status on a line
	local key=$1 method=$2 path=$3 body=${4-}
	shift 3
	[ $# = 0 ] || shift
	curl -sS --max-time 60 --unix-socket "$SOCK" -X "$method" -H "Idempotency-Key: $key" \
		${body:+-H 'Content-Type: application/json' -d "$body"} -w '\n%{http_code}\n' "$@" "http://localhost$path"
}
status() { tail -n 1 <<<"$1"; }
member() { head -n 1 <<<"$1" | jq -r ".$2"; }
healthz() { api GET /healthz 2>/dev/null | jq -r ".$1"; }
has_come() { # GENERATION
	local now
	now=$(healthz generation) && [ "${now:-0}" -gt "$1" ]
}
kill_now() {
	local was
	was=$(healthz generation)
	kill -9 "$(healthz pid)"
	until_true 30 has_come "$was"
}
count() { api GET "$1" | jq length; }

start_daemon --supervise --config "$T/config.json"
varve import root tar "$T/root.tar" >/dev/null || bail 'the root cannot be imported'

# --- keys ---
a=$(keyed k1 POST /api/sandboxes '{"memoryMB":64}')
sb=$(member "$a" sandboxID)
is 'a sandbox is made' "$(status "$a")" 201
b=$(keyed k1 POST /api/sandboxes '{"memoryMB":64}' -i)
like 'asked again, it is the same one' "$b" "sandboxID\":\"$sb\""
like '... and said to be' "$b" 'Idempotency-Replayed: true'
is '... by a key in quotes, too' "$(member "$(keyed '"k1"' POST /api/sandboxes '{"memoryMB":64}')" sandboxID)" "$sb"
c=$(keyed k1 POST /api/sandboxes '{"memoryMB":65}')
like 'another body with that key is refused' "$c" 'used for another request.*422'
is '... and so is another path' "$(status "$(keyed k1 POST /api/mounts '{"memoryMB":64}')")" 422
is 'a key has some length' "$(status "$(keyed '' POST /api/sandboxes '{}' -H 'Idempotency-Key;')") $(status "$(keyed "$(printf 'x%.0s' {1..300})" POST /api/sandboxes '{}')")" '400 400'
is 'a failure may be tried again' "$(status "$(keyed k2 POST /api/mounts "{\"snapshot\":\"root\",\"mountpoint\":\"$T/later\"}")")" 400
mkdir "$T/later"
is '... with its key' "$(status "$(keyed k2 POST /api/mounts "{\"snapshot\":\"root\",\"mountpoint\":\"$T/later\"}")")" 201
varve umount --discard "$T/later"
is 'there is one sandbox' "$(count /api/sandboxes)" 1

# A program that has been started is not started again, whatever its client or daemon came to.
run_once() { # NAME [CURL-ARGUMENT...]
	local name=$1
	shift
	keyed "$name" POST "/api/sandboxes/$sb/exec/run" \
		"{\"cmd\":\"sh\",\"args\":[\"-c\",\"echo x >>/tmp/$name; sleep ${SLEEP-0}\"]}" "$@"
}
has_run() { [ "$(cat "$STATE/sandboxes/$sb/root/tmp/$1" 2>/dev/null)" = x ]; }
runs_on() { varve exec "$sb" -- sh -c 'cat /proc/[0-9]*/cmdline' | tr '\0' ' ' | grep -q "sleep $1"; }
run_ended() { ! runs_on "$1"; }
SLEEP=4711 run_once hung_up >/dev/null 2>&1 &
until_true 20 has_run hung_up
pkill -P $! curl
wait $!
until_true 20 run_ended 4711
a=$(SLEEP=4711 run_once hung_up)
is 'a run that its client has left is not run again' "$(status "$a")" 409
like '... which is said' "$a" 'how it ended is not known'
is '... it has run once' "$(varve exec "$sb" -- cat /tmp/hung_up)" x
like 'a run with events' "$(run_once events -H 'Accept: text/event-stream')" 'event: result.*200$'
is '... has no result without its output' "$(status "$(run_once events -H 'Accept: text/event-stream')")" 409
is '... and has run once' "$(varve exec "$sb" -- cat /tmp/events)" x
SLEEP=4712 run_once killed >/dev/null 2>&1 &
until_true 20 has_run killed
kill_now
wait $!
is 'a run ends with its daemon, and is not run again' "$(status "$(SLEEP=4712 run_once killed)")" 409
is '... it has run once' "$(varve exec "$sb" -- cat /tmp/killed)" x
if ((LONG)); then # for half a minute
	SLEEP=60 run_once slow >/dev/null 2>&1 &
	until_true 20 has_run slow
	like 'one that still runs is not waited for without end' "$(SLEEP=60 run_once slow -i)" '503 .*Retry-After: .*503$'
	pkill -P $! curl
	wait $!
fi
# A token is of one daemon's life, and in no record.
t=$(keyed t1 POST /api/dashboard/token)
not_ok 'a token has no key' grep -q Replayed <<<"$(keyed t1 POST /api/dashboard/token '' -i)"
kill_now
not_ok '... and a successor its own' test "$(member "$(keyed t1 POST /api/dashboard/token)" token)" = "$(member "$t" token)"
like 'every answer says that keys are known' "$(keyed x GET /healthz '' -i) $(keyed x GET /nothing '' -i)" 'Idempotency-Keys: 1.*Idempotency-Keys: 1'

# A successor answers the same.
m=$(keyed m1 POST /api/mounts "{\"snapshot\":\"root\",\"mountpoint\":\"$T/a\"}")
e=$(keyed e1 POST "/api/sandboxes/$sb/exec/run-async" '{"cmd":"sh","args":["-c","echo x >>/tmp/once; sleep 100"]}')
cp=$(keyed c1 POST "/api/sandboxes/$sb/checkpoints" '{"name":"one"}')
keyed d1 DELETE "/api/snapshots/nothing" >/dev/null
kill_now
is 'a successor answers as before: a sandbox' "$(member "$(keyed k1 POST /api/sandboxes '{"memoryMB":64}')" sandboxID)" "$sb"
is '... a mount' "$(member "$(keyed m1 POST /api/mounts "{\"snapshot\":\"root\",\"mountpoint\":\"$T/a\"}")" id)" "$(member "$m" id)"
is '... a program' "$(member "$(keyed e1 POST "/api/sandboxes/$sb/exec/run-async" '{"cmd":"sh","args":["-c","echo x >>/tmp/once; sleep 100"]}')" execId)" "$(member "$e" execId)"
is '... which has run once' "$(varve exec "$sb" -- cat /tmp/once)" x
is '... a checkpoint' "$(member "$(keyed c1 POST "/api/sandboxes/$sb/checkpoints" '{"name":"one"}')" id)" "$(member "$cp" id)"

# Killed in the middle: it is done once, whenever that was.
for ((i = 0; i < 3; i++)); do
	body="{\"memoryMB\":64,\"metadata\":{\"n\":\"$i\"}}"
	keyed "mid$i" POST /api/sandboxes "$body" >"$T/first" 2>/dev/null &
	pid=$!
	pause "0.0$((i * 3))"
	kill_now
	wait $pid
	again=$(keyed "mid$i" POST /api/sandboxes "$body")
	[ "$(status "$again")" = 201 ] || diag "$again"
	[ "$(api GET /api/sandboxes | jq -r ".[] | select(.metadata.n == \"$i\").sandboxID")" = "$(member "$again" sandboxID)" ] ||
		fail "sandbox $i: made once" "$(api GET /api/sandboxes)"
done
is 'each is made once though a daemon died of it' "$(count /api/sandboxes)" 4
rm -f "$T/first"
api GET /api/sandboxes | jq -r '.[].sandboxID' | grep -v "$sb" | xargs varve kill

# --- clients, that ask again by themselves ---
# Between the client and the daemon: the first request of METHODS is passed on and done, and then the
# daemon killed and the connection closed; the client hears nothing of the answer.
cat >"$T/between.py" <<'PY'
import os, re, signal, socket, sys, threading
there, here, pid, methods = sys.argv[1:]
done = False
def one(client):
    with client, socket.socket(socket.AF_UNIX) as daemon:
        daemon.connect(there)
        breaks = []
        def up():
            global done
            try:
                while data := client.recv(1 << 16):
                    if not done and re.match(methods.encode() + b" ", data):
                        done = True
                        breaks.append(data)
                    daemon.sendall(data)
                daemon.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        threading.Thread(target=up, daemon=True).start()
        got = b""
        try:
            while data := daemon.recv(1 << 16):
                if not breaks:
                    client.sendall(data)
                    continue
                got += data
                if got.endswith(b"\n") and not b"event: started" in got or got.endswith(b"0\r\n\r\n") or b" 204 " in got:
                    break
        except OSError:
            pass
        if breaks:
            os.kill(int(pid), signal.SIGKILL)
        try:
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
s = socket.socket(socket.AF_UNIX)
s.bind(here)
s.listen(8)
while True:
    threading.Thread(target=one, args=(s.accept()[0],), daemon=True).start()
PY
between=$T/between
dies_under() { # COMMAND...
	local was rc proxy
	was=$(healthz generation)
	rm -f "$between"
	python3 "$T/between.py" "$SOCK" "$between" "$(healthz pid)" "${METHODS:-(POST|PATCH|DELETE)}" &
	proxy=$!
	until_true 10 test -S "$between"
	SNAPSHOTD_SOCKET=$between timeout 60 "$@" >"$T/out" 2>"$T/err"
	rc=$?
	until_true 30 has_come "$was" || rc=99
	kill $proxy
	wait $proxy 2>/dev/null
	[ $rc = 0 ] || cat "$T/err"
	return $rc
}
ok 'varve mount' dies_under varve mount root "$T/b"
ok 'varve fork' dies_under varve fork "$T/b" "$T/c"
ok '... is there' mountpoint -q "$T/c"
ok 'varve checkpoint' dies_under varve checkpoint "$T/b" cp
is '... is ready' "$(varve --json show cp | jq -r .status)" ready
ok 'varve rename' dies_under varve rename cp cp2
ok 'varve umount' dies_under varve umount --discard "$T/c"
ok 'varve rm' dies_under varve rm cp2
METHODS=GET ok 'varve snapshots' dies_under varve snapshots
like '... lists them' "$(cat "$T/out")" root
ok 'varve run' dies_under varve run --snapshot root -- echo there
is '... runs' "$(cat "$T/out")" there
cat >"$T/client.py" <<'PY'
import asyncio, ctypes, sys
from varve import AsyncClient, AsyncSandbox, Client, Sandbox
kind, socket, lib = sys.argv[1:]
if kind == "sync":
    with Sandbox.create(snapshot="root", memory_mb=64, client=Client(socket=socket)) as s:
        print(s.exec.run("echo there").stdout, end="")
elif kind == "async":
    async def go():
        async with await AsyncSandbox.create(snapshot="root", memory_mb=64, client=AsyncClient(socket=socket)) as s:
            print((await s.exec.run("echo there")).stdout, end="")
    asyncio.run(go())
else:
    v = ctypes.CDLL(lib)
    class Options(ctypes.Structure):
        _fields_ = [("socket", ctypes.c_char_p), ("url", ctypes.c_char_p), ("key", ctypes.c_char_p)]
    c = ctypes.c_void_p()
    assert v.varve_client_new(ctypes.byref(Options(socket.encode(), None, None)), ctypes.byref(c), None) == 0
    assert v.varve_snapshot_delete(c, b"gone", None) == 0
    print("there")
PY
for kind in sync async; do
	ok "Python, $kind" dies_under python3 "$T/client.py" $kind "$between" ''
	is '... all of it' "$(cat "$T/out")" there
done
if [ "$(nm -D "$BUILD/lib/libvarve.so" | grep -cE '__(asan|tsan|ubsan)')" = 0 ]; then
	varve import gone tar "$T/root.tar" >/dev/null
	ok "libvarve" dies_under python3 "$T/client.py" lib "$between" "$BUILD/lib/libvarve.so.0"
	is '... all of it' "$(cat "$T/out")" there || diag "$(cat "$T/err")"
fi
is 'nothing was made twice' "$(count /api/sandboxes) $(varve --json mounts 2>/dev/null | jq length)" '1 2'
VARVE_RETRY_SECONDS=0 not_ok 'who does not want to ask again is told' dies_under varve mount root "$T/c"
# Where none ever answered, nobody waits.
begun=$SECONDS
not_ok 'no daemon at all is told at once' varve --socket "$T/none" snapshots
ok '... without a wait' [ $((SECONDS - begun)) -le 5 ]
done_testing
