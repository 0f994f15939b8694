#!/bin/bash
# Sandboxes and the end of their daemon: SIGTERM, kill -9 at rest and in the middle of things.
# timeout: 900
# tags: sandbox
. "${0%/*}/lib.sh"
need root fuse curl jq tar runc
need_space 2000
need_debian_root

create() { # [JSON]: the new one's id
	api POST /api/sandboxes "${1:-{\}}" | field .sandboxID | tee -a "$T/created"
}
run() { # SANDBOX SHELL-COMMAND
	api POST "/api/sandboxes/$1/exec/run" "$(jq -n --arg c "$2" '{cmd: "sh", args: ["-c", $c], timeout: 60}')" |
		jq -j '.stdout + .stderr // .error'
}
checkpoint() { # SANDBOX NAME
	api POST "/api/sandboxes/$1/checkpoints" "{\"name\":\"$2\"}" | field .id
}
list() {
	api GET /api/sandboxes | jq -r '.[].sandboxID' | sort | tr '\n' ' '
}
# Containers, mounts and directories of sandboxes that the daemon does not know. (There may
# be containers of other daemons.)
strays() {
	local known
	known=$(list)
	{
		find /sys/fs/cgroup -type d -name 'varve-sb-*' 2>/dev/null | sed 's|.*/varve-||' |
			grep -Fx -f "$T/created"
		ls "$STATE/run/bundles" | sed 's/^varve-//'
		awk -v d="$STATE/sandboxes/" 'index($2, d) == 1 { sub(d, "", $2); sub("/.*", "", $2); print $2 }' /proc/self/mounts
		ls "$STATE/sandboxes"
	} | sort -u | while read -r id; do
		[[ " $known" == *" $id "* ]] || echo "$id"
	done
}
no_strays() {
	local i found
	for ((i = 0; i < 50; i++)); do
		found=$(strays)
		[ -n "$found" ] || return 0
		pause 0.1
	done
	echo "$found"
	return 1
}
one_mount_each() {
	is "$1" "$(grep -c " $STATE/sandboxes/" /proc/self/mounts)" "$(api GET /api/sandboxes | jq length)"
}

start_daemon
varve import ubuntu-22.04 tar "$ROOT_TAR" >/dev/null || bail 'the template cannot be imported'

# --- SIGTERM ---
a=$(create '{"envs":{"WHO":"me"},"metadata":{"k":"v"},"memoryMB":200,"timeout":3600}')
b=$(create)
run "$a" 'echo a >/srv/kept; sleep 10000 >/dev/null 2>&1 &'
run "$b" 'echo b >/srv/kept'
cp=$(checkpoint "$a" before)
run "$a" 'echo later >>/srv/kept'
before=$(api GET "/api/sandboxes/$a" | jq -cS 'del(.changedInodes, .upperBytes, .endAt)')
busy=$(api POST "/api/sandboxes/$a/exec/run-async" '{"cmd":"sleep","args":["1000"]}' | field .execId)
ok 'programs run' [ -n "$busy" ]
from=$(date +%s%N)
stop_daemon
at_most 'the daemon ends soon' $((($(date +%s%N) - from) / 1000000)) 8000
ok '... and well' daemon_ended_well
is 'no mount is left meanwhile' "$(grep -c " $STATE/" /proc/self/mounts)" 0
is '... and no container' "$(find /sys/fs/cgroup -type d -name "varve-$a" -o -type d -name "varve-$b" | wc -l)" 0
start_daemon
is 'both are there again' "$(list)" "$(printf '%s\n' "$a" "$b" | sort | tr '\n' ' ')"
is 'as they were' "$(api GET "/api/sandboxes/$a" | jq -cS 'del(.changedInodes, .upperBytes, .endAt)')" "$before"
is 'their files are kept' "$(run "$a" 'cat /srv/kept')$(run "$b" 'cat /srv/kept')" $'a\nlaterb'
is 'their environment too' "$(run "$a" 'echo $WHO')" me
is 'their processes are gone' "$(run "$a" 'cat /proc/[0-9]*/comm | grep -c sleep')" 0
like 'results too' "$(api GET "/api/sandboxes/$a/exec/$busy/result")" error
is 'checkpoints are kept' "$(api GET "/api/sandboxes/$a/checkpoints" | jq -c '[.[] | [.name, .status]]')" '[["before","ready"]]'
api POST "/api/sandboxes/$a/checkpoints/$cp/restore" >/dev/null
is '... and can be restored' "$(run "$a" 'cat /srv/kept')" a
one_mount_each 'one mount each'

