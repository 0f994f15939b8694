"""oracle.py - what must be there, and what may be, after a cut: from the marks of a load.

A mark is JSON. {"begin": K, ...} tells what is about to be done, {"end": K, "result": ...} that it
was acknowledged. On a mount one thread does one thing at a time, "do", a list of steps:

    ["create", PATH] ["write", PATH, OFFSET, LENGTH, TAG] ["truncate", PATH, SIZE] ["mkdir", PATH]
    ["link", PATH, TO] ["xattr", PATH, NAME, VALUE or None] ["rename", FROM, TO] ["unlink", PATH]
    ["rmdir", PATH] ["sync", PATH]

So a mount has a history of states. What is found must be one of them, as the journal keeps the
order of all operations: not before the last that an acknowledged fsync or checkpoint covers, not
after the last that began. Of data that no sync covers, any part may be as before, or zeros, or as a
later write made it: writes are made in place where they can, and what they change may be on the
disk though the journal's record of an operation before them is not. A mount may be lost until an
fsync or a checkpoint has returned.

Calls of the API are {"begin": K, "api": NAME, ...}: Oracle has a method for the begin and the end
of each. A sandbox is a mount, too, whose name is its id.
"""
import base64
import functools
import hashlib
import json

DIR = None  # in a state: a directory


@functools.lru_cache(maxsize=4096)
def _block(tag, n):
    raw = hashlib.shake_128(f"{tag} {n}".encode()).digest(3072)
    if tag % 3 == 0:
        return (raw + raw[::-1])[:4096]
    return base64.b64encode(raw) if tag % 3 == 1 else (b"line %d of %d\n" % (n, tag) * 512)[:4096]


