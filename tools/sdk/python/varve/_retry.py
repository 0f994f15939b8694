"""When a call is made again that has met a daemon which is being replaced."""
from __future__ import annotations

import math
import os
import time
from typing import Optional

from ._endpoint import CONNECT_TIMEOUT, Call
from .errors import ApiError, TransportError, UnreachableError

DEFAULT_SECONDS = 10.0
SECONDS_MOST = 86400.0
PAUSE_FIRST = 0.02
PAUSE_MOST = 0.5
# A call that breaks off this often, once sent, is what the daemons die of.
BREAKS_MOST = 8
# A 503 that says to come back later than this is no daemon that is being replaced.
RETRY_AFTER_MOST = 2.0
# A call that is still under way is asked for as long as a daemon knows its key.
PENDING_MOST = 3600.0

# Whether the daemon does a call with a key once: every reply of one that does says so.
ASK_FOR_KEYS = Call("GET", "/healthz", timeout=CONNECT_TIMEOUT)


def _is_good(seconds: float) -> bool:
    return math.isfinite(seconds) and 0 <= seconds <= SECONDS_MOST


def _from_environment() -> Optional[float]:
    try:
        seconds = float(os.environ.get("VARVE_RETRY_SECONDS", ""))
    except ValueError:
        return None
    return seconds if _is_good(seconds) else None


class RetryPolicy:
    """What a client is told to do, and what it knows of its daemon."""

    def __init__(self, seconds: Optional[float]) -> None:
        if seconds is None:
            seconds = _from_environment()
        elif not _is_good(seconds):
            raise ValueError(f"retry is 0 to {SECONDS_MOST:.0f} seconds, not {seconds}")
        self.always = seconds is not None
        self.seconds = DEFAULT_SECONDS if seconds is None else seconds
        self.reached = False  # one has answered, or taken a call
        self.keys: Optional[bool] = None  # whether the last that answered knows keys

    def note_reply(self, keys: Optional[str]) -> None:
        """A reply has come; keys: its header Idempotency-Keys."""
        self.reached = True
        self.keys = keys is not None

    def asks(self, call: Call) -> bool:
        """Whether ASK_FOR_KEYS comes first. Where nobody answers that, the call will tell."""
        return bool(call.key) and self.seconds > 0 and self.keys is None


class Retry:
    """One call while it is made. `next` says how long to wait before it is made again."""

    def __init__(self, policy: RetryPolicy, call: Call) -> None:
        self._policy = policy
        self._method = call.method
        self._end: Optional[float] = None
        self._pending_end: Optional[float] = None
        self._pause = PAUSE_FIRST
        self._breaks = 0

    def _may(self, failure: Exception) -> bool:
        if isinstance(failure, ApiError):
            after = failure.retry_after
            return failure.status == 503 and after is not None and after <= RETRY_AFTER_MOST
        if isinstance(failure, UnreachableError):
            return self._policy.always or self._policy.reached
        # It was there, and has been sent the call. An older one would do a change twice.
        self._policy.reached = True
        return self._method in ("GET", "PUT") or bool(self._policy.keys)

    def _gives_up(self, failure: Exception, now: float) -> bool:
        """Whether that has come too often. Where a daemon was there, the time begins anew."""
        if isinstance(failure, ApiError):
            if not failure.pending:
                return False
            self._pending_end = self._pending_end or now + PENDING_MOST
            self._end = None
            return now >= self._pending_end
        if isinstance(failure, UnreachableError):
            return False
        self._breaks += 1
        self._end = None
        return self._breaks > BREAKS_MOST

    def next(self, failure: Exception) -> float:
        """Seconds to sleep; raises the failure where the call is not made again."""
        now = time.monotonic()
        if not self._may(failure) or self._policy.seconds == 0 or self._gives_up(failure, now):
            raise failure
        if self._end is None:
            self._end, self._pause = now + self._policy.seconds, PAUSE_FIRST
        if now >= self._end:
            raise failure
        pause = min(self._pause, self._end - now)
        self._pause = min(2 * self._pause, PAUSE_MOST)
        return pause
