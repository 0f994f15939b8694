#!/bin/bash
# Sandboxes over HTTP: their lives, programs, files, checkpoints, patches and limits, with a
# Debian root as the default template.
# timeout: 900
# tags: sandbox
. "${0%/*}/lib.sh"
need root fuse curl jq tar runc
need_space 2000
need_debian_root

# call METHOD PATH [CURL-ARGUMENT...]: $code and $body of the reply.
call() {
	local method=$1 path=$2
	shift 2
	: >"$T/body"
	code=$(curl -sS --max-time $((120 * SLOW)) --unix-socket "$SOCK" -X "$method" -o "$T/body" \
		-w '%{http_code}' "$@" "http://localhost/api/sandboxes$path" 2>"$T/curl.err")
	read_body "$T/body"
}
# reply DESCRIPTION STATUS BODY-REGEX METHOD PATH [JSON]
reply() {
	local what=$1 status=$2 regex=$3
	call "$4" "$5" ${6:+-H 'Content-Type: application/json' -d "$6"}
	if [ "$code" = "$status" ] && [[ $body =~ $regex ]]; then
		pass "$what"
	else
		fail "$what" "$4 $5: $code $body; wanted $status and $regex"
	fi
}
get() { # JQ-FILTER of the last body
	jq -r "$1" <<<"$body"
}
create() { # [JSON]: $sb
	call POST '' -H 'Content-Type: application/json' -d "${1:-{\}}"
	sb=$(get .sandboxID)
	[ "$code" = 201 ] || diag "create: $code $body"
}
run() { # SANDBOX SHELL-COMMAND: its output; $? is its exit code
	api POST "/api/sandboxes/$1/exec/run" "$(jq -n --arg c "$2" '{cmd: "sh", args: ["-c", $c], timeout: 60}')" >"$T/run"
	jq -j .stdout "$T/run"
	jq -j '.stderr // .error' "$T/run" >&2
	return "$(jq -r '.exitCode // 255' "$T/run")"
}
checkpoint() { # SANDBOX NAME [MORE-JSON]: $cp
	call POST "/$1/checkpoints" -d "{\"name\":\"$2\"${3:-}}"
	cp=$(get .id)
}
# What a sandbox of ours leaves on the host: processes, mounts, cgroups, directories.
left_of() { # SANDBOX
	grep -l "varve-$1" /proc/[0-9]*/cgroup 2>/dev/null
	awk -v id="/$1/" 'index($2, id) { print "mount " $2 }' /proc/self/mounts
	find /sys/fs/cgroup -name "*$1*" 2>/dev/null
	find "$STATE/sandboxes" "$STATE/run" -xdev -name "*$1*" 2>/dev/null
}
nothing_left_of() {
	local left i
	for ((i = 0; i < 50; i++)); do
		left=$(left_of "$1")
		[ -n "$left" ] || return 0
		pause 0.1
	done
	echo "$left"
	return 1
}

start_daemon

# --- making one ---
reply 'no template: 422, and how to make it' 422 'varve template build debian-12' POST '' '{}'
ok 'the template is imported' varve import ubuntu-22.04 tar "$ROOT_TAR"
reply 'no sandbox at first' 200 '^\[\]' GET ''
create '{"templateID":"base","timeout":0,"envs":{"WHO":"me","EMPTY":""},"metadata":{"a":"b","n":{"x":1}},
	"memoryMB":256,"cpuCount":1,"diskMB":512,"cache":"shared","burst":true,"sandboxFamily":"x"}'
is 'a sandbox of the template' "$code" 201
ok '... as it was asked for' jq -e '(.sandboxID | test("^sb-[0-9a-f]{16}$")) and .status == "running"
	and .templateID == "base" and .snapshot == "ubuntu-22.04" and .timeout == 0 and .endAt == null
	and .memoryMB == 256 and .cpuCount == 1 and .diskMB == 512 and .cache == "shared" and .metadata == {a: "b", n: {x: 1}}
	and (.startedAt | test("Z$")) and (has("envs") | not) and (.mountID | length) == 36' "$T/body"
is '... from the snapshot that it names' "$(get .fromCheckpointId)" "$(varve --json show ubuntu-22.04 | field .id)"
one=$sb
is '... and its mount' "$(api GET "/api/mounts/$(get .mountID)" | field .cache)" shared
like 'its mount cannot be taken from under it' "$(api DELETE "/api/mounts/$(get .mountID)?lazy=1")" "is a sandbox's"
reply 'it can be asked for' 200 "$one" GET "/$one"
reply '... is in the list' 200 "$one" GET ''
create '{"snapshot":"ubuntu-22.04"}'
is 'a sandbox of a snapshot' "$code" 201
two=$sb
is 'the list is newest first' "$(api GET /api/sandboxes | jq -c '[.[].sandboxID]')" "[\"$two\",\"$one\"]"
call POST '' -H 'Accept: text/event-stream' -d '{"snapshot":"ubuntu-22.04"}'
like 'as events: a result' "$body" '^event: result'
three=$(sed -n 's/^data: //p' "$T/body" | field .sandboxID)
ok '... of a sandbox that runs' run "$three" true
create '{"snapshot":"ubuntu-22.04","fromTheNextVersion":{"a":1},"another":null}'
is 'members that are not known are left out' "$code" 201
like '... and logged' "$(tail -n 20 "$T/daemon.log")" 'ignored member "fromTheNextVersion" and others'
api DELETE "/api/sandboxes/$sb"
reply 'a fork takes no image' 400 'a fork has no' POST '/from-checkpoint/x' '{"snapshot":"ubuntu-22.04"}'
reply 'a snapshot that is not there' 404 nothere POST '' '{"snapshot":"nothere"}'
reply 'a template that is not there' 404 nothere POST '' '{"templateID":"nothere"}'
for json in '{"snapshot":1}' '{"timeout":-1}' '{"memoryMB":1}' '{"cpuCount":"2"}' \
	'{"envs":{"A":1}}' '{"envs":{"A=B":"1"}}' '{"envs":[]}' '{"metadata":"x"}' \
	'{"image":{"base":"base","steps":[]},"snapshot":"ubuntu-22.04"}' '{"image":{"base":"base"}}' \
	'{"secretStore":"s"}' '{"webhooks":[{"url":"x"}]}' '{"previewAuth":{"scheme":"bearer"}}' '[]' '{'; do
	reply "400: $json" 400 error POST '' "$json"
