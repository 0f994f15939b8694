#!/bin/bash
# timeout: 600
# tags: sandbox asan
# Builds that fail: told as what they failed with, with nothing left and the host unharmed.
. "${0%/*}/lib.sh"
. "${0%/*}/builds.sh"
code='' build=''
need_builds
step_limit=$((12 * (SLOW < 4 ? SLOW : 4)))
settings=$(jq -nc "{buildStepTimeout: $step_limit, buildMemoryMB: 100, buildPids: 200, buildDiskMB: 60}")
start_builds "$settings"

# fails DESCRIPTION IMAGE FAILURE MESSAGE-REGEX: as events, as an answer and in the record.
n=0
fails() {
	n=$((n + 1))
	create "bad$n" "$2"
	is "$1: 422" "$code" 422
	like "... says so" "$(get .error)" "$4"
	is "... and which step" "$(get .step)" "$(cut -d' ' -f2 <<<"$3")"
	is "... for programs, too" "$(failure)" "failed $3"
	is "... also of its snapshot" "$(api GET "/api/snapshots/bad$n" | jq -r '.status + .error')" "failed$(get .error)"
	ok "... nothing is left" nothing_left
}

fails 'a step exits 1' "$(image "$(run true)" "$(run 'echo so far; exit 1')")" \
	'exit 2 run 1 null' '^step 2 \(run\): `echo so far; exit 1` exited with status 1$'
create_events again "$(image "$(run true)" "$(run 'echo so far; exit 1')")" "$T/ev"
is '... again, as it is not remembered' "$(last_build .cachedSteps)" 1
is '... as an event' "$(events error "$T/ev" | jq -c .step)" 2
is '... after what it said' "$(messages "$T/ev" | grep -c '^so far$')" 1
call GET "/api/builds/$(last_build .id)/logs"
ok '... whose log is kept' jq -e 'any(.[]; .message == "so far")' "$T/body"
call GET "/api/builds/$(last_build .id)/logs" -H 'Accept: text/event-stream'
like '... and ends with the reason' "$(events error "$T/body")" 'exited with status 1'

fails 'the first of many commands' "$(image "$(run 'exit 7' 'touch /never')")" 'exit 1 run 7 null' 'exit 7'
fails '... a later one, after what the first has set' \
	"$(image "$(run 'cd /usr; export A=b; set -e' 'echo "$PWD $A $#" >&2; (exit 4); echo not' 'touch /never')")" \
	'exit 1 run 4 null' '^step 1 \(run\): `echo "\$PWD \$A \$#" >&2; \(exit 4\); echo not` exited with status 4: /usr b 0$'
fails '... one of bad syntax' "$(image "$(run 'true' 'if' 'touch /never')")" 'exit 1 run 2 null' '^step 1 \(run\): `if` exited'
fails 'a command that is not there' "$(image "$(run nonesuch)")" 'exit 1 run 127 null' 'status 127'
fails 'a step kills its shell' "$(image "$(run 'kill -9 $$')")" 'signal 1 run 137 9' 'was killed by signal 9'
fails 'a step dies of a signal' "$(image "$(run 'kill -SEGV $$')")" 'signal 1 run 139 11' 'signal 11'
# shellcheck disable=SC2016
fails 'a step without end' "$(image "$(run 'trap "" TERM; setsid sleep 1000 & while :; do sleep 1; done')")" \
	'timeout 1 run 137 9' "a step may take $step_limit s"
eater='python3 -c "
import os
a = []
while True: a.append(os.urandom(1 << 20))"'
fails 'a step that eats memory' "$(image "$(run "exec $eater")")" 'memory 1 run 137 9' 'killed for memory: a build has 100 MB'
fails '... in a child' "$(image "$(run "($eater); exit 3")")" 'memory 1 run 3 null' 'killed for memory'
create more "$(image "$(run 'python3 -c "a = bytes(150 << 20)"')" | jq -c '.builderMemoryMB = 400')"
is 'an image may ask for more' "$code" 201
fails 'a step that fills the disk' "$(image "$(run 'head -c 100M /dev/urandom >/fill')")" \
	'space 1 run 1 null' 'ran out of space: a step may write 60 MB'
