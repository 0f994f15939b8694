#!/bin/bash
# A mount as a container's root: the runtime finds its places and leaves no trace.
# tags: sandbox quick asan tsan
# timeout: 120
. "${0%/*}/lib.sh"
need root fuse curl jq runc busybox
file -L "$(command -v busybox)" | grep -q static || skip_all 'needs busybox-static'
start_daemon

# An image without /proc, /sys and /dev, as many are, and what resolv.conf may be.
mkdir -p "$T/root/bin" "$T/root/etc"
cp "$(command -v busybox)" "$T/root/bin/busybox"
ln -s busybox "$T/root/bin/sh"
varve import none dir "$T/root" >/dev/null
ln -s ../run/systemd/resolve/stub-resolv.conf "$T/root/etc/resolv.conf"
varve import link dir "$T/root" >/dev/null
rm "$T/root/etc/resolv.conf"
echo "of the image" >"$T/root/etc/resolv.conf"
varve import file dir "$T/root" >/dev/null
# One whose directories lead to the host's, and whose /etc is elsewhere.
mkdir -p "$T/victim" "$T/root/usr"
echo "of the host" >"$T/victim/ptmx"
mv "$T/root/etc" "$T/root/usr/etc"
rm "$T/root/usr/etc/resolv.conf"
ln -s "$T/victim" "$T/root/usr/etc/resolv.conf"
ln -s "../../../$T/victim" "$T/root/usr/etc/hosts"
ln -s /usr/bin/../etc/. "$T/root/etc"
mkdir "$T/root/usr/bin"
for d in dev proc sys run; do ln -s "$T/victim" "$T/root/$d"; done
varve import astray dir "$T/root" >/dev/null
echo "of the host" >"$T/resolv.conf"

container_root() { # SNAPSHOT DIR
	mkdir -p "$2"
	api POST /api/mounts "$(jq -n --arg s "$1" --arg m "$2" \
		'{snapshot: $s, mountpoint: $m, containerRoot: true, allowSuid: true}')" |
		jq -e .id >/dev/null
}
run_in() { # DIR SCRIPT, with resolv.conf bound as builds do
	rm -rf "$T/bundle"
	mkdir "$T/bundle"
	(cd "$T/bundle" && runc spec)
	jq --arg root "$1" --arg script "$2" --arg resolv "$T/resolv.conf" \
		'.root = {path: $root, readonly: false} | .process.terminal = false |
		.process.args = ["/bin/busybox", "sh", "-c", $script] |
		.linux.namespaces |= map(select(.type != "cgroup" and .type != "network")) |
		.mounts += [("resolv.conf", "hosts", "hostname") | {destination: "/etc/\(.)", type: "bind",
			source: $resolv, options: ["bind", "ro"]}]' "$T/bundle/config.json" >"$T/bundle/new"
	mv "$T/bundle/new" "$T/bundle/config.json"
	runc --root "$T/runc" run --bundle "$T/bundle" "test-$$" </dev/null
}

for s in none link file astray; do
	m=$T/$s
	ok "$s: a container's root" container_root "$s" "$m"
	# Listing with attributes must not tell the kernel of another resolv.conf.
	got=$(run_in "$m" 'busybox cat /etc/resolv.conf; busybox ls -l / /etc /proc/1 >/dev/null
		busybox cat /etc/resolv.conf; busybox head -c 3 /dev/zero | busybox wc -c
		busybox cat /etc/hosts /etc/hostname; busybox test -d /proc/self && echo proc; busybox test -d /sys/kernel && echo sys
		busybox rm -f /etc/resolv.conf 2>/dev/null || echo held' 2>"$T/err") || diag "$(<"$T/err")"
	is "$s: everything is in its place" "$got" "of the host
of the host
3
of the host
of the host
proc
sys
held"
	ok "$s: checkpoint" varve checkpoint "$m" "$s-unchanged"
	is "$s: nothing was changed" "$(root_of "$s-unchanged")" "$(root_of "$s")"
	run_in "$m" 'echo new >/etc/new'
	ok "$s: checkpoint of a change" varve checkpoint "$m" "$s-changed"
	is "$s: the change alone is in it" "$(varve --json diff "$s" "$s-changed" |
		jq -r '.[] | "\(.change) \(.path | sub("^/usr"; ""))"' | sort)" 'added /etc/new'
done
is "nothing of the host has changed" "$(cd "$T/victim" && find . -printf '%P %y ' && cat ptmx)" ' d ptmx f of the host'
is "symlinks are still what they are" "$(varve --json ls astray | jq -c '[.[] | select(.type == "symlink") | .path | ltrimstr("/")] | sort')" \
	'["dev","etc","proc","run","sys"]'
is "a listing shows what is in the image" "$(ls -A "$T/none" | tr '\n' ' ')" 'bin etc '
is "the image's own file is seen without a container" "$(<"$T/file/etc/resolv.conf")" 'of the image'
is "its link is in the next mount" "$(mount_at link-changed "$T/plain" &&
	readlink "$T/plain/etc/resolv.conf")" ../run/systemd/resolve/stub-resolv.conf
not_ok "which has no places" ls -d "$T/plain/proc"

restart_daemon
is "a restart keeps what it is" "$(run_in "$T/none" 'busybox cat /etc/resolv.conf')" 'of the host'
ok "they are unmounted" varve umount "$T/none"
done_testing
