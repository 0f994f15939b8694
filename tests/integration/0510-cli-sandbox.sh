#!/bin/bash
# Images and sandboxes from the command line: build, builds, logs, cancel, images; run, exec,
# sandboxes, kill, files, checkpoints and restore; template's mistakes.
# timeout: 600
# tags: sandbox
. "${0%/*}/lib.sh"
need root fuse jq runc
need_space 3000
need_debian_root

export SNAPSHOTD_API_KEY='the key of this test'
start_daemon --listen 127.0.0.1:0
cd "$T" || exit

run() {
	"$@" >"$T/.stdout" 2>"$T/.stderr" </dev/null
	st=$?
	out=$(<"$T/.stdout") err=$(<"$T/.stderr")
}
# fails DESCRIPTION STATUS REGEX-OF-STDERR COMMAND...: and says nothing on standard output
fails() {
	local what=$1 status=$2 regex=$3
	shift 3
	run "$@"
	if [ $st = "$status" ] && [[ $err =~ $regex ]] && [ -z "$out" ]; then
		pass "$what"
	else
		fail "$what" "status $st, stderr: $err" "stdout: $out"
	fi
}
count() { # COMMAND: how many it lists
	varve --json "$1" | jq length
}

ok "import a Debian root" varve import debian tar "$ROOT_TAR"

# --- build ---
cat >image.json <<'END'
{"base": "snapshot:debian", "steps": [
  {"type": "run", "args": {"commands": ["echo said by a step", "echo made >/made"]}},
  {"type": "env", "args": {"vars": {"COLOUR": "a b"}}},
  {"type": "workdir", "args": {"path": "/srv/app"}}]}
END
run varve build image.json --name app
is "build succeeds" "$st" 0
like "and tells the snapshot" "$out" '^app: [0-9]+ files, .* new in the store$'
like "with the step's output on standard error" "$err" $'(^|\n)said by a step'
is "the snapshot has the manifest" "$(varve --json show app | jq -c .manifest.steps)" "$(jq -c .steps image.json)"
unlike() { if [[ $2 =~ $3 ]]; then fail "$1" "got '${2:0:400}'"; else pass "$1"; fi; }
unlike "show leaves it out" "$(varve show app)" 'said by'
like "and counts its steps" "$(varve show app)" 'steps +3'
run varve build image.json
is "a build without a name" "$st" 0
like "is a hit" "$out" '^[0-9a-f-]{36}  \(cached\)$'
is "as JSON" "$(varve --json build - <image.json 2>/dev/null | jq -c .cached)" true
is "images has it once" "$(varve --json images | jq -c '[.[] | .names]')" '[["app"]]'
like "images is a table" "$(varve images)" '^KEY +SNAPSHOT.*'$'\n''[0-9a-f]{12} .*snapshot:debian +app$'
like "builds is a table" "$(varve builds)" '^BUILD +STATE +STEP.*'$'\n''[0-9a-f]{8} +ready +3/3 .* app '
build=$(varve --json builds | jq -r '.[0].id')
like "logs prints the log" "$(varve logs "${build:0:8}")" 'said by a step'
is "logs -f ends with the build" "$(varve logs -f "$build" | md5sum)" "$(varve logs "$build" | md5sum)"
is "logs as JSON, a line each" "$(varve --json logs "$build" | jq -r 'select(.stream == "stdout").message' | head -n 1)" \
	"said by a step"
fails "logs of nothing" 1 'no build has the id or made the snapshot "zzzz"' varve logs zzzz
is "logs of what it made" "$(varve logs app | md5sum)" "$(varve logs "$build" | md5sum)"
varve rename app renamed >/dev/null
is "... under another name, too" "$(varve logs renamed | md5sum)" "$(varve logs "$build" | md5sum)"
varve rename renamed app >/dev/null
fails "a name that is taken" 1 'exists already' varve build image.json --no-replace --name app
moving() { # COMMAND: a manifest
	jq -c --arg c "$1" '.steps[0].args.commands = [$c]' image.json
}
varve build -q image.json --name moving >/dev/null 2>&1
was=$(varve --json show moving | jq -r .root)
run varve build -q <(moving 'exit 3') --name moving
is "a name stays where it is while nothing is built" "$st,$(varve --json show moving | jq -r .root)" "1,$was"
ok "it moves to what is built" varve build -q <(moving 'echo other >/made') --name moving
is "... with its files" "$(varve cat moving:/made)" other
ok "... and to what is cached" varve build -q image.json --name moving
is "... with all that it is" "$(varve --json show moving | jq -r .root)" "$was"
fails "not from what was imported" 1 'was not built' varve build -q image.json --name debian
is "nothing else is left" "$(api GET '/api/snapshots?all=1' | jq '[.[] | select(.status != "ready")] | length')" 0
varve rm moving
fails "a manifest that is none" 1 'line 2: ' varve build <(echo '{')
echo '{"base": "snapshot:debian", "steps": [{"type": "nope", "args": {}}]}' >bad.json
fails "a step that is none" 1 'step 1' varve build bad.json
fails "a file that is not there" 1 'nowhere.json: No such file' varve build nowhere.json

