#!/bin/bash
# A daemon that is killed again and again under programs that never learn of it, and that never
# remount: the model beside ext4, git, tar, SQLite, PostgreSQL, dpkg, a C build; in both cache modes, of
# whose shared files not all have room, beside collections of garbage, recompression and checkpoints.
# VARVE_TAKEOVER_KILLS (6; 1000 with VARVE_LONG=1)
# VARVE_MODEL_SEED: the first seed (default: from the clock; it is printed).
# tags: model
# timeout: 600
. "${0%/*}/lib.sh"
need root fuse curl jq git python3 cc dpkg-deb helper:fsmodel
fsmodel=$(helper fsmodel)
kills=${VARVE_TAKEOVER_KILLS:-$((LONG ? 1000 : 6))}
seed=${VARVE_MODEL_SEED:-$(($(date +%s) * 1000))}
[[ $(uname -r) =~ ^([0-9]+)\.([0-9]+) ]] || bail "no kernel version"
((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] >= 6009)) || skip_all "needs Linux 6.9"
pg=$(compgen -G '/usr/lib/postgresql/*/bin' | tail -n 1)
img=$T/img
mkdir -p "$img" "$T/ext4" "$T/done"
cp -r "$SRC/store/base" "$img/base"
for i in {1..8}; do head -c 100000 /dev/urandom >"$img/file$i"; done
echo '{"sharedCacheBytes": 400000}' >"$T/config.json" # four of the eight
chmod 600 "$T/config.json"
start_daemon --supervise --config "$T/config.json"
varve import img dir "$img" >/dev/null || bail "no image"
mount_at img "$T/p" || bail "no mount"
mount_at img "$T/s" --cache shared || bail "no mount"
chmod 755 "$T" "$T/p"
diag "the first seed is $seed"

# --- loads: each a round in a folder of its own, which fails if anything does ---
load_model() { # DIR NUMBER
	local reader=()
	[[ $1 != "$T/s/"* ]] || reader=(--readers-leave)
	mkdir "$T/ext4/$2"
	"$fsmodel" --a "$1" --b "$T/ext4/$2" --seed $((seed + $2)) --ops 2000 --no-shrink "${reader[@]}" &&
		rm -rf "$T/ext4/$2"
}
load_git() {
	git init -q "$1/repo" && cp -r "$SRC/fs/host" "$1/repo/" &&
		for i in 1 2 3 4 5; do
			echo "$i" >>"$1/repo/host/README.md"
			git -C "$1/repo" add -A &&
				git -C "$1/repo" -c user.name=n -c user.email=e commit -q -m "$i" || return
		done && git -C "$1/repo" gc -q && git -C "$1/repo" fsck --strict --no-progress &&
		git clone -q "$1/repo" "$1/clone" && diff -r "$1/repo/host" "$1/clone/host" &&
		[ "$(git -C "$1/clone" rev-list --count HEAD)" = 5 ]
}
load_tar() {
	tar -C "$SRC" -cf - fs | tar -C "$1" -xf - && diff -r "$SRC/fs" "$1/fs"
}
load_sqlite() {
	python3 - "$1/db" "$((2 * $2 % 3))" <<'END'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60)
if sys.argv[2] == "0": db.execute("pragma journal_mode=wal")
db.execute("create table t(n integer primary key, x text)")
for i in range(200):
    with db: db.execute("insert into t values(?, ?)", (i, "x" * i))
