"""shares.py - what the load does with a bucket: one thread of it.

The bucket is a directory beside the state, on the disk whose power is cut. Another daemon, which is
gone when the load begins, has pushed snapshots to it: of these nothing is here, so that a lazy pull
leaves their chunks there.
"""
import os

from daemon import Daemon
from oracle import content

FAR = 6         # snapshots that the other daemon has pushed
FAR_FILES = 5
FAR_FILE_MAX = 60000
LOCAL_MAX = 4   # snapshots that are here
PUSHED_MAX = 4
WRITES = 4      # on a mount, at a time


def far_files(rng):
    """What each of the other daemon's snapshots has: {path: what `content` takes}. Some of it is in
    several."""
    shared = {f"shared{i}": (rng.randint(0, 1 << 30), 0, rng.randint(1, FAR_FILE_MAX))
              for i in range(2)}
    return [{**shared, **{f"far{n}.{i}": (rng.randint(0, 1 << 30), 0, rng.randint(1, FAR_FILE_MAX))
                          for i in range(FAR_FILES)}} for n in range(FAR)]


def push_far(top, bucket, rng):
    """Fill the bucket. What its snapshots have."""
    every = far_files(rng)
    daemon = Daemon(os.path.join(top, "other"), os.path.join(top, "other.sock"),
                    os.path.join(top, "other.log"))
    daemon.start()
    try:
        daemon.varve("remote", "add", "main", f"file://{bucket}")
        for n, files in enumerate(every):
            source = os.path.join(top, f"far{n}")
            os.mkdir(source)
            for path, of in files.items():
                with open(os.path.join(source, path), "wb") as f:
                    f.write(content(*of))
            daemon.varve("import", f"far{n}", "dir", source)
            daemon.varve("push", f"far{n}", "main")
    finally:
        daemon.stop()
    return every


class Shares:
    """Operations with the bucket, and what there is of it here."""

    def __init__(self, load, rng, far, new_writer):
        """new_writer(name): of a mount (load.py)."""
        self.load = load
        self.rng = rng
        self.far = far
        self.new_writer = new_writer
        self.count = 0
        self.local = {}    # name: what its files have
        self.pushed = []   # names in the bucket
        self.writer = None
        self.spare = False

    def number(self):
        self.count += 1
        return self.count

    def some_more(self, count):
        for _ in range(count):
            kinds = {self.pull: 4, self.mount: 3, self.write: 6, self.checkpoint: 3, self.push: 3,
                     self.forget: 1, self.discard: 1, self.remove: 2, self.change_remotes: 1}
            self.rng.choices(list(kinds), kinds.values())[0]()

    def pull(self):
        """Mostly lazily, a snapshot that the other daemon has pushed."""
        if len(self.local) >= LOCAL_MAX:
            self.remove()
        n = self.rng.randrange(FAR)
        name = f"l{self.number()}"
        body = {"remote": "main", "snapshot": f"far{n}", "name": name,
                "lazy": self.rng.random() < 0.8}
        self.load.http({"api": "pull", "name": name, "files": self.far[n]}, "POST",
                       "/api/snapshots/pull", body, result=lambda answer: answer["root"])
        self.local[name] = self.far[n]

    def some(self):
        """A pulled snapshot's name."""
        while not self.local:
            self.pull()
        return self.rng.choice(list(self.local))

    def mount(self):
        """In place of the mount that there is."""
        self.discard()
        name = self.some()
        self.writer = self.new_writer(f"l{self.number()}m")
        self.writer.mount_snapshot(name, self.local[name])

    def write(self):
        if not self.writer:
            self.mount()
        for _ in range(WRITES):
            self.writer.one()

    def checkpoint(self):
        """Which has far chunks, too, and is pushed at times."""
        if not self.writer:
            return
        name = f"k{self.number()}"
        self.load.call({"api": "checkpoint", "mount": self.writer.name, "name": name}, "checkpoint",
                       self.writer.place, name, result=lambda answer: answer["root"])
        if self.rng.random() < 0.5:
            self.push(name)
        self.load.call({"api": "rm", "name": name}, "rm", name)

    def push(self, name=None):
        name = name or self.some()
        to = f"pushed-{name}"
        self.load.http({"api": "push", "name": name, "to": to}, "POST",
                       f"/api/snapshots/{name}/push", {"remote": "main", "name": to},
                       result=lambda answer: answer["id"])
        if to not in self.pushed:
            self.pushed.append(to)
        if len(self.pushed) > PUSHED_MAX:
            self.forget()

    def forget(self):
        if self.pushed:
            name = self.pushed.pop(self.rng.randrange(len(self.pushed)))
            self.load.http({"api": "forget", "name": name}, "DELETE",
                           f"/api/remotes/main/snapshots/{name}")

    def discard(self):
        if self.writer:
            self.writer.discard()
            self.writer = None

    def remove(self):
        if self.local:
            name = self.some()
            del self.local[name]
            self.load.call({"api": "rm", "name": name}, "rm", name)

    def change_remotes(self):
        """A second name of the bucket comes and goes."""
        if self.spare:
            self.load.http({"api": "remote_rm", "name": "spare"}, "DELETE", "/api/remotes/spare")
        else:
            self.load.http({"api": "remote_add", "name": "spare"}, "POST", "/api/remotes",
                           {"name": "spare", "url": f"file://{self.load.bucket}"})
        self.spare = not self.spare
