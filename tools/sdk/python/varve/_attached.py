"""A command that somebody waits for, and that goes on while the daemon is replaced: it is started as
an attached one, and its output followed, again from where it broke off, up to its end."""
from __future__ import annotations

import time
from typing import Any, Dict

from . import _calls
from ._endpoint import Call
from .errors import NotFoundError, TransportError, VarveError
from .types import ExecResult, Output

# Of each stream of a result: what the daemon keeps of commands that nobody follows, too.
OUTPUT_MOST = 16 << 20
# A daemon that has lived for so long did not die of a call.
LASTING = 60.0
# A client that gives up says so, for no longer than this; the command ends soon in any case.
KILL_TIMEOUT = 5.0


class Attached:
    """One such command, while it is followed."""

    def __init__(self, sandbox_id: str, exec_id: str, keep: bool) -> None:
        """keep: its output is to be part of the result."""
        self._sandbox_id, self._exec_id, self._keep = sandbox_id, exec_id, keep
        self._at = {"stdout": 0, "stderr": 0}  # so much of them has come
        self._kept = {"stdout": bytearray(), "stderr": bytearray()}
        self._noted = (0, 0.0)
        self.is_over = False  # nobody is to end it any more

    def follow(self) -> Call:
        """The call that tells its output from there on."""
        self._noted = (sum(self._at.values()), time.monotonic())
        return _calls.exec_output(self._sandbox_id, self._exec_id, self._at)

    def kill(self) -> Call:
        return _calls.exec_kill(self._sandbox_id, self._exec_id)

    def take(self, output: Output) -> None:
        """That has come."""
        self._at[output.stream] += len(output.data)
        kept = self._kept[output.stream]
        if self._keep:
            kept += output.data[: OUTPUT_MOST - len(kept)]

    def has_moved(self) -> bool:
        """Whether the last call has told something, or lasted: then the next one is no repetition."""
        total, begun = self._noted
        return sum(self._at.values()) > total or time.monotonic() - begun > LASTING

    def failure(self, e: VarveError) -> VarveError:
        """What to raise for a failure to follow it any further."""
        self.is_over = True
        if isinstance(e, NotFoundError):
            lost = TransportError(f"how the command has ended is not known: {e.message}")
            lost.__cause__ = e
            return lost
        return e

    def result(self, value: Dict[str, Any]) -> ExecResult:
        """At its end, of which the daemon has said this."""
        value = dict(value)
        for name, kept in self._kept.items():
            if self._keep and self._at[name] > len(kept):
                value["truncated"] = True
                start = b"" if kept.endswith(b"\n") else b"\n"
                kept += start + b"varve: output cut after %d bytes\n" % OUTPUT_MOST
            value[name] = kept.decode("utf-8", "replace")
        return ExecResult.from_json(value)
