#!/bin/bash
# Hostile archives through the command line: refused with a reason, nothing is
# written outside, the daemon lives.
# tags: quick asan
# timeout: 180
. "${0%/*}/lib.sh"
need root fuse curl jq python3
start_daemon
mkdir "$T/tars"
python3 - "$T/tars" <<'PY' || bail "cannot make the archives"
import io, os, sys, tarfile, gzip
top = sys.argv[1]
def tar(name, entries, **kw):
    with tarfile.open(os.path.join(top, name + ".tar"), "w", format=tarfile.PAX_FORMAT, **kw) as t:
        for e in entries:
            data = e.pop("data", b"")
            i = tarfile.TarInfo(e.pop("name"))
            i.mode = 0o644
            i.size = len(data)
            for k, v in e.items():
                setattr(i, k, v)
            t.addfile(i, io.BytesIO(data))
D, S, L, C, F = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE
bad = {
 "dotdot": [dict(name="../evil", data=b"x")],
 "dotdot-inside": [dict(name="a/../../evil", data=b"x")],
 "dotdot-only": [dict(name="..", type=D, mode=0o755)],
 "through-file": [dict(name="f", data=b"x"), dict(name="f/below", data=b"y")],
 "hardlink-out": [dict(name="h", type=L, linkname="../../etc/passwd")],
 "hardlink-missing": [dict(name="h", type=L, linkname="nothing")],
 "hardlink-to-dir": [dict(name="d", type=D, mode=0o755), dict(name="h", type=L, linkname="d")],
 "hardlink-self": [dict(name="h", type=L, linkname="h")],
 "device-over-dir": [dict(name="d", type=D, mode=0o755), dict(name="d/f", data=b"x"),
                     dict(name="d", type=C, devmajor=1, devminor=3)],
 "long-name": [dict(name="n" * 256, data=b"x")],
 "long-target": [dict(name="s", type=S, linkname="t" * 5000)],
 "empty-target": [dict(name="s", type=S, linkname="")],
}
for n, e in bad.items():
    tar("bad-" + n, e)
good = {
 "absolute": [dict(name="/etc/file", data=b"x")],
 "dot": [dict(name="./", type=D, mode=0o755), dict(name="./a", data=b"x")],
 "twice": [dict(name="f", data=b"first"), dict(name="f", data=b"second")],
 "double-slash": [dict(name="a//b///c", data=b"x")],
 "no-parents": [dict(name="x/y/z", data=b"deep")],
 "escaping-symlink": [dict(name="s", type=S, linkname="../../../../etc/passwd")],
 "through-symlink": [dict(name="l", type=S, linkname="/etc"), dict(name="l/evil", data=b"x")],
 "through-symlink-up": [dict(name="l", type=S, linkname=".."), dict(name="l/evil", data=b"x")],
 "deep": [dict(name="/".join(["d" * 100] * 60) + "/f", data=b"x")],
}
for n, e in good.items():
    tar("good-" + n, e)
def raw(name, data):
    open(os.path.join(top, name), "wb").write(data)
one = io.BytesIO()
with tarfile.open(fileobj=one, mode="w") as t:
    i = tarfile.TarInfo("f"); i.size = 100000
    t.addfile(i, io.BytesIO(os.urandom(100000)))
one = one.getvalue()
raw("bad-truncated.tar", one[:50000])
raw("bad-checksum.tar", one[:100] + b"\xff" + one[101:])
raw("bad-garbage.tar", os.urandom(5000))
raw("bad-gzip-cut.tar", gzip.compress(one)[:-5000])
big = bytearray(one); big[124:136] = b"77777777777\0"
chk = sum(big[:148]) + 8 * 32 + sum(big[156:512]); big[148:156] = b"%06o\0 " % chk
raw("bad-size-lies.tar", bytes(big))
neg = bytearray(one); neg[124:136] = b"\xff" * 12
chk = sum(neg[:148]) + 8 * 32 + sum(neg[156:512]); neg[148:156] = b"%06o\0 " % chk
raw("bad-negative.tar", bytes(neg))
raw("good-zeros.tar", b"\0" * 10240)
PY
outside() {
	{
		find / -xdev -maxdepth 3 -name evil
		find "$T" -xdev -name evil
	} 2>/dev/null | wc -l
}
before=$(outside)
for f in "$T"/tars/bad-*.tar; do
	name=$(basename "$f" .tar)
	if timeout $((60 * SLOW)) varve import "$name" tar "$f" >"$T/out" 2>&1; then
		fail "$name is refused" "$(varve --json ls -R "$name" 2>&1 | head -c 300)"
	else
		rc=$?
		is "$name is refused" "$rc" 1
		diag "$(head -n 1 "$T/out")"
	fi
	not_ok "$name: the message is not empty" test ! -s "$T/out"
	like "$name: no ready snapshot" "$(varve --json show "$name" 2>/dev/null | field .status)" '^(|failed|null)$'
