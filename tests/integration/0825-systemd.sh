#!/bin/bash
# The package under a real systemd, in a container whose /usr is this host's: start, fstab, reload, crash,
# priorities, verification, the socket, a sandbox, an upgrade, removal, and the end.
# timeout: 300
# tags: sandbox
[ -n "${VARVE_OWN_MOUNTS:-}" ] || [ "$(id -u)" != 0 ] || ! unshare -m true 2>/dev/null ||
	VARVE_OWN_MOUNTS=1 exec unshare -m --propagation private bash "$0" "$@"
. "${0%/*}/lib.sh"
need root fuse make systemd-nspawn dbus-daemon jq dpkg-buildpackage dh dh_python3 busybox
is_sanitized && skip_all "packages are not made of sanitized builds"
[ -x /lib/systemd/systemd ] || skip_all "needs systemd"
[ -L /bin ] || skip_all "needs a merged /usr"

# --- a small system ---
root=$T/root
mkdir "$root" && mount -t tmpfs -o mode=755 none "$root" || skip_all "no tmpfs"
mkdir -p "$root"/{usr,etc/varve,etc/systemd/system,var/lib,var/tmp,var/log/journal,run,tmp,proc,sys,dev,root,mnt,srv,.u/upper,.u/work}
for d in bin sbin lib lib32 lib64 libx32; do
	[ ! -L "/$d" ] || cp -P "/$d" "$root/$d"
done
mount -t overlay -o "lowerdir=/usr,upperdir=$root/.u/upper,workdir=$root/.u/work" none "$root/usr" 2>/dev/null ||
	skip_all "no overlayfs"
# What this host has of ours would hide the package.
rm -f "$root"/usr/local/{s,}bin/{snapshotd,varve} "$root"/usr/local/lib/systemd/system/{snapshotd,varve}*
for f in ld.so.cache ld.so.conf alternatives nsswitch.conf ssl; do
	[ ! -e "/etc/$f" ] || cp -a "/etc/$f" "$root/etc/"
done
printf '%s\n' root:x:0:0:root:/root:/bin/bash nobody:x:65534:65534::/:/bin/false \
	messagebus:x:101:101::/:/bin/false >"$root/etc/passwd"
printf '%s\n' root:x:0: nogroup:x:65534: messagebus:x:101: systemd-journal:x:102: >"$root/etc/group"
ln -s ../usr/lib/os-release "$root/etc/os-release"
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
# Of this host's services none begins.
mkdir -p "$root/etc/systemd/system-preset" && printf '%s\n' 'enable snapshotd.service' 'disable *' >"$root/etc/systemd/system-preset/00-none.preset"
for u in systemd-networkd systemd-resolved systemd-timesyncd systemd-logind getty.target console-getty \
	systemd-udevd apt-daily.timer apt-daily-upgrade.timer; do
	[[ $u == *.* ]] || u+=.service
	ln -s /dev/null "$root/etc/systemd/system/$u"
done
make_packages >"$T/.make" 2>&1 || bail "make deb: $(tail -n 3 "$T/.make")"
mkdir -p "$root"/packages "$root"/var/lib/dpkg/{info,updates} "$root/var/log"
touch "$root/var/lib/dpkg/status" # of what it depends on it knows nothing
cp "$PACKAGES"/varve_*.deb "$root/packages/varve.deb"
cp "$SRC/tools/packaging/debian/tests/mount-and-checkpoint" "$root/packages/"
dpkg-deb -R "$root/packages/varve.deb" "$T/next" && sed -i 's/^Version: .*/&+next/' "$T/next/DEBIAN/control" &&
	dpkg-deb -Znone -b "$T/next" "$root/packages/next.deb" >/dev/null || bail "no newer package"