done
reply 'an unknown sandbox is 404' 404 sb-0000000000000000 GET /sb-0000000000000000
reply '... to delete' 404 error DELETE /sb-0000000000000000
reply '... to run in' 404 error POST /sb-0000000000000000/exec/run '{"cmd":"true"}'
reply '... to write to' 404 error PUT '/sb-0000000000000000/files?path=/x' x
reply '... to make a checkpoint of' 404 error POST /sb-0000000000000000/checkpoints '{"name":"x"}'
reply '... to list checkpoints of' 404 error GET /sb-0000000000000000/checkpoints

# --- running ---
body=$(api POST "/api/sandboxes/$one/exec/run" '{"cmd":"sh","args":["-c","echo out; echo err >&2; exit 7"]}')
is 'exit code and both streams' "$body" '{"exitCode":7,"stdout":"out\n","stderr":"err\n"}'
is "the sandbox's environment" "$(run "$one" 'echo "$WHO,$EMPTY,$HOME,$LANG"')" 'me,,/root,C.UTF-8'
body=$(api POST "/api/sandboxes/$one/exec/run" '{"cmd":"sh","args":["-c","echo $WHO $X; pwd"],"envs":{"WHO":"you","X":"1"},"cwd":"/usr/bin"}')
is "the program's own environment and directory" "$(get .stdout)" $'you 1\n/usr/bin'
body=$(api POST "/api/sandboxes/$one/exec/run" '{"cmd":"printf","args":["%s|","a b","$X","*","\u00e4"]}')
is 'arguments are not split' "$(get .stdout)" 'a b|$X|*|ä|'
body=$(api POST "/api/sandboxes/$one/exec/run" '{"cmd":"nothere","args":["x"]}')
is 'a missing program: 127' "$(get .exitCode)" 127
like '... and why' "$(get .stderr)" 'varve: .*nothere.*No such file'
body=$(api POST "/api/sandboxes/$one/exec/run" '{"cmd":"/etc/passwd"}')
is 'what is no program: 126' "$(get .exitCode)" 126
body=$(api POST "/api/sandboxes/$one/exec/run" '{"cmd":"true","cwd":"/nothere"}')
like 'a missing directory says so' "$(get .stderr)" '/nothere'
from=$(date +%s%N)
body=$(api POST "/api/sandboxes/$one/exec/run" '{"cmd":"sh","args":["-c","echo begun; sleep 100 & sleep 100"],"timeout":0.7}')
at_most 'a timeout ends it' $((($(date +%s%N) - from) / 1000000)) 5000
is '... with 124' "$(get .exitCode)" 124
is '... and what it had said' "$(get .stdout)" begun
like '... and a note' "$(get .stderr)" 'varve: killed after its 0.7 s'
is '... and nothing of it runs on' "$(run "$one" 'cat /proc/[0-9]*/comm | grep -c sleep')" 0
body=$(api POST "/api/sandboxes/$one/exec/run" '{"cmd":"sh","args":["-c","kill -9 $$"]}')
is 'a signal: 128 and its number' "$(get .exitCode)" 137
body=$(api POST "/api/sandboxes/$one/exec/run" '{"cmd":"printf","args":["a\\377b\\000c\\303\\244"]}')
is 'what is not UTF-8 becomes U+FFFD' "$(get '.stdout | explode | map(tostring) | join(",")')" 97,65533,98,0,99,228
api POST "/api/sandboxes/$one/exec/run" '{"cmd":"sh","args":["-c","head -c 17000000 /dev/zero | tr \"\\0\" x; echo end >&2"]}' >"$T/big"
is 'output is kept up to 16 MiB' "$(jq -r '.stdout | length' "$T/big")" \
	$(((16 << 20) + $(printf '\nvarve: output cut after 16777216 bytes\n' | wc -c)))
is '... and the rest of it is dropped, not blocked' "$(jq -r '"\(.stderr) \(.truncated)"' "$T/big")" $'end\n true'
grown() { # COMMAND...: MiB that the daemon's peak of memory grows by meanwhile
	echo 5 >"/proc/$DAEMON/clear_refs"
	local rss
	rss=$(awk '/VmRSS/ { print $2 }' "/proc/$DAEMON/status")
	"$@"
	awk -v rss="$rss" '/VmHWM/ { print int(($2 - rss) / 1024) }' "/proc/$DAEMON/status"
}
at_most 'control characters do not multiply in memory' "$(grown curl -sS --unix-socket "$SOCK" -o "$T/big" \
	-H 'Content-Type: application/json' "http://localhost/api/sandboxes/$one/exec/run" \
	-d '{"cmd":"sh","args":["-c","head -c 16777216 /dev/zero"]}')" 80
