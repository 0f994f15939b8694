# shellcheck shell=bash
# lib.sh - for integration tests: TAP, a private daemon, clean-up.
#
#   . "${0%/*}/lib.sh"
#   need root fuse             # else the whole test is skipped
#   start_daemon
#   ok "what holds" command...  # or not_ok, is, like, skip
#   done_testing
#
# A test has a directory of its own, $T, and at most one daemon, whose state is
# $T/state and whose socket is $T/sock. At the end whatever is mounted below $T
# is unmounted, the daemon ended, and $T removed (not if KEEP is set; tests/integration/run
# removes it all the same, so run the test itself: KEEP=1 tests/integration/NNNN-topic.sh).
set -uo pipefail

SRC=${VARVE_SRC:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
BUILD=$(realpath -m "${VARVE_BUILD:-$SRC/build}")
# A build without a sanitizer, for what a test uses and is not about: helpers and, in tests without
# the tag `commands`, varve.
TOOLS=$(realpath -m "${VARVE_TOOLS:-$BUILD}")
export LONG=${VARVE_LONG:-0}
# Limits are multiplied by this: VARVE_SLOW, and more on a host that is slow or has other work.
# shellcheck source=scripts/slowness.sh
. "$SRC/scripts/slowness.sh"
measure_slowness
SLOW=$((${VARVE_SLOW:-1} * ((slowness + 5) / 10)))
export VARVE_SLOW=$SLOW
T=$(mktemp -d "${TMPDIR:-/tmp}/varve-test.XXXXXX") || exit 1
T=$(realpath "$T")
STATE=$T/state
SOCK=$T/sock
DAEMON=
daemon_args=()
export SNAPSHOTD_SOCKET=$SOCK PATH=$BUILD/bin:$PATH LC_ALL=C.UTF-8 TZ=UTC
unset VARVE_API_URL VARVE_API_KEY VARVE_SOCKET
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=0:exitcode=99}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=0:exitcode=98}
umask 022
# A version manager's python3 is a script that takes ten times as long to start as Debian's.
skip_python_shim() {
	local python start
	python=$(type -P python3) && [ -x /usr/bin/python3 ] || return 0
	read -rn 2 start <"$python"
	[ "$start" != '#!' ] || PATH=:$PATH: PATH=${PATH//":${python%/*}:"/:} PATH=${PATH#:} PATH=${PATH%:}
}
skip_python_shim
# Those of curl and jq that start in no time, where they have something to fall back on.
if [ -n "$(type -P curl)" ] && [ -n "$(type -P jq)" ]; then
	PATH=$TOOLS/tests/integration/quick:$PATH
fi
if [ "$TOOLS" != "$BUILD" ] && { ! [ -x "$BUILD/bin/varve" ] ||
	! head -n 30 "$0" | grep -q '^# tags:.*\<commands\>'; }; then
	mkdir "$T/.tools" && ln -s "$TOOLS/bin/varve" "$T/.tools/" && PATH=$T/.tools:$PATH
fi

# A short sleep without a process, for loops that wait.
exec {never}<> <(:)
pause() { # SECONDS
	read -r -t "$1" -u "$never" || :
}

# --- TAP ---
tap_n=0 tap_failed=0 tap_done=0

_result() { # ok|not ok, DESCRIPTION
	tap_n=$((tap_n + 1))
	[ "$1" = ok ] || tap_failed=$((tap_failed + 1))
	printf '%s %d - %s\n' "$1" "$tap_n" "$2"
}
diag() {
	printf '%s\n' "$*" | sed 's/^/# /'
}
pass() { _result ok "$1"; }
fail() { # DESCRIPTION [WHY...]
	_result 'not ok' "$1"
	shift
	[ $# = 0 ] || diag "$*"
}
# The last command's output, the middle left out of a long one.
_show_output() {
	local size
	size=$(stat -c %s "$T/.out")
	if [ "$size" -le 6000 ]; then
		cat "$T/.out"
	else
		head -c 3000 "$T/.out"
		printf '\n[...]\n'
		tail -c 3000 "$T/.out"
	fi | sed 's/^/#   /'
}
# The command's output is shown where the result is not the wanted one.
ok() { # DESCRIPTION COMMAND...
	local what=$1 rc=0
	shift
	"$@" >"$T/.out" 2>&1 || rc=$?
	if [ $rc = 0 ]; then
		pass "$what"
	else
		fail "$what" "status $rc: $*"
		_show_output
	fi
	return $rc
}
# A failure, but not a signal or a command that is not there.
not_ok() { # DESCRIPTION COMMAND...
	local what=$1 rc=0
	shift
	"$@" >"$T/.out" 2>&1 || rc=$?
	if [ $rc != 0 ] && [ $rc -lt 126 ]; then
		pass "$what"
	else
		fail "$what" "status $rc: $*"
		_show_output
		return 1
	fi
}
is() { # DESCRIPTION GOT WANTED
	if [ "$2" = "$3" ]; then
		pass "$1"
	else
		fail "$1" "got '${2:0:400}', wanted '${3:0:400}'"
		return 1
	fi
}
like() { # DESCRIPTION GOT REGEX
	if [[ $2 =~ $3 ]]; then
		pass "$1"
	else
		fail "$1" "got '${2:0:400}', which does not match $3"
		return 1
	fi
}
skip() { # DESCRIPTION REASON
	tap_n=$((tap_n + 1))
	printf 'ok %d - %s # SKIP %s\n' "$tap_n" "$1" "$2"
}
skip_all() { # REASON
	[ $tap_n = 0 ] || fail "skip_all after the first test"
	printf '1..0 # SKIP %s\n' "$1"
	tap_done=1
	exit 0
}
bail() {
	printf 'Bail out! %s\n' "$*"
	exit 1
}
done_testing() {
	if [ -n "$DAEMON" ]; then
		stop_daemon
		ok "the daemon ends well" daemon_ended_well
	fi
	printf '1..%d\n' "$tap_n"
	tap_done=1
	[ "$tap_failed" = 0 ]
	exit
}

# --- what a test needs ---
helper() { # NAME: path of a test program
	local p
	for p in "$TOOLS/tests/model/$1/$1" "$TOOLS/tests/model/$1" "$BUILD/tests/integration/$1"; do
		if [ -x "$p" ] && [ -f "$p" ]; then
			printf '%s\n' "$p"
			return
		fi
	done
	return 1
}
need() { # root | fuse | helper:NAME | COMMAND ...
	local n
	if ! [ -x "$BUILD/bin/snapshotd" ] || ! [ -x "$TOOLS/bin/varve" ]; then
		skip_all "snapshotd and varve are not built in $BUILD"
	fi
	for n; do
		case $n in
		root) [ "$(id -u)" = 0 ] || skip_all "needs root" ;;
		fuse) [ -c /dev/fuse ] || skip_all "needs /dev/fuse" ;;
		helper:*) helper "${n#*:}" >/dev/null || skip_all "needs ${n#*:} (make helpers)" ;;
		*) command -v "$n" >/dev/null || skip_all "needs the command $n" ;;
		esac
	done
}
# Skip the test where less is free below $T.
need_space() { # MEGABYTES
	local free
	free=$(df -Pm "$T" | awk 'NR == 2 { print $4 }')
	[ "$free" -ge "$1" ] || skip_all "needs $1 MB of free disk, has $free"
}