def content(tag, offset, length):
    """What a write of `tag` writes at an offset."""
    first = offset // 4096
    data = b"".join(_block(tag, n) for n in range(first, (offset + length + 4095) // 4096))
    return data[offset - first * 4096:offset - first * 4096 + length]


class File:
    """A file in a state: the state that created it, which tells it from others, its bytes, what no
    fsync covers: [(state, offset, end, bytes of the file before)], and its xattrs. Names that are
    links to one file have the same object."""
    __slots__ = ("created", "data", "dirty", "xattrs")

    def __init__(self, created, data=b"", dirty=(), xattrs=None):
        self.created = created
        self.data = data
        self.dirty = dirty
        self.xattrs = xattrs or {}


class Found(bytes):
    """What a file was found to have: its bytes, and which inode it is, and its xattrs."""
    inode = None
    xattrs = {}


def names_of(tree, file):
    return [p for p, f in tree.items() if f is not DIR and f.created == file.created]


def replace(tree, file):
    """The file as it is now, at each of its names."""
    for path in names_of(tree, file):
        tree[path] = file


def fresh(tree):
    """A tree that is as new, and durable: what a mount is made of."""
    made = {}
    for f in tree.values():
        if f is not DIR and f.created not in made:
            made[f.created] = File(("before", f.created), f.data, (), f.xattrs)
    return {p: f and made[f.created] for p, f in tree.items()}


def step(tree, do, number):
    """The state number `number`, after a step."""
    tree = dict(tree)
    kind, path = do[0], do[1]
    if kind == "create":
        tree[path] = File(number)
    elif kind == "link":
        tree[do[2]] = tree[path]
    elif kind == "xattr":
        f = tree[path]
        xattrs = {n: v for n, v in {**f.xattrs, do[2]: do[3]}.items() if v is not None}
        replace(tree, File(f.created, f.data, f.dirty, xattrs))
    elif kind == "mkdir":
        tree[path] = DIR
    elif kind in ("unlink", "rmdir"):
        del tree[path]
    elif kind == "rename":
        below = path + "/"
        for old in [p for p in tree if p == path or p.startswith(below)]:
            tree[do[2] + old[len(path):]] = tree.pop(old)
    elif kind == "write":
        f = tree[path]
        offset, length, tag = do[2:]
        data = f.data.ljust(offset, b"\0")
        data = data[:offset] + content(tag, offset, length) + data[offset + length:]
        replace(tree, File(f.created, data,
                           f.dirty + ((number, offset, offset + length, f.data),), f.xattrs))
    elif kind == "truncate":
        f = tree[path]
        replace(tree, File(f.created, f.data[:do[2]].ljust(do[2], b"\0"), f.dirty, f.xattrs))
    elif kind == "sync" and isinstance(tree.get(path), File):
        f = tree[path]
        replace(tree, File(f.created, f.data, (), f.xattrs))
    return tree


def data_fits(found, file, clean_upto, later=()):
    """Whether the bytes found may be those of the file: equal, but that what is dirty may also be
    as it was before, or zeros, or as writes after it made it: later, [(offset, end, bytes of the
    file after)]."""
    if found == file.data:
        return True
    if len(found) != len(file.data):
        return False
    dirty = [d for d in file.dirty if d[0] > clean_upto]
    for at in range(0, len(found), 256):
        if found[at:at + 256] == file.data[at:at + 256]:
            continue
        for i in range(at, min(at + 256, len(found))):
            if found[i] != file.data[i] and not any(
                    offset <= i < end and found[i] in (0, before[i] if i < len(before) else 0)
                    for _, offset, end, before in dirty) and not any(
                    offset <= i < end and found[i] == after[i] for offset, end, after in later):
                return False
    return True


class History:
    """The states of one mount, or of the directory `below` in it. Index 0: as it was made."""

    def __init__(self, tree, below=""):
        self.below = below
        self.states = [tree]
        self.steps = [None]   # that led to each
        self.begun = 0        # the last state that may be there
        self.ended = 0        # the last whose call has returned
        self.least = 0        # the first that may be found
        self.clean_upto = 0   # data of states up to here is durable
        self.durable = False  # the mount itself
        self.gone = False
        self.may_be_gone = False

    def begin(self, do):
        for d in do:
            self.states.append(step(self.states[-1], d, len(self.states)))
            self.steps.append(d)
        self.begun = len(self.states) - 1

    def end(self, do):
        self.ended = self.begun
        if any(d[0] == "sync" for d in do):
            self.least = self.begun
            self.durable = True

    def checkpointed(self, upto):
        self.least = max(self.least, upto)
        self.clean_upto = max(self.clean_upto, upto)
        self.durable = True

    def problem(self, found, least=None, most=None, exact=False):
        """None if found, {path: bytes or DIR}, is one of the states; else what is wrong."""
        least = self.least if least is None else least
        most = self.begun if most is None else most
        why = None
        for n in range(most, least - 1, -1):
            tree = self.states[n]
            wrong = self._differs(found, tree, most if exact else self.clean_upto,
                                  {} if exact else self._later_writes(n))
            if not wrong or (n > least and self._is_part_of_write(found, n)):
                return None
            if why is None or len(wrong) < len(why[1]):
                why = n, wrong
        return f"not one of the states {least} to {most}; nearest is {why[0]}: " + \
            ", ".join(why[1][:5])

    def _later_writes(self, n):
        """Of the writes after state n, {the file's created: [(offset, end, its bytes after)]}."""
        later = {}
        for m in range(n + 1, self.begun + 1):
            do = self.steps[m]
            if do[0] == "write":
                f = self.states[m][do[1]]
                later.setdefault(f.created, []).append((do[2], do[2] + do[3], f.data))
        return later

    def _is_part_of_write(self, found, n):
        """Whether the step to state n is a write of which some first pages are there: the kernel
        makes several requests of one where it likes."""
        do = self.steps[n]
        if do[0] != "write" or not isinstance(found.get(do[1]), bytes):
            return False
        size = len(found[do[1]])
        before, after = self.states[n - 1][do[1]], self.states[n][do[1]]
        if not len(before.data) < size < len(after.data) or size % 4096:
            return False
        tree = dict(self.states[n])
        replace(tree, File(after.created, after.data[:size], after.dirty, after.xattrs))
        return not self._differs(found, tree, self.clean_upto, self._later_writes(n))

    @staticmethod
    def _differs(found, tree, clean_upto, later):
        wrong = [f"{p} is missing" for p in tree if p not in found]
        wrong += [f"{p} should not be there" for p in found if p not in tree]
        inodes = {}
        for path in found:
            want, got = tree.get(path, 0), found[path]
            if want == 0 or (want is DIR and got is DIR):
                continue
            if want is DIR or got is DIR:
                wrong.append(f"{path} is of another type")
            elif len(got) != len(want.data):
                wrong.append(f"{path} has {len(got)} bytes, not {len(want.data)}")
            elif not data_fits(got, want, clean_upto, later.get(want.created, ())):
                wrong.append(f"{path} has other data")
            elif got.xattrs != want.xattrs:
                wrong.append(f"{path} has xattrs {got.xattrs}, not {want.xattrs}")
            elif inodes.setdefault(want.created, got.inode) != got.inode:
                wrong.append(f"{path} is not the file that it was linked to")
        if len({i for i in inodes.values()}) != len(inodes):
            wrong.append("files are links to each other that were none")
        return wrong


class Oracle:
    """The expectations at a position of the log. advance() goes on."""

    def __init__(self, records):
        self.marks = [(i, json.loads(bytes(r.data))) for i, r in enumerate(records)
                      if r.type == "M"]
        self.next = 0
        self.open = {}         # begun and not acknowledged, by number
        self.mounts = {}       # name: History; of sandboxes, too
        self.sandboxes = set() # ids of those acknowledged and not killed
        self.snapshots = {}    # name: root, acknowledged
        self.maybe = set()     # snapshots that may be there, or may not
        self.kept = {}         # snapshots of mounts: (history, first state, last state)
        self.images = {}       # snapshots built or pulled: {path: bytes of the file}
        self.checkpoints = {}  # of sandboxes: {id: (sandbox, name)}
        self.patches = {}      # {id: checkpoint}
        self.builds = {}       # that have ended: {id: (state, a line of the log)}
        self.has_bucket = any(m.get("api") == "remote_add" for _, m in self.marks)
        self.remotes = set()
        self.pushed = {}       # name in the bucket: (its id there, of kept or images)
        self.maybe_shared = set()  # remotes, and names in the bucket, that may be there or not

    def advance(self, position):
        """To a cut at which the first `position` records have happened."""
        while self.next < len(self.marks) and self.marks[self.next][0] < position:
            mark = self.marks[self.next][1]
            self.next += 1
            if "begin" in mark:
                self.open[mark["begin"]] = mark
                if "do" in mark:
                    self.mounts[mark["mount"]].begin(mark["do"])
                else:
                    self._call("begin", mark)
            else:
                m = self.open.pop(mark["end"])
                if "do" in m:
                    self.mounts[m["mount"]].end(m["do"])
                else:
                    self._call("end", m, mark["result"])

    def _call(self, when, m, *result):
        method = getattr(self, f"_{when}_{m['api'].replace('-', '_')}", None)
        if method:
            method(m, *result)

    def is_open(self, api, **members):
        return any(m.get("api") == api and all(m.get(k) == v for k, v in members.items())
                   for m in self.open.values())

    # ---- mounts ----

    def _begin_mount(self, m):
        old = self.mounts.get(m.get("of"))
        tree = {path: File(("before", path), content(*of))
                for path, of in m.get("files", {}).items()}
        self.mounts[m["mount"]] = History(tree if old is None else fresh(old.states[old.ended]))

    def _end_mount(self, m, _):
        if m.get("of"):  # all of it is durable, as the mount is made of a checkpoint
            old = self.mounts[m["of"]]
            old.checkpointed(old.ended)

    def _begin_umount(self, m):
        self.mounts[m["mount"]].may_be_gone = True

    def _end_umount(self, m, _):
        self.mounts[m["mount"]].gone = True

    # ---- snapshots ----

    def _begin_checkpoint(self, m):
        m["least"] = self.mounts[m["mount"]].ended
        self.maybe.add(m["name"])

    def _end_checkpoint(self, m, root):
        mount = self.mounts[m["mount"]]
        mount.checkpointed(m["least"])
        self._end_import(m, root)
        self.kept[m["name"]] = mount, m["least"], mount.begun

    def _begin_import(self, m):
        self.maybe.add(m["name"])

    def _end_import(self, m, root):
        self._end_rm(m, None)
        self.snapshots[m["name"]] = root

    def _begin_rm(self, m):
        self.maybe.add(m["name"])

    def _end_rm(self, m, _):
        self.maybe.discard(m["name"])
        for known in (self.snapshots, self.kept, self.images):
            known.pop(m["name"], None)

    def _begin_rename(self, m):
        self.maybe |= {m["name"], m["to"]}

    def _end_rename(self, m, _):
        self._end_rm({"name": m["to"]}, None)
        for known in (self.snapshots, self.kept, self.images):
            if m["name"] in known:
                known[m["to"]] = known[m["name"]]
        self._end_rm(m, None)

    def snapshot_problems(self, found):
        """found: {name: (status, root)} as the daemon lists them."""
        problems = []
        for name, root in self.snapshots.items():
            if name in self.maybe:
                continue
            if name not in found:
                problems.append(f"snapshot {name} is missing")
            elif found[name] != ("ready", root):
                problems.append(f"snapshot {name} is {found[name]}, not ready with root {root}")
        for name, (status, _) in found.items():
            if name not in self.snapshots and name not in self.maybe:
                problems.append(f"snapshot {name} should not be there")
            if status == "building":
                problems.append(f"snapshot {name} is still building")
        for m in self.open.values():
            problems += self._rename_problems(m, found)
        return problems

    def _rename_problems(self, m, found):
        """A name that moves belongs to one of the two at any moment, and the snapshot has one."""
        if m.get("api") == "build" and m["name"] in self.snapshots:
            return [] if m["name"] in found else [f"the name {m['name']} is lost"]
        if m.get("api") != "rename":
            return []
        name, to = m["name"], m["to"]
        before = ("ready", self.snapshots[name])
        replaced = ("ready", self.snapshots[to]) if to in self.snapshots else None
        now = found.get(name), found.get(to)
        return [] if now in ((before, replaced), (None, before)) else \
            [f"{name} was to be renamed to {to}, and they are {now}"]

    def interrupted(self):
        """Checkpoints that are not ready for certain: [(name or id, history, first state, last)].
        If one is ready in the end, it has what the mount had in one of these states."""
        return [(m["name"], h, m["least"], h.begun) for m in self.open.values()
                if m.get("api") == "checkpoint" and (h := self.mounts[m["mount"]])] + \
            [(c, *self.kept[c]) for c in self.checkpoints if c in self.maybe and c in self.kept]

    # ---- images ----

    def _begin_build(self, m):
        self.maybe.add(m["name"])

    def _end_build(self, m, result):
        self.builds[result["build"]] = result["state"], m["line"]
        if result["state"] == "ready":
            self._end_import(m, result["root"])
            self.images[m["name"]] = {p: content(*of) for p, of in m["files"].items()}
        elif m["name"] in self.snapshots:
            self.maybe.discard(m["name"])

    # ---- buckets ----

    _begin_pull = _begin_import

    def _end_pull(self, m, root):
        self._end_import(m, root)
        self.images[m["name"]] = {p: content(*of) for p, of in m["files"].items()}

    def pulling(self):
        """Snapshots that are being pulled: [(name, {path: bytes})]."""
        return [(m["name"], {p: content(*of) for p, of in m["files"].items()})
                for m in self.open.values() if m.get("api") == "pull"]

    def _begin_push(self, m):
        self.maybe_shared.add(m["to"])
        m["is"] = self.kept.get(m["name"]) or self.images[m["name"]]

    def _end_push(self, m, pushed_id):
        self.maybe_shared.discard(m["to"])
        self.pushed[m["to"]] = pushed_id, m["is"]

    def _begin_forget(self, m):
        self.maybe_shared.add(m["name"])

    def _end_forget(self, m, _):
        self.maybe_shared.discard(m["name"])
        del self.pushed[m["name"]]

    _begin_remote_add = _begin_remote_rm = _begin_forget

    def _end_remote_add(self, m, _):
        self.maybe_shared.discard(m["name"])
        self.remotes.add(m["name"])

    def _end_remote_rm(self, m, _):
        self.maybe_shared.discard(m["name"])
        self.remotes.discard(m["name"])

    def share_problems(self, remotes, names):
        """remotes: their names; names: {name in the bucket: id}, or None without that remote."""
        problems = [f"remote {r} is missing" for r in self.remotes - self.maybe_shared - remotes]
        problems += [f"remote {r} should not be there"
                     for r in remotes - self.remotes - self.maybe_shared]
        if names is None:
            return problems
        for name, (pushed_id, _) in self.pushed.items():
            if name not in self.maybe_shared and names.get(name) != pushed_id:
                problems.append(f"the bucket has {name} as {names.get(name)}, not {pushed_id}")
        for name in names.keys() - self.pushed.keys() - self.maybe_shared:
            if name.startswith("pushed"):
                problems.append(f"the bucket should not have {name}")
        return problems

    # ---- sandboxes ----

    def _checkpoint_tree(self, checkpoint):
        if checkpoint not in self.kept:
            return {}
        history, _, most = self.kept[checkpoint]
        return fresh(history.states[most])

    def _end_sandbox(self, m, sandbox):
        self.sandboxes.add(sandbox)
        if m["of"]:
            self._end_ready({"checkpoint": m["of"]}, None)
        tree = self._checkpoint_tree(m["of"])
        for name, *of in m["patched"]:
            tree[name] = File(("patched", name), content(of[0], 0, of[1]))
        self.mounts[sandbox] = History(tree, "work")

    def _begin_kill(self, m):
        self.mounts[m["mount"]].may_be_gone = True

    def _end_kill(self, m, _):
        self.mounts[m["mount"]].gone = True
        self.sandboxes.discard(m["mount"])

    def _begin_sandbox_checkpoint(self, m):
        m["least"] = self.mounts[m["mount"]].ended

    def _end_sandbox_checkpoint(self, m, checkpoint):
        mount = self.mounts[m["mount"]]
        mount.durable = True  # its record is there before the checkpoint's
        self.maybe.add(checkpoint)
        self.kept[checkpoint] = mount, m["least"], mount.begun
        self.checkpoints[checkpoint] = m["mount"], m["name"]

    def _end_ready(self, m, _):
        if m["checkpoint"] in self.maybe:
            self.maybe.discard(m["checkpoint"])
            mount, least, _ = self.kept[m["checkpoint"]]
            mount.checkpointed(least)

    def _begin_restore(self, m):
        m["after"] = History(self._checkpoint_tree(m["checkpoint"]), "work")
        m["after"].durable = True

    def _end_restore(self, m, _):
        self._end_ready(m, None)
        self.mounts[m["mount"]] = m["after"]

    def _begin_drop(self, m):  # of a checkpoint
        self.kept.pop(m["checkpoint"])
        self.maybe.discard(m["checkpoint"])

    def _end_drop(self, m, _):
        del self.checkpoints[m["checkpoint"]]
        self.patches = {p: c for p, c in self.patches.items() if c != m["checkpoint"]}

    def _end_patch(self, m, patch):
        self.patches[patch] = m["checkpoint"]

    def histories(self, mount):
        """Of a mount: one, or while it is restored two, of which either may be found."""
        return [self.mounts[mount]] + [m["after"] for m in self.open.values()
                                       if m.get("api") == "restore" and m["mount"] == mount]

    def sandbox_problems(self, found):
        """found: the ids that the daemon lists."""
        problems = []
        for sandbox in self.sandboxes - found:
            h = self.mounts[sandbox]
            if h.durable and not h.may_be_gone:
                problems.append(f"sandbox {sandbox} is missing")
        known = {s for s in self.mounts if s.startswith("sb-") and not self.mounts[s].gone}
        unknown = found - known
        if len(unknown) > sum(m.get("api") == "sandbox" for m in self.open.values()):
            problems.append(f"sandboxes {unknown} should not be there")
        return problems
