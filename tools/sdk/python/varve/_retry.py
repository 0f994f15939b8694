"""When a call is made again that has met a daemon which is being replaced."""
from __future__ import annotations

import os
import time
from typing import Optional

from .errors import ApiError, TransportError, UnreachableError

DEFAULT_SECONDS = 10.0
PAUSE_FIRST = 0.02
PAUSE_MOST = 0.5
# An answer that is begun and breaks off this often is what the daemons die of.
BREAKS_MOST = 8
# A 503 that says to come back later than this is no daemon that is being replaced.
RETRY_AFTER_MOST = 2.0


class RetryPolicy:
    """What a client is told to do, and whether a daemon has ever answered it."""

    def __init__(self, seconds: Optional[float]) -> None:
        text = os.environ.get("VARVE_RETRY_SECONDS")
        if seconds is None and text:
            seconds = float(text)
        self.always = seconds is not None
        self.seconds = DEFAULT_SECONDS if seconds is None else seconds
        self.reached = False


class Retry:
    """One call while it is made. `next` says how long to wait before it is made again."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._end: Optional[float] = None
        self._pause = PAUSE_FIRST
        self._breaks = 0

    def _may(self, failure: Exception) -> bool:
        if isinstance(failure, ApiError):
            after = failure.retry_after
            return failure.status == 503 and after is not None and after <= RETRY_AFTER_MOST
        if isinstance(failure, UnreachableError):
            return self._policy.always or self._policy.reached
        return isinstance(failure, TransportError)

    def next(self, failure: Exception, answered: bool = False) -> float:
        """Seconds to sleep; raises the failure where the call is not made again. answered: it
        broke off in its answer."""
        now = time.monotonic()
        if answered:
            self._breaks += 1
            self._end = None
        if not self._may(failure) or self._breaks > BREAKS_MOST:
            raise failure
        if self._end is None:
            self._end, self._pause = now + self._policy.seconds, PAUSE_FIRST
        if now >= self._end:
            raise failure
        pause = min(self._pause, self._end - now)
        self._pause = min(2 * self._pause, PAUSE_MOST)
        return pause
