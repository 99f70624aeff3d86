# Made from quantry/aio/resources/datasets.py by make_sync.py: change that file, and run this again.
"""Datasets: versioned text and rows for calibration and evaluation."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Unpack

from quantry.download import fetch_file
from quantry.filters import DatasetFilter
from quantry.messages import Progress, path_part
from quantry.open_files import OpenFile, open_file
from quantry.paging import every
from quantry.runtime import off_loop
from quantry.transport import Transport
from quantry_core.datasets import DATASET_FILES, Dataset, DatasetKind, DatasetOrigin, DatasetPreview, DatasetRecipe
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.versions import ManifestFile

_PATH = "/api/v1/datasets"
_READ_BYTES = 256 * 1024
_DERIVE_S = 600.0
"""The registry reads and writes all bytes before it answers: 1 GiB takes minutes where its store is slow."""

_CONTENT_TYPES = {
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".jsonl": "application/jsonl",
    ".ndjson": "application/jsonl",
}
_UNKNOWN_TYPE = "application/octet-stream"
"""The registry looks at the dataset's name and its first line then."""


class Datasets:
    """``client.datasets``. A ref is ``dat_...``, ``name@number``, or ``name`` for the latest."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(self, name: str, path: Path, *, kind: DatasetKind | None = None, progress: Progress = lambda _num_bytes: None) -> Dataset:
        """Uploads a file as the next version of ``name``; the same bytes again return the version there is.

        Without a ``kind``, .txt and .md are text, .jsonl and .ndjson rows, and of other files the first line tells.
        ``progress`` is told the bytes that were sent, and takes them back where the upload has to begin again.
        """
        sent_bytes = 0

        def body() -> Iterator[bytes]:
            nonlocal sent_bytes
            progress(-sent_bytes)
            sent_bytes = 0
            with path.open("rb") as stream:
                while piece := off_loop(stream.read, _READ_BYTES):
                    yield piece
                    sent_bytes += len(piece)
                    progress(len(piece))

        return self._transport.put_stream(
            Dataset,
            f"{_PATH}/{path_part(name)}" + ("" if kind is None else f"?kind={kind}"),
            body,
            content_type=_CONTENT_TYPES.get(path.suffix.lower(), _UNKNOWN_TYPE),
            size_bytes=off_loop(path.stat).st_size,
        )

    def derive(self, name: str, recipe: DatasetRecipe) -> Dataset:
        """Makes the next version of ``name`` from other datasets; what the same recipe made before is returned as it is."""
        return self._transport.post_again(Dataset, f"{_PATH}/{path_part(name)}/derive", recipe, idle_s=_DERIVE_S)

    def get(self, ref: str) -> Dataset:
        """Returns a dataset with its statistics; a deleted one by its id alone."""
        return self._transport.get(Dataset, f"{_PATH}/{path_part(ref)}")

    def delete(self, ref: str) -> None:
        """Deletes one version of a dataset: from then on only its id finds it, and until a collection frees its bytes, it can be restored.

        Versions that were made with it keep its name and digest. Refused (409) for built-in ones, and where an unfinished job, a
        schedule or a dataset that was derived from it needs it.
        """
        self._transport.delete(f"{_PATH}/{path_part(self.get(ref).id)}")

    def restore(self, dataset_id: str) -> Dataset:
        """Returns a deleted dataset, living again. ``dataset_id``: ``dat_...``, for no name finds it.

        Refused (409) where it is not deleted, what it was derived from is, or its bytes are not there any more.
        """
        return self._transport.post(Dataset, f"{_PATH}/{path_part(dataset_id)}/restore")

    def list(
        self,
        *,
        kind: DatasetKind | None = None,
        origin: DatasetOrigin | None = None,
        text: str | None = None,
        after: str | None = None,
        limit: int = DEFAULT_LIMIT,
    ) -> Page[Dataset]:
        """Returns one page of datasets, newest first, without ``statistics.untrainable_rows``: ``get`` has those.

        ``text``: part of the name.
        """
        wanted = {"kind": kind, "origin": origin, "text": text}
        return self._transport.get(Page[Dataset], _PATH, {"after": after, "limit": limit, **wanted})

    def iterate(self, *, max_items: int | None = None, **wanted: Unpack[DatasetFilter]) -> Generator[Dataset, None, None]:
        """Yields every dataset that fits, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.list(after=after, limit=limit, **wanted), max_items)

    def preview(self, ref: str, *, limit: int = 10) -> DatasetPreview:
        """Returns the first lines of a text, or the first rows: 100 at most."""
        return self._transport.get(DatasetPreview, f"{_PATH}/{path_part(ref)}/preview", {"limit": limit})

    @contextmanager
    def content(self, ref: str) -> Iterator[OpenFile]:
        """Yields a dataset's file, open: its name, and its bytes as they come, which raise DownloadDamaged at the end if they are wrong."""
        dataset = self.get(ref)
        stored = DATASET_FILES[dataset.kind]
        name = f"{dataset.name}-{dataset.number}.{stored.rpartition('.')[2]}"
        file = ManifestFile(path=name, size_bytes=dataset.size_bytes, sha256=dataset.sha256)
        with open_file(self._transport, f"{_PATH}/{path_part(dataset.id)}/content", file) as content:
            yield content

    def download(self, ref: str, target: Path, *, progress: Progress = lambda _num_bytes: None) -> Path:
        """Writes a dataset's file to ``target`` and returns it, its bytes checked against the digest.

        Raises ExportRefused if other bytes are there already.
        """
        dataset = self.get(ref)
        file = ManifestFile(path=DATASET_FILES[dataset.kind], size_bytes=dataset.size_bytes, sha256=dataset.sha256)
        return fetch_file(self._transport, f"{_PATH}/{path_part(dataset.id)}/content", file, target, progress)
