#!/bin/bash
# Cache mode `shared`: files are passed through, mounts keep apart what they write, and opens
# of the two kinds never get into each other's way.
# tags: quick asan
# timeout: 240
. "${0%/*}/lib.sh"
need root fuse curl jq python3 helper:fsmodel
echo '{"sharedCacheBytes": 6000000}' >"$T/config"
start_daemon --config "$T/config"

img=$T/img
mkdir -p "$img/d"
head -c 300000 /dev/urandom >"$img/big"
head -c 5000 /dev/urandom >"$img/small"
echo tiny >"$img/tiny"
ln "$img/big" "$img/d/hard"
cp /bin/ls "$img/ls"
truncate -s 2M "$img/sparse" && printf data | dd of="$img/sparse" bs=1 seek=1500000 conv=notrunc status=none
truncate -s 9M "$img/large" && printf data | dd of="$img/large" bs=1 seek=1500000 conv=notrunc status=none
for i in {1..8}; do head -c 200000 /dev/urandom >"$img/d/$i"; done
varve import img dir "$img" >/dev/null || bail "no image"
ok "mount" mount_at img "$T/a" --cache shared
ok "mount it again" mount_at img "$T/b" --cache shared

# How many opens of a mount were passed through, so far.
shared_opens() { # DIR
	varve --json mounts | jq -r --arg d "$1" '.[] | select(.mountpoint == $d) | .sharedOpens'
}
metric() { # NAME
	api GET /metrics | awk -v n="snapshotd_$1" '$1 == n { print $2 }'
}
# Read files of a mount until an open of each has been passed through.
warm() { # DIR FILE...
	local dir=$1 f i n
	shift
	for f; do
		for ((i = 0; i < 200; i++)); do
			n=$(shared_opens "$dir")
			cat "$dir/$f" >/dev/null || return
			[ "$(shared_opens "$dir")" = "$n" ] || continue 2
			pause 0.05
		done
		echo "$f is not passed through"
		return 1
	done
}
passed_through() { # DIR COMMAND...: the command makes such opens
	local before
	before=$(shared_opens "$1")
	"${@:2}" && [ "$(shared_opens "$1")" -gt "$before" ]
}
if ! warm "$T/a" big >"$T/.warm" && grep -q 'no FUSE passthrough\|passes no files' "$T/daemon.log"; then
	skip_all "this kernel has no FUSE passthrough"
fi

# --- reading ---
ok "files are passed through" warm "$T/a" small ls sparse d/1
ok "the other mount has them at once" passed_through "$T/b" cmp "$T/b/big" "$img/big"
ok "their content is right" same_tree_but_times "$T/a" "$img"
ok "and in the other mount" same_tree_but_times "$T/b" "$img"
ok "a program runs" passed_through "$T/a" "$T/a/ls" "$T/a"
not_ok "a small file is not" passed_through "$T/a" cat "$T/a/tiny"
ok "mmap, sendfile, direct reads, holes" passed_through "$T/a" python3 - "$T/a" "$img" <<'PY'
import mmap, os, sys
a, img = sys.argv[1:]
want = open(img + '/big', 'rb').read()
fd = os.open(a + '/big', os.O_RDONLY)
for flags in mmap.MAP_PRIVATE, mmap.MAP_SHARED:
    assert mmap.mmap(fd, 0, flags, mmap.PROT_READ)[:] == want
out = os.open(a + '/sent', os.O_RDWR | os.O_CREAT)
while os.sendfile(out, fd, None, 1 << 20): pass
assert os.pread(out, len(want) + 1, 0) == want
d = os.open(a + '/big', os.O_RDONLY | os.O_DIRECT)
m = mmap.mmap(-1, 8192)
assert os.preadv(d, [m], 4096) == 8192 and m[:] == want[4096:12288]
s = os.open(a + '/sparse', os.O_RDONLY)
hole = os.lseek(s, 0, os.SEEK_HOLE)
data = os.lseek(s, 0, os.SEEK_DATA)
assert hole == 0 and 0 < data <= 1500000, (hole, data)
assert os.pread(s, 4, 1500000) == b'data'
PY
ok "locks" python3 - "$T/a/small" <<'PY'
import fcntl, os, sys
a, b = (os.open(sys.argv[1], os.O_RDONLY) for _ in 'ab')
fcntl.flock(a, fcntl.LOCK_EX)
try: fcntl.flock(b, fcntl.LOCK_SH | fcntl.LOCK_NB)
except BlockingIOError: pass
else: sys.exit('not excluded')
fcntl.lockf(a, fcntl.LOCK_SH, 10)
PY

