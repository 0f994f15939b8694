#!/bin/bash
# tags: quick asan
# timeout: 300
# Who may call the HTTP API: other sites' pages, browsers, slow clients, clients with a key.
. "${0%/*}/lib.sh"
need root fuse curl jq tar python3

key=the-key-of-this-test
mkdir -p "$T/src" "$T/m"
echo one >"$T/src/file"
mkdir -m 755 "$STATE"
mkdir -p "$T/open/src" "$T/open/m" "$T/src2"
echo open >"$T/open/src/file"
echo secret >"$T/src2/secret"
ln -s "$T/src2" "$T/open/out"
tar -C "$T/src2" -cf "$T/secret.tar" .
tar -C "$T/src2" -cf "$T/open/open.tar" .
jq -n --arg root "$T/open" '{hostRoots: [$root]}' >"$T/config.json"
SNAPSHOTD_API_KEY=$key start_daemon --listen 127.0.0.1:0 --config "$T/config.json"
URL=$(daemon_url)

# status of a call through the socket, or over TCP with the key
socket() { # CURL-ARGUMENT... PATH
	curl -sS --max-time $((60 * SLOW)) -o "$T/body" -w '%{http_code}' --unix-socket "$SOCK" "${@:1:$#-1}" "http://localhost${!#}"
}
tcp() { # CURL-ARGUMENT... PATH
	curl -sS --max-time $((60 * SLOW)) -o "$T/body" -w '%{http_code}' -H "X-API-Key: $key" "${@:1:$#-1}" "$URL${!#}"
}
json='Content-Type: application/json'
page='User-Agent: Mozilla/5.0 (X11; Linux x86_64)'
import='{"name": "csrf", "source": {"dir": "'$T/src'"}}'

# --- other sites' pages ---
for way in socket tcp; do
	for path in / /dashboard/app.js /healthz /metrics /api/snapshots /api/nothing; do
		is "$way: a stranger's host is 403: $path" "$($way -H 'Host: evil.example:8080' $path)" 403
		is "$way: another site is 403: $path" "$($way -H 'Sec-Fetch-Site: cross-site' $path)" 403
	done
	like "$way: ... which says why" "$(cat "$T/body")" 'another site'
	is "$way: its own address is not" "$($way -H 'Host: 127.0.0.1:99' -H "$json" /healthz)" 200
	for origin in http://evil.example null http://localhost:81; do
		is "$way: origin $origin is 403" "$($way -H "Origin: $origin" -H 'Host: localhost:80' \
			-H "$json" -d "$import" /api/snapshots/import)" 403
	done
	is "$way: DELETE from another site is 403" \
		"$($way -X DELETE -H 'Sec-Fetch-Site: same-site' /api/mounts/x)" 403
	for type in text/plain multipart/form-data 'text/plain; application/json'; do
		is "$way: $type is 415" "$($way -H "Content-Type: $type" -d "$import" /api/snapshots/import)" 415
		is "$way: $type is no tar" "$($way -H "Content-Type: $type" -d x \
			'/api/snapshots/import?name=x&format=tar')" 415
	done
	is "$way: a browser's form is 415" "$($way -H "$page" -H "X-API-Key: $key" -d "$import" \
		/api/snapshots/import)" 415
done
is 'nothing came of all that' "$(varve --json snapshots)" '[]'
is 'who takes events and JSON alike gets JSON' "$(socket -H 'Accept: application/json, text/event-stream' \
	-X POST -o "$T/both" -w '%{content_type}' /api/gc)" application/json
is "socket: two hosts are 403" "$(printf 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: x\r\nConnection: close\r\n\r\n' |
	python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(sys.stdin.buffer.read())
print(s.recv(100).split()[1].decode())' "$SOCK")" 403
is 'socket: plain curl -d goes on' "$(socket -d "$import" /api/snapshots/import)" 201
is 'socket: a made-up host does' "$(curl -s -o "$T/body" -w '%{http_code}' --unix-socket "$SOCK" http://x/healthz)" 200
is 'tcp: but not there' "$(tcp -H 'Host: x' /healthz)" 403

# --- browsers through the socket ---
is 'a browser gets the page' "$(socket -H "$page" /)" 200
is 'but no call' "$(socket -H "$page" /api/snapshots)" 401
like 'and is told how' "$(cat "$T/body")" 'varve dashboard'
is 'nor the token' "$(socket -X POST -H "$page" /api/dashboard/token)" 401
is 'TCP tells no token' "$(tcp -X POST /api/dashboard/token)" 403
link=$(varve dashboard --port 99 2>"$T/hint")
like 'varve dashboard prints an address' "$link" '^http://localhost:99/#token=[0-9a-f]{64}$'
like 'and how to get there' "$(cat "$T/hint")" "ssh -L 99:$SOCK "
is 'the token lets it in' "$(socket -H "$page" -H "X-API-Key: ${link#*=}" -H 'Origin: http://localhost' \
	-H 'Sec-Fetch-Site: same-origin' /api/snapshots)" 200
