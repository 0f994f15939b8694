#!/bin/bash
# timeout: 900
# tags: sandbox asan
# Images from manifests: the cache, one build for many, logs, names, what later steps see.
. "${0%/*}/lib.sh"
. "${0%/*}/builds.sh"
code='' body=''
need_builds
start_builds '{"buildEnv": {"BUILD_ONLY": "yes", "FOO": "daemon"}}'

five() { # LAST: a manifest of five steps
	image "$(run 'echo one >/one; date +%N >/when')" "$(env_step FOO "it's \$HOME")" \
		"$(workdir /srv/app)" "$(add_file /srv/app/run.sh 'echo ran' 0750)" "$(run "$1")"
}

# --- a build, and a hit ---
ok 'a build with events' create_events first "$(five 'pwd >/five; echo said; echo wrong >&2')" "$T/ev"
is '... ends with the snapshot' "$(events result "$T/ev" | jq -r '.name + " " + .status')" 'first ready'
is '... which has its manifest' "$(events result "$T/ev" | jq -c .manifest.steps[4].args.commands)" \
	'["pwd >/five; echo said; echo wrong >&2"]'
is '... and its key' "$(events result "$T/ev" | jq -r .contentHash)" \
	"$(five 'pwd >/five; echo said; echo wrong >&2' | jq -cS '{base, steps}' | tr -d '\n' | sha256sum | cut -d' ' -f1)"
is 'output is told with its step and stream' \
	"$(events build_log "$T/ev" | jq -c 'select(.message == "said" or .message == "wrong")' | sort)" \
	'{"step":5,"type":"run","message":"said","stream":"stdout"}
{"step":5,"type":"run","message":"wrong","stream":"stderr"}'
is 'each step is told' "$(messages "$T/ev" | grep -c '^step . of 5: ')" 5
ok 'nothing of it is left' nothing_left
is 'its build is listed' "$(last_build '.name + " " + .state')" 'first ready'
build=$(last_build .id)
call GET "/api/builds/$build"
is '... with what it has done' "$(get '[.step, .stepCount, .cachedSteps, .error] | tostring')" '[5,5,0,null]'
call GET "/api/builds/$build/logs"
is 'its log is kept' "$(jq -c '[.[].message]' "$T/body")" "$(messages "$T/ev" | jq -Rcn '[inputs]')"
call GET "/api/builds/$build/logs" -H 'Accept: text/event-stream'
is '... and told again as events' "$(events build_log "$T/body")" "$(events build_log "$T/ev")"
is '... with the build at the end' "$(events result "$T/body" | jq -r .id)" "$build"

create second "$(five 'pwd >/five; echo said; echo wrong >&2')"
is 'the same again is created' "$code $(get .status)" '201 ready'
is '... without a build' "$(build_count)" 1
is '... and is the same image' "$(get .root)" "$(root_of first)"
is '... from the build that made it' "$(get .buildID)" "$build"

# --- the longest prefix that is cached ---
ok 'another last step' create_events third "$(five 'pwd >/five; echo other')" "$T/ev3"
is '... runs alone' "$(last_build .cachedSteps)" 4
is '... the others are told as cached' "$(messages "$T/ev3" | grep -c cached)" 4
is '... and only its own is run' "$(messages "$T/ev3" | grep '^step . of 5: ')" 'step 5 of 5: run'
look_at first "$T/m1"
look_at third "$T/m3"
is '... upon what the steps before have made' "$(cat "$T/m3/when")" "$(cat "$T/m1/when")"

# --- what later steps and sandboxes see ---
is 'the working directory is that of later steps' "$(cat "$T/m1/five")" /srv/app
is 'files have their content and mode' "$(cat "$T/m1/srv/app/run.sh") $(stat -c %a "$T/m1/srv/app/run.sh")" 'echo ran 750'
is 'the environment is in the config' "$(api GET /api/snapshots/first | jq -c .config.Env)" "[\"FOO=it's \$HOME\"]"
is '... and the directory' "$(api GET /api/snapshots/first | jq -r .config.WorkingDir)" /srv/app
is '... and the file for logins' "$(grep ^FOO "$T/m1/etc/environment")" "FOO='it'\\''s \$HOME'"
# The list of a large /etc is longer than what fits into a megabyte.
create large "$(image "$(run 'mkdir -p /etc; echo OLD=1 >/etc/environment; cd /etc; for i in $(seq 9000); do : >$(printf "%0120d" $i); done')" \
	"$(env_step NEW 2)")"
