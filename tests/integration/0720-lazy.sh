#!/bin/bash
# tags: quick asan
# timeout: 240
# A snapshot that is mounted before it is here: only what is read comes, and that survives a
# daemon's end, a collection, and a bucket that is away.
. "${0%/*}/lib.sh"
need root fuse curl jq

BUCKET=$T/bucket
export VARVE_TRACE_MS=$((4000 * SLOW)) # of a first use
mkdir -p "$T"/{src/dir,mnt,mnt2,mnt3}
for i in {1..60}; do head -c 30000 /dev/urandom >"$T/src/dir/f$i"; done
head -c 3000000 /dev/urandom >"$T/src/big"
printf 'from the first host\n' >"$T/src/small"

# --- the other host, which pushes ---
A_PID=
a() { varve --socket "$T/a.sock" "$@"; }
snapshotd --state "$T/a" --socket "$T/a.sock" --memory 64M >"$T/a.log" 2>&1 </dev/null &
A_PID=$!
end_a() {
	[ -z "$A_PID" ] || { kill "$A_PID" && wait "$A_PID"; }
	A_PID=
}
trap 'end_a; _cleanup' EXIT
a_answers() { a snapshots >/dev/null 2>&1; }
until_true 60 a_answers || bail "the other daemon does not answer: $(tail -n 5 "$T/a.log")"
ok 'the other host pushes a snapshot' eval '
	a import base dir "$T/src" && a remote add main "file://$BUCKET" && a push base main'

# --- what is here ---
far() { varve --json verify "$@" | jq .farChunks; }
damaged() { varve --json verify | jq .damaged; }
start_daemon --memory 64M
ok 'the bucket is a remote' varve remote add main "file://$BUCKET"
lists() { api GET /metrics | sed -n 's/^snapshotd_remote_requests_total{.*operation="list"} //p'; }
before=$(lists)
ok 'it is mounted' varve mount main:base "$T/mnt"
is '... by one look at its name' $(($(lists) - before)) 1
all=$(far)
ok 'before its files are here' test "$all" -gt 60
is 'names and attributes are' "$(find "$T/mnt" -type f -printf '%P %s %m %T@\n' | sort)" \
	"$(find "$T/src" -type f -printf '%P %s %m %T@\n' | sort)"
is 'and came without files' "$(far)" "$all"
share() { varve --json "${@:2}" show "$1" | jq -r .share; }
here() { varve --json show "$1" | jq "$2"; }
base=$(varve --json snapshots | jq -r '.[].id')
is 'it is told to be lazy' "$(share "$base") $(a show base | sed -n 's/^share *//p')" 'lazy pushed'
like '... in the list, too' "$(varve snapshots)" 'ready, lazy'
is '... with nothing here but what is in its tree' "$(here "$base" '.farBytes + .hereBytes, .hereBytes < 100')" \
	"$(($(find "$T/src" -type f -printf '%s+')0))
true"
ok 'a file comes when it is read' cmp "$T/mnt/dir/f7" "$T/src/dir/f7"
ok 'and hardly another' test "$(far)" -ge $((all - 4))
ok 'which is told' test "$(here "$base" .hereBytes)" -ge 30000
is 'without the daemon, what is far is no damage' "$(varve --json --store "$STATE" verify | jq '.damaged, .farChunks' | xargs)" \
	"0 $(far)"
like '... and told when it is wanted' "$(varve --store "$STATE" cat "$base:dir/f40" 2>&1)" 'remote'
is '... while what is here can be read' "$(varve --store "$STATE" cat "$base:small")" 'from the first host'
du_of() { varve --json "$@" du "$base" | jq '.[0] | .farBytes > 1000000, .storedBytes > 0' | xargs; }
is 'du tells what is here, and what is far' "$(du_of --store "$STATE") $(du_of)" 'true true true true'
like '... in a column of its own' "$(varve --store "$STATE" du "$base")" 'STORED *FAR *FILES'
like '... and chunks are far, not missing' "$(varve --store "$STATE" chunks "$base:dir/f40")" ' far '
is 'the store says so in its format' "$(cat "$STATE/FORMAT")" 'varve store 4'