is '... and all come' "$(jq -r '.stdout | length' "$T/big")" 16777216
for json in '{}' '{"cmd":""}' '{"cmd":["x"]}' '{"cmd":"x","args":"y"}' '{"cmd":"x","args":[1]}' '{"cmd":"x","cwd":"y"}' \
	'{"cmd":"x","timeout":-1}' '{"cmd":"x","envs":{"":"1"}}' '{"cmd":"x","nonsense":1}'; do
	reply "exec 400: $json" 400 error POST "/$one/exec/run" "$json"
done

call POST "/$one/exec/run" -H 'Accept: text/event-stream' -d '{"cmd":"sh","args":["-c","echo out; sleep 0.2; echo err >&2; exit 3"]}'
is 'output as events, as it comes' "$(sed -n 's/^data: //p' <<<"$body" | jq -c .)" \
	$'{"stream":"stdout","data":"out\\n"}\n{"stream":"stderr","data":"err\\n"}\n{"exitCode":3,"stdout":"","stderr":""}'

async=$(api POST "/api/sandboxes/$one/exec/run-async" '{"cmd":"sh","args":["-c","until [ -e /tmp/go ]; do sleep 0.1; done; echo done; exit 4"]}' | field .execId)
reply 'asynchronous: it runs' 200 '"running":true' GET "/$one/exec/$async/result"
exec_ended() { [[ $(api GET "/api/sandboxes/$1/exec/$2/result") == *'"running":false'* ]]; } # SANDBOX EXEC
run "$one" ': >/tmp/go'
until_true 20 exec_ended "$one" "$async"
is '... and its result is kept' "$(api GET "/api/sandboxes/$one/exec/$async/result" | jq -cS .)" \
	'{"exitCode":4,"running":false,"stderr":"","stdout":"done\n"}'
is '... also the second time' "$(api GET "/api/sandboxes/$one/exec/$async/result" | field .exitCode)" 4
reply 'an unknown exec is 404' 404 error GET "/$one/exec/nothere/result"
reply "another sandbox's exec too" 404 error GET "/$two/exec/$async/result"
quick=$(api POST "/api/sandboxes/$one/exec/run-async" '{"cmd":"true"}' | field .execId)
is 'what ends soon is waited for' "$(api GET "/api/sandboxes/$one/exec/$quick/result" | field .running)" false
miss=$(api POST "/api/sandboxes/$one/exec/run-async" '{"cmd":"nothere"}' | field .execId)
is 'a missing program: 127 as well' "$(api GET "/api/sandboxes/$one/exec/$miss/result" | field .exitCode)" 127
many=() sum=0
for i in $(seq 20); do
	many+=("$(api POST "/api/sandboxes/$one/exec/run-async" "{\"cmd\":\"sh\",\"args\":[\"-c\",\"sleep 0.3; echo $i\"]}" | field .execId)")
done
for e in "${many[@]}"; do
	until_true 20 exec_ended "$one" "$e"
	sum=$((sum + $(api GET "/api/sandboxes/$one/exec/$e/result" | field .stdout)))
done
is 'twenty at a time' $sum 210

# --- files ---
head -c 300000 /dev/urandom >"$T/bin"
put() { # SANDBOX PATH FILE
	uri "$2" && call PUT "/$1/files?path=$REPLY" -T "$3"
}
fetch() { # SANDBOX PATH
	uri "$2" && call GET "/$1/files?path=$REPLY"
}
put "$one" '/srv/new dir/ä b' "$T/bin"
is 'a file is written, with its directories' "$code" 204
fetch "$one" '/srv/new dir/ä b'
is '... and read' "$code" 200
ok '... byte for byte' cmp "$T/body" "$T/bin"
is '... and is there inside' "$(run "$one" 'sha256sum <"/srv/new dir/ä b"')" "$(sha256sum <"$T/bin")"
: >"$T/nothing"
put "$one" /srv/empty "$T/nothing"
fetch "$one" /srv/empty
is 'an empty file' "$code $(stat -c %s "$T/body")" '200 0'
curl -sS --unix-socket "$SOCK" -X PUT -d 'short' "http://x/api/sandboxes/$one/files?path=/srv/short" -o /dev/null
is 'a body of a form' "$(run "$one" 'cat /srv/short')" short
run "$one" 'chmod 600 /srv/short'
printf 'new' >"$T/new"
put "$one" /srv/short "$T/new"
is 'what is replaced keeps its mode' "$(run "$one" 'stat -c %a /srv/short; cat /srv/short')" $'600\nnew'
reply 'a missing file is 404' 404 '/nothere' GET "/$one/files?path=/nothere"
reply 'a relative path is 400' 400 absolute GET "/$one/files?path=etc/passwd"
reply 'no path is 400' 400 path GET "/$one/files"
reply 'a directory is 409' 409 'directory' GET "/$one/files?path=/etc"
reply 'writing to a directory is 409' 409 'directory' PUT "/$one/files?path=/etc" x
reply 'below a file is 400' 400 error PUT "/$one/files?path=/etc/passwd/x" x
reply 'a directory is made' 204 '' POST "/$one/files/mkdir?path=/srv/x/y/z"
reply '... also when it is there' 204 '' POST "/$one/files/mkdir?path=/srv/x/y/z"
reply 'a list' 200 '^\[.*"path":"/srv/x"' GET "/$one/files/list?path=/srv"
ok '... of names, paths, kinds and sizes' jq -e 'map(select(.name == "short")) == [{name: "short",
	path: "/srv/short", isDir: false, size: 3}] and (map(select(.isDir)) | length) == 2' "$T/body"
