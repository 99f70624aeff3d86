"""A folder of somebody else's bucket: listed and read, never written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from quantry_blobs.errors import StoreUnavailable
from quantry_blobs.stores import ObjectStore
from quantry_core.checkpoints import MAX_FILES, check_listing
from quantry_core.errors import SourceRefused

MAX_KEYS = 4 * MAX_FILES
"""Keys that are looked at under a prefix, folder markers and hidden files included."""


class ForeignFolder:
    """What lies under a prefix that ends with a slash, as a checkpoint's files. Hidden files and folder markers are not part of it.

    Raises SourceRefused if nothing lies there, or something that no checkpoint may have; StoreRefused, StoreUnavailable.
    """

    def __init__(self, store: ObjectStore, bucket: str, prefix: str) -> None:
        self._store = store
        self._bucket = bucket
        self._prefix = prefix
        self.sizes: Mapping[str, int] = self._list()
        """Size in bytes by relative path."""

    def fetch(self, path: str, to: Path) -> None:
        """Writes a listed file to ``to``; raises StoreUnavailable if fewer or more bytes come than were listed.

        In one request: S3 answers it from one state of the object, even where somebody writes it meanwhile.
        """
        to.parent.mkdir(parents=True, exist_ok=True)
        num_bytes = 0
        with to.open("wb") as file:
            # One byte more than listed, so that an object that has grown is noticed.
            for chunk in self._store.open_range(self._bucket, self._prefix + path, 0, self.sizes[path] + 1):
                file.write(chunk)
                num_bytes += len(chunk)
        if num_bytes != self.sizes[path]:
            raise StoreUnavailable(f"s3:{self._bucket}/{self._prefix}{path} was listed with {self.sizes[path]} bytes, {num_bytes} came")

    def _list(self) -> dict[str, int]:
        paths: list[str] = []
        for number, key in enumerate(self._store.list(self._bucket, self._prefix)):
            if number == MAX_KEYS:
                raise SourceRefused(f"more than {MAX_KEYS} objects lie under s3:{self._bucket}/{self._prefix}; is it a model's folder?")
            path = key.removeprefix(self._prefix)
            if path and not path.endswith("/") and not any(part.startswith(".") for part in path.split("/")):
                paths.append(path)
        if not paths:
            raise SourceRefused(f"nothing lies under s3:{self._bucket}/{self._prefix}")
        # The names first: each size is a request.
        check_listing(dict.fromkeys(paths, 0))
        sizes = {path: self._store.stat(self._bucket, self._prefix + path) for path in sorted(paths)}
        return {path: size for path, size in sizes.items() if size is not None}
