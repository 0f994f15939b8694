"""Walks of a whole tree, with every file's size."""
from lab import Overlay, Squashfs, Varve, optional
from report import at_most, faster
from workloads import Work, measure

WALK = "find . -xdev -printf '%s\\n'"


def bench(lab):
    """All of it."""
    tree = lab.full()
    sides = [Varve(lab.daemon("full", tree), "full", lab.path("walk", "varve")),
             optional(Overlay, tree, lab.path("walk", "over")),
             optional(lambda: Squashfs(lab.squashfs(tree), lab.path("walk", "fuse"),
                                       "squashfuse_ll"))]
    rows = measure(sides, [
        Work("walk, cold: find -printf %s", WALK,
             {"overlayfs": at_most(1), "squashfuse_ll": faster(5)}, cold=True),
        Work("walk, warm", WALK, {"overlayfs": at_most(1.1), "squashfuse_ll": None},
             before=WALK + " >/dev/null"),
    ])
    for side in filter(None, sides):
        side.close()
    return "find(1) over a Debian root with a git repository in it", rows
