#!/bin/bash
# The container image of the daemon: built of the packages, checked with others' tools, and run by runc: its
# mounts are seen outside, its sandboxes run inside, and both go on when the daemon in it is killed.
# timeout: 400
# tags: sandbox
[ -n "${VARVE_OWN_MOUNTS:-}" ] || [ "$(id -u)" != 0 ] || ! unshare -m true 2>/dev/null ||
	VARVE_OWN_MOUNTS=1 exec unshare -m --propagation private bash "$0" "$@"
. "${0%/*}/lib.sh"
need root fuse jq runc skopeo busybox capsh dpkg-buildpackage dh dh_python3
is_sanitized && skip_all "packages are not made of sanitized builds"
need_debian_root
need_space 2500
mirror_reachable || skip_all "no mirror can be reached"
make_packages >"$T/.make" 2>&1 || bail "make deb: $(tail -n 3 "$T/.make")"

# --- the image ---
proxies=$(jq -n 'env | with_entries(select(.key | test("^(https?|no)_proxy$"; "i")))')
ok "build-oci" env VARVE_BASE="$ROOT_TAR" VARVE_PACKAGES="$PACKAGES" VARVE_BIN="$BUILD/bin" VARVE_BUILD_ENV="$proxies" TMPDIR="$T" \
	"$SRC/tools/packaging/build-oci" "$T/varve.oci" || done_testing
again() { env "$@" VARVE_BASE="$T/none" VARVE_PACKAGES="$PACKAGES" VARVE_BIN="$BUILD/bin" TMPDIR="$T" "$SRC/tools/packaging/build-oci" "$T/varve.oci"; }
not_ok "a second one does not take its place" again VARVE_REPLACE=
like "... unless that is asked for" "$(cat "$T/.out")" 'is there already'
not_ok "... and not before it is whole" again VARVE_REPLACE=1
is "skopeo takes it" "$(skopeo inspect --config "oci:$T/varve.oci:varve" | jq -c '.config | [.Entrypoint, .Cmd, .Volumes]')" \
	'[["snapshotd","--supervise"],["--config","/etc/varve/snapshotd.json"],{"/var/lib/snapshotd":{}}]'
mkdir -p "$T"/bundle/rootfs "$T"/{volume,shared/m}
blob() { # DIGEST
	echo "$T/varve.oci/blobs/${1/:/\/}"
}
layer=$(jq -r '.layers[].digest' "$(blob "$(jq -r '.manifests[0].digest' "$T/varve.oci/index.json")")")
ok "its layer" tar -C "$T/bundle/rootfs" -xzf "$(blob "$layer")"
echo '{"runtime": "crun"}' >"$T/bundle/rootfs/etc/varve/snapshotd.json" # one's own
is "has no packages and lists left over" "$(cd "$T/bundle/rootfs" && echo packages* var/lib/apt/lists/*)" "packages* var/lib/apt/lists/*"

# --- in a container: as podman run --privileged -v volume:/var/lib/snapshotd -v shared:/srv/varve:rshared ---
mount -t tmpfs none "$T/shared" && mkdir "$T/shared/m" && mount --make-shared "$T/shared"
(cd "$T/bundle" && runc spec)
caps=$(capsh --decode="$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status)" | sed 's/.*=//; s/.*/\U&/')
devices=$(stat -c '%t %T' /dev/fuse | { read -r major minor && echo "$((16#$major)) $((16#$minor))"; })
run=$(skopeo inspect --config "oci:$T/varve.oci:varve" | jq -c '.config.Entrypoint + .config.Cmd')
jq --arg t "$T" --argjson run "$run" --arg caps "$caps" --arg fuse "$devices" '($fuse | split(" ") | map(tonumber)) as [$major, $minor] |
	.process.terminal = false | .process.args = $run |
	.process.noNewPrivileges = false | .root.readonly = false | .process.rlimits = [] | .linux.maskedPaths = [] | .linux.readonlyPaths = [] |
	.process.capabilities |= map_values($caps | split(",")) |
	.linux.devices = [{path: "/dev/fuse", type: "c", major: $major, minor: $minor, fileMode: 438}] | .linux.resources.devices = [{allow: true, access: "rwm"}] |
	.linux.namespaces |= map(select(.type != "network")) | .linux.rootfsPropagation = "slave" |
	.mounts |= map(if .destination | test("^/sys") then .options |= map(select(. != "ro")) else . end) |
	.mounts += [{destination: "/var/lib/snapshotd", type: "bind", source: ($t + "/volume"), options: ["rbind"]},
		{destination: "/srv/varve", type: "bind", source: ($t + "/shared"), options: ["rbind", "rshared"]}]' \
	"$T/bundle/config.json" >"$T/config" && mv "$T/config" "$T/bundle/config.json"
rt() { runc --root "$T/runc" "$@"; }
inside() { rt exec varve "$@"; }
rt run --bundle "$T/bundle" varve >"$T/container.log" 2>&1 </dev/null &
container=$!
up() { inside varve stats || ! kill -0 "$container"; }
until_true 60 up
ok "the daemon in it serves" inside varve stats || { sed 's/^/# /' "$T/container.log"; done_testing; }
mkdir -p "$T/bundle/rootfs/srv/src/bin"
cp "$(type -P busybox)" "$T/bundle/rootfs/srv/src/bin/sh"
echo one >"$T/bundle/rootfs/srv/src/file"
ok "an import" inside varve import image dir /srv/src
ok "a mount" inside varve mount image /srv/varve/m
is "is seen outside" "$(cat "$T/shared/m/file")" one
is "a sandbox" "$(inside varve run --keep --snapshot image -- sh -c 'echo hello; echo kept >/kept' 2>/dev/null)" hello
sandbox=$(inside varve --json sandboxes | jq -r '.[0].sandboxID')
inside varve exec "$sandbox" -- sh -c 'while :; do sleep 1; done' >/dev/null 2>&1 &
daemon() { # which: the child of the first process
	# shellcheck disable=SC2016 # the container's shell expands it
	inside sh -c 'for p in /proc/[0-9]*; do read -r _ name _ parent _ <$p/stat; [ "$name $parent" != "(snapshotd) 1" ] || echo ${p#/proc/}; done' 2>/dev/null
}
if [[ $(uname -r) =~ ^([0-9]+)\.([0-9]+) ]] && ((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] >= 6009)); then
	exec 5<"$T/shared/m/file"
	was=$(daemon)
	inside sh -c "kill -9 $was"
	is "it is killed: what is open outside goes on" "$(cat <&5; cat "$T/shared/m/file")" $'one\none'
	until_true 30 eval '[ -n "$(daemon)" ] && [ "$(daemon)" != "$was" ]'
	ok "with another daemon" until_true 30 inside varve stats
	is "and the sandbox" "$(inside varve exec "$sandbox" -- sh -c 'read -r line </kept; echo $line; : ')" kept
	ok "which is the same" grep -q "sandbox $sandbox goes on" "$T/container.log"
	exec 5<&-
else
	skip "it is killed" "needs Linux 6.9"
fi
rt kill varve TERM
wait $container
is "it ends when it is told to" $? 0
not_ok "and leaves no mount outside" is_mounted "$T/shared/m"
ok "the store is on the volume" test -s "$T/volume/FORMAT"
# shellcheck disable=SC2154 # it is of lib.sh
[ "$tap_failed" = 0 ] || sed 's/^/# container: /' "$T/container.log"
rt delete -f varve 2>/dev/null
umount -R -l "$T/shared"
done_testing