is 'an image with many files in /etc' "$code" 201
look_at large "$T/large"
is '... keeps its environment' "$(grep -cE '^(OLD|NEW)=' "$T/large/etc/environment")" 2
# shellcheck disable=SC2016
create seen "$(image "$(env_step FOO "it's \$HOME")" "$(workdir /srv/app/deep)" \
	"$(run 'echo "$FOO|$BUILD_ONLY|$HOME|$PATH" >seen')" \
	"$(run 'set -e; . /etc/environment; echo "$FOO" >>seen; id -u >>seen')")"
is 'a build sees them' "$code" 201
look_at seen "$T/seen"
is '... above the settings of the daemon' "$(head -n 1 "$T/seen/srv/app/deep/seen")" \
	"it's \$HOME|yes|/root|/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
is '... and from the file' "$(sed -n 2p "$T/seen/srv/app/deep/seen")" "it's \$HOME"
create shell "$(image "$(run "cd /srv; export A='a b'; f() { echo \"f \$1\"; }; set -- x; echo \"it's\"" \
	'echo "$PWD|$A|$(f "$1")" >said; exit 0' $'set -e; pwd >said; cat <<EOF >>said\nhere\nEOF\n# end' \
	'exec true' 'pwd >>/srv/said')")"
is 'the commands of a step share a shell' "$code" 201
look_at shell "$T/shell"
is '... until one of them ends it' "$(cat "$T/shell/srv/said" "$T/shell/said" | tr '\n' ' ')" '/srv|a b|f x / / here '
not_ok 'what only builds see is not kept' grep -r BUILD_ONLY "$T/seen/etc"
create dirs "$(image '{"type":"add_dir","args":{"path":"/opt/tree/","files":[
	{"relativePath":"a/b/file","content":"aGk=","mode":"0600"},{"relativePath":"a/link","target":"b/file"},
	{"relativePath":"over","target":"/etc/shadow"}],
	"dirs":["empty",{"relativePath":"a/b","mode":"0711"}]}}')"
is 'a directory with all in it' "$code" 201
look_at dirs "$T/dirs"
is '... files with modes' "$(cat "$T/dirs/opt/tree/a/b/file"; stat -c ' %a' "$T/dirs/opt/tree/a/b/file")" 'hi 600'
is '... symlinks as they are' "$(readlink "$T/dirs/opt/tree/a/link" "$T/dirs/opt/tree/over" | tr '\n' ' ')" 'b/file /etc/shadow '
is '... empty ones and their modes' "$(cd "$T/dirs/opt/tree" && stat -c '%n %a' empty a/b | tr '\n' ' ')" 'empty 755 a/b 711 '
create inside "$(image "$(run 'ln -s /etc/passwd /link; mkdir /d; ln -s / /d/up')" \
	"$(add_file /d/up/made yes)" "$(add_file /link replaced)")"
is 'links inside mean what they mean inside' "$code" 201
look_at inside "$T/inside"
is '... for what they lead to' "$(cat "$T/inside/made" "$T/inside/etc/passwd")" "yesreplaced"
not_ok '... not for the host' test -e /made

# --- no trace ---
mkdir "$T/bare" "$T/bare/etc"
echo x >"$T/bare/probe"
varve import bare dir "$T/bare" >/dev/null
before=$(root_of bare)
create traceless "$(image "$(add_file /f x)" '{"type":"env","args":{"vars":{}}}' | jq -c '.base = "snapshot:bare"')"
is 'an image without a shell' "$code" 201
look_at traceless "$T/traceless"
is '... has what was asked for, and nothing more' "$(cd "$T/traceless" && find . | sort | tr '\n' ' ')" \
	'. ./etc ./etc/environment ./f ./probe '
