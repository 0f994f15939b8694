"""What the tests against a daemon share. They are skipped unless VARVE_LIVE is set; the daemon is
that of SNAPSHOTD_SOCKET, its default template is a Debian root, and VARVE_LIVE_URL and
VARVE_LIVE_KEY are its address on TCP."""
import os
import secrets
import time
import unittest

from varve import Builds, Image, Sandbox

live = unittest.skipUnless(os.environ.get("VARVE_LIVE"), "needs a daemon (VARVE_LIVE)")
# A part of names and images that no other run of the tests has.
RUN = secrets.token_hex(4)
SLEEP = 1.5  # seconds in the middle of the build


def common_image():
    """Built by whichever test comes first, then cached."""
    return (
        Image.base()
        .env({"RUN": RUN, "GREETING": "gr\u00fc\u00df \"gott\" $HOME `id`\n'2nd line'"})
        .workdir("/srv/app")
        .add_file("/srv/app/hello.sh", '#!/bin/sh\necho "hello $1"\n', 0o755)
        .run_commands(
            'echo "to stdout"; echo "to stderr" >&2',
            f"sleep {SLEEP}",
            'pwd >here; printf %s "$GREETING" >greeting',
        )
    )


class Log:
    """A callback that keeps lines, with the times of their coming."""

    def __init__(self):
        self.lines = []
        self.times = []

    def __call__(self, line):
        self.lines.append(line)
        self.times.append(time.monotonic())

    def find(self, message):
        return [i for i, line in enumerate(self.lines) if line.message == message]


class Live(unittest.TestCase):
    """Sandboxes that a test makes are killed at its end."""

    def sandbox(self, **options):
        sandbox = Sandbox.create(**options)
        self.addCleanup(self.kill, sandbox)
        return sandbox

    def kill(self, sandbox):
        if sandbox.is_running():
            sandbox.kill()

    def number_of_builds(self):
        return len(Builds().list())