# --- what a first use reads comes at once to the next host ---
read_some() { cmp "$1/dir/f$2" "$T/src/dir/f$2"; }
for i in {20..32}; do read_some "$T/mnt" $i || fail "f$i"; done
hot_is_there() { [ "$(find "$BUCKET/hot" -type f | wc -l)" = 1 ]; }
ok 'a first use is noted in the bucket' until_true 30 hot_is_there
C_PID=
c() { varve --socket "$T/c.sock" "$@"; }
snapshotd --state "$T/c" --socket "$T/c.sock" --memory 64M >"$T/c.log" 2>&1 </dev/null &
C_PID=$!
end_c() {
	[ -z "$C_PID" ] || { kill "$C_PID" && wait "$C_PID"; }
	C_PID=
}
trap 'end_c; end_a; _cleanup' EXIT
c_answers() { c snapshots >/dev/null 2>&1; }
until_true 60 c_answers || bail "the third daemon does not answer: $(tail -n 5 "$T/c.log")"
ok 'a third host mounts it' eval 'c remote add main "file://$BUCKET" && c mount main:base "$T/mnt2"'
for i in {20..32}; do read_some "$T/mnt2" $i || fail "f$i"; done
of_c() { curl -sS --unix-socket "$T/c.sock" http://x/metrics | sed -n "s/^snapshotd_prefetch_$1_total //p"; }
ok 'what the first read came at once' test "$(of_c hits)" -ge 13
is '... all of it' "$(of_c misses)" 0
c umount "$T/mnt2" >/dev/null
# No record names what is in another bucket.
ok 'a push to a second bucket takes along what is far' eval '
	c remote add second "file://$T/second" && c push "$(c --json snapshots | jq -r ".[0].id")" second:base'
is '... all of it' "$(c --json verify --remote second --deep | jq -c .problems)" '[]'
ok 'it ends' end_c

# --- a daemon that ends, and a collection ---
kill_daemon
restart_daemon --memory 64M
ok 'after kill -9, another comes' cmp "$T/mnt/dir/f8" "$T/src/dir/f8"
ok 'a collection takes nothing away' varve gc
ok 'after it, another comes' cmp "$T/mnt/dir/f9" "$T/src/dir/f9"
is 'nothing is damaged' "$(damaged)" 0

# --- changes over files that are not here ---
printf 'changed\n' >>"$T/mnt/dir/f1"
rm "$T/mnt/dir/f2"
mv "$T/mnt/dir/f3" "$T/mnt/dir/g3"
mkdir "$T/mnt/new" && cp "$T/mnt/small" "$T/mnt/new/small"
cp -a "$T/src" "$T/want"
printf 'changed\n' >>"$T/want/dir/f1"
rm "$T/want/dir/f2"
mv "$T/want/dir/f3" "$T/want/dir/g3"
mkdir "$T/want/new" && cp "$T/want/small" "$T/want/new/small"
ok 'a checkpoint over it' varve checkpoint "$T/mnt" child
ok 'most of it is still far' test "$(far)" -gt 40
ok 'it is pushed' varve push child main
ok 'without what the bucket has' test "$(du -sm "$BUCKET/pack" | cut -f 1)" -lt 8
ok 'the first host pulls it' a pull main:child
ok 'and mounts it' a mount child "$T/mnt2"
ok 'all of it is right' diff -r "$T/mnt2" "$T/want"
a umount "$T/mnt2" >/dev/null

# --- a bucket that is away ---
mv "$BUCKET/pack" "$BUCKET/away"
not_ok 'without the bucket, what is far cannot be read' cat "$T/mnt/dir/f40"
ok 'what is here can' cmp "$T/mnt/dir/f7" "$T/src/dir/f7"
ok 'names too' ls -l "$T/mnt/dir"
ok 'other mounts go on' eval 'varve fork "$T/mnt" "$T/mnt3" && echo x >"$T/mnt3/new/x" && cat "$T/mnt3/new/x"'
mv "$BUCKET/away" "$BUCKET/pack"
ok 'with the bucket back, it can' cmp "$T/mnt/dir/f40" "$T/src/dir/f40"
ok 'through the fork, too' cmp "$T/mnt3/dir/f41" "$T/src/dir/f41"

like 'its remote stays while it is needed' "$(varve remote rm main 2>&1)" 'parts of snapshots may be in remote main alone'

# --- completing ---
ok 'a pull completes it' varve pull main:base
is 'nothing of it is far' "$(far base)" 0
is '... which is told' "$(here base .farBytes)" 0
mv "$BUCKET" "$BUCKET-gone"
ok 'then nobody needs the bucket' diff -r "$T/mnt" "$T/want"
mv "$BUCKET-gone" "$BUCKET"
is 'and nothing is damaged' "$(damaged)" 0

# --- forgetting ---
for d in mnt mnt3; do
	id=$(mount_id "$T/$d")
	varve umount "$T/$d" >/dev/null && varve discard "$id" >/dev/null
done
for s in $(varve --json snapshots | jq -r '.[].id'); do varve rm "$s" >/dev/null; done
ok 'a collection forgets where it was' eval 'varve gc && [ "$(find "$STATE/remote" -type f | wc -l)" = 0 ]'
ok 'then the remote can be removed' varve remote rm main
end_a
daemon_ended_well
done_testing
