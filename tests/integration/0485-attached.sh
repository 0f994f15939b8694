#!/bin/bash
# A command that somebody waits for (varve run and exec, the SDKs) goes on when the daemon dies: it is
# not ended or run twice, its output comes whole and once, and its exit status is returned. It ends
# with those who wait for it.
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
mkdir -p "$T/root"/{bin,etc,tmp,dev,proc,sys}
cp "$busybox" "$T/root/bin/busybox"
for name in sh cat echo sleep seq dd head yes true kill; do ln -s busybox "$T/root/bin/$name"; done
tar -C "$T/root" -cf "$T/root.tar" .

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
inside() { cat "$STATE/sandboxes/$sb/root/tmp/$1" 2>/dev/null; } # FILE
is_inside() { [ -n "$(inside "$1")" ]; }
pids_of() { # FILE: of what has written its pid there
	find /sys/fs/cgroup -type d -name "varve-$sb" -exec cat {}/cgroup.procs \; 2>/dev/null | sort -un |
		while read -r p; do
			{ tr '\0' ' ' <"/proc/$p/cmdline"; } 2>/dev/null | grep -q "$1" && echo "$p"
		done
}
runs() { [ -n "$(pids_of "$1")" ]; }
runs_no_more() { ! runs "$1"; }

start_daemon --supervise
varve import root tar "$T/root.tar" >/dev/null || bail 'the root cannot be imported'
sb=$(varve --json run --keep --snapshot root true </dev/null | jq -r .sandboxID)
[[ $sb == sb-* ]] || bail "no sandbox: $(tail -n 5 "$T/daemon.log")"

# Numbers on one stream and as many on the other, with a pause in which a daemon dies.
lines=$((LONG ? 10000000 : 1300000)) # twice, that is more than the 16 MiB of a result
both="echo x >>/tmp/NAME; seq $lines & seq $lines >&2; wait; echo x >/tmp/half-NAME
while [ ! -e /tmp/go-NAME ]; do sleep 0.1; done; seq $lines & seq $lines >&2; wait; exit 7"
want=$( (seq $lines && seq $lines) | md5sum)
script() { echo "${both//NAME/$1}"; }
go() { touch "$STATE/sandboxes/$sb/root/tmp/go-$1"; }
is_whole() { # FILE
	[ "$(md5sum <"$1")" = "$want" ] || {
		diag "$(wc -c <"$1") bytes, ends with $(tail -c 100 "$1")"
		return 1
	}
}
killed_thrice() { # NAME: while it writes, while it pauses, while it writes again
	until_true 60 is_inside "$1"
	pause 0.2
	kill_now
	until_true 120 is_inside "half-$1"
	kill_now
	go "$1"
	pause 0.2
	kill_now
}

# --- varve exec ---
varve exec "$sb" -- sh -c "$(script one)" >"$T/out" 2>"$T/err" </dev/null &
client=$!
killed_thrice one
wait $client
is 'exec: its exit status, after three daemons' "$?" 7
ok '... its output, whole and once' is_whole "$T/out"
ok '... its errors, too' is_whole "$T/err"
is '... it has run once' "$(inside one)" x

# A reader that stands still: the program waits, and nothing is cut.
mkfifo "$T/fifo"
varve exec "$sb" -- sh -c 'echo x >/tmp/slow; seq 2500000; echo x >/tmp/slow-end' </dev/null >"$T/fifo" &
client=$!
exec {slow}<"$T/fifo"
until_true 20 is_inside slow
kill_now
pause $((LONG ? 20 : 1)) # longer than who leaves is waited for
not_ok 'a program waits for who reads slowly' is_inside slow-end
is '... and nothing of it is cut' "$(md5sum <&$slow)" "$(seq 2500000 | md5sum)"
exec {slow}<&-
wait $client

# --- varve run ---
varve run --keep --snapshot root -- sh -c 'echo begun; for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.3; done; exit 5' >"$T/out" 2>"$T/err" </dev/null &
client=$!
begun() { grep -q begun "$T/out"; }
until_true 30 begun
kill_now
wait $client
is 'run: its exit status' "$?" 5
is '... its output' "$(tr '\n' ' ' <"$T/out")" 'begun 1 2 3 4 5 6 7 8 9 10 '

# Another program goes on in the daemon's place.
was=$(healthz generation)
varve exec "$sb" -- sh -c 'echo begun; sleep 4; echo over; exit 8' >"$T/out" 2>"$T/err" </dev/null &
client=$!
until_true 30 begun
ok 'a daemon is upgraded' varve daemon upgrade
wait $client
is '... and the command goes on' "$? $(tr '\n' ' ' <"$T/out")" '8 begun over '
ok '... in the next' has_come "$was"

