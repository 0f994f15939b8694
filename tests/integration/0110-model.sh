#!/bin/bash
# Random operations on a mount and on ext4 side by side, also across checkpoints,
# forks, remounts, restarts and kills of the daemon.
# VARVE_MODEL_SECONDS (40; 600 with VARVE_LONG=1): how long in all.
# VARVE_MODEL_SEED: the first seed (default: from the clock; it is printed).
# VARVE_MODEL_CACHE: the mount's cache mode (default: private, then shortly shared).
# tags: asan model
# timeout: 900
. "${0%/*}/lib.sh"
need root fuse curl jq helper:fsmodel
fsmodel=$(helper fsmodel)
seconds=${VARVE_MODEL_SECONDS:-$((LONG ? 600 : 40))}
seed=${VARVE_MODEL_SEED:-$(($(date +%s) * 1000))}
start_daemon
import_empty empty >/dev/null
mount_at empty "$T/a" --cache "${VARVE_MODEL_CACHE:-private}" || bail "no mount"
mkdir "$T/b"
id=$(mount_id "$T/a")
cache_args=()
[ "${VARVE_MODEL_CACHE:-}" != shared ] || cache_args=(--readers-leave)
case $(stat -f -c %T "$T/b") in
ext2/ext3 | xfs | btrfs) ;;
*) diag "the other side is $(stat -f -c %T "$T/b"), not ext4" ;;
esac

# model NAME SECONDS ARGUMENT...: rounds of seeds until the time is over.
model() {
	local name=$1 until=$((SECONDS + $2)) rc=0 ops=0 n
	shift 2
	while [ $SECONDS -lt $until ] && [ $rc = 0 ]; do
		"$fsmodel" --a "$T/a" --b "$T/b" --seed "$seed" "${cache_args[@]}" "$@" >"$T/model.out" 2>&1 || rc=$?
		n=$(sed -n 's/^\([0-9]*\) operations.*/\1/p' "$T/model.out")
		ops=$((ops + ${n:-0}))
		[ $rc != 0 ] || seed=$((seed + 1000))
	done
	if [ $rc = 0 ]; then
		pass "$name ($ops operations)"
	else
		fail "$name" "status $rc; fsmodel ... --seed $seed $*"
		tail -n 120 "$T/model.out" | cut -c 1-400 | sed 's/^/#   /'
		find "$T/b" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
		find "$T/a" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
	fi
}

# Events come as words through a pipe, as the daemon is this shell's child.
mkfifo "$T/ctl" "$T/ctl.done"
cat >"$T/hook" <<'HOOK'
#!/bin/bash
# Run by fsmodel at an event.
set -e
name=model-$FSMODEL_EVENT-$$
case $FSMODEL_EVENT in
checkpoint)
	varve checkpoint "$FSMODEL_A" "$name" >/dev/null
	varve rm "$name" >/dev/null
	;;
gc) varve gc >/dev/null ;;
fork)
	mkdir -p "$T/fork"
	cache=$(varve --json mounts | jq -r --arg d "$FSMODEL_A" '.[] | select(.mountpoint == $d) | .cache')
	varve fork --cache "${cache:-private}" "$FSMODEL_A" "$T/fork" >/dev/null
	"$FSMODEL" --compare "$T/fork/$FSMODEL_DIR" "$FSMODEL_B/$FSMODEL_DIR" || status=1
	# Of the mount it has also inode numbers and times.
	FSMODEL_EXACT=1 FSMODEL_SINCE=99999999999 "$FSMODEL" --compare "$T/fork/$FSMODEL_DIR" \
		"$FSMODEL_A/$FSMODEL_DIR" || status=1
	varve umount --discard "$T/fork" >/dev/null
	exit ${status:-0}
	;;
*)
	echo "$FSMODEL_EVENT" >"$T/ctl"
	read -r answer <"$T/ctl.done"
	[ "$answer" = 'done' ]
	;;
esac
HOOK
chmod +x "$T/hook"
export T FSMODEL=$fsmodel
serve_events() { # PID: until it ends
	local event
	exec 9<>"$T/ctl"
	while kill -0 "$1" 2>/dev/null; do
		read -r -t 1 -u 9 event || continue
		answer='done'
		case $event in
		remount)
			if ! varve umount "$id" >/dev/null || ! varve attach "$id" >/dev/null; then
				answer=failed
			fi
			;;
		restart) restart_daemon ;;
		kill)
			kill_daemon
			start_daemon
			;;
		esac
		echo $answer >"$T/ctl.done"
	done
	exec 9>&-
}
model_with_events() { # NAME SECONDS EVENTS ARGUMENT...
	local name=$1 until=$((SECONDS + $2)) events=$3 rc=0 ops=0 n pid
	shift 3
	while [ $SECONDS -lt $until ] && [ $rc = 0 ]; do
		"$fsmodel" --a "$T/a" --b "$T/b" --seed "$seed" --hook "$T/hook" --events "$events" \
			--no-shrink "${cache_args[@]}" "$@" >"$T/model.out" 2>&1 &
		pid=$!
		serve_events $pid
		wait $pid
		rc=$?
		n=$(sed -n 's/^\([0-9]*\) operations.*/\1/p' "$T/model.out")
		ops=$((ops + ${n:-0}))
		[ $rc != 0 ] || seed=$((seed + 1000))
	done
	if [ $rc = 0 ]; then
		pass "$name ($ops operations)"
	else
		fail "$name" "status $rc; fsmodel ... --seed $seed --events $events $*"
		tail -n 60 "$T/model.out" | cut -c 1-400 | sed 's/^/#   /'
		find "$T/b" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
		find "$T/a" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
	fi
}

diag "first seed: $seed"
# Rounds are short, so that the time is kept by a slow build, too.
model "short sequences" $((seconds / 4)) --seeds 10 --ops 150
model "long sequences" $((seconds / 8)) --seeds 1 --ops 3000 --compare-every 500
model_with_events "checkpoints and forks" $((seconds / 4)) checkpoint,fork,gc --seeds 1 --ops 400 \
	--hook-every 40
model_with_events "remounts and restarts" $((seconds / 4)) remount,restart,kill,checkpoint --seeds 1 \
	--ops 400 --hook-every 50
if [ -z "${VARVE_MODEL_CACHE:-}" ]; then
	ok "umount" varve umount --discard "$id"
	mount_at empty "$T/a" --cache shared || bail "no mount"
	# Operations through ".." reach both tops; the mount's is new.
	rm -rf "$T/b" && mkdir "$T/b"
	cache_args=(--readers-leave)
	id=$(mount_id "$T/a")
	model_with_events "sharing files, with checkpoints" $((seconds / 8)) checkpoint,fork \
		--seeds 1 --ops 400 --hook-every 20
	like "some files were shared" "$(api GET /metrics)" 'shared_opens_total [1-9]'
	model_with_events "sharing files, with restarts" $((seconds / 8)) kill,remount,checkpoint \
		--seeds 1 --ops 400 --hook-every 40
fi
ok "verify" varve verify
ok "umount" varve umount --discard "$id"
done_testing
