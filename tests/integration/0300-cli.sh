#!/bin/bash
# Every command of varve, and its mistakes, against a daemon.
# tags: quick asan commands
# timeout: 120
. "${0%/*}/lib.sh"
need root fuse jq setfattr script setpriv unshare readelf python3
need_space 1500

key='the key of this test'
mkdir "$T/hosted"
jq -n --arg root "$T/hosted" '{hostRoots: [$root]}' >"$T/config.json"
SNAPSHOTD_API_KEY=$key start_daemon --listen 127.0.0.1:0 --config "$T/config.json"
cd "$T" || exit

# Exit status, standard output and error of a command, in $st, $out and $err.
run() {
	"$@" >"$T/.stdout" 2>"$T/.stderr" </dev/null
	st=$?
	out=$(<"$T/.stdout") err=$(<"$T/.stderr")
}
# fails DESCRIPTION STATUS REGEX-OF-STDERR COMMAND...: and says nothing on standard output
fails() {
	local what=$1 status=$2 regex=$3
	shift 3
	run "$@"
	if [ $st = "$status" ] && [[ $err =~ $regex ]] && [ -z "$out" ]; then
		pass "$what"
	else
		fail "$what" "status $st, stderr: $err" "stdout: $out"
	fi
}
base64_lines() { # decoded, with a space after each
	local line
	while read -r line; do base64 -d <<<"$line" && printf ' '; done
}
on_terminal() { # COMMAND...: its output where that is a terminal
	script -qec "$(printf '%q ' "$@")" /dev/null </dev/null | tr -d '\r'
}

# A tree with one of everything.
mkdir -p src/d/sub src/many
echo hello >src/small
head -c 700000 /dev/urandom >src/d/big
ln src/d/big src/d/sub/link
truncate -s 3M src/sparse
printf x | dd of=src/sparse bs=1 seek=1500000 conv=notrunc status=none
ln -s d/sub src/sl
mknod src/null c 1 3
mkfifo src/fifo
setfattr -n user.t -v text src/small
: >$'src/bad\xffname'
: >$'src/ctl\x1b[2Jname'
ln $'src/bad\xffname' $'src/many/bad\xfename'
python3 -c 'import os; os.setxattr(b"src/bad\xffname", b"user.\xe9", b"v")'
: >'src/grüße 漢'
for i in {1..50}; do echo "$i" >"src/many/f$i"; done
files=$(find src | wc -l)
files=$((files - 2)) # the links

# --- help and mistakes ---
run varve --help
is "--help succeeds" "$st" 0
like "--help lists commands" "$out" 'checkpoint +make'
run varve --version
like "--version says the version" "$out" '^varve [0-9]'
commands=$(varve --help | awk '/^Options/ { exit } /^  [a-z]/ { print $1 }')
like "commands are listed" "$commands" 'import.*du'
is "in groups" "$(varve help | grep -cE '^(Mounts|Snapshots|Remotes, .*|The store|Images|Sandboxes|Looking into snapshots):$')" 7
is "each of which has some" "$(varve help | awk '/^Options/ { exit } /:$/ { group = 1; next } /^$/ && group == 1 { print "empty" } /^  / { group = 2 }')" ""
bad=
for c in $commands; do
	[[ $(varve "$c" --help) == "usage: varve $c"* ]] || bad+=" $c"
	[[ $(varve --help "$c") == "usage: varve $c"* ]] || bad+=" $c"
	varve "$c" --nonsense >/dev/null 2>&1
	[ $? = 2 ] || bad+=" $c(nonsense)"
	varve "$c" a b c d e f >/dev/null 2>&1 </dev/null
	case $c:$? in
	rm:1 | cat:1 | kill:1 | umount:1 | discard:1 | cancel:1 | show:1 | pin:1 | run:125 | exec:125 | *:2) ;;
	*) bad+=" $c(words)" ;;
	esac
done
is "each command has help and knows its options and words" "$bad" ""
is "help COMMAND is COMMAND --help" "$(varve help du | md5sum)" "$(varve du --help | md5sum)"
fails "a command is needed" 2 '^usage:' varve
fails "the nearest command is suggested" 2 "did you mean 'mount'\?" varve muont
for c in xyzzy foo up; do
	fails "nothing is near $c" 2 "^varve: there is no command '$c'"$'\n' varve $c
done
for c in snapshots mounts sandboxes builds images; do
	run varve $c
	like "an empty list of $c says so" "$st,$out,$err" "^0,,no $c.*'varve [a-z]+ .*' (makes|starts) one$"
	is "and is one in JSON" "$(varve --json $c 2>&1)" '[]'
