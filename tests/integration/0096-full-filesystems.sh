#!/bin/bash
# The disk below a store is full to its last block, on every filesystem that a state
# directory may be on: callers get ENOSPC, the daemon goes on, nothing that returned is
# lost, nothing that failed is there, and with room all works again.
# tags: quick
# timeout: 300
. "${0%/*}/lib.sh"
need root fuse python3

# Make directories until enough calls have failed; the names that were made go to FILE.
cat >"$T/make.py" <<'END'
import errno, os, sys
top, made, most = sys.argv[1], open(sys.argv[2], "a"), int(sys.argv[3])
failed = 0
for i in range(most):
    name = f"{sys.argv[4]}{i}-" + "n" * 200
    try:
        os.mkdir(f"{top}/{name}")
        made.write(name + "\n")
    except OSError as e:
        if e.errno != errno.ENOSPC:
            sys.exit(f"mkdir {i}: {e}")
        failed += 1
    if failed == 300:
        break
print(failed)
END
same_names() { # DIR FILE
	diff <(ls "$1") <(LC_ALL=C.UTF-8 sort "$2") | head -n 5
	return "${PIPESTATUS[0]}"
}
# Without a reserve, or it would never come to that.
echo '{"diskReserveBytes": 0}' >"$T/config.json"
on_full() { # FILESYSTEM MKFS-OPTION...
	local fs=$1 d=$T/$1 m=$T/m-$1 failed
	shift
	truncate -s 400M "$T/$fs.img"
	if ! "mkfs.$fs" "$@" "$T/$fs.img" >"$T/.out" 2>&1; then
		skip "$fs" "no mkfs.$fs"
		return
	fi
	mkdir "$d"
	if ! mount -o loop "$T/$fs.img" "$d" 2>"$T/.out"; then
		skip "$fs" "this kernel cannot mount it"
		return
	fi
	# shellcheck disable=SC2034 # lib.sh uses it
	STATE=$d/state
	start_daemon --config "$T/config.json"
	import_empty "empty" >/dev/null
	ok "$fs: mount" mount_at empty "$m"
	python3 "$T/make.py" "$m" "$T/made-$fs" 200 before- >/dev/null
	dd if=/dev/zero of="$d/filler" bs=1M status=none 2>/dev/null
	dd if=/dev/zero of="$d/filler2" bs=4k status=none 2>/dev/null
	sync -f "$d"
	failed=$(python3 "$T/make.py" "$m" "$T/made-$fs" 60000 full- 2>&1)
	like "$fs: calls fail for want of space, and only so" "$failed" '^[1-9][0-9]*$'
	ok "$fs: the daemon is there" daemon_ready
	ok "$fs: with what was made" same_names "$m" "$T/made-$fs"
	rm "$d/filler" "$d/filler2"
	sync -f "$d"
	# A database that had no room looks every five seconds whether there is some.
	ok "$fs: with room an fsync works again" until_true 20 sync "$m"
	is "$fs: and all else" "$(python3 "$T/make.py" "$m" "$T/made-$fs" 500 after- 2>&1)" 0
	ok "$fs: fsync, too" sync "$m"
	kill_daemon
	start_daemon --config "$T/config.json"
	ok "$fs: nothing is lost, and what failed is not there" same_names "$m" "$T/made-$fs"
	ok "$fs: checkpoint" varve checkpoint "$m" full
	ok "$fs: umount" varve umount --discard "$m"
	stop_daemon
	umount "$d" || fail "$fs: cannot unmount the image"
	rm "$T/$fs.img"
}
on_full ext4 -q
on_full xfs -q
on_full btrfs -q
done_testing
