"""A checkpoint of a live mount: how long its programs wait, and until it is sealed."""
import os
import time

from changes import Writer, change
from common import Client, QUICK, have, measure_in_turns, run
from lab import BIG_MB, FEW, Overlay, Varve, optional
from report import Row, faster, within

PAUSE = "snapshotd_checkpoint_pause_seconds "


class VarveSide:
    """POST /api/mounts/ID/checkpoint, waiting until it is sealed."""

    label = "Varve"

    def __init__(self, daemon, snapshot, root):
        self.side = Varve(daemon, snapshot, root)
        self.root, self.client = root, Client(daemon.socket)
        mounts = self.client.call("GET", "/api/mounts")
        self.mount = [m["id"] for m in mounts if m["mountpoint"] == root][0]
        self.pauses, self.waits = [], []

    def keep(self):
        """Seconds until it is sealed. pauses: what the daemon says; waits: what a program saw."""
        with Writer(os.path.join(self.root, "written")) as writer:
            start = time.monotonic()
            self.client.call("POST", f"/api/mounts/{self.mount}/checkpoint", {"wait": True})
            seconds = time.monotonic() - start
        self.waits.append(writer.longest)
        metrics = self.client.text("GET", "/metrics")
        self.pauses += [float(line[len(PAUSE):]) * 1e3 for line in metrics.splitlines()
                        if line.startswith(PAUSE)]
        return seconds

    def close(self):
        """Unmount."""
        self.client.close()
        self.side.close()


class Tar:
    """
    tar of the upper of an overlayfs that has the same changes, to the disk. A program writes
    there, too, though into a file that tar does not read, as it would complain of that.
    """

    label = "tar of overlayfs's upper, synced"

    def __init__(self, overlay, place):
        self.side, self.root, self.archive = overlay, overlay.root, place + ".tar"
        self.written = place + ".written"

    def keep(self):
        """Seconds."""
        with Writer(self.written):
            start = time.monotonic()
            run("tar", "-cf", self.archive, "-C", self.side.upper, ".")
            run("sync", self.archive)
            seconds = time.monotonic() - start
        os.unlink(self.archive)
        return seconds

    def close(self):
        """Nothing: restic has the mount as well, or not."""


class Restic:
    """restic backup of the same upper, likewise, into a repository that has the one before."""

    label = "restic backup of overlayfs's upper"

    def __init__(self, overlay, place):
        self.side, self.root = overlay, overlay.root
        self.written = place + ".written"
        self.argv = ["restic", "-q", "-r", place + ".repo", "--cache-dir", place + ".cache"]
        os.environ["RESTIC_PASSWORD"] = "bench"
        run(*self.argv, "init")

    def keep(self):
        """Seconds."""
        with Writer(self.written):
            start = time.monotonic()
            run(*self.argv, "backup", self.side.upper)
            return time.monotonic() - start

    def close(self):
        """Nothing."""


def flip(root, turn):
    """One byte of the big file."""
    with open(os.path.join(root, "big"), "r+b") as f:
        f.seek(12345678)
        f.write(bytes([turn + 1]))


def measure(lab, name, what, daemon, snapshot, tree, changes, turns):
    """Rows of one kind of change: changes(root, turn)."""
    place = lab.path("checkpoint", name)
    os.makedirs(place)
    overlay = optional(Overlay, tree, place + "/over")
    sides = [VarveSide(daemon, snapshot, place + "/varve")]
    if overlay:
        sides.append(Tar(overlay, place + "/tar"))
    restic = optional(Restic, overlay, place + "/restic") if overlay and have("restic") else None
    if restic:
        sides.append(restic)
    times = {s.label: [] for s in sides}

    def keep(turn, side):
        changes(side.root, turn * 2 + (not isinstance(side, Tar)))  # both of one upper: other bytes
        os.sync()
        seconds = side.keep()
        if turn > 0:  # the first is that of all that was there, and warms caches
            times[side.label].append(seconds * 1e3)

    measure_in_turns(sides, turns + 1, keep)
    mine = sides[0]
    for side in sides:
        side.close()
    if overlay:
        overlay.close()
    return [Row(f"{what}: pause, as the daemon says", mine.pauses[1:], "ms", "", None,
                within(10, "ms")),
            Row(f"{what}: longest write of a program", mine.waits[1:], "ms", "", None,
                within(10, "ms")),
            *[Row(f"{what}: until sealed", times["Varve"], "ms", s.label, times[s.label],
                  faster()) for s in sides[1:]]]


def bench(lab):
    """All of it."""
    turns, less, more = (1, 100, FEW) if QUICK else (5, 1000, 10000)
    daemon, full = lab.generated(), lab.full()
    rows = []
    for count in (less, more):
        rows += measure(lab, str(count), f"{count:,} changed files", daemon, "few", lab.small(),
                        lambda root, turn, n=count: change(root, n, turn), turns)
    daemon.stop()
    rows += measure(lab, "big", f"one byte in {BIG_MB} MiB", lab.daemon("full", full), "full",
                    full, flip, turns)
    return "Checkpoints of a live mount in which a program writes", rows
