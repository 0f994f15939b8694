"""Snapshots in a bucket: from the command to the first output of a program, at a distance."""
import json
import os
import shutil
import subprocess
import sys
import time

from common import Client, Daemon, Failed, QUICK, SOURCE, Skip, have, peer_does, run, shell
from report import Row, faster, within

DISTANCES = (10,) if QUICK else (0, 10, 30)  # ms there and back
TURNS = 1 if QUICK else 3
BIG_MIB = 4 if QUICK else 256
PROGRAMS = {"bash": ("bash", "-c", "true"),
            "python": ("python3", "-c", "import json, ssl, asyncio")}
# ms that a start with a hot object may take longer than from the store.
LIMITS = {("bash", 10): 120, ("bash", 30): 180, ("python", 10): 150, ("python", 30): 220}
CEPH = """
T=$1 SRC=$2
bail() { echo "$*" >&2; exit 1; }
. "$SRC/tests/integration/ceph.sh"
start_ceph && make_bucket bench
echo "$S3_PORT $AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY $AWS_REGION"
read -r _
stop_ceph
"""


class Service:
    """A program that prints a line when it is there, and ends with its input."""

    def __init__(self, *argv):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.line = self.process.stdout.readline().strip()
        if not self.line:
            raise Failed(f"bench: {argv[0]} does not start")

    def ask(self):
        """Its answer to a line."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self):
        """End it."""
        self.process.stdin.close()
        self.process.wait(60)


class Distance(Service):
    """A proxy to a port of this host."""

    def __init__(self, port, ms):
        super().__init__(sys.executable, os.path.join(SOURCE, "tests/perf/distance.py"), str(port),
                         str(ms))
        self.port = int(self.line)

    def requests(self):
        """Those since this was asked last: see distance.py."""
        return json.loads(self.ask())["requests"]


def depth(requests):
    """How many of them follow each other at most, each begun when the one before had ended."""
    longest: list = []  # (how many end with that request, its end)
    for begin, end, *_ in sorted(requests):
        longest.append((1 + max((n for n, ended in longest if ended <= begin), default=0), end))
    return max((n for n, _ in longest), default=0)


class Start:
    """What one start took: seconds to the end of bash, and of python after it; what it fetched."""

    def __init__(self, mount, root):
        begin = time.monotonic()
        mount()
        run("chroot", root, *PROGRAMS["bash"])
        self.bash = time.monotonic() - begin
        run("chroot", root, *PROGRAMS["python"])
        self.python = time.monotonic() - begin
        self.requests = self.bytes = self.depth = None


class Host:
    """A daemon that has nothing, with the bucket as a remote."""

    made = 0

    def __init__(self, lab, port, trace_ms=None):
        Host.made += 1
        self.directory = lab.path("share", f"host{Host.made}")
        if trace_ms:
            os.environ["VARVE_TRACE_MS"] = str(trace_ms)
        self.daemon = Daemon(self.directory)
        os.environ.pop("VARVE_TRACE_MS", None)
        self.root = self.directory + ".root"
        os.mkdir(self.root)
        self.daemon.varve("remote", "add", "main", "s3://bench/varve", "--endpoint",
                          f"http://127.0.0.1:{port}", "--path-style")

    def metric(self, name):
        """The sum of its lines."""
        client = Client(self.daemon.socket)
        text = client.text("GET", "/metrics")
        client.close()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                   if line.startswith(f"snapshotd_{name}"))

    def start(self, snapshot="main:image"):
        """Mount it, run both programs, unmount."""
        before = [self.metric(n) for n in ("remote_requests_total", "remote_received_bytes_total")]
        result = Start(lambda: self.daemon.varve("mount", "--dev", "--suid", snapshot, self.root),
                       self.root)
        result.requests = self.metric("remote_requests_total") - before[0]
        result.bytes = self.metric("remote_received_bytes_total") - before[1]
        self.daemon.varve("umount", "--discard", self.root)
        return result

    def close(self):
        """End it, and remove all that it has."""
        self.daemon.stop()
        shutil.rmtree(self.directory)
        os.rmdir(self.root)


def once(lab, bucket):
    """The start of a host that has nothing, at that distance."""
    host = Host(lab, bucket.port)
    try:
        bucket.requests()  # those that add the remote
        start = host.start()
        start.depth = depth(bucket.requests())
        return start
    finally:
        host.close()


def leave_hot_object(lab, port):
    """A first use whose end is waited for."""
    host = Host(lab, port, 2000)
    host.start()
    for _ in range(600):
        if host.metric("prefetch_written_total"):
            break
        time.sleep(0.1)
    else:
        raise Failed("bench: no hot object was written")
    host.close()


class Downloads:
    """The image as others get it over HTTP: a tar to unpack, a casync store to mount."""

    def __init__(self, lab):
        self.directory = lab.path("share", "www")
        os.makedirs(self.directory)
        run("sh", "-c", 'zstd -3 -q -T0 <"$0" >"$1"', lab.start_archive(),
            self.directory + "/image.tar.zst")
        # Its mount takes seconds of CPU time, which says nothing in the quick form.
        self.has_casync = not QUICK and have("casync") and peer_does(
            "casync", run, "casync", "make", f"--store={self.directory}/image.castr",
            self.directory + "/image.caidx", lab.root())
        self.server = subprocess.Popen(
            [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory",
             self.directory, "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"})
        self.port = int(self.server.stdout.readline().split(" port ")[1].split()[0])
        self.place = lab.path("share", "download")

    def unpacked(self, distance):
        """The whole image, fetched and unpacked as it comes."""
        os.mkdir(self.place)
        result = Start(lambda: shell(
            f"curl -sSf http://127.0.0.1:{distance.port}/image.tar.zst | zstd -dc | "
            f"tar -xp --numeric-owner --xattrs -C {self.place}", "/"), self.place)
        shutil.rmtree(self.place)
        return result

    def casync(self, distance):
        """casync mount."""
        os.mkdir(self.place)
        url, mounts = f"http://127.0.0.1:{distance.port}", []

        def mount():
            mounts.append(subprocess.Popen(
                ["casync", "mount", f"--store={url}/image.castr", url + "/image.caidx",
                 self.place], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            while not os.path.ismount(self.place):
                if mounts[0].poll() is not None:
                    raise Failed("bench: casync mount has ended")
                time.sleep(0.005)

        try:
            return Start(mount, self.place)
        finally:
            subprocess.run(["umount", "-l", self.place], check=False)
            mounts[0].kill()
            mounts[0].wait()
            os.rmdir(self.place)

    def close(self):
        """End the server."""
        self.server.terminate()
        self.server.wait()


def rows_at(lab, ceph_port, downloads, ms, local):
    """Rows of one distance; the hot object is there."""
    bucket, www = Distance(ceph_port, ms), Distance(downloads.port, ms)
    sides = {"hot": lambda: once(lab, bucket), "tar": lambda: downloads.unpacked(www)}
    if downloads.has_casync:
        sides["casync"] = lambda: downloads.casync(www)
    starts = {name: [] for name in sides}
    for _ in range(TURNS):
        local.append(lab.local.start("image"))
        for name in list(sides):
            if name == "hot":
                starts[name].append(sides[name]())
            elif not peer_does(name, lambda n=name: starts[n].append(sides[n]())):
                del sides[name], starts[name]
    bucket.close()
    www.close()
    mine, rows = starts["hot"], []
    for program in PROGRAMS:
        times = [getattr(s, program) for s in mine]
        here = [getattr(s, program) for s in local[-TURNS:]]
        rows.append(Row(f"{ms} ms away: mount to the end of {program}", times, "s",
                        "Varve, all of it in the store", here))
        limit = LIMITS.get((program, ms))
        if limit:
            rows.append(Row(f"{ms} ms away: {program}, more than from the store",
                            [1000 * (a - b) for a, b in zip(times, here)], "ms", "", None,
                            within(limit, "ms")))
        for name, label in (("tar", "tar.zst over HTTP, unpacked"), ("casync", "casync mount")):
            if name in starts:
                rows.append(Row(f"{ms} ms away: mount to the end of {program}", times, "s", label,
                                [getattr(s, program) for s in starts[name]], faster()))
    return rows, mine


def first_uses(lab, ceph_port):
    """Without a hot object, at each distance."""
    rows = []
    for ms in DISTANCES:
        bucket = Distance(ceph_port, ms)
        starts = [once(lab, bucket) for _ in range(TURNS)]
        bucket.close()
        rows.append(Row(f"{ms} ms away: mount to the end of python, first use anywhere",
                        [s.python for s in starts], "s"))
    rows.append(Row("requests of that", [s.requests for s in starts], "requests", "", None,
                    within(80, "requests")))
    rows.append(Row("of these, one after the other", [s.depth for s in starts], "requests"))
    rows.append(Row("bytes that it fetches", [s.bytes / 1e6 for s in starts], "MB"))
    return rows


def traffic(lab, ceph_port):
    """Pushing, and reading a large file from the bucket."""
    big = lab.path("share", "big")
    os.mkdir(big)
    shell(f"head -c {BIG_MIB}M /dev/urandom > file", big)
    port = ceph_port
    pusher, reader = Host(lab, port), Host(lab, port)
    pusher.daemon.varve("import", "big", "dir", big)
    start = time.monotonic()
    pusher.daemon.varve("push", "big", "main")
    push = time.monotonic() - start
    reader.daemon.varve("mount", "main:big", reader.root)
    start = time.monotonic()
    run("cat", os.path.join(reader.root, "file"), stdout=subprocess.DEVNULL)
    read = time.monotonic() - start
    reader.daemon.varve("umount", "--discard", reader.root)
    pusher.close()
    reader.close()
    shutil.rmtree(big)
    return [Row(f"push of {BIG_MIB} MiB that do not compress", [push], "s"),
            Row("read of it from the bucket, in order", [read], "s")]


def bench(lab):
    """All of it."""
    for program in ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin"):
        if not shutil.which(program):
            raise Skip(f"{program} is not installed (scripts/deps test)")
    os.makedirs(lab.path("share", "ceph"))
    ceph = Service("bash", "-c", CEPH, "ceph", lab.path("share"), SOURCE)
    try:
        if len(ceph.line.split()) != 4:  # why not
            rest = ceph.process.communicate()[0] or ""
            raise Failed(f"bench: Ceph: {ceph.line}\n{rest}")
        port, key, secret, region = ceph.line.split()
        os.environ.update(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret, AWS_REGION=region)
        lab.local = Host(lab, port)
        lab.local.daemon.varve("import", "image", "tar", lab.start_archive())
        lab.local.daemon.varve("push", "image", "main")
        rows = first_uses(lab, port)
        leave_hot_object(lab, port)
        downloads, local = Downloads(lab), []
        for ms in DISTANCES:
            more, starts = rows_at(lab, port, downloads, ms, local)
            rows += more
        downloads.close()
        rows += [Row("requests of a start with a hot object", [s.requests for s in starts],
                     "requests", "", None, within(12, "requests")),
                 Row("one after the other, with a hot object", [s.depth for s in starts],
                     "requests"),
                 Row("bytes that it fetches", [s.bytes / 1e6 for s in starts], "MB")]
        rows += traffic(lab, port)
        lab.local.close()
    finally:
        ceph.close()
    return ("A Debian root in a bucket of Ceph, on this host, behind a proxy that adds the time "
            f"there and back; {TURNS} starts each, in turns, by hosts that have nothing", rows)
