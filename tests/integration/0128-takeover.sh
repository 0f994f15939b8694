#!/bin/bash
# A daemon that dies is followed by one that goes on with its mounts: callers wait, no call
# fails, and what was done and not answered is not done again.
# VARVE_TAKEOVER_ROUNDS (3; 200 with VARVE_LONG=1): kills at random moments under load.
# tags: model
# timeout: 900
. "${0%/*}/lib.sh"
need root fuse curl jq setfattr fallocate python3 helper:crashload
crashload=$(helper crashload)
rounds=${VARVE_TAKEOVER_ROUNDS:-$((LONG ? 200 : 3))}
[[ $(uname -r) =~ ^([0-9]+)\.([0-9]+) ]] || bail "no kernel version"
((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] >= 6009)) || skip_all "needs Linux 6.9"
command -v cc >/dev/null || skip_all "needs cc"
# A sanitizer's library must come first.
is_sanitized && skip_all "needs a daemon that libraries can be loaded before"

# Kills the daemon that is about to answer a request of a kind without an error: $T/die says
# of which (linux/fuse.h), and how often; or a node is
# named behind, of which each crashes it.
cat >"$T/die.c" <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

struct in { uint32_t len, opcode; uint64_t unique, node; };
struct out { uint32_t len; int32_t error; uint64_t unique; };
static _Thread_local struct in last;

