#!/bin/bash
# tags: quick
# timeout: 300
# A store with a limit deletes what a bucket has, too, and fetches it when it is read: also after
# kill -9 in the middle, and not while the bucket takes no pins (I4).
. "${0%/*}/lib.sh"
need root fuse curl jq
need_space 800

BUCKET=$T/bucket
mkdir -p "$T"/{src,own,mnt}
for i in {1..110}; do head -c 1000000 /dev/urandom >"$T/src/f$i"; done
head -c 5000000 /dev/urandom >"$T/own/file"
sums() { (cd "$1" && sha256sum f* | sort); }
sums "$T/src" >"$T/sums"
echo '{"cacheBytes": 67108864, "gcInterval": 0}' >"$T/config.json"
far() { varve --json verify "$@" | jq .farChunks; }
metric() { api GET /metrics | sed -n "s/^snapshotd_$1 //p"; }
evicted() { [ "$(metric evicted_bytes_total)" -gt "${1:-0}" ]; }

like 'a limit that no store keeps is refused' \
	"$(echo '{"cacheBytes": 1000}' >"$T/bad.json" && snapshotd --state "$T/c" --config "$T/bad.json" 2>&1)" cacheBytes

start_daemon --memory 64M --config "$T/config.json"
ok 'two snapshots' eval 'varve import base dir "$T/src" && varve import own dir "$T/own"'
sleep 2 # in which it would go: it looks every second
is 'what no bucket has stays' "$(metric evicted_chunks_total) $(far)" '0 0'

# --- a bucket that takes no pins ---
ok 'one is pushed' eval 'varve remote add main "file://$BUCKET" && varve push base main'
mkdir -p "$BUCKET" && rm -rf "$BUCKET/node" && touch "$BUCKET/node"
kill_daemon
restart_daemon --memory 64M --config "$T/config.json"
sleep 2 # the same
is 'without pins nothing goes' "$(metric evicted_chunks_total) $(far)" '0 0'
rm "$BUCKET/node"
ok 'with them, the store is made smaller' until_true 120 evicted
ok 'the bucket knows why' grep -q '"pins":\["' -r "$BUCKET/node"
ok 'a part is far now' test "$(far base)" -gt 100
is 'nothing of the other' "$(far own)" 0
is 'nothing is damaged' "$(varve --json verify | jq .damaged)" 0
db_is_small() { [ "$(du -sm "$STATE/db" | cut -f 1)" -lt 80 ]; }
ok 'the disk has the space back' until_true 60 db_is_small

# --- it is read, and evicted again, while the daemon is killed ---
mount_at base "$T/mnt"
for _ in 1 2; do
	sums "$T/mnt" >"$T/got" 2>/dev/null
	kill_daemon
	umount -l "$T/mnt" 2>/dev/null
	restart_daemon --memory 64M --config "$T/config.json"
	is_mounted "$T/mnt" || mount_at base "$T/mnt"
done
ok 'after kill -9, all is read as it was' eval 'sums "$T/mnt" | cmp - "$T/sums"'
ok 'the store is made smaller again' until_true 120 evicted
ok 'a collection keeps what is far' varve gc
ok 'and its reads' eval 'sums "$T/mnt" | cmp - "$T/sums"'
is 'and damages nothing' "$(varve --json verify | jq .damaged)" 0

# --- one that dies, and is followed, while it evicts and fetches ---
[[ $(uname -r) =~ ^([0-9]+)\.([0-9]+) ]] || bail "no kernel version"
if ((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] >= 6009)); then
	stop_daemon
	start_daemon --memory 64M --config "$T/config.json" --supervise
	is_mounted "$T/mnt" || mount_at base "$T/mnt"
	sums "$T/mnt" >"$T/got" &
	reader=$!
	until_true 60 evicted || fail 'it evicts'
	kill -9 "$(api GET /healthz | jq .pid)"
	daemon_ready
	ok 'what is read meanwhile is right' eval "wait $reader"' && cmp "$T/got" "$T/sums"'
	is '... and nothing is damaged' "$(varve --json verify | jq .damaged)" 0
fi
daemon_ended_well
done_testing