is 'so does the key' "$(socket -H "$page" -H "X-API-Key: $key" /api/snapshots)" 200
logged() { # REGEX
	grep -qE "$1" "$T/daemon.log"
}
refused_is_logged() { # REGEX COMMAND...: again until a second has room for its line
	"${@:2}" >"$T/refused" 2>&1
	logged "$1"
}
ok 'who was refused is in the log' until_true 10 refused_is_logged \
	'POST by uid 0, pid [0-9]+ .*: 401 /api/dashboard/token$' socket -X POST -H "$page" /api/dashboard/token
is 'another does not' "$(socket -H "$page" -H "X-API-Key: ${link#*=}0" /api/snapshots)" 401
is 'a change without a key' "$(curl -s -o /dev/null -w '%{http_code}' -X POST "$URL/api/gc")" 401
ok 'says where from' until_true 10 refused_is_logged 'POST by 127.0.0.1: 401 /api/gc$' curl -s -X POST "$URL/api/gc"
is 'the token is not for TCP' "$(curl -s -o "$T/body" -w '%{http_code}' -H "X-API-Key: ${link#*=}" "$URL/api/stats")" 401

# --- the log of those without a key ---
# post_raw COUNT TARGET: without a key, byte for byte
post_raw() {
	python3 -c 'import os, socket, sys
for _ in range(int(sys.argv[2])):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    s.sendall(b"POST " + os.fsencode(sys.argv[3]) +
        b" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    while s.recv(4096):
        pass' "${URL##*:}" "$@"
}
printf -v long '%3000s' ''
ok 'a path as long as a line hides nobody' until_true 10 refused_is_logged \
	'POST by 127\.0\.0\.1: 401 /api/xx{190,200}\.\.\.$' post_raw 1 "/api/${long// /x}"
ok 'one of any bytes is logged' until_true 10 refused_is_logged 'POST by 127\.0\.0\.1: 401 /api/any\?%7F$' \
	post_raw 1 $'/api/any\xff\x7f'
ok '... as text' iconv -f utf8 -t utf8 -o /dev/null "$T/daemon.log"
ok 'what is not there has a line, too' until_true 10 refused_is_logged \
	'GET by 127\.0\.0\.1: 404 /dashboard/nothing$' curl -s "$URL/dashboard/nothing"
post_raw 1 '/api/gc by 10.0.0.1: 200' >"$T/forged" 2>&1
not_ok 'none forges a line' logged ' by 10\.0\.0\.1'
post_raw 200 /api/guess
ok 'of many most are only counted' until_true 10 eval \
	'tcp /healthz && logged "info: [0-9]+ more were refused$"'
at_guess=$(grep -c ': 401 /api/guess$' "$T/daemon.log")
ok '... but some have lines' test "$at_guess" -ge 1 -a "$at_guess" -lt 200

# --- places of this host, over TCP ---
post() { # PATH JSON: the status
	tcp -H "$json" -d "$2" "$1"
}
imported() { # NAME KIND PATH
	post /api/snapshots/import "{\"name\": \"$1\", \"source\": {\"$2\": \"$3\"}}"
}
for dir in "$T/src2" "$T/open/out" "$T/open/../src2" "$T/open/out/secret" / "$T/openx"; do
	is "no import of ${dir#"$T"}" "$(imported no dir "$dir")" 403
done
like '... which says how to allow it' "$(cat "$T/body")" 'hostRoots in the config file'
is 'no import of a tar elsewhere' "$(imported no tar "$T/secret.tar")" 403
is 'nor of an image' "$(imported no oci "$T/secret.tar")" 403
is 'a directory beneath a root is imported' "$(imported fine dir "$T/open/src")" 201
is 'a tar, too' "$(imported tar tar "$T/open/open.tar")" 201
is 'no mount elsewhere' "$(post /api/mounts "{\"snapshot\": \"fine\", \"mountpoint\": \"$T/m\"}")" 403
is 'nor through a link' "$(post /api/mounts "{\"snapshot\": \"fine\", \"mountpoint\": \"$T/open/out\"}")" 403
is 'a mount beneath a root' "$(post /api/mounts "{\"snapshot\": \"fine\", \"mountpoint\": \"$T/open/m/.\"}")" 201
id=$(jq -r .id "$T/body")
is '... at its place' "$(cat "$T/open/m/file")" open
is 'no fork elsewhere' "$(post "/api/mounts/$id/fork" "{\"mountpoint\": \"$T/m\"}")" 403
is 'no cgroup' "$(post "/api/mounts/$id/checkpoint" '{"freezeCgroup": "/sys/fs/cgroup/system.slice"}')" 403
is 'a checkpoint without one' "$(post "/api/mounts/$id/checkpoint" '{"wait": true}')" 201
is 'it is unmounted' "$(tcp -X DELETE "/api/mounts/$id")" 204
is 'not attached elsewhere' "$(post "/api/mounts/$id/attach" "{\"mountpoint\": \"$T/m\"}")" 403
is 'but where it was' "$(post "/api/mounts/$id/attach" '{}')" 200
is 'and gone' "$(tcp -X DELETE "/api/mounts/$id?discard=1")" 204
is 'a mount that the socket makes elsewhere' "$(socket -H "$json" -d \
	"{\"snapshot\": \"fine\", \"mountpoint\": \"$T/m\", \"quotaBytes\": 1000000, \"noExec\": true}" /api/mounts)" 201
id=$(jq -r .id "$T/body")
is '... and unmounts' "$(socket -X DELETE "/api/mounts/$id")" 204
for more in '"allowSuid": true' '"allowDev": true' '"noExec": false' '"quotaBytes": 0' '"quotaBytes": 2000000'; do
	is "... gets no more there: $more" "$(post "/api/mounts/$id/attach" "{$more}")" 403
done
like '... which says why' "$(cat "$T/body")" 'hostRoots in the config file'
is '... but comes back with less' "$(post "/api/mounts/$id/attach" '{"quotaBytes": 900000}')" 200
is '... and goes' "$(tcp -X DELETE "/api/mounts/$id")" 204
is '... and as it was' "$(post "/api/mounts/$id/attach" '{}')" 200
is '... with what it had' "$(jq -c '[.quotaBytes, .noExec, .allowSuid, .allowDev]' "$T/body")" '[900000,true,false,false]'
is '... and is discarded' "$(tcp -X DELETE "/api/mounts/$id?discard=1")" 204
ok 'the socket has no such limit' varve import socket dir "$T/src2"

# --- modes ---
is 'the state directory is closed' "$(stat -c %a "$STATE")" 700
is 'and what is in it' "$(find "$STATE" -maxdepth 2 -path "$STATE/run" -prune -o -type f -perm /077 -print)" ''
like 'the log warns of the network' "$(grep warn "$T/daemon.log")" 'sandboxNetwork'
echo '{"apiKey": "sixteen letters!"}' >"$T/key.json"
not_ok 'a key that others may read' snapshotd --state "$T/state2" --socket "$T/sock2" --config "$T/key.json"
like '... is refused' "$(cat "$T/.out")" 'chmod 600'

# --- slow clients ---
# An upload that has begun and does not go on: gc does not wait for it.
mkfifo "$T/pipe"
curl -sS --unix-socket "$SOCK" -T - -X POST "http://localhost/api/snapshots/import?name=slow&format=tar" \
	-H 'Content-Type: application/x-tar' <"$T/pipe" -o "$T/upload" &
upload=$!
exec 7>"$T/pipe"
head -c 3000000 /dev/urandom >"$T/src/early"
tar -C "$T/src" -cf "$T/slow.tar" .
head -c 2000000 "$T/slow.tar" >&7
until_true 10 has_read $upload 2000000
is 'gc beside a stalled upload' "$(socket -X POST --max-time $((30 * SLOW)) /api/gc)" 200
tail -c +2000001 "$T/slow.tar" >&7
exec 7>&-
wait $upload
is '... which goes on then' "$(jq -r .status "$T/upload")" ready
ok '... and has lost nothing' varve verify slow
# Connections without a key, more than there may be, that stay: with a byte each now and then.
cat >"$T/flood.py" <<'PY'
import resource, select, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
port, n = int(sys.argv[1]), int(sys.argv[2])
held = []
for _ in range(n):
    s = socket.create_connection(("127.0.0.1", port))
    s.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ")
    held.append(s)
print("held", flush=True)
def trickle(s):
    try:
        s.sendall(b"a")
        return not (select.select([s], [], [], 0)[0] and s.recv(1) == b"")
    except OSError:
        return False
end = time.time() + float(sys.argv[3])
while time.time() < end and held:
    time.sleep(1)
    held = [s for s in held if trickle(s)]
print("left", len(held), flush=True)
PY
python3 "$T/flood.py" "${URL##*:}" 600 $((60 * SLOW)) >"$T/flood" 2>&1 &
flood=$!
for ((i = 0; i < 600 * SLOW; i++)); do
	grep -q held "$T/flood" && break
	pause 0.05
done
is 'a client with the key is served beside 600 without' "$(tcp /api/stats)" 200
wait $flood
like 'none of these is left' "$(tail -n 1 "$T/flood")" '^left 0$'
done_testing