ssize_t read(int fd, void *buf, size_t n)
{
	static ssize_t (*next)(int, void *, size_t);
	if (!next)
		next = (ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
	ssize_t r = next(fd, buf, n);
	if (n > 1 << 20 && r >= (ssize_t)sizeof(last))
		last = *(struct in *)buf;
	return r;
}
ssize_t writev(int fd, const struct iovec *v, int n)
{
	static ssize_t (*next)(int, const struct iovec *, int);
	const struct out *o = v[0].iov_base;
	const char *path = getenv("VARVE_DIE");
	unsigned op, times;
	unsigned long long node;
	FILE *f;
	if (!next)
		next = (ssize_t (*)(int, const struct iovec *, int))dlsym(RTLD_NEXT, "writev");
	if (path && v[0].iov_len == sizeof(*o) && o->unique == last.unique && last.unique &&
	    o->error == 0 && access(path, F_OK) == 0 && (f = fopen(path, "r+"))) {
		int n = fscanf(f, "%u %u %llu", &op, &times, &node);
		if (n == 3 && op == last.opcode && times && node == last.node)
			abort();
		if (n == 2 && op == last.opcode && times) {
			rewind(f);
			fprintf(f, "%u %u\n", op, times - 1);
			fclose(f);
			kill(getpid(), SIGKILL);
		}
		fclose(f);
	}
	return next(fd, v, n);
}
END
cc -shared -fPIC -o "$T/die.so" "$T/die.c" -ldl || bail "cannot compile"

generation() { api GET /healthz | jq .generation; }
daemon_pid() { api GET /healthz | jq .pid; }
# What a command does with a daemon that dies TIMES before it answers the first request of a kind.
dying() { # WHAT OPCODE TIMES COMMAND...
	local what=$1 before rc left
	before=$(generation)
	echo "$2 $3" >"$T/die"
	shift
	local times=$2
	timeout $((60 * SLOW)) "${@:3}" >"$T/.dying" 2>&1
	rc=$?
	read -r _ left <"$T/die"
	rm -f "$T/die"
	is "$what" "$rc, $left left, $(($(generation) - before)) deaths" "0, 0 left, $times deaths" ||
		diag "$(cat "$T/.dying"; tail -n 5 "$T/daemon.log")"
}

img=$T/img
mkdir "$img"
for f in open map writer second last unread; do head -c 200000 /dev/urandom >"$img/$f"; done
cp "$img/unread" "$img/unread2"
LD_PRELOAD=$T/die.so VARVE_DIE=$T/die start_daemon --supervise
varve import img dir "$img" >/dev/null || bail "no image"
is "the first daemon" "$(generation)" 1
daemon_pid >"$T/first"
not_ok "is not the process that was started" grep -qx "$DAEMON" "$T/first"

# Every operation, in a mount.
operations() { # DIR
	local m=$1
	mkdir "$m/d"
	echo data >"$m/d/file"
	ln -s file "$m/d/link"
	# Names are looked up and not asked for again.
	ls -lR "$m" >/dev/null
	dying "mkdir" 9 1 mkdir "$m/d/new"
	ok "it is there" [ -d "$m/d/new" ]
	dying "rmdir, of whose daemons three die" 11 3 rmdir "$m/d/new"
	ok "it is not" [ ! -e "$m/d/new" ]
	dying "mknod, twice" 8 2 sh -c 'set -C; echo text >"$1"' sh "$m/d/made"
	is "with what was written next" "$(cat "$m/d/made")" text
	dying "link" 13 1 ln "$m/d/made" "$m/d/other"
	is "one more name" "$(stat -c %h "$m/d/made")" 2
	dying "unlink" 10 1 rm "$m/d/other"
	is "one less" "$(stat -c %h "$m/d/made")" 1
	dying "symlink" 6 1 ln -s here "$m/d/there"
	is "it leads there" "$(readlink "$m/d/there")" here
	dying "exchange, twice" 45 2 python3 -c 'import ctypes, sys
a, b = (p.encode() for p in sys.argv[1:])
sys.exit(ctypes.CDLL(None).renameat2(-100, a, -100, b, 2) != 0)' "$m/d/there" "$m/d/made"
	is "both are exchanged once" "$(readlink "$m/d/made"), $(cat "$m/d/there")" "here, text"
	dying "rename over another" 12 1 python3 -c \
		'import os, sys; os.rename(*sys.argv[1:])' "$m/d/made" "$m/d/there"
	ok "one is left" [ ! -L "$m/d/made" ]
	rm "$m/d/there"
	dying "setattr" 4 1 chmod 640 "$m/d/file"
	is "the mode" "$(stat -c %a "$m/d/file")" 640
	dying "setxattr that must be new" 21 1 python3 -c \
		'import os, sys; os.setxattr(sys.argv[1], "user.a", b"v", os.XATTR_CREATE)' "$m/d/file"
	dying "removexattr" 24 1 setfattr -x user.a "$m/d/file"
	dying "fallocate" 43 1 fallocate -l 8192 "$m/d/file"
	is "the size" "$(stat -c %s "$m/d/file")" 8192
	dying "write, twice" 16 2 sh -c 'printf appended >>"$1"' sh "$m/d/file"
	is "once" "$(stat -c %s "$m/d/file")" 8200
	truncate -s 5 "$m/d/file"
	dying "a file without a name" 51 1 python3 -c '
import os, sys
fd = os.open(sys.argv[1], os.O_TMPFILE | os.O_RDWR)
os.write(fd, b"nameless")
os.link(f"/proc/self/fd/{fd}", sys.argv[1] + "/named", src_dir_fd=fd)' "$m/d"
	is "that gets one" "$(cat "$m/d/named")" nameless
	rm "$m/d/named"
	dying "fsync" 20 1 sync "$m/d/file"
	dying "read" 15 1 sh -c 'echo 3 >/proc/sys/vm/drop_caches; cat "$1"' sh "$m/d/file"
	dying "lookup" 1 1 sh -c '[ ! -e "$1" ]' sh "$m/absent"
	is "nothing else is there" "$(ls "$m/d")" $'file\nlink'
	# What was looked up before a kill, and is neither read nor looked up again.
	ok "an open file loses its name" sh -c \
		'exec 3<"$1"; rm "$1"; cmp - "$2" <&3' sh "$m/unread" "$img/unread"
	ok "an open file is replaced" sh -c \
		'exec 3<"$1"; : >"$1.new"; mv "$1.new" "$1"; cmp - "$2" <&3' sh "$m/unread2" "$img/unread"
}
m=$T/m
mount_at img "$m" || bail "no mount"
operations "$m"

# --- cache mode `shared` ---
shared_opens() {
	varve --json mounts | jq -r --arg d "$T/s" '.[] | select(.mountpoint == $d) | .sharedOpens'
}
is_passed_through() { # FILE
	local before
	before=$(shared_opens)
	cat "$T/s/$1" >/dev/null && [ "$(shared_opens)" -gt "$before" ]
}
warm() { # FILE...
	local f
	for f; do until_true 20 is_passed_through "$f" || return; done
}
mount_at img "$T/s" --cache shared || bail "no mount"
operations "$T/s"
if warm open map writer second last; then
	dying "open of a file that is passed through, twice" 14 2 cmp "$T/s/open" "$img/open"
	dying "open of one that is not" 14 1 sh -c 'echo more >>"$1"' sh "$T/s/d/file"
	ok "files are passed through still" warm open map
	ok "what was open goes on: passed through, mapped, written" python3 - "$T/s" "$img" "$SOCK" <<'END'
import json, mmap, os, subprocess, sys, time
s, img, sock = sys.argv[1:]
def healthz():
    r = subprocess.run(["curl", "-s", "--unix-socket", sock, "http://localhost/healthz"],
                       stdout=subprocess.PIPE)
    return json.loads(r.stdout or b'{"generation": 0}')
def kill():
    before = healthz()
    os.kill(before["pid"], 9)
    while healthz()["generation"] <= before["generation"]: time.sleep(0.05)
want = {n: open(f"{img}/{n}", "rb").read() for n in os.listdir(img)}
def is_now(name, bytes):
    with open(f"{s}/{name}", "rb") as f: got = f.read()
    assert got == bytes, (name, len(got), len(bytes))
reader = os.open(s + "/open", os.O_RDONLY)
f = os.open(s + "/map", os.O_RDONLY)
mapped = mmap.mmap(f, 0, mmap.MAP_SHARED, mmap.PROT_READ)
assert mapped[:5] == want["map"][:5]
writer = os.open(s + "/writer", os.O_RDWR | os.O_APPEND)
os.write(writer, b"first")
rw = os.open(s + "/last", os.O_RDWR)
wmap = mmap.mmap(rw, 0)
wmap[0:5] = b"dirty"
for i in range(3):
    kill()
    assert os.pread(reader, 1 << 20, 0) == want["open"]
    assert mapped[:] == want["map"]
    for name in "open", "map", "second": is_now(name, want[name])
    # One page cache for what was open and what is opened now.
    is_now("writer", want["writer"] + b"first" + b"x" * i)
    os.write(writer, b"x")
    is_now("writer", want["writer"] + b"first" + b"x" * (i + 1))
    wmap[0:5] = b"dirt%d" % i
    is_now("last", b"dirt%d" % i + want["last"][5:])
    with open(s + "/writer", "r+b") as w: w.write(b"%d" % i)
    assert os.pread(writer, 1, 0) == b"%d" % i
    want["writer"] = b"%d" % i + want["writer"][1:]
# To write what is passed through, and what was before a kill.
with open(s + "/open", "ab") as w: w.write(b"more")
is_now("open", want["open"] + b"more")
again = os.open(s + "/open", os.O_RDONLY)
kill()
is_now("open", want["open"] + b"more")
assert os.pread(again, 1 << 20, 0) == want["open"] + b"more"
assert os.pread(reader, 1 << 20, 0) == want["open"]
assert os.fstat(reader).st_ino == os.fstat(again).st_ino
os.truncate(s + "/map", 7)
is_now("map", want["map"][:7])
assert mapped[:] == want["map"]
kill()
is_now("map", want["map"][:7])
assert mapped[:] == want["map"]
END
	ok "files are passed through after that" warm second
	echo "18 2" >"$T/die"
	cat "$T/s/second" "$T/s/second" "$T/s/second" >/dev/null
	released() { grep -qx '18 0' "$T/die" && daemon_ready; }
	ok "killed when a file is closed" until_true 20 released
	rm -f "$T/die"
	ok "it is passed through still" warm second
	dying "unlink of an open file" 10 1 sh -c 'exec 3<"$1"; rm "$1"; cat /proc/self/fd/3 | cmp - "$2"' \
		sh "$T/s/second" "$img/second"
else
	skip "this kernel has no FUSE passthrough"
fi

# An old connection's numbers say nothing of a new one's.
ok "umount" varve umount "$m"
id=$(varve --json mounts | jq -r --arg d "$m" '.[] | select(.mountpoint == $d) | .id')
ok "attached again" varve attach "$id"
for i in 1 2 3 4 5 6 7 8 9 10; do
	mkdir "$m/again$i" || break
done
dying "on a new connection" 9 1 mkdir "$m/again11"
is "all are made" "$(ls -d "$m"/again* | wc -l)" 11

# --- kills at random moments ---
kill_now() {
	kill -9 "$(daemon_pid)"
}
exec {open}>"$m/open" {gone}<>"$m/gone"
rm "$m/gone"
echo "without a name" >&$gone
mkdir "$T/log" "$T/ext4"
broken='' ops=0
mounts=("$m" "$T/s")
for ((r = 1; r <= rounds; r++)); do
	m=${mounts[r % 2]}
	"$crashload" load "$m/r$r" "$T/log/r$r" 4 4 $((r * 17 + RANDOM)) >"$T/load.out" 2>&1 &
	load=$!
	(tar -C "$SRC" -cf - fs | tar -C "$m" -xf - --one-top-level="tar$r") 2>"$T/tar.err" &
	tar=$!
	python3 - "$m/db$r" >"$T/sqlite.out" 2>&1 <<'END' &
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60)
db.execute("create table t(n integer primary key, x text)")
for i in range(200):
    with db:
        db.execute("insert into t values(?, ?)", (i, "x" * i))
