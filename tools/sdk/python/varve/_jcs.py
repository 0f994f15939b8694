"""Canonical JSON (RFC 8785), for cache keys.

Numbers are integers between -2**53 and 2**53: that is all a manifest holds, and all that every
language writes in the same way.
"""
from __future__ import annotations

import json
from typing import Any, List

_INTEGER_MAX = 2**53


def _string(value: str) -> str:
    # Escapes only the quote, the backslash and controls, with lower-case hex: what RFC 8785 asks.
    return json.dumps(value, ensure_ascii=False)


def _utf16(value: str) -> bytes:
    # Compares as the sequence of UTF-16 code units does, which is the order of keys.
    return value.encode("utf-16-be")


def _write(value: Any, out: List[str]) -> None:
    if value is None:
        out.append("null")
    elif isinstance(value, bool):
        out.append("true" if value else "false")
    elif isinstance(value, str):
        out.append(_string(value))
    elif isinstance(value, int):
        if abs(value) > _INTEGER_MAX:
            raise ValueError(f"{value} is beyond 2**53, so not every reader would keep it")
        out.append(str(int(value)))
    elif isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is no string")
        for i, key in enumerate(sorted(value, key=_utf16)):
            out.append(("," if i else "{") + _string(key) + ":")
            _write(value[key], out)
        out.append("}" if value else "{}")
    elif isinstance(value, (list, tuple)):
        out.append("[")
        for i, item in enumerate(value):
            if i:
                out.append(",")
            _write(item, out)
        out.append("]")
    else:
        raise TypeError(f"{type(value).__name__} has no canonical JSON form")


def dumps(value: Any) -> bytes:
    """The canonical JSON of value, in UTF-8.

    Raises TypeError for what JSON (or this module) does not have, such as a float, and
    ValueError for too large an integer and for text that is not Unicode (a lone surrogate).
    """
    out: List[str] = []
    _write(value, out)
    return "".join(out).encode("utf-8")
