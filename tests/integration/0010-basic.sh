#!/bin/bash
# Import a directory, mount it, change it, unmount, attach again, discard.
# tags: quick asan tsan commands
# timeout: 60
. "${0%/*}/lib.sh"
need root fuse curl jq python3 helper:fsmodel
# Here the commands are asked for leaks, too.
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:detect_leaks=1}
start_daemon

src=$T/src
mkdir -p "$src/dir/sub" "$src/empty"
echo hello >"$src/hello"
head -c 300000 /dev/urandom >"$src/dir/random"
head -c 2000000 /dev/zero >"$src/zeros"
ln -s ../hello "$src/dir/link"
ln "$src/hello" "$src/dir/sub/hard"
touch -d '2001-02-03 04:05:06.789012345' "$src/hello" "$src/empty"

ok "import of a directory" varve import first dir "$src"
not_ok "a name is taken once" varve import first dir "$src"
like "the snapshot is listed" "$(varve snapshots)" first
is "it is ready" "$(varve --json show first | field .status)" ready

m=$T/m
ok "mount" mount_at first "$m"
ok "the directory is a mount point" is_mounted "$m"
is "type in /proc/mounts" "$(awk -v d="$m" '$2 == d { print $3 }' /proc/self/mounts)" fuse.varve
ok "the mount is what was imported" same_tree "$m" "$src"
is "file content" "$(cat "$m/hello")" hello
is "link count" "$(stat -c %h "$m/hello")" 2
is "mtime with nanoseconds" "$(stat -c %y "$m/hello")" "2001-02-03 04:05:06.789012345 +0000"
not_ok "a missing name" cat "$m/none"

echo more >>"$m/hello"
mkdir "$m/new" && echo "new file" >"$m/new/file"
rm "$m/dir/random"
mv "$m/zeros" "$m/dir/nothing"
chmod 600 "$m/dir/sub/hard"
truncate -s 1000 "$m/dir/nothing"
is "what was written is there" "$(cat "$m/dir/sub/hard")" $'hello\nmore'
is "the source is as it was" "$(cat "$src/hello")" hello
like "mounts lists it" "$(varve mounts)" "$m"
id=$(mount_id "$m")
like "it has an id" "$id" '^[0-9a-f-]{36}$'

# Side by side with the same changes on ext4.
cp -a "$src" "$T/want"
(
	cd "$T/want" || exit
	echo more >>hello
	mkdir new && echo "new file" >new/file
	rm dir/random
	mv zeros dir/nothing
	chmod 600 dir/sub/hard
	truncate -s 1000 dir/nothing
)
ok "the same changes give the same tree" same_tree_but_times "$m" "$T/want"
diff=$(varve diff "$m")
like "diff shows what was added" "$diff" $'A[[:space:]]+/?new/file'
like "diff shows what was removed" "$diff" $'D[[:space:]]+/?dir/random'
like "diff shows what was renamed" "$diff" 'zeros'

(cd "$m" && sleep 30) &
until_true 10 stands_in $! "$m"
not_ok "a busy mount is not unmounted" varve umount "$m"
kill $! && wait $! 2>/dev/null
ok "umount" varve umount "$m"
not_ok "the directory is no mount point then" is_mounted "$m"
is "the directory below is empty" "$(ls -A "$m")" ""
ok "attach" varve attach "$id"
ok "what was written was kept" same_tree_but_times "$m" "$T/want"
echo "after attach" >"$m/later"
ok "umount by id" varve umount "$id"
mkdir "$T/elsewhere"
ok "attach at another place" varve attach "$id" "$T/elsewhere"
is "it is there" "$(cat "$T/elsewhere/later")" "after attach"
ok "umount and discard" varve umount --discard "$T/elsewhere"
is "no mount is left" "$(varve --json mounts | field length)" 0
not_ok "what was discarded cannot be attached" varve attach "$id"

ok "a new mount of the snapshot" mount_at first "$m"
ok "it is the snapshot, untouched" same_tree "$m" "$src"
ok "two mounts of one snapshot" mount_at first "$T/m2"
echo one >"$m/x"
not_ok "do not see each other's changes" test -e "$T/m2/x"
not_ok "no second mount at one place" varve mount first "$m"
not_ok "no mount of a missing snapshot" varve mount nothing "$T/elsewhere"
not_ok "no mount at a missing directory" varve mount first "$T/missing"
ok "the snapshot can be removed under its mounts" varve rm first
ok "gc" varve gc
ok "which go on working" same_tree "$T/m2" "$src"

# Whoever only looks, as df does, holds a mount for a moment.
python3 -c '
import os, sys, time
while True:
    try:
        os.statvfs(sys.argv[1])
    except OSError:
        pass
    time.sleep(0.0001)' "$m" &
looks=$!
busy=0
for _ in $(seq 20); do
	varve umount "$(mount_id "$m")" >/dev/null || busy=$((busy + 1))
	varve attach "$m" >/dev/null 2>&1
done
kill $looks
wait $looks 2>/dev/null
is "umounts that were refused for it" "$busy" 0
done_testing
