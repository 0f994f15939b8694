#!/bin/bash
# Checkpoints of a mount that works on, and forks of them.
# tags: quick asan tsan
# timeout: 120
. "${0%/*}/lib.sh"
need root fuse curl jq helper:fsmodel
start_daemon
import_empty empty >/dev/null
m=$T/m
mount_at empty "$m" || bail "no mount"

mkdir -p "$m/a/b"
head -c 700000 /dev/urandom >"$m/a/random"
echo one >"$m/a/b/text"
ln "$m/a/b/text" "$m/hard"
setfattr -n user.k -v v "$m/a" 2>/dev/null
touch -d '2003-01-01 00:00:00.5' "$m/a/b/text"
ok "checkpoint" varve checkpoint "$m" one
is "it is ready" "$(varve --json show one | field .status)" ready
cp -a "$m/." "$T/one"
ok "a mount of it" mount_at one "$T/f1"
ok "holds what the source holds" same_tree "$T/f1" "$m"
is "with the same inode number" "$(stat -c %i "$T/f1/hard")" "$(stat -c %i "$m/hard")"
is "and the same ctime" "$(stat -c %z "$T/f1/hard")" "$(stat -c %z "$m/hard")"

ok "a checkpoint of the unchanged mount" varve checkpoint "$m" same
is "has the same root" "$(root_of same)" "$(root_of one)"
echo two >"$m/a/b/text"
rm "$m/a/random"
mkdir "$m/c"
is "the fork does not see later changes" "$(cat "$T/f1/a/b/text")" one
ok "nor that a file is gone" test -e "$T/f1/a/random"
ok "checkpoint" varve checkpoint "$m" two
not_ok "roots differ" test "$(root_of two)" = "$(root_of one)"
ok "fork of the mount" fork_at "$m" "$T/f2"
ok "fork of a snapshot" fork_at two "$T/f3"
ok "both are the source" same_tree "$T/f2" "$m"
ok "both are the source" same_tree "$T/f3" "$m"
echo x >"$T/f2/x"
echo y >"$T/f3/y"
ok "forks differ only by their own changes" bash -c \
	"diff -rq '$T/f2' '$T/f3' | grep -c 'Only in' | grep -qx 2"
ok "the source has neither" test ! -e "$m/x" -a ! -e "$m/y"
ok "a fork of a fork" fork_at "$T/f2" "$T/f4"
is "has the fork's change" "$(cat "$T/f4/x")" x
like "history" "$(varve history two)" one
ok "rollback: a mount of the older one" mount_at one "$T/back"
ok "is as it was" same_tree "$T/back" "$T/one"
like "diff of two snapshots" "$(varve diff one two)" 'a/random'
is "diff of equal snapshots" "$(varve diff one same)" ""

# Files that are open across a checkpoint.
exec 7<>"$m/open" && echo before >&7
exec 8<>"$m/gone" && echo unlinked >&8
rm "$m/gone"
ok "checkpoint with open files" varve checkpoint "$m" open
echo after >&7
echo more >&8
is "an open file goes on" "$(cat "$m/open")" $'before\nafter'
is "an unlinked one, too" "$(cat /proc/$$/fd/8)" $'unlinked\nmore'
ok "checkpoint again" varve checkpoint "$m" open2
is "and after that" "$(cat /proc/$$/fd/8)" $'unlinked\nmore'
exec 7>&- 8>&-
ok "mount of it" mount_at open "$T/f5"
is "what was written before is in it" "$(cat "$T/f5/open")" before
not_ok "what was unlinked is not" test -e "$T/f5/gone"

# A large file changes by a byte; and dirty pages of a map are in the checkpoint.
head -c 60000000 /dev/urandom >"$m/large"
ok "checkpoint of a large file" varve checkpoint "$m" large
printf X | dd of="$m/large" bs=1 seek=30000000 conv=notrunc status=none
ok "checkpoint of one byte" varve checkpoint "$m" byte
new=$(varve --json show byte | field .newBytes)
ok "stores little ($new bytes)" test "$new" -lt 1000000
ok "mount of it" mount_at byte "$T/f6"
ok "content is right" cmp "$T/f6/large" "$m/large"

# Under load: each checkpoint holds a prefix of what one writer did.
(
	i=0
	mkdir "$m/seq"
	while [ ! -e "$T/stop" ]; do
		echo $i >"$m/seq/$i"
		i=$((i + 1))
	done
) &
load=$!
until_true 10 test -e "$m/seq/9"
for i in 1 2 3 4 5; do
	varve checkpoint "$m" load$i >/dev/null || fail "checkpoint under load"
done
touch "$T/stop"
wait $load
ok "the daemon lives" daemon_ready
last=-1 good=1
for i in 1 2 3 4 5; do
	mount_at load$i "$T/load" || good=0
	n=$(find "$T/load/seq" -type f | wc -l)
	max=$(find "$T/load/seq" -type f -printf '%f\n' | sort -n | tail -n 1)
	[ "$n" = $((max + 1)) ] && [ "$n" -gt $last ] || good=0
	# All but the last must be whole: they were closed.
	for ((k = 0; k < n - 1; k += 17)); do
		[ "$(cat "$T/load/seq/$k")" = $k ] || good=0
	done
	last=$n
	varve umount --discard "$T/load" || good=0
done
ok "checkpoints under load are points in time" test $good = 1
is "nothing was lost" "$(find "$m/seq" -type f | wc -l)" \
	"$(($(find "$m/seq" -type f -printf '%f\n' | sort -n | tail -n 1) + 1))"
ok "a checkpoint by id of the mount" varve checkpoint "$(mount_id "$m")" byid
not_ok "a taken name is refused" varve checkpoint "$m" byid
not_ok "a wrong name is refused" varve checkpoint "$m" 'no/such name'
ok "verify" varve verify
done_testing