reply 'a list of the root' 200 '"path":"/etc"' GET "/$one/files/list?path=/"
reply 'a list of nothing is 404' 404 error GET "/$one/files/list?path=/nothere"
reply 'a list of a file is 400' 400 error GET "/$one/files/list?path=/etc/passwd"
reply 'a file is removed' 204 '' DELETE "/$one/files?path=/srv/short"
ok 'who has changed it is in the log' grep -qE "DELETE by uid 0, .*: 204 /api/sandboxes/$one/files path=/srv/short$" "$T/daemon.log"
reply '... and again, as what is not there' 204 '' DELETE "/$one/files?path=/srv/short"
reply '... but not of a sandbox that is not' 404 error DELETE '/sb-0000000000000000/files?path=/srv/short'
reply 'a directory is removed with all in it' 204 '' DELETE "/$one/files?path=/srv/x"
run "$one" 'mkdir -p /srv/n; i=0; while [ $i -lt 1000 ]; do : >/srv/n/file$i; i=$((i+1)); done'
is 'a list of a thousand' "$(api GET "/api/sandboxes/$one/files/list?path=/srv/n" | jq length)" 1000
ok '... in pages' pages_agree "/api/sandboxes/$one/files/list?path=/srv/n" 300 .name

# Nothing leads out.
echo 'secret of the host' >"$T/secret"
run "$one" "ln -s $T/secret /srv/out; ln -s ../../../../../../../../..$T/secret /srv/up; ln -s / /srv/root; ln -s /proc/1/root /srv/proc
	ln -s /etc/shadow /srv/shadow; ln -s loop /srv/loop"
reply 'a symlink to a file of the host' 404 error GET "/$one/files?path=/srv/out"
reply '... with ..' 404 error GET "/$one/files?path=/srv/up"
reply '... in the path itself' 404 error GET "/$one/files?path=/../../../../..$T/secret"
reply '... by the root' 404 error GET "/$one/files?path=/srv/root$T/secret"
reply '... by /proc: the first process lets nobody in' 403 error GET "/$one/files?path=/srv/proc$T/secret"
reply 'a loop is 400' 400 error GET "/$one/files?path=/srv/loop"
fetch "$one" /srv/shadow
is '/etc/shadow is its own' "$(sha256sum <"$T/body")" "$(run "$one" 'sha256sum </etc/shadow')"
call PUT "/$one/files?path=/srv/root$T/made" -d x
ok 'a write by the root stays inside' [ ! -e "$T/made" ]
call PUT "/$one/files?path=/srv/out" -d overwritten
is 'a write by a symlink too' "$(cat "$T/secret")" 'secret of the host'
call DELETE "/$one/files?path=/srv/root$T"
ok 'a removal too' [ -e "$T/secret" ]

# Large ones go through with bounded memory.
head -c 104857600 /dev/urandom >"$T/large"
rss() { awk '/VmRSS/ { print $2 }' "/proc/$DAEMON/status"; }
peak=0
watch_rss() {
	local now
	while kill -0 "$1" 2>/dev/null; do
		now=$(rss)
		[ "$now" -le "$peak" ] || peak=$now
		pause 0.05
	done
}
create '{"snapshot":"ubuntu-22.04","diskMB":300}'
four=$sb
before=$(rss)
curl -sS --unix-socket "$SOCK" -T "$T/large" "http://x/api/sandboxes/$four/files?path=/srv/large" &
watch_rss $!
ok '100 MB are written' wait $!
curl -sS --unix-socket "$SOCK" "http://x/api/sandboxes/$four/files?path=/srv/large" -o "$T/large.back" &
watch_rss $!
ok '100 MB are read' wait $!
ok '... the same' cmp "$T/large" "$T/large.back"
diag "resident: $before kB before, $peak kB at most"
ok 'memory stays bounded' [ $((peak - before)) -lt 81920 ]
curl -sS --unix-socket "$SOCK" -H 'Transfer-Encoding: chunked' -T - "http://x/api/sandboxes/$four/files?path=/srv/chunked" \
	<"$T/bin" -o /dev/null
is 'a body in chunks' "$(run "$four" 'sha256sum </srv/chunked')" "$(sha256sum <"$T/bin")"
# One that is broken off changes nothing and leaves nothing.
run "$four" 'echo before >/srv/keep'
timeout 1 curl -sS --unix-socket "$SOCK" --limit-rate 1M -T "$T/large" "http://x/api/sandboxes/$four/files?path=/srv/keep" \
	>/dev/null 2>&1
nothing_unfinished() { [[ $(run "$four" 'ls -A /srv') != *.varve-* ]]; }
until_true 20 nothing_unfinished
is 'an upload that is broken off leaves the file alone' "$(run "$four" 'cat /srv/keep; ls -A /srv')" \
	$'before\nchunked\nkeep\nlarge'
# A quota.
head -c 104857600 /dev/urandom >"$T/large"
put "$four" /srv/large2 "$T/large"
put "$four" /srv/large3 "$T/large"
is 'beyond diskMB: 507' "$code" 507
rm -f "$T/large" "$T/large.back"
# A client that stops reading does not keep the sandbox, neither from a file nor from a program.
curl -sS --unix-socket "$SOCK" --limit-rate 1k -N "http://x/api/sandboxes/$four/files?path=/srv/large" -o /dev/null 2>/dev/null &
slow=$!
curl -sS --unix-socket "$SOCK" --limit-rate 1k -N -H 'Accept: text/event-stream' -d '{"cmd":"yes"}' \
	"http://x/api/sandboxes/$four/exec/run" -o /dev/null 2>/dev/null &
