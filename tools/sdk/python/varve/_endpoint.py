"""Where the daemon is, and one call of its API, before anything is sent."""
from __future__ import annotations

import os
import urllib.parse
import uuid
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

DEFAULT_SOCKET = "/run/snapshotd.sock"
CONNECT_TIMEOUT = 10.0
# A stream of events has a comment every 15 s, so a longer silence is a broken connection.
EVENTS_TIMEOUT = 90.0


@dataclass(frozen=True)
class Endpoint:
    """A unix socket, or a host and port."""

    socket: Optional[str]
    host: str = "localhost"
    port: int = 0
    tls: bool = False
    prefix: str = ""
    api_key: str = field(default="", repr=False)

    @classmethod
    def resolve(
        cls, socket: Optional[str] = None, url: Optional[str] = None, api_key: Optional[str] = None
    ) -> Endpoint:
        """What was given, else VARVE_API_URL (and VARVE_API_KEY), VARVE_SOCKET,
        SNAPSHOTD_SOCKET, /run/snapshotd.sock, in this order."""
        env = os.environ
        if socket and url:
            raise ValueError("give either a socket or a URL")
        if not socket and not url:
            url = env.get("VARVE_API_URL")
            socket = env.get("VARVE_SOCKET") or env.get("SNAPSHOTD_SOCKET") or DEFAULT_SOCKET
        key = env.get("VARVE_API_KEY", "") if api_key is None else api_key
        if url:
            return cls._from_url(url, key)
        return cls(socket, api_key=key)

    @classmethod
    def _from_url(cls, url: str, api_key: str) -> Endpoint:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme == "unix":
            return cls(parts.path, api_key=api_key)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no http:, https: or unix: URL")
        prefix = parts.path.rstrip("/")
        prefix = prefix[: -len("/api")] if prefix.endswith("/api") else prefix
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        return cls(None, parts.hostname, port, tls, prefix, api_key)

    def __str__(self) -> str:
        if self.socket:
            return self.socket
        return f"{'https' if self.tls else 'http'}://{self.netloc}"

    @property
    def netloc(self) -> str:
        """For the header Host."""
        if self.socket:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Call:
    """One call. `timeout` is the longest silence in seconds, None for any."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Optional[bytes] = None
    content_type: str = "application/json"
    events: bool = False
    timeout: Optional[float] = None
    # Of one that changes something; the same where it is made again, so that it is done once.
    key: str = ""

    def target(self, endpoint: Endpoint) -> str:
        query = urllib.parse.urlencode(self.query, safe="/", quote_via=urllib.parse.quote)
        return endpoint.prefix + self.path + ("?" + query if query else "")

    def headers(self, endpoint: Endpoint) -> List[Tuple[str, str]]:
        out = [("Host", endpoint.netloc), ("Connection", "close")]
        out.append(("Accept", "text/event-stream" if self.events else "*/*"))
        if endpoint.api_key:
            out.append(("X-API-Key", endpoint.api_key))
        if self.key:
            out.append(("Idempotency-Key", self.key))
        return out

    def body_headers(self, body: object) -> List[Tuple[str, str]]:
        """bytes have a length; anything else is sent in chunks."""
        if body is None:
            return [] if self.method == "GET" else [("Content-Length", "0")]
        out = [("Content-Type", self.content_type)]
        if isinstance(body, (bytes, bytearray, memoryview)):
            return out + [("Content-Length", str(memoryview(body).nbytes))]
        return out + [("Transfer-Encoding", "chunked")]


def with_key(call: Call) -> Call:
    """The same call, with a key where it needs one to be made again: what looks something up and
    what writes a file may be done twice."""
    if call.key or call.method in ("GET", "PUT"):
        return call
    return replace(call, key=uuid.uuid4().hex)


def quote(part: Union[str, int]) -> str:
    """One segment of a path."""
    return urllib.parse.quote(str(part), safe="")


def without_none(**members: Any) -> Dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
