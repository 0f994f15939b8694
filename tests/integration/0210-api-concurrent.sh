#!/bin/bash
# tags: quick asan tsan
# timeout: 300
# Many clients at once: no call fails for a reason of its own, none waits for
# another's long work, and afterwards the store is whole.
. "${0%/*}/lib.sh"
need root fuse curl jq tar

SECONDS_EACH=$((LONG ? 120 : 6))
mkdir -p "$T/src" "$T/mnt"
for i in $(seq 50); do
	head -c $((i * 1000)) /dev/urandom >"$T/src/$i"
done
tar -C "$T/src" -cf "$T/src.tar" .
start_daemon

# status METHOD PATH [JSON]: the body is in $reply
status() {
	reply=$(curl -sS --max-time $((120 * SLOW)) --unix-socket "$SOCK" -X "$1" \
		${3:+-d "$3"} -w '\n%{http_code}' "http://localhost$2" 2>&1)
	code=${reply##*$'\n'}
	reply=${reply%$'\n'*}
}
# expect STATUS-REGEX METHOD PATH [JSON]: anything else is a line in $T/wrong
expect() {
	status "${@:2}"
	[[ $code =~ ^($1)$ ]] || printf '%s %s: %s %s\n' "$2" "$3" "$code" "${reply:0:300}" >>"$T/wrong"
	echo "$2 $code" >>"$T/count.$BASHPID"
}
: >"$T/wrong"
loop() { # FUNCTION WHO: for some seconds
	local end=$((SECONDS + SECONDS_EACH)) round=0
	while [ $SECONDS -lt $end ]; do
		round=$((round + 1))
		"$1" "$2" "$round"
	done
}

import_and_remove() {
	local name=tmp-$1-$2
	echo "$1 $2 $RANDOM" >"$T/src/changing-$1"
	expect 201 POST /api/snapshots/import "{\"name\":\"$name\",\"source\":{\"dir\":\"$T/src\"}}"
	expect 200 GET "/api/snapshots/base/diff/$name"
	expect 200 GET "/api/snapshots/$name"
	expect 204 DELETE "/api/snapshots/$name"
}
mount_and_write() {
	local dir=$T/mnt/$1 id
	mkdir -p "$dir"
	expect 201 POST /api/mounts "{\"snapshot\":\"base\",\"mountpoint\":\"$dir\"}"
	[ "$code" = 201 ] || return
	id=$(jq -r .id <<<"$reply")
	echo "$2" >"$dir/written" && rm "$dir/1" && cmp -s "$dir/50" "$T/src/50" ||
		echo "mount $1: wrong content" >>"$T/wrong"
	expect 201 POST "/api/mounts/$id/checkpoint" "{\"name\":\"cp-$1-$2\",\"wait\":true}"
	expect 200 GET "/api/mounts/$id/diff"
	mkdir -p "$dir.fork"
	expect 201 POST "/api/mounts/$id/fork" "{\"mountpoint\":\"$dir.fork\"}"
	[ "$(cat "$dir.fork/written")" = "$2" ] || echo "fork $1: wrong content" >>"$T/wrong"
	expect 204 DELETE "/api/mounts/$(jq -rn --arg p "$dir.fork" '$p|@uri')?discard=1&lazy=1"
	expect 204 DELETE "/api/mounts/$id"
	expect 200 POST "/api/mounts/$id/attach"
	expect 204 DELETE "/api/mounts/$id?discard=1"
	expect 204 DELETE "/api/snapshots/cp-$1-$2"
}
# All want the same name and the same place: one gets it.
quarrel() {
	expect '201|409' POST /api/snapshots/import "{\"name\":\"same\",\"source\":{\"dir\":\"$T/src\"}}"
	expect '201|404|409' POST /api/mounts "{\"snapshot\":\"same\",\"mountpoint\":\"$T/mnt/same\"}"
	expect '204|404|409' DELETE "/api/mounts/$(jq -rn --arg p "$T/mnt/same" '$p|@uri')?discard=1"
	expect '204|404|409' DELETE /api/snapshots/same
}
look() {
	expect 200 GET /api/snapshots
	expect 200 GET /api/mounts
	expect 200 GET /metrics
	expect 200 GET /api/stats
}
leave() { # in the middle of an export, an import
	curl -sS --unix-socket "$SOCK" http://x/api/snapshots/base/export 2>/dev/null | head -c 100000 >/dev/null
	{
		head -c 20000 "$T/src.tar"
		pause 0.3
	} | timeout 0.2 curl -sS --unix-socket "$SOCK" -T - -X POST \
		"http://x/api/snapshots/import?name=left-$1-$2&format=tar" >/dev/null 2>&1
}
collect() {
	expect '200|409' POST /api/gc "{\"compact\":false}"
	expect 200 POST /api/verify '{"snapshot":"base"}'
	[[ $reply == *'"damaged":0'* ]] || echo "verify: $reply" >>"$T/wrong"
	pause 0.2
}

expect 201 POST /api/snapshots/import "{\"name\":\"base\",\"source\":{\"dir\":\"$T/src\"}}"
mkdir -p "$T/mnt/same"
workers=()
for job in 'import_and_remove 1' 'import_and_remove 2' 'mount_and_write 1' 'mount_and_write 2' \
	'mount_and_write 3' 'quarrel 1' 'quarrel 2' 'look 1' 'leave 1' 'collect 1'; do
	# shellcheck disable=SC2086
	loop $job &
	workers+=($!)
done
wait "${workers[@]}"
diag "$(cat "$T"/count.* | sort | uniq -c | tr '\n' ',')"
is 'no call went wrong' "$(sort "$T/wrong" | uniq -c | sort -rn | head -n 20)" ''

status DELETE "/api/mounts/$(jq -rn --arg p "$T/mnt/same" '$p|@uri')?discard=1"
status DELETE /api/snapshots/same
is 'no mount is left' "$(api GET /api/mounts | jq -c .)" '[]'
is 'none in the kernel' "$(grep -c " $T/mnt" /proc/mounts)" 0
is 'no cut import is left' "$(api GET /api/snapshots | jq '[.[] | select(.name | startswith("left"))] | length')" 0
ok 'gc works afterwards' api POST /api/gc
is 'the store is whole' "$(api POST /api/verify | jq -c '[.damaged, .problems]')" '[0,[]]'
ok 'no staging file is left' sh -c "[ -z \"\$(ls -A '$STATE/staging' '$STATE/journal' | grep -v :)\" ]"

# --- a snapshot that is deleted while it is sent ---
mkdir "$T/once"
head -c 20000000 /dev/urandom >"$T/once/file"
expect 201 POST /api/snapshots/import "{\"name\":\"once\",\"source\":{\"dir\":\"$T/once\"}}"
curl -sS --unix-socket "$SOCK" --limit-rate 10M -o "$T/once.tar" http://x/api/snapshots/once/export 2>"$T/once.err" &
sending=$!
until_true 10 test -s "$T/once.tar"
expect 204 DELETE /api/snapshots/once
expect 200 POST /api/gc
wait $sending
is 'an export outlives its snapshot' "$?" 0
ok '... and is whole' sh -c "tar -xOf '$T/once.tar' file | cmp - '$T/once/file'"

# --- long work, and the rest meanwhile ---
curl -sS --unix-socket "$SOCK" --limit-rate 1000 -N -o /dev/null http://x/api/snapshots/base/export 2>/dev/null &
slow=$!
mkfifo "$T/pipe"
curl -sS --unix-socket "$SOCK" -T - -X POST 'http://x/api/snapshots/import?name=slow&format=tar' <"$T/pipe" >/dev/null 2>&1 &
stalled=$!
exec 7>"$T/pipe"
head -c 100000 "$T/once.tar" >&7
until_true 10 has_written $slow 1
until_true 10 has_read $stalled 100000
at_most 'a mount beside a slow export and a stalled import' \
	"$(millis expect 201 POST /api/mounts "{\"snapshot\":\"base\",\"mountpoint\":\"$T/mnt/same\"}")" 1000
kill $slow $stalled
wait $slow $stalled 2>/dev/null
exec 7>&-
is 'all of it went well' "$(cat "$T/wrong")" ''
done_testing