echo '{"base": "snapshot:debian", "steps": [{"type": "run", "args": {"commands": ["echo trying", "exit 7"]}}]}' >bad.json
run varve build bad.json --name bad
is "a failing build fails" "$st" 1
like "with its step and status" "$err" 'varve: build: step 1 \(run\).* 7'
like "and its log" "$err" 'trying'
run varve build -q bad.json
unlike "quiet has no log" "$err" $'(^|\n)trying'
run varve logs -f "$(varve --json builds | jq -r '.[0].id')"
is "logs -f of a failed build fails" "$st" 1
# Nothing answers there.
echo '{"base": "snapshot:debian", "steps": [{"type": "run", "args": {"commands":
	["echo deb http://127.0.0.1:9/debian stable main >/etc/apt/sources.list",
	 "apt-get -o Acquire::Retries=0 update", "apt-get install -y frotz"]}}]}' >bad.json
run varve build -q bad.json
like "what was unreachable is named" "$err" 'step 1 .*; it could not reach 127\.0\.0\.1:9: .*Connection refused'

echo '{"base": "snapshot:debian", "steps": [{"type": "run", "args": {"commands": ["echo waits", "sleep 300"]}}]}' >long.json
varve build long.json >long.out 2>&1 &
waiter=$!
for _ in {1..100}; do
	grep -q '^waits' long.out && break
	pause 0.1
done
ok "the log comes while it runs" grep -q '^waits' long.out
build=$(varve --json builds | jq -r '.[] | select(.state == "step").id')
ok "cancel" varve cancel "${build:0:8}"
wait $waiter
is "who waited is told" "$?" 1
like "why" "$(tail -n 1 long.out)" 'cancelled'
fails "cancel of what has ended" 1 'has ended' varve cancel "$build"

# A signal leaves a build to itself, and says so.
sed 's/waits/goes on/' long.json >left.json
varve build left.json >left.out 2>&1 &
waiter=$!
for _ in {1..100}; do
	grep -q '^goes on' left.out && break
	pause 0.1
done
kill -TERM $waiter
wait $waiter
is "a build that is left ends with the signal's status" "$?" 143
build=$(varve --json builds | jq -r '.[] | select(.state == "step").id')
like "and says what to do with the build that goes on" "$(<left.out)" \
	"build ${build:0:8} goes on: .varve logs -f ${build:0:8}. .* .varve cancel ${build:0:8}."
ok "it does, and is cancelled" varve cancel "$build"

# --- run ---
run varve run --snapshot app -- sh -c 'cat /made; echo "$COLOUR"; pwd; echo problem >&2; exit 3'
is "run has the command's status" "$st" 3
is "its output, in the image's environment and directory" "$out" $'made\na b\n/srv/app'
is "and its errors" "$err" "problem"
is "the sandbox is gone" "$(count sandboxes)" 0
is "run of a manifest" "$(varve run -q --image image.json cat /made)" made
run varve run --snapshot app -e A=1 --env COLOUR=red -w /tmp -m 256M --cpus 0.5 --disk 64M -- \
	sh -c 'echo "$A $COLOUR"; pwd; dd if=/dev/zero of=/big bs=1M count=200 2>/dev/null || echo full'
is "run takes variables, a directory and limits" "$out" $'1 red\n/tmp\nfull'
varve run --snapshot app -- sh -c 'printf "\377\000\n"; head -c 3000000 /dev/zero' | md5sum >got
is "any bytes, and many" "$(<got)" "$({ printf '\377\000\n' && head -c 3000000 /dev/zero; } | md5sum)"
run varve run --snapshot app nothere
is "a command that is not there" "$st" 127
run varve run --snapshot app -- sh -c 'kill -9 $$'
is "a command that a signal ended" "$st" 137
run varve run --snapshot app --timeout 1s -- sleep 60
is "a command whose time is over" "$st" 124
run varve run --snapshot app -- sh -c 'exit 2'
is "status 2 of a command is no mistake in usage" "$st,$err" "2,"
run varve run --snapshot app -- sh -c 'exit 1'
is "nor is 1 a failure of varve" "$st,$err" "1,"
fails "a snapshot that is not there" 125 'no snapshot named "nope"' varve run --snapshot nope true
fails "no default template" 125 'template build debian-12' varve run true
fails "an image that cannot be built" 125 'step 1' varve run -q --image bad.json true
fails "both are too many" 2 'not both' varve run --image image.json --snapshot app true
fails "a size that is none" 2 "'lots' is no size" varve run -m lots --snapshot app true
fails "a variable that is none" 2 "'A' is no K=V" varve run -e A --snapshot app true
is "a slow reader gets what was in the pipe at the end" "$(varve run --snapshot app -- sh -c 'head -c 500000 /dev/zero &' |
	(sleep 2 && wc -c))" 500000