is 'the base is as it was' "$(root_of bare)" "$before"
create left "$(image "$(run 'sleep 1000 & setsid sleep 1000 & echo yes')" "$(run 'ls -d /proc/[0-9]* | wc -l >/n; ps aux >/ps || :')")"
is 'a step that leaves processes' "$code" 201
look_at left "$T/left"
at_most '... leaves none to the next' "$(cat "$T/left/n")" 4
ok '... is told so' sh -c "curl -sS --unix-socket '$SOCK' http://x/api/builds/$(last_build .id)/logs | grep -q 'left running'"
look_at base "$T/base"
for d in run dev proc sys tmp etc/resolv.conf etc/hosts; do
	is "no trace in /$d" "$(cd "$T/left" && ls -lAR --time-style=+ "$d" 2>&1)" "$(cd "$T/base" && ls -lAR --time-style=+ "$d" 2>&1)"
done

# --- nothing to do ---
create empty "$(image)"
is 'no steps' "$code $(get .root)" "201 $(root_of base)"
create viasnap "$(image "$(add_file /x y)" | jq -c '.base = "snapshot:first"')"
is 'upon a snapshot' "$code" 201
look_at viasnap "$T/via"
is '... has both' "$(cat "$T/via/one" "$T/via/x")" $'one\ny'
is '... and its environment' "$(get .config.Env[0])" "FOO=it's \$HOME"

varve export bare oci "$T/bare.oci" >/dev/null
varve import lib-bare-1.0 oci "$T/bare.oci" >/dev/null
create viaoci "$(image "$(add_file /x y)" | jq -c '.base = "oci:lib/bare:1.0"')"
is 'upon an OCI image that was imported' "$code" 201
create nooci "$(image "$(add_file /x y)" | jq -c '.base = "oci:lib/none:1"')"
is '... or was not' "$code" 422
like '... which says how' "$(get .error)" 'varve import lib-none-1 oci'
create nooci "$(image "$(add_file /x y)" | jq -c '.base = "oci:base"')"
is '... or is another kind of snapshot' "$code" 422

# --- another base of the same name, whose tree is the same ---
for dir in tmp usr; do
	create "in-$dir" "$(image "$(workdir "/$dir")")"
done
is 'two bases of one tree' "$(root_of in-tmp)" "$(root_of in-usr)"
where=$(image "$(run 'pwd >/where')" | jq -c '.base = "snapshot:moving"')
varve rename in-tmp moving >/dev/null
create where-tmp "$where"
varve rename moving in-tmp >/dev/null && varve rename in-usr moving >/dev/null
create where-usr "$where"
for dir in tmp usr; do
	look_at "where-$dir" "$T/where-$dir"
	is "... whose steps begin in /$dir" "$(cat "$T/where-$dir/where")" "/$dir"
done
is '... and have one key' "$(get .contentHash)" "$(api GET /api/snapshots/where-tmp | jq -r .contentHash)"
create where-again "$where"
is '... of which the last built is found' "$(get .root)" "$(root_of where-usr)"

# --- refused before anything is built ---
n=$(build_count)
create bad "$(image "$(run a)" '{"type":"add_file","args":{"path":"x","content":""}}')"
is 'a bad manifest is 400' "$code" 400
like '... which step' "$body" 'step 2 \(add_file\)'
create nobase "$(image "$(run a)" | jq -c '.base = "snapshot:nothing"')"
is 'an unknown base is 422' "$code" 422
like '... by its name' "$body" nothing
create first "$(image "$(run b)")"
is 'a taken name is 409' "$code" 409
create 'a b' "$(image "$(run b)")"
is 'a bad name is 400' "$code" 400
call POST '/api/snapshots?x=1' -d "$(request x "$(image)")"
is 'an unknown parameter is 400' "$code" 400
call POST /api/snapshots -d '{"name":"x"}'
is 'no image is 400' "$code" 400
create first "$(image "$(run b)")" async=1
is 'a taken name is 409 at once' "$code" 409
is '... and nothing was built' "$(build_count)" "$n"
for path in builds/nothing builds/nothing/logs; do
	call GET "/api/$path"
	is "$path is 404" "$code" 404
done
call DELETE /api/builds/nothing
is 'cancelling nothing is 404' "$code" 404
call DELETE "/api/builds/$build"
is 'cancelling what has ended is 409' "$code" 409

# --- one build for many ---
n=$(build_count)
shared=$(image "$(run 'echo begun; until [ -e /go ]; do sleep 0.1; done; date +%N >/when; echo done')")
pids=()
for i in $(seq 50); do
	create_events "many$i" "$shared" "$T/many$i" &
	pids+=($!)