# --- the daemon ---
daemon_alive() {
	[ -n "$DAEMON" ] && kill -0 "$DAEMON" 2>/dev/null
}
daemon_ready() {
	[ -S "$SOCK" ] &&
		curl -fsS -o /dev/null --max-time 5 --unix-socket "$SOCK" http://localhost/healthz 2>/dev/null
}
# start_daemon [ARGUMENT...]: returns when it answers. Arguments are kept for the next start.
# shellcheck disable=SC2120
start_daemon() {
	local i
	[ $# = 0 ] || daemon_args=("$@")
	mkdir -p "$STATE"
	echo "=== start $(date +%T.%N)" >>"$T/daemon.log"
	ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:detect_leaks=1} snapshotd --state "$STATE" --socket "$SOCK" \
		--foreground "${daemon_args[@]}" >>"$T/daemon.log" 2>&1 </dev/null {never}<&- &
	DAEMON=$!
	for ((i = 0; i < 600 * SLOW; i++)); do
		daemon_ready && return 0
		if ! daemon_alive; then
			DAEMON=
			tail -n 20 "$T/daemon.log" | sed 's/^/# /'
			bail "the daemon ended at its start"
		fi
		pause 0.05
	done
	tail -n 20 "$T/daemon.log" | sed 's/^/# /'
	bail "the daemon does not answer"
}
# The same with a clock that is wrong by OFFSET (+2d), but not of files. Fails without libfaketime.
start_daemon_at() { # OFFSET [ARGUMENT...]
	local lib
	lib=$(compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1') || return
	local -x LD_PRELOAD=$lib FAKETIME=$1 FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1
	start_daemon "${@:2}"
}
# A real Debian root as a tar, $ROOT_TAR: made once, for the tests of all builds.
need_debian_root() {
	need mmdebstrap
	ROOT_TAR=$SRC/build/debian-root.tar
	if ! "$SRC/scripts/debian-root" "$ROOT_TAR" >"$T/.root" 2>&1; then
		tail -n 5 "$T/.root" | sed 's/^/# /'
		skip_all "cannot make a Debian root (no mirror?)"
	fi
}
# The Debian packages of this build in $PACKAGES, made once for the tests that install them.
make_packages() {
	local lock commit
	commit=$(git -C "$SRC" rev-parse HEAD 2>/dev/null)
	PACKAGES=$BUILD/tests/packages
	mkdir -p "$PACKAGES"
	exec {lock}>"$PACKAGES/lock"
	flock -w $((300 * SLOW)) "$lock" || return
	if ! [ "$PACKAGES/made" -nt "$BUILD/bin/snapshotd" ] || [ "$(cat "$PACKAGES/made")" != "$commit" ] ||
		[ -n "$(find "$SRC/tools/packaging" -newer "$PACKAGES/made" -print -quit)" ]; then
		VARVE_PREBUILT=$BUILD TMPDIR=$T "$SRC/tools/packaging/build-deb" "$PACKAGES" || return
		echo "$commit" >"$PACKAGES/made"
	fi
	exec {lock}>&-
}
# A daemon whose default template is a Debian root, the snapshot "debian". JSON has more
# members of its config.
start_debian_daemon() { # JSON [ARGUMENT...]
	local config=$T/config.json
	need_debian_root
	# Build steps reach the network as the host does.
	jq -n --argjson more "$1" '$more + {defaultTemplate: "debian", buildEnv: (env |
		with_entries(select(.key | test("^(https?|no)_proxy$"; "i"))))}' >"$config" || bail "bad config"
	start_daemon --config "$config" "${@:2}"
	varve import debian tar "$ROOT_TAR" >"$T/.out" 2>&1 || bail "import of the root: $(cat "$T/.out")"
}
# Whether the mirror that the Debian root's apt uses answers.
mirror_reachable() {
	local uri suite
	read -r _ uri suite _ < <(tar -xOf "$ROOT_TAR" ./etc/apt/sources.list |
		sed 's/\[[^]]*\]//' | grep -m 1 '^deb ')
	curl -fsSI --max-time 30 -o /dev/null "${uri%/}/dists/$suite/Release"
}
# A sanitizer keeps memory that was freed: what a daemon of its build takes says nothing.
is_sanitized() {
	[[ $(nm -D "$BUILD/bin/snapshotd") =~ __(asan|tsan) ]] # not grep -q, after which nm may fail
}
# The base address of the daemon's TCP listener, started with --listen 127.0.0.1:0.
daemon_url() {
	sed -n 's/.*listening on \(127[.0-9]*\) port \([0-9]*\).*/http:\/\/\1:\2/p' "$T/daemon.log" |
		tail -n 1
}
daemon_status=
# Waits for the daemon's end; its status is in daemon_status.
_reap_daemon() {
	local i
	for ((i = 0; i < 600 * SLOW; i++)); do
		daemon_alive || break
		pause 0.05
	done
	if daemon_alive; then
		diag "the daemon does not end; killed"
		kill -9 "$DAEMON"
	fi
	wait "$DAEMON" 2>/dev/null
	daemon_status=$?
	DAEMON=
}
stop_daemon() {
	daemon_alive && kill -TERM "$DAEMON"
	_reap_daemon
}
kill_daemon() {
	kill -9 "$DAEMON" 2>/dev/null
	wait "$DAEMON" 2>/dev/null
	DAEMON=
}
restart_daemon() {
	stop_daemon
	start_daemon
}
daemon_ended_well() {
	if [ "$daemon_status" != 0 ]; then
		echo "status $daemon_status"
		tail -n 60 "$T/daemon.log"
		return 1
	fi
	# A sanitizer's report.
	! grep -nE -A 40 'ERROR: (Address|Leak|Thread)Sanitizer|WARNING: ThreadSanitizer|runtime error:' \
		"$T/daemon.log"
}

