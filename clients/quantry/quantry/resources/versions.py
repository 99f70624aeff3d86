# Made from quantry/aio/resources/versions.py by make_sync.py: change that file, and run this again.
"""Versions: immutable checkpoints, their files and their lineage."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Unpack

from quantry.download import download_file, make_directory, write_card
from quantry.errors import UnknownFile
from quantry.filters import VersionFilter
from quantry.messages import Progress, path_part
from quantry.open_files import OpenFile, open_file
from quantry.paging import every
from quantry.transport import Transport
from quantry_core.checkpoints import CARD_PATH
from quantry_core.comparisons import Comparison
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.stored_modules import StoredModules
from quantry_core.version_notes import ListedVersion, VersionNotes, VersionNotesChange
from quantry_core.versions import Lineage, ManifestFile, Version, VersionDetail

_PATH = "/api/v1/versions"


class Versions:
    """``client.versions``. A ref is ``ver_...``, ``name@number``, ``name@alias`` or ``name`` for the latest ready one."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self, model: str | None = None, *, after: str | None = None, limit: int = DEFAULT_LIMIT, **wanted: Unpack[VersionFilter]
    ) -> Page[ListedVersion]:
        """Returns one page of versions that fit, newest first; its filters are VersionFilter."""
        params: dict[str, object] = {"model": model, "after": after, "limit": limit, **wanted}
        moments = {name: value.isoformat() for name, value in params.items() if isinstance(value, datetime)}
        return self._transport.get(Page[ListedVersion], _PATH, params | moments)

    def iterate(
        self, model: str | None = None, *, max_items: int | None = None, **wanted: Unpack[VersionFilter]
    ) -> Generator[ListedVersion, None, None]:
        """Yields every version that fits, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.list(model, after=after, limit=limit, **wanted), max_items)

    def get(self, ref: str) -> VersionDetail:
        """Returns a version with its files, lineage edges and evidence."""
        return self._transport.get(VersionDetail, f"{_PATH}/{path_part(ref)}")

    def files(self, ref: str) -> Sequence[ManifestFile]:
        """Returns the version's files: path, size and digest of each."""
        return self.get(ref).files

    @contextmanager
    def file(self, ref: str, path: str) -> Iterator[OpenFile]:
        """Yields one file of a version, open: its bytes as they come. Raises UnknownFile where it has none of that path, and
        DownloadDamaged at the end of the bytes if they are not its own.
        """
        version = self.get(ref)
        found = next((file for file in version.files if file.path == path), None)
        if found is None:
            raise UnknownFile(f"version {version.ref} has no file {path!r}")
        with open_file(self._transport, f"{_PATH}/{path_part(version.id)}/files/{found.path}", found) as content:
            yield content

    def lineage(self, ref: str) -> Lineage:
        """Returns every ancestor and descendant of a version."""
        return self._transport.get(Lineage, f"{_PATH}/{path_part(self.get(ref).id)}/lineage")

    def lineage_picture(self, ref: str) -> str:
        """Returns the lineage as an SVG document."""
        return self._text(ref, "lineage.svg")

    def lineage_mermaid(self, ref: str) -> str:
        """Returns the lineage as Mermaid text."""
        return self._text(ref, "lineage.mmd")

    def card(self, ref: str) -> str:
        """Returns the model card: Markdown with YAML front matter."""
        return self._text(ref, "card")

    def modules(self, ref: str) -> StoredModules:
        """Returns how each weight matrix of a version is stored: bits per weight on disk, and types of its tensors."""
        return self._transport.get(StoredModules, f"{_PATH}/{path_part(ref)}/modules")

    def notes(self, ref: str) -> VersionNotes:
        """Returns tags and notes of a version."""
        return self._transport.get(VersionNotes, f"{_PATH}/{path_part(ref)}/notes")

    def annotate(self, ref: str, change: VersionNotesChange) -> VersionNotes:
        """Returns tags and notes of a version after the change; what it leaves out stays."""
        return self._transport.patch(VersionNotes, f"{_PATH}/{path_part(ref)}/notes", change)

    def compare(self, left: str, right: str) -> Comparison:
        """Returns what tells two versions apart."""
        return self._transport.get(Comparison, f"{_PATH}/compare", {"left": left, "right": right})

    def export(self, ref: str, directory: Path, *, progress: Progress = lambda _num_bytes: None) -> Sequence[Path]:
        """Writes a version below ``directory`` as a folder of the Hugging Face form and returns the paths of its files.

        Each file is checked against its digest and appears whole or not at all; what an export that broke off has fetched is
        kept, so that running it again goes on. A model card (README.md) is written with them, unless the version has its own.
        Everybody may read what is written. Raises ExportRefused where a file of the same name holds other bytes.
        """
        version = self.get(ref)
        make_directory(directory)
        paths = [download_file(self._transport, version.id, file, directory, progress) for file in version.files]
        if CARD_PATH not in {file.path for file in version.files}:
            paths.append(write_card(directory / CARD_PATH, self.card(version.id)))
        return paths

    def delete(self, ref: str) -> None:
        """Deletes a version, a master too: from then on only its id finds it, and until a collection removes it, it can be restored.

        Refused (409) where living versions were made from it, a release serves it, an alias points at it or a job still uses it.
        """
        self._transport.delete(f"{_PATH}/{path_part(self.get(ref).id)}")

    def restore(self, version_id: str) -> Version:
        """Returns a deleted version, living again. ``version_id``: ``ver_...``, for no name finds it.

        Refused (409) where it is not deleted, what it was made from is, or the vault has lost its bytes.
        """
        return self._transport.post(Version, f"{_PATH}/{path_part(version_id)}/restore")

    def archive(self, version_id: str) -> Version:
        """Returns a version, put aside: nothing new is made from it or served. Its files and evidence stay.

        Refused (409) for a master, for one that is not ready, and where an alias points at it, a deployment serves it or a job uses it.
        """
        return self._transport.post_again(Version, f"{_PATH}/{path_part(version_id)}/archive")

    def unarchive(self, version_id: str) -> Version:
        """Returns an archived version, ready again; refused (409) where it is not archived."""
        return self._transport.post(Version, f"{_PATH}/{path_part(version_id)}/unarchive")

    def _text(self, ref: str, what: str) -> str:
        return self._transport.send("GET", f"{_PATH}/{path_part(ref)}/{what}").text
