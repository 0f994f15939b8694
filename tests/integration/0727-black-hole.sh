#!/bin/bash
# tags: quick asan
# timeout: 240
# A bucket that takes requests and never answers, in every way that a bucket can: the daemon stops
# quickly, whatever waits for it.
. "${0%/*}/lib.sh"
need root fuse curl jq python3

BUCKET=$T/bucket
export AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret
mkdir -p "$T"/{src,own,mnt}
for i in {1..60}; do head -c 30000 /dev/urandom >"$T/src/f$i"; done
head -c 100000 /dev/urandom >"$T/own/file"

# --- a bucket with a snapshot, and a host that has it lazily, mounted ---
start_daemon --memory 64M
ok 'a snapshot is pushed' eval 'varve import base dir "$T/src" && varve remote add main "file://$BUCKET" &&
	varve push base main'
stop_daemon
rm -rf "$STATE"
start_daemon --memory 64M
ok 'it is mounted lazily' eval 'varve remote add main "file://$BUCKET" && varve mount main:base "$T/mnt"'
ok 'and a snapshot of its own' varve import own dir "$T/own"
far=$(varve --json verify | jq .farChunks)
ok '... which is far' test "$far" -gt 50
stop_daemon

python3 "$SRC/tests/integration/black_hole.py" "$BUCKET/format" >"$T/ports" &
hole=$!
trap 'kill $hole; _cleanup' EXIT
until [ -s "$T/ports" ]; do pause 0.05; done
read -r silent partial full <"$T/ports"

config() { # ENDPOINT
	jq -n --arg e "$1" '{share: "main", cacheBytes: 67108864, gcInterval: 0,
		remotes: [{name: "main", url: "s3://bkt", endpoint: $e, pathStyle: true}]}'
}
stops_quickly() { # HOW ENDPOINT
	local jobs=() from took i
	config "$2" >"$T/config.json"
	start_daemon --memory 64M --config "$T/config.json"
	is_mounted "$T/mnt" || fail "$1: the mount is back"
	for i in 1 2 3; do cat "$T/mnt/f$i" >/dev/null 2>&1 & jobs+=($!); done
	for i in 'push own main' 'pull main:other' 'gc --remote main' 'verify --remote main' \
		'ls main:other' 'remote check main' "mount main:base $T/none" \
		"remote add second s3://bkt --endpoint $2 --path-style"; do
		# shellcheck disable=SC2086
		varve $i >>"$T/.wait" 2>&1 </dev/null & jobs+=($!)
	done
	sleep 1 # they are at the bucket by then, which nobody sees of the last one
	for i in "${jobs[@]}"; do kill -0 "$i" 2>/dev/null || diag "one of them has ended already"; done
	from=${EPOCHREALTIME/./}
	stop_daemon
	took=$((${EPOCHREALTIME/./} - from))
	diag "$1: stopped in $((took / 1000)) ms"
	ok "$1: the daemon stops in 3 s" test $took -lt $((3000000 * SLOW))
	for i in "${jobs[@]}"; do wait "$i" && fail "$1: something that waited has succeeded"; done
	ok "$1: and well" daemon_ended_well
}
stops_quickly 'a bucket that never answers' "http://127.0.0.1:$silent"
stops_quickly 'a bucket that is open and answers no more' "http://127.0.0.1:$partial"
stops_quickly 'a bucket whose packets are dropped' "http://127.0.0.1:$full"
done_testing