slow="$slow $!"
for pid in $slow; do until_true 10 has_written "$pid" 1; done
at_most 'a slow reader does not keep a sandbox alive' "$(millis api DELETE "/api/sandboxes/$four")" 3000
# shellcheck disable=SC2086 # two of them
kill $slow 2>/dev/null
ok '... and nothing of it is left' nothing_left_of "$four"

# --- limits ---
body=$(api POST "/api/sandboxes/$one/exec/run" '{"cmd":"python3","args":["-c","x = bytearray(600 << 20); print(len(x))"]}')
is 'a program that wants too much memory is killed' "$(get .exitCode)" 137
like '... and it is said' "$(get .stderr)" 'want of memory'
is '... the sandbox runs on' "$(run "$one" 'echo on')" on
create '{}'
out=$(run "$sb" 'i=0; while [ $i -lt 6000 ]; do sleep 30 & i=$((i+1)); done 2>/dev/null; echo $i' 2>/dev/null)
n=$(find /sys/fs/cgroup -path "*$sb*" -name pids.current -exec cat {} + | sort -n | tail -n 1)
ok 'processes are limited' [ "${n:-0}" -le 4096 ]
diag "after a bomb: ${n:-?} processes, said '$out'"
call DELETE "/$sb"
is '... and it can be killed' "$code" 204
ok '... with all of them' nothing_left_of "$sb"
is 'cpuCount is a limit' "$(find /sys/fs/cgroup -path "*$one*" \( -name cpu.max -o -name cpu.cfs_quota_us \) -exec cat {} + |
	awk '{ print $1 }' | grep -vx max | sort -u)" 100000

# --- checkpoints ---
checkpoint "$two" untouched
is 'one of a sandbox that has changed nothing is the same tree' "$(root_of "$cp")" "$(root_of ubuntu-22.04)"
call DELETE "/$two/checkpoints/$cp"
run "$two" 'mkdir /srv/cp; echo 1 >/srv/cp/n'
checkpoint "$two" first
is 'a checkpoint' "$code" 201
ok '... tells how long programs stood still' jq -e '.frozenUs > 0 and .pauseUs > 0' "$T/body"
ok '... as the mount does' jq -e --argjson us "$(jq .frozenUs "$T/body")" 'any(.lastFrozenUs == $us)' \
	<(api GET /api/mounts)
ok '... as an object' jq -e --arg sb "$two" '.sandboxId == $sb and .name == "first" and (.status == "processing" or
	.status == "ready") and (.createdAt | test("Z$")) and (.id | length) == 36' "$T/body"
first=$cp
reply 'a taken name is 409' 409 first POST "/$two/checkpoints" '{"name":"first"}'
checkpoint "$one" first
is '... but not in another sandbox' "$code" 201
for json in '{}' '{"name":""}' '{"name":"x","kind":"full"}' '{"name":"x","promoteToFull":true}' \
	'{"name":"x","retentionPolicy":{"mode":"x"}}' '{"name":"x","retentionPolicy":{"mode":"delete_oldest","maxCount":0}}'; do
	reply "checkpoint 400: $json" 400 error POST "/$two/checkpoints" "$json"
done
run "$two" 'echo 2 >/srv/cp/n; echo more >/srv/cp/more'
checkpoint "$two" second ',"kind":"disk_only"'
second=$cp
for ((i = 0; i < 100; i++)); do
	[ "$(api GET "/api/sandboxes/$two/checkpoints" | field '[.[] | select(.status != "ready")] | length')" != 0 ] || break
	pause 0.1
done
is 'both are listed and become ready' "$(api GET "/api/sandboxes/$two/checkpoints" | jq -c '[.[] | [.name, .status, .sizeBytes > 1000000]]')" \
	'[["first","ready",true],["second","ready",true]]'
running=$(api POST "/api/sandboxes/$two/exec/run-async" '{"cmd":"sleep","args":["1000"]}' | field .execId)
reply 'restore in place' 200 "$two.*running|running.*$two" POST "/$two/checkpoints/$first/restore" '{}'
is '... it is named as the origin' "$(get .fromCheckpointId)" "$first"
is '... the files are those of then' "$(run "$two" 'cat /srv/cp/n; ls /srv/cp')" $'1\nn'
like '... what ran has been stopped, and says so' "$(api GET "/api/sandboxes/$two/exec/$running/result" | field .error)" stopped
call POST "/$two/checkpoints/$second/restore"
is 'and to the later one again' "$(run "$two" 'cat /srv/cp/n /srv/cp/more')" $'2\nmore'
reply "another sandbox's checkpoint is 404" 404 error POST "/$one/checkpoints/$first/restore"
reply 'an unknown one too' 404 error POST "/$two/checkpoints/nothere/restore"
is 'one mount each is all there is' "$(grep -c " $STATE/sandboxes/" /proc/self/mounts)" "$(api GET /api/sandboxes | jq length)"

reply 'a fork' 201 running POST "/from-checkpoint/$first" '{"envs":{"X":"fork"},"timeout":600}'
fork=$(get .sandboxID)
is '... has the files of its checkpoint' "$(run "$fork" 'cat /srv/cp/n; echo $X')" $'1\nfork'
ok '... and a timeout' jq -e '.timeout == 600 and .endAt != null' "$T/body"
call POST "/from-checkpoint/$(api GET "/api/sandboxes/$one/checkpoints" | field '.[0].id')" -d '{"envs":{"EMPTY":"no"}}'
is 'a fork has what its origin had' "$(get .memoryMB)/$(get .cpuCount) $(run "$(get .sandboxID)" 'echo $WHO,$EMPTY')" '256/1 me,no'
call DELETE "/$(get .sandboxID)"
reply 'of no checkpoint: 404' 404 error POST /from-checkpoint/nothere '{}'
call POST "/from-checkpoint/$(varve --json show ubuntu-22.04 | field .id)" -d '{}'
is 'of any snapshot, by its id' "$code" 201
call DELETE "/$(get .sandboxID)"
reply 'a checkpoint is deleted' 204 '' DELETE "/$two/checkpoints/$first"
reply '... once' 404 error DELETE "/$two/checkpoints/$first"
ok '... gc takes what is nobody'\''s' varve gc
is '... and what was made from it lives on' "$(run "$fork" 'cat /srv/cp/n; ls /usr | wc -l' | head -n 1)" 1
reply '... but no other can be made' 404 error POST "/from-checkpoint/$first" '{}'
for i in 1 2 3 4 5; do
	run "$two" "echo $i >/srv/kept"
	checkpoint "$two" "keep $i" ',"retentionPolicy":{"mode":"delete_oldest","maxCount":3}'
