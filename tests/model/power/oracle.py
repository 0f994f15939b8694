"""oracle.py - what must be there, and what may be, after a cut: from the marks of a load.

A mark is JSON. {"begin": K, ...} tells what is about to be done, {"end": K, "result": ...} that it
was acknowledged. On a mount one thread does one thing at a time, "do", a list of steps:

    ["create", PATH] ["write", PATH, OFFSET, LENGTH, TAG] ["truncate", PATH, SIZE] ["mkdir", PATH]
    ["rename", FROM, TO] ["unlink", PATH] ["rmdir", PATH] ["sync", PATH]

So a mount has a history of states. What is found must be one of them, as the journal keeps the
order of all operations: not before the last that an acknowledged fsync or checkpoint covers, not
after the last that began. Of data that no sync covers, any part may be as before, or zeros, or as a
later write made it: writes are made in place where they can, and what they change may be on the
disk though the journal's record of an operation before them is not. A mount may be lost until an
fsync or a checkpoint has returned.

Calls of the API are {"begin": K, "api": NAME, ...}; see Oracle._api_ended for those known.
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
    """A file in a state: the state that created it, which tells it from others, its bytes, and what
    no fsync covers: [(state, offset, end, bytes of the file before)]."""
    __slots__ = ("created", "data", "dirty")

    def __init__(self, created, data=b"", dirty=()):
        self.created = created
        self.data = data
        self.dirty = dirty


def step(tree, do, number):
    """The state number `number`, after a step."""
    tree = dict(tree)
    kind, path = do[0], do[1]
    if kind == "create":
        tree[path] = File(number)
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
        tree[path] = File(f.created, data, f.dirty + ((number, offset, offset + length, f.data),))
    elif kind == "truncate":
        f = tree[path]
        tree[path] = File(f.created, f.data[:do[2]].ljust(do[2], b"\0"), f.dirty)
    elif kind == "sync" and isinstance(tree.get(path), File):
        tree[path] = File(tree[path].created, tree[path].data)
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
    """The states of one mount. Index 0: as it was made."""

    def __init__(self, tree):
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
            if not wrong or (n > least and self._is_part_of_write(found, n, wrong)):
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

    def _is_part_of_write(self, found, n, wrong):
        """Whether the step to state n is a write of which some first pages are there: the kernel
        makes several requests of one where it likes."""
        do = self.steps[n]
        if do[0] != "write" or len(wrong) != 1 or not isinstance(found.get(do[1]), bytes):
            return False
        path, offset, length = do[1:4]
        later = self._later_writes(n)
        others = {p: f for p, f in found.items() if p != path}
        if self._differs(others, {p: f for p, f in self.states[n].items() if p != path},
                         self.clean_upto, later):
            return False
        size = len(found[path])
        before, after = self.states[n - 1][path], self.states[n][path]
        if not len(before.data) < size < len(after.data) or size % 4096:
            return False
        part = File(after.created, after.data[:size], after.dirty)
        return data_fits(found[path], part, self.clean_upto, later.get(after.created, ()))

    @staticmethod
    def _differs(found, tree, clean_upto, later):
        wrong = [f"{p} is missing" for p in tree if p not in found]
        wrong += [f"{p} should not be there" for p in found if p not in tree]
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
        return wrong


class Oracle:
    """The expectations at a position of the log. advance() goes on."""

    def __init__(self, records):
        self.marks = [(i, json.loads(bytes(r.data))) for i, r in enumerate(records)
                      if r.type == "M"]
        self.next = 0
        self.open = {}       # begun and not acknowledged, by number
        self.mounts = {}     # name: History
        self.places = {}     # name: mountpoint
        self.snapshots = {}  # name: root, acknowledged
        self.maybe = set()   # snapshots that may be there, or may not
        self.kept = {}       # snapshots of mounts: (history, first state, last state)

    def advance(self, position):
        """To a cut at which the first `position` records have happened."""
        while self.next < len(self.marks) and self.marks[self.next][0] < position:
            mark = self.marks[self.next][1]
            self.next += 1
            if "begin" in mark:
                self.open[mark["begin"]] = mark
                self._begun(mark)
            else:
                self._ended(self.open.pop(mark["end"]), mark["result"])

    def _begun(self, m):
        if "do" in m:
            self.mounts[m["mount"]].begin(m["do"])
        elif m["api"] == "mount":
            old = self.mounts.get(m.get("of"))
            tree = {} if old is None else old.states[old.ended]
            if old is not None:  # all of it is durable, as the mount is made of a checkpoint
                tree = {p: f and File(("before", f.created), f.data)
                        for p, f in tree.items()}
            self.mounts[m["mount"]] = History(tree)
            self.places[m["mount"]] = m["place"]
        elif m["api"] == "umount":
            self.mounts[m["mount"]].may_be_gone = True
        elif m["api"] == "checkpoint":
            m["least"] = self.mounts[m["mount"]].ended
            self.maybe.add(m["name"])
        elif m["api"] in ("import", "rm"):
            self.maybe.add(m["name"])

    def _ended(self, m, result):
        if result is None:  # it failed, as it may while the daemon is killed
            return
        if "do" in m:
            self.mounts[m["mount"]].end(m["do"])
            return
        api, mount = m["api"], self.mounts.get(m.get("mount"))
        if api == "mount" and m.get("of"):
            old = self.mounts[m["of"]]
            old.checkpointed(old.ended)
        elif api == "umount":
            mount.gone = True
        elif api == "checkpoint":
            mount.checkpointed(m["least"])
            self.kept[m["name"]] = mount, m["least"], mount.begun
        if api in ("checkpoint", "import"):
            self.maybe.discard(m["name"])
            self.snapshots[m["name"]] = result
        elif api == "rm":
            self.maybe.discard(m["name"])
            self.snapshots.pop(m["name"], None)
            self.kept.pop(m["name"], None)

    def snapshot_problems(self, found):
        """found: {name: (status, root)} as the daemon lists them."""
        problems = []
        for name, root in self.snapshots.items():
            if name in found and found[name] != ("ready", root):
                problems.append(f"snapshot {name} is {found[name]}, not ready with root {root}")
            elif name not in found and name not in self.maybe:
                problems.append(f"snapshot {name} is missing")
        problems += [f"snapshot {name} should not be there" for name in found
                     if name not in self.snapshots and name not in self.maybe]
        problems += [f"snapshot {name} is still building" for name, (status, _) in found.items()
                     if status == "building"]
        return problems
