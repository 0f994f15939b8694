#!/bin/bash
# kill -9 of the daemon under load: all that had to survive has survived.
# VARVE_CRASH_ROUNDS (10; 100 with VARVE_LONG=1): how often.
# tags: model
# timeout: 1200
. "${0%/*}/lib.sh"
need root fuse curl jq helper:crashload
crashload=$(helper crashload)
rounds=${VARVE_CRASH_ROUNDS:-$((LONG ? 100 : 10))}
threads=4
start_daemon
import_empty empty >/dev/null
m=$T/m
mount_at empty "$m" || bail "no mount"
mkdir "$T/log"

# The load of one round, with something else going on beside it.
beside() { # ROUND
	case $(($1 % 4)) in
	1) while :; do varve checkpoint "$m" "r$1-$RANDOM$RANDOM" || sleep 0.1; done ;;
	2) while :; do varve gc || sleep 0.1; done ;;
	3) while :; do
		varve checkpoint "$m" "r$1-$RANDOM$RANDOM" && varve gc || sleep 0.1
	done ;;
	esac >/dev/null 2>&1
}
ops=0 broken=
for ((r = 1; r <= rounds; r++)); do
	"$crashload" load "$m/r$r" "$T/log/r$r" $threads 60 $((r * 17 + RANDOM)) >"$T/load.out" 2>&1 &
	load=$!
	beside $r &
	other=$!
	sleep "0.$((RANDOM % 90 + 10))"
	[ $((r % 5)) != 0 ] || sleep 1
	kill_daemon
	wait $load
	rc=$?
	kill $other 2>/dev/null
	wait $other 2>/dev/null
	n=$(sed -n 's/ operations//p' "$T/load.out") # nothing where it ended badly
	ops=$((ops + ${n:-0}))
	[ $rc = 3 ] || broken+=" round $r: load ended with $rc: $(head -n 3 "$T/load.out")"
	start_daemon
	if ! "$crashload" check "$m/r$r" "$T/log/r$r" $threads >"$T/check.out" 2>&1; then
		broken+=" round $r: $(wc -l <"$T/check.out") problems"
		head -n 15 "$T/check.out" | sed 's/^/# /'
		[ -z "${KEEP:-}" ] || break
	fi
done
is "$rounds kills lost nothing ($ops operations)" "$broken" ""
bad=0
for ((r = 1; r <= rounds; r++)); do
	"$crashload" check "$m/r$r" "$T/log/r$r" $threads >/dev/null 2>&1 || bad=$((bad + 1))
done
is "nor have later rounds changed what earlier ones left" "$bad" 0
ok "a checkpoint of it all" varve checkpoint "$m" all
mount_at all "$T/fork"
bad=0
for ((r = 1; r <= rounds; r++)); do
	"$crashload" check "$T/fork/r$r" "$T/log/r$r" $threads >"$T/check.out" 2>&1 || {
		bad=$((bad + 1))
		head -n 5 "$T/check.out" | sed 's/^/# /'
	}
done
is "holds the same" "$bad" 0
ok "every snapshot is whole" varve verify
building=$(varve --json snapshots | jq '[.[] | select(.status == "building")] | length')
is "no checkpoint is left half-way" "$building" 0
ok "gc" varve gc
ok "all is whole after it" varve verify
ok "umount" varve umount --discard "$m"
done_testing