done
fails "missing words are named" 2 "^varve: mount: needs SNAPSHOT DIR"$'\n'"Try 'varve mount --help'" varve mount x
fails "a choice is checked" 2 'cache is one of private\|shared' varve mount x . --cache both
fails "a size is checked" 2 "'big' is no size" varve mount x . --quota big
fails "and so is a number of inodes" 2 "'many' is no number" varve mount x . --inodes many
fails "a duration is checked" 2 "'soon' is no duration" varve pin x --ttl soon
fails "a kind is checked" 2 "imports dir, tar or oci, not 'zip'" varve import x zip f
fails "a daemon that is not there" 1 \
	"^varve: snapshots: cannot reach snapshotd at $T/none: is it running\? \(snapshotd --state DIR\)$" \
	varve --socket "$T/none" snapshots
fails "the environment names the socket" 1 "at $T/env:" env SNAPSHOTD_SOCKET="$T/env" varve mounts
fails "a path that is too long" 1 'socket.s path is longer' varve --socket "/$(printf 'x%.0s' {1..120})" mounts
fails "--store is refused where a daemon is needed" 2 'needs a daemon' varve mounts --store "$STATE"

chmod 755 "$T"
install -D -t "$T/usr/bin" "$BUILD/bin/varve"
install -D -t "$T/usr/libexec/varve" "$BUILD/libexec/varve/varve-store"
nobody() { # ARGUMENT...: varve of another user, from where every user may read it
	unshare -m sh -c 'mount --bind "$0" /mnt && exec setpriv --reuid 65534 --regid 65534 --clear-groups \
		/mnt/bin/varve "$@"' "$T/usr" "$@"
}
fails "a socket that may not be used" 1 "no permission to use $SOCK: run as root" nobody mounts
fails "nor to look into a store" 1 "no permission to use $SOCK" nobody ls a
chmod 700 "$STATE"
fails "a store that may not be read" 1 "no permission to read the store in $STATE" \
	nobody --store "$STATE" ls a

# --- the program that reads stores ---
needed=$(readelf -d "$BUILD/bin/varve")
like "varve is linked with what a client needs" "$needed" 'NEEDED.*libjansson'
not_ok "and with nothing that takes long to load" grep -qE 'libcurl|librocksdb|libarchive|libzstd' <<<"$needed"
not_ok "nor what reads stores" grep -q libcurl <<<"$(readelf -d "$BUILD/libexec/varve/varve-store")"
ln -s "$T/usr/bin/varve" link
is "it is found from a symbolic link to varve, too" "$(./link --json --store "$STATE" snapshots)" '[]'
fails "what it says, varve says" 1 '^varve: ls: no snapshot named "nope"' "$T/usr/bin/varve" ls nope
fails "and so for a wrong use" 2 "^varve: diff: needs two snapshots with --store"$'\n'"Try 'varve diff --help'" \
	varve diff --store "$STATE" a
fails "alone it is of no use" 2 '^varve: this program is for a varve [0-9.]* to run' "$BUILD/libexec/varve/varve-store" mounts
half_upgraded() (exec -a 'varve 0.0.1' "$BUILD/libexec/varve/varve-store" --store "$T/none" ls a)
fails "nor with a varve of another version" 2 \
	'^varve: varve is of version 0\.0\.1, and varve-store, .*: install both of one version' half_upgraded
rm "$T/usr/libexec/varve/varve-store"
fails "where it is missing, that is told" 1 \
	"^varve: ls: $T/usr/libexec/varve/varve-store, .*: No such file or directory$" "$T/usr/bin/varve" ls a

# --- import ---
run varve import a dir src
is "import dir succeeds" "$st" 0
like "import says what came in" "$out" "^a: $files files, .* new in the store$"
is "no progress where there is no terminal" "$err" ""
is "import prints JSON" "$(varve --json import a2 dir src | jq -c '[.name, .status, .fileCount]')" \
	"[\"a2\",\"ready\",$files]"
tar -C src --xattrs --xattrs-include='*' --sparse -cf src.tar .
ok "import tar by name" varve import t1 tar src.tar
ok "import tar from standard input" varve import t2 tar - <src.tar
is "both are the same" "$(root_of t1)" "$(root_of t2)"
mkfifo pipe
gzip -c src.tar >pipe &
ok "import tar from a pipe, compressed" varve import t3 tar pipe
is "which is the same too" "$(root_of t1)" "$(root_of t3)"
fails "a name that is taken" 1 'a snapshot named "a" exists' varve import a dir src
fails "a name that is taken, of a stream" 1 'a snapshot named "a" exists' varve import a tar <(cat src.tar)
fails "a name that is none" 1 'name' varve import a/b dir src
fails "a directory that is not there" 1 "^varve: import: nowhere: No such file" varve import x dir nowhere
fails "a tar that is a directory" 1 "import x dir src" varve import x tar src
fails "a tar that is none" 1 . varve import x tar src/d/big
fails "a stream that is no tar" 1 . varve import x tar <(cat src/d/big)
fails "a limit of bytes" 1 . varve import x dir src --max-bytes 1000
fails "a limit of entries" 1 . varve import x tar src.tar --max-entries 5
fails "a limit of entries of a stream" 1 . varve import x tar --max-entries 5 <(cat src.tar)
is "failed imports leave no snapshot" "$(varve --json snapshots | jq -r '.[].name' | sort | xargs)" "a a2 t1 t2 t3"

