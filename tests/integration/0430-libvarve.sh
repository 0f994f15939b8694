#!/bin/bash
# libvarve as a program uses it: installed, found by pkg-config, against a daemon on its socket
# and on TCP with a key.
# tags: sandbox asan
# timeout: 300
. "${0%/*}/lib.sh"
need root fuse curl jq runc helper:libvarve_demo
busybox=$(command -v busybox) && file -L "$busybox" | grep -q static || skip_all "needs a static busybox"
need_space 500

# --- the library that is installed ---
mkdir "$T/bin"
printf '#!/bin/sh\necho told >>"%s"\n' "$T/loader" >"$T/bin/ldconfig"
chmod +x "$T/bin/ldconfig"
make_install() { PATH=$T/bin:$PATH make -s -C "$SRC" BUILD="$BUILD" "$@" install; }
ok "make install" make_install PREFIX="$T/usr"
is "the loader looks for libraries anew" "$(cat "$T/loader")" told
ok "make install for a package" make_install DESTDIR="$T/package" PREFIX=/usr
is "leaves the loader alone" "$(cat "$T/loader")" told
export PKG_CONFIG_PATH=$T/usr/lib/pkgconfig
is "pkg-config knows the version" "$(pkg-config --modversion varve)" "$(varve --version | awk '{ print $2 }')"
is "the shared library names itself" "$(readelf -d "$T/usr/lib/libvarve.so" | sed -n 's/.*soname: \[\(.*\)\]/\1/p')" libvarve.so.0
is "it exports its own names alone" "$(nm -D --defined-only "$T/usr/lib/libvarve.so" | awk '$3 !~ /^varve_/')" ""
is "and so does the archive" "$(nm -g --defined-only "$T/usr/lib/libvarve.a" | awk 'NF == 3 && $3 !~ /^varve_/')" ""
declared=$(grep -oE '\bvarve_[a-z_]+\(' "$T/usr/include/varve.h" | tr -d '(' | sort -u)
is "what the header declares is there" \
	"$(nm -D --defined-only "$T/usr/lib/libvarve.so" | awk '{ print $3 }' | sort | comm -3 - <(printf '%s\n' "$declared") | grep -v error$)" ""
not_ok "it has no part of the store" grep -q -a rocksdb "$T/usr/lib/libvarve.so"
printf '#include <varve.h>\nint main(void) { return varve_version() == 0; }\n' >"$T/one.c"
cp "$T/one.c" "$T/one.cc"
read -ra flags <<<"$(pkg-config --cflags --libs varve)"
plain=1
[ "$(nm -D "$T/usr/lib/libvarve.so" | grep -cE '__(asan|tsan|ubsan)')" = 0 ] || plain=0
if [ $plain = 1 ]; then
	ok "the header is C99" cc -std=c99 -Wall -Wextra -Werror -pedantic "$T/one.c" -o "$T/one" "${flags[@]}"
	ok "a program with it runs" env LD_LIBRARY_PATH="$T/usr/lib" "$T/one"
	sed -n '/^#include <stdio.h>/,/^}/p' "$SRC/tools/man/libvarve.3" | sed 's/\\-/-/g; s/\\e/\\/g' >"$T/example.c"
	ok "the manual's example compiles" cc -Wall -Wextra -Werror "$T/example.c" -o "$T/example" "${flags[@]}"
	ok "the demonstration, from the installed library" cc -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -I"$SRC" \
		"$SRC/tests/integration/libvarve_demo.c" -o "$T/demo" "${flags[@]}"
	ok "and from the archive" cc -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -I"$SRC" \
		"$SRC/tests/integration/libvarve_demo.c" -o "$T/demo-static" "$T/usr/lib/libvarve.a" -lcurl -ljansson -lcrypto
	demo=$T/demo
else
	demo=$(helper libvarve_demo)
fi
if command -v c++ >/dev/null && [ $plain = 1 ]; then
	ok "the header is C++" c++ -Wall -Wextra -Werror "$T/one.cc" -o "$T/one++" "${flags[@]}"
else
	skip "the header is C++" "no c++, or a sanitized build"
fi

# --- the daemon ---
key=secret-of-this-test-$RANDOM$RANDOM port=$((20000 + RANDOM % 20000))
jq -n --arg t "$T" '{hostRoots: [$t]}' >"$T/config.json" # for a bucket there, by TCP
SNAPSHOTD_API_KEY=$key start_daemon --listen "127.0.0.1:$port" --config "$T/config.json"
mkdir -p "$T/root"/{bin,etc,tmp,proc,sys,dev,root,var}
cp "$busybox" "$T/root/bin/busybox"
for applet in $("$busybox" --list); do [ "$applet" = busybox ] || ln -s busybox "$T/root/bin/$applet"; done
echo 'root:x:0:0:root:/root:/bin/sh' >"$T/root/etc/passwd"
varve import bb dir "$T/root" >/dev/null || bail "no base"
for tree in "$T/usr" "$T/package/usr"; do
	is "an installed varve reads a store" "$("$tree/bin/varve" cat bb:etc/passwd)" "$(<"$T/root/etc/passwd")"
done
ln -s ../package/usr/bin/varve "$T/bin/varve"
is "and through a symbolic link" "$("$T/bin/varve" --store "$STATE" ls bb:bin/busybox)" bin/busybox
mkdir -p "$T/tree/b" "$T/tree/empty"
printf 'c in b\n' >"$T/tree/b/c"
printf '#!/bin/sh\n' >"$T/tree/run" && chmod 750 "$T/tree/run"
ln -s b/c "$T/tree/link"