run varve run --snapshot app -- sh -c 'sleep 100 & echo on'
is "a background process does not hold it" "$out" on
like "and it is told what is missed" "$err" 'varve: .*not shown'
varve run --snapshot app -- sh -c 'while :; do echo y; done' | head -n 1 >got
is "output that nobody reads ends it" "$(<got),${PIPESTATUS[0]}" "y,141"
varve run --snapshot app -- sh -c 'echo started; sleep 60' >got 2>&1 &
runner=$!
for _ in {1..100}; do
	grep -q started got && break
	pause 0.1
done
is "output comes while it runs" "$(<got)" started
kill -TERM $runner # a job of a script ignores SIGINT
wait $runner
is "a signal ends it" "$?" 143
is "and each of these sandboxes is gone" "$(count sandboxes)" 0
is "run as JSON" "$(varve --json run --snapshot app -- sh -c 'echo o; echo e >&2; exit 4' |
	jq -c '[.exitCode, .stdout, .stderr]')" '[4,"o\n","e\n"]'

# --- sandboxes, exec, files ---
run varve run --keep --snapshot app -- sh -c 'echo kept >/srv/app/file'
is "run --keep" "$st" 0
like "says the id" "$err" 'the sandbox sb-[0-9a-f]{16} is kept$'
id=$(varve --json sandboxes | jq -r '.[0].sandboxID')
like "sandboxes is a table" "$(varve sandboxes)" "^SANDBOX.*"$'\n'"$id +running +app "
is "mounts leaves out a sandbox's" "$(varve mounts 2>/dev/null; varve --json mounts 2>/dev/null | jq length)" 0
like "and counts it" "$(varve mounts 2>&1)" "1 more mount belongs to sandboxes and builds: see 'varve mounts --all'"
like "--all lists it" "$(varve mounts -a)" "$STATE/sandboxes/$id/"
is "as JSON, too" "$(varve --json mounts --all | jq length)" 1
is "exec" "$(varve exec "$id" cat file)" kept
is "exec by the start of an id" "$(varve exec "${id:3:6}" -- cat file)" kept
is "exec with variables and a directory" "$(varve exec -e X=y -w / "$id" -- sh -c 'echo $X; pwd')" $'y\n/'
run varve exec "$id" -- sh -c 'exit 9'
is "exec has the command's status" "$st" 9
fails "exec in nothing" 125 'no sandbox has the id "sb-0000"' varve exec sb-0000 true
head -c 3000000 /dev/urandom >bytes
ok "files put" varve files put "$id" bytes /new/dir/bytes
ok "files get" varve files get "$id" /new/dir/bytes back
ok "gives the same" cmp bytes back
is "files from and to standard streams" \
	"$(varve files put "$id" - /new/text <<<"some text" && varve files get "$id" /new/text)" "some text"
is "files ls" "$(varve files ls "$id" /new | tr -s ' ' | sed 's/^ //')" $'- dir/\n10 B text'
is "files ls as JSON" "$(varve --json files ls "$id" /new | jq -c '.[] | [.name, .isDir]' | xargs)" \
	'[dir,true] [text,false]'
varve exec "$id" -- sh -c ': >"/new/dir/$(printf "caf\351")"; : >/new/dir/é'
is "names of any bytes in files ls" "$(varve files ls "$id" /new/dir | tr -s ' ' | sed 's/^ //')" \
	$'2.9 MiB bytes\n0 B caf\xe9\n0 B é'
is "and as JSON" "$(varve --json files ls "$id" /new/dir | jq -r '.[].nameBase64 // empty' | base64 -d)" $'caf\xe9'
ok "files mkdir" varve files mkdir "$id" /m/a /m/b
is "made them" "$(varve exec "$id" -- ls /m | xargs)" "a b"
ok "files rm" varve files rm "$id" /m /new/text
fails "what is not there" 1 '/new/text: No such file' varve files get "$id" /new/text
fails "leaves no file" 1 . varve files get "$id" /new/text nofile
not_ok "none at all" test -e nofile
fails "a directory is not read" 1 'Is a directory' varve files get "$id" /new
fails "words are checked" 2 'put needs SANDBOX FILE PATH' varve files put "$id" bytes
fails "what to do is checked" 2 "does ls, get, put, rm or mkdir, not 'cp'" varve files cp "$id" /
echo secret >secret
ok "a link to a file of the host" varve exec "$id" -- ln -s "../../../../../../../..$T/secret" /escape
fails "means what it means inside" 1 'No such file' varve files get "$id" /escape

