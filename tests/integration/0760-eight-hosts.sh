#!/bin/bash
# tags: model
# timeout: 300
# Eight daemons on one bucket that fails, lies and is late, each killed at any moment: whatever is
# read is what was pushed, and nothing that is named gets lost (I1, I2, I3, I6). For
# VARVE_HOSTS_SECONDS (20; 3600 with VARVE_LONG=1); VARVE_HOSTS_SEED (printed) seeds each host's
# steps and faults. Ceph's turn is in 0750.
. "${0%/*}/lib.sh"
need root fuse python3 unshare
export PYTHONDONTWRITEBYTECODE=1
seconds=${VARVE_HOSTS_SECONDS:-$((LONG == 1 ? 3600 : 20))}
seed=${VARVE_HOSTS_SEED:-$(date +%s)}
diag "seed: $seed"
load() {
	unshare --mount --propagation private python3 "$SRC/tests/model/hosts/load.py" "$T/hosts" \
		"$seconds" "$seed" "{\"url\": \"file://$T/bucket\"}"
}
ok 'eight hosts read what they have pushed to each other' load
sed 's/^/# /' "$T/.out"
# What a run is good for: all of this has happened.
for what in change push_new mount collect delete kill; do
	like "... after $what" "$(cat "$T/.out")" "(^|
)[0-9]+ $what(
|$)"
done
done_testing
