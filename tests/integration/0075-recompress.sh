#!/bin/bash
# Chunks are stored anew, smaller: by `gc --recompress` and in the background. Mounts read
# what they should meanwhile, a kill or SIGTERM in the middle loses nothing, and the space
# comes back.
# tags: alone
# timeout: 400
. "${0%/*}/lib.sh"
need root fuse curl jq sha256sum
need_space 1000
config() { # LEVEL
	echo "{\"recompressLevel\": $1, \"recompressQuiet\": 1}" >"$T/config.json"
}
config 0
start_daemon --config "$T/config.json"

# Programs and documents: enough chunks for a dictionary.
mkdir "$T/tree"
find /usr/bin /usr/sbin /usr/lib /usr/share -xdev -type f -size +3k -size -60k 2>/dev/null | sort |
	awk 'NR % 3 == 0' | head -n 1200 | while read -r f; do
	cp "$f" "$T/tree/$((n = ${n:-0} + 1))-${f##*/}" 2>/dev/null
done
sums() { # DIR: of all files, on stdout
	(cd "$1" && find . -type f -print0 | sort -z | xargs -0r sha256sum)
}
sums "$T/tree" >"$T/sums"
diag "$(wc -l <"$T/sums") files"
varve import a dir "$T/tree" >/dev/null || bail "import"
cp -r "$T/tree" "$T/more" && echo more >"$T/more/more"
mount_at a "$T/m" || bail "mount"
is_right() { # DIR, dropping the page cache
	sync
	echo 3 >/proc/sys/vm/drop_caches
	(cd "$1" && sha256sum -c --quiet "$T/sums")
}
# What the database's files take; of a running daemon, space for its log would be among it.
store_kib() {
	du -sk "$STATE/db" | cut -f 1
}
stop_daemon
before=$(store_kib)
start_daemon
is "nothing is done in the background at level 0" "$(grep -c recompressed "$T/daemon.log")" 0

# While it makes the dictionary, and after that.
for how in kill_daemon stop_daemon; do
	varve gc --recompress >"$T/gc.out" 2>&1 &
	client=$!
	pause 0.5
	for ((i = 0; i < 300 * SLOW; i++)); do
		[ $how = kill_daemon ] || grep -q 'a dictionary was made' "$T/daemon.log" && break
		pause 0.1
	done
	pause 0.5
	at_most "$how in the middle" "$(millis $how)" 3000
	not_ok "the client is told" wait $client
	start_daemon
	ok "verify after it" varve verify
	ok "the mount reads right after it" is_right "$T/m"
done

varve --json gc --recompress >"$T/gc.json" 2>"$T/gc.err" &
client=$!
rounds=0
while kill -0 $client 2>/dev/null && [ $rounds -lt 50 ]; do
	is_right "$T/m" >"$T/right.out" 2>&1 || break
	rounds=$((rounds + 1))
	[ $rounds != 1 ] || varve import b dir "$T/more" >/dev/null || break
done
ok "the mount reads right meanwhile, $rounds times" test ! -s "$T/right.out"
ok "gc --recompress" wait $client
diag "$(jq -c .recompressed "$T/gc.json")"
is "with a dictionary" "$(grep -c 'a dictionary was made' "$T/daemon.log")" 1
ok "it has made chunks smaller" jq -e \
	'.recompressed | .replacedChunks > 100 and .afterBytes < .beforeBytes' "$T/gc.json"
is "another gc runs, but does not do that unasked" "$(varve --json gc | jq .recompressed)" null
stop_daemon
after=$(store_kib)
diag "the store: $before KiB, then $after"
ok "the store has shrunk" test $((after * 100)) -lt $((before * 95))
start_daemon
is "a second time there is nothing to do" \
	"$(varve --json gc --recompress | jq .recompressed.triedChunks)" 0
ok "verify" varve verify
ok "the mount reads right" is_right "$T/m"
ok "an import finds its chunks" test \
	"$(varve --json import again dir "$T/tree" | jq .newBytes)" -lt 100000

# In the background, at a higher level: everything once more.
config 16
stop_daemon
kib=$(store_kib)
start_daemon
for ((i = 0; i < 1200 * SLOW; i++)); do
	grep -q 'recompressed .* in the background' "$T/daemon.log" && break
	pause 0.1
done
like "the daemon does it in the background" "$(grep 'in the background' "$T/daemon.log")" recompressed
ok "the mount reads right then" is_right "$T/m"
stop_daemon
ok "the store has not grown by it ($kib KiB, then $(store_kib))" test "$(store_kib)" -le $((kib + 500))
start_daemon
ok "verify after that" varve verify
for d in a again b; do
	mount_at $d "$T/check-$d" && ok "$d is right" is_right "$T/check-$d"
	varve umount --discard "$T/check-$d" >/dev/null
done
ok "umount" varve umount --discard "$T/m"
done_testing
