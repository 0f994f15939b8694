"""dashboard.py - what 0490-dashboard.sh drives: the page in a real Chromium.

    dashboard.py DIR PORT      DIR: the test's directory ($T); PORT: the daemon's TCP port

Prints one line a check, "ok - WHAT" or "not ok - WHAT", and "# ..." for what goes with it.
The daemon's unix socket (DIR/sock) is offered to the browser on a loopback port, as with
`ssh -L`: there the page needs no key, as on the socket itself.
"""
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import traceback

from webdriver import Browser, Keys

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
shots = 0


def varve(*args):
    out = subprocess.run([os.path.join(BIN, "varve"), "--json", *args], capture_output=True,
                         text=True, check=True, env={**os.environ, "SNAPSHOTD_SOCKET": SOCKET})
    return json.loads(out.stdout) if out.stdout.strip() else None


def api(method, path, body=None, check=True):
    args = ["curl", "-sS", "--unix-socket", SOCKET, "-X", method, f"http://localhost{path}"]
    if body is not None:
        args += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    out = subprocess.run(args, capture_output=True, text=True, check=check)
    return json.loads(out.stdout) if out.stdout.strip() else None


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
                if "dashboard.py" in line:
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


# ---- snapshots ----

def loads():
    b.console()
    b.open(URL)
    b.wait("#view-snapshots .toggle", "alpha")
    b.until("all calls have been answered", lambda: b.find("#connection").text() == "Connected")
    time.sleep(3 * SLOW)  # a round of refreshing
    same(b.title(), "Snapshots – Varve")
    same([a.text().split()[0] for a in b.all("nav a")],
         ["Snapshots", "Builds", "Sandboxes", "Mounts", "Store"])
    same(complaints(), [])


def policy():
    """Text cannot become markup or script, whatever the page's own code does."""
    tried = b.js("""
        try { document.body.insertAdjacentHTML("beforeend", "<i id=made></i>"); }
        catch (e) { return e.name; }
        return "made";""")
    same(tried, "TypeError")
    same(b.js("""const s = document.createElement("style"); s.textContent = "body{display:none}";
        document.head.append(s); const d = getComputedStyle(document.body).display; s.remove();
        return d;"""), "block")
    b.console()


def row_values():
    alpha = next(s for s in api("GET", "/api/snapshots") if s["name"] == "alpha")
    cells = [c.text() for c in row_cells("alpha")]
    same(cells[1], "ready")
    size = b.js_async("""import("/dashboard/format.js").then((f) => arguments[1](f.bytes(arguments[0])))""",
                      alpha["sizeBytes"])
    same(cells[2], size)
    assert re.fullmatch(r"\d.*B", cells[3]) and re.fullmatch(r"\d.*B", cells[4]), cells


def row_cells(name):
    tr = b.js("return arguments[0].closest('tr')", row(name))
    return [Cell(e) for e in b.js("return [...arguments[0].children].map((c) => c.textContent)", tr)]


class Cell(str):
    def text(self):
        return str(self)


def lineage():
    links = {a.label().split(",")[0]: a for a in b.all("svg.lineage a")}
    names = {s["name"] for s in api("GET", "/api/snapshots")}
    assert names <= set(links), f"{names} are not all in {set(links)}"
    parents = [s for s in api("GET", "/api/snapshots") if s.get("parent")]
    assert len(b.all("svg.lineage .edge")) >= len(parents) > 0
    # alpha is the root of three in a line and a branch, which is drawn to the right of it.
    at = {n: b.js("const c = arguments[0].querySelector('.dot'); return [c.cx.baseVal.value, c.cy.baseVal.value]", a)
          for n, a in links.items()}
    assert at["alpha"][0] == at["alpha-2"][0] == at["alpha-3"][0] < at["alpha-fork"][0], at
    assert at["alpha"][1] < at["alpha-2"][1] < at["alpha-fork"][1] < at["alpha-3"][1], at
    links["alpha-2"].click()
    b.until("the row opens", lambda: row("alpha-2").attribute("aria-expanded") == "true")
    row("alpha-2").click()


def details():
    row("alpha-2").click()
    more = b.wait("#view-snapshots tr.more")
    text = more.text()
    record = api("GET", "/api/snapshots/alpha-2")
    for s in (record["id"], record["root"], "alpha"):
        assert s in text, f"{s} is not in {text!r}"
    b.wait("tr.more button", "Changes since its parent").click()
    changes = b.until("the list of changes", lambda: (b.find("tr.more .changes") or b).text()
                      if b.find("tr.more .changes").shown() else None)
    assert "/two" in changes, changes
    b.keys(Keys.ESCAPE)
    b.wait_gone("#view-snapshots tr.more")


