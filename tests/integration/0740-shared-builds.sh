#!/bin/bash
# tags: sandbox
# timeout: 600
# Three daemons, each with a store of its own, that share a bucket: an image is built once for
# all, whoever is killed; named snapshots are pushed in the background; the bucket goes and comes.
. "${0%/*}/lib.sh"
. "${0%/*}/builds.sh"
# shellcheck disable=SC2034
code='' body=''
need root fuse curl jq runc busybox
file -L "$(command -v busybox)" | grep -q static || skip_all 'needs busybox-static'
need_space 2000

BUCKET=$T/bucket
mkdir -p "$T"/{src/{bin,etc,tmp,dev,proc,sys},mnt,mnt2}
cp "$(command -v busybox)" "$T/src/bin/busybox"
for c in sh cat head sleep date mkdir echo touch ls; do ln -s busybox "$T/src/bin/$c"; done
head -c 60000000 /dev/urandom >"$T/src/data"
jq -n --arg b "file://$BUCKET" '{remotes: [{name: "main", url: $b}], share: "main",
	shareBuildTimeout: 3, buildConcurrency: 1, defaultTemplate: "base", buildNetwork: "none"}' >"$T/config.json"

# --- further daemons: on b COMMAND... ---
declare -A pid
on() { # HOST COMMAND...: with that host's socket
	local SOCK=$T/$1.sock
	export SNAPSHOTD_SOCKET=$SOCK
	"${@:2}"
	local rc=$?
	export SNAPSHOTD_SOCKET=$T/sock
	return $rc
}
start() { # HOST
	local i
	snapshotd --state "$T/$1" --socket "$T/$1.sock" --memory 64M --config "$T/config.json" \
		>>"$T/$1.log" 2>&1 </dev/null &
	pid[$1]=$!
	for ((i = 0; i < 600 * SLOW; i++)); do
		on "$1" daemon_ready && return
		pause 0.05
	done
	bail "daemon $1 does not answer: $(tail -n 5 "$T/$1.log")"
}
end() { # HOST SIGNAL
	kill "-$2" "${pid[$1]}"
	wait "${pid[$1]}" 2>/dev/null
}
until_ok() {
	local i
	for ((i = 0; i < 600 * SLOW; i++)); do
		"$@" >/dev/null 2>&1 && return
		pause 0.05
	done
	return 1
}
is_pushed() { # NAME
	[ "$(api GET "/api/snapshots/$1" | jq -r '.remotes[0].remote')" = main ]
}
named_there() { # NAME
	varve --json snapshots --remote main | jq -e --arg n "$1" 'any(.[]; .name == $n)'
}
metric() { # NAME
	api GET /metrics | sed -n "s/^snapshotd_$1 //p"
}
received() {
	metric 'remote_received_bytes_total{remote="main"}'
}
all_messages() { # BUILD
	api GET "/api/builds/$1/logs" | jq -r '.[].message'
}
# shellcheck disable=SC2120
ran() { # [BUILD]: steps that it, or the last one, ran itself
	all_messages "${1:-$(last_build .id)}" | grep -c '^step [0-9]* of [0-9]*: [a-z_]*$'
}
is_ready() { # NAME
	[ "$(api GET "/api/snapshots/$1" | jq -r .status)" = ready ]
}
waits() { # the last build, for another host
	all_messages "$(last_build .id)" | grep -q 'another host builds'
}
in_state() { # STATE: the last build
	[ "$(last_build .state)" = "$1" ]
}
python() { # PROGRAM
	PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$SRC/tools/sdk/python" python3 -c "$1"
}
when='date +%s%N >/when'

start_daemon --config "$T/config.json"
start b

# --- a base and an image of one host are the other's ---
varve import base dir "$T/src" >"$T/.out" 2>&1 || bail "$(cat "$T/.out")"
ok 'a named snapshot is pushed by itself' until_ok is_pushed base
ok '... with its name' named_there base
create one "$(image "$(run "$when; head -c 3000000 /dev/urandom >/big")" "$(env_step A b)" "$(run 'echo two >/two')")"
is 'an image is built' "$code $(get .status)" '201 ready'
is '... here' "$(ran)" 3
ok '... and pushed' until_ok is_pushed one
before=$(on b received)
on b create one "$(image "$(run "$when; head -c 3000000 /dev/urandom >/big")" "$(env_step A b)" "$(run 'echo two >/two')")"
is 'another host has it, that had not even the base' "$code $(get .status)" '201 ready'
is '... the same' "$(get .root)" "$(root_of one)"
is '... without running a step' "$(on b ran) $(on b last_build '.cachedSteps')" '0 3'
is '... with its environment' "$(get .config.Env[0])" A=b
got=$(($(on b received) - before))
diag "fetched $got of 63,000,000 bytes"
ok '... having fetched a few percent' test "$got" -lt 6300000
ok '... and it is mounted' on b mount_at one "$T/mnt" --read-only
ok '... and read' cmp "$T/src/data" "$T/mnt/data"
on b create one2 "$(image "$(run "$when; head -c 3000000 /dev/urandom >/big")" "$(env_step A b)" "$(run 'echo three >/two')")"
is 'with another last step' "$code $(get .status)" '201 ready'
is '... that one alone is run' "$(on b ran) $(on b last_build .cachedSteps)" '1 2'

