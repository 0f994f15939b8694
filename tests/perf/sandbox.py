"""A sandbox of a cached image until its first command's output is here, beside podman run."""
import concurrent.futures
import http.client
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import time

WORDS = "ready"


class Client(http.client.HTTPConnection):
    """The API on a unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=300)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def call(self, method, path, body=None):
        """The reply's object; a failure ends the benchmark."""
        self.request(method, path, None if body is None else json.dumps(body),
                     {"Content-Type": "application/json"})
        reply = self.getresponse()
        text = reply.read()
        if reply.status >= 400:
            raise SystemExit(f"bench: {method} {path}: {reply.status} {text.decode()}")
        return json.loads(text) if text else None


class Varve:
    """A daemon with one runtime."""

    def __init__(self, label, daemon, image):
        self.label, self.socket, self.image = label, daemon.socket, image
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
            raise SystemExit(f"bench: {self.label}: {done}")
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
        self.label = label
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
            raise SystemExit(f"bench: {self.label}: {rest}")
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


def percentile(values, part):
    """Of values in any order."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def mount_times(daemon, snapshot, work, rounds):
    """Milliseconds of POST /api/mounts alone."""
    client, times = Client(daemon.socket), []
    place = os.path.join(work, "place")
    os.mkdir(place)
    for _ in range(rounds):
        start = time.monotonic()
        made = client.call("POST", "/api/mounts", {"snapshot": snapshot, "mountpoint": place,
                                                   "containerRoot": True})
        times.append((time.monotonic() - start) * 1e3)
        client.call("DELETE", f"/api/mounts/{made['id']}?discard=1")
    return times


def rows(sides):
    """Of the table."""
    return [(s.label, f"{statistics.median(s.total):.1f}", f"{percentile(s.total, 0.95):.1f}",
             f"{statistics.median(s.create):.1f}" if any(s.create) else "",
             f"{statistics.median(s.together):.0f}", f"{statistics.median(s.last):.0f}")
            for s in sides]


def runtimes():
    """Those that are installed."""
    return [r for r in ("runc", "crun") if shutil.which(r)]