def rename():
    row("plain").click()
    b.wait("tr.more button", "Rename").click()
    field = b.wait("dialog[open] input")
    same(field.property("value"), "plain")
    field.clear().type("alpha", Keys.ENTER)
    b.until("a taken name is refused", lambda: "has that name" in b.find("dialog .hint").text())
    field.clear().type("no spaces", Keys.ENTER)
    b.until("a bad name is refused", lambda: "1 to 128" in b.find("dialog .hint").text())
    field.clear().type("renamed", Keys.ENTER)
    row("renamed")
    assert "renamed" in snapshot_names() and "plain" not in snapshot_names()
    b.wait_gone("dialog")


def pin():
    if row("renamed").attribute("aria-expanded") != "true":
        row("renamed").click()
    b.wait("tr.more button", "Pin").click()
    b.wait("tr.more button", "Unpin")
    assert api("GET", "/api/snapshots/renamed")["pinned"]
    assert b.wait("tr.more button", "Delete").property("disabled")
    b.wait("tr.more button", "Unpin").click()
    b.wait("tr.more button", "Pin")
    b.wait("tr.more button", "Lifetime").click()
    b.wait("dialog[open] input").type("12", Keys.ENTER)
    b.until("the lifetime is shown", lambda: "12 h" in b.find("tr.more").text())
    same(api("GET", "/api/snapshots/renamed")["ttl"], 43200)


def delete():
    b.wait("tr.more button", "Delete").click()
    dialog = b.wait("dialog[open]")
    same(dialog.role(), "alertdialog")
    assert "renamed" in dialog.label(), dialog.label()
    same(b.focused().text(), "Cancel")
    b.keys(Keys.ESCAPE)
    b.wait_gone("dialog")
    same(b.focused().text(), "Delete")
    assert "renamed" in snapshot_names()
    b.wait("tr.more button", "Delete").click()
    dialog_button("Delete").click()
    b.until("the row has gone", lambda: not b.with_text("#view-snapshots .toggle", "renamed"))
    assert "renamed" not in snapshot_names()


def refresh_in_place():
    """New rows come without the others being made anew, moving the page or taking the focus."""
    other = row("alpha")
    b.js("arguments[0].mine = true; arguments[0].focus(); arguments[0].closest('tr').mine = true", other)
    before = b.js("return document.querySelector('#view-snapshots thead').getBoundingClientRect().toJSON()")
    fork = next(m["id"] for m in api("GET", "/api/mounts") if m["mountpoint"].endswith("/fork"))
    api("POST", f"/api/mounts/{fork}/checkpoint?wait=true", {"name": "newcomer"})
    row("newcomer")
    assert b.js("return document.activeElement.mine"), "the focus was lost"
    assert b.js("return arguments[0].closest('tr').mine", row("alpha")), "the row was made anew"
    after = b.js("return document.querySelector('#view-snapshots thead').getBoundingClientRect().toJSON()")
    same(after["top"], before["top"])
    same(after["width"], before["width"])
    subprocess.run([os.path.join(BIN, "varve"), "rm", "newcomer"], check=True, capture_output=True,
                   env={**os.environ, "SNAPSHOTD_SOCKET": SOCKET})
    b.until("it goes again", lambda: not b.with_text("#view-snapshots .toggle", "newcomer"))


def filter_and_sort():
    names = lambda: [t.text() for t in b.all("#view-snapshots .toggle") if t.shown()]
    b.wait("#view-snapshots .sort", "Name").click()
    same(names(), sorted(names()))
    b.wait("#view-snapshots .sort", "Name").click()
    same(names(), sorted(names(), reverse=True))
    same(b.js("return document.querySelector('#view-snapshots [aria-sort]').getAttribute('aria-sort')"),
         "descending")
    f = b.find("#filter")
    f.type("FORK")
    b.until("one is left", lambda: names() == ["alpha-fork"])
    f.clear().type("nothing has this name")
    b.until("it says so", lambda: "No snapshot fits" in b.find("#view-snapshots").text())
    f.clear().type(" ", Keys.ENTER)
    b.until("all are back", lambda: len(names()) == len(snapshot_names()))