rm -rf "$T/next"
mknod -m 666 "$root/dev/null" c 1 3
rm -f "$root/usr/sbin/policy-rc.d" # of a host that starts no services
chroot "$root" dpkg --force-depends -i /packages/varve.deb >"$T/.make" 2>&1 || bail "dpkg: $(tail -n 3 "$T/.make")"
mkdir -p "$root/srv/src" "$root/srv/box/bin" "$root/srv/auto" "$root"/mnt/{a,b,c,u}
echo one >"$root/srv/src/file"
cp "$(type -P busybox)" "$root/srv/box/bin/sh"
cat >"$root/etc/fstab" <<-'END'
	image	/mnt/a	varve	_netdev,nofail,noauto	0 0
	image	/mnt/b	varve	ro,_netdev,nofail	0 0
	image	/mnt/c	varve	_netdev,noauto,x-systemd.automount,x-systemd.idle-timeout=1	0 0
END

# --- what happens in it ---
cat >"$root/etc/systemd/system/test.service" <<-'END'
	[Unit]
	After=multi-user.target
	[Service]
	Type=oneshot
	ExecStart=/bin/bash /etc/test.sh
	StandardOutput=file:/srv/out
	StandardError=file:/srv/err
	ExecStopPost=/bin/systemctl --no-block exit
