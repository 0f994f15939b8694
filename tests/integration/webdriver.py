"""webdriver.py - a small client of the WebDriver protocol (W3C), enough to drive Chromium
through chromedriver with Python's standard library alone.

    with Browser(tmp) as b:
        b.open(url)
        b.wait("#name").type("x", Keys.ENTER)
        b.console()     # what the page has said: [{"level", "message", ...}]
"""
import base64
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
WAIT_S = 20 * float(os.environ.get("VARVE_SLOW", "1"))


class Keys:
    ENTER, TAB, ESCAPE, SPACE = "\ue007", "\ue004", "\ue00c", "\ue00d"
    LEFT, UP, RIGHT, DOWN, HOME, END = "\ue012", "\ue013", "\ue014", "\ue015", "\ue011", "\ue010"
    SHIFT, CONTROL = "\ue008", "\ue009"


class WebDriverError(Exception):
    pass


class Element:
    def __init__(self, browser, ref):
        self.browser, self.ref = browser, ref

    def _do(self, method, path, body=None):
        return self.browser.command(method, f"/element/{self.ref[ELEMENT]}{path}", body)

    def click(self):
        self._do("POST", "/click", {})

    def clear(self):
        self._do("POST", "/clear", {})
        return self

    def type(self, *text):
        self._do("POST", "/value", {"text": "".join(text)})
        return self

    def text(self):
        return self._do("GET", "/text")

    def attribute(self, name):
        return self._do("GET", f"/attribute/{name}")

    def property(self, name):
        return self._do("GET", f"/property/{name}")

    def css(self, name):
        return self._do("GET", f"/css/{name}")

    def role(self):
        return self._do("GET", "/computedrole")

    def label(self):
        return self._do("GET", "/computedlabel")

    def shown(self):
        return self._do("GET", "/displayed")

    def screenshot(self, path):
        with open(path, "wb") as f:
            f.write(base64.b64decode(self._do("GET", "/screenshot")))


class Browser:
    """tmp: a directory for the profile and the logs; it is the caller's to remove."""

    def __init__(self, tmp, width=1280, height=900, dark=False, args=()):
        self.tmp = tmp
        self.profile = os.path.join(tmp, "profile")
        shutil.rmtree(self.profile, ignore_errors=True)
        self.options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", f"--user-data-dir={self.profile}",
            f"--window-size={width},{height}", *args]
        if dark:
            self.options.append("--blink-settings=preferredColorScheme=0")
        self.driver = None
        self.session = None

    def __enter__(self):
        log = os.path.join(self.tmp, "chromedriver.log")
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0", f"--log-path={log}"], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        port = None
        for line in self.driver.stdout:
            if "started successfully on port" in line:
                port = int(line.rsplit("port", 1)[1].strip(" .\n"))
                break
        if port is None:
            raise WebDriverError("chromedriver does not start")
        self.base = f"http://127.0.0.1:{port}"
        try:
            self._begin()
        except Exception:
            self.__exit__()
            raise
        return self

    def _begin(self):
        caps = {"browserName": "chrome", "goog:loggingPrefs": {"browser": "ALL"},
                "goog:chromeOptions": {"args": self.options}}
        reply = self._call("POST", "/session", {"capabilities": {"alwaysMatch": caps}})
        self.session = reply["sessionId"]

    def __exit__(self, *_):
        try:
            if self.session:
                self._call("DELETE", f"/session/{self.session}")
        except (OSError, WebDriverError):
            pass
        self.driver.terminate()
        try:
            self.driver.wait(20)
        except subprocess.TimeoutExpired:
            self.driver.kill()
            self.driver.wait()
        self.driver.stdout.close()

    def _call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, method=method,
                                         headers={"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=120) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as e:
            value = json.load(e)["value"]
            raise WebDriverError(f"{value['error']}: {value['message']}".split("\n")[0]) from None

    def command(self, method, path, body=None):
        return self._call(method, f"/session/{self.session}{path}", body)

    # --- pages ---
    def open(self, url):
        self.command("POST", "/url", {"url": url})

    def reload(self):
        self.command("POST", "/refresh", {})

    def url(self):
        return self.command("GET", "/url")

    def title(self):
        return self.command("GET", "/title")

    def resize(self, width, height):
        """The page's own size, whatever the window adds to it."""
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=False)

    def dark(self, on):
        self.cdp("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if on else "light"}])

    def cdp(self, command, **params):
        return self.command("POST", "/goog/cdp/execute", {"cmd": command, "params": params})

    def js(self, script, *args):
        """The value of `return ...`; elements may be given and come back."""
        raw = [a.ref if isinstance(a, Element) else a for a in args]
        value = self.command("POST", "/execute/sync", {"script": script, "args": raw})
        return Element(self, value) if isinstance(value, dict) and ELEMENT in value else value

    def js_async(self, script, *args):
        """script calls its last argument with the value."""
        return self.command("POST", "/execute/async", {"script": script, "args": list(args)})

    def screenshot(self, path):
        with open(path, "wb") as f:
            f.write(base64.b64decode(self.command("GET", "/screenshot")))

    def console(self):
        """What the page has said since the last call."""
        return self.command("POST", "/se/log", {"type": "browser"})

    # --- elements ---
    def all(self, css):
        found = self.command("POST", "/elements", {"using": "css selector", "value": css})
        return [Element(self, ref) for ref in found]

    def find(self, css):
        found = self.all(css)
        return found[0] if found else None

    def with_text(self, css, text):
        """The first shown element that fits css and has this text (or accessible name)."""
        for e in self.all(css):
            try:
                if e.shown() and text in (e.text().strip(), e.label()):
                    return e
            except WebDriverError as error:
                if "stale" not in str(error):
                    raise
        return None

    def until(self, what, fn, seconds=WAIT_S):
        """fn's first value that is true; an AssertionError saying what else."""
        end = time.monotonic() + seconds
        while True:
            try:
                value = fn()
            except WebDriverError as e:
                if "stale" not in str(e):
                    raise
                value = None
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds:g} s: {what}")
            time.sleep(0.05)

    def wait(self, css, text=None):
        """A shown element that fits css (and has the text)."""
        def look():
            if text is not None:
                return self.with_text(css, text)
            return next((e for e in self.all(css) if e.shown()), None)
        return self.until(f"{css} {text or ''}", look)

    def wait_gone(self, css):
        self.until(f"no {css}", lambda: not any(e.shown() for e in self.all(css)))

    # --- keyboard ---
    def keys(self, *keys):
        """Press keys one by one, wherever the focus is; a tuple is a chord."""
        actions = []
        for k in keys:
            chord = k if isinstance(k, tuple) else (k,)
            actions += [{"type": "keyDown", "value": c} for c in chord]
            actions += [{"type": "keyUp", "value": c} for c in reversed(chord)]
        self.command("POST", "/actions", {"actions": [
            {"type": "key", "id": "keyboard", "actions": actions}]})

    def focused(self):
        ref = self.command("GET", "/element/active")
        return Element(self, ref)