done
is 'of the oldest only so many are kept' "$(api GET "/api/sandboxes/$two/checkpoints" | jq -c '[.[].name]')" \
	'["keep 3","keep 4","keep 5"]'
last=$cp
# Frozen for the swap only: a clock inside never stops for long.
run "$two" 'cat >/srv/tick.py <<END
import time
worst, last, end = 0, time.monotonic(), time.monotonic() + 3
while time.monotonic() < end:
    open("/srv/t", "w").write("x" * 1000)
    now = time.monotonic()
    worst, last = max(worst, now - last), now
print(int(worst * 1000))
END'
tick=$(api POST "/api/sandboxes/$two/exec/run-async" '{"cmd":"python3","args":["/srv/tick.py"]}' | field .execId)
for i in 1 2 3; do
	pause 0.6
	checkpoint "$two" "while $i"
done
until_true 20 exec_ended "$two" "$tick"
at_most 'a checkpoint hardly stops it' "$(api GET "/api/sandboxes/$two/exec/$tick/result" | field .stdout)" 1000
call DELETE "/$two"
ok 'checkpoints come in pages' pages_agree "/api/sandboxes/$two/checkpoints" 4
is 'checkpoints outlive their sandbox' "$(api GET "/api/sandboxes/$two/checkpoints" | jq length)" 6
call POST "/from-checkpoint/$last" -d '{}'
is '... and can be used' "$(run "$(get .sandboxID)" 'cat /srv/kept')" 5
call DELETE "/$(get .sandboxID)"
for id in $(api GET "/api/sandboxes/$two/checkpoints" | field '.[].id'); do
	call DELETE "/$two/checkpoints/$id"
done
reply '... until they are deleted' 404 error GET "/$two/checkpoints"

# --- patches ---
checkpoint "$one" patched
reply 'a patch' 201 '"patch"' POST "/checkpoints/$cp/patches" '{"script":"echo 1 >>/srv/patched; echo $WHO >>/srv/patched","description":"the first"}'
ok '... as an object' jq -e --arg cp "$cp" '.patch | .checkpointId == $cp and .sequence == 1 and .description == "the first"
	and (.script | test("patched")) and .strategy == "on_create" and (.createdAt | test("Z$"))' "$T/body"
reply 'a second' 201 '"sequence":2' POST "/checkpoints/$cp/patches" '{"script":"by=(bash 2); echo ${by[1]} >>/srv/patched","description":""}'
reply 'listed in order' 200 'the first.*"sequence":2|"sequence":1.*"sequence":2' GET "/checkpoints/$cp/patches"
reply 'of no checkpoint: 404' 404 error POST /checkpoints/nothere/patches '{"script":"x"}'
reply '... listed: 404' 404 error GET /checkpoints/nothere/patches
reply 'without a script: 400' 400 script POST "/checkpoints/$cp/patches" '{"description":"x"}'
call POST "/from-checkpoint/$cp" -d '{"envs":{"WHO":"fork"}}'
is 'they are run, in order' "$(run "$(get .sandboxID)" 'cat /srv/patched')" $'1\nfork\n2'
call DELETE "/$(get .sandboxID)"
call POST "/checkpoints/$cp/patches" -d '{"script":"echo broken here >&2; exit 9","description":"bad one"}'
bad=$(get .patch.id)
call POST "/checkpoints/$cp/patches" -d '{"script":"touch /srv/never"}'
before=$(api GET /api/sandboxes | jq length)
reply 'one that fails: 422, which one and what it said' 422 'patch 3.*bad one.*exit code 9.*broken here' POST "/from-checkpoint/$cp" '{}'
is '... and no sandbox' "$(api GET /api/sandboxes | jq length)" "$before"
is '... nor a mount' "$(grep -c " $STATE/sandboxes/" /proc/self/mounts)" "$before"
reply 'a patch is deleted' 204 '' DELETE "/checkpoints/$cp/patches/$bad"
reply '... once' 404 error DELETE "/checkpoints/$cp/patches/$bad"
call POST "/from-checkpoint/$cp" -d '{}'
is '... and the next ones run again' "$code $(run "$(get .sandboxID)" 'ls /srv/never')" '201 /srv/never'
call DELETE "/$(get .sandboxID)"

# --- twenty at once ---
from=$(date +%s%N)
for i in $(seq 20); do
	api POST /api/sandboxes '{"memoryMB":128}' >"$T/at.$i" &
	pids[i]=$!
done
wait "${pids[@]}"
at_most 'twenty created at once' $((($(date +%s%N) - from) / 1000000)) 20000
is '... all run' "$(cat "$T"/at.* | jq -rs '[.[] | select(.status == "running")] | length')" 20
is '... each its own' "$(cat "$T"/at.* | jq -rs '[.[].sandboxID] | unique | length')" 20
ids=$(cat "$T"/at.* | jq -r .sandboxID)
n=0
for id in $ids; do
	[ "$(run "$id" 'echo $HOSTNAME >/srv/me; hostname')" = "$id" ] && n=$((n + 1))
