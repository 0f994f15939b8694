#!/bin/bash
# Everything that a filesystem can hold goes in and comes out unchanged: as a
# directory, a tar and an OCI image.
# tags: quick
# timeout: 180
. "${0%/*}/lib.sh"
need root fuse curl jq tar helper:fsmodel helper:oddtree
need_space 600
oddtree=$(helper oddtree)
start_daemon

src=$T/src
"$oddtree" "$src" || skip_all "the file system of $T cannot hold the tree"
ok "import of a directory" varve import dir dir "$src"
root=$(root_of dir)
ok "import of it again" varve import again dir "$src"
is "gives the same root" "$(root_of again)" "$root"
is "and stores nothing new" "$(varve --json show again | field .newBytes)" 0
ok "mount" mount_at dir "$T/m" --dev --suid
ok "the mount is the directory" same_tree "$T/m" "$src"
ok "import of the mount" varve import from-mount dir "$T/m"
is "gives the same root" "$(root_of from-mount)" "$root"
ok "find walks it" bash -c "find '$T/m' | wc -l | grep -qx $(find "$src" | wc -l)"
ok "umount" varve umount --discard "$T/m"

if "$oddtree" "$T/hard" notar; then
	ok "import with sockets and very deep paths" varve import hard dir "$T/hard"
	ok "mount" mount_at hard "$T/m"
	ok "the mount is the directory" same_tree "$T/m" "$T/hard"
	ok "umount" varve umount --discard "$T/m"
fi
rm -rf "$T/hard"

gnutar=(tar --format=posix --xattrs '--xattrs-include=*' --acls --sparse --numeric-owner)
ok "tar of the directory" "${gnutar[@]}" -C "$src" -cf "$T/src.tar" .
ok "import of the tar" varve import tar tar "$T/src.tar"
is "gives the same root" "$(root_of tar)" "$root" || {
	varve diff dir tar | head -20 | sed 's/^/# /'
}
ok "import of a compressed tar from a pipe" bash -c "zstd -q <'$T/src.tar' | varve import piped tar -"
is "gives the same root" "$(root_of piped)" "$root"
rm -f "$T/src.tar"

ok "export as tar" varve export dir tar "$T/out.tar"
ok "export again" varve export tar tar "$T/out2.tar"
ok "gives the same bytes" cmp "$T/out.tar" "$T/out2.tar"
size=$(stat -c %s "$T/out.tar")
ok "holes take no space in it" test "$size" -lt 30000000
mkdir "$T/unpacked"
ok "tar unpacks it" "${gnutar[@]}" -C "$T/unpacked" -xpf "$T/out.tar"
ok "to the same tree" same_tree "$T/unpacked" "$src"
ok "import of the export" varve import round tar "$T/out.tar"
is "gives the same root" "$(root_of round)" "$root"
ok "export to a pipe" bash -c "varve export dir tar - | cmp - '$T/out.tar'"
rm -rf "$T/unpacked" "$T/out.tar" "$T/out2.tar"

ok "export as an OCI image" varve export dir oci "$T/oci"
ok "import of the image" varve import image oci "$T/oci"
is "gives the same root" "$(root_of image)" "$root"
if command -v skopeo >/dev/null; then
	ok "skopeo inspects it" bash -c "skopeo inspect oci:'$T/oci' >'$T/inspect'"
	is "one layer" "$(jq '.Layers | length' "$T/inspect")" 1
	ok "skopeo copies it to a docker archive" skopeo copy -q "oci:$T/oci" \
		"docker-archive:$T/docker.tar:some/name:tag"
	ok "import of that" varve import docker oci "$T/docker.tar"
	is "gives the same root" "$(root_of docker)" "$root"
else
	skip "skopeo reads the image" "no skopeo"
fi
# What an image cannot hold is an error, a socket is counted.
mkdir "$T/wh" && echo x >"$T/wh/.wh.file"
python3 -c 'import os, sys; os.mknod(sys.argv[1], 0o140600)' "$T/wh/socket"
ok "import of a name that begins with .wh." varve import wh dir "$T/wh"
not_ok "is no image" varve export wh oci "$T/no-image"
like "and says why" "$(varve export wh oci "$T/no-image" 2>&1)" '\.wh\.file: names that begin'
not_ok "and leaves nothing behind" test -e "$T/no-image"
like "a tar counts the sockets" "$(varve export wh tar "$T/wh.tar" 2>&1)" '1 sockets left out.*socket\)'
ok "without a daemon, too" test "$(varve --store "$STATE" export wh tar - 2>&1 >/dev/null | wc -l)" = 1
ok "import of it" varve import wh2 tar "$T/wh.tar"
is "the name is there" "$(varve cat wh2:.wh.file)" x

# What another system wrote, and Linux cannot show.
printf x >"$T/x"
setfattr -n user.keep -v v "$T/x" && tar -C "$T" --format=pax --xattrs \
	--pax-option='SCHILY.xattr.com.apple.x:=p' -cf "$T/mac.tar" x
like "an import counts xattrs that no mount shows" "$(varve import mac tar "$T/mac.tar" 2>&1)" \
	'1 extended attributes kept that no mount shows \(the first: x\)'
ok "mount" mount_at mac "$T/m"
is "the mount lists what can be read" "$(getfattr --absolute-names -m - --only-values "$T/m/x" 2>&1)" v
ok "import of the mount" varve import mac2 dir "$T/m"
is "keeps the others" "$(varve --json stat mac2:x | jq -c '.xattrs | keys')" '["user.keep"]'
ok "umount" varve umount --discard "$T/m"
is "the snapshot has both" "$(varve --json stat mac:x | jq -c '.xattrs | keys')" \
	'["com.apple.x","user.keep"]'
ok "verify" varve verify
done_testing
