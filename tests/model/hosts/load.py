#!/usr/bin/env python3
"""load.py DIR SECONDS SEED REMOTE - eight daemons that share one bucket, for SECONDS.

REMOTE is the JSON of a remote. Each daemon stands behind faults of its own (VARVE_FAULTS) and is
driven by a thread: it imports and pushes, mounts what others have pushed and reads it, writes over
it, checkpoints and pushes that, deletes, collects the bucket and its store; it is killed at any
moment, also at a request that the plan names, and started again.

Whatever is read has to be what was pushed. A call or a read may fail for a fault, or because
another host has deleted the snapshot; then it is tried again, or left. At the end, without faults:
one collection, `verify --deep` of the bucket, and a host that has nothing reads everything that was
pushed and not deleted. Each store is verified, too.

Prints what was done. Status 1, and what was wrong, if anything was.
"""
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../power"))
from daemon import Daemon, SLOW  # noqa: E402 (found by the line above)

HOSTS = 8
FAULTS = 6          # of the hosts have some
NAMES_MAX = 24      # in the bucket; beyond, each step deletes
BLOCKS = 60         # that files of all hosts are made of
FILES = (3, 20)     # of a snapshot
MOUNTS_MAX = 2
TRIES = 200         # of a read that fails for a fault: a bucket is away for some seconds, too
# What a fault, another host, or a deletion there may bring about.
ALLOWED = (404, 409, 502, 503, 504)


class Wrong(Exception):
    """What must not be."""


class Refused(Exception):
    """A call that failed with a status that is allowed."""


def block(number):
    """A piece of content: some text, some noise."""
    rng = random.Random(number)
    if number % 4 == 0:
        return (b"line %d of block %d\n" % (rng.randrange(1000), number)) * rng.randrange(100, 3000)
    return rng.randbytes(rng.randrange(500, 40000))


def digest(data):
    """Of a file's content."""
    return hashlib.sha256(data).hexdigest()


class Bucket:
    """What the threads know of it together."""

    def __init__(self):
        self.lock = threading.Lock()
        self.files = {}       # name: {path: digest}, from before its push
        self.there = set()    # names whose push was acknowledged
        self.deleted = set()  # names of which a deletion was asked for
        self.wrong = []
        self.done = {}

    def count(self, what):
        """One more of it was done."""
        with self.lock:
            self.done[what] = self.done.get(what, 0) + 1

    def is_deleted(self, name):
        """Or may be. Also where only its parent is: it may have been lazy."""
        with self.lock:
            return name in self.deleted


class Mount:
    """One of a host."""

    def __init__(self, place, name, files):
        self.place = place
        self.name = name    # in the bucket, of what it began with
        self.files = files  # path: digest, as written here


