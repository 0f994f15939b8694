#!/bin/bash
# A damaged store gives EIO for what is damaged, never other data; the rest works,
# and verify names what is damaged.
# tags: quick
# timeout: 180
. "${0%/*}/lib.sh"
need root fuse curl jq helper:kvdamage
kvdamage=$(helper kvdamage)
start_daemon

src=$T/src
mkdir -p "$src/dir"
for i in $(seq 300); do echo "small file $i with some text to be inline or not" >"$src/dir/$i"; done
head -c 200000 /dev/urandom >"$src/dir/victim"
head -c 200000 /dev/urandom >"$src/dir/fine"
ok "import" varve import snap dir "$src"
chunk=$(varve --json chunks snap:dir/victim | jq -r '[.. | .digest? // empty] | first')
other=$(varve --json chunks snap:dir/fine | jq -r '[.. | .digest? // empty] | first')
like "chunks of a file" "$chunk" '^[0-9a-f]{64}$'
stop_daemon
mv "$STATE" "$T/whole"

# with_copy: a fresh copy of the whole store in $STATE.
with_copy() {
	rm -rf "$STATE" && cp -a "$T/whole" "$STATE"
}
read_errno() { # FILE
	LC_ALL=C cat "$1" 2>&1 >/dev/null | sed 's/.*: //'
}
check_victim() { # WHAT
	start_daemon
	ok "$1: mount" mount_at snap "$T/m"
	is "$1: reading it gives EIO" "$(read_errno "$T/m/dir/victim")" "Input/output error"
	ok "$1: stat works" test "$(stat -c %s "$T/m/dir/victim")" = 200000
	ok "$1: others are whole" cmp "$T/m/dir/fine" "$src/dir/fine"
	ok "$1: and small ones" cmp "$T/m/dir/77" "$src/dir/77"
	ok "$1: the log has the digest" grep -q "$chunk" "$T/daemon.log"
	not_ok "$1: verify fails" varve verify
	varve verify >"$T/verify" 2>&1
	ok "$1: verify names the file" grep -q dir/victim "$T/verify"
	not_ok "$1: verify names no other" grep -q dir/fine "$T/verify"
	ok "$1: the file can be removed" rm "$T/m/dir/victim"
	ok "$1: a checkpoint without it works" varve checkpoint "$T/m" repaired
	ok "$1: the checkpoint is whole" varve verify repaired
	not_ok "$1: export of the damaged one fails" varve export snap tar "$T/out.tar"
	ok "$1: export of the repaired one works" varve export repaired tar "$T/out.tar"
	# With the right bytes at hand, an import heals the store.
	varve import healed dir "$src" >/dev/null && varve verify healed >/dev/null 2>&1 &&
		diag "$1: a new import healed it"
	ok "$1: umount" varve umount --discard "$T/m"
	stop_daemon
	: >"$T/daemon.log"
}

with_copy
ok "a chunk is deleted" "$kvdamage" "$STATE" delete chunk "$chunk"
check_victim "missing chunk"
with_copy
ok "a chunk is changed" "$kvdamage" "$STATE" flip chunk "$chunk"
check_victim "changed chunk"
with_copy
ok "a chunk is exchanged" "$kvdamage" "$STATE" swap chunk "$chunk" "$other"
check_victim "exchanged chunk"

# Nodes: whatever is missing, errors are EIO, and no name seems to be absent.
with_copy
"$kvdamage" "$STATE" list node >"$T/nodes"
ok "there are several nodes" test "$(wc -l <"$T/nodes")" -ge 2
n=0 found=0
while read -r node _; do
	n=$((n + 1))
	[ $n -le 6 ] || break
	for how in delete flip; do
		with_copy
		"$kvdamage" "$STATE" $how node "$node" || fail "kvdamage"
		start_daemon
		# A node that no tree uses (any more) may be damaged.
		damaged=0
		varve verify >"$T/verify" 2>&1 || damaged=1
		wrong=
		if mount_at snap "$T/m" 2>/dev/null; then
			for f in dir/1 dir/77 dir/150 dir/300 dir/victim dir/fine dir; do
				text=$(LC_ALL=C stat "$T/m/$f" 2>&1 >/dev/null | sed 's/.*: //')
				[ -z "$text" ] || [ "$text" = "Input/output error" ] || wrong+=" $f:$text"
				[ -z "$text" ] && [ -f "$T/m/$f" ] && ! cmp -s "$T/m/$f" "$src/$f" &&
					[ "$(read_errno "$T/m/$f")" != "Input/output error" ] && wrong+=" $f:content"
			done
			names=$(find "$T/m" 2>"$T/find.err" | wc -l)
			[ -s "$T/find.err" ] || [ "$names" = 304 ] || wrong+=" listing:$names"
			grep -v 'Input/output error' "$T/find.err" && wrong+=" find"
			[ $damaged = 1 ] || [ ! -s "$T/find.err" ] || wrong+=" verify:nothing"
			varve umount --discard "$T/m" || wrong+=" umount"
		elif [ $damaged = 0 ]; then
			wrong+=" mount"
		fi
		is "$how node $n: only EIO" "$wrong" ""
		found=$((found + damaged))
		stop_daemon
		ok "$how node $n: the daemon lives through it" daemon_ended_well
	done
done <"$T/nodes"
ok "verify found damaged nodes" test "$found" -ge 4

# A damaged database is refused with a reason, not a crash.
with_copy
start_daemon
ok "the whole store is whole" varve verify
stop_daemon
echo garbage >"$STATE/FORMAT"
not_ok "an unknown format is refused" timeout $((20 * SLOW)) snapshotd --state "$STATE" --socket "$SOCK" --foreground
with_copy
for f in "$STATE"/db/MANIFEST-*; do head -c 200 /dev/urandom >"$f"; done
not_ok "a broken database is refused" timeout $((20 * SLOW)) snapshotd --state "$STATE" --socket "$SOCK" --foreground
done_testing
