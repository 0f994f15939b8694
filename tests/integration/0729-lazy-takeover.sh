#!/bin/bash
# tags: quick
# timeout: 240
# A daemon that dies while reads of a lazy mount wait for the bucket: its successor fetches what they
# want, and no read fails, also with `--cache shared`, but one of which daemons crash. So with a push,
# which is done again.
. "${0%/*}/lib.sh"
need root fuse curl jq
[[ $(uname -r) =~ ^([0-9]+)\.([0-9]+) ]] || bail "no kernel version"
((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] >= 6009)) || skip_all "needs Linux 6.9"

mkdir -p "$T"/{src/dir,private,shared,other,copy}
for i in {1..20}; do head -c 30000 /dev/urandom >"$T/src/dir/f$i"; done
for i in 1 2; do head -c 6000000 /dev/urandom >"$T/src/big$i"; done

# The bucket, filled by a daemon that has gone.
start_daemon
ok 'a snapshot is pushed' eval 'varve import base dir "$T/src" && varve remote add main "file://$T/bucket" &&
	varve push base main'
stop_daemon
rm -rf "$STATE"
export VARVE_FAULTS=frozen=$T/frozen,under=pack/
start_daemon --supervise
unset VARVE_FAULTS
varve remote add main "file://$T/bucket" >/dev/null
ok 'it is mounted lazily' varve mount main:base "$T/private"
ok '... and with a shared cache' varve mount main:base "$T/shared" --cache shared

health() { api GET /healthz | jq ".$1"; }
asked() { # OPERATION
	api GET /metrics | sed -n "s/^snapshotd_remote_requests_total{.*operation=\"$1\"} //p"
}
asked_more() { [ "$(asked "$1")" -gt "$2" ]; }
die() {
	local before
	before=$(health generation)
	kill -9 "$(health pid)"
	daemon_ready
	is '... a successor goes on' "$(health generation)" $((before + 1))
}
# What is asked for while the bucket stands still, by a daemon that dies, and by the next, which
# dies, too.
reads_survive() { # DIR FILE...
	local dir=$1 before readers=() n=0
	shift
	before=$(asked get)
	touch "$T/frozen"
	for file; do
		cat "$dir/$file" >"$T/copy/$n" &
		readers+=($!)
		n=$((n + 1))
	done
	until_true 30 asked_more get "$before" || fail "the bucket is asked"
	die
	if ! is_mounted "$dir"; then # of this cache mode a successor takes nothing over
		rm "$T/frozen"
		wait "${readers[@]}"
		skip "what readers get whose mount goes on" "$dir ends with its daemon"
		return
	fi
	until_true 30 asked_more get 0 || fail "it asks the bucket"
	die
	rm "$T/frozen"
	n=0
	for file; do
		ok "$file, whose reader waited, is right" eval \
			"wait ${readers[$n]} && cmp '$T/copy/$n' '$T/src/$file'"
		n=$((n + 1))
	done
}
reads_survive "$T/private" dir/f1 dir/f20 big1
reads_survive "$T/shared" dir/f9 dir/f12 big2

# --- a read of which daemons crash while they fetch what it wants ---
asks=$(asked get)
touch "$T/frozen"
{
	cat "$T/private/dir/f15" >"$T/copy/f15" 2>"$T/copy/f15.err"
	echo $? >"$T/copy/f15.rc"
} &
reader=$!
until_true 30 asked_more get "$asks" || fail "the bucket is asked"
asks_or_ended() { [ -s "$T/copy/f15.rc" ] || asked_more get 0; }
for ((crashes = 0; crashes < 10; crashes++)); do
	until_true 30 asks_or_ended
	[ ! -s "$T/copy/f15.rc" ] || break
	kill -ABRT "$(health pid)"
	until_true 30 daemon_ready
done
wait $reader
# One that dies before it has come to the read does not count.
like "a read fails of which three daemons crash, of $crashes" "$(cat "$T/copy/f15.rc" "$T/copy/f15.err")" \
	$'^1\n'".*Input/output error"
like '... and the log says why' "$(cat "$T/daemon.log")" 'is answered with EIO: three daemons have died'
rm "$T/frozen"
ok '... but not the next one' cmp "$T/private/dir/f15" "$T/src/dir/f15"

# --- a push ---
head -c 3000000 /dev/urandom >"$T/private/new"
printf more >>"$T/private/dir/f5"
cp -a "$T/private/." "$T/want"
ok 'a checkpoint over it' varve checkpoint "$T/private" child
before=$(asked put)
touch "$T/frozen"
varve push child main >/dev/null 2>&1 &
push=$!
ok 'a push waits for the bucket' until_true 30 asked_more put "$before"
die
rm "$T/frozen"
wait $push
ok 'it is done again' varve push child main
is 'nothing of the bucket is damaged' "$(varve --json verify --remote main --deep | jq -c .problems)" '[]'
ok 'what is mounted is as it was' diff -r "$T/private" "$T/want"
stop_daemon
rm -rf "$STATE"
start_daemon
varve remote add main "file://$T/bucket" >/dev/null
ok 'another host has it' eval 'varve mount main:child "$T/other" && diff -r "$T/other" "$T/want"'
daemon_ended_well
done_testing
