"""Server-sent events (the HTML standard's event streams), and what the daemon says with them."""
from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from typing import Any, Callable, Generic, Iterator, List, NamedTuple, Optional, TypeVar

from .errors import ApiError, BuildError, TransportError
from .types import BuildLog, Output

T = TypeVar("T")
_LINE_END = re.compile("\r\n|\r|\n")


class Event(NamedTuple):
    """One event: its name ("message" where none is given) and its data."""

    name: str
    data: str


class EventParser:
    """Turns bytes, cut anywhere, into events.

    Lines end with LF, CR or CRLF; data of several lines is joined with LF; comments, and what is
    not ended by an empty line, are no events.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""  # of a line that has no end yet
        self._after_cr = False
        self._first = True
        self._name = ""
        self._data: List[str] = []

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that are complete with data."""
        text = self._decoder.decode(data)
        if self._first and text:
            self._first = False
            text = text[1:] if text[0] == "\ufeff" else text
        for line in self._lines(text):
            event = self._line(line)
            if event:
                yield event

    def _lines(self, text: str) -> Iterator[str]:
        start = 0
        for end in _LINE_END.finditer(text):
            # The LF of a CRLF that was cut ends no line of its own.
            if not (self._after_cr and end.group() == "\n" and end.end() == 1):
                yield self._rest + text[start : end.start()]
                self._rest = ""
            start = end.end()
        if text:
            self._after_cr = text[-1] == "\r"
        self._rest += text[start:]

    def _line(self, line: str) -> Optional[Event]:
        if not line:
            event = Event(self._name or "message", "\n".join(self._data)) if self._data else None
            self._name, self._data = "", []
            return event
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        return None  # a comment (an empty field), or a field that means nothing here


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of stream: the events that are told while the work goes on, and its failure."""

    event: str
    convert: Callable[[Any], T]
    failure: Callable[[Any], ApiError]
    again: bool  # where the call is made again, they come again, from the first


def _object(data: str) -> Any:
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"error": data, "message": data}


def _reason(value: Any) -> str:
    reason = value.get("error")
    return reason if isinstance(reason, str) else json.dumps(value)


def _build_failure(value: Any) -> ApiError:
    return BuildError(_reason(value), value["step"] if isinstance(value.get("step"), int) else None)


def _other_failure(value: Any) -> ApiError:
    return ApiError(0, _reason(value))


BUILD = Kind("build_log", BuildLog.from_json, _build_failure, True)
OUTPUT = Kind("output", Output.from_json, _other_failure, False)


class ResultStream(Generic[T]):
    """Follows the events of one call up to its result."""

    def __init__(self, kind: Kind[T]) -> None:
        self._kind = kind
        self._parser = EventParser()
        self._result: Any = None
        self._done = False

    def feed(self, data: bytes) -> Iterator[T]:
        """What is told in data. Raises an ApiError at an error event."""
        for event in self._parser.feed(data):
            if event.name == self._kind.event:
                yield self._kind.convert(_object(event.data))
            elif event.name == "error":
                raise self._kind.failure(_object(event.data))
            elif event.name == "result":
                self._result, self._done = json.loads(event.data), True

    def result(self) -> Any:
        """At the stream's end: the result."""
        if not self._done:
            raise TransportError("the stream of events ended before its result")
        return self._result
