#!/bin/bash
# What `make install` puts below a prefix works from there, and `make uninstall` leaves nothing.
# tags: quick
# timeout: 120
. "${0%/*}/lib.sh"
need make python3

to=$T/usr
installing() { make -s -C "$SRC" BUILD="$BUILD" DESTDIR= PREFIX="$to" "$@"; }
below() { (cd "$1" && find . ! -type d | sort); }
mkdir -p "$to/bin" && echo theirs >"$to/bin/theirs"
ok "make install" installing install
for f in bin/varve bin/snapshotd libexec/varve/varve-store lib/libvarve.so lib/pkgconfig/varve.pc \
	share/man/man1/varve.1 share/varve/templates/debian-12.json; do
	ok "$f" test -s "$to/$f"
done

ok "the unit starts it from there" grep -qx "ExecStart=$to/bin/snapshotd --supervise --config .*" \
	"$to/lib/systemd/system/snapshotd.service"
ok "needrestart leaves it alone" grep -q 'override_rc.*snapshotd.*= 0;' "$to/etc/needrestart/conf.d/varve.conf"
# Without `make_group` of install.mk the host may have none.
like "the configuration is right, but for the group" "$("$to/bin/snapshotd" --check-config --config "$to/etc/varve/snapshotd.json" 2>&1)" \
	'the configuration is right|socketGroup: no group "varve"'
ok "so is the example" "$to/bin/snapshotd" --check-config --config "$to/share/doc/varve/examples/snapshotd.json"
is "which tells of every setting" \
	"$(sed -n 's/^  "\([a-z][A-Za-z]*\)": .*/\1/p' "$to/share/doc/varve/examples/snapshotd.json")" \
	"$(sed -n 's/^\t\t{ "\([A-Za-z]*\)", FIELD_.*/\1/p' "$SRC/snapshotd/config.c")"
is "and says what each is" "$(sed -n 's/^  "\/\/ \([a-z][A-Za-z]*\)": .*/\1/p' "$to/share/doc/varve/examples/snapshotd.json")" \
	"$(sed -n 's/^\t\t{ "\([A-Za-z]*\)", FIELD_.*/\1/p' "$SRC/snapshotd/config.c")"

# --- versions ---
version=$(sed -n 's/.*VARVE_VERSION "\(.*\)"/\1/p' "$SRC/store/base/version.h")
commit=$(git -C "$SRC" describe --always --tags 2>/dev/null)
for p in varve snapshotd; do
	like "$p tells its version" "$("$to/bin/$p" --version)" "^$p ${version//./\\.}( \(.*\))?$"
	[ -z "$commit" ] || is "and its commit" "$("$to/bin/$p" --version | cut -d ' ' -f 3)" "($commit)"
done
is "pkg-config has the place" "$(sed -n 's/^libdir=//p; s/^prefix=//p' "$to/lib/pkgconfig/varve.pc" | xargs)" \
	"$to \${prefix}/lib"
is "all parts are of one version" "$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$SRC/tools/sdk/python/varve/__init__.py"
	sed -n 's/^version = "\(.*\)"/\1/p' "$SRC/tools/sdk/python/pyproject.toml"
	sed -n 's/^  "version": "\(.*\)",/\1/p' "$SRC/tools/sdk/typescript/package.json"
	sed -n 's/^## \([0-9.]*\).*/\1/p' "$SRC/tools/packaging/CHANGELOG.md" | head -n 1)" \
	"$(printf '%s\n' "$version" "$version" "$version" "$version")"

# --- the Python library ---
python=$(echo "$to"/lib/python3*/*-packages)
is "python finds the library, and pip its version" "$(PYTHONPATH=$python python3 -c '
import importlib.metadata, varve
print(varve.__file__.rsplit("/varve/", 1)[0], importlib.metadata.version("varve"))')" "$python $version"

# --- completions: commands are known without a daemon ---
PATH=$to/bin:$PATH
if command -v zsh >/dev/null; then
	completed=$(zsh -fc '
		compdef() { : }
		compadd() { while [ "$1" != -- ]; do shift; done; shift; print -l -- "$@" }
		. "'"$to"'/share/zsh/site-functions/_varve"
		words=(varve "$@") CURRENT=$(($# + 1)) PREFIX=$@[-1]
		_varve' zsh mount --cache '')
	is "zsh completes" "$completed" $'private\nshared'
	is "zsh autoloads it" "$(zsh -fc '
		fpath=("'"$to"'/share/zsh/site-functions")
		compadd() { while [ "$1" != -- ]; do shift; done; shift; print -l -- "$@" }
		autoload -U _varve; words=(varve hi) CURRENT=2 PREFIX=hi; _varve')" history
	is "varve completion zsh" "$(varve completion zsh | md5sum)" "$(md5sum <"$SRC/tools/completion/varve.zsh")"
else
	skip "zsh completes" "no zsh"
fi
if command -v fish >/dev/null; then
	export HOME=$T # for its history
	for c in "hi:history" "mount --cache :private shared" "completion :bash fish zsh" "export :"; do
		is "fish completes 'varve ${c%%:*}'" "$(fish -c "source $to/share/fish/vendor_completions.d/varve.fish
			complete -C 'varve ${c%%:*}'" 2>&1 | sort | xargs)" "${c#*:}"
	done
	is "varve completion fish" "$(varve completion fish | md5sum)" "$(md5sum <"$SRC/tools/completion/varve.fish")"
else
	skip "fish completes" "no fish"
fi

# --- away again ---
ok "make uninstall" installing uninstall
is "leaves what is not its own, and the configuration" "$(below "$to" | xargs)" \
	"./bin/theirs ./etc/varve/snapshotd.json"
ok "make install for a package" make -s -C "$SRC" BUILD="$BUILD" DESTDIR="$T/pkg" PREFIX=/usr install
ok "is where Debian's python looks" test -s "$T/pkg/usr/lib/python3/dist-packages/varve/__init__.py"
mkdir -p "$T/pkg/etc/systemd/system/multi-user.target.wants"
ln -s /lib/systemd/system/snapshotd.service "$T/pkg/etc/systemd/system/multi-user.target.wants/"
like "make uninstall of it says what is still enabled" \
	"$(make -s -C "$SRC" BUILD="$BUILD" DESTDIR="$T/pkg" PREFIX=/usr uninstall)" 'systemctl disable --now snapshotd.service$'
rm -r "$T/pkg/etc/systemd"
is "leaves the configuration" "$(below "$T/pkg")" ./etc/varve/snapshotd.json
done_testing
