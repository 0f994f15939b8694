#!/bin/bash
# timeout: 900
# tags: sandbox
# Packages: pip from an index on loopback, apt from a real mirror, and what is said where
# either cannot be reached. Two builds upon clean stores give the same files.
. "${0%/*}/lib.sh"
. "${0%/*}/builds.sh"
code=''
need_builds python3

# --- an index of one package, in two versions ---
mkdir -p "$T/index/simple/varve-demo" "$T/wheel"
python3 - "$T/index/simple/varve-demo" <<'END'
import base64, hashlib, sys, zipfile
for version in ("1.0", "2.0"):
    info = f"varve_demo-{version}.dist-info"
    files = {
        "varve_demo.py": f"version = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: varve-demo\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{n},sha256={base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).rstrip(b'=').decode()},{len(t)}\n"
        for n, t in files.items())
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(f"{sys.argv[1]}/varve_demo-{version}-py3-none-any.whl", "w") as z:
        for name, text in files.items():
            z.writestr(name, text)
END
(cd "$T/index/simple/varve-demo" && for w in *.whl; do echo "<a href=\"$w\">$w</a>"; done >index.html)
python3 -u -m http.server --bind 127.0.0.1 --directory "$T/index" 0 >"$T/index.log" 2>&1 &
until_true 10 grep -q 'port [0-9]' "$T/index.log"
port=$(sed -n 's/.*port \([0-9]*\) .*/\1/p' "$T/index.log")
start_builds "{\"buildEnv\": {\"PIP_INDEX_URL\": \"http://127.0.0.1:$port/simple\", \"PIP_RETRIES\": \"0\"}}"

pip() { # PACKAGE...
	jq -cn '{type: "pip_install", args: {packages: $ARGS.positional}}' --args "$@"
}
apt() { # PACKAGE...
	jq -cn '{type: "apt_install", args: {packages: $ARGS.positional}}' --args "$@"
}
# The root has pip's wheel, for environments; here it is the system's.
with_pip=$(run 'python3 -m zipfile -e /usr/share/python-wheels/pip-*.whl /usr/lib/python3/dist-packages/')

create pip "$(image "$with_pip" "$(pip 'varve-demo<2')" "$(run 'python3 -c "import varve_demo; print(varve_demo.version)" >/version')")"
is 'pip_install' "$code $(get .error)" '201 null'
look_at pip "$T/pip"
is '... of the version that was asked for' "$(cat "$T/pip/version")" 1.0
not_ok '... which is no redirection' test -e "$T/pip/2"
not_ok '... the index is not kept' grep -rqs "$port/simple" "$T/pip/etc" "$T/pip/root"
is '... nor is a cache' "$(find "$T/pip/root" -mindepth 1 -name '*cache*')" ''
create nopip "$(image "$with_pip" "$(pip no-such-package)")"
is 'a package that is not there' "$code $(get .step)" '422 2'
like '... is told' "$(get .error)" 'step 2 \(pip_install\): `pip install` exited with status 1: ERROR: .*no-such-package'
like '... with what pip said' "$(api GET "/api/builds/$(last_build .id)/logs" | jq -r '.[].message')" 'no-such-package'

# --- apt ---
if ! getent hosts "$(tar -xOf "$ROOT_TAR" ./etc/apt/sources.list | sed -n 's|^deb [a-z]*://\([^/]*\)/.*|\1|p' | head -n 1)" >/dev/null; then
	skip 'apt_install' 'no mirror can be reached'
else
	create apt "$(image "$(apt hello)" "$(run 'hello >/said')")"
	is 'apt_install of a real package' "$code $(get .error)" '201 null'
	look_at apt "$T/apt"
	is '... which works' "$(cat "$T/apt/said")" 'Hello, world!'
	is '... no lists are left' "$(ls "$T/apt/var/lib/apt/lists")" ''
	is '... nor archives' "$(find "$T/apt/var/cache/apt" -type f)" ''
	create noapt "$(image "$(apt hello no-such-package)")"
	is 'a package that is not there' "$code $(get .step)" '422 1'
	like '... is told' "$(get .error)" '`apt-get install` exited with status 100: E: .*no-such-package'
	like '... with what apt said' "$(api GET "/api/builds/$(last_build .id)/logs" | jq -r '.[].message')" 'no-such-package'
	varve umount "$T/apt" >/dev/null
fi
create nomirror "$(image "$(run "echo 'deb http://127.0.0.1:1/debian bookworm main' >/etc/apt/sources.list")" "$(apt hello)")"
is 'a mirror that cannot be reached' "$code $(get .step)" '422 2'
like '... is told' "$(get .error)" '`apt-get update` exited with status 100: .*http://127.0.0.1:1/debian'

# --- the same upon another store ---
# The day of an account's last change of password, which useradd writes, is that of
# SOURCE_DATE_EPOCH: both builds have the same though midnight may lie between them.
steps=("$(env_step SOURCE_DATE_EPOCH 1700000000)" "$with_pip" "$(pip varve-demo)" "$(run 'useradd -m app; python3 -c "import varve_demo"')")
create same "$(image "${steps[@]}")"
is 'a manifest here' "$code" 201
varve export same tar "$T/same.tar" >/dev/null
mkdir "$T/here" && tar -C "$T/here" -xf "$T/same.tar" && rm "$T/same.tar"
stop_daemon
ok 'the daemon ends well' daemon_ended_well
rm -rf --one-file-system "$STATE"
start_builds "$(cat "$T/config.json")"
create same "$(image "${steps[@]}")"
is '... and there' "$code" 201
look_at same "$T/there"
is "... of the day that was asked for" "$(sed -n 's/^app:[^:]*:\([0-9]*\):.*/\1/p' "$T/there/etc/shadow")" 19675
# What differs holds a time: that of the sources that compiled Python files are checked by.
is '... has the same files, but for times' "$(diff -rq --no-dereference "$T/here" "$T/there" | grep -v '__pycache__')" ''
done_testing