# --- snapshots ---
like "snapshots is a table" "$(varve snapshots)" '^NAME +STATUS +SIZE'
is "newest first" "$(varve --json snapshots | jq -r '.[0].name')" t3
like "show tells the root" "$(varve show a)" "root +$(root_of a)"
fails "show suggests a name" 1 'no snapshot named "t11".*did you mean' varve show t11
ok "rename" varve rename t3 t4
is "the new name is there" "$(varve --json show t4 | jq -r .name)" t4
fails "rename to a name that is taken" 1 . varve rename t4 a
ok "pin" varve pin t4
like "a pin shows" "$(varve snapshots | grep '^t4 ')" 'ready, pinned'
fails "a pinned snapshot stays" 1 'pinned' varve rm t4
ok "pin --ttl unpins and sets the time" varve pin t4 --ttl 1h
is "as the daemon says" "$(varve --json show t4 | jq -c '[.pinned, .ttl]')" '[false,3600]'
ok "pin --unpin" varve pin t4 --unpin
run varve rm t4 nope t2
is "rm fails where one is not there" "$st" 1
like "and names it" "$err" 'no snapshot named "nope"'
is "but removes the others" "$(varve --json snapshots | jq -r '.[].name' | sort | xargs)" "a a2 t1"
is "--quiet prints names alone" "$(varve snapshots -q | sort | xargs)" "a a2 t1"
is "--filter takes some" "$(varve snapshots -q --filter name='a*' --filter pinned=no | sort | xargs)" "a a2"
is "of one key one has to fit" "$(varve snapshots -q --filter name=t1 --filter name='?2' | sort | xargs)" "a2 t1"
is "also of a store" "$(varve --store "$STATE" snapshots -q --filter name='a*' | sort | xargs)" "a a2"
is "and as JSON" "$(varve --json snapshots --filter status=ready --filter name=t1 | jq -r '.[].name')" t1
run varve snapshots --filter name=zzz
is "where none fits, that is told" "$st,$out,$err" "0,,none that fits the filter"
is "history has both, too" "$(varve history -q --filter name=a a)" a
for c in snapshots mounts sandboxes builds images "remote ls"; do
	# shellcheck disable=SC2086
	fails "$c refuses a filter that it does not know" 2 "there is no filter 'colour': the keys are [a-z]+" \
		varve --socket "$T/none" $c --filter colour=red
done
fails "a filter has a value" 2 "'name' is no KEY=VALUE" varve snapshots --filter name
fails "--quiet is no JSON" 2 'give --quiet or --json, not both' varve --json snapshots -q
run varve rm nope1 nope2
is "each failure is told" "$st,$(grep -c '^varve: rm: no snapshot named "nope[12]"' <<<"$err")" 1,2
run varve --json show a nope t1
is "show takes several" "$st,$(jq -c '[.[].name]' <<<"$out")" '1,["a","t1"]'
is "which are divided by an empty line" "$(varve show a t1 | grep -c '^name\|^$')" 3
is "and of a store" "$(varve --store "$STATE" show a t1)" "$(varve show a t1)"
ok "pin takes several" varve pin a t1
is "and pins them" "$(varve --json show a t1 | jq -c '[.[].pinned]')" '[true,true]'
run varve rm a t1
is "a reason that does not name its word is told with it" "$(grep -cE '^varve: rm: ((a|t1): |.*["'"'"'](a|t1)["'"'"'])' <<<"$err")" 2
is "as JSON it is a list" "$(varve --json pin --unpin a t1 | jq -c '[.[].pinned]')" '[false,false]'
fails "a daemon that is not there is told once" 1 $'^[^\n]*cannot reach snapshotd[^\n]*$' \
	varve --socket "$T/none" pin a t1

