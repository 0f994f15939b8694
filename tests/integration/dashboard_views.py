"""dashboard_views.py - steps of dashboard.py: what each of the views shows and does."""
import json
import os
import re
import subprocess
import time

from dashboard_fixture import (
    BIN, SLOW, SOCKET, api, b, dialog_button, row, same, snapshot_names, view)
from webdriver import Keys


# ---- snapshots ----

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
    links = b.until("the lineage stands still",
                    lambda: {a.label().split(",")[0]: a for a in b.all("svg.lineage a")})
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
    # A tick at midnight has the date.
    b.until("the span changes", lambda: len([t for t in texts("svg.plot .tick.mid") if ":" not in t]) <= 1)


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


# ---- remotes ----

def remotes():
    api("POST", "/api/remotes", {"name": "shared", "url": f"file://{os.path.join(os.path.dirname(SOCKET), 'bucket')}"})
    api("POST", "/api/snapshots/alpha/push", {"remote": "shared"})
    api("POST", "/api/snapshots/alpha/push", {"remote": "shared", "name": "elsewhere"})
    view("remotes")
    row("shared", "remotes").click()
    b.wait("#view-remotes button", "Show what it has").click()
    table = b.until("the table", lambda: b.find("#view-remotes .more .scroll") and
                    b.find("#view-remotes .more .scroll").text())
    assert "alpha" in table and "elsewhere" in table, table
    assert b.js("return [...document.querySelectorAll('#view-remotes .more .scroll td button')].every((x) => x.disabled)")

    # One that is there only: it is pulled under the name that it has there.
    empty = os.path.join(os.path.dirname(SOCKET), "brief")
    os.mkdir(empty)
    api("POST", "/api/snapshots/import", {"name": "brief", "source": {"dir": empty}})
    api("POST", "/api/snapshots/brief/push", {"remote": "shared", "name": "pulled"})
    api("DELETE", "/api/snapshots/brief")
    b.wait("#view-remotes button", "Show what it has").click()
    b.wait("#view-remotes button", "Pull pulled").click()
    b.until("it is here", lambda: "pulled" in snapshot_names(), 60 * SLOW)
    b.until("the page says so", lambda: "is here" in b.find("#view-remotes .more [role=status]").text())
    api("DELETE", "/api/snapshots/pulled")
    api("DELETE", "/api/remotes/shared")


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
