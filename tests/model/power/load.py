#!/usr/bin/env python3
"""load.py DIR RECORDER SEED OPS [mapped] [mounts] - the load whose power cuts are replayed.

Starts the daemon on DIR/recorded/state, where DIR/recorded is a mount of RECORDER (record_fs) that
writes DIR/log. Two threads with a mount each write, sync, link, rename, remove, fork and discard,
OPS operations each; a third calls the API: checkpoints, imports, removals, gc, gc --recompress; a
fourth has sandboxes and images (containers.py), a fifth pushes to a bucket and pulls from it
(shares.py). Halfway the daemon is killed and started again.
Marks in the log tell what was promised (oracle.py). At the end all is unmounted and DIR/log is
whole.

For daemons of old commits: `mapped` records what they store in shared mappings, which is written
back all the time, as a kernel may; `mounts` leaves sandboxes, images and buckets out.
"""
import copy
import ctypes
import json
import os
import random
import subprocess
import sys
import tarfile
import threading
import time

import containers
import shares
from daemon import Daemon
from oracle import content

FILES_MAX = 24
WRITE_MAX = 64 << 10  # of one step
# A file whose checkpoint has more content than goes to the database's log. Written in one step.
LARGE = 12 << 20
# Seconds at most between operations of a writer. Most are shorter by far: many operations come
# while something else is being synced.
PAUSE = 0.15
OPS_PER_CONTAINER_OP = 8
OPS_PER_SHARE_OP = 8
LIBC = ctypes.CDLL(None)
SYNC_FILE_RANGE_WRITE = 2  # begin writing, do not wait