# --- checkpoints ---
run varve checkpoint "$id" one
is "checkpoint of a sandbox" "$st" 0
like "and how long programs stood still" "$out" 'programs stood still for [0-9.]+ ms'
like "says what is new" "$out" '^one: [0-9]+ files, .* new in the store'
ok "change it" varve exec "$id" -- sh -c 'echo changed >file; sleep 100 >/dev/null 2>&1 &'
like "checkpoints is a table" "$(varve checkpoints "$id")" $'\n''one +[0-9a-f-]{36} +ready '
ok "restore" varve restore "$id" one
is "puts it back" "$(varve exec "$id" cat file)" kept
fails "restore of nothing" 1 'no checkpoint of it has the id "two"' varve restore "$id" two
checkpoint=$(varve --json checkpoints "$id" | jq -r '.[0].id')
is "a sandbox of a checkpoint" "$(varve run --snapshot "$checkpoint" cat file)" kept
fails "a checkpoint's name that is taken" 1 . varve checkpoint "$id" one

restart_daemon
is "after a restart it is there, with its files" "$(varve exec "$id" cat file)" kept
ok "kill" varve kill "${id:3}"
is "it is gone" "$(count sandboxes)" 0
fails "kill of nothing" 1 "no sandbox has the id" varve kill "$id"

# --- completion ---
complete() { varve __complete -- "$@" | xargs; }
id=$(varve --json run --keep --snapshot app true 2>/dev/null | jq -r .sandboxID)
is "completion of sandboxes" "$(complete exec sb)" "$id"
snapshot=$(varve --json mounts --all | jq -r '.[0].snapshotId')
run varve rm "$snapshot"
is "rm of what a sandbox uses" "$st" 0
is "tells which" "$err" "$snapshot: the sandbox $id still uses its space"
is "of sandboxes of files" "$(complete files get sb)" "$id"
is "of templates" "$(complete template build deb)" debian-12
is "of builds" "$(complete logs "${build:0:8}")" "$build"
is "of a manifest's file" "$(complete build ima)" "@files"
ok "kill it" varve kill "$id"

# --- templates: what goes wrong ---
is "template list" "$(varve --json template list | jq -c '[.[].name]')" '["debian-12","ubuntu-22.04"]'
like "template show" "$(varve template show debian-12)" 'suite +bookworm.*apt_install'
ok "template show as JSON is the recipe" \
	jq -e --slurpfile a <(varve --json template show debian-12) -n '$a[0].bootstrap.suite == "bookworm"'
fails "no such template" 1 'there is no template "nope"' varve template show nope
fails "a template's name is needed" 2 'needs a template' varve template build
mkdir recipes
echo '{"bootstrap": {"suite": "bookworm"}, "steps": []}' >recipes/own.json
is "recipes of one's own" "$(VARVE_TEMPLATES=recipes varve --json template list | jq -r '.[0].name')" own
echo '{"bootstrap": {"suite": "bookworm", "mirror": 1}, "steps": []}' >recipes/bad.json
fails "a recipe that is none" 1 'bad.json: bootstrap has no member "mirror"' varve template show recipes/bad.json
snapshots=$(count snapshots)
run varve template build debian-12 --mirror http://127.0.0.1:9/debian
is "a mirror that does not answer" "$st" 1
like "is named" "$(tail -n 1 <<<"$err")" 'varve: template: bootstrap of bookworm: could not reach 127.0.0.1:9: .*refused'
run env PATH="$BUILD/bin" varve template build debian-12
like "without mmdebstrap" "$err" 'mmdebstrap is not installed'
# --- over TCP ---
tcp() { # ARGUMENT...
	VARVE_API_URL=$(daemon_url) VARVE_API_KEY=$SNAPSHOTD_API_KEY SNAPSHOTD_SOCKET=$T/none varve "$@"
}
is "run and its input go over TCP" "$(echo typed | tcp run --snapshot debian -- sh -c 'cat; exit 3'; echo $?)" $'typed\n3'
sandbox=$(tcp run -k --snapshot debian -- touch /made 2>&1 | grep -o 'sb-[a-z0-9-]*')
is "and exec" "$(tcp exec "$sandbox" -- ls /made)" /made
is "whose mount is none of the user's" "$(tcp --json mounts | jq length)" "$(varve --json mounts | jq length)"
ok "and kill" tcp kill "$sandbox"

is "failures leave no snapshot" "$(count snapshots)" "$snapshots"
is "and nothing mounted" "$(awk -v d="$STATE/" 'index($2, d) == 1' /proc/self/mounts)" ""
done_testing
