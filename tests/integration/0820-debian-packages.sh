#!/bin/bash
# The Debian packages: made from what is built, free of lintian's faults, installed, upgraded, removed
# and purged in a Debian root, without touching a store. VARVE_LONG=1 builds them from the source
# with the distribution's flags, and lets apt-get install them.
# timeout: 600
# tags: sandbox
. "${0%/*}/lib.sh"
need root make git dpkg-buildpackage dh dh_python3 chroot
is_sanitized && skip_all "packages are not made of sanitized builds"
need_debian_root
need_space 2000
unset VARVE_DEB_VERSION
if [ "$LONG" = 0 ]; then
	ok "make deb" make_packages || done_testing
else
	PACKAGES=$T/packages
	ok "make deb" env TMPDIR="$T" "$SRC/tools/packaging/build-deb" "$PACKAGES" || done_testing
fi
cd "$PACKAGES" || exit 1
version=$(dpkg-deb -f varve_*.deb Version)
program=$(sed -n 's/.*VARVE_VERSION "\(.*\)"/\1/p' "$SRC/store/base/version.h")
if git -C "$SRC" rev-parse HEAD >/dev/null 2>&1 && ! git -C "$SRC" describe --exact-match --tags >/dev/null 2>&1; then
	like "a build between two versions" "$version" "^${program}[~+]git20[0-9]{12}\.[0-9]+\.[0-9a-f]{12}$"
fi

# --- versions of commits, in a small repository ---
mkdir -p "$T/repo/tools/packaging" "$T/repo/store/base"
cp "$SRC/tools/packaging/build-deb" "$T/repo/tools/packaging/"
cp "$SRC/store/base/version.h" "$T/repo/store/base/"
in_repo() { env -u GIT_DIR git -C "$T/repo" -c user.name=t -c user.email=t@localhost -c commit.gpgsign=false "$@"; }
version_in_repo() { "$T/repo/tools/packaging/build-deb" --version; }
version_of_commit() { # all of one second
	in_repo add -A && GIT_COMMITTER_DATE=2026-01-02T03:04:05Z in_repo commit -qm x --allow-empty && version_in_repo
}
in_repo init -q
first=$(version_of_commit)
like "a version of a commit" "$first" "^$program~git20260102030405\.1\.[0-9a-f]{12}$"
second=$(version_of_commit)
ok "the next commit has a later one" dpkg --compare-versions "$first" lt "$second"
ok "it comes before the release" dpkg --compare-versions "$second" lt "$program"
in_repo tag "v$program"
is "a release has its own" "$(version_in_repo)" "$program"
third=$(version_of_commit)
ok "what comes after it is later" dpkg --compare-versions "$third" gt "$program"
not_ok "a repository that git cannot read has none" env GIT_DIR="$T/nothing" "$T/repo/tools/packaging/build-deb" --version

# --- what is in the packages ---
is "the packages" "$(echo *.deb)" "$(printf '%s ' libvarve-dev_"$version"_*.deb libvarve0-dbgsym_"$version"_*.deb \
	libvarve0_"$version"_*.deb python3-varve_"$version"_all.deb varve-dbgsym_"$version"_*.deb varve_"$version"_*.deb | sed 's/ $//')"
is "the tree has no debian/" "$([ -e "$SRC/debian" ] && echo there)" ""
if command -v lintian >/dev/null; then
	is "lintian" "$(lintian --allow-root --fail-on none libvarve-dev_*.deb libvarve0_*.deb python3-varve_*.deb varve_*.deb 2>&1 | grep -E '^[EW]:')" ""
else
	skip "lintian" "no lintian"
fi
ok "the daemon needs what it is linked with" grep -q 'librocksdb.*libzstd1' <(dpkg-deb -f varve_*.deb Depends)
field_of() { dpkg-deb -f "$1" "$2"; }
is "libvarve-dev is of one version with libvarve0" "$(field_of libvarve-dev_*.deb Depends | grep -o 'libvarve0 (= [^)]*)')" "libvarve0 (= $version)"
dpkg-deb -x varve-dbgsym_*.deb "$T/dbgsym" && dpkg-deb -x varve_*.deb "$T/stripped"
id=$(readelf -n "$T/stripped/usr/bin/snapshotd" | sed -n 's/.*Build ID: //p')
ok "debug symbols are those of the daemon" test -s "$T/dbgsym/usr/lib/debug/.build-id/${id:0:2}/${id:2}.debug"

