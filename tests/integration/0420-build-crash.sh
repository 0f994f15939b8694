#!/bin/bash
# timeout: 900
# tags: sandbox
# kill -9 of the daemon in every state of a build: the next one finds nothing that is stuck,
# and the same request builds.
. "${0%/*}/lib.sh"
. "${0%/*}/builds.sh"
code='' build=''
need_builds
start_builds '{"buildConcurrency": 1}'

all_ended() {
	api GET /api/builds | jq -e 'all(.[]; .state == "ready" or .state == "failed" or .state == "cancelled")'
}
no_name_is_taken() {
	api GET /api/snapshots | jq -e 'all(.[]; .status != "building")'
}
no_checkpoint_is_lost() { # one of a build that no cache entry names
	api GET '/api/snapshots?all=1' | jq -e 'all(.[]; .source != "checkpoint")'
}
# Processes of containers that the killed daemon had; they end with it.
no_process_left() { # ID
	[ -z "$(find /sys/fs/cgroup -maxdepth 3 -path "*$1*" -name cgroup.procs -exec cat {} + 2>/dev/null)" ]
}
# after_crash DESCRIPTION ID: what holds after the restart
after_crash() {
	ok "$1: no process survives" until_true 10 no_process_left "$2"
	start_daemon
	ok "... no build is stuck" all_ended
	ok "... no name is taken" no_name_is_taken
	ok "... no checkpoint is lost" no_checkpoint_is_lost
	ok "... nothing is left" nothing_left
}

# --- in each state ---
slow=$(image "$(run 'echo first >/first')" "$(run 'echo begun; sleep 5; echo second >/second')")
create step "$slow" async=1
build=$(get .buildID)
ok 'a build runs its second step' until_true 60 log_has "$build" begun
create queued "$(image "$(run 'echo queued >/queued')")" async=1
queued=$(get .buildID)
ok 'another waits' until_true 5 build_is "$queued" queued
kill_daemon
after_crash 'in a step' "$build"
is '... it says why' "$(api GET "/api/builds/$build" | jq -r '.state + ": " + .error')" \
	'failed: snapshotd stopped during the build'
is '... and where' "$(api GET "/api/builds/$build" | jq -r .failedStep)" 2
is '... so does the one that waited' "$(api GET "/api/builds/$queued" | jq -r '.state + ": " + .error')" \
	'failed: snapshotd stopped during the build'
is '... and the snapshots' "$(api GET /api/snapshots | jq -r '[.[] | select(.status == "failed") | .name + ": " + .error] | sort | join(", ")')" \
	'queued: snapshotd stopped during the build, step: snapshotd stopped during the build'
ok '... its log is kept' log_has "$build" begun
call GET "/api/builds/$build/logs" -H 'Accept: text/event-stream'
is '... with its end as events' "$(events error "$T/body")" '{"error":"snapshotd stopped during the build","step":2}'
create step "$slow"
is '... the same request builds' "$code $(get .status)" '201 ready'
is '... from where it was' "$(last_build .cachedSteps)" 1
create queued "$(image "$(run 'echo queued >/queued')")"
is '... so does the other' "$code" 201

big=$(image "$(run 'head -c 400M /dev/urandom >/big')")
create big "$big" async=1
build=$(get .buildID)
ok 'a build checkpoints' until_true 100 build_is "$build" checkpointing
kill_daemon
after_crash 'while checkpointing' "$build"
create big "$big"
is '... the same request builds' "$code $(get .status)" '201 ready'
api DELETE /api/snapshots/big >/dev/null

call POST '/api/snapshots?async=1&keepFailed=1' -d "$(request keep "$(image "$(run 'echo evidence >/evidence; sync; echo kept; sleep 100')")")"
build=$(get .buildID)
ok 'a build that is to be kept' until_true 60 log_has "$build" kept
kill_daemon
start_daemon
mount=$(api GET "/api/builds/$build" | jq -r .mountID)
is '... has its mount after a crash' "$(cat "$(api GET "/api/mounts/$mount" | jq -r .mountpoint)/evidence")" evidence
api DELETE "/api/mounts/$mount?discard=1" >/dev/null
restart_daemon
ok '... until it is discarded' nothing_left

# --- where nothing inside can see that the daemon has gone ---
container_freezes() { # ID: its processes stand still, as for a checkpoint
	local file
	file=$(find /sys/fs/cgroup -maxdepth 3 -path "*$1*" \( -name freezer.state -o -name cgroup.freeze \) |
		grep -v /unified/ | head -n 1)
	case $file in
	*/freezer.state) echo FROZEN >"$file" && until_true 5 grep -q FROZEN "$file" ;;
	*) echo 1 >"$file" && until_true 5 grep -q 'frozen 1' "${file%.freeze}.events" ;;
	esac
}
has_process() { # ID
	! no_process_left "$1"
}
start_endless frozen
ok 'a container is frozen' container_freezes "$build"
kill_daemon
after_crash 'while frozen' "$build"

# A runtime that makes the container, and does not come to starting it.
cat >"$T/half-runc" <<-'END'
	#!/bin/bash
	for a; do [ "$a" != delete ] || exec runc "$@"; done
	args=()
	for a; do
		case $a in
		run) args+=(create) ;;
		--detach) ;;
		*) args+=("$a") ;;
		esac
	done
	runc "${args[@]}" && touch "${0%/*}/made" && exec sleep 1000
END
chmod +x "$T/half-runc"
stop_daemon
start_daemon --config "$T/config.json" --runtime "$T/half-runc"
create half "$(image "$(run 'echo half >/half')")" async=1
build=$(get .buildID)
ok 'a container is made, but not started' until_true 20 has_process "$build"
ok '... and the runtime has ended its part' until_true 20 test -e "$T/made"
kill_daemon
after_crash 'half made' "$build"
stop_daemon
start_daemon --config "$T/config.json"

# --- at any moment, the short states among them ---
# Each time another image, so that each begins at the base.
stuck=0 rebuilt=0 rounds=24
[ "$LONG" = 0 ] || rounds=100
for ((i = 0; i < rounds; i++)); do
	small=$(image "$(run "echo $i >/i")" "$(env_step I $i)" "$(run 'head -c 300000 /dev/urandom >/r')")
	create "any$i" "$small" async=1
	build=$(get .buildID)
	sleep "$(awk -v i=$i -v n=$rounds -v slow="$SLOW" 'BEGIN { print i * 1.2 * slow / n }')"
	kill_daemon
	until_true 10 no_process_left "$build" || stuck=$((stuck + 1))
	start_daemon
	all_ended >/dev/null && no_name_is_taken >/dev/null && no_checkpoint_is_lost >/dev/null &&
		nothing_left >"$T/left" || {
		stuck=$((stuck + 1))
		diag "round $i: $(cat "$T/left" 2>/dev/null)"
	}
	call GET "/api/snapshots/any$i"
	[ "$(get .status)" = ready ] || create "any$i" "$small"
	[ "$(get .status)" = ready ] && rebuilt=$((rebuilt + 1))
done
is "killed at $rounds moments: nothing is stuck" "$stuck" 0
is '... and each request builds' "$rebuilt" "$rounds"
ok '... and nothing is left' nothing_left
ok 'the store is whole' sh -c "curl -sS --unix-socket '$SOCK' -X POST -d '{}' http://x/api/verify | jq -e '.problems == []'"
done_testing
