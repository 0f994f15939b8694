"""What can go wrong: every exception of this package is a VarveError."""
from __future__ import annotations

import json
from typing import Optional, Type


class VarveError(Exception):
    """Base of all exceptions of this package."""


class TransportError(VarveError):
    """The daemon could not be reached, or the connection broke off."""


class UnreachableError(TransportError):
    """There was no connection: nothing has been sent."""


class ApiError(VarveError):
    """The daemon refused or failed. `status` is HTTP's (0 for what failed once a reply had begun),
    `message` says what and why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} (status {status})" if status else message)
        self.status = status
        self.message = message
        self.retry_after: Optional[float] = None  # seconds, where the daemon says so
        self.pending = False  # 503: the same call, with its key, is still under way


class InvalidRequestError(ApiError):
    """400: something in the request is malformed."""


class AuthenticationError(ApiError):
    """401: the API key is missing or wrong."""


class NotFoundError(ApiError):
    """404: no such sandbox, snapshot, checkpoint, build or file."""


class ConflictError(ApiError):
    """409: the name is taken, or the thing is busy."""


class NoSpaceError(ApiError):
    """507: the store or a quota is full."""


class BuildError(ApiError):
    """An image could not be built. `step` is the number of the failing step, where known."""

    def __init__(self, message: str, step: Optional[int] = None, status: int = 422) -> None:
        super().__init__(status, message)
        self.step = step


class CommandError(VarveError):
    """A command that was run with check=True ended with another status than 0."""

    def __init__(self, command: str, exit_code: int, stdout: str, stderr: str) -> None:
        detail = stderr.strip()[-500:]
        super().__init__(f"{command!r} ended with {exit_code}" + (f": {detail}" if detail else ""))
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr


class WaitTimeoutError(VarveError, TimeoutError):
    """What was waited for did not happen in time. It may still happen."""


_BY_STATUS: dict[int, Type[ApiError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    404: NotFoundError,
    409: ConflictError,
    507: NoSpaceError,
}


def api_error(
    status: int, body: bytes, retry_after: Optional[str] = None, pending: Optional[str] = None
) -> ApiError:
    """The exception for a reply with a failing status, and these headers."""
    error = _api_error(status, body)
    error.pending = pending is not None
    if retry_after is not None and retry_after.isdigit():
        error.retry_after = float(retry_after)
    return error


def _api_error(status: int, body: bytes) -> ApiError:
    text = body.decode("utf-8", "replace").strip()
    message, step = text or "the daemon gave no reason", None
    try:
        value = json.loads(text)
    except ValueError:
        pass
    else:
        if isinstance(value, dict) and isinstance(value.get("error"), str):
            message = value["error"]
            step = value.get("step") if isinstance(value.get("step"), int) else None
    if status == 422:
        return BuildError(message, step)
    return _BY_STATUS.get(status, ApiError)(status, message)
