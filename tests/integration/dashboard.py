"""dashboard.py - what 0490-dashboard.sh drives: the page in a real Chromium.

    dashboard.py DIR PORT      DIR: the test's directory ($T); PORT: the daemon's TCP port

Prints one line a check, "ok - WHAT" or "not ok - WHAT", and "# ..." for what goes with it.
The steps are in dashboard_page.py and dashboard_views.py.
"""
import dashboard_page as page
import dashboard_views as views
from dashboard_fixture import HAS_RUNTIME, b, check

STEPS = [
    ("through the socket the page wants the token", page.wants_a_token),
    ("the page loads and says nothing on the console", page.loads),
    ("a policy keeps markup and script out", page.policy),
    ("events, sizes, axes and lineages of all kinds", page.parts),
    ("snapshots are listed with their sizes", views.row_values),
    ("the lineage is a picture that leads to the rows", views.lineage),
    ("a row opens to the record and its changes, Escape closes it", views.details),
    ("rename refuses bad names, and renames", views.rename),
    ("pin and lifetime", views.pin),
    ("delete asks first", views.delete),
    ("a refresh changes rows in place", views.refresh_in_place),
    ("snapshots are sorted and filtered", views.filter_and_sort),
    ("mounts show what has changed, as text", views.mounts),
    ("remotes show what they have, and it is pulled", views.remotes),
    ("the store's figures and their plot", views.store),
    ("garbage is collected", views.gc),
    ("the history is told in bounded pieces", views.history_lasts),
    ("light and dark, with enough contrast", page.dark),
    ("nothing is too wide for a phone", page.phone),
    ("tables, controls and logs have names and roles", page.accessible),
    ("all can be done by keyboard", page.keyboard_only),
]
RUNTIME_STEPS = [
    ("a bad manifest is refused with the reason", views.refuses_nonsense),
    ("a build's log is shown while it runs", views.builds_live),
    ("a cached image is there at once; a taken name is told", views.builds_cached),
    ("a failing build shows its reason and keeps its log", views.builds_fail),
    ("a running build is cancelled after asking", views.builds_cancel),
    ("a sandbox shows what it has changed and is killed after asking", views.sandboxes),
]
LAST_STEPS = [
    ("an older daemon's page works without what it lacks", page.older_daemon),
    ("a daemon that restarts is found again", page.lost_daemon),
    ("over TCP the page asks for the key and keeps it in the tab", page.asks_for_key),
]

with b:
    b.resize(1280, 900)
    b.dark(False)
    for what, fn in STEPS + (RUNTIME_STEPS if HAS_RUNTIME else []) + LAST_STEPS:
        check(what)(fn)