assert db.execute("select count(*), sum(length(x)) from t").fetchone() == (200, 19900)
assert db.execute("pragma integrity_check").fetchone() == ("ok",)
END
	sqlite=$!
	for ((k = 0; k < 3; k++)); do
		pause "0.$((RANDOM % 900 + 100))"
		kill_now
		daemon_ready
	done
	wait $sqlite || broken+=" round $r: sqlite: $(tail -n 1 "$T/sqlite.out")"
	wait $tar || broken+=" round $r: tar: $(tail -n 1 "$T/tar.err")"
	diff -r "$SRC/fs" "$m/tar$r/fs" >"$T/diff.out" || broken+=" round $r: $(head -n 2 "$T/diff.out")"
	wait $load
	rc=$?
	n=$(sed -n 's/ operations//p' "$T/load.out")
	ops=$((ops + ${n:-0}))
	[ $rc = 0 ] || broken+=" round $r: load ended with $rc: $(head -n 3 "$T/load.out")"
	"$crashload" check "$m/r$r" "$T/log/r$r" 4 >"$T/check.out" 2>&1 ||
		broken+=" round $r: $(wc -l <"$T/check.out") problems: $(head -n 2 "$T/check.out")"
	rm -rf "$m/tar$r"
	[ -z "$broken" ] || break
