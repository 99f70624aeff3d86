"""Which bytes of a file a request asks for: RFC 9110, sections 13 (conditions) and 14 (ranges), for one range and strong tags."""

from __future__ import annotations

import re
from dataclasses import dataclass

from quantry_core.errors import RangeNotSatisfiable

# More digits than any file needs; Python refuses to read thousands of them.
_ONE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True)
class ByteRange:
    """``length`` bytes from ``start``, of a file of ``size_bytes``."""

    start: int
    length: int
    size_bytes: int

    @property
    def content_range(self) -> str:
        """The Content-Range header."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{self.size_bytes}"


def etag_of(sha256: str) -> str:
    """Returns the strong entity tag of a file: its digest."""
    return f'"{sha256}"'


def matches(header: str | None, etag: str) -> bool:
    """Tells whether an If-None-Match header names this file (weak comparison, section 13.1.2)."""
    if header is None:
        return False
    if header.strip() == "*":
        return True
    return any(tag.strip().removeprefix("W/") == etag for tag in header.split(","))


def requested_range(header: str | None, if_range: str | None, etag: str, size_bytes: int) -> ByteRange | None:
    """Returns the range that is asked for, or None where the whole file is to be sent.

    The whole file is sent without a Range header, for a unit other than bytes, a range that makes no sense, several ranges
    (section 14.2 lets a server ignore those), and where If-Range names other bytes. Raises RangeNotSatisfiable where the
    range begins past the end.
    """
    if header is None or (if_range is not None and if_range.strip() != etag):
        return None
    found = _ONE_RANGE.fullmatch(header.strip())
    if found is None or found.group(1, 2) == ("", ""):
        return None
    first, last = found.group(1, 2)
    if first == "":
        return _suffix(int(last), size_bytes)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size_bytes:
        raise RangeNotSatisfiable(f"the file has {size_bytes} bytes; there is none at {start}")
    end = min(int(last) + 1, size_bytes) if last else size_bytes
    return ByteRange(start, end - start, size_bytes)


def _suffix(length: int, size_bytes: int) -> ByteRange | None:
    if length == 0:
        raise RangeNotSatisfiable("a range of the last 0 bytes holds nothing")
    if size_bytes == 0:
        # Satisfiable by section 14.1.2, but no Content-Range can say so.
        return None
    kept = min(length, size_bytes)
    return ByteRange(size_bytes - kept, kept, size_bytes)
