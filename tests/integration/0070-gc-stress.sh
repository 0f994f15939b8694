#!/bin/bash
# Garbage collection runs beside imports, mounts, checkpoints and removals; nothing
# that is referred to is lost, and what is not, goes.
# VARVE_GC_SECONDS (15; 60 with VARVE_LONG=1): how long.
# timeout: 400
. "${0%/*}/lib.sh"
need root fuse curl jq sha256sum
seconds=${VARVE_GC_SECONDS:-$((LONG ? 60 : 15))}
need_space 2000
start_daemon
import_empty empty >/dev/null
mkdir "$T/sums" "$T/trees" "$T/pool"

# Trees share files of a pool, so that chunks are dropped by one and kept by another.
for i in $(seq 40); do head -c $((i * 9000 + 100)) /dev/urandom >"$T/pool/$i"; done
sums() { # DIR: of all files, on stdout
	(cd "$1" && find . -type f -print0 | sort -z | xargs -0r sha256sum)
}
importer() { # NUMBER
	local i=0 k n d
	while [ ! -e "$T/stop" ]; do
		n=imp$1-$i d=$T/trees/$1
		rm -rf "$d" && mkdir "$d"
		for _ in $(seq 12); do
			k=$((RANDOM % 40 + 1))
			cp "$T/pool/$k" "$d/$k"
		done
		head -c $((RANDOM * 3)) /dev/urandom >"$d/own"
		sums "$d" >"$T/sums/$n.new"
		varve import "$n" dir "$d" >/dev/null || echo "import $n" >>"$T/errors"
		mv "$T/sums/$n.new" "$T/sums/$n"
		# Half of them go again.
		if [ $((RANDOM % 2)) = 0 ]; then
			mv "$T/sums/$n" "$T/sums/$n.gone"
			varve rm "$n" >/dev/null || echo "rm $n" >>"$T/errors"
		fi
		i=$((i + 1))
	done
}
worker() { # NUMBER: a mount that is changed, checkpointed, forked
	local i=0 n m=$T/work$1
	mount_at empty "$m" || echo "mount" >>"$T/errors"
	while [ ! -e "$T/stop" ]; do
		n=cp$1-$i
		cp "$T/pool/$((RANDOM % 40 + 1))" "$m/$((RANDOM % 20))"
		head -c $((RANDOM * 5)) /dev/urandom >"$m/own$((RANDOM % 5))"
		rm -f "$m/$((RANDOM % 20))"
		sums "$m" >"$T/sums/$n.new"
		varve checkpoint "$m" "$n" >/dev/null || echo "checkpoint $n" >>"$T/errors"
		mv "$T/sums/$n.new" "$T/sums/$n"
		if [ $((RANDOM % 3)) = 0 ]; then
			mv "$T/sums/$n" "$T/sums/$n.gone"
			varve rm "$n" >/dev/null || echo "rm $n" >>"$T/errors"
		fi
		i=$((i + 1))
	done
	sums "$m" >"$T/work$1.sums"
}
# Mounts whose snapshot is removed under them.
holder() {
	local n
	while [ ! -e "$T/stop" ]; do
		n=$(find "$T/sums" -name 'imp*' ! -name '*.*' -printf '%f\n' | shuf -n 1)
		[ -n "$n" ] && mount_at "$n" "$T/hold" 2>/dev/null || { sleep 0.1 && continue; }
		cp "$T/sums/$n" "$T/hold.sums" 2>/dev/null || cp "$T/sums/$n.gone" "$T/hold.sums"
		mv "$T/sums/$n" "$T/sums/$n.gone" 2>/dev/null && varve rm "$n" >/dev/null
		pause 0.5
		(cd "$T/hold" && sha256sum -c --quiet "$T/hold.sums") >>"$T/errors" 2>&1
		varve umount --discard "$T/hold" || echo "umount" >>"$T/errors"
	done
}
collector() {
	local n=0
	while [ ! -e "$T/stop" ]; do
		varve gc >/dev/null || echo gc >>"$T/errors"
		n=$((n + 1))
	done
	echo $n >"$T/collections"
}
: >"$T/errors"
for job in "importer 1" "importer 2" "worker 1" "worker 2" holder collector; do
	$job &
	jobs_+=($!)
done
sleep "$seconds"
touch "$T/stop"
wait "${jobs_[@]}"
is "no command failed and no byte was wrong" "$(sort "$T/errors" | head -n 20)" ""
diag "$(cat "$T/collections") collections, $(find "$T/sums" -type f | wc -l) snapshots"
ok "the daemon lives" daemon_ready

bad=
check_all() {
	local n
	bad=
	for n in "$T"/sums/*; do
		n=${n##*/}
		[[ $n != *.* ]] || continue
		if ! mount_at "$n" "$T/check" ||
			! (cd "$T/check" && sha256sum -c --quiet "$T/sums/$n") >"$T/.sum" 2>&1 ||
			[ "$(find "$T/check" -type f | wc -l)" != "$(wc -l <"$T/sums/$n")" ]; then
			bad+=" $n"
			head -n 3 "$T/.sum" | sed 's/^/# /'
		fi
		varve umount --discard "$T/check" >/dev/null || bad+=" umount"
	done
	[ -z "$bad" ]
}
check_all
is "every snapshot that is left is whole" "$bad" ""
ok "verify" varve verify
stop_daemon
start_daemon
ok "gc after a restart" varve gc
check_all
is "and still" "$bad" ""
for w in 1 2; do
	ok "worker $w's mount is whole" bash -c \
		"cd '$T/work$w' && sha256sum -c --quiet '$T/work$w.sums'"
	ok "umount" varve umount --discard "$T/work$w"
done
varve --json snapshots | jq -r '.[].id' | xargs varve rm >/dev/null
varve gc >/dev/null && varve gc >/dev/null
chunks=$(varve --json stats | jq '[.. | .chunkCount? // empty] | first')
is "with all snapshots gone, all chunks go" "${chunks:-unknown}" 0
done_testing