# --- input ---
mkfifo "$T/in"
sleep 1000 >"$T/in" &
writer=$!
varve exec "$sb" -- sh -c 'echo begun; sleep 2; echo over; exit 3' <"$T/in" >"$T/out" 2>"$T/err" &
client=$!
until_true 30 begun
kill_now
wait $client
is 'input that has not come does not matter' "$? $(tr '\n' ' ' <"$T/out")" '3 begun over '
kill $writer
(echo one && exec sleep 1000) >"$T/in" &
writer=$!
varve exec "$sb" -- sh -c 'read x; echo begun; cat; echo over' <"$T/in" >"$T/out" 2>"$T/err" &
client=$!
until_true 30 begun
kill_now
wait $client
st=$?
kill $writer
is 'input that is lost is an error' "$st" 125
like '... which is said' "$(<"$T/err")" "the command's input"
echo all | varve exec "$sb" -- sh -c 'cat; sleep 2; exit 4' >"$T/out" 2>"$T/err" &
client=$!
has_all() { grep -q all "$T/out"; }
until_true 30 has_all
kill_now
wait $client
is 'input that has come is no matter, either' "$?" 4

# --- the libraries ---
cat >"$T/client.py" <<'PY'
import asyncio, sys
from varve import AsyncClient, AsyncSandbox, Client, Sandbox
kind, socket, sandbox, name, lines = sys.argv[1:]
script = f"seq {lines}; echo wrong >&2; echo x >>/tmp/{name}; sleep 2; seq {lines}; exit 9"
told = []
if kind == "sync":
    run = Sandbox.connect(sandbox, client=Client(socket=socket)).exec.run
    result, again = run(script), run(script, on_output=told.append)
else:
    async def go():
        run = (await AsyncSandbox.connect(sandbox, client=AsyncClient(socket=socket))).exec.run
        return await run(script), await run(script, on_output=told.append)
    result, again = asyncio.run(go())
want = 2 * "".join(f"{i + 1}\n" for i in range(int(lines)))
assert (result.exit_code, again.exit_code, result.stderr) == (9, 9, "wrong\n"), (result, again)
assert result.stdout == want and not result.truncated
assert b"".join(o.data for o in told if o.stream == "stdout").decode() == want
PY
for kind in sync async; do
	python3 "$T/client.py" $kind "$SOCK" "$sb" py-$kind 100000 &
	client=$!
	until_true 30 is_inside py-$kind
	kill_now
	twice() { [ "$(inside py-$kind)" = $'x\nx' ]; }
	until_true 60 twice
	kill_now
	ok "Python, $kind" wait $client
	ok '... each has run once' twice
done

start() { # SCRIPT [MEMBERS]
	api POST "/api/sandboxes/$sb/exec/run-async" \
		"$(jq -n --arg c "$1" "{cmd: \"sh\", args: [\"-c\", \$c], attached: true${2:+, $2}}")" | field .execId
}

# --- its clients ---
env --default-signal=INT varve exec "$sb" -- sh -c "trap '' INT; echo begun; sleep 4711 & sleep 4711" >"$T/out" 2>&1 </dev/null &
client=$!
until_true 30 begun
kill -INT $client
pause 0.3
kill -INT $client
wait $client
is 'interrupted twice' "$?" 130
ok '... it ends at once, and all that it has started' until_true 5 runs_no_more 'sleep 4711'
timed=$(start 'yes' 'timeout: 2') # its output has nobody to go to, when it is killed and after
varve exec "$sb" -- sh -c "echo begun; setsid sleep 4712 & sleep 4712" >"$T/out" 2>&1 </dev/null &
client=$!
until_true 30 begun
since=$SECONDS
kill -9 $client
wait $client 2>/dev/null
pause 3
ok 'a client that is killed may come back' runs 'sleep 4712'
kill_now
ok '... it has not: all of it ends' until_true 60 runs_no_more 'sleep 4712'
diag "after $((SECONDS - since)) s"
forgotten() { api GET "/api/sandboxes/$sb/exec/$1/result" | grep -q 'there is no exec'; }
ok '... and is forgotten, also what its timeout had killed' until_true 30 forgotten "$timed"
varve exec "$sb" -- sh -c 'while :; do echo more; done' </dev/null 2>/dev/null | head -n 1 >"$T/out"
ok 'who reads no more ends it' until_true 10 runs_no_more 'echo more'