class Marks:
    """Where the threads tell what they begin and what was acknowledged."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY)
        self.lock = threading.Lock()
        self.count = 0

    def _put(self, mark):
        data = json.dumps(mark).encode()
        if os.pwrite(self.fd, data, 0) != len(data):
            raise RuntimeError("a mark is cut short")

    def begin(self, **mark):
        with self.lock:
            self.count += 1
            number = self.count
            self._put({"begin": number, **mark})
        return number

    def end(self, number, result=True):
        with self.lock:
            self._put({"end": number, "result": result})


class Load:
    """What the threads share."""

    def __init__(self, top, daemon, marks, mapped):
        self.top = top
        self.daemon = daemon
        self.marks = marks
        self.bucket = os.path.join(top, "recorded/far/bucket")
        self.mapped = mapped
        self.failed = False

    def call(self, mark, *args, result=lambda answer: True):
        """A call of the API, between its marks. None fails: if one does, that is a fault."""
        number = self.marks.begin(**mark)
        self.marks.end(number, result(self.daemon.varve(*args)))

    def http(self, mark, method, path, body=None, result=lambda answer: True):
        """The same without the command, which takes longer than most calls. Its result."""
        number = self.marks.begin(**mark)
        answer = result(self.daemon.api(method, path, body))
        self.marks.end(number, answer)
        return answer


def root_of(answer):
    return answer["root"]


class File:
    """What a writer knows of a file, whichever names it has."""

    def __init__(self, size):
        self.size = size
        self.xattrs = []


class Writer:
    """Operations on one mount, and what is in it."""

    def __init__(self, load, rng, name):
        self.load = load
        self.rng = rng
        self.name = name
        self.place = os.path.join(load.top, "m", name)
        self.files = {}  # path: File
        self.dirs = {"": 0}
        self.tag = rng.randint(0, 1 << 30)
        self.made = 0

    def path(self, path):
        return os.path.join(self.place, path)

    def do(self, steps, run):
        number = self.load.marks.begin(mount=self.name, do=steps)
        run()
        if self.load.mapped:
            write_back_mapped(self.load.daemon, os.path.join(self.load.top, "recorded/"))
        self.load.marks.end(number)

    def mount(self, of=None):
        """An empty mount, or a fork of another."""
        os.makedirs(self.place)
        mark = {"api": "mount", "mount": self.name, "place": self.place}
        if of is None:
            self.load.call(mark, "mount", "empty", self.place)
        else:
            self.load.call({**mark, "of": of.name}, "fork", of.place, self.place)
            self.files, self.dirs = copy.deepcopy(of.files), dict(of.dirs)

    def mount_snapshot(self, snapshot, files):
        """files: what `content` takes of each."""
        os.makedirs(self.place)
        self.load.http({"api": "mount", "mount": self.name, "files": files}, "POST", "/api/mounts",
                       {"snapshot": snapshot, "mountpoint": self.place})
        self.files = {path: File(size) for path, (_, _, size) in files.items()}

    def discard(self):
        self.load.call({"api": "umount", "mount": self.name}, "umount", "--discard", self.place)

    def new_name(self):
        self.made += 1
        d = self.rng.choice(list(self.dirs))
        return (d + "/" if d else "") + f"{self.name}{self.made}"

    def sync(self, path):
        data_only = self.rng.random() < 0.4

        def run():
            fd = os.open(self.path(path), os.O_RDONLY)
            (os.fdatasync if data_only else os.fsync)(fd)
            os.close(fd)
        self.do([["sync", path]], run)

    def pieces(self, path, offset, size):
        """The steps of writing size bytes."""
        steps = []
        if size == LARGE:
            self.tag += 3 - self.tag % 3  # what cannot be compressed
            return [["write", path, offset, size, self.tag]]
        while size:
            n = min(size, WRITE_MAX)
            self.tag += 1
            steps.append(["write", path, offset, n, self.tag])
            offset += n
            size -= n
        return steps

    def write_steps(self, steps, flags, sync):
        def run():
            fd = os.open(self.path(steps[0][1]), flags, 0o644)
            for s in steps:
                if s[0] == "write":
                    data = content(s[4], s[2], s[3])
                    if os.pwrite(fd, data, s[2]) != len(data):
                        raise RuntimeError("short write")
                elif s[0] == "truncate":
                    os.ftruncate(fd, s[2])
            if sync:
                os.fsync(fd)
            os.close(fd)
        self.do(steps + ([["sync", steps[0][1]]] if sync else []), run)

    def one(self):
        """One operation."""
        rng = self.rng
        kind = rng.choices(("new", "over", "truncate", "sync", "syncdir", "rename", "replace",
                            "unlink", "mkdir", "rmdir", "link", "xattr"),
                           (20, 14, 4, 18, 5, 8, 8, 9, 4, 2, 5, 6))[0]
        path = rng.choice(list(self.files)) if self.files else None
        if kind in ("new", "replace") or path is None:
            self.new_file(kind == "replace" and path)
        elif kind == "over":
            size = self.files[path].size
            offset = rng.choice((size, rng.randint(0, size), rng.randint(0, size // 4096) * 4096,
                                 size + rng.randint(1, 100000)))
            n = rng.choice((rng.randint(1, 300), rng.randint(1, 20000)))
            self.write_steps(self.pieces(path, offset, n), os.O_WRONLY, rng.random() < 0.4)
            self.files[path].size = max(size, offset + n)
        elif kind == "truncate":
            size = rng.randint(0, self.files[path].size + 10000)
            self.write_steps([["truncate", path, size]], os.O_WRONLY, rng.random() < 0.4)
            self.files[path].size = size
        elif kind == "sync":
            self.sync(path)
        elif kind == "syncdir":
            self.sync(rng.choice(list(self.dirs)))
        elif kind == "rename":
            to = self.new_name()
            self.do([["rename", path, to]], lambda: os.rename(self.path(path), self.path(to)))
            self.files[to] = self.files.pop(path)
        elif kind == "link" and len(self.files) < FILES_MAX:
            to = self.new_name()
            self.do([["link", path, to]], lambda: os.link(self.path(path), self.path(to)))
            self.files[to] = self.files[path]
        elif kind == "xattr":
            self.xattr(path)
        elif kind == "unlink" or len(self.files) > FILES_MAX:
            self.do([["unlink", path]], lambda: os.unlink(self.path(path)))
            del self.files[path]
        elif kind == "mkdir" and len(self.dirs) < 6:
            d = self.new_name()
            self.do([["mkdir", d]], lambda: os.mkdir(self.path(d)))
            self.dirs[d] = 0
        elif kind == "rmdir":
            self.remove_dir()

    def xattr(self, path):
        """Set one, or another value of one, or remove one."""
        known = self.files[path].xattrs
        if known and self.rng.random() < 0.3:
            name = known.pop()
            self.do([["xattr", path, name, None]],
                    lambda: os.removexattr(self.path(path), f"user.{name}"))
            return
        name = self.rng.choice("abc")
        value = f"{name}{self.made}" * self.rng.choice((1, 10, 300))
        self.do([["xattr", path, name, value]],
                lambda: os.setxattr(self.path(path), f"user.{name}", value.encode()))
        if name not in known:
            known.append(name)

    def new_file(self, replaces):
        rng = self.rng
        while len(self.files) > FILES_MAX:
            old = rng.choice(list(self.files))
            self.do([["unlink", old]], lambda: os.unlink(self.path(old)))
            del self.files[old]
        path = self.new_name()
        size = rng.choices((0, rng.randint(1, 3000), rng.randint(3000, 60000),
                            rng.randint(60000, 400000), rng.randint(1 << 20, 2 << 20), LARGE),
                           (1, 8, 6, 3, 0.3, 0.3))[0]
        steps = [["create", path]] + self.pieces(path, rng.choice((0, 0, 0, 70000)), size)
        # What replaces a file is mostly synced before, as editors do.
        self.write_steps(steps, os.O_WRONLY | os.O_CREAT | os.O_EXCL,
                         rng.random() < (0.8 if replaces else 0.4))
        self.files[path] = File(steps[-1][2] + steps[-1][3] if size else 0)
        if replaces:
            self.do([["rename", path, replaces]],
                    lambda: os.rename(self.path(path), self.path(replaces)))
            self.files[replaces] = self.files.pop(path)

    def remove_dir(self):
        for d in self.dirs:
            below = d + "/"
            if d and not any(p.startswith(below) for p in [*self.files, *self.dirs]):
                self.do([["rmdir", d]], lambda: os.rmdir(self.path(d)))
                del self.dirs[d]
                return


def write_thread(load, writers, ops):
    """writers: one that stays, and after it maybe a fork of it."""
    first, rng = writers[0], writers[0].rng
    for n in range(1, ops + 1):
        rng.choice(writers).one()
        time.sleep(rng.random() ** 6 * PAUSE)
        if n % 50 == 25 and len(writers) > 1:
            writers.pop().discard()
        elif n % 50 == 0:
            writers.append(Writer(load, rng, f"{first.name}f{first.made}"))
            writers[-1].mount(first)


def api_thread(load, calls, writing):
    tar = os.path.join(load.top, "import.tar")
    while writing.is_set():
        name, kind = calls.next()
        if kind == "checkpoint":
            mount = calls.rng.choice(("a", "b"))
            load.call({"api": kind, "mount": mount, "name": name}, kind,
                      os.path.join(load.top, "m", mount), name, result=root_of)
        elif kind == "rm":
            load.call({"api": kind, "name": name}, kind, name)
        elif kind in ("dir", "tar"):
            load.call({"api": "import", "name": name}, "import", name, kind,
                      tar if kind == "tar" else os.path.dirname(os.path.abspath(__file__)),
                      result=root_of)
        else:
            load.call({"api": "gc"}, *kind.split())
        time.sleep(calls.rng.random() * 0.05)


def write_back_mapped(daemon, below):
    """The kernel writes mapped pages when it likes; here, at once."""
    try:
        with open(f"/proc/{daemon.process.pid}/maps", encoding="utf-8") as f:
            fields = [line.split(maxsplit=5) for line in f]
    except (AttributeError, OSError):  # the daemon has ended
        return
    for path in {f[5].strip() for f in fields if "s" in f[1] and f[5:] and f[5].startswith(below)}:
        try:
            fd = os.open(path, os.O_RDONLY)
        except OSError:  # removed
            continue
        LIBC.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), SYNC_FILE_RANGE_WRITE)
        os.close(fd)


def more_thread(_, what, count):
    what.some_more(count)


class Calls:
    """The calls of the API, in random order, and the snapshots that they made."""

    def __init__(self, rng):
        self.rng = rng
        self.names = []
        self.count = 0

    def next(self):
        """A name and what to do with it."""
        kind = self.rng.choices(("checkpoint", "rm", "dir", "tar", "gc", "gc --recompress"),
                                (10, 6, 2, 2, 3, 2))[0]
        if kind == "rm" and len(self.names) > 2:
            return self.names.pop(self.rng.randrange(len(self.names))), kind
        if kind == "rm":
            kind = "checkpoint"
        self.count += 1
        if not kind.startswith("gc"):
            self.names.append(f"s{self.count}")
        return f"s{self.count}", kind


def guarded(load, run, *args):
    try:
        run(load, *args)
    except BaseException:
        load.failed = True
        raise


def run_load(load, seed, ops, far):
    """far: what the bucket has; None: neither that nor sandboxes nor images."""
    load.call({"api": "import", "name": "empty"}, "import", "empty", "dir",
              os.path.join(load.top, "empty"), result=root_of)
    groups = [[Writer(load, random.Random(f"{seed} {name}"), name)] for name in ("a", "b")]
    for group in groups:
        group[0].mount()
    others = []
    if far is not None:
        load.call({"api": "import", "name": containers.BASE}, "import", containers.BASE, "dir",
                  containers.make_base(load.top), result=root_of)
        load.call({"api": "remote_add", "name": "main"}, "remote", "add", "main",
                  f"file://{load.bucket}")
        others = [(containers.Containers(load, random.Random(f"{seed} containers")),
                   ops // 2 // OPS_PER_CONTAINER_OP),
                  (shares.Shares(load, random.Random(f"{seed} shares"), far,
                                 lambda name: Writer(load, random.Random(f"{seed} {name}"), name)),
                   ops // 2 // OPS_PER_SHARE_OP)]
    calls = Calls(random.Random(f"{seed} api"))
    for part in range(2):
        if part:
            load.daemon.kill()
            load.daemon.start()
        writing = threading.Event()
        writing.set()
        threads = [threading.Thread(target=guarded, args=(load, write_thread, group, ops // 2))
                   for group in groups]
        threads += [threading.Thread(target=guarded, args=(load, more_thread, *of))
                    for of in others]
        api = threading.Thread(target=guarded, args=(load, api_thread, calls, writing))
        for t in [*threads, api]:
            t.start()
        for t in threads:
            t.join()
        writing.clear()
        api.join()
        if load.failed:
            raise RuntimeError("the load failed")


def wait_for(condition):
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)


def main():
    top, recorder, seed, ops = os.path.abspath(sys.argv[1]), *sys.argv[2:5]
    mapped, only_mounts = "mapped" in sys.argv[5:], "mounts" in sys.argv[5:]
    recorded = os.path.join(top, "recorded")
    for d in ("backing", "recorded", "m", "empty"):
        os.mkdir(os.path.join(top, d))
    with tarfile.open(os.path.join(top, "import.tar"), "w") as t:
        t.add(os.path.dirname(os.path.abspath(__file__)), "in/side")
    record = subprocess.Popen([recorder, *(["-m"] if mapped else []), os.path.join(top, "log"),
                               os.path.join(top, "backing"), recorded])
    wait_for(lambda: os.path.ismount(recorded) or record.poll() is not None)
    daemon = Daemon(os.path.join(recorded, "state"), os.path.join(top, "load.sock"),
                    os.path.join(top, "load.log"))
    try:
        far = None if only_mounts else shares.push_far(
            top, os.path.join(recorded, "far/bucket"), random.Random(f"{seed} far"))
        os.mkdir(os.path.join(recorded, "state"))
        fd = os.open(recorded, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        daemon.start()
        marks = Marks(os.path.join(recorded, ".mark"))
        run_load(Load(top, daemon, marks, mapped), int(seed), int(ops), far)
        os.close(marks.fd)
    finally:
        daemon.stop()
        daemon.unmount_below(os.path.join(top, "m"))
        subprocess.run(["umount", "-l", recorded], check=False)
        try:
            record.wait(3)
        except subprocess.TimeoutExpired:  # another mount namespace has a copy of the mount
            record.terminate()
            record.wait()
    return record.returncode


if __name__ == "__main__":
    sys.exit(main())