# --- mounts ---
mkdir mnt fork fork2 other
run varve mount a mnt
is "mount succeeds" "$st" 0
like "and prints id and place" "$out" "^[0-9a-f-]{36}  $T/mnt$"
id=${out%% *}
ok "it is mounted" mountpoint -q mnt
ok "with what was imported" diff -r --no-dereference --exclude=fifo --exclude=null src mnt
fails "a place that is not there" 1 'the directory nowhere: No such file' varve mount a nowhere
fails "a place that is a file" 1 'is not a directory' varve mount a src/small
fails "a snapshot that is not there" 1 'no snapshot named "nope"' varve mount nope other
fails "a place that is taken" 1 . varve mount a mnt
like "mounts is a table" "$(varve mounts)" "${id:0:8} +a +rw +mounted +0 .*$T/mnt"
is "mounts --quiet prints ids" "$(varve mounts -q --filter state=mounted --filter mountpoint="$T/mnt" --filter mode=rw)" "$id"
is "or none" "$(varve mounts -q --filter snapshot=t1)" ""
ok "options are taken" varve mount -r --cache shared --volatile --quota 10M --dev --suid --noexec a other
is "and told" "$(varve --json mounts | jq -c ".[] | select(.mountpoint == \"$T/other\") |
	[.readOnly, .cache, .volatile, .quotaBytes, .allowDev, .allowSuid, .noExec]")" '[true,"shared",true,10485760,true,true,true]'
not_ok "a read-only mount refuses writes" touch other/x
fails "a directory that is not empty" 1 "$T/src is not empty.*use --force" varve mount a src
fails "nor can a fork hide one" 1 "$T/src is not empty.*use --force" varve fork mnt src
fails "nor a fork of a snapshot" 1 "$T/src is not empty.*use --force" varve fork a src
ok "--force mounts over it" varve mount --force a src
ok "it is unmounted" varve umount src
ok "and attached again without" varve attach src
ok "and discarded" varve umount --discard src
run varve umount other
is "umount by directory" "$st" 0
like "says what it kept" "$err" '^kept; nothing has changed'
like "and what can be done with it" "$err" "'varve attach [0-9a-f]{8}' mounts it again, 'varve discard [0-9a-f]{8}' deletes it"
fails "umount of what is not mounted" 1 "it is not mounted; 'varve attach" varve umount other
fails "umount of no mount" 1 "no mount is at 'src'" varve umount src
ok "discard by id" varve discard "$(varve --json mounts | jq -r ".[] | select(.mountpoint == \"$T/other\").id")"
varve mount a other >/dev/null && varve mount a fork >/dev/null
run varve umount other nope fork
is "umount takes several" "$st,$(grep -c "^'varve attach" <<<"$err")" 1,2
like "and tells which was none" "$err" "varve: umount: no mount is at 'nope'"
ids=$(varve --json mounts | jq -r '.[] | select(.attached | not) | .id')
# shellcheck disable=SC2086
run varve discard $ids mnt
is "discard takes several, too" "$st" 1
like "whose failures have the word" "$err" "^varve: discard: mnt: it is mounted at .*/mnt: use|^varve: discard: it is mounted at .*/mnt: use"
is "it is gone" "$(varve --json mounts | jq length)" 1

echo changed >>mnt/small
echo new >mnt/new
mv mnt/d/sub mnt/moved
rm mnt/many/f1
chmod 600 mnt/many/f2
sync -f mnt
run varve diff mnt
is "diff of a mount lists what changed" "$(sort <<<"$out" | xargs -d '\n' printf '%s;')" \
	"A /new;D /many/f1;M /small;R /d/sub -> /moved;m /many/f2;"
is "so it does by id" "$(varve diff "${id:0:8}" | md5sum)" "$(md5sum <<<"$out")"
is "and beside its base" "$(varve diff a mnt | md5sum)" "$(md5sum <<<"$out")"
is "and as JSON" "$(varve --json diff ./mnt | jq -r '.[] | select(.change == "renamed") | .from + " " + .path')" \
	"/d/sub /moved"
(cd mnt && varve diff . >../within)
is "and from within" "$(md5sum <within)" "$(md5sum <<<"$out")"
fails "one snapshot is no diff" 2 "'a' is a snapshot" varve diff a

run varve checkpoint mnt c1
is "checkpoint succeeds" "$st" 0
like "and says what is new" "$out" "^c1: [0-9]+ files, .* new in the store$"
is "it is ready then" "$(varve --json show c1 | jq -r .status)" ready
is "diff of two snapshots" "$(varve diff a c1 | md5sum)" "$(md5sum <within)"
is "nothing is changed any more" "$(varve diff mnt)" ""
fails "a checkpoint's name that is taken" 1 'exists' varve checkpoint mnt c1
fails "a checkpoint of no mount" 1 'no mount is at' varve checkpoint src c2
ok "checkpoint --no-wait" varve checkpoint --no-wait "$id" c2
like "history names the ancestors" "$(varve history c1 | awk 'NR > 1 { print $1 }' | xargs)" '^c1 a$'

run varve diff t1 mnt
is "diff of a mount with another snapshot" "$st" 0
like "says that it takes a checkpoint" "$err" 'took the unnamed checkpoint [0-9a-f-]{36} of the mount'
is "... which expires" "$(varve --json show "$(grep -oE '[0-9a-f-]{36}' <<<"$err" | head -n 1)" | field .ttl)" 2592000
like "and lists" "$out" 'A /new'

ok "fork of a mount" varve fork mnt fork
ok "has the mount's files" cmp mnt/small fork/small
echo other >fork/small
not_ok "and goes its own way" cmp -s mnt/small fork/small
ok "fork of a snapshot" varve fork c1 fork2
like "an id that fits no mount" "$(varve fork zzzz fork2 2>&1)" 'no snapshot named "zzzz"'
(cd fork && sleep 100) &
sleeper=$!
until_true 10 stands_in $sleeper "$PWD/fork"
fails "umount of what is in use" 1 . varve umount fork
ok "umount --lazy" varve umount --lazy fork
kill $sleeper
wait $sleeper 2>/dev/null
fid=$(varve --json mounts | jq -r ".[] | select(.mountpoint == \"$T/fork\").id")
echo hidden >other/hidden
fails "attach elsewhere hides nothing unasked" 1 'not empty.*--force' varve attach "$fid" other
ok "... unless it is forced" varve attach -f "$fid" other
ok "... which hides it" test ! -e other/hidden
ok "... until it is gone" varve umount other
rm other/hidden
run varve attach "$fid" other
is "attach elsewhere" "$st" 0
is "brings back what was written" "$(<other/small)" other
echo more >>other/small
run varve umount other
like "umount counts what it kept" "$err" '^kept [12] changed files? \([0-9.]+ ?[KM]?i?B\)'
ok "which is attached" varve attach other
run varve umount --json other
is "as JSON it says nothing" "$st,$out,$err" "0,,"
ok "but does it" varve attach other
ok "umount --discard" varve umount --discard other
ok "umount --discard of the other" varve umount --discard fork2
fails "discard of what is mounted" 1 "use 'varve umount --discard'" varve discard mnt
is "one mount is left" "$(varve --json mounts | jq -r '.[].id')" "$id"

# --- looking into snapshots ---
is "ls is sorted, one name a line, raw" "$(varve ls a | md5sum)" "$(LC_ALL=C ls src | md5sum)"
is "ls -R has all" "$(varve ls -R a | LC_ALL=C sort | md5sum)" \
	"$(cd src && find . -mindepth 1 -printf '%P\n' | LC_ALL=C sort | md5sum)"
is "ls of a file" "$(varve ls a:d/big)" d/big
is "ls follows a symlink" "$(varve ls a:sl)" link
like "ls -l has modes and targets" "$(varve ls -l a)" 'lrwxrwxrwx +1 +0 +0 +5 .* sl -> d/sub'
like "and devices" "$(varve ls -l a)" 'crw-r--r-- +1 +0 +0 +1, 3 '
is "ls as JSON" "$(varve --json ls a:d | jq -c '.[] | [.path, .type, .nlink]' | xargs)" \
	"$(printf '%s' '[big,file,2] [sub,directory,2]')"
is "names of any bytes survive JSON" "$(varve --json ls a | jq -r '.[] | .pathBase64 // empty' | base64 -d | md5sum)" \
	"$(printf 'bad\xffname' | md5sum)"
like "a terminal gets them escaped" "$(on_terminal varve ls a)" 'bad\\xffname'$'\n''ctl\\x1b\[2Jname'
is "cat prints bytes" "$(varve cat a:d/sub/link | md5sum)" "$(md5sum <src/d/big)"
is "cat of several, with holes" "$(varve cat a:small a:sparse | md5sum)" "$(cat src/small src/sparse | md5sum)"
fails "cat of a directory" 1 'd is a directory' varve cat a:d
fails "cat of nothing" 1 'nope: No such file' varve cat a:nope
fails "cat needs a path" 1 'needs a path: a:PATH' varve cat a
like "stat tells all" "$(varve stat a:d/big)" 'links +2.*link +d/big.*link +d/sub/link'
is "stat as JSON" "$(varve --json stat a:small | jq -c '[.size, .xattrs["user.t"]]')" '[6,"text"]'
is "links and xattrs of any bytes" \
	"$(varve --json stat $'a:bad\xffname' | jq -r '.linksBase64[], .xattrsBase64[]' | base64_lines)" \
	$'bad\xffname many/bad\xfename v '
is "and the attribute's name" \
	"$(varve --json stat $'a:bad\xffname' | jq -r '.xattrsBase64 | keys[]' | base64_lines)" $'user.\xe9 '
is "stat prints them as they are" "$(varve stat $'a:bad\xffname' | head -n 1)" $'path       bad\xffname'
mkdir $'place\xe9' && ln -s $'place\xe9' place-link
like "a mountpoint that a link leads to may be of any bytes" \
	"$(api POST /api/mounts "$(jq -n --arg d "$PWD/place-link" '{snapshot: "a", mountpoint: $d}')")" '"mountpointBase64"'
like "is listed as it is" "$(varve mounts)" $'/place\xe9'
is "and as JSON" "$(varve --json mounts | jq -r '.[].mountpointBase64 // empty' | base64 -d)" "$PWD/"$'place\xe9'
ok "and unmounted by its path" varve umount --discard $'place\xe9'
on_narrow_terminal() { # COMMAND...: on one of 60 columns
	on_terminal sh -c 'stty cols 70; "$@"' sh "$@"
}
widest() { wc -L; }
ok "a table fits the terminal" test "$(on_narrow_terminal varve mounts | widest)" -le 70
like "and tells what it leaves out" "$(on_narrow_terminal varve mounts)" '…'
ok "COLUMNS is the width, too" test "$(COLUMNS=75 on_terminal varve mounts | widest)" -le 75
is "--wide shows all" "$(on_narrow_terminal varve --wide mounts)" "$(varve mounts)"
for c in "ls -lR a" "snapshots" "-j show a" "--help" "completion bash"; do
	# shellcheck disable=SC2086
	run sh -c "varve $c >/dev/full"
	like "a full disk below $c is told" "$st $err" '^1 varve: .*writing the output: No space left on device$'
done
like "stat of a symlink is its own" "$(varve stat a:sl)" 'target +d/sub'
is "chunks cover the file" "$(varve --json chunks a:d/big | jq '[.[].length] | add')" 700000
is "chunks have holes" "$(varve --json chunks a:sparse | jq -c '[.[].kind]')" '["hole","chunk","hole"]'
like "chunks is a table" "$(varve chunks a:d/big)" '^ *OFFSET.*raw +[0-9a-f]{64}'
is "tree counts inodes" "$(varve --json tree a | jq .keys.inodes)" "$files"
like "tree is a table" "$(varve tree a)" '0 \(leaves\)'
is "du counts" "$(varve --json du a | jq -c '.[0] | [.files, .logicalBytes]')" \
	"[$files,$(($(find src -type f ! -path src/d/sub/link -printf '%s\n' | paste -sd+)))]"
is "du -u: two snapshots that are equal share all" "$(varve --json du -u a | jq '.[0].uniqueBytes')" 0
is "du -d" "$(varve du -d 2 a | awk 'NR > 1 { print $NF }' | xargs)" "/ d d/sub many"
fails "inspection of a snapshot that is not there" 1 'no snapshot named "nope"' varve ls nope

# --- without a daemon's help ---
for c in snapshots "show a" "history c1" "ls -lR a" "cat a:small" "stat a:small" "chunks a:d/big" \
	"tree a" "du a" "diff a c1"; do
	# shellcheck disable=SC2086
	is "--store: $c" "$(varve --store "$STATE" $c 2>&1 | md5sum)" "$(varve $c 2>&1 | md5sum)"
	[ "${c%% *}" = cat ] && continue
	# shellcheck disable=SC2086
	is "--store: $c, as JSON" "$(varve -j --store "$STATE" $c | jq -cS . | md5sum)" \
		"$(varve -j $c | jq -cS . | md5sum)"
done
like "--store: stats" "$(varve --store "$STATE" --json stats | jq .snapshotCount)" '^[0-9]+$'
fails "--store: no store" 1 "$T/src" varve --store src snapshots

# --- export ---
ok "export tar" varve export a tar a.tar
is "from the store it is the same" "$(varve --store "$STATE" export a tar - | md5sum)" "$(md5sum <a.tar)"
is "as it is on standard output" "$(varve export a tar - | md5sum)" "$(md5sum <a.tar)"
ok "and comes in again" varve import back tar a.tar
is "the same" "$(root_of back)" "$(root_of a)"
ok "export oci" varve export a oci a.oci
ok "is a layout" jq -e '.imageLayoutVersion == "1.0.0"' a.oci/oci-layout
ok "from the store" varve --store "$STATE" export a oci b.oci
ok "it is the same" diff -r a.oci b.oci
ok "and comes in again" varve import back2 oci a.oci
is "the same" "$(root_of back2)" "$(root_of a)"
ok "by its tag" varve import back3 oci a.oci:a
fails "a tag that is not there" 1 . varve import back4 oci a.oci:nope
fails "export into a directory with files" 1 'is not empty' varve export a oci src
fails "export of an image without what unpacks it" 1 'varve-store, .*: No such file' "$T/usr/bin/varve" export a oci c.oci
not_ok "makes no directory" test -e c.oci
mkdir full && mount -t tmpfs -o size=64k none full
fails "export of an image where there is no room" 1 \
	'^varve: export: unpacking into full: blobs/sha256/[0-9a-f]+: .*Write error' varve export a oci full
umount full
fails "export of nothing" 1 'no snapshot named "nope"' varve export nope tar nope.tar
fails "export of nothing as an image" 1 'no snapshot named "nope"' varve export nope oci nope.oci
is "leaves nothing behind" "$(ls -d nope* 2>/dev/null)" ""
fails "export to a full disk" 1 'No space left' varve export a tar /dev/full
like "which has no JSON either" "$(varve --json ls a:nope 2>&1)" '^varve: ls: nope: No such file'
ln -s real.tar link.tar
: >real.tar
chmod 600 real.tar
ok "export to a symlink" varve export a tar link.tar
is "writes what it leads to" "$(md5sum <real.tar) $(stat -c %a real.tar) $(readlink link.tar)" "$(md5sum <a.tar) 600 real.tar"
head -c 200M /dev/urandom >src/huge
ok "something large" varve import huge dir src
rm src/huge
varve export huge tar stopped.tar &
exporter=$!
for _ in {1..200}; do compgen -G 'stopped.tar.*' >/dev/null && break; sleep 0.01; done
kill -TERM "$exporter"
wait "$exporter" 2>/dev/null
is "an export that is stopped leaves nothing" "$(compgen -G 'stopped.tar*')" ""
like "an archive is not written to a terminal" "$(on_terminal varve export a tar -)" 'standard output is a terminal'

# --- the store as a whole ---
run varve verify
is "verify finds nothing" "$st" 0
like "and says what it has checked" "$out" 'damaged +0'
ok "verify of one" varve verify a
is "verify from the store" "$(varve --store "$STATE" --json verify | jq -c '[.damaged, .problems]')" '[0,[]]'
fails "verify of nothing" 1 'no snapshot named "nope"' varve verify nope
varve rm huge
run varve gc --dry-run
is "gc --dry-run succeeds" "$st" 0
like "and says what it would remove" "$out" '^[1-9][0-9]* chunks and [1-9][0-9]* nodes with [0-9.]+ ?[KM]?i?B would be removed$'
is "it removes nothing" "$(varve gc --dry-run)" "$out"
would=$(varve --json gc --dry-run | jq -c '[.dryRun, .garbageChunks, .garbageNodes, .garbageBytes]')
fails "it says nothing of recompression" 2 '--dry-run goes without' varve gc --dry-run --recompress
is "nor does the API" "$(api POST /api/gc '{"dryRun": true, "recompress": true}' | jq -r .error)" \
	"dryRun says nothing about recompress"
is "gc removes just that" "$(varve --json gc | jq -c '[true, .removedChunks, .removedNodes, .removedBytes]')" "$would"
run varve gc
is "gc succeeds" "$st" 0
like "and says what it has removed" "$out" 'removed chunks'
ok "gc --no-compact as JSON" jq -e .removedBytes <(varve --json gc --no-compact)
ok "all is well after it" varve verify
like "stats" "$(varve stats)" 'snapshot count'
ok "stats as JSON" jq -e .chunkCount <(varve --json stats)

# --- output that cannot be written, progress, completion ---
run bash -c 'varve ls -R a >/dev/full'
is "output that cannot be written is a failure" "$st" 1
like "which is told" "$err" 'No space left'
run bash -c 'varve ls -R a | head -1; exit ${PIPESTATUS[0]}'
is "a reader that leaves is not told of" "$err" ""
like "progress shows on a terminal" "$(TERM=xterm on_terminal varve import p1 dir src)" $'\033'
# Without snapshots that have no name: their ids may begin with anything.
complete() { varve __complete -- "$@" | grep -vE '^[0-9a-f]{8}(-[0-9a-f]{4}){3}' | sort | xargs; }
is "commands are completed" "$(complete hi)" history
is "options are" "$(complete umount --)" "--discard --force --help --json --lazy --socket --store --url --version --wide"
is "choices are" "$(complete mount --cache '')" "private shared"
is "keys of filters are" "$(complete mounts --filter '')" "mode= mountpoint= snapshot= state="
is "commands are after help" "$(complete help hi)" history
is "all verbs of a command are" "$(complete remote '')" "add check ls rekey rm"
is "snapshots are" "$(complete show c)" "c1 c2"
is "paths in snapshots are" "$(complete cat a:d/)" "a:d/big a:d/sub/"
like "mounts are" "$(complete umount "${id:0:3}")" "${id:0:8}"
like "by their directories, too" "$(complete umount "$T/m")" "$T/mnt"
is "files are left to the shell" "$(complete import x tar '')" @files
is "from a store" "$(complete --store "$STATE" show c)" "c1 c2"
is "the script is printed" "$(varve completion bash | md5sum)" "$(md5sum <"$SRC/tools/completion/varve.bash")"
ok "and works in bash" bash -ec '
	. <(varve completion bash)
	COMP_WORDS=(varve show c) COMP_CWORD=2
	_varve
	[ "$(printf "%s\n" "${COMPREPLY[@]}" | grep -x "c[12]" | xargs)" = "c2 c1" ]'

# --- over TCP ---
URL=$(daemon_url)
tcp() { # ARGUMENT...
	VARVE_API_URL=$URL VARVE_API_KEY=$key SNAPSHOTD_SOCKET=$T/none varve "$@"
}
is "over TCP it is the same daemon" "$(tcp --json snapshots | md5sum)" "$(varve --json snapshots | md5sum)"
is "the URL may be an option" "$(VARVE_API_KEY=$key varve --url "$URL/api/" snapshots | md5sum)" \
	"$(varve snapshots | md5sum)"
is "an option comes before the environment" "$(VARVE_API_URL=http://127.0.0.1:1 varve --socket "$SOCK" snapshots | md5sum)" \
	"$(varve snapshots | md5sum)"
is "a URL of a socket is one" "$(VARVE_API_URL=unix://$SOCK varve snapshots | md5sum)" "$(varve snapshots | md5sum)"
is "VARVE_SOCKET comes before SNAPSHOTD_SOCKET" \
	"$(VARVE_SOCKET=$SOCK SNAPSHOTD_SOCKET=$T/none varve snapshots | md5sum)" "$(varve snapshots | md5sum)"
fails "without a key" 1 "^varve: snapshots: snapshotd at $URL wants a key: put it into VARVE_API_KEY$" \
	varve --url "$URL" snapshots
fails "with a wrong one" 1 "^varve: snapshots: snapshotd at $URL does not take the key in VARVE_API_KEY$" \
	env VARVE_API_KEY=not-the-key-of-it varve --url "$URL" snapshots
fails "where nobody listens" 1 "cannot reach snapshotd at http://127.0.0.1:1: Connection refused" \
	varve --url http://127.0.0.1:1 mounts
fails "a URL with a path" 1 '^varve: mounts: --url: the URL has a path: .* so '"$URL is all" varve --url "$URL/x" mounts
fails "a scheme that is none" 1 '^varve: mounts: VARVE_API_URL: the URL is no http://HOST:PORT.*"ftp://"' \
	env VARVE_API_URL=ftp://me:secret@h varve mounts
fails "https" 1 'speaks no TLS' varve --url https://localhost mounts
fails "both" 1 'give --url or --socket, not both' varve --url "$URL" --socket "$SOCK" mounts
like "what asks no daemon needs no URL" "$(VARVE_API_URL=nonsense varve --store "$STATE" snapshots)" '^NAME'
ok "a tar is sent" tcp import far tar src.tar
is "it is the same" "$(root_of far)" "$(root_of t1)"
is "and comes back" "$(tcp export far tar - | md5sum)" "$(md5sum <a.tar)"
fails "a directory must be the daemon's" 1 "over TCP a path is one of snapshotd.s host.* unlike 'src'" tcp import x dir src
fails "and one that clients may name" 1 "\"$T/src\" is no place that clients over TCP may name: hostRoots" tcp import x dir "$T/src"
cp src/small hosted/
ok "then it is taken" tcp import hosted dir "$T/hosted"
fails "a file is not sought here" 1 'No such file' tcp import x oci "$T/hosted/nope:tag"
rm hosted/small
mkdir hosted/m
fails "a mount is there" 1 "over TCP a path is one of snapshotd.s host" tcp mount a mnt
ok "if it may be" tcp mount a "$T/hosted/m"
is "mounts lists it" "$(tcp mounts | md5sum)" "$(varve mounts | md5sum)"
fails "it is found by its whole path alone" 1 "no mount is at 'hosted/m'" tcp umount hosted/m
ok "and unmounted by that" tcp umount --discard "$T/hosted/m"
fails "what reads the store is told" 1 '^varve: ls: reads the store itself, which is on the host of snapshotd' tcp ls a
fails "a backup goes to that host" 1 'over TCP a path is one of' tcp backup there
is "the dashboard is at the URL" "$(tcp dashboard 2>/dev/null)" "$URL/"
is "names are completed" "$(VARVE_API_URL=$URL VARVE_API_KEY=$key SNAPSHOTD_SOCKET=$T/none complete show c)" "c1 c2"
is "with an option, too" "$(VARVE_API_KEY=$key SNAPSHOTD_SOCKET=$T/none complete --url "$URL" show c)" "c1 c2"
is "a wrong URL completes nothing, quietly" "$(VARVE_API_URL=nonsense varve __complete -- show c 2>&1)" ""

base=$(varve --json mounts | jq -r '.[0].snapshotId')
run varve rm "$base"
is "rm of a snapshot that is mounted" "$st" 0
like "tells what keeps its space" "$err" "^$base: the mount ${id:0:8} \($T/mnt\) still uses its space$"
ok "umount at last" varve umount mnt
done_testing
