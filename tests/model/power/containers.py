"""containers.py - what the load does with sandboxes and builds: one thread of it."""
import base64
import os
import shutil
import time

from oracle import content

SANDBOXES_MAX = 2
FILE_MAX = 4000  # one write of the sandbox's cat
BASE = "box"


def make_base(top):
    """A directory that is enough of a system. Wants busybox, linked statically."""
    root = os.path.join(top, "box")
    for d in ("bin", "etc", "work"):
        os.makedirs(os.path.join(root, d))
    shutil.copy(shutil.which("busybox"), os.path.join(root, "bin/busybox"))
    for name in ("sh", "cat", "sync", "mv", "rm", "echo", "false"):
        os.symlink("busybox", os.path.join(root, "bin", name))
    return root


class Containers:
    """Operations on sandboxes and images, and what there is of them."""

    def __init__(self, load, rng):
        self.load = load
        self.rng = rng
        self.count = 0
        self.tag = rng.randint(0, 1 << 30)
        self.sandboxes = {}    # id: names of files
        self.checkpoints = {}  # id: (sandbox, names of files)
        self.patches = {}      # checkpoint: what each patch writes: [name, tag, size]
        self.images = []

    def number(self):
        self.count += 1
        return self.count

    def some_more(self, count):
        for _ in range(count):
            self.one()
            time.sleep(self.rng.random() * 0.02)

    def one(self):
        """One operation."""
        kinds = {self.exec: 8, self.checkpoint: 4, self.restore: 2, self.kill: 1,
                 self.create: 2, self.drop: 1, self.patch: 1, self.build: 4, self.rename: 1}
        self.rng.choices(list(kinds), kinds.values())[0]()

    def text_tag(self):
        """One whose content may go through JSON and a shell."""
        self.tag += 3 - self.tag % 3 + 1
        return self.tag

    # ---- sandboxes ----

    def create(self):
        if len(self.sandboxes) >= SANDBOXES_MAX:
            return
        cp = self.rng.choice([None, *self.checkpoints])
        patched = self.patches.get(cp, [])
        path = f"/api/sandboxes/from-checkpoint/{cp}" if cp else "/api/sandboxes"
        made = self.load.http({"api": "sandbox", "of": cp, "patched": patched}, "POST", path,
                              {"memoryMB": 64, **({} if cp else {"snapshot": BASE})},
                              result=lambda answer: answer["sandboxID"])
        files = list(self.checkpoints[cp][1]) if cp else []
        self.sandboxes[made] = files + [name for name, _, _ in patched]

    def some(self):
        """A sandbox."""
        while not self.sandboxes:
            self.create()
        return self.rng.choice(list(self.sandboxes))

    def exec(self):
        sandbox = self.some()
        files = self.sandboxes[sandbox]
        name = f"f{self.number()}"
        tag, size = self.text_tag(), self.rng.randint(1, FILE_MAX)
        steps = [["create", name], ["write", name, 0, size, tag]]
        commands = ["cd /work", f"cat >{name}"]
        if files and self.rng.random() < 0.4:
            old = files.pop(self.rng.randrange(len(files)))
            to = f"{old}b"
            steps.append(["rename", old, to])
            commands.append(f"mv {old} {to}")
            files.append(to)
        if len(files) > 5:
            steps.append(["unlink", files[0]])
            commands.append(f"rm {files.pop(0)}")
        if self.rng.random() < 0.5:
            steps.append(["sync", name])
            commands.append(f"sync {name}")
        files.append(name)
        body = {"cmd": "sh", "args": ["-c", " && ".join(commands)], "timeout": 100,
                "stdin": content(tag, 0, size).decode()}
        number = self.load.marks.begin(mount=sandbox, do=steps)
        answer = self.load.daemon.api("POST", f"/api/sandboxes/{sandbox}/exec/run", body)
        if answer["exitCode"] != 0:
            raise RuntimeError(f"exec: {answer}")
        self.load.marks.end(number)

    def checkpoint(self):
        sandbox = self.some()
        name = f"c{self.number()}"
        made = self.load.http({"api": "sandbox_checkpoint", "mount": sandbox, "name": name}, "POST",
                              f"/api/sandboxes/{sandbox}/checkpoints", {"name": name},
                              result=lambda answer: answer["id"])
        self.checkpoints[made] = sandbox, list(self.sandboxes[sandbox])
        if self.rng.random() < 0.7:
            number = self.load.marks.begin(api="ready", checkpoint=made)
            while any(c["id"] == made and c["status"] == "processing" for c in
                      self.load.daemon.api("GET", f"/api/sandboxes/{sandbox}/checkpoints")):
                time.sleep(0.005)
            self.load.marks.end(number)

    def restore(self):
        of = [(c, s) for c, (s, _) in self.checkpoints.items() if s in self.sandboxes]
        if not of:
            return
        checkpoint, sandbox = self.rng.choice(of)
        self.load.http({"api": "restore", "mount": sandbox, "checkpoint": checkpoint}, "POST",
                       f"/api/sandboxes/{sandbox}/checkpoints/{checkpoint}/restore")
        self.sandboxes[sandbox] = list(self.checkpoints[checkpoint][1])

    def kill(self):
        sandbox = self.some()
        self.load.http({"api": "kill", "mount": sandbox}, "DELETE", f"/api/sandboxes/{sandbox}")
        del self.sandboxes[sandbox]

    def drop(self):
        if len(self.checkpoints) > 2:
            checkpoint = self.rng.choice(list(self.checkpoints))
            sandbox, _ = self.checkpoints.pop(checkpoint)
            self.load.http({"api": "drop", "checkpoint": checkpoint}, "DELETE",
                           f"/api/sandboxes/{sandbox}/checkpoints/{checkpoint}")

    def patch(self):
        """What is made from a checkpoint from then on runs a script, which writes a file."""
        if not self.checkpoints:
            return
        checkpoint = self.rng.choice(list(self.checkpoints))
        name, tag, size = f"p{self.number()}", self.text_tag(), self.rng.randint(1, 300)
        script = f"cd /work && echo -n '{content(tag, 0, size).decode()}' >{name} && sync {name}"
        self.load.http({"api": "patch", "checkpoint": checkpoint}, "POST",
                       f"/api/sandboxes/checkpoints/{checkpoint}/patches", {"script": script},
                       result=lambda answer: answer["patch"]["id"])
        self.patches.setdefault(checkpoint, []).append([name, tag, size])

    # ---- images ----

    def manifest(self, line, fails):
        """A manifest, and {path: what `content` takes} of what it makes."""
        files, steps = {}, []
        for _ in range(self.rng.randint(1, 2)):
            self.tag += 1
            of = self.tag, 0, self.rng.randint(1, 20000)
            path = f"added{self.tag}"
            files[path] = of
            steps.append({"type": "add_file", "args": {
                "path": f"/{path}", "encoding": "base64",
                "content": base64.b64encode(content(*of)).decode()}})
        steps.insert(self.rng.randint(0, len(steps)), {"type": "run", "args": {"commands": [
            f"echo {line}" + ("; false" if fails else "; echo made >/made")]}})
        return {"base": f"snapshot:{BASE}", "steps": steps}, files

    def build(self):
        """An image with a name, which another may have until then; one in six fails."""
        n = self.number()
        moves = self.images and self.rng.random() < 0.5
        name = self.rng.choice(self.images) if moves else f"i{n}"
        line, fails = f"build {n} speaks", self.rng.random() < 1 / 6
        manifest, files = self.manifest(line, fails)
        number = self.load.marks.begin(api="build", name=name, line=line, files=files)
        body = {"name": name, "image": manifest, "replace": bool(moves)}
        try:
            made = self.load.daemon.api("POST", "/api/snapshots", body)
            result = {"build": made["buildID"], "state": "ready", "root": made["root"]}
            self.images = [*{*self.images, name}]
        except RuntimeError as e:
            if not fails or " 422 " not in str(e):
                raise
            builds = self.load.daemon.api("GET", "/api/builds")
            result = {"build": builds[0]["id"], "state": "failed"}
        self.load.marks.end(number, result)

    def rename(self):
        """An image gets another name; half the time that of another image."""
        if len(self.images) < 3:
            return
        name = self.images.pop(self.rng.randrange(len(self.images)))
        moves = self.rng.random() < 0.5
        to = self.rng.choice(self.images) if moves else f"i{self.number()}"
        body = {"name": to, **({"replace": True} if moves else {})}
        self.load.http({"api": "rename", "name": name, "to": to}, "PATCH",
                       f"/api/snapshots/{name}", body)
        self.images = [*{*self.images, to}]
