#!/bin/bash
# A checkpoint has what was written before it, of files that are open too. A daemon that is
# killed while the kernel writes dirty pages back, in the flush of a checkpoint, a lazy
# unmount or a search for data, ends at once: it must not wait for its own answers.
# tags: quick
# timeout: 120
. "${0%/*}/lib.sh"
need root fuse python3 jq
start_daemon
import_empty empty >/dev/null
m=$T/m
mount_at empty "$m" || bail "no mount"

# End the connection of a FUSE mount whose daemon does not.
abort_mount() { # DIR
	local minor
	minor=$(awk -v d="$1" '$5 == d { split($3, n, ":"); print n[2] }' /proc/self/mountinfo)
	mkdir -p "$T/fusectl"
	mount -t fusectl none "$T/fusectl"
	echo 1 >"$T/fusectl/$minor/abort"
	umount "$T/fusectl"
}
# As kill_daemon, but one that does not end is told of, and freed.
killed_daemon_ends() {
	local i
	kill -9 "$DAEMON"
	for ((i = 0; i < 100 * SLOW; i++)); do
		[ -d "/proc/$DAEMON/task" ] && ! grep -qs '^State:.Z' "/proc/$DAEMON/status" || break
		pause 0.05
	done
	# A zombie may have threads that hang.
	for ((i = 0; i < 100 * SLOW; i++)); do
		[ "$(find "/proc/$DAEMON/task" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)" -gt 1 ] || break
		pause 0.05
	done
	local hung=$((i == 100 * SLOW))
	[ $hung = 0 ] || abort_mount "$m"
	wait "$DAEMON" 2>/dev/null
	DAEMON=
	return $hung
}

# Closing a file writes it back, so the program keeps it open. $writer is who.
write_and_stay() { # FILE
	: >"$T/wrote"
	python3 -c 'import sys, time
f = open(sys.argv[1], "wb", 0)
f.write(b"x" * 150000000)
print(flush=True)
time.sleep(100)' "$1" >"$T/wrote" 2>&1 &
	writer=$!
	until [ -s "$T/wrote" ]; do sleep 0.01; done
}
# As it, but it asks where data is again and again, which writes back first.
write_and_seek() { # FILE
	: >"$T/wrote"
	python3 -c 'import os, sys
f = open(sys.argv[1], "wb", 0)
while True:
    f.seek(0)
    f.write(b"x" * 30000000)
    f.seek(0, os.SEEK_DATA)
    print(flush=True)' "$1" >"$T/wrote" 2>/dev/null &
	writer=$!
	until [ -s "$T/wrote" ]; do sleep 0.01; done
}
end_writer() {
	kill $writer 2>/dev/null
	wait $writer 2>/dev/null
}

short=''
for r in 1 2 3; do
	write_and_stay "$m/whole$r"
	varve checkpoint "$m" "whole$r" >/dev/null
	got=$(varve --json stat "whole$r:whole$r" | jq -r '"\(.size) \(.allocBytes)"')
	[ "$got" = "150000000 150000000" ] || short+=" $got"
	end_writer
done
is "a checkpoint has all that was written to an open file" "$short" ""

hung=0 rounds=${VARVE_KILL_ROUNDS:-9}
for ((r = 1; r <= rounds; r++)); do
	case $((r % 3)) in
	0) write_and_seek "$m/big" ;;
	*) write_and_stay "$m/big" ;;
	esac
	case $((r % 3)) in
	1) varve checkpoint "$m" "cp$r" >/dev/null 2>&1 & ;;
	2) varve umount --lazy "$m" >/dev/null 2>&1 & ;;
	esac
	sleep "0.0$((r * 7 % 30 + 10))"
	killed_daemon_ends || hung=$((hung + 1))
	end_writer
	umount -l "$m" 2>/dev/null
	start_daemon
	is_mounted "$m" || varve attach "$(varve --json mounts | jq -r '.[0].id')" >/dev/null
done
is "a daemon killed in a write-back ends ($rounds times)" "$hung" 0
ok "the mount works on" sh -c "echo x >'$m/new' && cat '$m/new'"
ok "verify" varve verify
done_testing