# ---- mounts, store ----

def mounts():
    view("mounts")
    name = next(m["mountpoint"] for m in api("GET", "/api/mounts") if "onerror" in m["mountpoint"])
    # A path is text, whatever it looks like.
    row(name, "mounts").click()
    same(len(b.all("#view-mounts img")), 0)
    assert not b.js("return window.owned")
    b.wait("#view-mounts button", "Show what has changed").click()
    text = b.until("the changes", lambda: b.find(".changes").shown() and b.find(".changes").text())
    assert "/<u>fresh</u>" in text, text
    same(len(b.all("#view-mounts u")), 0)
    m = next(m for m in api("GET", "/api/mounts") if "onerror" in m["mountpoint"])
    assert m["changedInodes"] > 0
    cells = b.js("return [...arguments[0].closest('tr').children].map((c) => c.textContent)", row(name, "mounts"))
    same(cells[3], str(m["changedInodes"]))


def store():
    view("store")
    facts = b.until("the figures", lambda: b.js("""return Object.fromEntries([...document.querySelectorAll(
        "#view-store .figures dl > div")].map((d) => [d.firstChild.textContent, d.lastChild.textContent]))"""))
    b.until("they are fresh", lambda: b.js("""return [...document.querySelectorAll("#view-store .figures dt")]
        .find((d) => d.textContent === "Snapshots").nextSibling.textContent""") ==
            str(api("GET", "/api/stats")["snapshotCount"]))
    assert facts["Deduplication"].endswith("×"), facts
    # At once, as the plot may be drawn anew meanwhile.
    line = b.until("the line", lambda: b.js("return document.querySelector('svg.plot .line.logical')?.getAttribute('d')"))
    assert line.startswith("M")
    texts = lambda css: b.js("return [...document.querySelectorAll(arguments[0])].map((t) => t.textContent)", css)
    ticks = texts("svg.plot .tick.end")
    same(ticks[0], "0")
    assert len(ticks) >= 3 and all(re.fullmatch(r"\d+ [KMGT]?i?B", t) for t in ticks[1:]), ticks
    assert all(re.fullmatch(r"\d\d[:-]\d\d", t) for t in texts("svg.plot .tick.mid"))
    b.js("arguments[0].focus()", b.find("svg.plot"))
    b.keys(Keys.LEFT)
    assert re.match(r"\d{4}-\d\d-\d\d .*: Logical", b.find(".readout").text()), b.find(".readout").text()
    b.wait("#view-store .series", "Unique").click()
    b.until("a line goes", lambda: not b.find("svg.plot .line.unique"))
    b.wait("#view-store .series", "Unique").click()
    b.wait("#view-store .seg button", "Hour").click()
    b.until("the span changes", lambda: all(":" in t for t in texts("svg.plot .tick.mid")))


def gc():
    view("store")
    b.wait("#gc").click()
    b.until("its result", lambda: b.find("#gc-state").text().startswith("Freed"), 60 * SLOW)
    assert not b.find("#gc").property("disabled")


def history_lasts():
    """As the API tells it: the samples of the daemon before are there, bounded by what is asked."""
    first = api("GET", "/api/stats/history")
    assert len(first) >= 1 and first[0]["time"].endswith("Z"), first
    assert {"time", "snapshotCount", "logicalBytes", "uniqueBytes", "storedBytes", "chunkCount",
            "nodeCount"} == set(first[0]), first[0]
    assert len(api("GET", "/api/stats/history?points=2&seconds=3600")) <= 2
    assert "points" in api("GET", "/api/stats/history?points=1")["error"]
    assert "error" in api("GET", "/api/stats/history?points=x")


# ---- looks ----

def luminance(rgb):
    def part(c):
        c /= 255
        return c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
    r, g, bl = (part(int(x)) for x in re.findall(r"\d+", rgb)[:3])
    return 0.2126 * r + 0.7152 * g + 0.0722 * bl


TEXTS = """
const seen = [];
for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    const box = e.getBoundingClientRect();
    if (!own || !box.width || e.disabled || e.closest(".unseen, .skip, svg, .away"))
        continue;
    let back = e;
    while (back && getComputedStyle(back).backgroundColor === "rgba(0, 0, 0, 0)")
        back = back.parentElement;
    seen.push([e.textContent.trim().slice(0, 30), getComputedStyle(e).color,
        getComputedStyle(back || document.body).backgroundColor]);
}
return seen;"""