# --- shorthand ---
api() { # METHOD PATH [JSON]
	curl -sS --max-time $((600 * SLOW)) --unix-socket "$SOCK" -X "$1" \
		${3:+-H 'Content-Type: application/json' -d "$3"} "http://localhost$2"
}
# The beginning of a reply, without NULs and the newlines at its end, in $body.
read_body() { # FILE [BYTES]
	[ -e "$1" ] || return 0
	read -rN "${2:-100000}" body <"$1"
	body=${body%"${body##*[!$'\n']}"}
}
field() { # JQ-FILTER, JSON on stdin
	jq -r "$1"
}
# A text as a part of a URL, in $REPLY.
uri() { # TEXT
	local LC_ALL=C i c
	REPLY=
	for ((i = 0; i < ${#1}; i++)); do
		c=${1:i:1}
		[[ $c == [a-zA-Z0-9.~_-] ]] || printf -v c %%%02X "$(($(printf %d "'$c") & 255))"
		REPLY+=$c
	done
}
# Looks less often with time: where a test waits long, looking costs more than the wait.
until_true() { # SECONDS COMMAND...
	local i end=$((SECONDS + $1 * SLOW + 1)) pauses=(0.05 0.05 0.1 0.1 0.2)
	shift
	for ((i = 0; SECONDS < end; i++)); do
		"$@" >/dev/null 2>&1 && return
		pause "${pauses[i < 5 ? i : 4]}"
	done
	return 1
}
# What a process has read or written, but for recv() and send().
has_read() { # PROCESS BYTES
	[ "$(sed -n 's/^rchar: //p' "/proc/$1/io")" -ge "$2" ]
}
has_written() { # PROCESS BYTES
	[ "$(sed -n 's/^wchar: //p' "/proc/$1/io")" -ge "$2" ]
}
has_open() { # PROCESS FILE
	find "/proc/$1/fd" -lname "$2" | grep -q .
}
stands_in() { # PROCESS DIR
	[ "$(readlink "/proc/$1/cwd")" = "$2" ]
}
# A list in pages, each after the last item of the one before, is the whole list.
pages_agree() { # PATH ITEMS-A-PAGE [JQ-FILTER of an item's id]
	local sep='?' id=${3:-.id} whole page after='' all='' items
	[[ $1 != *\?* ]] || sep='&'
	whole=$(api GET "$1" | jq -r ".[] | $id")
	while [ ${#all} -lt ${#whole} ]; do
		page=$(api GET "$1${sep}limit=$2$after" | jq -r ".[] | $id")
		mapfile -t items <<<"$page"
		[ ${#items[@]} -le "$2" ] && [ -n "$page" ] || break
		all+=${all:+$'\n'}$page
		uri "${items[-1]}"
		after="&after=$REPLY"
	done
	[ -n "$whole" ] && [ "$all" = "$whole" ] && [ "$(api GET "$1${sep}limit=$2$after")" = '[]' ] ||
		{ printf 'whole:\n%s\npages:\n%s\n' "$whole" "$all" && false; }
}
root_of() { # SNAPSHOT
	local json
	json=$(varve --json show "$1")
	[[ $json =~ \"root\":\ \"([0-9a-f]+)\" ]] && echo "${BASH_REMATCH[1]}"
}
# Mount a snapshot at DIR, which is made.
mount_at() { # SNAPSHOT DIR [OPTION...]
	mkdir -p "$2"
	varve mount "${@:3}" "$1" "$2" >"$T/.mount" 2>&1 || {
		cat "$T/.mount" >&2
		return 1
	}
}
fork_at() { # MOUNT-or-SNAPSHOT DIR [OPTION...]
	mkdir -p "$2"
	varve fork "${@:3}" "$1" "$2" >"$T/.mount" 2>&1 || {
		cat "$T/.mount" >&2
		return 1
	}
}
mount_id() { # DIR
	varve --json mounts | jq -r --arg d "$(realpath -s "$1")" '.[] | select(.mountpoint == $d) | .id'
}
is_mounted() { # DIR
	mountpoint -q "$1"
}
# An empty snapshot, the start of tests that write everything themselves.
import_empty() { # NAME
	mkdir -p "$T/empty" && chmod 755 "$T/empty" && varve import "$1" dir "$T/empty"
}
# Two trees are the same: names, contents, attributes, xattrs, links, times of files.
same_tree() { # DIR DIR
	FSMODEL_SINCE=99999999999 "$(helper fsmodel)" --compare "$1" "$2"
}
same_tree_but_times() { # DIR DIR
	FSMODEL_SINCE=-99999999999 "$(helper fsmodel)" --compare "$1" "$2"
}
# Milliseconds that a command takes, on stdout; the command's output is dropped.
millis() {
	local from to
	from=$(date +%s%N)
	"$@" >/dev/null || return
	to=$(date +%s%N)
	echo $(((to - from) / 1000000))
}
# An upper bound for times on a busy machine: fails only far beyond it.
at_most() { # DESCRIPTION MILLISECONDS LIMIT
	local limit=$(($3 * SLOW))
	diag "$1: $2 ms"
	if [ "${2:-0}" -gt $limit ]; then # the host may have become busy since
		measure_slowness
		limit=$((limit * slowness / 10))
	fi
	if [ -n "$2" ] && [ "$2" -le $limit ]; then
		pass "$1"
	else
		fail "$1" "took '$2' ms, limit $limit ms"
	fi
}

unmount_below() { # DIR
	local dir
	awk -v d="$1/" 'index($2, d) == 1 { print $2 }' /proc/self/mounts | tac |
		while read -r dir; do
			umount -l "$(printf '%b' "$dir")" 2>/dev/null
		done
}
_cleanup() {
	local status=$? job
	trap - EXIT INT TERM HUP
	cd /
	[ $tap_done = 1 ] || [ $status = 0 ] || diag "ended early, status $status"
	for job in $(jobs -p); do
		[ "$job" = "$DAEMON" ] || kill "$job" 2>/dev/null
	done
	if [ -n "$DAEMON" ]; then
		[ -z "${KEEP:-}" ] || diag "the test's files are in $T"
		kill -TERM "$DAEMON" 2>/dev/null
		local i
		for ((i = 0; i < 100 * SLOW; i++)); do
			kill -0 "$DAEMON" 2>/dev/null || break
			pause 0.05
		done
		kill -9 "$DAEMON" 2>/dev/null
	fi
	unmount_below "$T"
	if [ "$tap_failed" != 0 ] || [ $tap_done = 0 ]; then
		[ ! -s "$T/daemon.log" ] || tail -n 40 "$T/daemon.log" | sed 's/^/# daemon: /'
	fi
	[ -n "${KEEP:-}" ] || rm -rf --one-file-system "$T"
	[ $tap_done = 1 ] || [ $status != 0 ] || status=1
	exit $status
}
trap _cleanup EXIT
trap 'exit 130' INT TERM HUP
