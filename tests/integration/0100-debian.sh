#!/bin/bash
# A whole Debian system goes through: imported, mounted, used in a chroot (apt,
# python, git, a compiler), checkpointed and forked.
# VARVE_DEBROOT: an unpacked Debian root with python3 and git to use instead of the one that
# scripts/debian-root makes.
# VARVE_CACHE: the mounts' cache mode (default: one fork is shared, the others private).
# timeout: 1500
. "${0%/*}/lib.sh"
need root fuse curl jq tar helper:fsmodel
need_space 3000
src=$T/root
if [ -n "${VARVE_DEBROOT:-}" ]; then
	[ -d "$VARVE_DEBROOT/etc/apt" ] || skip_all "VARVE_DEBROOT is no Debian root"
	cp -a "$VARVE_DEBROOT" "$src"
else
	need_debian_root
	mkdir "$src" && tar -C "$src" -xpf "$ROOT_TAR" --xattrs '--xattrs-include=*' --numeric-owner ||
		bail "cannot unpack the root"
fi
start_daemon

ok "import of the root" varve import debian dir "$src"
root=$(root_of debian)
ok "tar of the root" tar --format=posix --xattrs '--xattrs-include=*' --acls --sparse \
	--numeric-owner -C "$src" -cf "$T/root.tar" .
ok "import of the tar" varve import debian-tar tar "$T/root.tar"
is "gives the same root" "$(root_of debian-tar)" "$root" ||
	varve diff debian debian-tar | head -n 20 | sed 's/^/# /'
rm -f "$T/root.tar"
m=$T/m
ok "mount" mount_at debian "$m" --dev --suid --cache "${VARVE_CACHE:-private}"
ok "every file is as it was" same_tree "$m" "$src"
ok "export and import again" bash -c "varve export debian tar - | varve import back tar -"
is "gives the same root" "$(root_of back)" "$root"

# In the chroot. Network and devices as the host has them.
cp -L /etc/resolv.conf "$m/etc/resolv.conf" 2>/dev/null
mkdir -p "$m/proc" "$m/dev" "$m/tmp"
mount -t proc proc "$m/proc" && mount --bind /dev "$m/dev"
in_root() { # ROOT COMMAND...
	chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
		DEBIAN_FRONTEND=noninteractive ${http_proxy:+http_proxy=$http_proxy} \
		${https_proxy:+https_proxy=$https_proxy} "${@:2}"
}
ok "programs run" in_root "$m" /bin/true
ok "python runs" in_root "$m" python3 -c 'import json, sqlite3; print(json.dumps([1]))'
ok "dpkg finds its files whole" bash -c "chroot '$m' dpkg --verify >'$T/verify' 2>&1; ! grep -v missing '$T/verify' | grep -q '^..5'"
if timeout $((120 * SLOW)) chroot "$m" apt-get update >"$T/apt.log" 2>&1; then
	ok "apt-get install" timeout $((300 * SLOW)) chroot "$m" env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y --no-install-recommends file less
	ok "what was installed runs" in_root "$m" file /bin/ls
	ok "apt-get remove" timeout $((300 * SLOW)) chroot "$m" env DEBIAN_FRONTEND=noninteractive \
		apt-get purge -y less
else
	skip "apt-get install" "no package mirror: $(tail -n 1 "$T/apt.log" | tr '#' ' ')"
fi
if in_root "$m" python3 -c 'import venv, ensurepip' 2>/dev/null; then
	ok "python3 -m venv" in_root "$m" python3 -m venv /opt/venv
	ok "its pip runs" in_root "$m" /opt/venv/bin/pip --version
else
	skip "python3 -m venv" "no python3-venv in the root"
fi
ok "sqlite in the root" in_root "$m" python3 -c '
import sqlite3
d = sqlite3.connect("/root/db"); d.execute("pragma journal_mode=wal")
d.execute("create table t(x)")
for i in range(300):
    with d: d.execute("insert into t values(?)", (i,))
assert d.execute("select count(*), sum(x) from t").fetchone() == (300, 44850)
assert d.execute("pragma integrity_check").fetchone() == ("ok",)'
if in_root "$m" git --version >/dev/null 2>&1; then
	ok "git in the root" in_root "$m" sh -c 'git config --global user.email a@b && git config --global user.name n &&
		mkdir /root/r && cd /root/r && git init -q && cp -r /etc/apt . && git add . &&
		git commit -qm x && git clone -q /root/r /root/r2 && git -C /root/r2 fsck'
fi
# A build: with the root's compiler, or the host's on files of the mount.
mkdir -p "$m/root/build"
for i in $(seq 30); do
	echo "int f$i(int x); int f$i(int x) { return x * $i; }" >"$m/root/build/f$i.c"
done
{
	for i in $(seq 30); do echo "int f$i(int x);"; done
	echo 'int main(void) { return f1(0) + f30(0); }'
} >"$m/root/build/main.c"
printf 'prog: $(patsubst %%.c,%%.o,$(wildcard *.c))\n\tcc -o $@ $^\n%%.o: %%.c\n\tcc -g -c -o $@ $<\n' \
	>"$m/root/build/Makefile"
if command -v cc >/dev/null && command -v make >/dev/null; then
	ok "a build on the mount" make -C "$m/root/build" -j4
	ok "its program runs" "$m/root/build/prog"
	like "make finds nothing to do" "$(make -C "$m/root/build" 2>&1)" 'up to date'
else
	skip "a build on the mount" "no compiler"
fi

ok "checkpoint" varve checkpoint "$m" used
ok "fork" fork_at "$m" "$T/f1" --dev --suid
ok "fork" fork_at used "$T/f2" --dev --suid --cache "${VARVE_CACHE:-shared}"
umount "$m/proc" "$m/dev"
ok "the fork is the source" same_tree "$T/f1" "$m"
if command -v make >/dev/null && command -v cc >/dev/null; then
	like "make finds nothing to do in a fork" "$(make -C "$T/f1/root/build" 2>&1)" 'up to date'
fi
mount --bind /dev "$T/f2/dev"
for i in 1 2 3; do # from the second time on, files are passed through
	ok "python runs in the fork" in_root "$T/f2" python3 -c 'import json, sqlite3, ssl'
done
ok "git in the fork" in_root "$T/f2" sh -c 'cd /root/r && echo more >>apt/sources.list &&
	git commit -qam y && git fsck && git -C /root/r2 pull -q'
ok "dpkg in the fork" bash -c "chroot '$T/f2' dpkg --purge python3-venv >'$T/purge' 2>&1 && chroot '$T/f2' dpkg --audit"
umount "$T/f2/dev"
echo fork >"$T/f1/root/only-here"
not_ok "forks are apart" test -e "$T/f2/root/only-here"
like "diff knows what apt and we did" "$(varve diff debian used)" 'root/build/prog'
ok "remove /usr in a fork" rm -rf "$T/f2/usr"
ok "the source has it" test -x "$m/usr/bin/env"
for d in "$m" "$T/f1" "$T/f2"; do varve umount --discard "$d" >/dev/null || fail "umount $d"; done
ok "verify" varve verify
done_testing