done
is '... and each runs programs' $n 20
for id in $ids; do
	api DELETE "/api/sandboxes/$id" >/dev/null &
	pids[${#pids[@]}]=$!
done
wait "${pids[@]}"
n=0
for id in $ids; do
	nothing_left_of "$id" >/dev/null || n=$((n + 1))
done
is '... nothing is left of them' $n 0

# --- timeouts and death ---
limit=$((3 * SLOW))
create "{\"timeout\":$limit}"
idle=$sb
reply 'a timeout is set' 204 '' POST "/$fork/timeout" '{"timeout":0}'
is '... and told' "$(api GET "/api/sandboxes/$fork" | jq -c '[.timeout, .endAt]')" '[0,null]'
reply 'a bad one is 400' 400 error POST "/$fork/timeout" '{"timeout":"x"}'
reply 'of nobody: 404' 404 error POST /sb-0000000000000000/timeout '{"timeout":1}'
for ((i = 0; i < limit + 2; i++)); do
	sleep 1 # all in all longer than the timeout
	run "$idle" true
done
is 'one that is used stays' "$?" 0
api POST "/api/sandboxes/$idle/exec/run-async" "{\"cmd\":\"sleep\",\"args\":[\"$((2 * limit))\"]}" >/dev/null
sleep $((limit + limit / 2)) # in which it would be stopped
ok 'one whose program runs stays' curl -fsS -o /dev/null --unix-socket "$SOCK" "http://x/api/sandboxes/$idle"
run "$idle" 'echo kept >/srv/kept'
until_stopped() { # SANDBOX; listing it is no use of it
	local i
	for ((i = 0; i < 80 * SLOW; i++)); do
		api GET /api/sandboxes | jq -e --arg id "$1" 'any(.[]; .sandboxID == $id and .status == "stopped")' >/dev/null && return
		pause 0.25
	done
	return 1
}
ok 'one that is idle is stopped' until_stopped "$idle"
reply '... and says why, and when it goes' 200 '"reason":"it was not used.*"removeAt":"20' GET "/$idle"
is '... without a container or a mount' "$(find /sys/fs/cgroup -type d -name "varve-$idle"; grep "$idle" /proc/mounts)" ''
checkpoint "$idle" asleep
ok 'a checkpoint does not start it' until_stopped "$idle"
mount=$(api GET /api/mounts | jq -c --arg place "/sandboxes/$idle/" '.[] | select(.mountpoint + "/" | contains($place))')
for limits in '{"quotaBytes":0}' '{"allowSuid":true}' "{\"mountpoint\":\"$T/bin\"}"; do
	is "its mount is not anybody's: $limits" "$(api POST "/api/mounts/$(jq -r .id <<<"$mount")/attach" "$limits" |
		jq -r .error | grep -o "a sandbox's")" "a sandbox's"
done
reply 'a program does' 200 kept POST "/$idle/exec/run" '{"cmd":"cat","args":["/srv/kept"]}'
is '... so it runs' "$(api GET "/api/sandboxes/$idle" | jq -c '[.status, .reason, .removeAt]')" '["running",null,null]'
is '... with the limits that it had' "$(api GET "/api/mounts/$(jq -r .id <<<"$mount")" | jq -c '[.quotaBytes, .allowSuid]')" \
	"$(jq -c '[.quotaBytes, .allowSuid]' <<<"$mount")"
until_stopped "$idle"
is 'a file is read of one that is stopped' "$(curl -fsS --unix-socket "$SOCK" "http://x/api/sandboxes/$idle/files?path=/srv/kept")" kept
until_stopped "$idle"
pids=()
for ((i = 0; i < 8; i++)); do
	run "$idle" "echo $i >>/srv/many" & pids+=($!)
done
wait "${pids[@]}"
is 'many calls start it once' "$(run "$idle" 'sort -n /srv/many | tr -d "\n"')" 01234567
until_stopped "$idle"
reply 'one that is stopped is restored' 200 '"status":"running"' POST "/$idle/checkpoints/$cp/restore"
is '... to what it was' "$(run "$idle" 'cat /srv/kept; ls /srv/many 2>&1 | grep -c cannot')" $'kept\n1'
until_stopped "$idle"
reply 'or killed' 204 '' DELETE "/$idle"
ok '... with all of it' nothing_left_of "$idle"

create '{}'
run "$sb" 'echo kept >/srv/kept'
checkpoint "$sb" alive
init=$(grep -l "varve-$sb" /proc/[0-9]*/cgroup | cut -d/ -f3 | sort -n | while read -r p; do
	[ "$(awk '/^NSpid/ { print $NF }' "/proc/$p/status")" = 1 ] && echo "$p"
done | head -n 1)
ok 'its first process is there' [ -n "$init" ]
kill -9 "$init"
is_stopped() { [ "$(api GET "/api/sandboxes/$sb" | field .status)" != running ]; }
until_true 10 is_stopped
reply 'when that is killed, it is stopped, and why' 200 '"status":"stopped".*first process|first process.*"status":"stopped"' GET "/$sb"
sleep 1.5 # another look at it by the daemon
reply '... later too, with the time' 200 '"endAt":"20' GET "/$sb"
reply 'nothing runs in it: 409' 409 'stopped' POST "/$sb/exec/run" '{"cmd":"true"}'
reply '... not asynchronously either' 409 'stopped' POST "/$sb/exec/run-async" '{"cmd":"true"}'
reply '... no file is read' 409 'stopped' GET "/$sb/files?path=/etc/passwd"
reply 'it can be restored' 200 '"status":"running"' POST "/$sb/checkpoints/$cp/restore"
is '... and runs again' "$(run "$sb" 'cat /srv/kept')" kept
kill -9 "$(grep -l "varve-$sb" /proc/[0-9]*/cgroup | cut -d/ -f3 | sort -n | while read -r p; do
	[ "$(awk '/^NSpid/ { print $NF }' "/proc/$p/status")" = 1 ] && echo "$p"
done | head -n 1)"
until_true 10 is_stopped
reply 'or killed' 204 '' DELETE "/$sb"
ok '... with all of it' nothing_left_of "$sb"