class Host:
    """A daemon and the thread that drives it."""

    def __init__(self, top, number, seed, remote, bucket):
        self.dir = os.path.join(top, f"h{number}")
        self.number = number
        self.rng = random.Random(seed * 100 + number)
        self.bucket = bucket
        self.count = 0
        self.mounts = []
        self.gate = os.path.join(self.dir, "gate")  # while it is there, no push is decided
        self.partner = None                         # another host without other faults
        os.makedirs(self.dir)
        self.daemon = Daemon(os.path.join(self.dir, "state"), os.path.join(self.dir, "sock"),
                             os.path.join(self.dir, "log"))
        self.remote = remote
        self.start(False)
        self.daemon.api("POST", "/api/remotes", {"name": "main", **remote})
        self.restart(True)

    # ---- the daemon ----

    def plan(self):
        """Faults of this host's next life."""
        if self.number >= FAULTS:
            return f"frozen={self.gate},ops=put-once,under=snap/"
        seed = self.rng.randrange(1 << 30)
        if self.number < FAULTS - 2:
            die = f",die={self.rng.randrange(20, 600)}" if self.rng.random() < 0.7 else ""
            # Some are slow, so that collections meet their pushes.
            delay = "20ms:0.2" if self.number % 2 else "400ms:0.3"
            return (f"seed={seed},drop=0.01,lost=0.02,repeat=0.03,delay={delay},"
                    f"throttle=0.005{die}")
        # Only what is checked by its digest may lie.
        if self.number == FAULTS - 2:
            return f"seed={seed},flip=0.1,cut=0.05,ops=get,under=pack/"
        return f"seed={seed},stale=0.5,flip=0.05,ops=get,under=hot/"

    def start(self, faults):
        """With faults if this host has some."""
        env = os.environ
        with START:
            if faults and self.number < HOSTS:
                env["VARVE_FAULTS"] = self.plan()
            try:
                self.daemon.start()
            finally:
                env.pop("VARVE_FAULTS", None)

    def restart(self, faults):
        """After its end, or kill it. One that dies as it starts does so at its fault."""
        self.daemon.kill()
        for _ in range(20):
            try:
                self.start(faults)
                return
            except RuntimeError:
                if self.daemon.process.poll() != -9:
                    raise
        raise Wrong(f"host {self.number} does not start")

    def died(self):
        """At a request that its plan named."""
        code = self.daemon.process.poll()
        if code not in (None, -9):
            raise Wrong(f"daemon {self.number} ended with {code}")
        return code is not None

    def dies(self):
        """The same, where it broke a connection: its end may be near."""
        for _ in range(100):
            if self.died():
                return True
            time.sleep(0.02)
        return False

    def call(self, method, path, body=None):
        """The answer. Refused for what may be."""
        try:
            return self.daemon.api(method, path, body)
        except OSError as e:
            if self.dies():
                raise Refused("died") from e
            raise Wrong(f"host {self.number}: {method} {path}: {e}") from e
        except RuntimeError as e:
            status = int(str(e).split(": ", 1)[1].split(" ", 1)[0])
            if status in ALLOWED:
                raise Refused(str(e)) from e
            raise Wrong(f"host {self.number}: {e}") from e

    # ---- content ----

    def make(self):
        """The content of a file."""
        return b"".join(block(self.rng.randrange(BLOCKS)) for _ in range(self.rng.randint(1, 3))) + \
            self.rng.randbytes(self.rng.randrange(1000))

    def new_name(self):
        """In the bucket and here."""
        self.count += 1
        return f"h{self.number}-{self.count}"

    def read(self, path, name):
        """All of a file; None if the snapshot was deleted in the bucket, or the daemon has died."""
        for _ in range(TRIES):
            try:
                with open(path, "rb") as f:
                    return f.read()
            except OSError as e:
                if self.died() or self.bucket.is_deleted(name):
                    self.bucket.count("reads of what was deleted" if self.bucket.is_deleted(name)
                                      else "reads that a death ended")
                    return None
                error = e
                time.sleep(0.05)
        raise Wrong(f"host {self.number}: {path} of {name}: {error}")

    def check(self, mount, paths):
        """That these files are right."""
        for path in paths:
            data = self.read(os.path.join(mount.place, path), mount.name)
            if data is None:
                return
            if digest(data) != mount.files[path]:
                raise Wrong(f"host {self.number}: {path} of {mount.name} is not what was pushed")
            self.bucket.count("files read")

    # ---- steps ----

    def push(self, name, files):
        """A snapshot that is here. It is there if the call says so; maybe also if not."""
        with self.bucket.lock:
            self.bucket.files[name] = dict(files)
        self.call("POST", f"/api/snapshots/{name}/push", {"remote": "main"})
        with self.bucket.lock:
            self.bucket.there.add(name)

    def push_new(self):
        """Files that it makes."""
        name, files = self.new_name(), {}
        source = os.path.join(self.dir, name)
        os.mkdir(source)
        for i in range(self.rng.randint(*FILES)):
            data = self.make()
            files[f"f{i}"] = digest(data)
            with open(os.path.join(source, f"f{i}"), "wb") as f:
                f.write(data)
        try:
            self.daemon.varve("import", name, "dir", source)
            self.push(name, files)
        finally:
            subprocess.run(["rm", "-rf", source], check=True)

    def some_name(self):
        """Of what the bucket has. None: nothing."""
        names = [s["name"] for s in self.call("GET", "/api/remotes/main/snapshots")]
        if len(names) > NAMES_MAX:
            self.delete(names)
        return self.rng.choice(names) if names else None

    def mount(self):
        """What another has pushed, lazily, in place of another mount."""
        name = self.some_name()
        if not name:
            return
        if len(self.mounts) >= MOUNTS_MAX:
            self.unmount()
        with self.bucket.lock:
            files = dict(self.bucket.files[name])
        place = os.path.join(self.dir, f"m{self.count}-{len(self.mounts)}-{name}")
        os.makedirs(place, exist_ok=True)
        self.call("POST", "/api/mounts", {"snapshot": f"main:{name}", "mountpoint": place})
        mount = Mount(place, name, files)
        self.mounts.append(mount)
        if set(os.listdir(place)) != set(files) and not self.died():
            raise Wrong(f"host {self.number}: {name} has other files: {os.listdir(place)}")
        self.read_some()

    def read_some(self):
        """Some files of a mount."""
        if self.mounts:
            mount = self.rng.choice(self.mounts)
            self.check(mount, self.rng.sample(sorted(mount.files), min(4, len(mount.files))))

    def collect_beside(self, parent):
        """Delete it while a push that relies on it stands before its record; collect twice."""
        time.sleep(1)  # it has read by then what it relies on
        opened = threading.Timer(2.5, os.unlink, [self.gate])
        opened.start()
        try:
            with self.bucket.lock:
                self.bucket.deleted.add(parent)
            self.partner.daemon.api("DELETE", f"/api/remotes/main/snapshots/{parent}")
            for _ in range(2):
                self.partner.daemon.api("POST", "/api/remotes/main/gc",
                                        {"graceSeconds": 0, "pushSeconds": 60})
            self.bucket.count("collections beside a push")
        except (OSError, RuntimeError):
            pass  # it was killed, or another has deleted it, too
        opened.join()

    def race(self):
        """A change of a snapshot that goes while it is pushed."""
        if not self.partner or not self.mounts:
            return
        mount = self.rng.choice(self.mounts)
        if self.bucket.is_deleted(mount.name):
            return
        with open(self.gate, "w", encoding="ascii"):
            pass
        beside = threading.Thread(target=self.collect_beside, args=(mount.name,))
        beside.start()
        try:
            self.change(mount)
        finally:
            beside.join()

    def change(self, mount=None):
        """Write over a mount, checkpoint, push."""
        if not self.mounts:
            return
        mount = mount or self.rng.choice(self.mounts)
        name = self.new_name()
        path = f"f{self.rng.randrange(30)}"
        data = self.make()
        try:
            with open(os.path.join(mount.place, path), "wb") as f:
                f.write(data)
            mount.files[path] = digest(data)
            self.daemon.varve("checkpoint", mount.place, name)
        except (OSError, RuntimeError) as e:
            if not self.bucket.is_deleted(mount.name) and not self.dies():
                raise Wrong(f"host {self.number}: checkpoint of {mount.name}: {e}") from e
            # What of it has come to be is not known.
            self.forget(mount)
            return
        self.push(name, mount.files)

    def delete(self, names=None):
        """One of the bucket's."""
        name = self.rng.choice(names) if names else self.some_name()
        if name:
            with self.bucket.lock:
                self.bucket.deleted.add(name)
            self.call("DELETE", f"/api/remotes/main/snapshots/{name}")

    def collect(self):
        """The bucket's garbage. Pushes that have died are not waited for."""
        self.call("POST", "/api/remotes/main/gc", {"graceSeconds": 0, "pushSeconds": 2})

    def pull(self):
        """All of a snapshot; its name goes at once."""
        name = self.some_name()
        if name:
            self.call("POST", "/api/snapshots/pull",
                      {"remote": "main", "snapshot": name, "name": ""})

    def tidy(self):
        """The store: old snapshots go, and their chunks."""
        for s in self.call("GET", "/api/snapshots"):
            if self.rng.random() < 0.5:
                self.call("DELETE", f"/api/snapshots/{s['id']}")
        self.call("POST", "/api/gc")

    def forget(self, mount):
        """It is not used any more."""
        self.mounts.remove(mount)
        try:
            self.daemon.varve("umount", "--discard", mount.place)
        except RuntimeError:
            if not self.dies():
                raise

    def unmount(self):
        """A mount."""
        if self.mounts:
            self.forget(self.rng.choice(self.mounts))

    def kill(self):
        """And start again: what was mounted is, and is right."""
        self.restart(True)
        for mount in self.mounts:
            self.check(mount, sorted(mount.files)[:3])

    def run(self, end):
        """Steps until then."""
        kinds = {self.push_new: 5, self.mount: 6, self.read_some: 8, self.change: 5, self.delete: 3,
                 self.pull: 1, self.collect: 4, self.tidy: 1, self.unmount: 1, self.kill: 2,
                 self.race: 6 if self.partner else 0}
        try:
            while time.monotonic() < end and not self.bucket.wrong:
                step = self.rng.choices(list(kinds), kinds.values())[0]
                try:
                    step()
                    self.bucket.count(step.__name__)
                except (Refused, RuntimeError) as e:
                    if not isinstance(e, Refused) and not self.dies():
                        raise Wrong(f"host {self.number}: {step.__name__}: {e}") from e
                    self.bucket.count(f"{step.__name__}, refused")
                if self.died():
                    self.bucket.count("deaths at a request")
                    self.restart(True)
                time.sleep(self.rng.uniform(0, 0.3))
        except Exception as e:  # pylint: disable=broad-except
            with self.bucket.lock:
                self.bucket.wrong.append(str(e) if isinstance(e, Wrong) else repr(e))


