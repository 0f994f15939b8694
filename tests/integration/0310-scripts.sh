#!/bin/bash
# The runners of tests: time limits that allow for a busy host, and how far they are.
# tags: quick
# timeout: 120
. "${0%/*}/lib.sh"
need taskset
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
done_testing
