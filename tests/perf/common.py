"""What all benchmarks share: commands, a daemon of their own, its API, caches, time."""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

SOURCE = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
BUILD = os.path.realpath(os.environ.get("VARVE_BUILD", os.path.join(SOURCE, "build")))
QUICK = os.environ.get("BENCH_QUICK", "") not in ("", "0")
VARVE = os.path.join(BUILD, "bin/varve")
# Not one that a version manager wraps in a script: that takes longer than what is measured.
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable


class Skip(Exception):
    """A part of a benchmark that cannot run here; its text says why."""


class Failed(SystemExit):
    """A command that a benchmark needs has failed; its text says which, and what it said."""


def say(text):
    """To the person who waits."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def helper(name):
    """The path of a program of tests/perf."""
    path = os.path.join(BUILD, "tests/perf", name)
    return os.path.join(path, name) if os.path.isdir(path) else path


def run(*argv, **kwargs):
    """Run a command and give its output; where it fails, show what it said and stop."""
    kwargs.setdefault("stdout", subprocess.PIPE)
    kwargs.setdefault("stderr", subprocess.STDOUT)
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run([str(a) for a in argv], text=True, check=False, **kwargs)
    if done.returncode != 0:
        raise Failed(f"bench: {argv[0]} failed ({done.returncode}): {done.stdout or ''}"
                     f"{done.stderr or ''}")
    return done.stdout or ""


def shell(command, cwd, who=""):
    """Run a shell command, without its output; a failure ends the benchmark."""
    done = subprocess.run(["sh", "-ec", command], cwd=cwd, check=False, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise Failed(f"bench: {command!r} failed {who}: {done.stderr}")


def timed(argv, **kwargs):
    """Seconds that a command takes."""
    start = time.monotonic()
    run(*argv, **kwargs)
    return time.monotonic() - start


# What the tables say of peers that are left out of this group.
left_out: list = []


def leave_out(why):
    """Say once that a peer is left out, here and in the group's table."""
    if why not in left_out:
        left_out.append(why)
        say(f"left out: {why}")


def have(program):
    """Whether a peer's program is installed; tells which is not."""
    if shutil.which(program):
        return True
    leave_out(f"{program} is not installed (scripts/deps bench)")
    return False


def peer_does(label, action, *args):
    """Whether a peer could do it: one that fails is left out, and the others go on."""
    try:
        action(*args)
        return True
    except Skip:  # which has been said
        return False
    except (Failed, OSError, subprocess.SubprocessError) as why:
        text = " ".join(str(why).removeprefix("bench: ").split())
        leave_out(f"{label} has failed: {text[-300:]}")
        return False


def disk_bytes(path):
    """Bytes that a file or directory takes on disk."""
    return int(run("du", "-s", "--block-size=1", "--exclude=reserve", path).split()[0])


def drop_caches():
    """As if nothing had been read before."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("3\n")


def in_turns(sides, turns):
    """(turn, side) so that each side comes first as often as last."""
    for turn in range(turns):
        for side in sides if turn % 2 else reversed(sides):
            yield turn, side


def measure_in_turns(sides, turns, measure):
    """
    measure(turn, side) for all. The first of the sides is Varve; another that fails is left out
    from then on, and taken out of `sides`.
    """
    for turn, side in in_turns(list(sides), turns):
        if side is sides[0]:
            measure(turn, side)
        elif side in sides and not peer_does(side.label, measure, turn, side):
            sides.remove(side)


class Client(http.client.HTTPConnection):
    """The API on a unix socket, on one connection that is kept."""

    def __init__(self, path):
        super().__init__("localhost", timeout=300)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def text(self, method, path, body=None):
        """The reply as it is; a failure ends the benchmark."""
        self.request(method, path, None if body is None else json.dumps(body),
                     {"Content-Type": "application/json"})
        reply = self.getresponse()
        text = reply.read()
        if reply.status >= 400:
            raise Failed(f"bench: {method} {path}: {reply.status} {text.decode()}")
        return text.decode()

    def call(self, method, path, body=None):
        """The reply's object."""
        text = self.text(method, path, body)
        return json.loads(text) if text else None


class Daemon:
    """
    A snapshotd on a store of its own, below a directory. What it does when nothing else goes on
    (it compresses anew) waits: it must not meet what is measured beside it.
    """

    running: list = []

    def __init__(self, directory, *options, prefix=()):
        self.directory = directory
        self.state = os.path.join(directory, "state")
        self.socket = os.path.join(directory, "socket")
        config = os.path.join(directory, "config")
        self.argv = [*prefix, os.path.join(BUILD, "bin/snapshotd"), "--state", self.state,
                     "--socket", self.socket, "--config", config, *options]
        self.process = None
        os.makedirs(directory, exist_ok=True)
        with open(config, "w", encoding="utf-8") as f:
            json.dump({"recompressQuiet": 86400}, f)
        self.start()

    def start(self):
        """Returns when it answers; what was mounted before is mounted again."""
        with open(os.path.join(self.directory, "log"), "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log)
        Daemon.running.append(self)
        for _ in range(1000):
            try:
                client = Client(self.socket)
                client.call("GET", "/healthz")
                client.close()
                return
            except OSError:
                time.sleep(0.01)
            if self.process.poll() is not None:
                break
        with open(os.path.join(self.directory, "log"), encoding="utf-8") as log:
            raise Failed("bench: snapshotd did not start: " + log.read()[-2000:])

    def varve(self, *args, **kwargs):
        """Run a command of the CLI."""
        return run(VARVE, "--socket", self.socket, *args, **kwargs)

    def stop(self):
        """End it, unmounting what it has mounted."""
        if self in Daemon.running:
            Daemon.running.remove(self)
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(120)

    def restart(self):
        """With nothing in its memory."""
        self.stop()
        self.start()

    def memory(self):
        """Bytes of memory that no file stands behind: heap, stacks, caches of its own."""
        with open(f"/proc/{self.process.pid}/smaps_rollup", encoding="ascii") as f:
            return sum(int(line.split()[1]) for line in f
                       if line.startswith(("Anonymous:", "Swap:"))) * 1024

    def import_small_files(self, name, count):
        """Import `count` files of up to 1 KB from a stream."""
        with subprocess.Popen([helper("maketar"), str(count)], stdout=subprocess.PIPE) as maker:
            self.varve("import", name, "tar", "-", stdin=maker.stdout)


def unpack_small_files(directory, count):
    """The same files as import_small_files()."""
    with subprocess.Popen([helper("maketar"), str(count)], stdout=subprocess.PIPE) as maker:
        run("tar", "-xf", "-", "-C", directory, stdin=maker.stdout)


def clean_up(directory):
    """Unmount and remove all that is below it, whatever state it is in."""
    for daemon in list(Daemon.running):
        try:
            daemon.stop()
        except subprocess.TimeoutExpired:
            daemon.process.kill()
    with open("/proc/self/mounts", encoding="utf-8") as f:
        for place in reversed([l.split()[1] for l in f if f" {directory}/" in l]):
            subprocess.run(["umount", "-l", place], check=False)
    shutil.rmtree(directory, ignore_errors=True)
