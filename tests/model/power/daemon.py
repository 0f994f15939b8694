"""daemon.py - a snapshotd for the load and for what is found after a cut."""
import ctypes
import http.client
import json
import os
import socket
import subprocess
import time

SLOW = float(os.environ.get("VARVE_SLOW", "1"))


_LIBC = ctypes.CDLL(None, use_errno=True)
MS_BIND, MNT_DETACH = 4096, 2


def bind(what, place):
    """As `mount --bind`."""
    if _LIBC.mount(os.fsencode(what), os.fsencode(place), None, MS_BIND, None):
        raise OSError(ctypes.get_errno(), f"cannot bind {what} at {place}")


def unmount(place):
    """As `umount -l`; what is not mounted is not minded."""
    _LIBC.umount2(os.fsencode(place), MNT_DETACH)


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """snapshotd on a state directory."""

    def __init__(self, state, sock, log, runtime="runc", args=()):
        self.state = state
        self.socket = sock
        self.log = log
        self.runtime = runtime
        self.args = args
        self.process = None

    def start(self):
        """Returns when it answers; RuntimeError if it ends or does not."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["snapshotd", "--state", self.state, "--socket", self.socket, "--memory", "32M",
                 "--runtime", self.runtime, *self.args], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + 30 * SLOW
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"the daemon ended at its start, {self.process.returncode}")
            try:
                self.api("GET", "/healthz")
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("the daemon does not answer")

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60 * SLOW)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def api(self, method, path, body=None):
        """The answer's JSON. RuntimeError for an error."""
        c = _Connection(self.socket, 120 * SLOW)
        try:
            c.request(method, path, body and json.dumps(body),
                      {"Content-Type": "application/json"} if body else {})
            r = c.getresponse()
            data = r.read()
        finally:
            c.close()
        if r.status >= 300:
            raise RuntimeError(f"{method} {path}: {r.status} {data.decode(errors='replace')}")
        try:
            return json.loads(data)
        except ValueError:
            return None

    def varve(self, *args):
        """The command's JSON. RuntimeError if it fails."""
        r = subprocess.run(["varve", "--socket", self.socket, "--json", *args],
                           stdin=subprocess.DEVNULL, capture_output=True, check=False,
                           timeout=120 * SLOW)
        if r.returncode:
            raise RuntimeError(f"varve {' '.join(args)}: {r.stderr.decode(errors='replace')}")
        return json.loads(r.stdout) if r.stdout.strip() else None

    @staticmethod
    def unmount_below(top):
        """Take away what a daemon has left mounted."""
        with open("/proc/self/mounts", encoding="utf-8") as f:
            places = [line.split()[1] for line in f]
        for place in reversed(places):
            if place.startswith(top + "/"):
                unmount(place)
