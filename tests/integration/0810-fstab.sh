#!/bin/bash
# `mount -t varve NAME DIR` and fstab: the helpers that mount(8) and umount(8) call.
# tags: quick asan commands
# timeout: 120
# mount(8) looks for helpers in /sbin alone: here that is one of this test's own.
[ -n "${VARVE_OWN_SBIN:-}" ] || [ "$(id -u)" != 0 ] || ! unshare -m true 2>/dev/null ||
	VARVE_OWN_SBIN=1 exec unshare -m --propagation private bash "$0" "$@"
. "${0%/*}/lib.sh"
need root fuse jq python3 unshare findmnt mount
sbin=$(realpath /sbin)
mkdir "$T/tmpfs"
mount -t tmpfs none "$T/tmpfs" && mkdir "$T/tmpfs/upper" "$T/tmpfs/work" || bail "no tmpfs"
for h in mount.varve mount.fuse.varve umount.fuse.varve; do ln -s "$BUILD/bin/varve" "$T/tmpfs/upper/$h"; done
mount -t overlay -o "lowerdir=$sbin,upperdir=$T/tmpfs/upper,workdir=$T/tmpfs/work" none "$sbin" 2>/dev/null ||
	skip_all "cannot put a helper into $sbin (no overlayfs?)"

m=$T/m
mkdir -p "$m" "$T/m2" "$T/m3" "$T/src"
echo one >"$T/src/file"
shown() { # DIR: type, source and options, as findmnt has them
	findmnt -rn -o FSTYPE,SOURCE,OPTIONS --mountpoint "$1"
}
ours() { # those of this test, and their sources
	findmnt -rn -t fuse.varve -o TARGET,SOURCE | grep "^$T/"
}
state_of() { # DIR
	varve --json mounts | jq -r --arg d "$1" '[.[] | select(.mountpoint == $d)] | map(.status) | join(" ")'
}
complaint() { # COMMAND...: what it says, and its status
	local rc=0
	"$@" 2>&1 || rc=$?
	echo "status $rc"
}

# --- without a daemon ---
like "no daemon" "$(complaint mount -t varve empty "$m" -o wait=0)" "mount.varve: .*(reach|connect|running).*status 2"
mount -t varve image "$m" -o wait=60 >"$T/early" 2>&1 &
early=$!
start_daemon
varve import image dir "$T/src" >/dev/null
like "a mount of what is not there waited for the daemon" "$(wait $early; echo $?)" '^(0|32)$'
umount "$m" 2>/dev/null && varve discard "$m" 2>/dev/null

# --- mount and umount ---
ok "mount -t varve" mount -t varve image "$m"
like "findmnt shows it" "$(shown "$m")" '^fuse\.varve image rw,nosuid,nodev'
is "it has the files" "$(cat "$m/file")" one
echo two >"$m/file"
ok "mount it once more is no harm" mount -t varve image "$m"
is "and makes no other" "$(state_of "$m")" mounted
ok "umount" umount "$m"
is "the daemon knows" "$(state_of "$m")" detached
ok "mount -t fuse.varve" mount -t fuse.varve image "$m"
is "what was written is there again" "$(cat "$m/file")" two
is "in the same mount" "$(state_of "$m")" mounted
ok "umount -l" umount -l "$m"
like "other options than it has" "$(complaint mount -t varve image "$m" -o ro)" \
	'has changes and other options.*status 32'
ok "fresh" mount -t varve image "$m" -o fresh,ro
is "is as the snapshot" "$(cat "$m/file")" one
like "and read-only" "$(shown "$m")" '^fuse\.varve image ro,'
is "beside the one with changes" "$(state_of "$m" | tr ' ' '\n' | sort | xargs)" "detached mounted"
ok "umount of it" umount "$m"
ok "the last one detached is mounted again" mount -t varve image "$m" -o ro
umount "$m"
for id in $(varve --json mounts | jq -r '.[].id'); do varve discard "$id"; done

# --- a name that stands for another snapshot ---
ok "mount" mount -t varve image "$m"
umount "$m"
echo three >"$T/src/file"
varve import new dir "$T/src" >/dev/null && varve rm image 2>/dev/null && varve rename new image
ok "mount of the new one" mount -t varve image "$m"
is "has its files, as nothing was changed in the old one" "$(cat "$m/file")" three
is "and no mount is left over" "$(state_of "$m")" mounted
like "another snapshot there" "$(varve import other dir "$T/src" >/dev/null; complaint mount -t varve other "$m")" \
	'busy|is mounted at.*status 32'
umount "$m"

# --- options ---
like "an unknown option" "$(complaint mount -t varve image "$m" -o size=3)" \
	"mount.varve: unknown option 'size': there are ro, cache=.*status 1"