# --- kill -9 ---
run "$a" 'echo again >>/srv/kept; sync; sleep 10000 >/dev/null 2>&1 &'
kill_daemon
start_daemon
is 'after kill -9 both are there' "$(list)" "$(printf '%s\n' "$a" "$b" | sort | tr '\n' ' ')"
is '... with their files' "$(run "$a" 'cat /srv/kept')" $'a\nagain'
is '... without their processes' "$(run "$a" 'cat /proc/[0-9]*/comm | grep -c sleep')" 0
ok 'nothing else is there' no_strays
one_mount_each '... one mount each'
# Twice, at once.
kill_daemon
start_daemon
kill_daemon
start_daemon
is 'killed again before it was up' "$(run "$a" 'cat /srv/kept')" $'a\nagain'

# --- in the middle of things ---
# Sandboxes are made, checkpointed, restored and killed without a pause; what the daemon has
# answered for must hold after it was killed.
for round in 1 2 3 4; do
	for i in 1 2 3; do
		(while id=$(create 2>/dev/null) && [ -n "$id" ] && [ "$id" != null ]; do
			api DELETE "/api/sandboxes/$id" >/dev/null || echo "$id" >>"$T/perhaps"
		done) 2>/dev/null &
		workers[i]=$!
	done
	(n=0; while c=$(checkpoint "$b" "r$round-$n" 2>/dev/null) && [ -n "$c" ] && [ "$c" != null ]; do
		echo "r$round-$n" >>"$T/answered"
		[ $((n % 2)) = 0 ] || api POST "/api/sandboxes/$b/checkpoints/$c/restore" >/dev/null
		n=$((n + 1))
	done) 2>/dev/null &
	workers[4]=$!
	until_true 60 test -s "$T/answered" # or there is nothing to lose
	sleep 1.$((RANDOM % 1000))
	kill_daemon
	wait "${workers[@]}" 2>/dev/null
	start_daemon
	ok "round $round: no stray mount, container or directory" no_strays
	is '... the sandbox is there' "$(run "$b" 'cat /srv/kept')" b
	one_mount_each '... one mount each'
done
names=$(api GET "/api/sandboxes/$b/checkpoints" | field '.[].name' | sort)
diag "$(wc -l <"$T/answered") checkpoints were answered for"
is 'every checkpoint that was answered for is there' "$(comm -13 <(echo "$names") <(sort "$T/answered"))" ''
for ((i = 0; i < 100; i++)); do
	[ "$(api GET "/api/sandboxes/$b/checkpoints" | field '[.[] | select(.status == "processing")] | length')" != 0 ] || break
	pause 0.1
done
is '... and ready' "$(api GET "/api/sandboxes/$b/checkpoints" | field '[.[] | select(.status != "ready")] | length')" 0
is 'every unnamed checkpoint of a sandbox is known' "$(api GET '/api/snapshots?all=1' |
	jq '[.[] | select(.source == "checkpoint") | .id] | length')" \
	"$(for s in "$a" "$b"; do api GET "/api/sandboxes/$s/checkpoints" | field '.[].id'; done | wc -l)"

# --- a stopped one stays stopped; a mount that is gone is told ---
run "$a" true # it has been started
# Those of former daemons may be there as zombies, where the host's first process is slow.
init=$(grep -ls "varve-$a" /proc/[0-9]*/cgroup | cut -d/ -f3 | while read -r p; do
	[ "$(awk '/^State/ { print $2 } /^NSpid/ { print $NF }' "/proc/$p/status" | tr -d '\n')" != Z1 ] &&
		[ "$(awk '/^NSpid/ { print $NF }' "/proc/$p/status")" = 1 ] && echo "$p"
done | head -n 1)
[ -n "$a" ] && [ -n "$init" ] || bail "the first process of sandbox '$a' is not found"
kill -9 "$init"
for ((i = 0; i < 100 * SLOW; i++)); do
	[ "$(api GET "/api/sandboxes/$a" | field .status)" != stopped ] || break
	pause 0.1
