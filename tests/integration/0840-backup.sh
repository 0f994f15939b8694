#!/bin/bash
# A backup of a state that is in use: what it has is of one moment, whatever goes on, and a daemon
# that starts on it finds that. Beside the store, on another disk, and where there is no room.
# tags: asan commands
# timeout: 300
. "${0%/*}/lib.sh"
need root fuse python3 jq
backups=${VARVE_BACKUPS:-$((LONG ? 40 : 4))}

# A log that says what a file's pages have before they have it; a database of SQLite; names.
cat >"$T/load.py" <<'END'
import os, sqlite3, struct, sys
top = sys.argv[1]
log = os.open(f"{top}/log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
pages = os.open(f"{top}/pages", os.O_CREAT | os.O_RDWR)
db = sqlite3.connect(f"{top}/db", isolation_level=None)
db.execute("pragma journal_mode = " + sys.argv[2])
db.execute("create table if not exists t (n integer primary key, text)")
n = 0
while True:
    n += 1
    os.write(log, struct.pack("<Q", n))
    os.fdatasync(log)
    os.pwrite(pages, struct.pack("<Q", n) * 512, n % 16 * 4096)
    if n % 5 == 0:
        db.execute("insert into t values (?, ?)", (n, "x" * (n * 37 % 5000)))
    name = f"{top}/names/{n}"
    os.mkdir(name)
    open(f"{name}/file", "wb").write(b"%d" % n * 1000)
    if n > 20:
        os.unlink(f"{top}/names/{n - 20}/file")
        os.rmdir(f"{top}/names/{n - 20}")
END
cat >"$T/check.py" <<'END'
import os, sqlite3, struct, sys
top = sys.argv[1]
log = open(f"{top}/log", "rb").read()
logged = struct.unpack(f"<{len(log) // 8}Q", log)
assert list(logged) == list(range(1, len(logged) + 1)), "the log has a gap"
pages = open(f"{top}/pages", "rb").read()
newest = 0
for i in range(0, len(pages), 4096):
    page = set(struct.unpack("<512Q", pages[i:i + 4096]))
    assert len(page) == 1, f"page {i}: torn"
    newest = max(newest, page.pop())
assert newest in (len(logged), len(logged) - 1), f"pages of {newest}, a log of {len(logged)}"
db = sqlite3.connect(f"{top}/db")
assert db.execute("pragma integrity_check").fetchone() == ("ok",)
rows = db.execute("select max(n) from t").fetchone()[0] or 0
assert newest - 6 <= rows <= newest + 1, f"rows to {rows}, pages of {newest}"
names = sorted(map(int, os.listdir(f"{top}/names")))
assert names == list(range(names[0], names[-1] + 1)), names
for n in names[1:-1]:
    assert open(f"{top}/names/{n}/file", "rb").read() == b"%d" % n * 1000, f"names/{n}"
assert newest - 1 <= names[-1] <= newest + 1, f"names to {names[-1]}, pages of {newest}"
print(newest)
END

start_daemon
mkdir "$T/base" && echo base >"$T/base/file"
varve import base dir "$T/base" >/dev/null
mounts=(wal delete)
loads=()
for mode in "${mounts[@]}"; do
	mount_at base "$T/$mode"
	mkdir "$T/$mode/names"
	python3 "$T/load.py" "$T/$mode" "$mode" &
	loads+=($!)
done
mount_at base "$T/detached"
echo kept >"$T/detached/kept"
varve umount "$T/detached" >/dev/null

# What makes, fills, seals and deletes mounts meanwhile.
(
	while [ ! -e "$T/stop" ]; do
		mount_at base "$T/short" && head -c 300000 /dev/urandom >"$T/short/x" &&
			varve checkpoint "$T/short" "short-$((++n))" >/dev/null &&
			varve checkpoint "$T/wal" "wal-$n" >/dev/null
		varve umount --discard "$T/short" >/dev/null
		[ $((n % 4)) != 0 ] || varve gc >/dev/null
	done
) >"$T/churn" 2>&1 &
churn=$!

# --- while all that goes on ---
mkdir "$T/disk" && mount -t tmpfs -o size=1G none "$T/disk"
for ((i = 0; i < backups; i++)); do
	[ $((i % 2)) = 0 ] && to=$T/backup-$i || to=$T/disk/backup-$i
	varve --json backup "$to" >"$T/said-$i" 2>&1
	is "backup $i" "$(field .path <"$T/said-$i")" "$to"
	pause 0.2
done
for job in "${loads[@]}"; do
	ok 'no program in a mount noticed' kill -0 "$job"
done
diag "the journals were held $(cat "$T"/said-* | grep -o '"heldMs": [0-9]*' | tr '\n' ' ')"
is 'beside the store its files are linked' "$(field .linked <"$T/said-0")" true
is '... on another disk they are not' "$(field .linked <"$T/said-1")" false
ok 'nothing is left of it in the state directory' test ! -e "$STATE/backup.tmp"

# --- what is refused, or fails ---
like 'a directory with something in it' "$(varve backup "$T/backup-0" 2>&1)" 'backup-0 is not empty'
ok '... and logged with who asked for it' grep -q 'POST by uid 0, .*: 409 /api/backup' "$T/daemon.log"
not_ok 'a place in the state directory' varve backup "$STATE/x"
not_ok 'a place in a mount' varve backup "$T/wal/backup"
not_ok 'a place that is not there' varve backup "$T/no/such/place"
mkdir "$T/small" && mount -t tmpfs -o size=1m none "$T/small"
not_ok 'a disk that is too small' varve backup "$T/small/backup"
is '... has nothing of it' "$(ls -A "$T/small")" ''
is 'no refusal leaves anything' "$(ls -d "$STATE/x" "$T/wal/backup" 2>/dev/null)" ''
mkdir "$T/theirs" && chown 65534 "$T/theirs"
like 'a directory of somebody else' "$(varve backup "$T/theirs" 2>&1)" 'belongs to another user'
touch "$T/stop"
wait "$churn"
kill "${loads[@]}"
wait "${loads[@]}" 2>/dev/null

# --- a daemon that dies in the middle ---
varve backup "$T/disk/cut" >/dev/null 2>&1 &
until_true 10 test -e "$STATE/backup.tmp" -o -e "$T/disk/cut/FORMAT"
kill_daemon
wait $!
[ -e "$T/disk/cut/FORMAT" ] || not_ok 'half a backup is none' varve backup --restore "$T/disk/cut" "$T/restored"
start_daemon
ok '... and the next daemon tidies up' test ! -e "$STATE/backup.tmp"
for mode in "${mounts[@]}"; do
	varve umount --discard "$T/$mode" >/dev/null
done
stop_daemon
ok 'the daemon ends well' daemon_ended_well

# --- what they have ---
own=$STATE
for ((i = 0; i < backups; i++)); do
	[ $((i % 2)) = 0 ] && from=$T/backup-$i || from=$T/disk/backup-$i
	STATE=$T/restored-$i
	ok "backup $i is restored" varve backup --restore "$from" "$STATE"
	start_daemon
	like '... and whole' "$(varve --json verify)" '"damaged": 0'
	for mode in "${mounts[@]}"; do
		like "... $mode as at one moment" "$(python3 "$T/check.py" "$T/$mode" 2>&1 | tail -n 1)" '^[0-9]+$'
	done
	varve attach "$T/detached" >/dev/null
	is '... with what a mount kept' "$(cat "$T/detached/kept")" kept
	for dir in "${mounts[@]}" detached; do
		varve umount --discard "$T/$dir" >/dev/null
	done
	varve umount --discard "$T/short" >/dev/null 2>&1
	stop_daemon
	ok '... by a daemon that ends well' daemon_ended_well
	rm -rf --one-file-system "$STATE"
done
not_ok 'a state that is there is not overwritten' varve backup --restore "$T/backup-0" "$own"
not_ok 'what is no backup is not restored' varve backup --restore "$T/base" "$T/restored"
STATE=$own
umount "$T/small" "$T/disk"
done_testing
