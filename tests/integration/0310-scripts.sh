#!/bin/bash
# The scripts: time limits that allow for a busy host, how far the tests are, and what
# is installed on a bare system.
# tags: quick
# timeout: 120
. "${0%/*}/lib.sh"
need root taskset setpriv
cd "$SRC" || exit
patiently() { scripts/patiently "$@"; }

patiently 60 sh -c 'exit 3'
is "the status is the command's" $? 3
patiently --cpu "$T/cpu" 60 sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'
like "its CPU time is told" "$(<"$T/cpu")" '^[0-9]+\.[0-9]$'
not_ok "and is some" test "$(<"$T/cpu")" = 0.0
patiently 1 sh -c "sleep 1000 & echo \$! >'$T/child'; wait"
is "what hangs is ended" $? 124
not_ok "with its children" grep -qs sleep "/proc/$(<"$T/child")/cmdline"

# On a CPU that six others keep busy, two seconds of waiting are not one of work.
busy=()
cpu=$(taskset -cp $$ | sed 's/.*: \([0-9]*\).*/\1/')
for _ in 1 2 3 4 5 6; do
	taskset -c "$cpu" sh -c 'while :; do :; done' &
	busy+=($!)
done
taskset -c "$cpu" scripts/patiently 1 sleep 2
is "a busy host gets more time" $? 0
kill "${busy[@]}"
wait "${busy[@]}" 2>/dev/null

# --- how far they are ---
printf '#!/bin/sh\necho 1..1\necho ok 1 - x\n' >"$T/one"
printf '#!/bin/sh\necho 1..1\necho not ok 1 - x\n' >"$T/two"
chmod +x "$T/one" "$T/two"
scripts/tap "$T/one" "$T/two" >"$T/out"
like "tap counts programs" "$(<"$T/out")" 'one +1 passed .*\[1 of 2\].*two +0 passed, 1 failed .*\[2 of 2\].*1 passed, 1 failed'
export VARVE_TEST_LOGS=$T/logs # not those of the run that runs this
VARVE_LINT=layers "$SRC/scripts/test" lint >"$T/out" 2>&1
like "test tells the stage and its end" "$(<"$T/out")" \
	'stage 1 of 1: lint \(so far .*lint +[0-9]+:[0-9]+ +1 passed.*all 1 stages took .*1 passed, 0 failed$'
(cd / && VARVE_LINT=layers "$SRC/scripts/test" lint >"$T/out" 2>&1)
like "from any directory" "$(tail -n 1 "$T/out")" '^1 passed, 0 failed'
VARVE_LINT=no-check "$SRC/scripts/test" lint >"$T/out" 2>&1
is "a stage that fails fails all" $? 1
like "and is told, with its log" "$(<"$T/out")" \
	'lint +[0-9]+:[0-9]+ +0 passed, 1 FAILED.*not ok 1 - no-check.*all of it: .*/lint.log.*0 passed, 1 failed$'

# --- on a bare system, whose package database knows nothing ---
mkdir "$T/dpkg" "$T/dpkg/info" "$T/dpkg/updates"
: >"$T/dpkg/status"
# Not root, so that it only says what it would install.
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
DPKG_ADMINDIR=$T/dpkg as_nobody scripts/deps test >"$T/out" 2>&1
is "deps installs on a bare system, too" $? 1
like "all of it" "$(<"$T/out")" 'install .*gcc .*libfuse3-dev .*runc .*nginx-light'
as_nobody scripts/deps >"$T/out" 2>&1
is "and nothing where all is there" "$?$(<"$T/out")" 0
done_testing