def contrast():
    for v in ("snapshots", "new", "mounts", "store"):
        view(v)
        for text, color, back in b.js(TEXTS):
            a, c = sorted((luminance(color), luminance(back)))
            assert (c + 0.05) / (a + 0.05) >= 4.5, f"{v}: {text!r} {color} on {back}"


def dark():
    b.dark(True)
    try:
        background = b.js("return getComputedStyle(document.body).backgroundColor")
        assert luminance(background) < 0.05, background
        contrast()
    finally:
        b.dark(False)
    background = b.js("return getComputedStyle(document.body).backgroundColor")
    assert luminance(background) > 0.9, background
    contrast()


def phone():
    b.resize(360, 740)
    try:
        for v in ("snapshots", "new", "builds", "sandboxes", "mounts", "store"):
            view(v)
            time.sleep(0.2)
            wide = b.js("return document.scrollingElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{v} is {wide} px too wide"
            assert b.wait(f"#view-{v} h1").shown()
    finally:
        b.resize(1280, 900)


def accessible():
    for v in ("snapshots", "new", "builds", "sandboxes", "mounts", "store"):
        view(v)
        bad = b.js("""return [...document.querySelectorAll("table")].filter((t) => !t.caption ||
            [...t.querySelectorAll("th")].some((h) => !h.scope)).length""")
        same(bad, 0)
        for e in b.all("button, a, input, textarea, summary, progress, svg[role], [role=log]"):
            assert not e.shown() or e.label(), f"{v}: something has no name: {e.attribute('outerHTML')}"
        same(len([h for h in b.all("h1") if h.shown()]), 1)
    view("new")
    same(b.wait("#view-new [role=log]").attribute("aria-live"), "polite")


def focus_shown():
    return b.js("""const e = document.activeElement, s = getComputedStyle(e);
        const svg = e.querySelector(".hit");
        return s.outlineStyle !== "none" || (svg && getComputedStyle(svg).stroke !== "none");""")


def keyboard_only():
    """From the page's start to a rename, without a pointer; the focus is always seen."""
    b.open(URL + "#snapshots")
    b.reload()
    row("alpha")
    b.js("document.activeElement.blur()")
    b.keys(Keys.TAB)
    same(b.focused().text(), "Skip to the content")
    b.keys(Keys.ENTER)
    same(b.focused().attribute("id"), "main")
    stops = []
    for _ in range(40):
        b.keys(Keys.TAB)
        stops.append(b.focused().label() or b.focused().text())
        assert focus_shown(), f"the focus cannot be seen on {stops}"
        if stops[-1] == "alpha-fork":
            break
    assert "Filter snapshots" in stops and "Build a snapshot" in stops, stops
    same(stops[-1], "alpha-fork")
    b.keys(Keys.ENTER)
    b.until("it opens", lambda: b.focused().attribute("aria-expanded") == "true")
    for _ in range(6):
        b.keys(Keys.TAB)
        if b.focused().text() == "Rename":
            break
    b.keys(Keys.SPACE)
    b.wait("dialog[open] input")
    same(b.focused().property("value"), "alpha-fork")
    for _ in range(8):  # the focus stays inside
        b.keys(Keys.TAB)
        assert b.js("return document.activeElement === document.body || Boolean(document.activeElement.closest('dialog'))")
    b.keys(Keys.ESCAPE)
    b.wait_gone("dialog")
    same(b.focused().text(), "Rename")
    b.keys(Keys.SPACE)
    b.wait("dialog[open] input")
    b.keys((Keys.CONTROL, "a"), *"by-keys", Keys.ENTER)
    row("by-keys")
    assert "by-keys" in snapshot_names()
    same(b.focused().text(), "Rename")
    b.keys(Keys.ESCAPE)
    b.wait_gone("#view-snapshots tr.more")
    same(b.focused().text(), "by-keys")
    api("PATCH", "/api/snapshots/by-keys", {"name": "alpha-fork"})


# ---- builds ----

def fill(name, manifest):
    view("new")
    b.wait("#new-name").clear().type(name)
    b.js("arguments[0].value = arguments[1]", b.find("#new-manifest"),
         manifest if isinstance(manifest, str) else json.dumps(manifest, indent=1))


def steps(*commands):
    return {"base": "snapshot:mini", "steps": [{"type": "run", "args": {"commands": [c]}} for c in commands]}


def log_text():
    return b.js("return [...document.querySelectorAll('#view-new .lines .text')].map((e) => e.textContent).join('\\n')")


def build_state():
    return b.find("#new-state").text()


def refuses_nonsense():
    fill("nonsense", "{\"base\": ")
    b.find("#new-build").click()
    b.until("why", lambda: "This is no JSON" in b.find("#new-why").text())
    same(b.focused().attribute("id"), "new-manifest")
    fill("nonsense", {"base": "base", "steps": [{"type": "explode", "args": {}}]})
    b.find("#new-build").click()
    b.until("the daemon's reason", lambda: "step 1" in b.find(".logend").text().lower() and "failed" in build_state())
    assert "nonsense" not in snapshot_names()


def builds_live():
    fill("built", steps("echo the first line; sleep 3; echo the second line", "echo '<b>third</b>'; exec sleep 2"))
    b.find("#new-build").click()
    b.until("the first line comes", lambda: "the first line" in log_text())
    text = log_text()
    assert "the second line" not in text.split("\n"), "all came at once"
    assert build_state().startswith("Building built"), build_state()
    same(api("GET", "/api/snapshots/built")["status"], "building")
    b.until("the second step", lambda: "step 2" in build_state())
    b.until("it is ready", lambda: build_state().startswith("built is ready"), 60 * SLOW)
    assert "the second line" in log_text().split("\n"), log_text()
    assert "<b>third</b>" in log_text().split("\n"), log_text()
    b.wait("#view-new a.button", "Show the snapshot").click()
    b.until("its row is open", lambda: row("built").attribute("aria-expanded") == "true")
    b.wait("tr.more summary", "Manifest").click()
    b.until("the manifest", lambda: "the second line" in b.find("tr.more pre").text())


def builds_cached():
    fill("again", steps("echo the first line; sleep 3; echo the second line", "echo '<b>third</b>'; exec sleep 2"))
    began = time.monotonic()
    b.find("#new-build").click()
    b.until("it is ready", lambda: build_state().startswith("again is ready"))
    assert time.monotonic() - began < 3 * SLOW
    fill("again", steps("echo another"))
    b.find("#new-build").click()
    b.until("a taken name is told", lambda: "failed" in build_state() and "again" in b.find("#view-new .logend").text())


def builds_fail():
    fill("broken", steps("echo all is well", "echo something is wrong >&2; exit 7"))
    b.find("#new-build").click()
    b.until("it fails", lambda: build_state().startswith("broken failed"), 60 * SLOW)
    reason = b.find("#view-new .logend").text()
    assert "tep 2" in reason and "7" in reason, reason
    assert "something is wrong" in log_text()
    view("builds")
    row("broken", "builds").click()
    b.until("the reason", lambda: "7" in (b.find("#view-builds .error") or b.find("h1")).text())
    b.until("its log is kept", lambda: "something is wrong" in b.find("#view-builds .lines").text())
    b.until("the log's end", lambda: b.find("#view-builds .logend").text() != "")
    row("broken", "builds").click()


def builds_cancel():
    api("POST", "/api/snapshots?async=1", {"name": "slow", "image": steps("echo begun; sleep 300")})
    view("builds")
    row("slow", "builds").click()
    b.until("its log is live", lambda: "begun" in b.find("#view-builds .lines").text(), 60 * SLOW)
    b.wait("#view-builds button", "Cancel the build slow").click()
    b.keys(Keys.ESCAPE)
    b.wait_gone("dialog")
    b.wait("#view-builds button", "Cancel the build slow").click()
    dialog_button("Cancel the build").click()
    b.until("it is cancelled", lambda: any(x["name"] == "slow" and x["state"] == "cancelled"
                                           for x in api("GET", "/api/builds")), 60 * SLOW)
    b.until("the page says so", lambda: "cancelled" in b.js(
        "return arguments[0].closest('tr').textContent", row("slow", "builds")))


# ---- sandboxes ----

def sandboxes():
    sb = api("POST", "/api/sandboxes", {"snapshot": "mini", "metadata": {"owner": "<i>me</i>"}})["sandboxID"]
    api("POST", f"/api/sandboxes/{sb}/exec/run", {"cmd": "/bin/sh", "args": ["-c", "echo hello > /hello"]})
    view("sandboxes")
    row(sb, "sandboxes").click()
    b.wait("#view-sandboxes button", "Show what has changed").click()
    text = b.until("the changes", lambda: b.find("#view-sandboxes .changes").shown() and
                   b.find("#view-sandboxes .changes").text())
    assert "/hello" in text, text
    b.wait("#view-sandboxes summary", "Metadata").click()
    assert "<i>me</i>" in b.wait("#view-sandboxes pre").text()
    b.wait("#view-sandboxes button", f"Kill the sandbox {sb}").click()
    b.keys(Keys.ESCAPE)
    b.wait_gone("dialog")
    assert any(s["sandboxID"] == sb for s in api("GET", "/api/sandboxes"))
    b.wait("#view-sandboxes button", f"Kill the sandbox {sb}").click()
    dialog_button("Kill").click()
    b.until("it has gone", lambda: not b.with_text("#view-sandboxes .toggle", sb))
    same([s for s in api("GET", "/api/sandboxes") if s["sandboxID"] == sb], [])
    assert not b.js("return window.owned")


# ---- parts ----

PARTS = r"""
const done = arguments[0];
(async () => {
    const [api, fmt, plot, lin] = await Promise.all(["api", "format", "plot", "lineage"].map(
        (m) => import(`/dashboard/${m}.js`)));
    const events = (...chunks) => {
        const out = [];
        const feed = api.eventParser((type, data) => out.push([type, data]));
        chunks.forEach((c) => feed(c));
        return out;
    };
    const snap = (id, parent, more) => ({ id, parent, name: id, createdAt: id, ...more });
    const places = (list) => lin.layout(list).map((n) => [n.snapshot.id, n.lane, n.parent]);
    const step = { name: "", source: "build" };
    const chain = Array.from({ length: 20000 }, (_, i) => snap(String(i).padStart(6, "0"), String(i - 1).padStart(6, "0")));
    return {
        split: events("event: a\nda", "ta: 1\n", "\nevent: b\ndata: 2\ndata: 3\n\ndata: 4\n\n"),
        crlf: events("event: a\r", "\ndata: 1\r\n\r\n", "data: 2\r\r", ": a comment\n\n"),
        cut: events("data: never ended\n"),
        bytes: [0, 1023, 1024, 1536, 10240, 102400, 1048575, 2 ** 40].map(fmt.bytes),
        durations: [0, 9999, 61000, 120000, 7200000, 7260000, 2 * 86400000].map(fmt.duration),
        ratios: [[10, 4], [100, 4], [1, 0]].map(([a, c]) => fmt.ratio(a, c)),
        ticks: [1, 1000, 1500, 5e6].map((n) => plot.byteTicks(n)),
        hours: plot.timeTicks(3600000 * 0.5, 3600000 * 4.5, 5),
        zone: plot.timeTicks(0, 86400000 * 2, 2, 7200000).ticks,
        branch: places([snap("d", "b"), snap("c", "b"), snap("e", "c"), snap("b", "a"), snap("a", null)]),
        orphan: places([snap("x", "gone"), snap("y", "y")]),
        steps: lin.withoutSteps([snap("a", null), snap("s", "a", step), snap("t", "s", step), snap("b", "t")])
            .map((s) => [s.id, s.parent]),
        chain: Math.max(...lin.layout(chain).map((n) => n.lane)),
        cycle: lin.layout([snap("p", "q"), snap("q", "p")]).length,
    };
})().then(done, (e) => done(String(e)));
"""


def parts():
    got = b.js_async(PARTS)
    assert isinstance(got, dict), got
    wanted = {
        "split": [["a", "1"], ["b", "2\n3"], ["message", "4"]],
        "crlf": [["a", "1"], ["message", "2"]],
        "cut": [],
        "bytes": ["0 B", "1023 B", "1.00 KiB", "1.50 KiB", "10.0 KiB", "100 KiB", "1024 KiB", "1.00 TiB"],
        "durations": ["0.0 s", "10.0 s", "1 min 1 s", "2 min", "2 h", "2 h 1 min", "2 d"],
        "ratios": ["2.50×", "25.0×", "–"],
        "ticks": [[0, 1], [0, 200, 400, 600, 800, 1000], [0, 500, 1000, 1500],
                  [0, 1048576, 2097152, 3145728, 4194304, 5242880]],
        "hours": {"step": 3600000, "ticks": [3600000, 7200000, 10800000, 14400000]},
        "zone": [86400000 - 7200000, 2 * 86400000 - 7200000],
        "branch": [["a", 0, -1], ["b", 0, 0], ["d", 1, 1], ["c", 0, 1], ["e", 0, 3]],
        "orphan": [["y", 0, -1], ["x", 0, -1]],
        "steps": [["a", None], ["b", "a"]],
        "chain": 0,
        "cycle": 0,
    }
    for name, value in wanted.items():
        assert got[name] == value, f"{name}: got {got[name]}, wanted {value}"


# ---- other daemons ----

def older_daemon():
    forwarder.absent = ("/api/builds", "/api/sandboxes", "/api/stats/history", "/api/mounts")
    try:
        b.open(URL + "#builds")
        b.reload()
        b.until("no builds", lambda: "does not build" in b.find("#view-builds").text())
        view("sandboxes")
        b.until("no sandboxes", lambda: "does not run" in b.find("#view-sandboxes").text())
        view("mounts")
        b.until("no mounts", lambda: "no mounts" in b.find("#view-mounts").text())
        view("store")
        b.until("no history", lambda: "no history" in b.find("#view-store").text())
        view("snapshots")
        row("alpha")
        same(thrown(), [])
    finally:
        forwarder.absent = ()


def lost_daemon():
    """Told to the shell, which restarts the daemon meanwhile."""
    b.open(URL + "#snapshots")
    b.reload()
    row("alpha")
    print("# restart", flush=True)
    b.until("the loss is told", lambda: "No answer" in b.find("#connection").text(), 60 * SLOW)
    assert b.with_text("#view-snapshots .toggle", "alpha"), "what was known has gone"
    b.until("it is back", lambda: b.find("#connection").text() == "Connected", 60 * SLOW)


def asks_for_key():
    b.open(f"http://127.0.0.1:{TCP_PORT}/")
    field = b.wait("dialog[open] input")
    same(field.attribute("type"), "password")
    same(len(b.all("dialog")), 1)
    field.type("wrong", Keys.ENTER)
    b.until("it is refused", lambda: "does not accept" in (b.find("dialog .hint") or b.find("body")).text())
    assert b.find("#view-snapshots").text().count("alpha") == 0
    b.wait("dialog[open] input").type(KEY, Keys.ENTER)
    row("alpha")
    same(b.js("return Object.values(sessionStorage)"), [KEY])
    same(b.js("return [localStorage.length, document.cookie]"), [0, ""])
    assert KEY not in b.url()
    b.reload()
    row("alpha")
    same(len(b.all("dialog")), 0)
    same(thrown(), [])


STEPS = [
    ("the page loads and says nothing on the console", loads),
    ("a policy keeps markup and script out", policy),
    ("events, sizes, axes and lineages of all kinds", parts),
    ("snapshots are listed with their sizes", row_values),
    ("the lineage is a picture that leads to the rows", lineage),
    ("a row opens to the record and its changes, Escape closes it", details),
    ("rename refuses bad names, and renames", rename),
    ("pin and lifetime", pin),
    ("delete asks first", delete),
    ("a refresh changes rows in place", refresh_in_place),
    ("snapshots are sorted and filtered", filter_and_sort),
    ("mounts show what has changed, as text", mounts),
    ("the store's figures and their plot", store),
    ("garbage is collected", gc),
    ("the history is told in bounded pieces", history_lasts),
    ("light and dark, with enough contrast", dark),
    ("nothing is too wide for a phone", phone),
    ("tables, controls and logs have names and roles", accessible),
    ("all can be done by keyboard", keyboard_only),
]
RUNTIME_STEPS = [
    ("a bad manifest is refused with the reason", refuses_nonsense),
    ("a build's log is shown while it runs", builds_live),
    ("a cached image is there at once; a taken name is told", builds_cached),
    ("a failing build shows its reason and keeps its log", builds_fail),
    ("a running build is cancelled after asking", builds_cancel),
    ("a sandbox shows what it has changed and is killed after asking", sandboxes),
]
LAST_STEPS = [
    ("an older daemon's page works without what it lacks", older_daemon),
    ("a daemon that restarts is found again", lost_daemon),
    ("over TCP the page asks for the key and keeps it in the tab", asks_for_key),
]

with Browser(os.path.join(DIR, "browser")) as b:
    b.resize(1280, 900)
    b.dark(False)
    for what, fn in STEPS + (RUNTIME_STEPS if HAS_RUNTIME else []) + LAST_STEPS:
        check(what)(fn)