demonstrate() { # NAME: its output in $T/NAME.out
	LD_LIBRARY_PATH=$T/usr/lib timeout $((200 * SLOW)) "$demo" bb "$T/tree" >"$T/$1.out" 2>"$T/$1.err"
}
says() { # DESCRIPTION REGEX: a line of the last output
	if grep -qE "^$2\$" "$T/$run.out"; then
		pass "$run: $1"
	else
		fail "$run: $1" "no line is '$2'"
		[ "$shown" = "$run" ] || diag "$(head -c 9000 "$T/$run.out" "$T/$run.err")"
		shown=$run
	fi
}

check_run() {
	says "the key is 64 digits" 'key: [0-9a-f]{64}'
	says "commands' output comes as logs" 'log 5 run stdout: to-out'
	says "and their errors" 'log 5 run stderr: to-err'
	says "each step is told" 'built: output 1, steps 5'
	says "the second time it is cached" 'cached: output 0, same image 1, running 1'
	says "metadata is kept" 'metadata: 1'
	says "both are listed" 'sandboxes: 2'
	says "a killed one is gone" 'killed: ENOENT 404 .+'
	says "a command's directory" 'result: 3 \[/srv/tree'
	says "and variables, of image, sandbox and call" "hello 'you' €\\|yes\\|1 2"
	says "and standard error" '\] \[oops'
	says "the tree has its files" 'tree: 0 \[c in b'
	says "modes" '-rwxr-x---'
	says "links" 'lrwxrwxrwx'
	says "and empty directories" 'empty'
	says "a command in the background" 'async: 0 \[late'
	says "a command reads any bytes" 'stdin: 0 \[daabad9de4c13765beb6e0a4ea14f25f\]'
	says "or nothing" 'no stdin: 0 \[d41d8cd98f00b204e9800998ecf8427e\]'
	says "no such command" 'no such exec: ENOENT 404 .+'
	says "a command is needed" 'no command: EINVAL 0 there is no command'
	says "added bytes are the same" 'data: 3 1'
	says "a file goes both ways" 'file: text'
	says "a large one too" 'big: 3000000'
	says "the reader can stop" "stopped: EPIPE 0 .+"
	says "a listing has sizes" 'entry: big /new/big 0 3000000'
	says "and directories" 'entry: made /new/made 1 0'
	says "and what came from a pipe" 'entry: piped /new/piped 0 5'
	says "removed files are gone" 'removed: ENOENT 404 .+'
	says "and their directory" 'no list: ENOENT 404 .+'
	says "a checkpoint" 'checkpoint: first 1'
	says "its name is taken" 'taken: EEXIST 409 .+'
	says "a fork starts from it" 'fork: 0 \[one'
	says "with the image's files" '42'
	says "restoring goes back" 'restored: 0 \[one'
	says "checkpoints are listed" 'listed: first ready'
	says "a deleted one is gone" 'deleted: ENOENT 404 .+'
	says "a snapshot has the key and the manifest" 'snapshot: demo-image ready, key 1, manifest 1, output 1'
	says "its build's log can be read again" 'log again: 1'
	says "its name is taken" 'name taken: EEXIST 409 .+'
	says "it is found" 'got: 1 1'
	says "and listed" 'in list: 1'
	says "and gone when deleted" 'gone: ENOENT 404 .+'
	says "a remote's name is taken" 'same remote: EEXIST 409 .+'
	says "what was pushed can be pulled" 'pulled: demo-pulled ready pushed'
	says "what was not cannot" 'not there: ENOENT 404 .+'
	says "a remote that was removed is unknown" 'no remote: ENOENT 404 .+'
	says "a remote is read-only where its options say so" 'read-only: E[A-Z]+ 403 .*read-only.*'
	says "an endpoint goes with s3:// only" 'an endpoint: EINVAL 400 .*endpoint.*'
	says "a failing build says what failed" 'failing: ECHILD 0 .*step 6.*7.*'
	says "a malformed manifest which step" 'malformed: EINVAL 400 step 6 \(add_file\): "path" must be an absolute path'
	says "an image that could not be made is not sent" 'unsound: ENOENT 0 /no/such/file: No such file or directory'
	says "a build can be left" 'given up: ECANCELED 0 .+'
	says "no such snapshot" 'no snapshot: ENOENT 404 .+'
	says "it comes to its end" 'done'
}

run=socket shown=''
VARVE_SOCKET=$SOCK SNAPSHOTD_SOCKET=$T/none OPENCOMPUTER_API_URL=http://127.0.0.1:1 demonstrate socket
check_run
is "the key is that of cachekey" "$(sed -n 's/^key: //p' "$T/socket.out")" \
	"$(sed -n 's/^manifest: //p' "$T/socket.out" | varve cachekey -)"
is "no sandbox is left" "$(api GET /api/sandboxes)" '[]'

run=tcp
OPENCOMPUTER_API_URL=http://127.0.0.1:$port/api OPENCOMPUTER_API_KEY=$key demonstrate tcp
says "all of it by TCP too" 'done'
says "where the image is cached" 'built: output 0, steps 0'
VARVE_API_URL=http://127.0.0.1:$port VARVE_API_KEY=wrong-$key OPENCOMPUTER_API_KEY=$key \
	OPENCOMPUTER_API_URL=http://127.0.0.1:1 demonstrate refused
run=refused
says "a wrong key is refused" 'FAILED .*: -13 401 .+'
unset OPENCOMPUTER_API_URL

done_testing
