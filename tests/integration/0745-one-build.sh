#!/bin/bash
# tags: model
# timeout: 400
# Eight daemons that share a bucket are asked for the same images at once (I11): exactly one builds
# each; where a builder is killed, at most two do, and all have one image. VARVE_LONG=1: 200 images.
. "${0%/*}/lib.sh"
need root fuse python3
ok 'of eight hosts one builds' env PYTHONDONTWRITEBYTECODE=1 \
	python3 "$SRC/tests/model/hosts/builds.py" "$T/hosts" $((LONG == 1 ? 200 : 16))
sed 's/^/# /' "$T/.out"
done_testing