fails '... and does not notice' "$(image "$(run 'head -c 100M /dev/urandom >/fill || :; exit 0')")" \
	'space 1 run 0 null' 'ran out of space'
create twice "$(image "$(run 'head -c 40M /dev/urandom >/a')" "$(run 'head -c 40M /dev/urandom >/b')")"
is 'what each step writes counts for itself' "$code" 201

# The limit is 200: a thousand children are too many, 150 are not.
fails 'a step that forks a thousand children' \
	"$(image "$(run 'i=0; while [ $i -lt 1000 ]; do sleep 60 & i=$((i + 1)); done')" | jq -c '.builderMemoryMB = 2000')" \
	'exit 1 run 2 null' 'exited with status 2'
create forks "$(image "$(run 'for i in $(seq 150); do sleep 1000 & done')" | jq -c '.builderMemoryMB = 2000')"
is '... unless there are so many' "$code" 201
ok '... which are ended, too' nothing_left
create bomb "$(image "$(run 'f() { f | f & }; f; sleep 3')")"
ok 'a fork bomb ends' nothing_left

# --- the host ---
echo "the host's" >"$T/secret"
chmod 666 "$T/secret"
rm -f /tmp/varve-escape
fails 'sysrq is not for a step' "$(image "$(run 'echo h >/proc/sysrq-trigger')")" \
	'exit 1 run 2 null' 'sysrq-trigger'
like '... as its file cannot be written' "$(api GET "/api/builds/$(last_build .id)/logs" | jq -r '.[].message')" \
	'[Rr]ead-only|[Pp]ermission|nonexistent'
