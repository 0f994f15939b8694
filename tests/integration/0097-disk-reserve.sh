#!/bin/bash
# A guest fills the disk below a store: it is refused in time, and the daemon has what it
# needs to go on, to give the space back and to restart. Another program may take that,
# too: then callers are told, and with room all works again.
# tags: quick
# timeout: 240
. "${0%/*}/lib.sh"
need root fuse jq curl
config() { # JSON
	echo "$1" >"$T/config.json"
	# shellcheck disable=SC2034 # start_daemon uses it
	daemon_args=(--config "$T/config.json")
}
d=$T/disk m=$T/m
truncate -s 400M "$T/image"
mkfs.ext4 -q "$T/image" || skip_all "no mkfs.ext4"
mkdir "$d"
mount -o loop "$T/image" "$d" || skip_all "cannot mount an image"
# shellcheck disable=SC2034 # lib.sh uses it
STATE=$d/state
config '{"diskReserveBytes": 100000000, "gcReserveBytes": 20000000, "gcInterval": 0}'
start_daemon
avail() { # PLACE: free MiB
	df --output=avail -BM "$1" | tail -n 1 | tr -dc 0-9
}
noise() { # FILE MIB
	head -c "$2M" /dev/urandom >"$1"
}
call() { # METHOD PATH [BODY]: the status
	curl -s -o "$T/.body" -w '%{http_code}' --unix-socket "$SOCK" -X "$1" \
		-H 'Content-Type: application/json' ${3:+-d "$3"} "http://localhost$2"
}
mkdir "$T/src" "$T/small"
noise "$T/src/noise" 30
mkdir "$T/new"
noise "$T/new/noise" 30
echo small >"$T/small/file"
varve import old dir "$T/src" >/dev/null
import_empty empty >/dev/null
ok "mount" mount_at empty "$m"
id=$(mount_id "$m")
ok "df leaves out the reserve" test "$(avail "$m")" -le $(($(avail "$d") - 90))

# --- a guest fills it ---
mkdir "$m/dir"
for i in 1 2 3; do
	noise "$m/dir/$i" 20
done
ok "what is there is synced" sync "$m/dir/1"
not_ok "a guest fills it" noise "$m/most" 400
like "and is told why" "$(LC_ALL=C dd if=/dev/zero of="$m/more" bs=1M count=20 2>&1)" "No space left"
ok "the reserve is free ($(avail "$d") MiB)" test "$(avail "$d")" -ge 70
like "and shown" "$(api GET /metrics | grep ^snapshotd_disk_reserve_bytes)" ' 100000000$'
ok "the small rest goes, too" bash -c "for ((i = 0; i < 4000; i++)); do
	dd if=/dev/zero of='$m/rest' bs=4k count=64 oflag=append conv=notrunc 2>/dev/null || exit 0
done; exit 1"
not_ok "an import is refused" varve import new dir "$T/new"
is "over HTTP with 507" "$(call POST /api/snapshots/import \
	"{\"name\": \"new\", \"source\": {\"dir\": \"$T/new\"}}")" 507
like "with the reason" "$(cat "$T/.body")" 'nearly full.*diskReserveBytes'
not_ok "a checkpoint of more than there is room for is refused" varve checkpoint "$m" big
like "with the reason" "$(cat "$T/.out")" 'MiB may be needed'
ok "the daemon is there" daemon_ready
ok "what was written is readable" cmp <(sha256sum <"$m/dir/1") <(sha256sum <"$m/dir/1")
sum=$(sha256sum <"$m/dir/1")

# --- what gives space back works below the reserve ---
ok "a collection" varve gc
ok "a snapshot goes" varve rm old
ok "a collection of it" varve gc
ok "a file is cut" truncate -s 0 "$m/rest"
ok "and deleted" rm -f "$m/rest" "$m/more"
kill_daemon
start_daemon
is "a restart, and all is there" "$(sha256sum <"$m/dir/1")" "$sum"
ok "the large file goes" rm "$m/most"
ok "with that, there is room ($(avail "$m") MiB)" test "$(avail "$m")" -ge 100
ok "to write" noise "$m/again" 20
ok "to import" varve import small dir "$T/small"
ok "to checkpoint" varve checkpoint "$m" all

# --- another program takes the reserve ---
dd if=/dev/zero of="$d/filler" bs=1M status=none 2>/dev/null
dd if=/dev/zero of="$d/filler2" bs=4k status=none 2>/dev/null
sync -f "$d"
ok "the disk is full" test "$(avail "$d")" -le 1
not_ok "a guest is refused" touch "$m/one-more"
is "an import, too" "$(call POST /api/snapshots/import \
	"{\"name\": \"new\", \"source\": {\"dir\": \"$T/new\"}}")" 507
ok "what is in place can be read" test "$(sha256sum <"$m/dir/1")" = "$sum"
varve rm small >"$T/.rm" 2>&1
if [ -e "$STATE/reserve" ]; then
	# What says that it has begun has no room before it has made some.
	ok "the reserve is what a collection with a key needs" varve gc
	dd if=/dev/zero of="$d/filler4" bs=4k status=none 2>/dev/null
	sync -f "$d"
else
	skip "the reserve is what a collection with a key needs" "there is none"
fi
status=$(call POST /api/gc '{}')
like "a collection works, or says that there is no space" "$status $(cat "$T/.body")" \
	'^200 |^5.. .*([Nn]o space|full)'
diag "gc on a full disk: $status $(head -c 200 "$T/.body")"
ok "the daemon is there" daemon_ready
dd if=/dev/zero of="$d/filler3" bs=4k status=none 2>/dev/null
sync -f "$d"
kill_daemon
not_ok "no daemon starts there" timeout $((60 * SLOW)) snapshotd --state "$STATE" --socket "$SOCK" \
	"${daemon_args[@]}"
like "and it says why" "$(cat "$T/.out")" 'is full: .* are free'
rm "$d"/filler*
sync -f "$d"
start_daemon
recovered() {
	local i
	for ((i = 0; i < 30 * SLOW; i++)); do
		varve gc && touch "$m/one-more" && return
		sleep 1
	done
	return 1
}
ok "with room, all works again" recovered
ok "a checkpoint" varve checkpoint "$m" after
ok "verify" varve verify
is "the mount goes" "$(call DELETE "/api/mounts/$id?discard=1")" 204
stop_daemon
umount "$d" || fail "cannot unmount the image"

# --- a disk that is full to its last block, which ext4 is not ---
mount -t tmpfs -o size=200M varve-test "$d" || bail "cannot mount a tmpfs"
config '{"diskReserveBytes": 0, "gcReserveBytes": 8000000, "gcInterval": 0}'
start_daemon
ok "a reserve is put by" until_true 20 test -e "$STATE/reserve"
dd if=/dev/zero of="$d/filler" bs=4k status=none 2>/dev/null
ok "a collection with a key uses it" varve gc
stop_daemon
umount "$d" || fail "cannot unmount the tmpfs"
done_testing
