#!/bin/bash
# timeout: 600
# tags: sandbox
# A supervised daemon is killed in the middle of builds: its successor goes on with them at the
# first step that is not cached, whoever waits gets the result and each line of the log once, and a
# build that ends its daemon every time fails in the end.
. "${0%/*}/lib.sh"
. "${0%/*}/builds.sh"
build=''
need_builds
[[ $(uname -r) =~ ^([0-9]+)\.([0-9]+) ]] || bail "no kernel version"
((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] >= 6009)) || skip_all "needs Linux 6.9"
jq -c . <<<'{"defaultTemplate": "base", "buildConcurrency": 1}' >"$T/config.json"
start_daemon --supervise --config "$T/config.json"
varve import base tar "$ROOT_TAR" >/dev/null || bail "the template cannot be imported"

state() { # FIELD
	curl -fsS --max-time 5 --unix-socket "$SOCK" http://localhost/healthz 2>/dev/null | jq -r ".$1"
}
follows() { # GENERATION
	local now
	now=$(state generation) && [ "${now:-0}" -gt "$1" ]
}
kill_it() { # and wait for the next one
	local was
	was=$(state generation)
	kill -9 "$(state pid)"
	until_true 30 follows "$was"
}

# --- somebody waits, and a name, and one that is queued ---
steps() { # NAME
	image "$(run "echo $1 >/first")" "$(run "echo begun-$1; sleep 3; echo $1 >/second")" "$(run "echo end-$1")"
}
steps one >"$T/one.json"
varve build "$T/one.json" --name one >"$T/one.out" 2>"$T/one.log" &
waiter=$!
ok 'a build runs its second step' until_true 60 grep -q begun-one "$T/one.log"
create two "$(steps two)" async=1
two=$(get .buildID)
ok 'another waits' until_true 5 build_is "$two" queued
build=$(api GET /api/builds | jq -r '.[] | select(.name == "one") | .id')
ok 'a successor comes' kill_it
ok '... the build is not over' build_is "$build" step
wait "$waiter"
is '... who waited gets the image' "$? $(grep -c '^one: ' "$T/one.out")" '0 1'
is '... with each line once, but for the step that began again' \
	"$(grep -c 'step 1 of 3: run' "$T/one.log") $(grep -c 'begun-one' "$T/one.log") $(grep -c 'end-one' "$T/one.log")" '1 2 1'
is '... from the first step that was not cached' "$(api GET "/api/builds/$build" | jq -r '"\(.state) \(.cachedSteps) \(.restarts)"')" 'ready 1 1'
like '... and the log says so' "$(cat "$T/one.log")" 'its successor goes on with the build'
ok '... the one that was queued is built, too' until_true 60 build_is "$two" ready
is '... under its name' "$(varve --json show two | jq -r .status)" ready
is '... with what its steps made' "$(varve cat two:second)" two
varve build "$T/one.json" >"$T/one.out" 2>&1
like 'the image is cached' "$(cat "$T/one.out")" 'cached'

# --- nobody waits; a kill while it prepares or checkpoints is as good ---
create three "$(image "$(run 'head -c 200M /dev/urandom >/big')" "$(run 'echo x')")" async=1
build=$(get .buildID)
until_true 60 build_is "$build" checkpointing
ok 'killed while it checkpoints' kill_it
ok '... the build ends' until_true 90 build_is "$build" ready

# --- a name that is another's until the image is there ---
varve --json show one | jq -r .id >"$T/one.id"
call POST '/api/snapshots?async=1' -d "$(request one "$(image "$(run 'echo begun-again; sleep 2')" \
	"$(run 'echo newer >/second')")" | jq -c '.replace = true')"
build=$(get .buildID)
ok 'another image is to have the name' until_true 60 sh -c "curl -fsS --unix-socket '$SOCK' \
	http://localhost/api/builds/$build/logs | grep -q begun-again"
ok '... and the daemon is killed' kill_it
is '... the first has it' "$(varve --json show one | jq -r .id)" "$(cat "$T/one.id")"
ok '... the build ends' until_true 60 build_is "$build" ready
has_name() { [ "$(varve cat one:second)" = newer ]; }
ok '... and then the other image has it' until_true 10 has_name

# --- one that does it every time ---
create four "$(image "$(run 'echo begun-four; sleep 60')")" async=1
build=$(get .buildID)
for i in 1 2 3 4; do
	until_true 60 eval "[ \"\$(api GET /api/builds/$build/logs | grep -o begun-four | wc -l)\" -ge $i ]"
	kill_it
done
ok 'a build under which four daemons die fails' until_true 30 build_is "$build" failed
is '... and its name' "$(varve --json show four | jq -r '.status + ": " + .error')" 'failed: snapshotd stopped during the build'
ok '... nothing is left of builds' until_true 30 nothing_left
stop_daemon
ok 'the daemon ends well' daemon_ended_well
done_testing