done
for f in "$T"/tars/good-*.tar; do
	name=$(basename "$f" .tar)
	ok "$name is taken" timeout $((60 * SLOW)) varve import "$name" tar "$f"
	rm -rf "$T/m"
	mount_at "$name" "$T/m" || fail "$name: mount"
	ok "$name: find" bash -c "find '$T/m' >/dev/null"
	varve umount --discard "$T/m" || fail "$name: umount"
done
is "the later entry counts" "$(varve cat good-twice:f)" second
is "a leading slash is stripped" "$(varve cat good-absolute:etc/file)" x
is "symlinks on the way are those of the archive's root" "$(varve cat good-through-symlink:etc/evil)" x
is "and so is .. of it" "$(varve cat good-through-symlink-up:evil)" x
is "nothing was written outside" "$(outside)" "$before"

# Bombs: limits hold, and memory stays bounded.
rss() { awk '/VmHWM/ { print $2 }' "/proc/$DAEMON/status"; }
python3 - "$T/bomb.tar.gz" <<'PY'
import gzip, sys, tarfile
class Zeros:
    def read(self, n): return b"\0" * n
with gzip.open(sys.argv[1], "wb", compresslevel=1) as g, tarfile.open(fileobj=g, mode="w|") as t:
    i = tarfile.TarInfo("zeros"); i.size = 2 << 30
    t.addfile(i, Zeros())
PY
at_start=$(rss)
not_ok "a small archive of a large file, with a limit" timeout $((120 * SLOW)) \
	varve import --max-bytes 100M bomb2 tar "$T/bomb.tar.gz"
ok "without a limit it is a hole" timeout $((120 * SLOW)) varve import bomb3 tar "$T/bomb.tar.gz"
is "of that size" "$(varve --json show bomb3 | field .sizeBytes)" 2147483648
ok "memory stays bounded ($at_start, then $(rss) kB)" test $(($(rss) - at_start)) -lt $((600000 * SLOW))
ok "the daemon lives" daemon_ready

# An image whose layer is not what its digest says.
mkdir "$T/x" && echo x >"$T/x/f" && varve import x dir "$T/x" >/dev/null
varve export x oci "$T/oci" >/dev/null
blob=$(find "$T/oci/blobs" -type f -printf '%s %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2-)
printf 'X' | dd of="$blob" bs=1 seek=100 conv=notrunc status=none
not_ok "an image with a changed blob is refused" varve import image oci "$T/oci"
rm "$blob"
not_ok "an image with a missing blob is refused" varve import image oci "$T/oci"
echo '{"manifests": [{"digest": "sha256:../../../../etc/passwd", "size": 1}]}' >"$T/oci/index.json"
not_ok "an image with a path for a digest is refused" varve import image oci "$T/oci"
echo '[[[[[[' >"$T/oci/index.json"
not_ok "an image with broken JSON is refused" varve import image oci "$T/oci"
not_ok "a missing tar" varve import none tar "$T/none.tar"
not_ok "a missing directory" varve import none dir "$T/none"
not_ok "a name that is a path" varve import ../../x dir "$T/x"
not_ok "an empty name" varve import '' dir "$T/x"
ok "the daemon lives" daemon_ready
ok "verify" varve verify
# --- a chain of directories, deeper than any path: the sum of all its paths is the square of that ---
import_empty shallow
mount_at shallow "$T/m" || fail 'mount'
python3 - "$T/m" <<'PY' || fail 'the chain cannot be made'
import os, sys
os.chdir(sys.argv[1])
for _ in range(3000): # 1.1 GB of paths
    os.mkdir("d" * 255)
    os.chdir("d" * 255)
PY
rss() { # VmRSS|VmHWM: MiB
	awk -v k="$1:" '$1 == k { print int($2 / 1024) }' "/proc/$DAEMON/status"
}
echo 5 >"/proc/$DAEMON/clear_refs"
base=$(rss VmRSS)
varve diff "$T/m" >"$T/diff" || fail 'diff of a mount'
is 'a diff tells paths that can be used' "$(grep -c '^A ' "$T/diff")" 16
like '... and how many changes lie deeper' "$(tail -n 1 "$T/diff")" '^\? .*/: 2984 changes whose paths are too long$'
ok 'a checkpoint' varve checkpoint "$T/m" deep
is 'two snapshots likewise' "$(varve --json diff shallow deep | jq -c '[length, .[-1].change, .[-1].count]')" '[17,"omitted",2984]'
not_ok 'an export ends where no import would take it' varve export deep tar "$T/deep.tar"
like '... with the daemon saying why' "$(grep "cannot export" "$T/daemon.log")" '65536 bytes'
ok 'verify' varve verify
grown=$(($(rss VmHWM) - base))
if is_sanitized; then
	skip "the daemon's memory" "a sanitized build"
else
	ok "the daemon's memory grew by $grown MiB" test $grown -le 64
fi
ok 'umount' varve umount --discard "$T/m"
ok 'rm' varve rm deep
ok 'gc' varve gc
done_testing
