"""Datasets: versioned text for calibration and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from quantry.transport import Transport, path_part
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.versions import Dataset

_PATH = "/api/v1/datasets"
_READ_BYTES = 256 * 1024


class Datasets:
    """``client.datasets``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(self, name: str, path: Path) -> Dataset:
        """Uploads a UTF-8 text file as the next version of ``name``; the same bytes again return the version there is."""

        def body() -> Iterator[bytes]:
            with path.open("rb") as stream:
                while piece := stream.read(_READ_BYTES):
                    yield piece

        size_bytes = path.stat().st_size
        target = f"{_PATH}/{path_part(name)}"
        return self._transport.put_stream(Dataset, target, body, content_type="text/plain; charset=utf-8", size_bytes=size_bytes)

    def get(self, ref: str) -> Dataset:
        """Returns a dataset by ``dat_...``, ``name@number``, or ``name`` for the latest."""
        return self._transport.get(Dataset, f"{_PATH}/{path_part(ref)}")

    def list(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Dataset]:
        """Returns one page of datasets, newest first."""
        return self._transport.get(Page[Dataset], _PATH, {"after": after, "limit": limit})