# --- both at once ---
slow=$(image "$(run "$when; sleep 3")")
create slow "$slow" async=1
until_ok in_state step
on b create slow "$slow" async=1
ok 'who comes second waits' until_ok on b waits
ok '... and the first builds' until_ok in_state ready
ok '... for both' until_ok on b in_state ready
is '... one image' "$(on b root_of slow)" "$(root_of slow)"
is '... built once' "$(ran) $(on b ran)" '1 0'
bad=$(image "$(run 'sleep 3; exit 7')")
create bad "$bad" async=1
until_ok in_state step
on b create bad "$bad" async=1
ok 'a failure is told to who waits' until_ok on b in_state failed
like '... with its reason' "$(on b last_build .error)" 'another host.*7'
is '... without a second try' "$(on b ran)" 0
on b create bad2 "$bad"
like 'who asks later tries anew' "$(on b ran) $(on b last_build .error)" '^1 .*7'

# --- the builder dies ---
start c
slow=$(image "$(run "$when; sleep 15")") # longer than it takes to kill its builder
on b create dead "$slow" async=1
until_ok on b in_state step
create dead "$slow" async=1
on c create dead "$slow" async=1
ok 'two wait for a builder' until_ok waits
until_ok on c waits
waiting=$(on c last_build .id)
on c create meanwhile "$(image "$(run 'echo quick >/quick')")"
is '... while a host that waits builds another one' "$code $(get .status) $(on b last_build .state)" '201 ready step'
end b KILL
ok 'it is killed, and one takes over' until_ok in_state ready
ok '... for the other' until_ok on c is_ready dead
is '... one builds' "$(($(ran) + $(on c ran "$waiting")))" 1
is '... one image' "$(on c root_of dead)" "$(root_of dead)"
start b
on b create dead2 "$slow"
is '... also for the one that was killed' "$(get .root)" "$(root_of dead)"
is '... without a step' "$(on b ran)" 0
ok 'its store is whole' on b varve verify

# --- the bucket is away ---
stop_daemon
mv "$BUCKET" "$T/elsewhere"
start_daemon
create away "$(image "$(run "$when")")"
is 'without the bucket it is built all the same' "$code $(get .status)" '201 ready'
like '... and the log says so' "$(all_messages "$(last_build .id)")" 'builds by itself'
varve import kept dir "$T/src/etc" >/dev/null
varve import gone dir "$T/src/bin" >/dev/null
not_ok '... nothing is pushed' is_pushed away
both=$(image "$(run "$when; echo on both hosts")")
create both "$both"
on b create both "$both"
is '... on each host by itself' "$(ran) $(on b ran) $([ "$(root_of both)" = "$(on b root_of both)" ]; echo $?)" '1 1 1'
kill_daemon
start_daemon
varve rm gone
mv "$T/elsewhere" "$BUCKET"
ok 'when it is back, what was made meanwhile is pushed' until_ok is_pushed away
ok '... over a restart' until_ok is_pushed kept
on b create away "$(image "$(run "$when")")"
is '... and found' "$(get .root) $(on b ran)" "$(root_of away) 0"
not_ok '... but not what was removed' named_there gone
same() { # whoever was first: its image is the one of both
	create again "$both" && on b create again "$both" && [ "$(root_of again)" = "$(on b root_of again)" ] && return
	varve rm again
	on b varve rm again
	return 1
}
ok '... and of what both have built, one image stays' until_true 60 same
is '... which nobody has built anew' "$(root_of again | grep -cx "$(root_of both)\|$(on b root_of both)")" 1

# --- names ---
on b varve import kept dir "$T/src/bin" >/dev/null
ok "another host's snapshot of the same name is pushed" until_ok on b is_pushed kept
is '... without taking the name' "$(b=$(on b root_of kept) && varve mount main:kept "$T/mnt2" --read-only >/dev/null &&
	ls "$T/mnt2" && [ "$b" != "$(root_of kept)" ])" "$(ls "$T/src/etc")"
echo new >"$T/src/etc/new"
varve import kept2 dir "$T/src/etc" >/dev/null
api PATCH /api/snapshots/kept2 '{"name":"kept","replace":true}' >/dev/null
ok 'a snapshot that takes the place of one takes its name there' until_ok sh -c \
	"varve ls main:kept: | grep -q new"
ok 'in the end nothing waits' until_ok test "$(metric share_queue) $(metric share_away)" = '0 0'
ok '... and was counted' test "$(metric share_pushes_total)" -ge 1
umount "$T/mnt"
umount "$T/mnt2"
end b TERM
end c TERM
done_testing
