"""A fork of a live mount with changed files, to the first stat in it."""
import ctypes
import os
import shutil
import struct
import subprocess
import time

from changes import LIBC, Writer, change, file_of, mount_overlay, unmount
from common import Client, Failed, QUICK, Skip, have, leave_out, measure_in_turns, run
from lab import Overlay, Varve, optional
from report import Row, within

COUNT = 100 if QUICK else 1000
SNAP_CREATE = ctypes.c_ulong(0x50009401)  # BTRFS_IOC_SNAP_CREATE of linux/btrfs.h


class VarveFork:
    """POST /api/mounts/ID/fork."""

    label = "Varve"

    def __init__(self, lab):
        self.daemon = lab.generated()
        self.side = Varve(self.daemon, "few", lab.path("fork", "varve"))
        self.root, self.place = self.side.root, lab.path("fork", "varve.fork")
        self.client = Client(self.daemon.socket)
        mounts = self.client.call("GET", "/api/mounts")
        self.mount = [m["id"] for m in mounts if m["mountpoint"] == self.root][0]
        os.mkdir(self.place)

    def fork(self):
        """Seconds."""
        start = time.monotonic()
        made = self.client.call("POST", f"/api/mounts/{self.mount}/fork",
                                {"mountpoint": self.place})
        os.stat(os.path.join(self.place, file_of(1)))
        seconds = time.monotonic() - start
        with open(os.path.join(self.place, file_of(1)), "rb") as f:
            self.seen = f.read(8)
        self.client.call("DELETE", f"/api/mounts/{made['id']}?discard=1")
        return seconds

    def close(self):
        """Unmount."""
        self.client.close()
        self.side.close()


class OverlayFork:
    """cp -a of the upper and a mount: what it copies must not be written meanwhile."""

    label = "cp -a of the upper, overlayfs"

    def __init__(self, lab):
        self.side = Overlay(lab.small(), lab.path("fork", "over"))
        self.root, self.copy = self.side.root, lab.path("fork", "over.fork")

    def fork(self):
        """Seconds."""
        start = time.monotonic()
        os.mkdir(self.copy)
        os.mkdir(self.copy + "/scratch")
        os.mkdir(self.copy + "/root")
        run("cp", "-a", self.side.upper, self.copy + "/upper")
        mount_overlay(self.side.tree, self.copy + "/upper", self.copy + "/scratch",
                      self.copy + "/root")
        os.stat(os.path.join(self.copy, "root", file_of(1)))
        seconds = time.monotonic() - start
        with open(os.path.join(self.copy, "root", file_of(1)), "rb") as f:
            self.seen = f.read(8)
        unmount(self.copy + "/root")
        shutil.rmtree(self.copy)
        return seconds

    def close(self):
        """Unmount."""
        self.side.close()


class BtrfsFork:
    """A snapshot of a subvolume, on a loop device."""

    label = "btrfs snapshot"

    def __init__(self, lab):
        with open("/proc/filesystems", encoding="ascii") as f:
            known = any(line.split()[-1] == "btrfs" for line in f)
        if not have("mkfs.btrfs"):
            raise Skip("btrfs-progs is not installed")
        image, self.disk = lab.path("btrfs.image"), lab.path("fork", "btrfs")
        os.mkdir(self.disk)
        run("truncate", "-s", "2G", image)
        run("mkfs.btrfs", "-q", image)
        if subprocess.run(["mount", "-o", "loop", image, self.disk], check=False,
                          stderr=subprocess.DEVNULL).returncode != 0:
            leave_out("btrfs does not mount here" if known else "this kernel has no btrfs")
            raise Skip
        self.root, self.copy = self.disk + "/source", self.disk + "/copy"
        run("btrfs", "-q", "subvolume", "create", self.root)
        run("cp", "-a", lab.small() + "/.", self.root)

    def fork(self):
        """Seconds."""
        start = time.monotonic()
        source = os.open(self.root, os.O_RDONLY)
        place = os.open(self.disk, os.O_RDONLY)
        if LIBC.ioctl(place, SNAP_CREATE, struct.pack("=q4088s", source, b"copy")) != 0:
            raise Failed("bench: a btrfs snapshot failed")
        os.stat(os.path.join(self.copy, file_of(1)))
        seconds = time.monotonic() - start
        os.close(source)
        os.close(place)
        with open(os.path.join(self.copy, file_of(1)), "rb") as f:
            self.seen = f.read(8)
        run("btrfs", "-q", "subvolume", "delete", self.copy)
        return seconds

    def close(self):
        """Unmount."""
        run("umount", self.disk)


def once(side, turn):
    """Milliseconds of a fork, and of the longest write of a program in the source meanwhile."""
    change(side.root, COUNT, turn)
    os.sync()
    time.sleep(0.2)
    with Writer(os.path.join(side.root, "written")) as writer:
        seconds = side.fork()
    if side.seen != struct.pack("<Q", turn):
        raise Failed(f"bench: {side.label}: the fork is not what its source was")
    return seconds * 1e3, writer.longest


def bench(lab):
    """All of it."""
    os.mkdir(lab.path("fork"))
    sides = [s for s in (VarveFork(lab), optional(OverlayFork, lab), optional(BtrfsFork, lab)) if s]
    times = {s.label: [] for s in sides}
    measure_in_turns(sides, 1 if QUICK else 7,
                     lambda turn, side: times[side.label].append(once(side, turn)))
    mine = times["Varve"]
    what = f"fork of a mount with {COUNT:,} changed files"
    rows = [Row(what + ", to its first stat", [t for t, _ in mine], "ms", "", None,
                within(50, "ms")),
            Row("longest write in the source meanwhile", [p for _, p in mine], "ms", "", None,
                within(10, "ms"))]
    for side in sides[1:]:
        theirs = times[side.label]
        rows += [Row(what, [t for t, _ in mine], "ms", side.label, [t for t, _ in theirs]),
                 Row("longest write in the source meanwhile", [p for _, p in mine], "ms",
                     side.label, [p for _, p in theirs])]
    for side in sides:
        side.close()
    return "Forks of a live mount in which a program writes, by the API and by others", rows
