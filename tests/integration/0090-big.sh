#!/bin/bash
# Sizes: many files, and one large sparse file. Times have limits far above the
# aim; the benchmarks measure them.
# VARVE_BIG_FILES (100,000; a million with VARVE_LONG=1): how many.
# tags: alone
# timeout: 900
. "${0%/*}/lib.sh"
need root fuse curl jq helper:bigtar
need_space 6000
files=${VARVE_BIG_FILES:-$((LONG ? 1000000 : 100000))}
start_daemon

t=$(millis bash -c "'$(helper bigtar)' $files | varve import big tar -")
at_most "import of $files files" "$t" $((files / 4 + 10000))
like "they are all there" "$(varve --json show big | field .fileCount)" '^[0-9]+$'
mkdir "$T/m"
t=$(millis bash -c "varve mount big '$T/m' && stat '$T/m/d7/d3/f5'")
at_most "mount and first stat" "$t" 1000
is "content" "$(cat "$T/m/d7/d3/f5")" "file 5 of 7/3"
# 100 files a directory, 100 directories a directory.
is "names of a directory" "$(find "$T/m/d0/d1" -type f | wc -l)" 100
echo changed >"$T/m/d7/d3/f5"
t=$(millis varve checkpoint "$T/m" one)
at_most "checkpoint after one change" "$t" 2000
t=$(millis fork_at "$T/m" "$T/f")
at_most "fork" "$t" 2000
is "the fork has the change" "$(cat "$T/f/d7/d3/f5")" changed
t=$(millis bash -c "find '$T/m' -type f -size +100c | wc -l")
at_most "walk of all" "$t" $((files / 10 + 5000))
t=$(millis varve diff big one)
at_most "diff of the two" "$t" 2000
like "diff finds the change" "$(varve diff big one)" 'd7/d3/f5'
mv "$T/m/d7" "$T/m/moved"
t=$(millis varve checkpoint "$T/m" moved)
at_most "checkpoint after a directory moved" "$t" 2000
rm -rf "$T/m/moved/d1" "$T/m/moved/d2"
ok "checkpoint after removals" varve checkpoint "$T/m" removed
diag "daemon's memory: $(awk '/VmRSS/ { print $2, $3 }' "/proc/$DAEMON/status")"
ok "umount" varve umount --discard "$T/m"
ok "umount" varve umount --discard "$T/f"
ok "gc" varve gc
ok "what is left is whole" varve verify removed

# A directory with many entries.
import_empty empty >/dev/null
ok "mount" mount_at empty "$T/m"
mkdir "$T/m/wide"
(cd "$T/m/wide" && seq -f 'entry-%.0f' 50000 | xargs touch)
is "50,000 entries are listed" "$(find "$T/m/wide" -type f | wc -l)" 50000
ok "checkpoint" varve checkpoint "$T/m" wide
touch "$T/m/wide/one-more"
t=$(millis varve checkpoint "$T/m" wide2)
at_most "checkpoint after one more" "$t" 2000
ok "all go" bash -c "rm -rf '$T/m/wide' && test ! -e '$T/m/wide'"

# A sparse file of 20 GB.
truncate -s 20G "$T/m/sparse"
for at in 0 1000000 15000000000; do
	head -c 100000 /dev/urandom | dd of="$T/m/sparse" bs=100000 oflag=seek_bytes seek=$at \
		conv=notrunc status=none
done
t=$(millis varve checkpoint "$T/m" sparse)
at_most "checkpoint of a sparse file of 20 GB" "$t" 5000
printf X | dd of="$T/m/sparse" bs=1 seek=15000000050 conv=notrunc status=none
t=$(millis varve checkpoint "$T/m" sparse2)
at_most "checkpoint of one byte in it" "$t" 2000
ok "fork" fork_at sparse2 "$T/f"
is "the byte is there" "$(dd if="$T/f/sparse" bs=1 skip=15000000050 count=1 status=none)" X
is "size" "$(stat -c %s "$T/f/sparse")" 21474836480
ok "it takes little space" test "$(stat -c %b "$T/f/sparse")" -lt 4000
at_most "copying it with its holes" "$(millis cp --sparse=always "$T/f/sparse" "$T/copy")" 120000
ok "the copy is the same size" test "$(stat -c %s "$T/copy")" = 21474836480
done_testing
