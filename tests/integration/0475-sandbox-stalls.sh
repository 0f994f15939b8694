#!/bin/bash
# Sandboxes whose programs, clients or patches stall, and calls that meet: everything ends when
# it is told to, and nothing is left. With a root of one static program.
# tags: sandbox asan tsan
# timeout: 200
. "${0%/*}/lib.sh"
need root fuse curl jq runc busybox
file -L "$(command -v busybox)" | grep -q static || skip_all 'needs busybox-static'

# call METHOD PATH [CURL-ARGUMENT...]: $code and $body of the reply.
body=
call() {
	local method=$1 path=$2
	shift 2
	code=$(curl -sS --max-time $((60 * SLOW)) --unix-socket "$SOCK" -X "$method" -o "$T/body" \
		-w '%{http_code}' "$@" "http://localhost/api/sandboxes$path" 2>"$T/curl.err")
	read_body "$T/body"
}
create() { # $sb
	call POST '' -d '{}'
	sb=$(jq -r .sandboxID "$T/body")
}
run() { # SANDBOX SHELL-COMMAND: its output
	api POST "/api/sandboxes/$1/exec/run" \
		"$(jq -n --arg c "$2" '{cmd: "sh", args: ["-c", $c], timeout: 20}')" | jq -j '.stdout // .error'
}
checkpoint() { # SANDBOX NAME: $cp
	call POST "/$1/checkpoints" -d "{\"name\":\"$2\"}"
	cp=$(jq -r .id "$T/body")
}
is_running() { # SANDBOX
	run "$1" 'echo on' | grep -qx on
}
threads() { # NAME
	cat "/proc/$DAEMON"/task/*/comm | grep -c "^$1"
}
no_threads() { # NAME, within 10 seconds
	local i
	for ((i = 0; i < 200 * SLOW; i++)); do
		[ "$(threads "$1")" != 0 ] || return 0
		pause 0.05
	done
	return 1
}
# What sandboxes that are no more leave on the host.
nothing_left() {
	local left
	left=$(
		grep -F "$STATE/sandboxes/" /proc/mounts
		find "$STATE/sandboxes" "$STATE/run/oci" "$STATE/run/bundles" -mindepth 1 -xdev
		api GET /api/mounts | jq -r '.[].mountpoint'
		for id in $ids; do find /sys/fs/cgroup -maxdepth 3 -name "*$id*" 2>/dev/null; done
	)
	[ -z "$left" ] || {
		echo "$left"
		return 1
	}
}
ends_soon() { # SECONDS: on SIGTERM
	local i
	kill -TERM "$DAEMON"
	for ((i = 0; i < $1 * 20 * SLOW; i++)); do
		daemon_alive || break
		pause 0.05
	done
	! daemon_alive
}
restart_after() { # DESCRIPTION: SIGTERM, the daemon ends soon and well, and is started again
	ok "$1" ends_soon 5
	_reap_daemon
	ok '... well' daemon_ended_well
	start_daemon
}

mkdir -p "$T"/root/{bin,etc,tmp,srv}
cp "$(command -v busybox)" "$T/root/bin/busybox"
for c in sh cat sleep kill yes grep echo rm; do ln -s busybox "$T/root/bin/$c"; done
echo '{"defaultTemplate": "tiny"}' >"$T/config.json"
start_daemon --config "$T/config.json"
varve import tiny dir "$T/root" >/dev/null || bail 'the template cannot be imported'
head -c 20000000 /dev/zero >"$T/up"

# --- an upload whose program stands still ---
create
one=$sb
# Its processes together are given less of the processors than one of the host's: v1's of 1024, v2's
# of 100.
like 'a busy sandbox leaves the processors to others' "$(find /sys/fs/cgroup -maxdepth 3 -path "*$one*" \
	\( -name cpu.shares -o -name cpu.weight \) -exec grep -H . {} +)" 'cpu\.(shares:100|weight:[1-9])$'
begin_upload() {
	curl -sS --unix-socket "$SOCK" --limit-rate 1M -T "$T/up" \
		"http://x/api/sandboxes/$one/files?path=/srv/up" >/dev/null 2>&1 &
	client=$!
	until_true 10 program_is_there
}
to_program() { # SHELL-COMMAND, run with the upload's process as $p
	run "$one" 'for p in /proc/[0-9]*; do
		if grep -q file-pu[t] $p/cmdline; then p=${p#/proc/}; '"$1"'; fi; done 2>/dev/null'
}
# A program that does not end by itself is given some seconds.
upload_ends() {
	until_true 10 program_has_gone && no_threads varve-upload
}
program_is_there() { [ -n "$(to_program 'echo there')" ]; }
program_has_gone() { [ -z "$(to_program 'echo there')" ]; }
begin_upload
is 'a program that takes an upload is stopped' "$(to_program 'kill -STOP $p; echo stopped')" stopped
kill $client
ok "its client's end ends the call" upload_ends
# One that lives on has its stdin open, and takes nothing from it.
begin_upload
is 'another holds its input' "$(to_program 'sleep 1000 </proc/$p/fd/0 >/dev/null 2>&1 & sleep 0.2; kill $p; echo held')" held
ok '... and does not hold the call' upload_ends
kill $client
begin_upload
is 'a program that takes an upload is stopped' "$(to_program 'kill -STOP $p; echo stopped')" stopped
restart_after 'the daemon ends beside a stopped upload'
ok 'the sandbox is there again' is_running "$one"
is '... and has nothing of the file' "$(run "$one" 'cat /srv/up | wc -c')" 0

# --- a client that takes no output ---
curl -sSN --unix-socket "$SOCK" -H 'Accept: text/event-stream' -d '{"cmd":"yes"}' \
	"http://x/api/sandboxes/$one/exec/run" >/dev/null &
reader=$!
until_true 10 has_written $reader 1
kill -STOP $reader
written() { # by its program
	local p
	for p in $(pgrep -x yes); do
		! grep -q "$one" "/proc/$p/cgroup" || sed -n 's/^wchar: //p' "/proc/$p/io"
	done
}
output_stands() {
	local before
	before=$(written)
	pause 0.1
	[ -n "$before" ] && [ "$(written)" = "$before" ]
}
until_true 10 output_stands
at_most 'a client that takes no events does not keep a sandbox' \
	"$(millis timeout 30 curl -fsS --unix-socket "$SOCK" -X DELETE "http://x/api/sandboxes/$one")" 3000
kill -KILL $reader

# --- a restore of what another holds ---
create
one=$sb
checkpoint "$one" patched
run "$one" 'echo later >/srv/later'
unshare -m sleep 1000 & # in a mount namespace of its own, which has all mounts
holder=$!
elsewhere() { [ "$(readlink "/proc/$1/ns/mnt")" != "$(readlink /proc/self/ns/mnt)" ]; }
until_true 10 elsewhere $holder
call POST "/$one/checkpoints/$cp/restore"
is 'a restore does not wait for who looks in from outside' "$code $(run "$one" 'echo on; cat /srv/later 2>/dev/null')" '200 on'
kill $holder

# --- a patch without end ---
call POST "/checkpoints/$cp/patches" -d '{"script":"exec sleep 1000"}'
timeout 1 curl -sS --unix-socket "$SOCK" -d '{}' "http://x/api/sandboxes/from-checkpoint/$cp" >/dev/null
for ((i = 0; i < 100 * SLOW; i++)); do
	[ "$(grep -c " $STATE/sandboxes/" /proc/mounts)" != 1 ] || break
	pause 0.05
done
is "its client's end ends it" "$(grep -c " $STATE/sandboxes/" /proc/mounts)" 1
api POST "/api/sandboxes/from-checkpoint/$cp" '{}' >"$T/patched" 2>&1 &
patched() { [ "$(grep -c " $STATE/sandboxes/" /proc/mounts)" = 2 ]; }
until_true 10 patched
restart_after 'the daemon ends beside a patch'
ok 'the sandbox is there again' is_running "$one"
is '... alone' "$(api GET /api/sandboxes | jq length)" 1
call DELETE "/$one/checkpoints/$cp"

# --- calls that meet ---
# Each is made many times at once; what they may answer is known.
storm() { # ROUNDS CODES METHOD PATH [JSON]
	local i rounds=$1 codes=$2
	shift 2
	for ((i = 0; i < rounds; i++)); do
		code=$(curl -sS --max-time $((60 * SLOW)) --unix-socket "$SOCK" -X "$1" -o "$T/storm.$BASHPID" -w '%{http_code}' \
			${3:+-d "$3"} "http://localhost/api/sandboxes$2" 2>/dev/null)
		[[ " $codes " == *" $code "* ]] || echo "$* $code $(head -c 300 "$T/storm.$BASHPID")"
	done >>"$T/strange"
}
for round in 1 2 3; do
	create
	ids+=" $sb"
	checkpoint "$sb" base
	pids=()
	storm 6 '200 409 404' POST "/$sb/exec/run" '{"cmd":"sh","args":["-c","echo x >/srv/a; sleep 0.1"]}' & pids+=($!)
	storm 6 '200 409 404' POST "/$sb/exec/run-async" '{"cmd":"sleep","args":["0.2"]}' & pids+=($!)
	storm 2 '200 409 404' POST "/$sb/checkpoints/$cp/restore" & pids+=($!)
	storm 2 '200 409 404' POST "/$sb/checkpoints/$cp/restore" & pids+=($!)
	storm 4 '201 409 404' POST "/$sb/checkpoints" "{\"name\":\"n\",\"retentionPolicy\":{\"mode\":\"delete_oldest\",\"maxCount\":1}}" & pids+=($!)
	storm 2 '201 404 409' POST "/from-checkpoint/$cp" '{}' & pids+=($!)
	storm 4 '204 404 409' PUT "/$sb/files?path=/srv/b" xyz & pids+=($!)
	storm 6 '200 404 409' GET "/$sb/files?path=/bin/busybox" & pids+=($!)
	storm 6 '200 404' GET "/$sb" & pids+=($!)
	storm 3 '204 404' POST "/$sb/timeout" '{"timeout":1000}' & pids+=($!)
	sleep $((round - 1))
	storm 1 '204 404' DELETE "/$sb/checkpoints/$cp" & pids+=($!)
	storm 1 '204 404' DELETE "/$sb" & pids+=($!)
	storm 1 '204 404' DELETE "/$sb" & pids+=($!)
	varve gc >/dev/null & pids+=($!)
	wait "${pids[@]}"
done
is 'calls that meet end as they may' "$(head -n 5 "$T/strange")" ''
for id in $(api GET /api/sandboxes | jq -r '.[].sandboxID'); do
	ids+=" $id"
	[ "$id" = "$one" ] || is_running "$id" || fail "sandbox $id does not run" "$(api GET "/api/sandboxes/$id")"
	call DELETE "/$id"
done
is 'every sandbox can be killed' "$(api GET /api/sandboxes)" '[]'
ok '... and nothing of them is left' nothing_left
ok 'the store is whole' varve verify

# --- the end in the middle ---
for round in 1 2 3; do
	create
	[ "$code" = 201 ] || fail 'a sandbox can be made' "$code $body"
	checkpoint "$sb" base
	pids=()
	storm 9 '200 201 404 409 503 000' POST "/$sb/checkpoints/$cp/restore" & pids+=($!)
	storm 9 '200 201 404 409 503 000' POST "/from-checkpoint/$cp" '{}' & pids+=($!)
	storm 9 '200 201 404 409 503 000' POST "/$sb/exec/run" '{"cmd":"sleep","args":["1"]}' & pids+=($!)
	storm 9 '200 201 404 409 503 000' POST "/$sb/checkpoints" '{"name":"n"}' & pids+=($!)
	sleep "0.$((round * 3))"
	restart_after "SIGTERM in the middle, $round"
	wait "${pids[@]}"
done
is 'replies were as they may be' "$(head -n 5 "$T/strange")" ''
for id in $(api GET /api/sandboxes | jq -r '.[].sandboxID'); do
	ids+=" $id"
	is_running "$id" || fail "sandbox $id does not run" "$(api GET "/api/sandboxes/$id")"
	call DELETE "/$id"
done
ok 'nothing is left' nothing_left
ok 'the store is whole' varve verify
done_testing
