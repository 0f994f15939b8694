#!/bin/bash
# 200 processes that never stop asking for one mount, and whoever uses the one beside it: he waits
# for the machine, as with the host's own files at the same time, but not for them.
# tags: alone
# timeout: 120
. "${0%/*}/lib.sh"
need root fuse jq helper:neighbours
nb=$(helper neighbours)
start_daemon
import_empty empty >/dev/null
mount_at empty "$T/crowd" || bail "no mount"
mount_at empty "$T/quiet" || bail "no mount"
mkdir "$T/host"

# times SECONDS: $median and $longest of a call in the mount, $host of one in the host's files; µs
times() {
	"$nb" call "$T/quiet" "$T/host" "$1" >"$T/times" || bail "a call failed"
	{ read -r _ median longest && read -r _ _ host; } <"$T/times"
}
times 1
diag "alone: median $median us, longest $longest us; the host's $host us"
"$nb" crowd "$T/crowd/f" 200 "$T/stop" >"$T/crowd.out" 2>&1 &
crowd=$!
all_begun() {
	local i
	for ((i = 0; i < 200; i++)); do
		[ "$(find "$T/crowd" -name 'f.*' | wc -l)" -lt 200 ] || return 0
		pause 0.1
	done
	return 1
}
ok "a crowd has begun" all_begun
times 4
diag "beside the crowd: median $median us, longest $longest us; the host's $host us"
# The host's own calls wait for the processor as well: that is what a busy machine may add.
ok "half of the calls beside it are short" test "$median" -le $((100000 + 10 * host))
ok "... and none takes seconds" test "$longest" -le $((2500000 + 10 * host))
ok "the crowd goes on meanwhile" kill -0 $crowd
touch "$T/stop"
ok "... and ends well" wait $crowd
ok "the store is whole" varve verify
done_testing
