"""Files of a version onto a local disk: streamed, resumed where the connection breaks, digest checked, renamed last."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx

from quantry.errors import DownloadDamaged, ExportRefused, ServerUnreachable
from quantry.transport import Transport, path_part
from quantry_core.versions import ManifestFile

_PART_SUFFIX = ".part"
_IDLE_S = 60.0
_MAX_BREAKS = 5
_FILE_MODE = 0o644

Progress = Callable[[int], None]
"""Told the number of bytes that arrived since the last call."""


def download_file(transport: Transport, version_id: str, file: ManifestFile, directory: Path, progress: Progress) -> Path:
    """Returns the path of the file below ``directory``, its bytes checked against the manifest.

    A file that is there with the right bytes is kept. Raises ExportRefused if other bytes are there, DownloadDamaged if
    what arrived is wrong, ServerUnreachable if the server stays away.
    """
    target = directory / file.path
    if target.exists():
        _check_present(target, file)
        progress(file.size_bytes)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + _PART_SUFFIX)
    digest = _fetch(transport, f"/api/v1/versions/{path_part(version_id)}/files/{file.path}", file, part, progress)
    if digest != file.sha256:
        part.unlink()
        raise DownloadDamaged(f"{file.path} arrived with digest {digest}, its manifest says {file.sha256}; it was removed")
    part.chmod(_FILE_MODE)
    part.replace(target)
    return target


def hash_file(path: Path) -> str:
    """Returns the SHA-256 of a file in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_present(target: Path, file: ManifestFile) -> None:
    is_same = target.is_file() and target.stat().st_size == file.size_bytes and hash_file(target) == file.sha256
    if not is_same:
        raise ExportRefused(f"{target} exists with other content; export into an empty directory")


def _fetch(transport: Transport, path: str, file: ManifestFile, part: Path, progress: Progress) -> str:
    """Writes the file to ``part`` and returns its digest; goes on where it was when the connection breaks."""
    digest = hashlib.sha256()
    received_bytes = 0
    num_breaks = 0
    with part.open("wb") as output:
        while received_bytes < file.size_bytes:
            before_bytes = received_bytes
            headers = {"range": f"bytes={received_bytes}-"} if received_bytes else {}
            try:
                with transport.stream(path, headers=headers, idle_s=_IDLE_S) as response:
                    _check_range(response, received_bytes, file)
                    # Without a chunk size: with one, httpx would collect bytes and lose them when the connection breaks.
                    for chunk in response.iter_raw():
                        output.write(chunk)
                        digest.update(chunk)
                        received_bytes += len(chunk)
                        progress(len(chunk))
                        if received_bytes > file.size_bytes:
                            break
            except httpx.TransportError as error:
                num_breaks = 0 if received_bytes > before_bytes else num_breaks + 1
                if num_breaks == _MAX_BREAKS:
                    raise ServerUnreachable(transport.url, f"{file.path} breaks off at byte {received_bytes}: {error}") from error
                transport.sleep(1.0)
                continue
            if received_bytes != file.size_bytes:
                break
    return digest.hexdigest()


def _check_range(response: httpx.Response, received_bytes: int, file: ManifestFile) -> None:
    if received_bytes and response.status_code != 206:
        raise DownloadDamaged(f"{file.path} broke off and the server does not send its rest; try again")
