#!/bin/bash
# timeout: 300
# A bucket stands still under a thousand reads of a lazy mount (I8): only they wait. Other mounts go
# on as before, a waiting program can be killed, its mount taken away; and when the bucket goes on,
# all get what they wanted. (Interrupts: test_parked.)
. "${0%/*}/lib.sh"
need root fuse python3 jq curl

N=1000
mkdir -p "$T"/{src,local,far,far2,near}
python3 -c '
import os, sys
for i in range(int(sys.argv[2])):
    with open(f"{sys.argv[1]}/f{i}", "wb") as f:
        f.write(os.urandom(9000))' "$T/src" $N
reads() { python3 "$SRC/tests/integration/parked_reads.py" "$@"; }

# The bucket, filled by a daemon that has gone.
start_daemon
ok 'a snapshot is pushed' eval 'varve import base dir "$T/src" && varve remote add main "file://$T/bucket" &&
	varve push base main'
stop_daemon
rm -rf "$STATE"
export VARVE_FAULTS=frozen=$T/frozen,under=pack/
start_daemon
unset VARVE_FAULTS
varve remote add main "file://$T/bucket" >/dev/null
varve import near dir "$T/local" >/dev/null
mount_at near "$T/near"
mount_at main:base "$T/far"
mount_at main:base "$T/far2"
before=$(reads neighbour "$T/near")

# --- it stands still ---
touch "$T/frozen"
reads read "$T/far" "$T/src" $N >"$T/readers" &
readers=$!
ok 'a thousand reads begin' until_true 60 grep -q waiting "$T/readers"
cat "$T/far2/f2" >/dev/null 2>&1 &
killed=$!
cat "$T/far2/f3" >/dev/null 2>&1 &
cut=$!
ok 'one more begins' until_true 20 has_open $killed "$T/far2/f2"
ok '... and another' until_true 20 has_open $cut "$T/far2/f3"
is 'they wait' "$(cat "$T/readers")" waiting
meanwhile=$(reads neighbour "$T/near")
diag "another mount: 99 of 100 uses took $before us before, $meanwhile us meanwhile"
# What waits for the bucket waits until it goes on; the host has other work, too.
ok 'another mount does not wait' test "$meanwhile" -le $((3 * before + 50000))
ok 'it is checkpointed, and forked' eval 'varve checkpoint "$T/near" point && varve fork point "$T/local" --force'
ok 'names of theirs are there' test "$(find "$T/far" -type f | wc -l)" = $N
kill -9 $killed
ok 'a reader is killed' eval "wait $killed; [ \$? = 137 ]"
ok 'a mount is taken away under its reader' varve umount --force --discard "$T/far2"
ok '... which fails' eval "! wait $cut"
is 'the others wait' "$(cat "$T/readers")" waiting

# --- it goes on ---
rm "$T/frozen"
wait $readers
is 'all have what they wanted' "$(tail -n 1 "$T/readers")" "$N right 0 wrong 0 failed"
varve umount --discard "$T/local" >/dev/null
done_testing