done
is 'one stops' "$(api GET "/api/sandboxes/$a" | field .status)" stopped
restart_daemon
is '... and stays so' "$(api GET "/api/sandboxes/$a" | field .status)" stopped
api POST "/api/sandboxes/$a/checkpoints/$cp/restore" >/dev/null
is '... until it is restored' "$(run "$a" 'cat /srv/kept')" a

# --- a daemon that cannot start containers ---
stop_daemon
start_daemon --runtime /nothere
for ((i = 0; i < 50; i++)); do
	[ "$(api GET "/api/sandboxes/$b" | field .status)" != failed ] || break
	pause 0.1
done
like 'without a runtime they have failed, and why' "$(api GET "/api/sandboxes/$b")" '"status":"failed".*|/nothere'
is 'a new one: 500, and why' "$(curl -sS --unix-socket "$SOCK" -d '{}' -o "$T/body" -w '%{http_code}' http://x/api/sandboxes
	) $(grep -c nothere "$T/body")" '500 1'
ok '... and nothing is left of it' no_strays
stop_daemon
start_daemon --runtime runc
is 'with one they are there again' "$(run "$b" 'cat /srv/kept')" b

# --- idleness is counted anew, and goes on ---
status_is() { # SANDBOX STATUS
	local i
	for ((i = 0; i < 60 * SLOW; i++)); do
		[ "$(api GET "/api/sandboxes" | field ".[] | select(.sandboxID == \"$1\") | .status")" != "$2" ] || return 0
		pause 0.25
	done
	return 1
}
c=$(create '{"timeout":2}')
run "$c" 'echo c >/srv/kept'
restart_daemon
ok 'one that is idle after the restart is stopped' status_is "$c" stopped
kill_daemon
start_daemon
is '... and stays so after the next' "$(api GET "/api/sandboxes/$c" | field .status)" stopped
unmounted() { # SANDBOX
	local i
	for ((i = 0; i < 60 * SLOW; i++)); do
		grep -q "$STATE/sandboxes/$1" /proc/self/mounts || return 0
		pause 0.1
	done
	return 1
}
ok '... unmounted' unmounted "$c"
# As it is where the daemon dies between the record and the unmounting.
api POST "/api/mounts/$(api GET /api/mounts |
	jq -r --arg place "/sandboxes/$c/" '.[] | select(.mountpoint + "/" | contains($place)).id')/attach" '{}' >/dev/null
ok 'its mount without it' grep -q "$STATE/sandboxes/$c" /proc/self/mounts
kill_daemon
start_daemon
ok '... is gone after the next' unmounted "$c"
is '... until it is called' "$(run "$c" 'cat /srv/kept')" c
ok '... and then left alone again' status_is "$c" stopped
stop_daemon
echo '{"sandboxKeep": 1, "checkpointLimit": 1}' >"$T/keep.json"
start_daemon --config "$T/keep.json"
ok 'one that has been stopped for long is removed' status_is "$c" ''
ok '... with all of it' no_strays
is '... others are not' "$(run "$b" 'cat /srv/kept')" b
like 'more checkpoints than the limit are kept, but no new one' \
	"$(api POST "/api/sandboxes/$b/checkpoints" '{"name":"too-many"}')" 'checkpointLimit allows 1: delete'
n=$(api GET "/api/sandboxes/$b/checkpoints" | field length)
like '... unless another goes for it' "$(api POST "/api/sandboxes/$b/checkpoints" \
	"{\"name\":\"for-another\",\"retentionPolicy\":{\"mode\":\"delete_oldest\",\"maxCount\":$n}}")" '"id":'
is '... so that there are as many' "$(api GET "/api/sandboxes/$b/checkpoints" | field length)" "$n"

for id in $(list); do
	api DELETE "/api/sandboxes/$id" >/dev/null
done
ok 'nothing is left in the end' no_strays
is '... no mount' "$(grep -c " $STATE/sandboxes/" /proc/self/mounts)" 0
done_testing