# --- writing ---
# opens BODY: with what is to be written to the file `f`, at first open to be read.
conflict() { # DIR FILE WANTED-FILE BODY
	warm "$1" "$2" && python3 - "$1" "$2" "$3" "$4" <<'PY'
import mmap, os, sys
dir, name, want, body = sys.argv[1:]
path = dir + '/' + name
old = open(want, 'rb').read()
reader = os.open(path, os.O_RDONLY)
ino = os.fstat(reader).st_ino
mapped = mmap.mmap(reader, 0, mmap.MAP_SHARED, mmap.PROT_READ)
exec(body)
now = os.open(path, os.O_RDONLY)
got = os.pread(now, len(new) + 1, 0)
assert got == new, ('a new open', len(got), len(new))
assert os.fstat(now).st_ino == ino == os.stat(path).st_ino
assert os.stat(path).st_size == len(new)
# What was open keeps what it had.
assert os.pread(reader, len(old) + 1, 0) == old and mapped[:] == old
PY
}
ok "append while it is open to be read" conflict "$T/a" d/2 "$img/d/2" '
with open(path, "ab") as f: f.write(b"more")
new = old + b"more"'
ok "write and map shared" conflict "$T/a" d/3 "$img/d/3" '
w = os.open(path, os.O_RDWR)
m = mmap.mmap(w, 0)
m[100:105] = b"first"
os.pwrite(w, b"second", 5000)
assert m[5000:5006] == b"second" and os.pread(w, 5, 100) == b"first"
m.flush()
new = bytearray(old); new[100:105] = b"first"; new[5000:5006] = b"second"; new = bytes(new)
m.close(); os.close(w)'
ok "truncate by path" conflict "$T/a" d/4 "$img/d/4" '
os.truncate(path, 1000)
new = old[:1000]'
ok "truncate at the open" conflict "$T/a" d/5 "$img/d/5" '
with open(path, "wb") as f: f.write(b"new")
new = b"new"'
ok "write by another name" conflict "$T/a" big "$img/big" '
with open(dir + "/d/hard", "r+b") as f: f.write(b"X")
assert open(dir + "/d/hard", "rb").read(1) == b"X"
new = b"X" + old[1:]'
ok "attributes by the old descriptor" conflict "$T/a" d/6 "$img/d/6" '
with open(path, "ab") as f: f.write(b"x")
os.fchmod(reader, 0o751)
assert os.stat(path).st_mode & 0o777 == 0o751
os.utime(reader, (1, 2))
assert os.stat(path).st_mtime == 2
again = os.open("/proc/self/fd/%d" % reader, os.O_RDONLY)
assert os.pread(again, len(old) + 1, 0) == old
new = old + b"x"'
ok "an ordinary open first, then others" python3 - "$T/a/d/7" "$img/d/7" <<'PY'
import os, sys
old = open(sys.argv[2], 'rb').read()
w = os.open(sys.argv[1], os.O_RDWR)
r = os.open(sys.argv[1], os.O_RDONLY)
assert os.pread(r, len(old) + 1, 0) == old
os.pwrite(w, b'Y', 7)
assert os.pread(r, 1, 7) == b'Y'
os.close(w)
assert os.pread(os.open(sys.argv[1], os.O_RDONLY), 1, 7) == b'Y'
PY
ok "O_TMPFILE, linked, opened again" python3 - "$T/a" <<'PY'
import os, sys
t = os.open(sys.argv[1], os.O_TMPFILE | os.O_RDWR, 0o600)
os.write(t, b'z' * 10000)
os.link(str(t), sys.argv[1] + '/t', src_dir_fd=os.open('/proc/self/fd', os.O_RDONLY))
assert open(sys.argv[1] + '/t', 'rb').read() == b'z' * 10000
open(sys.argv[1] + '/t', 'ab').write(b'!')
assert os.pread(t, 20, 9999) == b'z!'
PY
ok "the other mount is as it was" same_tree_but_times "$T/b" "$img"
[ "$(metric unshared_total)" -ge 6 ] && pass "they were counted" || fail "they were counted" "$(metric unshared_total)"

# Readers and writers at once: nobody gets an error, nobody sees what was never there.
cat >"$T/storm.py" <<'PY'
import os, random, sys, threading, time
path, end, errors = sys.argv[1], time.time() + float(sys.argv[2]), []
size = os.stat(path).st_size
def work(seed):
    rnd = random.Random(seed)
    held = []
    while time.time() < end and not errors:
        try:
            fd = os.open(path, os.O_RDWR if rnd.random() < 0.02 else os.O_RDONLY)
            if len(os.pread(fd, size + 1, 0)) != size:
                errors.append('size')
            if rnd.random() < 0.02:
                os.chmod(path, 0o600 + rnd.randrange(0o77))
            held.append(fd)
            if len(held) > 3: os.close(held.pop(rnd.randrange(len(held))))
        except OSError as e:
            errors.append(repr(e))
    for fd in held: os.close(fd)
threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
for t in threads: t.start()
for t in threads: t.join()
sys.exit(errors[0] if errors else 0)
PY
warm "$T/b" big
python3 "$T/storm.py" "$T/b/d/hard" $((LONG ? 20 : 2)) >"$T/storm" 2>&1 &
storm=$!
for i in {1..4}; do
	sleep $((LONG ? 4 : 0)).3
	touch "$T/b/x$i" && varve checkpoint "$T/b" "b$i" >/dev/null # shared again
done
wait $storm && pass "a storm of opens, and checkpoints" || fail "a storm of opens, and checkpoints" "$(cat "$T/storm")"
cmp -s "$T/b/big" "$img/big" && pass "after it the content is right" || fail "after it the content is right"

# --- checkpoints, forks, restarts ---
cp -a "$T/a" "$T/copy"
ok "a large file is passed through" warm "$T/a" large
exec 7<"$T/a/large"
ok "checkpoint" varve checkpoint "$T/a" changed
ok "the large one is shared at once" passed_through "$T/a" cmp "$T/a/large" "$img/large"
exec 7<&-
ok "what was written is shared now" warm "$T/a" d/2 big
ok "and right" same_tree_but_times "$T/a" "$T/copy"
ok "fork" fork_at changed "$T/f" --cache shared
ok "its files are shared" warm "$T/f" d/2 big
ok "and right" same_tree_but_times "$T/f" "$T/copy"
echo fork >>"$T/f/d/2"
ok "a write to the fork is its own" cmp "$T/a/d/2" "$T/copy/d/2"
exec 7<"$T/f/big"
restart_daemon
exec 7<&-
ok "after a restart they are right" same_tree_but_times "$T/a" "$T/copy"
is "and the daemon has what the fork wrote" "$(tail -c 5 "$T/f/d/2")" fork
ok "files are passed through" warm "$T/a" d/2 big
exec 7<"$T/a/big"
kill_daemon
ok "an open file is read without a daemon" python3 - "$T/copy/big" 7<&7 <<'PY'
import os, sys
want = open(sys.argv[1], 'rb').read()
assert os.pread(7, len(want) + 1, 0) == want
PY
exec 7<&-
start_daemon
ok "after a kill they are right" same_tree_but_times "$T/a" "$T/copy"
ok "files are passed through" warm "$T/a" d/2 big

ok "an unlinked file, after a checkpoint" python3 - "$T/a" "$T/copy" <<'PY'
import os, subprocess, sys
a, copy = sys.argv[1:]
want = open(copy + '/d/2', 'rb').read()
fd = os.open(a + '/d/2', os.O_RDONLY)
os.unlink(a + '/d/2')
subprocess.run(['varve', 'checkpoint', a, 'unlinked'], check=True, stdout=subprocess.DEVNULL)
again = os.open('/proc/self/fd/%d' % fd, os.O_RDONLY)
assert os.pread(again, len(want) + 1, 0) == os.pread(fd, len(want) + 1, 0) == want
PY

# --- eviction: the limit is 6 MB ---
mkdir "$T/many"
for i in {1..12}; do head -c 1000000 /dev/urandom >"$T/many/$i"; done
varve import many dir "$T/many" >/dev/null
ok "mount of more than the limit" mount_at many "$T/m" --cache shared
ok "each is passed through in its turn" warm "$T/m" {1..12}
ok "all are right" same_tree_but_times "$T/m" "$T/many"
[ "$(metric shared_evicted_total)" -ge 6 ] && pass "files went" || fail "files went" "$(metric shared_evicted_total)"
size=$(du -s --block-size=1 "$STATE/shared" | cut -f 1)
[ "$size" -le 6100000 ] && pass "the limit is kept" || fail "the limit is kept" "$size bytes"

# --- private mounts ---
ok "a private mount" mount_at img "$T/p"
cat "$T/p/big" "$T/p/big" >/dev/null
is "shares nothing" "$(varve --json mounts | jq -c --arg d "$T/p" \
	'.[] | select(.mountpoint == $d) | [.cache, .sharedOpens, .otherOpens]')" '["private",0,0]'
for d in a b f m p; do
	umount "$T/$d" || fail "umount $d"
done
stop_daemon
is "a stopped daemon leaves no files" "$(find "$STATE/shared" -type f | wc -l)" 0
start_daemon
done_testing
