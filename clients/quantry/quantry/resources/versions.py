"""Versions: immutable checkpoints, their files and their lineage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quantry.download import Progress, download_file
from quantry.transport import Transport, path_part
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.versions import Lineage, ManifestFile, Version, VersionDetail

_PATH = "/api/v1/versions"


class Versions:
    """``client.versions``. A ref is ``ver_...``, ``name@number``, ``name@alias`` or ``name`` for the latest ready one."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, model: str | None = None, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Version]:
        """Returns one page of versions, newest first; of one model where it is named."""
        return self._transport.get(Page[Version], _PATH, {"model": model, "after": after, "limit": limit})

    def get(self, ref: str) -> VersionDetail:
        """Returns a version with its files, lineage edges and evidence."""
        return self._transport.get(VersionDetail, f"{_PATH}/{path_part(ref)}")

    def files(self, ref: str) -> Sequence[ManifestFile]:
        """Returns the version's files: path, size and digest of each."""
        return self.get(ref).files

    def lineage(self, ref: str) -> Lineage:
        """Returns every ancestor and descendant of a version."""
        return self._transport.get(Lineage, f"{_PATH}/{path_part(self.get(ref).id)}/lineage")

    def export(self, ref: str, directory: Path, *, progress: Progress = lambda _num_bytes: None) -> Sequence[Path]:
        """Writes a version's files below ``directory`` and returns their paths; each is checked against its digest.

        Files that are there already are kept, so that an export that broke off can be run again. Raises ExportRefused
        where a file of the same name holds other bytes.
        """
        version = self.get(ref)
        directory.mkdir(parents=True, exist_ok=True)
        return [download_file(self._transport, version.id, file, directory, progress) for file in version.files]

    def delete(self, ref: str) -> None:
        """Deletes a version; refused (409) for masters, for versions others were made from, and for deployed ones."""
        self._transport.delete(f"{_PATH}/{path_part(self.get(ref).id)}")