START = threading.Lock()  # the environment is the process's


def check_end(top, seed, remote, bucket, hosts):
    """Without faults."""
    for host in hosts:
        host.restart(False)
    first = hosts[0].daemon
    first.api("POST", "/api/remotes/main/gc", {"graceSeconds": 0, "pushSeconds": 0})
    found = first.api("POST", "/api/remotes/main/verify", {"deep": True})
    if found["damaged"] or found["problems"]:
        raise Wrong(f"the bucket is damaged: {found}")
    reader = Host(top, HOSTS, seed, remote, bucket)
    try:
        names = {s["name"] for s in reader.call("GET", "/api/remotes/main/snapshots")}
        lost = bucket.there - bucket.deleted - names
        if lost:
            raise Wrong(f"pushed and not there: {sorted(lost)}")
        for name in sorted(names):
            place = os.path.join(reader.dir, name)
            os.mkdir(place)
            reader.call("POST", "/api/mounts",
                        {"snapshot": f"main:{name}", "mountpoint": place, "readOnly": True})
            if set(os.listdir(place)) != set(bucket.files[name]):
                raise Wrong(f"{name} has other files at the end")
            reader.check(Mount(place, name, bucket.files[name]), sorted(bucket.files[name]))
        for host in hosts:
            verified = host.daemon.varve("verify")
            if verified["damaged"]:
                raise Wrong(f"the store of host {host.number} is damaged: {verified}")
    finally:
        reader.daemon.stop()
    return len(names)


def main():
    """The whole of it."""
    top, seconds, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    remote, bucket = json.loads(sys.argv[4]), Bucket()
    hosts = []
    try:
        for i in range(HOSTS):
            hosts.append(Host(top, i, seed, remote, bucket))
        hosts[-1].partner, hosts[-2].partner = hosts[-2], hosts[-1]
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=h.run, args=(end,)) for h in hosts]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if not bucket.wrong:
            print(check_end(top, seed, remote, bucket, hosts), "snapshots are whole at the end")
    except (Wrong, Refused, RuntimeError) as e:
        bucket.wrong.append(str(e))
    finally:
        for host in hosts:
            host.daemon.stop()
        Daemon.unmount_below(top)
    for what, n in sorted(bucket.done.items()):
        print(f"{n} {what}")
    for text in bucket.wrong:
        print("wrong:", text)
    return 1 if bucket.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