fails 'a step cannot mount' "$(image "$(run 'mount -t tmpfs none /mnt')")" 'exit 1 run 32 null' 'mount'
fails '... in a namespace of its own' "$(image "$(run 'unshare -m true')")" 'exit 1 run 1 null' 'unshare'
fails '... a device' "$(image "$(run 'mknod /disk b 254 0 && head -c 1 /disk')")" 'exit 1 run 1 null' 'mknod'
reach="$(
	cat <<-'END'
		found=0
		for p in / /proc/1/root /proc/self/root /proc/*/root /proc/*/cwd /proc/1/fd/* /proc/self/fd/*; do
			for up in '' /.. /../.. /../../../..; do
				[ -e "$p$up$SECRET" ] && echo "reached by $p$up" && found=1
			done
		done
		cat /proc/kcore /proc/kmsg >/dev/null 2>&1 && found=1
		for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /sys/kernel/uevent_helper /proc/self/oom_score_adj.; do
			(echo x >$f) 2>/dev/null && echo "wrote $f" && found=1
		done
		kill -9 $HOST_PID 2>/dev/null && found=1
		[ $(ls -d /proc/[0-9]* | wc -l) -lt 10 ] || found=1
		exit $found
	END
)"
sleep 1000 &
host_pid=$!
create reach "$(image "$(run "SECRET=$T/secret HOST_PID=$host_pid; $reach")")"
is 'the host is out of reach' "$code $(get .error)" '201 null'
ok '... its processes live' kill -0 $host_pid
is '... its files are as they were' "$(cat "$T/secret")" "the host's"
kill $host_pid
create perl "$(image "$(run 'ln -s /proc/1/root/../../.. /up; ln -s ../../../../../../../../.. /up2')" \
	"$(add_file "/up/$T/secret" overwritten)" "$(add_file "/up2/$T/made" made)")"
is 'nor by links' "$(cat "$T/secret"; ls "$T/made" 2>/dev/null)" "the host's"

# --- a container that dies ---
fails 'a step that ends the agent' "$(image "$(run 'kill -9 1; kill -TERM 1; sleep 0.5; echo still here; exit 9')")" \
	'exit 1 run 9 null' 'status 9'
create_events dying "$(image "$(run 'echo go; sleep 30')")" "$T/dying" &
waiter=$!
until_true 20 grep -q '"go"' "$T/dying"
# The first process of its container, as the host sees it, and nobody else's.
id=$(last_build .id)
agent=$(find /sys/fs/cgroup -maxdepth 3 -path "*$id*" -name cgroup.procs -exec sort -n {} + 2>/dev/null | head -n 1)
kill -9 "$agent"
wait $waiter
like 'the death of a container is told' "$(events error "$T/dying")" "the build's container has died"
is '... as what it is' "$(failure)" 'failed container 1 run null null'
ok '... with nothing left' nothing_left

# --- the base, and what cannot be started ---
mkdir -p "$T/bare"
varve import bare dir "$T/bare" >/dev/null
fails 'no shell' "$(image "$(run true)" | jq -c '.base = "snapshot:bare"')" 'start 1 run null null' 'cannot be started'
fails 'no apt-get' "$(image '{"type":"apt_install","args":{"packages":["x"]}}' | jq -c '.base = "snapshot:bare"')" \
	'start 1 apt_install null null' 'apt-get'
fails 'a file where a directory is' "$(image "$(add_file /etc x)")" 'exit 1 add_file 1 null' 'Is a directory'
fails 'a directory where a file is' "$(image "$(workdir /etc/passwd/x)")" 'exit 1 workdir 1 null' 'Not a directory'

# --- in all ---
stop_daemon
ok 'the daemon ends well' daemon_ended_well
build_limit=$((4 + 4 * (SLOW < 4 ? SLOW : 4)))
start_builds "$(jq -c ". + {buildTimeout: $build_limit}" <<<"$settings")"
fails 'a build that takes too long' "$(image "$(run 'sleep 2')" "$(run 'sleep 1')" "$(run 'sleep 60')")" \
	'timeout 3 run 137 9' "a build may take $build_limit s"

# --- a failed build that is kept ---
create kept "$(image "$(run 'echo evidence >/evidence; exit 1')")" keepFailed=true
is 'keepFailed' "$code" 422
mount=$(last_build .mountID)
place=$(api GET "/api/mounts/$mount" | jq -r .mountpoint)
is '... keeps its mount' "$(cat "$place/evidence")" evidence
like '... which is listed with the others' "$(varve mounts)" "$place"
restart_daemon
is '... over a restart' "$(cat "$place/evidence")" evidence
call DELETE "/api/mounts/$mount?discard=1"
is '... until it is discarded' "$code" 204
restart_daemon
ok '... and then nothing is left' nothing_left

# --- no runtime ---
start_after_stop() {
	stop_daemon
	start_builds "$1"
}
start_after_stop "$(jq -c '. + {runtime: "no-such-runtime"}' <<<"$settings")"
create noruntime "$(image "$(run 'echo unique')")"
is 'without a runtime' "$code" 422
like '... the reason is it' "$(get .error)" '"no-such-runtime" is not installed'
ok '... nothing is left' nothing_left
create nosteps "$(image)"
is '... what needs none is made' "$code" 201

# --- at its end ---
start_after_stop "$settings"
start_endless last
create_events lastwait "$(image "$(run "echo last; exec sleep 1000")")" "$T/lastwait" &
waiter=$!
until_true 20 grep -q '"last"' "$T/lastwait"
ok 'SIGTERM ends what runs' at_most_ms 8000 stop_daemon
ok '... well' daemon_ended_well
wait $waiter
start_builds "$settings"
is '... as cancelled' "$(api GET "/api/builds/$build" | jq -r '.state + ": " + .error')" \
	'cancelled: the build was cancelled: snapshotd is stopping'
is '... with its snapshot' "$(api GET /api/snapshots/last | jq -r .status)" failed
ok '... and nothing left' nothing_left
done_testing
