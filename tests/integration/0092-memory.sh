#!/bin/bash
# The daemon keeps to its memory budget: while a tree that is far larger is imported, walked
# and read, and in what it keeps after that.
# VARVE_MEMORY_FILES (120000; a million with VARVE_LONG=1): files of the tree.
# tags: alone
# timeout: 400
. "${0%/*}/lib.sh"
need root fuse curl
files=${VARVE_MEMORY_FILES:-$((LONG ? 1000000 : 120000))}
maketar=$TOOLS/tests/perf/maketar
[ -x "$maketar" ] || skip_all "needs maketar (make helpers)"
need_space $((files / 500))
budget=32 # MiB
# Beside the budget: the program, its libraries, RocksDB's own, what threads work on; and 64
# bytes an inode that the kernel knows.
overhead=$((64 + 8 * $(nproc)))
start_daemon --memory ${budget}M

mib() { # VmRSS|VmHWM
	awk -v k="$1:" '$1 == k { print int($2 / 1024) }' "/proc/$DAEMON/status"
}
keeps_to() { # DESCRIPTION MIB LIMIT
	diag "$1: $2 MiB"
	ok "$1: $2 MiB, at most $3" test "$2" -le "$3"
}
"$maketar" "$files" | varve import big tar - >"$T/.out" || bail "import"
# An import has the names and attributes of all files in memory.
keeps_to "importing $files files" "$(mib VmHWM)" $((budget + overhead + files * 640 / 1048576))
keeps_to "after the import" "$(mib VmRSS)" $((budget + overhead))
restart_daemon
mount_at big "$T/m" || bail "mount"
for _ in 1 2 3; do
	n=$(find "$T/m" -printf '%s\n' | wc -l)
done
ok "every file is there" test "$n" -gt "$files"
limit=$((budget + overhead + files * 64 / 1048576))
keeps_to "walked three times" "$(mib VmHWM)" $limit
find "$T/m" -type f | awk 'NR % 20 == 0' | xargs cat >/dev/null
keeps_to "files read" "$(mib VmHWM)" $limit
head -c 300M /dev/urandom >"$T/m/written"
cat "$T/m/written" >/dev/null
ok "a checkpoint of a large file" varve checkpoint "$T/m" written
for ((i = 0; i < 600 * SLOW; i++)); do
	[ "$(varve --json show written | field .status)" = ready ] && break
	pause 0.1
done
keeps_to "written, read and sealed" "$(mib VmHWM)" $limit
varve verify >"$T/.out" || fail "verify"
keeps_to "verified" "$(mib VmHWM)" $((limit + files * 32 / 1048576))
ok "umount" varve umount --discard "$T/m"
done_testing
