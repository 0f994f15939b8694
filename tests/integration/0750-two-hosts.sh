#!/bin/bash
# tags: sandbox
# timeout: 400
# Two hosts and a real S3 service: what one builds, the other runs at once, having fetched little of
# it; the service goes away and comes back; what was deleted and collected stays readable where it
# is in use.
. "${0%/*}/lib.sh"
. "${0%/*}/ceph.sh"
need root fuse curl jq runc busybox python3
file -L "$(command -v busybox)" | grep -q static || skip_all 'needs busybox-static'
need_ceph
start_ceph
make_bucket bkt

mkdir -p "$T"/{src/{bin,etc,tmp,dev,proc,sys,data},mnt}
cp "$(command -v busybox)" "$T/src/bin/busybox"
for c in sh cat echo; do ln -s busybox "$T/src/bin/$c"; done
for i in {1..40}; do head -c 1500000 /dev/urandom >"$T/src/data/f$i"; done

# --- A is beside the service, B behind a network that may break ---
python3 "$SRC/tests/integration/bad_network.py" "$S3_PORT" "$T/network" >"$T/port" &
network=$!
until [ -s "$T/port" ]; do sleep 0.05; done
config() { # ENDPOINT
	jq -n --arg e "$1" '{share: "main", defaultTemplate: "base", buildNetwork: "none",
		remotes: [{name: "main", url: "s3://bkt/team", endpoint: $e, pathStyle: true}]}'
}
config "$S3_ENDPOINT" >"$T/a.json"
config "http://127.0.0.1:$(cat "$T/port")" >"$T/b.json"
a() { varve --socket "$T/a.sock" "$@"; }
snapshotd --state "$T/a" --socket "$T/a.sock" --memory 64M --config "$T/a.json" >"$T/a.log" 2>&1 </dev/null &
a_pid=$!
end_all() {
	kill $a_pid && wait $a_pid
	kill $network
	stop_ceph
}
trap 'end_all; _cleanup' EXIT
a_answers() { a snapshots >/dev/null 2>&1; }
until_true 60 a_answers || bail "host A does not answer: $(tail -n 5 "$T/a.log")"
start_daemon --memory 64M --config "$T/b.json"

a import base dir "$T/src" >"$T/.out" 2>&1 || bail "$(cat "$T/.out")"
ok 'A builds an image, from Python' env SNAPSHOTD_SOCKET="$T/a.sock" PYTHONDONTWRITEBYTECODE=1 \
	PYTHONPATH="$SRC/tools/sdk/python" python3 -c '
from varve import Image, Snapshots
image = Image.from_snapshot("base").run_commands("echo made here >/made").env({"GREETING": "hello"})
assert Snapshots().create("app", image).status == "ready"'
is_pushed() { a --json show "$1" | jq -e '.share != "local"' >/dev/null; }
ok 'it is pushed by itself' until_true 60 is_pushed app

# --- B runs it ---
received() { api GET /metrics | sed -n 's/^snapshotd_remote_received_bytes_total{remote="main"} //p'; }
before=$(received)
# shellcheck disable=SC2016
is 'B runs it' "$(varve run --snapshot main:app -- sh -c 'cat /made; echo $GREETING')" $'made here\nhello'
got=$(($(received) - before))
diag "fetched $got of 61,500,000 bytes"
ok '... having fetched a few percent of it' test "$got" -lt 5000000
ok 'B mounts it' varve mount main:app "$T/mnt"
ok 'and reads a file' cmp "$T/src/data/f1" "$T/mnt/data/f1"
pinned() { [ "$(api GET /metrics | sed -n 's/^snapshotd_remote_pins_written_total //p')" -gt 0 ]; }
ok 'the bucket is told' until_true 30 pinned

# --- the service goes away ---
echo stall >"$T/network"
ok 'what B has goes on' cmp "$T/src/data/f1" "$T/mnt/data/f1"
ok '... and takes changes' eval 'echo changed >"$T/mnt/made" && varve checkpoint "$T/mnt" mine'
cat "$T/mnt/data/f2" >"$T/read" 2>"$T/read.err" &
reader=$!
sleep 0.3 # in which it would end
ok 'who wants more waits' kill -0 $reader
: >"$T/network"
ok '... until it is back' wait $reader
ok '... and has it' cmp "$T/src/data/f2" "$T/read"

# --- A deletes what B uses ---
ok 'A deletes the image' a rm main:app
ok '... and its base' a rm main:base
ok '... and collects at once' a gc --remote main --grace 0
for i in {3..40}; do cmp "$T/src/data/f$i" "$T/mnt/data/f$i" || break; done
is 'B reads all the rest' "$i" 40
ok 'the bucket is whole' a verify --remote main --deep
ok "B's store, too" varve verify

varve umount --discard "$T/mnt" >/dev/null

# --- eight hosts that are killed, on one bucket, with faults on the way ---
eight() {
	PYTHONDONTWRITEBYTECODE=1 unshare --mount --propagation private \
		python3 "$SRC/tests/model/hosts/load.py" "$T/eight" "$((LONG == 1 ? 120 : 8))" "$(date +%s)" \
		"$(jq -n --arg e "$S3_ENDPOINT" '{url: "s3://bkt/eight", endpoint: $e, pathStyle: true}')"
}
ok 'eight hosts read what they have pushed to each other' eight
sed 's/^/# /' "$T/.out"

trap _cleanup EXIT
end_all
daemon_ended_well
done_testing
