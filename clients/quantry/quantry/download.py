# Made from quantry/aio/download.py by make_sync.py: change that file, and run this again.
"""Files of versions, datasets and jobs onto a local disk: streamed, resumed where the connection breaks, digest checked, renamed last."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx

from quantry.errors import DownloadDamaged, ExportRefused, ServerUnreachable
from quantry.messages import Progress, path_part
from quantry.runtime import off_loop
from quantry.transport import Transport
from quantry_core.cards import CARD_MARK
from quantry_core.versions import ManifestFile

_PART_SUFFIX = ".part"
_IDLE_S = 60.0
_MAX_BREAKS = 5
_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755
_READ_BYTES = 1024**2


def download_file(transport: Transport, version_id: str, file: ManifestFile, directory: Path, progress: Progress) -> Path:
    """Returns the path of the file below ``directory``, its bytes checked against the manifest.

    A file that is there with the right bytes is kept; one that is half there, with ``.part`` after its name, goes on.
    Raises ExportRefused if other bytes are there, DownloadDamaged if what arrived is wrong, ServerUnreachable if the server
    stays away.
    """
    return fetch_file(transport, f"/api/v1/versions/{path_part(version_id)}/files/{file.path}", file, directory / file.path, progress)


def fetch_file(transport: Transport, path: str, file: ManifestFile, target: Path, progress: Progress) -> Path:
    """Returns ``target`` with the bytes that a GET of ``path`` answers, checked against ``file``; as ``download_file``."""
    if off_loop(target.exists):
        off_loop(_check_present, target, file)
        progress(file.size_bytes)
        return target
    make_directory(target.parent)
    part = target.with_name(target.name + _PART_SUFFIX)
    is_resumed = part.exists()
    digest = _fetch(transport, path, file, part, progress)
    if digest != file.sha256 and is_resumed:
        # What lay there was the beginning of another file.
        part.unlink()
        progress(-file.size_bytes)
        digest = _fetch(transport, path, file, part, progress)
    if digest != file.sha256:
        part.unlink()
        raise DownloadDamaged(f"{file.path} arrived with digest {digest}, its manifest says {file.sha256}; it was removed")
    part.chmod(_FILE_MODE)
    part.replace(target)
    return target


def make_directory(directory: Path) -> None:
    """Makes a directory, and those above it, that everybody may read, whatever this process's umask; one that is there stays."""
    if not directory.is_dir():
        make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        directory.chmod(_DIRECTORY_MODE)


def write_card(path: Path, text: str) -> Path:
    """Returns ``path`` with this model card in it, written whole or not at all, in the place of one of ours that was there.

    Raises ExportRefused where something else is there.
    """
    if path.exists() and CARD_MARK not in path.read_text(encoding="utf-8", errors="replace"):
        raise ExportRefused(f"{path} exists and is no card of an export; export into an empty directory")
    part = path.with_name(path.name + _PART_SUFFIX)
    part.write_text(text, encoding="utf-8")
    part.chmod(_FILE_MODE)
    return part.replace(path)


def hash_file(path: Path) -> str:
    """Returns the SHA-256 of a file in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_present(target: Path, file: ManifestFile) -> None:
    is_same = target.is_file() and target.stat().st_size == file.size_bytes and hash_file(target) == file.sha256
    if not is_same:
        raise ExportRefused(f"{target} exists with other content; choose another place")


def _fetch(transport: Transport, path: str, file: ManifestFile, part: Path, progress: Progress) -> str:
    """Writes the file to ``part`` and returns its digest; goes on where it was, when the connection breaks and after another export."""
    digest, received_bytes = off_loop(_begun, part, file)
    progress(received_bytes)
    num_breaks = 0
    with part.open("ab") as output:
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


def _begun(part: Path, file: ManifestFile) -> tuple[hashlib._Hash, int]:
    """Returns digest and number of the bytes that an earlier export left; a part that cannot be the file's beginning is removed."""
    digest = hashlib.sha256()
    if part.exists() and part.stat().st_size > file.size_bytes:
        part.unlink()
    if not part.exists():
        return digest, 0
    with part.open("rb") as stream:
        while piece := stream.read(_READ_BYTES):
            digest.update(piece)
    return digest, part.stat().st_size


def _check_range(response: httpx.Response, received_bytes: int, file: ManifestFile) -> None:
    if received_bytes and response.status_code != 206:
        raise DownloadDamaged(f"{file.path} broke off and the server does not send its rest; try again")