done
all_wait() { [ "$(grep -ls '"begun"' "$T"/many* | wc -l)" = 50 ]; }
until_true 60 all_wait
: >"$(awk -v d="$STATE/builds/" 'index($2, d) == 1 { print $2; exit }' /proc/mounts)/go"
wait "${pids[@]}"
is '50 at once are one build' "$(($(build_count) - n))" 1
is '... all have the image' "$(for i in $(seq 50); do events result "$T/many$i"; done | jq -r .root | uniq -c | awk '{ print $1 }')" 50
is '... and the whole log' "$(for i in $(seq 50); do events build_log "$T/many$i" |
	grep -cE '"message":"(begun|done)"'; done | uniq -c | tr -s ' ')" ' 50 2'

# --- force ---
# shellcheck disable=SC2016
timed=$(image "$(run 'date +%N >/when')")
create timed "$timed"
one=$(get .root)
create timed2 "$timed"
is 'without force the image is the same' "$(get .root)" "$one"
create timed3 "$timed" force=true
is 'force builds again' "$code" 201
not_ok '... another image' [ "$(get .root)" = "$one" ]
two=$(get .root)
create timed4 "$timed"
is '... which is the cached one from then on' "$(get .root)" "$two"

# --- waiting or not ---
ok 'async: the reply comes at once' at_most_ms 2000 create later "$(image "$(run 'sleep 3; echo x >/x')")" async=1
is '... with 202' "$code" 202
is '... and a snapshot that is being built' "$(get .status)" building
id=$(get .buildID)
is '... which the list has' "$(api GET /api/snapshots | jq -r '.[] | select(.name == "later") | .status')" building
create later "$(image "$(run c)")"
is '... its name is taken' "$code" 409
ok '... until it is ready' until_true 60 sh -c "curl -sS --unix-socket '$SOCK' http://x/api/snapshots/later | jq -e '.status == \"ready\"'"
ok '... as its build is' build_is "$id" ready
curl -sSN --max-time 1 --unix-socket "$SOCK" -X POST -H 'Accept: text/event-stream' -o /dev/null \
	-d "$(request gone "$(image "$(run 'sleep 3; echo y >/y')")")" http://localhost/api/snapshots 2>/dev/null
ok 'a client that goes does not stop the build' until_true 60 sh -c "curl -sS --unix-socket '$SOCK' http://x/api/snapshots/gone | jq -e '.status == \"ready\"'"

# --- logs while it runs ---
create_events live "$(image "$(run 'for i in 1 2 3 4 5 6; do echo tick $i; sleep 0.5; done')")" "$T/live" &
live=$!
ok 'the log comes while it runs' until_true 20 grep -q 'tick 1' "$T/live"
not_ok '... before the end' grep -q 'tick 6' "$T/live"
id=$(last_build .id)
curl -sSN --unix-socket "$SOCK" -H 'Accept: text/event-stream' "http://localhost/api/builds/$id/logs" >"$T/joined"
is 'who comes later gets all of it' "$(messages "$T/joined" | grep -c '^tick')" 6
wait $live
is '... and so does who was there' "$(messages "$T/live" | grep -c '^tick')" 6

# --- cancel ---
for i in 1 2; do start_endless "endless$i" && ends[i]=$build; done
create queued "$(image "$(run 'echo never')")" async=1
queued=$(get .buildID)
sleep 0.3 # in which it would begin
ok 'no more run at a time than may' build_is "$queued" queued
call DELETE "/api/builds/$queued"
is 'a queued build is cancelled' "$code" 204
ok '... at once' until_true 5 build_is "$queued" cancelled
is '... and its snapshot says so' "$(api GET /api/snapshots/queued | jq -r '.status + ": " + .error')" 'failed: the build was cancelled'
call DELETE "/api/builds/${ends[1]}"
ok 'a running one is cancelled' until_true 10 build_is "${ends[1]}" cancelled
create_events waiting "$(image "$(run "echo endless2; exec sleep 1000")")" "$T/waiting" &
wait_pid=$!
ok 'another joins it' until_true 20 grep -q endless2 "$T/waiting"
call DELETE "/api/builds/${ends[2]}"
wait $wait_pid
is 'who waits is told' "$(events error "$T/waiting")" '{"error":"the build was cancelled","step":1}'
ok 'nothing of them is left' nothing_left
create queued "$(image "$(run 'echo now')")"
is 'the name of a failed one is free' "$code" 201