# --- an image's config ---
# The template with another config: an OCI layout is edited by hand.
ok 'the template is exported' varve export ubuntu-22.04 oci "$T/oci"
blob() { # DIGEST: its file
	printf '%s/oci/blobs/sha256/%s\n' "$T" "${1#sha256:}"
}
store_blob() { # FILE: moves it to its place; prints digest and size
	local digest
	digest=$(sha256sum <"$1" | cut -d' ' -f1)
	stat -c "$digest %s" "$1"
	mv "$1" "$(blob "$digest")"
}
manifest=$(blob "$(jq -r '.manifests[0].digest' "$T/oci/index.json")")
config=$(blob "$(jq -r .config.digest "$manifest")")
jq '.config += {Env: ["PATH=/opt/bin:/usr/bin:/bin", "WHERE=image", "WHO=image"], WorkingDir: "/usr/share", User: "games:games"}' \
	"$config" >"$T/config"
read -r digest size < <(store_blob "$T/config")
jq --arg d "sha256:$digest" --argjson s "$size" '.config.digest = $d | .config.size = $s' "$manifest" >"$T/manifest"
read -r digest size < <(store_blob "$T/manifest")
jq --arg d "sha256:$digest" --argjson s "$size" '.manifests[0].digest = $d | .manifests[0].size = $s' "$T/oci/index.json" \
	>"$T/index" && mv "$T/index" "$T/oci/index.json"
ok '... and imported with a config of its own' varve import configured oci "$T/oci"
rm -rf "$T/oci"
create '{"snapshot":"configured","envs":{"WHO":"sandbox"}}'
is "the image's environment, directory and user" "$(run "$sb" 'echo $WHERE $WHO $PATH; pwd; id -un; id -gn')" \
	$'image sandbox /opt/bin:/usr/bin:/bin\n/usr/share\ngames\ngames'
reply 'its user may not write everywhere: 403' 403 error PUT "/$sb/files?path=/etc/x" x
reply '... nor remove' 403 error DELETE "/$sb/files?path=/etc/passwd"
call PUT "/$sb/files?path=/tmp/x" -d mine
is '... and what it writes is its own' "$(run "$sb" 'stat -c %U /tmp/x')" games

# An image in the request: built once, with its log; then it is there.
image='{"base":"base","steps":[{"type":"env","args":{"vars":{"BUILT":"yes"}}},{"type":"workdir","args":{"path":"/opt/w"}},
	{"type":"run","args":{"commands":["echo building; echo $BUILT >built"]}}]}'
call POST '' -H 'Accept: text/event-stream' -d "{\"image\":$image}"
like 'an image is built, with its log' "$body" 'event: build_log.*building.*event: result'
sb=$(sed -n '/^event: result/{n;s/^data: //p}' "$T/body" | field .sandboxID)
is '... and the sandbox is made of it' "$(run "$sb" 'pwd; cat built; echo $BUILT')" $'/opt/w\nyes\nyes'
hash=$(api GET "/api/sandboxes/$sb" | field .contentHash)
create "{\"image\":$image}"
is 'the second time without a build' "$code $(get .contentHash)" "201 $hash"
is '... of the same snapshot' "$(get .fromCheckpointId)" "$(api GET /api/sandboxes | jq -r --arg id "$sb" '.[] | select(.sandboxID != $id and .contentHash != null) | .fromCheckpointId')"
reply 'one that cannot be built: 422, and which step' 422 'step 1' POST '' \
	'{"image":{"base":"base","steps":[{"type":"run","args":{"commands":["echo no >&2; exit 5"]}}]}}'
call POST '' -H 'Accept: text/event-stream' -d '{"image":{"base":"base","steps":[{"type":"run","args":{"commands":["exit 5"]}}]}}'
like '... as an event' "$body" 'event: error.*"step":1'

# --- metrics, the end ---
like 'metrics count sandboxes' "$(api GET /metrics)" 'snapshotd_sandboxes\{state="running"\} [1-9]'
like '... and starts' "$(api GET /metrics)" 'snapshotd_work_total\{work="sandbox",result="ok"\} [1-9][0-9]'
busy=$(api POST "/api/sandboxes/$one/exec/run-async" '{"cmd":"sleep","args":["1000"]}' | field .execId)
ok 'a program runs while it is killed' [ -n "$busy" ]
for id in $(api GET /api/sandboxes | field '.[].sandboxID'); do
	call DELETE "/$id"
	[ "$code" = 204 ] || fail "DELETE $id" "$code $body"
	ok "nothing is left of $id" nothing_left_of "$id"
done
is 'no mount is left' "$(grep -c " $STATE/sandboxes/" /proc/self/mounts)" 0
is 'no directory' "$(find "$STATE/sandboxes" -mindepth 1 | wc -l)" 0
reply 'no sandbox' 200 '^\[\]' GET ''
done_testing