END
mkdir -p "$root/etc/systemd/system/default.target.wants"
ln -s /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../test.service "$root/etc/systemd/system/multi-user.target.wants/test.service"
sed -i '/^After=/d' "$root/etc/systemd/system/test.service"
sed -i 's/^\[Unit\]/&\nAfter=snapshotd.service systemd-journald.service/' "$root/etc/systemd/system/test.service"
cat >"$root/etc/test.sh" <<-'END'
	tell() { printf '%s\t%s\n' "$1" "$(eval "$2" 2>&1 | tr '\n' ' ' | head -c 300)"; }
	until_ok() { for ((i = 0; i < 300; i++)); do eval "$1" >/dev/null 2>&1 && return; sleep 0.1; done; return 1; }
	show() { systemctl show -P "$1" snapshotd.service; }
	tell active 'show ActiveState'
	tell unit 'show FragmentPath; command -v varve'
	tell serves 'varve stats >/dev/null && echo yes'
	tell group 'stat -c %G:%a /run/snapshotd.sock'
	tell state 'stat -c %a /var/lib/snapshotd'
	tell import 'varve import image dir /srv/src >/dev/null && echo yes'
	tell mount 'systemctl start mnt-a.mount && findmnt -rn -o FSTYPE,SOURCE /mnt/a'
	tell remote 'systemctl start mnt-b.mount; cat /mnt/b/file; findmnt -rn -o FSTYPE,OPTIONS /mnt/b | cut -d, -f1'
	unused() { until_ok '[ "$(systemctl show -P ActiveState mnt-c.mount)" = inactive ]' && varve --json mounts | jq -r '.[] | select(.mountpoint == "/mnt/c") | .status' && findmnt -rn -o FSTYPE /mnt/c; }
	tell automount 'systemctl start mnt-c.automount; findmnt -rn -o FSTYPE /mnt/c; cat /mnt/c/file; echo first >/mnt/c/new; findmnt -rn -t fuse.varve -o FSTYPE,SOURCE /mnt/c'
	tell idle unused
	tell again 'cat /mnt/c/new; systemctl show -P NRestarts mnt-c.mount; varve --json mounts | jq -r "map(select(.mountpoint == \"/mnt/c\")) | length"'
	journalctl -b -o cat >/srv/journal
	tell order 'systemctl show -P After mnt-a.mount | tr " " "\n" | grep -x remote-fs-pre.target; systemctl show -P Before snapshotd.service | tr " " "\n" | grep -x remote-fs-pre.target'
	echo two >/mnt/a/file
	pid=$(show MainPID)
	echo '{"socketGroup": "varve", "logLevel": "debug", "threads": 3}' >/etc/varve/snapshotd.json
	tell reload 'systemctl reload snapshotd && echo yes'
	until_ok 'journalctl -u snapshotd -o cat | grep "read again"'
	tell reloaded 'journalctl -u snapshotd -o cat -p warning | grep -c "threads has changed, which needs a restart"'
	echo '{"socketGroup": 3}' >/etc/varve/snapshotd.json
	tell mistake 'systemctl reload snapshotd >/dev/null 2>&1; echo $?; show ActiveState; show MainPID | grep -cx '"$pid"
	echo '{"socketGroup": "varve"}' >/etc/varve/snapshotd.json
	daemon() { curl -s --unix-socket /run/snapshotd.sock http://localhost/healthz | jq ".$1"; }
	exec 5</mnt/a/file 6>>/mnt/a/log 7</mnt/c/new
	echo before >&6
	tell child 'cat "/proc/$(daemon pid)/stat" | cut -d" " -f4 | grep -cx '"$pid"
	kill -9 "$(daemon pid)"
	tell waited 'cat /mnt/a/file; cat <&5; cat <&7; echo after >&6; cat /mnt/a/log'
	until_ok '[ "$(daemon generation)" = 2 ]'
	tell takeover 'show ActiveState; show NRestarts; show MainPID | grep -cx '"$pid"'; daemon generation; ls /mnt/a'
	exec 5<&- 6>&-
	rm /mnt/a/log
	exec 7<&-
	tell automounted 'unused; cat /mnt/c/new'
	kill -9 "$pid"
	until_ok '[ "$(show MainPID)" != '"$pid"' ] && [ "$(show ActiveState)" = active ]'
	tell restarted 'show ActiveState; show NRestarts; cat /mnt/a/file /mnt/c/new'
	tell verify 'systemctl start varve-verify.service && echo yes; systemctl is-failed varve-verify.service'
	tell timer 'systemctl start varve-verify.timer && systemctl is-active varve-verify.timer'
	tell killmode 'show KillMode; show WatchdogUSec; show LimitNOFILE; show OOMPolicy'
	tell all 'umount -a -t fuse.varve; findmnt -rn -t fuse.varve | wc -l; cat /mnt/c/new; systemctl start mnt-b.mount'
	mkdir -p /etc/systemd/system/snapshotd.service.d
	printf '%s\n' '[Service]' ExecStart= 'ExecStart=/usr/bin/snapshotd --config /etc/varve/snapshotd.json' \
		FileDescriptorStoreMax=2000 Environment=FDSTORE=2000 RestartSec=100ms >/etc/systemd/system/snapshotd.service.d/store.conf
	systemctl daemon-reload
	systemctl start mnt-a.mount
	systemctl restart snapshotd.service
	pid=$(show MainPID)
	exec 5</mnt/a/file 6>>/mnt/a/log
	kill -9 "$pid"
	tell store 'cat <&5; echo on >&6; cat /mnt/a/log /mnt/a/file; show NRestarts'
	exec 5<&- 6>&-
	rm /mnt/a/log
	systemctl stop mnt-a.mount snapshotd.service
	systemctl start snapshotd.socket
	tell storesocket 'timeout 20 varve stats >/dev/null && timeout 20 varve stats >/dev/null && echo yes; show NRestarts'
	systemctl stop snapshotd.socket snapshotd.service
	rm -r /etc/systemd/system/snapshotd.service.d
	systemctl daemon-reload
	systemctl restart snapshotd.service
	systemctl stop mnt-a.mount snapshotd.service
	tell stopped 'show ActiveState; show Result; findmnt -rn -t fuse.varve | wc -l'
	systemctl start varve-verify.service
	tell unverified 'systemctl is-failed varve-verify.service; systemctl reset-failed varve-verify.service'
	systemctl start snapshotd.socket
	tell socket 'varve stats >/dev/null && echo yes; show ActiveState; stat -c %G:%a /run/snapshotd.sock'
	(for i in 1 2 3 4 5; do varve --json stats | jq -r .snapshotCount || echo failed; done) >/srv/clients 2>&1 &
	systemctl restart snapshotd.service
	wait
	tell clients 'sort -u /srv/clients'
	systemctl stop snapshotd.socket snapshotd.service
	echo '{"socketGroup": 3}' >/etc/varve/snapshotd.json
	systemctl start snapshotd.socket
	tell wrong 'timeout 20 varve stats >/dev/null 2>&1; until_ok "systemctl is-failed snapshotd.socket"; systemctl is-failed snapshotd.socket snapshotd.service'
	echo '{"socketGroup": "varve"}' >/etc/varve/snapshotd.json
	tell mended 'systemctl start snapshotd.socket snapshotd.service && varve stats >/dev/null && echo yes; systemctl is-active snapshotd.socket'
	tell exposure 'systemd-analyze security --no-pager varve-verify.service | sed -n "s/.*exposure level.*: //p"'
	tell problems 'systemd-analyze verify --man=no /lib/systemd/system/snapshotd.service /lib/systemd/system/snapshotd.socket /lib/systemd/system/varve-verify.timer 2>&1 | grep -i varve; systemctl --failed --plain --no-legend | grep -E "snapshotd|varve|mnt"'
	dpkg_() { dpkg --force-depends "$@" 2>&1; }
	# Of cgroups v1 nspawn leaves the most read-only.
	for d in /sys/fs/cgroup/*/; do mount -o remount,bind,rw "$d"; done 2>/dev/null
	tell sandbox 'varve import box dir /srv/box >/dev/null && varve run --snapshot box -- sh -c "echo \$((6 * 7))"'
	tell autopkgtest 'AUTOPKGTEST_TMP=/srv/auto sh /packages/mount-and-checkpoint >/srv/auto.log 2>&1 && echo yes || cat /srv/auto.log'
	mount -t varve image /mnt/u
	exec 5</mnt/u/file 6>>/mnt/u/log
	pid=$(show MainPID)
	tell upgrade 'dpkg_ -i /packages/next.deb | grep -c "goes on as the old program"; show MainPID | grep -cx '"$pid"'; daemon generation'
	tell follows 'varve daemon upgrade >/dev/null && echo yes; show MainPID | grep -cx '"$pid"'; daemon generation; cat <&5; echo on >&6; cat /mnt/u/log'
	exec 5<&- 6>&-
	systemctl start varve-verify.timer
	active() { systemctl is-active snapshotd.service snapshotd.socket varve-verify.timer; findmnt -rn -t fuse.varve | wc -l; }
	tell before active
	tell removed 'dpkg_ -r varve >/srv/removal && echo yes; active; ls /lib/systemd/system/snapshotd.service 2>/dev/null'
	tell purged 'dpkg_ -P varve | grep -c "store in /var/lib/snapshotd is kept"; ls /etc/varve 2>/dev/null'
	tell anew 'dpkg_ -i /packages/varve.deb >/srv/anew; show ActiveState; cat /mnt/u/log; systemctl restart mnt-b.mount; cat /mnt/b/file'
END
autofs=()
[ ! -c /dev/autofs ] || autofs=(--bind=/dev/autofs)
timeout $((200 * SLOW)) systemd-nspawn -q -b -D "$root" --register=no --keep-unit --system-call-filter=@keyring --bind=/dev/fuse --capability=all \
	"${autofs[@]}" --console=pipe --resolv-conf=off --timezone=off --link-journal=no >"$T/console" 2>&1 </dev/null
if [ ! -s "$root/srv/out" ]; then
	tail -n 5 "$T/console" | sed 's/^/# /'
	skip_all "systemd does not boot in a container here"
fi
said() { sed -n "s/^$1	//p" "$root/srv/out" | sed 's/ *$//'; }
is "the service is active when it is ready" "$(said active)" active
is "... the package's" "$(said unit | sed 's,/usr/lib/,/lib/,')" "/lib/systemd/system/snapshotd.service /usr/bin/varve"
is "and serves" "$(said serves)" yes
is "its socket is its group's" "$(said group)" varve:660
is "its store is nobody else's" "$(said state)" 700
is "an import" "$(said import)" yes
is "a mount of fstab" "$(said mount)" "fuse.varve image"
is "another mount of fstab, which failed at boot for want of its snapshot" "$(said remote)" "one fuse.varve ro"
if [ -c /dev/autofs ]; then
	is "an automount: the first use mounts it" "$(said automount)" "autofs one fuse.varve image"
	is "and it is unmounted when nobody uses it" "$(said idle)" "detached autofs"
	is "the next use has what was written" "$(said again)" "first 1"
else
	skip "an automount" "no /dev/autofs"
fi
is "they come after the daemon" "$(said order)" "remote-fs-pre.target remote-fs-pre.target"
is "reload" "$(said reload)" yes
is "tells with a priority what needs a restart" "$(said reloaded)" 1
is "of a file with a mistake fails, and harms nothing" "$(said mistake)" "1 active 1"
is "the daemon is a child of the service" "$(said child)" 1
if [[ $(uname -r) =~ ^([0-9]+)\.([0-9]+) ]] && ((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] >= 6009)); then
	is "a crash: programs in mounts have waited" "$(said waited)" "two two first before after"
	is "and the service knows nothing of it" "$(said takeover)" "active 0 1 2 file log"
	is "with systemd's store in place of the keeper mounts go on, too" "$(said store)" "two on two 1"
	is "nor does an automount" "$(said automounted)" "detached autofs first"
else
	skip "a crash that nobody notices" "needs Linux 6.9"
fi
is "with that store, a client starts it by its socket" "$(said storesocket)" "yes 0"
is "a crash of all: it is there again, with the mount" "$(said restarted)" "active 1 two first"
is "umount -a, and an automount after it" "$(said all)" "0 first"
is "verification" "$(said verify)" "yes inactive"
is "its timer" "$(said timer)" active
is "limits" "$(said killmode)" "process 3min 1048576 continue"
is "it stops" "$(said stopped)" "inactive success 0"
is "a verification without it fails" "$(said unverified)" failed
is "a client starts it by its socket" "$(said socket)" "yes active varve:660"
is "clients wait while it is restarted" "$(said clients)" 1
is "a config file that is wrong: it fails, and so does the socket in the end" "$(said wrong)" "failed failed"
is "both are started when it is right" "$(said mended)" "yes active"
is "a sandbox" "$(said sandbox)" 42
is "the test of the package" "$(said autopkgtest)" yes
if [[ $(uname -r) =~ ^([0-9]+)\.([0-9]+) ]] && ((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] >= 6009)); then
	is "an upgrade leaves the daemon running" "$(said upgrade)" "1 1 1"
	is "until it is told to follow, with the files that are open" "$(said follows)" "yes 1 2 one on"
else
	skip "an upgrade that nobody notices" "needs Linux 6.9"
fi
like "removal" "$(said before)" '^active active active [1-9]'
is "ends the daemon, its socket and its timer, and mounts" "$(said removed)" "yes inactive inactive inactive 0"
is "purge keeps the store" "$(said purged)" 1
is "which is there for who installs it again" "$(said anew)" "active on one"
# The last of each: what happened at the end.
at_end() { journalctl -D "$root/var/log/journal" -o cat --no-pager 2>/dev/null | grep -nE "^($1)" | tail -n 1 | cut -d : -f 1; }
ok "at the end mounts go before the daemon" test "$(at_end 'Unmounted mnt-b')" -lt "$(at_end 'Stopp(ing|ed) snapshotd.service')"
is "the units have no faults" "$(said problems)" ""
# shellcheck disable=SC2154 # it is of lib.sh
[ "$tap_failed" = 0 ] || { sed 's/^/# /' "$root/srv/out" "$root/srv/err" "$root/srv/journal"; tail -n 20 "$T/console" | sed 's/^/# console: /'; }
unmount_below "$root"
umount -l "$root/usr" "$root" 2>/dev/null
done_testing
