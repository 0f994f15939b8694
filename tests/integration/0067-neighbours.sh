#!/bin/bash
# 200 threads that never stop asking for one mount, and whoever uses the one beside it: he waits
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
"$nb" crowd "$T/crowd/f" 200 7 >"$T/crowd.out" 2>&1 &
crowd=$!
sleep 1
begun=$(varve --json mounts | jq -r --arg d "$T/crowd" '.[] | select(.mountpoint == $d) | .changedInodes')
times 4
ok "the crowd goes on meanwhile" kill -0 $crowd
ok "... with all its threads" test "$begun" -ge 200
diag "beside the crowd: median $median us, longest $longest us; the host's $host us"
at_most "half of the calls beside it are short" $((median / 1000)) 20
at_most "... and none is long" $(((longest - (host * 10 < longest ? host * 10 : longest)) / 1000)) 2000
ok "the crowd ends well" wait $crowd
ok "the store is whole" varve verify
done_testing
