#!/bin/bash
# The disk below a store fills up: df says so before, writes fail with ENOSPC, and what
# was there is readable, changeable and kept.
# tags: quick
# timeout: 120
. "${0%/*}/lib.sh"
need root fuse
mkdir "$T/disk"
mount -t tmpfs -o size=160M none "$T/disk" || skip_all "cannot mount a tmpfs"
ln -s disk "$STATE"
start_daemon
import_empty empty >/dev/null
m=$T/m
ok "mount" mount_at empty "$m"

room() { # free MiB of the mount
	df --output=avail -BM "$m" | tail -n 1 | tr -dc 0-9
}
fill() { # FILE MIB
	dd if=/dev/urandom of="$m/$1" bs=1M count="$2" conv=fsync status=none
}
free=$(room)
disk=$(df --output=avail -BM "$T/disk" | tail -n 1 | tr -dc 0-9)
ok "df leaves out what the database keeps ($free of $disk)" test "$free" -gt 20 -a "$free" -lt $((disk - 50))
not_ok "no more is set aside than df says" fallocate -l $((free + 30))M "$m/much"
ok "as much as it says, less some, can be written" fill most $((free - 18))
not_ok "but not more" fill more 60
ok "there is no room" test "$(room)" -lt 18
ok "names can be made" mkdir "$m/dir"
ok "and removed" rm "$m/more"
ok "what was there is readable" cp "$m/most" /dev/null
ok "removing makes room" rm "$m/most"
ok "for as much again" fill again $((free - 22))
kill_daemon
start_daemon
ok "verify" varve verify
ok "umount" varve umount --discard "$m"
stop_daemon
umount "$T/disk"
done_testing
