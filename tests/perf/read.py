"""Reads of small and big files."""
from common import QUICK
from lab import BIG_MB, Overlay, Squashfs, Varve, optional
from report import at_most, faster
from workloads import Work, fileio, measure

KERNEL = "kernel squashfs-zstd"


def bench(lab):
    """All of it."""
    tree = lab.full()
    sides = [Varve(lab.daemon("full", tree), "full", lab.path("read", "varve")),
             optional(Overlay, tree, lab.path("read", "over")),
             optional(lambda: Squashfs(lab.squashfs(tree), lab.path("read", "squash")))]
    overlay = {"overlayfs": at_most(1.1)}
    head = f"dd if=big bs=1M count={min(BIG_MB, 256)} of=/dev/null"
    warm = "cat big >/dev/null"
    rows = measure(sides, [
        Work("small files, cold: tar c of usr", "tar -c usr | cat",
             {KERNEL: at_most(1), "overlayfs": None}, cold=True),
        Work("small files, warm", "tar -c usr | cat", overlay, before="tar -c usr | cat"),
        Work("big file, cold: 256 MiB read", head, {KERNEL: faster(), "overlayfs": None},
             cold=True),
        Work("big file, warm: all of it read", fileio("seq", "big"), overlay, before=warm),
        Work("big file, warm: mmap, every page touched", fileio("mmap", "big"), overlay,
             before=warm),
        Work("big file, warm: random 4 KiB reads",
             fileio("random", "big", 20000 if QUICK else 200000), overlay, before=warm),
    ])
    for side in filter(None, sides):
        side.close()
    return f"Reads of a Debian root, and of a file of {BIG_MB} MiB", rows
