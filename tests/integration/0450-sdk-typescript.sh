#!/bin/bash
# The TypeScript library: built with what its lock file says, its unit tests, all of it against a
# daemon whose default template is a Debian root, and as a package. Its keys are those of the C and
# the Python library.
# timeout: 1200
# tags: sandbox
. "${0%/*}/lib.sh"
need root fuse runc node npm python3 curl jq
need_space 3000
[ "$(node -p 'parseInt(process.versions.node)')" -ge 18 ] || skip_all "needs Node 18 or newer"
unset VARVE_API_URL VARVE_API_KEY VARVE_SOCKET
export npm_config_cache=$T/npm npm_config_update_notifier=false
export VARVE_VECTORS=$SRC/tests/vectors/manifests.json
cp -r "$SRC/tools/sdk/typescript" "$T/ts" && rm -rf "$T/ts/node_modules" "$T/ts/dist" "$T/ts/build"
cd "$T/ts" || exit 1

is "no dependency at run time" "$(jq -c '[.dependencies // {}, .packages[""].dependencies // {}] | add' \
	package.json package-lock.json | sort -u)" "{}"
not_ok "the lock file names no host" grep -nE 'resolved|https?:' package-lock.json
npm ci --no-audit --no-fund >"$T/npm.log" 2>&1 || {
	tail -n 5 "$T/npm.log" | sed 's/^/# /'
	skip "compiles, and what follows" "npm cannot install the compiler (no registry?)"
	done_testing
}
PATH=$T/ts/node_modules/.bin:$PATH
ok "compiles" tsc -p .
ok "compiles with its tests" tsc -p tsconfig.test.json
ok "unit tests" node --test build/test/image.test.js build/test/wire.test.js

# One directory, the same key in three languages.
mkdir -p "$T/tree/sub/empty" "$T/tree/z"
echo text >"$T/tree/sub/file" && chmod 640 "$T/tree/sub/file"
head -c 100000 /dev/urandom >"$T/tree/binary" && chmod 4755 "$T/tree/binary"
for name in a-b a.b a_b $'\uff5e' $'\U1f600' "with space" -dash; do
	: >"$T/tree/z/$name"
done
ln -s ../nowhere "$T/tree/z/link" && chmod 1777 "$T/tree/z"
cat >"$T/key.mjs" <<-'END'
	import { Image } from "./ts/dist/index.js";
	const [dir, file] = process.argv.slice(2);
	console.log(Image.base().addLocalDir(dir, "/d").addLocalFile(file, "/f").env({ "\uff5e": "1", "\u{1f600}": "2" }).cacheKey());
END
cat >"$T/key.py" <<-'END'
	import sys
	from varve import Image
	image = Image.base().add_local_dir(sys.argv[1], "/d").add_local_file(sys.argv[2], "/f")
	print(image.env({"\U0001f600": "2", "\uff5e": "1"}).cache_key())
END
cat >"$T/key-c.py" <<-'END'
	import ctypes, sys
	lib = ctypes.CDLL(sys.argv[3])
	def image(call, *args):
	    call.restype = ctypes.c_void_p
	    return ctypes.c_void_p(call(*args))
	top = image(lib.varve_image_base)
	top = image(lib.varve_image_add_local_dir, top, sys.argv[1].encode(), b"/d")
	top = image(lib.varve_image_add_local_file, top, sys.argv[2].encode(), b"/f")
	pairs = ["\U0001f600=2".encode(), "\uff5e=1".encode(), None]
	top = image(lib.varve_image_env, top, (ctypes.c_char_p * 3)(*pairs))
	key = ctypes.create_string_buffer(65)
	assert lib.varve_image_cache_key(top, key, None) == 0
	print(key.value.decode())
END
key=$(node "$T/key.mjs" "$T/tree" "$T/tree/sub/file" 2>&1)
like "the key of a directory" "$key" '^[0-9a-f]{64}$'
is "is the same in Python" "$(PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$SRC/tools/sdk/python \
	python3 "$T/key.py" "$T/tree" "$T/tree/sub/file" 2>&1)" "$key"
is "and in C" "$(python3 "$T/key-c.py" "$T/tree" "$T/tree/sub/file" "$BUILD/lib/libvarve.so" 2>&1)" "$key"

export SNAPSHOTD_API_KEY=key-of-this-test
start_debian_daemon '{}' --listen 127.0.0.1:0
unset SNAPSHOTD_API_KEY
VARVE_LIVE_URL=$(daemon_url)
export VARVE_LIVE=1 VARVE_LIVE_KEY=key-of-this-test VARVE_LIVE_URL
for part in images snapshots remotes sandboxes; do
	ok "$part of a daemon" node --test "build/test/live-$part.test.js"
	[ "$(grep -c '^ *# Subtest:' "$T/.out")" -gt 2 ] || fail "$part: there were tests"
done

# As others use it: installed from the package, with its types.
mkdir "$T/user" && cd "$T/user" && echo '{"type": "module"}' >package.json
ok "makes a package" bash -c "cd '$T/ts' && npm pack --pack-destination '$T'"
ok "installs from the package" npm install --offline --no-audit --no-fund "$T"/varve-*.tgz
is "which brings nothing else" "$(ls node_modules)" varve
cat >use.ts <<-'END'
	import { Image, Sandbox, type ExecResult } from "varve";
	const image: Image = Image.base().env({ WHO: "user" });
	const sandbox = await Sandbox.create({ image });
	const result: ExecResult = await sandbox.exec.run("echo $WHO");
	console.log(result.stdout.trim(), result.exitCode);
	await sandbox.kill();
END
ok "compiles against its types" tsc --strict --module nodenext --moduleResolution nodenext --target es2022 \
	--types node --typeRoots "$T/ts/node_modules/@types" use.ts
is "runs" "$(node use.js 2>&1)" "user 0"
sed 's/WHO: "user"/WHO: 1/' use.ts >wrong.ts
not_ok "its types refuse what is wrong" tsc --noEmit --strict --module nodenext --target es2022 \
	--types node --typeRoots "$T/ts/node_modules/@types" wrong.ts
is "nothing is left of killed sandboxes" \
	"$(api GET /api/sandboxes | jq length),$(varve --json mounts --all | jq length)" "0,0"
ok "verify" varve verify
done_testing