like "one without its value" "$(complaint mount -t varve image "$m" -o quota)" "quota needs a value.*status 1"
like "a wrong value" "$(complaint mount -t varve image "$m" -o quota=big)" "quota=big is no size.*status 1"
like "one that cannot be" "$(complaint mount -t varve image "$m" -o strictatime)" "strictatime cannot be: .*status 1"
like "remount" "$(mount -t varve image "$m"; complaint mount -o remount,ro "$m"; umount "$m")" "remount cannot be.*status 1"
ok "sloppy" mount -s -t varve image "$m" -o size=3
umount "$m"
like "a snapshot that is not there" "$(complaint mount -t varve none "$m")" "none.*status 32"
like "a directory that is not there" "$(complaint "$sbin/mount.varve" image "$T/nowhere")" "nowhere.*status 2"
ok "nothing is mounted with -f" mount -f -t varve image "$m"
not_ok "nothing" is_mounted "$m"
ok "options" mount -v -t varve image "$T/m2" -o fresh,cache=shared,quota=1M,inodes=10,allow_dev,allow_suid,noexec,noatime,_netdev,x-a=b
is "are taken" "$(varve --json mounts | jq -c --arg d "$T/m2" '.[] | select(.mountpoint == $d) |
	[.quotaBytes, .quotaInodes]')" "[1048576,10]"
not_ok "the quota counts" dd if=/dev/urandom of="$T/m2/big" bs=1M count=3 status=none
like "noexec, and what is allowed" "$(shown "$T/m2")" '^fuse\.varve image rw,noexec,relatime'
like "what is mounted keeps its options" "$(complaint mount -t varve image "$T/m2" -o cache=shared,quota=1M,inodes=10)" \
	'is mounted with other options: .*status 32'
ok "the same do no harm" mount -t varve image "$T/m2" -o cache=shared,quota=1M,inodes=10,allow_dev,allow_suid,noexec
ok "umount -f" umount -f "$T/m2"
ok "mount again, with others" mount -t varve image "$T/m2" -o cache=shared,quota=100M
like "they hold" "$(shown "$T/m2")" '^fuse\.varve image rw,nosuid,nodev,relatime'
is "quotas, too" "$(varve --json mounts | jq -c --arg d "$T/m2" '.[] | select(.mountpoint == $d) |
	[.quotaBytes, .quotaInodes]')" "[104857600,0]"
ok "there is room now" dd if=/dev/urandom of="$T/m2/big" bs=1M count=3 status=none
restart_daemon
like "after a restart as well" "$(shown "$T/m2")" '^fuse\.varve image rw,nosuid,nodev,relatime'
ok "there is room then" dd if=/dev/urandom of="$T/m2/big2" bs=1M count=3 status=none
umount "$T/m2"
varve discard "$T/m2"

like "a descriptor that is not at an automount point" \
	"$(api POST /api/mounts "{\"snapshot\": \"image\", \"mountpoint\": \"$m\", \"automountFD\": 1}")" \
	'automountFD 1 is not open at an automount point'
like "nor one at all" "$(api POST /api/mounts "{\"snapshot\": \"image\", \"mountpoint\": \"$m\", \"automountFD\": 9999}")" \
	'automountFD 9999: No such file'
not_ok "mount nothing" is_mounted "$m"

# --- fstab, and a remote ---
mkdir "$T/bucket"
varve remote add main "file://$T/bucket" >/dev/null && varve push image main >/dev/null
cat >"$T/fstab" <<-END
	image		$m	varve	defaults,_netdev,nofail			0 0
	main:image	$T/m2	varve	ro,_netdev,x-systemd.requires=snapshotd.service	0 0
	image		$T/m3	fuse.varve	noauto,cache=shared	0 0
END
ok "mount -a" mount -a -T "$T/fstab"
is "mounts what is not noauto" "$(ours | sort | xargs)" "$m image $T/m2 main:image"
is "of a remote, too" "$(cat "$T/m2/file")" three
ok "once more" mount -a -T "$T/fstab"
is "changes nothing" "$(ours | wc -l)" 2
ok "mount DIR" mount -T "$T/fstab" "$T/m3"
is "findmnt --verify is content" "$(findmnt --verify --tab-file "$T/fstab" 2>&1 | grep -c '\[E\]')" 0
echo kept >"$m/kept"
restart_daemon
is "they outlive the daemon" "$(ours | wc -l) $(cat "$m/kept")" "3 kept"
ok "umount all" umount "$m" "$T/m2" "$T/m3"
ok "mount -a at the next boot" mount -a -T "$T/fstab"
is "has what was written" "$(cat "$m/kept")" kept

# --- an automounter's indirect map: what is below its mount point is none ---
cat >"$T/auto.py" <<'END'
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
d, helper = sys.argv[1:]
end = os.pipe()[1]
if libc.mount(b"auto", d.encode(), b"autofs", 0, f"fd={end},pgrp={os.getpgrp()},minproto=5,maxproto=5,indirect".encode()):
    sys.exit("no autofs")
try:
    os.mkdir(d + "/x")
    p = subprocess.run(["timeout", "--foreground", "30", helper, "image", d + "/x"], stdout=2)
    print("status", p.returncode, file=sys.stderr)
finally:
    libc.umount2(d.encode(), 2)
END
mkdir "$T/auto"
got=$(python3 "$T/auto.py" "$T/auto" "$sbin/mount.varve" 2>&1)
if [ "$got" = "no autofs" ]; then
	skip "in an indirect map" "no autofs"
else
	like "in an indirect map" "$(xargs <<<"$got")" "mount.varve: .*/auto/x is in an indirect map of an automounter.* status 2"
fi

# --- umount without the daemon's help ---
kill_daemon
ok "umount of a mount whose daemon was killed" umount "$m"
not_ok "it has gone" is_mounted "$m"
start_daemon
ok "umount of what the daemon does not know" umount "$T/tmpfs" -l
done_testing
