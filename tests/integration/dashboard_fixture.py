"""dashboard_fixture.py - what the steps of dashboard.py share: the browser, the daemon behind
a loopback port, and how a step is told. Reads the command line of dashboard.py.

The daemon's unix socket (DIR/sock) is offered to the browser on a loopback port, as with
`ssh -L`: there the page needs the token that `varve dashboard` tells.
"""
import json
import os
import re
import socket
import subprocess
import sys
import threading
import traceback

from webdriver import Browser

DIR, TCP_PORT = sys.argv[1], int(sys.argv[2])
HAS_RUNTIME = os.environ.get("DASHBOARD_RUNTIME") == "1"
KEY = os.environ["DASHBOARD_KEY"]
SOCKET = os.path.join(DIR, "sock")
SLOW = float(os.environ.get("VARVE_SLOW", "1"))


class Forwarder:
    """A loopback port in front of the daemon's socket. A request whose path begins with one of
    `absent` is answered as an older daemon would: 404."""

    def __init__(self):
        self.absent = ()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client:
            try:
                head = b""
                while b"\r\n\r\n" not in head:
                    data = client.recv(65536)
                    if not data:
                        return
                    head += data
                path = head.split(b" ")[1].decode()
                if any(path.startswith(a) for a in self.absent):
                    body = b'{"error": "there is no call"}\n'
                    client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n"
                                   b"Connection: close\r\nContent-Length: %d\r\n\r\n%s"
                                   % (len(body), body))
                    return
                # One request a connection, so that each is looked at.
                head = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
                head = re.sub(rb"\r\nConnection: keep-alive", b"", head)
                with socket.socket(socket.AF_UNIX) as daemon:
                    daemon.connect(SOCKET)
                    daemon.sendall(head)
                    back = threading.Thread(target=self._copy, args=(daemon, client), daemon=True)
                    back.start()
                    self._copy(client, daemon)
                    back.join()
            except OSError:
                pass

    @staticmethod
    def _copy(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass


forwarder = Forwarder()
URL = f"http://127.0.0.1:{forwarder.port}/"
BIN = os.path.join(os.environ["VARVE_BUILD"], "bin")
b = Browser(os.path.join(DIR, "browser"))  # dashboard.py opens and closes it
shots = 0


def api(method, path, body=None, check=True):
    args = ["curl", "-sS", "--unix-socket", SOCKET, "-X", method, f"http://localhost{path}"]
    if body is not None:
        args += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    out = subprocess.run(args, capture_output=True, text=True, check=check)
    return json.loads(out.stdout) if out.stdout.strip() else None


def token_url():
    """The page behind the forwarder, as `varve dashboard` gives it."""
    out = subprocess.run([os.path.join(BIN, "varve"), "dashboard", "--port", str(forwarder.port)],
                         capture_output=True, text=True, check=True).stdout.strip()
    return out.replace("localhost", "127.0.0.1")


def snapshot_names():
    return {s["name"] for s in api("GET", "/api/snapshots")}


def check(what):
    """A step of the test: its failure is told, with a picture, and the next goes on."""
    def run(fn, *args):
        global shots
        try:
            fn(*args)
            print(f"ok - {what}", flush=True)
        except Exception as e:  # whatever it is, it is this step's
            print(f"not ok - {what}")
            for line in (str(e) or repr(e)).splitlines()[:20]:
                print(f"# {line}")
            for line in traceback.format_exc().splitlines():
                if re.search(r"dashboard\w*\.py", line):
                    print(f"# {line.strip()}")
            shots += 1
            b.screenshot(os.path.join(DIR, f"failed-{shots}.png"))
            print(f"# seen: {b.js('return document.body.innerText')[:1500]!r}", flush=True)
            for dialog in b.all("dialog[open]"):
                b.js("arguments[0].close('')", dialog)
    return run


def view(name):
    b.js("location.hash = arguments[0]", name)
    b.wait(f"#view-{name.split('/')[0]}")


def row(name, view_name="snapshots"):
    return b.wait(f"#view-{view_name} .toggle", name)


def dialog_button(text):
    return b.wait("dialog[open] button", text)


def same(got, wanted):
    assert got == wanted, f"got {got!r}, wanted {wanted!r}"


def complaints():
    return [m["message"] for m in b.console() if m["level"] in ("SEVERE", "ERROR", "WARNING")]


def thrown():
    """What the page's own code has complained of: not the browser, of calls that fail."""
    return [m for m in complaints() if "Failed to load resource" not in m]