done
is "$((rounds * 3)) kills failed nothing ($ops operations)" "$broken" ""
m=${mounts[0]}
is "a file that was open all the time without a name" "$(cat "/proc/self/fd/$gone")" "without a name"
echo late >&$open
is "and one that was open" "$(cat "$m/open")" late
exec {open}>&- {gone}<&-
ok "a checkpoint" varve checkpoint "$m" after
mount_at after "$T/fork"
ok "it holds the same" diff -r --no-dereference "$m" "$T/fork"
ok "every snapshot is whole" varve verify
ok "umount" varve umount "$m"

# --- a request that no daemon survives ---
others=()
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	mount_at img "$T/o$i" || break
	others+=("$T/o$i")
done
serve_on() {
	local d
	for d in "${others[@]}"; do cmp "$d/last" "$img/last" && echo x >"$d/new" || return; done
}
mount_at img "$T/sick" || bail "no mount"
before=$(generation)
echo "15 1 $(stat -c %i "$T/sick/last")" >"$T/die"
# Directly, which is one request: for its page cache the kernel tries once more.
not_ok "reading what three daemons die of" timeout $((100 * SLOW)) \
	dd if="$T/sick/last" iflag=direct bs=4096 count=1 of=/dev/null
like "is an error" "$(cat "$T/.out")" "Input/output error"
rm -f "$T/die"
is "after three" "$(($(generation) - before))" 3
is "mounts meanwhile" ${#others[@]} 20
ok "the others serve on" serve_on
ok "and other files of that mount" cmp "$T/sick/second" "$img/second"
ok "the log names it" grep -q "$T/sick: a request (15 of inode" "$T/daemon.log"
ok "and says when the next daemon starts" grep -q "daemons in a row have died .* starts in" "$T/daemon.log"

# --- nobody comes ---
mkdir "$T/fork/in-order"
stop_daemon
ok "the keeper ends as the daemon does" daemon_ended_well
not_ok "whose mounts are gone" mountpoint -q "$T/fork"
start_daemon
ok "a daemon without a keeper attaches them" [ -d "$T/fork/in-order" ]
done_testing