assert db.execute("select count(*), sum(length(x)) from t").fetchone() == (200, 19900)
assert db.execute("pragma integrity_check").fetchone() == ("ok",)
END
}
load_build() {
	local f
	cp -r "${1%/*}/base" "$1/src" && diff -r "$img/base" "$1/src" || return
	for f in buf error utf8 base64; do
		cc -std=gnu11 -D_GNU_SOURCE -I"$SRC" -O0 -c -o "$1/$f.o" "$1/src/$f.c" || return
	done
	ar rcs "$1/lib.a" "$1"/*.o && [ "$(ar t "$1/lib.a" | wc -l)" = 4 ]
}
load_dpkg() {
	mkdir -p "$1"/deb/DEBIAN "$1"/deb/usr/share "$1"/root/var/lib/dpkg/{info,updates} &&
		printf '%s\n' 'Package: varve-test' 'Version: 1' 'Architecture: all' \
			'Maintainer: n <e@localhost>' 'Description: test' >"$1/deb/DEBIAN/control" &&
		cp -r "$SRC/fs/host" "$1/deb/usr/share/" && : >"$1/root/var/lib/dpkg/status" &&
		dpkg-deb --root-owner-group -b "$1/deb" "$1/test.deb" &&
		dpkg --root="$1/root" --force-depends -i "$1/test.deb" &&
		diff -r "$SRC/fs/host" "$1/root/usr/share/host" &&
		dpkg --root="$1/root" --force-depends -P varve-test && [ ! -e "$1/root/usr/share/host" ]
}
load_shared() {
	local f n
	for n in 1 2 3 4 5; do
		for f in "$img"/file*; do cmp "$f" "${1%/*}/${f##*/}" || return; done
	done
}
# Kills may break a call off. What is collected and recompressed is of no concern to mounts.
collect() {
	local n
	for ((n = 1; ; n++)); do
		[ ! -e "$T/stop" ] || break
		rm -rf "$T/garbage"
		mkdir "$T/garbage" && head -c 300000 /dev/urandom >"$T/garbage/$n"
		yes "$n" | head -c 300000 >"$T/garbage/text"
		varve import "garbage$n" dir "$T/garbage" && varve gc --recompress
		varve rm "garbage$n" && varve gc && echo "$n" >"$T/collected"
	done
}
# The same of checkpoints, which a successor goes on with.
take_checkpoints() {
	local n m
	for ((n = 1; ; n++)); do
		for m in p s; do
			[ ! -e "$T/stop" ] || return 0
			varve checkpoint "$T/$m" "checkpoint$n$m" && echo "$n" >"$T/checkpointed"
			varve rm "checkpoint$n$m"
			pause 0.5
		done
	done
}
rounds_of() { # LOAD DIR: until $T/stop is there
	local n=0 at
	while [ ! -e "$T/stop" ]; do
		n=$((n + 1))
		at=$2/$1$n
		mkdir "$at" && "load_$1" "$at" "$n" >"$T/$1.out" 2>&1 || {
			cp "$T/$1.out" "$T/broken.$1"
			echo "$1, round $n" >>"$T/broken"
			return
		}
		rm -rf "$at" || echo "$1: rm" >>"$T/broken"
	done
	echo "$1: $n rounds" >>"$T/done/$1"
}
postgres() {
	# Not as root, which it refuses; but $T may be in a directory of root's alone.
	local as=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=+dac_read_search
		--ambient-caps=+dac_read_search env -C / LC_ALL=C)
	mkdir "$T/p/pg" "$T/pgsock" && chown 65534:65534 "$T/p/pg" "$T/pgsock" || return
	"${as[@]}" "$pg/initdb" -D "$T/p/pg/data" -A trust -U pg --data-checksums >"$T/pg.out" 2>&1 || return
	"${as[@]}" "$pg/pg_ctl" -w -t 120 -D "$T/p/pg/data" -l "$T/p/pg/log" \
		-o "-k $T/pgsock -c listen_addresses= -c shared_buffers=4MB" start >>"$T/pg.out" 2>&1 || return
	local sql=("${as[@]}" psql -h "$T/pgsock" -U pg -d postgres -v ON_ERROR_STOP=1 -qAt) n=0
	"${sql[@]}" -c 'create table t(n int primary key, x text)' >>"$T/pg.out" 2>&1 || return
	while [ ! -e "$T/stop" ]; do
		"${sql[@]}" -c "insert into t select i, repeat(chr(65 + i % 26), i % 500)
			from generate_series($((n * 100)), $((n * 100 + 99))) i" \
			-c "update t set x = x || 'u' where n % 50 = 7" -c checkpoint >>"$T/pg.out" 2>&1 || return
		n=$((n + 1))
	done
	[ "$("${sql[@]}" -c 'select count(*), count(distinct n), coalesce(max(n), -1) from t')" = \
		"$((n * 100))|$((n * 100))|$((n * 100 - 1))" ] || return
	"${as[@]}" "$pg/pg_ctl" -w -t 120 -D "$T/p/pg/data" stop >>"$T/pg.out" 2>&1 &&
		"${as[@]}" "$pg/pg_checksums" --check -D "$T/p/pg/data" >>"$T/pg.out" 2>&1 &&
		! grep -E 'PANIC|FATAL|ERROR' "$T/p/pg/log" && echo "postgres: $n transactions" >>"$T/done/postgres"
}
if [ -n "$pg" ]; then
	(
		postgres || {
			tail -n 5 "$T/pg.out" >"$T/broken.postgres"
			echo postgres >>"$T/broken"
		}
	) &
	pids=$!
fi
for l in model git tar sqlite build dpkg; do
	rounds_of $l "$([ $((RANDOM % 2)) = 0 ] && echo "$T/p" || echo "$T/s")" &
	pids+=" $!"
done
rounds_of shared "$T/s" &
pids+=" $!"
collect >"$T/collect.out" 2>&1 &
pids+=" $!"
take_checkpoints >"$T/checkpoints.out" 2>&1 &
pids+=" $!"

# --- kills ---
healthz() { api GET /healthz 2>/dev/null | jq "$1"; }
is_next() { [ "$(healthz .generation)" = "$1" ]; }
for ((k = 1; k <= kills; k++)); do
	pause "$((RANDOM % 2)).$((RANDOM % 900 + 100))"
	[ ! -e "$T/broken" ] || break
	kill -9 "$(healthz .pid)" || break
	until_true 60 is_next $((k + 1)) || break
done
: >"$T/stop"
# shellcheck disable=SC2086 # words
wait $pids
is "$kills kills failed nothing ($(cat "$T"/done/* | paste -sd,))" "$((k - 1)): $(cat "$T/broken" 2>/dev/null)" "$kills: "
head -n 20 "$T"/broken.* 2>/dev/null | sed 's/^/# /'
sed -n 's/.* is ready \([0-9]*\) ms after.*/\1/p' "$T/daemon.log" | sort -n >"$T/ready"
diag "ready after $(sed -n "$((($(wc -l <"$T/ready") + 1) / 2))p" "$T/ready") ms (p50), $(tail -n 1 "$T/ready") ms at most; load $(cut -d' ' -f1-3 /proc/loadavg)"
ok "garbage was collected meanwhile" [ -s "$T/collected" ]
ok "... and checkpoints were taken" [ -s "$T/checkpointed" ]
evicted() { load_shared "$T/s/-" && api GET /metrics | grep -q '^snapshotd_shared_evicted_total [1-9]'; }
ok "shared files make room for others" until_true 60 evicted
[ -z "$pg" ] && skip "PostgreSQL" "it is not there"
for m in p s; do ok "what was there is as it was ($m)" diff -r "$img/base" "$T/$m/base"; done
ok "every snapshot is whole" varve verify
done_testing
