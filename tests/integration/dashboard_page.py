"""dashboard_page.py - steps of dashboard.py: the page as a whole. How it loads, its parts, how it
looks, that all can use it, and what it says of other daemons.
"""
import re
import time

from dashboard_fixture import (
    KEY, SLOW, TCP_PORT, URL, api, b, complaints, forwarder, row, same, snapshot_names,
    thrown, token_url, view)
from webdriver import Keys


# ---- loading ----

def wants_a_token():
    """What the socket's mode does not guard: a browser, which any page may use."""
    b.open(URL)
    assert "varve dashboard" in b.wait("dialog[open]").text()
    same(b.find("#view-snapshots").text().count("alpha"), 0)
    b.open(token_url())
    row("alpha")
    assert "token" not in b.url(), b.url()


def refreshed():
    """How often the list of snapshots has come."""
    return b.js("""return performance.getEntriesByType("resource").filter(
        (e) => new URL(e.name).pathname === "/api/snapshots").length;""")


def loads():
    b.open(URL)
    b.console()
    b.reload()
    b.wait("#view-snapshots .toggle", "alpha")
    b.until("all calls have been answered", lambda: b.find("#connection").text() == "Connected")
    rounds = refreshed()
    b.until("it refreshes", lambda: refreshed() > rounds)
    same(b.title(), "Snapshots – Varve")
    same([a.text().split()[0] for a in b.all("nav a")],
         ["Snapshots", "Builds", "Sandboxes", "Mounts", "Remotes", "Store"])
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


def all_named(v):
    """True; the page may put other controls in their place meanwhile, so b.until asks."""
    for e in b.all("button, a, input, textarea, summary, progress, svg[role], [role=log]"):
        assert not e.shown() or e.label(), f"{v}: something has no name: {e.attribute('outerHTML')}"
    same(len([h for h in b.all("h1") if h.shown()]), 1)
    return True


def accessible():
    for v in ("snapshots", "new", "builds", "sandboxes", "mounts", "store"):
        view(v)
        bad = b.js("""return [...document.querySelectorAll("table")].filter((t) => !t.caption ||
            [...t.querySelectorAll("th")].some((h) => !h.scope)).length""")
        same(bad, 0)
        b.until(f"{v} stands still", lambda v=v: all_named(v))
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
    """The shell stops the daemon, and starts it again, when it is told to."""
    b.js("sessionStorage.setItem('varve-api-key', arguments[0])", KEY)  # tokens end with the daemon
    b.open(URL + "#snapshots")
    b.reload()
    row("alpha")
    print("# stop", flush=True)
    b.until("the loss is told", lambda: "No answer" in b.find("#connection").text(), 60 * SLOW)
    assert b.with_text("#view-snapshots .toggle", "alpha"), "what was known has gone"
    print("# start", flush=True)
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
