#!/bin/bash
# Power cuts: a recorded load, and what a disk may hold after a cut at many of its moments. The
# daemon starts on each, and everything promised is there. See tests/model/power/.
# VARVE_CUTS (100; 3000 with VARVE_LONG=1): how many.
# VARVE_CUTS_SEED: seeds the load and the cuts (default: from the clock; it is printed). Threads of
# the load race, so a seed does not repeat it: KEEP=1 keeps its log, for `cuts.py DIR --cut CUT`.
# tags: model
# timeout: 1200
. "${0%/*}/lib.sh"
need root fuse python3 unshare runc busybox helper:record_fs
file -L "$(command -v busybox)" | grep -q static || skip_all "needs busybox-static"
export PYTHONDONTWRITEBYTECODE=1
cuts=${VARVE_CUTS:-$((LONG ? 3000 : 100))}
seed=${VARVE_CUTS_SEED:-$(date +%s)}
ops=300 # of each of two threads
per_load=500
# Namespaces that others make meanwhile get no copies of these mounts, which would hold them; and
# each cut mounts another boot id.
alone=(unshare --mount --propagation private)

diag "seed: $seed"
for ((done = 0; done < cuts; done += n)); do
	n=$((cuts - done < per_load ? cuts - done : per_load))
	dir=$T/$seed
	mkdir "$dir"
	ok "a load is recorded" "${alone[@]}" python3 "$SRC/tests/model/power/load.py" "$dir" \
		"$(helper record_fs)" "$seed" "$ops" || break
	ok "$n cuts keep what was promised" "${alone[@]}" python3 "$SRC/tests/model/power/cuts.py" \
		"$dir" "$seed" "$n" || break
	rm -rf --one-file-system "$dir"
	seed=$((seed + 1))
done
done_testing
