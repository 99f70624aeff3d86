"""A request's body as a stream that a blocking reader takes from, hashed on the way where a digest was promised.

Nothing is kept beyond the piece that is being read: the reader sets the pace, and TCP passes it on to the client.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import io
import re
from collections.abc import AsyncIterator

from quantry_core.errors import BodyStalled, InvalidInput

_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")


def promised_sha256(header: str | None) -> str | None:
    """Returns the SHA-256 (hex) of a Content-Digest header (RFC 9530, section 2); None without one.

    Raises InvalidInput for a header that promises none: a client that sends one wants it checked.
    """
    if header is None:
        return None
    for part in header.split(","):
        found = _DIGEST.fullmatch(part.strip())
        if found is not None:
            try:
                return base64.b64decode(found.group(1), validate=True).hex()
            except binascii.Error:
                break
    raise InvalidInput("Content-Digest is written sha-256=:<base64 of the SHA-256>:")


class BodyReader(io.RawIOBase):
    """Reads an asynchronous body of ``loop`` from another thread. Raises what the body raises, for example when a client leaves.

    Raises BodyStalled where nothing comes for ``idle_s`` seconds, and InvalidInput at the end if the bytes are not those of
    ``sha256``, so that whoever stores them keeps nothing.
    """

    def __init__(self, pieces: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop, sha256: str | None, *, idle_s: float) -> None:
        self._pieces = pieces
        self._loop = loop
        self._sha256 = sha256
        self._idle_s = idle_s
        self._digest = hashlib.sha256()
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Returns up to ``size`` bytes as they come, none at the end."""
        while not self._rest:
            piece = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
            if piece is None:
                self._check()
                return b""
            self._rest = memoryview(piece)
        num_bytes = len(self._rest) if size is None or size < 0 else size
        taken, self._rest = self._rest[:num_bytes], self._rest[num_bytes:]
        if self._sha256 is not None:
            self._digest.update(taken)
        return bytes(taken)

    async def _next(self) -> bytes | None:
        try:
            async with asyncio.timeout(self._idle_s):
                return await anext(self._pieces, None)
        except TimeoutError as error:
            raise BodyStalled(f"nothing of the body came for {self._idle_s:.0f} s; send the file again") from error

    def _check(self) -> None:
        if self._sha256 is not None and self._digest.hexdigest() != self._sha256:
            raise InvalidInput(
                f"the body has the SHA-256 {self._digest.hexdigest()}, Content-Digest promised {self._sha256}; send it again"
            )