# --- in a Debian root ---
root=$T/root
mkdir "$root" && tar -C "$root" -xf "$ROOT_TAR" && mkdir -p "$root/packages" && cp ./*.deb "$root/packages"
mkdir -p "$root/dev" && mknod -m 666 "$root/dev/null" c 1 3 # maintainer scripts write to it
inside() { chroot "$root" env DEBIAN_FRONTEND=noninteractive "$@"; }
# What they depend on is not there (nor is a network needed), but where apt-get gets it.
dpkg_in() { inside dpkg --force-depends "$@"; }
if [ "$LONG" != 0 ] && mirror_reachable; then
	cp /etc/resolv.conf "$root/etc/"
	mount -t proc proc "$root/proc"
	ok "apt-get installs them" inside sh -c 'apt-get -q update && apt-get -qy install --no-install-recommends \
		/packages/varve_*.deb /packages/libvarve*_*.deb /packages/python3-varve_*.deb'
	is "varve runs" "$(inside varve --version | cut -d ' ' -f 2)" "$program"
	ok "the configuration is right" inside snapshotd --check-config --config /etc/varve/snapshotd.json
else
	ok "dpkg installs them" dpkg_in -i /packages/varve_"$version"_amd64.deb /packages/libvarve0_"$version"_amd64.deb \
		/packages/libvarve-dev_"$version"_amd64.deb /packages/python3-varve_"$version"_all.deb
fi
state_of() { inside dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null; }
is "they are installed" "$(for p in varve libvarve0 libvarve-dev python3-varve; do state_of $p; done)" installedinstalledinstalledinstalled
ok "the group of the socket" grep -q '^varve:' "$root/etc/group"
ok "the service is enabled" test -L "$root/etc/systemd/system/multi-user.target.wants/snapshotd.service"
not_ok "its socket is not" test -e "$root/etc/systemd/system/sockets.target.wants/snapshotd.socket"
ok "mount(8) finds its helper" test "$(readlink "$root/sbin/mount.varve")" = /usr/bin/varve
ok "Python finds the library" inside python3 -c 'import varve, importlib.metadata as m; assert m.version("varve") == varve.__version__'
is "no file is in two packages" "$(for d in ./libvarve0_* ./libvarve-dev_* ./python3-varve_* ./varve_*_*.deb; do
	dpkg-deb --fsys-tarfile "$d" | tar -t | grep -v '/$'; done | sort | uniq -d)" ""

# --- upgrade: the configuration that somebody has changed stays ---
mkdir -p "$root/var/lib/snapshotd" && echo data >"$root/var/lib/snapshotd/FORMAT"
echo '{"logLevel": "debug"}' >"$root/etc/varve/snapshotd.json"
dpkg-deb -R varve_*.deb "$T/next" && sed -i "s/^Version: .*/Version: $version+next/" "$T/next/DEBIAN/control"
dpkg-deb -b "$T/next" "$root/packages/next.deb" >/dev/null
inside python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("/run/snapshotd.sock")' # as if a daemon ran
like "upgrade says how the daemon follows" "$(dpkg_in --force-confold -i /packages/next.deb 2>&1 && echo upgraded)" \
	'old program.*varve daemon upgrade.*systemctl restart snapshotd.*upgraded'
is "to the next version" "$(inside dpkg-query -W -f '${Version}' varve)" "$version+next"
is "the configuration stays" "$(cat "$root/etc/varve/snapshotd.json")" '{"logLevel": "debug"}'

# --- remove and purge: never the store, unless that is asked for ---
ok "remove" dpkg_in -r varve libvarve-dev libvarve0 python3-varve
is "leaves the configuration" "$(cat "$root/etc/varve/snapshotd.json")" '{"logLevel": "debug"}'
not_ok "and no program" test -e "$root/usr/bin/snapshotd"
is "nor what Python has compiled" "$(cd "$root/usr/lib/python3/dist-packages" && echo varve*)" 'varve*'
like "purge says that the store is kept" "$(dpkg_in -P varve 2>&1)" 'store in /var/lib/snapshotd is kept.*rm -r /var/lib/snapshotd'
is "and keeps it" "$(cat "$root/var/lib/snapshotd/FORMAT")" data
not_ok "but not the configuration" test -e "$root/etc/varve"
not_ok "nor the units' links" test -e "$root/etc/systemd/system/multi-user.target.wants/snapshotd.service"
dpkg_in -i /packages/next.deb >/dev/null 2>&1
mkdir -p "$root/var/lib/snapshotd" && mount -t tmpfs none "$root/var/lib/snapshotd" && mkdir "$root/var/lib/snapshotd/db"
ok "purge with the store, a mount point" inside env VARVE_PURGE_STORE=yes dpkg --force-depends -P varve
is "leaves it empty" "$(ls -A "$root/var/lib/snapshotd")" ""
umount "$root/var/lib/snapshotd"
dpkg_in -i /packages/next.deb >/dev/null 2>&1
ok "purge with the store" inside env VARVE_PURGE_STORE=yes dpkg --force-depends -P varve
not_ok "it has gone" test -e "$root/var/lib/snapshotd"
umount "$root/proc" 2>/dev/null

# --- as Debian tests packages ---
if [ "$LONG" != 0 ] && command -v autopkgtest >/dev/null && mirror_reachable; then
	mkdir -p "$T/tree" "$root"/{proc,sys,dev/pts,dev/shm}
	cp -r "$SRC/tools/packaging/debian" "$T/tree/debian"
	printf '%s\n' "varve ($version) unstable; urgency=medium" '' '  * Test.' '' \
		" -- The Varve authors <varve@localhost>  $(date -R)" >"$T/tree/debian/changelog"
	mount --bind "$root" "$root" # a container runtime wants a root that is mounted
	mount -t proc proc "$root/proc" && mount --rbind /sys "$root/sys" && mount --make-rslave "$root/sys"
	cp -an /dev/{null,zero,random,urandom,fuse} "$root/dev/"
	ln -s /proc/self/fd "$root/dev/fd"
	ok "autopkgtest" autopkgtest -B --test-name=supervised --test-name=library "$T/tree/" "$T/packages"/*.deb -- chroot "$root"
	umount -l "$root"
fi
done_testing
