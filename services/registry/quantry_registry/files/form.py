"""A form with one file (multipart/form-data, RFC 7578), read while it streams: the file goes to disk, its fields are small."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Self

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from quantry_core.errors import InvalidInput

FILE_FIELD = "file"
FORM_BYTES = 64 * 1024
"""What a form may have beside the bytes of its file."""
MAX_FIELDS = 16
MAX_MEMORY_BYTES = 1024**2
READ_BYTES = 1024**2


class FileForm:
    """``read`` it whole, then ask. Holds at most a megabyte of the file and its fields in memory; close it, or use it in a ``with``."""

    def __init__(self, content_type: str | None) -> None:
        """Raises InvalidInput for what is no form by its Content-Type."""
        media_type, options = parse_options_header(content_type)
        if media_type != b"multipart/form-data":
            raise InvalidInput("a file is sent as multipart/form-data, with the fields 'file' and 'purpose'")
        if not options.get(b"boundary"):
            raise InvalidInput("the Content-Type of the form names no boundary")
        self.fields: dict[str, str] = {}
        """Its fields but for the file."""
        self.filename: str | None = None
        """Of the field ``file``; None where there is no such file."""
        self.content_type: str | None = None
        """Of the file, where it was said."""
        self._part = _Part()
        self._num_field_bytes = 0
        self._has_ended = False
        self._parser = self._made_parser(options[b"boundary"])
        self._spool = SpooledTemporaryFile[bytes](max_size=MAX_MEMORY_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._spool.close()

    async def read(self, pieces: AsyncIterator[bytes]) -> None:
        """Reads the form to its end; raises InvalidInput where it is none, breaks off, or has more than a form with a file has."""
        async for piece in pieces:
            await asyncio.to_thread(self._take, piece)
        if not self._has_ended:
            raise InvalidInput("the form breaks off: its last boundary is missing")

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yields the bytes of the file from its beginning."""
        self._spool.seek(0)
        while piece := await asyncio.to_thread(self._spool.read, READ_BYTES):
            yield piece

    def _made_parser(self, boundary: bytes) -> MultipartParser:
        """Returns a parser that tells what it finds; names and values of headers and data may come in pieces."""
        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, start, end: self._part.header_name.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._part.header_value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": lambda data, start, end: self._add_data(data[start:end]),
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise InvalidInput(f"the form cannot be read: {error}") from error

    def _take(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise InvalidInput(f"the form cannot be read: {error}") from error

    def _begin_part(self) -> None:
        self._part = _Part()

    def _end_header(self) -> None:
        self._part.headers[bytes(self._part.header_name).lower()] = bytes(self._part.header_value)
        self._part.header_name.clear()
        self._part.header_value.clear()

    def _end_headers(self) -> None:
        part = self._part
        _, options = parse_options_header(part.headers.get(b"content-disposition", b"").decode("latin-1"))
        part.name = _text(options.get(b"name", b""))
        if b"filename" not in options or part.name != FILE_FIELD:
            if len(self.fields) == MAX_FIELDS:
                raise InvalidInput(f"the form has more than {MAX_FIELDS} fields")
            return
        if self.filename is not None:
            raise InvalidInput("the form has more than one file")
        part.is_file = True
        self.filename = _text(options[b"filename"])
        self.content_type = part.headers.get(b"content-type", b"").decode("latin-1") or None

    def _add_data(self, data: bytes) -> None:
        if self._part.is_file:
            self._spool.write(data)
            return
        self._num_field_bytes += len(data)
        if self._num_field_bytes > FORM_BYTES:
            raise InvalidInput(f"the form has more than {FORM_BYTES} bytes beside its file, which is sent in the field {FILE_FIELD!r}")
        self._part.value += data

    def _end_part(self) -> None:
        if not self._part.is_file:
            self.fields[self._part.name] = _text(bytes(self._part.value))

    def _end(self) -> None:
        self._has_ended = True


class _Part:
    """What is known of the part that is being read."""

    def __init__(self) -> None:
        self.header_name = bytearray()
        self.header_value = bytearray()
        self.headers: dict[bytes, bytes] = {}
        self.name = ""
        self.value = bytearray()
        self.is_file = False


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