# --- the calls ---
output() { # EXEC [PLACES]
	curl -sS --max-time 60 --unix-socket "$SOCK" -H 'Accept: text/event-stream' \
		"http://localhost/api/sandboxes/$sb/exec/$1/output${2-}" | tr '\n' ' '
}
e=$(start 'echo there')
like 'output is followed' "$(output "$e")" '"data":"there\\n".*exitCode":0'
like '... from a place on, once more' "$(output "$e" '?stdout=3')" '"data":"re\\n"'
like 'there is no result without it' "$(api GET "/api/sandboxes/$sb/exec/$e/result")" 'is attached'
kill_now
like 'a successor tells the end' "$(output "$e" '?stdout=6')" 'exitCode":0'
api DELETE "/api/sandboxes/$sb/exec/$e"
like 'it can be forgotten' "$(output "$e")" 'there is no exec'
e=$(start 'sleep 4713')
until_true 10 runs 'sleep 4713'
api DELETE "/api/sandboxes/$sb/exec/$e"
ok 'it can be killed' until_true 10 runs_no_more 'sleep 4713'
e=$(start 'seq 1500000')
output "$e" >/dev/null
like 'what has been sent long ago is not kept' "$(output "$e" '?stdout=9')" 'not kept any more'
like 'a run that is waited for is not attached' "$(api POST "/api/sandboxes/$sb/exec/run" '{"cmd":"true","attached":true}')" 'member of run-async'
ids=()
for _ in {1..12}; do
	e=$(start true)
	output "$e" >/dev/null
	ids+=("$e")
done
like 'few results are kept that were told' "$(output "${ids[0]}")" 'there is no exec'
like '... the last of them' "$(output "${ids[11]}")" 'exitCode":0'

# --- connections that are not what they should be ---
cat >"$T/proxy.py" <<'PY'
import socket, sys, threading
there, here, mode = sys.argv[1:]
seen = 0  # calls with input
def head(status, body, more=b""):
    return (b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nIdempotency-Keys: 1\r\n%s"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, more, len(body), body))
class Cut(Exception):
    pass
def meddle(data, state):  # what the client is told instead of what the daemon would say
    global seen
    if mode == "older":  # it knows no attached programs
        return b'"attached"' in data and head(b"400 Bad Request", b'{"error":"unknown member \\"attached\\""}')
    if state["input"]:
        state["bytes"] += len(data)
        if mode == "cut" and state["bytes"] > 200000:
            raise Cut
    elif b"/stdin HTTP/1.1" in data:
        state["input"] = True
        seen += 1
        if mode == "late" and seen < 3:
            raise Cut
        return mode == "busy" and head(b"503 Unavailable", b'{"error":"busy"}', b"Retry-After: 1\r\n")
def one(client):
    state = {"input": False, "bytes": 0}
    with client, socket.socket(socket.AF_UNIX) as daemon:
        daemon.connect(there)
        def up():
            try:
                while data := client.recv(1 << 16):
                    if answer := meddle(data, state):
                        client.sendall(answer)
                        return
                    daemon.sendall(data)
                daemon.shutdown(socket.SHUT_WR)
            except Cut:
                client.shutdown(socket.SHUT_RDWR)
                daemon.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        threading.Thread(target=up, daemon=True).start()
        try:
            while data := daemon.recv(1 << 16):
                client.sendall(data)
        except OSError:
            pass
s = socket.socket(socket.AF_UNIX)
s.bind(here)
s.listen(8)
while True:
    threading.Thread(target=one, args=(s.accept()[0],), daemon=True).start()
PY
proxies=()
by() { # MODE: from now on $via is a daemon behind such a connection
	via=$T/via-$1
	python3 "$T/proxy.py" "$SOCK" "$via" "$1" &
	proxies+=($!)
	until_true 10 test -S "$via"
}
by older
is 'an older daemon runs it as before' "$(echo in | varve --socket "$via" exec "$sb" -- sh -c 'cat; echo x >/tmp/older; exit 6'; echo $?) $(inside older)" $'in\n6 x'
by late
is 'input is sent again of which nothing was lost' "$(echo in | varve --socket "$via" exec "$sb" -- sh -c 'cat; exit 6'; echo $?)" $'in\n6'
by cut
head -c 3000000 /dev/zero >"$T/zeros"
varve --socket "$via" exec "$sb" -- sh -c 'cat >/dev/null; sleep 4714' <"$T/zeros" >"$T/out" 2>"$T/err"
is 'input that broke off ends the command' "$?" 125
like '... which is said' "$(<"$T/err")" "command's input was not passed on whole"
ok '... with all that it has started' until_true 10 runs_no_more 'sleep 4714'
varve --socket "$via" exec "$sb" -- sh -c 'cat >/dev/null; sleep 0.5' <"$T/zeros" >"$T/out" 2>"$T/err"
is 'who took it for all of it has failed, too' "$?" 125
by busy
echo in | VARVE_RETRY_SECONDS=1 varve --socket "$via" exec "$sb" -- sh -c 'cat; sleep 4715' >"$T/out" 2>"$T/err"
is 'input that nobody takes is an error' "$?" 125
like '... which is said' "$(<"$T/err")" "command's input .*: busy"
kill "${proxies[@]}"
wait "${proxies[@]}" 2>/dev/null

done_testing
