"""A sandbox of a cached image until its first command's output is here, beside podman run."""
import concurrent.futures
import os
import resource
import shutil
import statistics
import subprocess
import time

from common import Client, Daemon, Failed, QUICK, Skip, have, peer_does
from report import Row

WORDS = "ready"


class Varve:
    """A daemon with one runtime."""

    def __init__(self, label, runtime, daemon, image):
        self.label, self.runtime = label, runtime
        self.socket, self.image = daemon.socket, image
        self.total, self.create, self.together, self.last = [], [], [], []

    def once(self):
        """Milliseconds: until the sandbox is there, until the output is."""
        client = Client(self.socket)
        start = time.monotonic()
        made = client.call("POST", "/api/sandboxes", {"image": self.image, "timeout": 0})
        created = time.monotonic()
        done = client.call("POST", f"/api/sandboxes/{made['sandboxID']}/exec/run",
                           {"cmd": "echo", "args": [WORDS]})
        end = time.monotonic()
        if done["exitCode"] != 0 or done["stdout"] != WORDS + "\n":
            raise Failed(f"bench: {self.label}: {done}")
        client.call("DELETE", f"/api/sandboxes/{made['sandboxID']}")
        client.close()
        return (end - start) * 1e3, (created - start) * 1e3


def limits():
    """Well below our own, which podman's defaults may be above."""
    argv = []
    for name, number in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        hard = resource.getrlimit(number)[1]
        if hard != resource.RLIM_INFINITY:
            argv += ["--ulimit", f"{name}={min(hard, 4096)}:{min(hard, 4096)}"]
    return argv


class Podman:
    """podman run with one runtime, on the unpacked tree: nothing is copied or protected."""

    def __init__(self, label, runtime, tree):
        self.label, self.runtime = label, runtime
        self.argv = ["podman", "--cgroup-manager", "cgroupfs", "--runtime", runtime, "run", "--rm",
                     "--network", "host", *limits(), "--rootfs", tree, "echo", WORDS]
        self.total, self.create, self.together, self.last = [], [], [], []

    def once(self):
        """Milliseconds until the output is here. It goes on to remove the container."""
        start = time.monotonic()
        with subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as process:
            line = process.stdout.readline()
            end = time.monotonic()
            rest = process.stderr.read()
        if line != WORDS + "\n":
            raise Failed(f"bench: {self.label}: {rest}")
        return (end - start) * 1e3, 0


def hidden_unified():
    """
    crun refuses v1 cgroups where controllers are left to v2 beside them, as on some virtual
    machines: how to run a program that does not see those.
    """
    path = "/sys/fs/cgroup/unified"
    try:
        with open(path + "/cgroup.controllers", encoding="utf-8") as f:
            if not f.read().strip():
                return []
    except OSError:
        return []
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c",
            f"umount {path} && mount -t tmpfs tmpfs {path} && exec \"$@\"", "sh"]


def measure(sides, rounds, together):
    """In turns: one at a time, then so many at once."""
    for turn in range(rounds + 1):
        for side in sides:
            total, create = side.once()
            if turn > 0:  # the first one builds the image, and warms caches
                side.total.append(total)
                side.create.append(create)
    for turn in range(3):
        for side in sides:
            with concurrent.futures.ThreadPoolExecutor(together) as pool:
                times = [t.result()[0] for t in [pool.submit(side.once) for _ in range(together)]]
            side.together += times
            side.last.append(max(times))


def rows(sides, together):
    """Varve's sides beside podman's with the same runtime."""
    result = []
    for mine in (s for s in sides if isinstance(s, Varve)):
        theirs = [s for s in sides if isinstance(s, Podman) and s.runtime == mine.runtime]
        peer = theirs[0] if theirs else Podman("", mine.runtime, "")
        with_runtime = f", {mine.runtime}"
        result += [
            Row("a sandbox to its first output" + with_runtime, mine.total, "ms", peer.label,
                peer.total),
            Row("of it until it is made" + with_runtime, mine.create, "ms"),
            Row(f"{together} at once, each" + with_runtime, mine.together, "ms", peer.label,
                peer.together),
            Row(f"{together} at once, until the last" + with_runtime, mine.last, "ms", peer.label,
                peer.last)]
    return result


def mount_times(daemon, snapshot, place, rounds):
    """Milliseconds of POST /api/mounts alone."""
    client, times = Client(daemon.socket), []
    os.mkdir(place)
    for _ in range(rounds):
        start = time.monotonic()
        made = client.call("POST", "/api/mounts", {"snapshot": snapshot, "mountpoint": place,
                                                   "containerRoot": True})
        times.append((time.monotonic() - start) * 1e3)
        client.call("DELETE", f"/api/mounts/{made['id']}?discard=1")
    return times


def bench(lab):
    """All of it."""
    rounds, together = (3, 5) if QUICK else (50, 20)
    tree, sides, daemons = lab.root(), [], []
    image = {"base": "snapshot:debian",
             "steps": [{"type": "run", "args": {"commands": ["echo built >/etc/built"]}}]}
    for runtime in (r for r in ("runc", "crun") if shutil.which(r)):
        hidden = hidden_unified() if runtime == "crun" else []
        daemon = Daemon(lab.path("sandbox." + runtime), "--runtime", runtime, prefix=hidden)
        daemon.varve("import", "debian", "dir", tree)
        daemons.append(daemon)
        sides.append(Varve("Varve", runtime, daemon, image))
        if have("podman") and not hidden:
            podman = Podman("podman run --rootfs", runtime, tree)
            if peer_does(f"{podman.label}, {runtime}", podman.once):
                sides.append(podman)
    if not sides:
        raise Skip("neither runc nor crun is installed")
    measure(sides, rounds, together)
    mounts = mount_times(daemons[0], "debian", lab.path("place"), rounds)
    return ("From the request for a sandbox of a cached image to its first command's output; "
            f"{rounds} each, in turns; a Debian root. The mount alone: "
            f"{statistics.median(mounts):.1f} ms", rows(sides, together))