# --- names ---
is 'a snapshot by its name' "$(api GET /api/snapshots/first | jq -r .name)" first
is 'the list has no entry of the cache' "$(api GET /api/snapshots | jq -r '[.[] | select(.name == "")] | length')" 0
ok '... which ?all shows' sh -c "curl -sS --unix-socket '$SOCK' 'http://x/api/snapshots?all=1' | jq -e '[.[] | select(.name == \"\" and .source == \"build\")] | length > 5'"
key=$(api GET /api/snapshots/first | jq -r .contentHash)
ok 'builds come in pages' pages_agree /api/builds 2
ok 'images come in pages' pages_agree /api/images 2 .key
id=$(api GET /api/builds | field '.[0].id')
ok 'a log comes in pages, by the number of the event' diff \
	<(api GET "/api/builds/$id/logs" | jq -e '[.[2]]') <(api GET "/api/builds/$id/logs?after=2&limit=1" | jq .)
is '... not as events' "$(curl -sS -o /dev/null -w '%{http_code}' --unix-socket "$SOCK" \
	-H 'Accept: text/event-stream' "http://x/api/builds/$id/logs?limit=1")" 400
is 'images are listed' "$(api GET /api/images | jq -rc ".[] | select(.key == \"$key\") | [.steps, (.names | sort)]")" '[5,["first","second"]]'
chain=$(api GET /api/images | jq -r ".[] | select(.key == \"$key\") | .snapshotID")
call DELETE /api/snapshots/first
is 'delete one of two names' "$code" 204
api POST /api/gc '{}' >/dev/null
is '... keeps the image' "$(api GET "/api/snapshots/$chain" | jq -r .status)" ready
call DELETE /api/snapshots/second
unmount_below "$T"
for m in $(api GET /api/mounts | jq -r '.[].id'); do api DELETE "/api/mounts/$m?discard=1" >/dev/null; done
api POST /api/gc '{}' >/dev/null
call GET "/api/snapshots/$chain"
is 'deleting the last lets gc take it' "$code" 404
n=$(build_count)
create third2 "$(five 'pwd >/five; echo other')"
is '... but not what another was made from' "$code $(($(build_count) - n))" '201 0'
create first "$(five 'pwd >/five; echo said; echo wrong >&2')"
is '... and it is built again' "$code $(last_build .cachedSteps)" '201 4'
key=$(api GET /api/snapshots/queued | jq -r .contentHash)
call DELETE "/api/images/$key"
is 'an image can be forgotten' "$code" 204
call DELETE "/api/images/$key"
is '... once' "$code" 404

# --- the same manifest upon two stores ---
same=$(image "$(run 'mkdir -p /a/b; seq 100000 >/a/b/seq; ln /a/b/seq /a/hard; chmod 751 /a; echo x >/tmp/t')" \
	"$(env_step A 'b c')" "$(add_file /etc/app.conf 'k = v')" "$(run 'useradd -m someone; su someone -c "echo mine >~/f"')")
create same "$same"
is 'here' "$code" 201
stop_daemon
ok 'the daemon ends well' daemon_ended_well
mv "$STATE" "$T/state1"
start_builds "$(cat "$T/config.json")"
create same "$same"
is 'there' "$code" 201
look_at same "$T/there"
snapshotd --state "$T/state1" --socket "$T/sock1" --config "$T/config.json" --foreground >"$T/daemon1.log" 2>&1 &
other=$!
until_true 30 curl -fsS -o /dev/null --unix-socket "$T/sock1" http://x/healthz
mkdir "$T/here"
SNAPSHOTD_SOCKET=$T/sock1 varve mount --read-only same "$T/here" >/dev/null
if helper fsmodel >/dev/null; then
	ok 'are the same files but for times' same_tree_but_times "$T/here" "$T/there"
else
	ok 'are the same files' diff -r --no-dereference "$T/here" "$T/there"
fi
SNAPSHOTD_SOCKET=$T/sock1 varve umount "$T/here" >/dev/null
kill $other
wait $other
done_testing
