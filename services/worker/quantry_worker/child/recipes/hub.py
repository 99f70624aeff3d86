"""Downloads a checkpoint from the Hugging Face hub: one pinned commit, only files a checkpoint may have, each one checked.

The token for gated models is in the environment, where huggingface_hub looks for it; nothing here touches it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import filter_repo_objects

from quantry_core.errors import OutboundRefused, SourceRefused
from quantry_core.sources import HubSource
from quantry_worker.child.recipes.hub_guard import guard_hub
from quantry_worker.child.reporter import Reporter
from quantry_worker.disk import check_room

TIMEOUT_S = 15.0
BOOKKEEPING = ".cache"
"""Folder in which huggingface_hub notes what it has downloaded; no part of the checkpoint."""

ALLOWED_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "LICENSE*", "NOTICE", "README.md"]
LEFT_OUT = ["*/*", "consolidated*.safetensors", "*.gguf"]
"""Other layouts of the same weights, in folders or beside them."""


class HubFile(NamedTuple):
    """A file as the hub lists it. Large ones have a SHA-256, the others the id of a git blob."""

    path: str
    size_bytes: int
    sha256: str | None
    blob_id: str | None


def download(source: HubSource, directory: Path, reporter: Reporter) -> str:
    """Downloads a repository into ``directory`` and returns the commit that its revision named.

    Raises SourceRefused saying what stands in the way: gated without a token, no such repository or revision, no way there,
    or files that are not what the hub lists; DiskFull where there is no room for them.
    """
    repository, revision = source.repository, source.revision
    reporter.progress("downloading", 0.0, repository)
    guard_hub(os.environ)
    try:
        listed = HfApi().model_info(repository, revision=revision, timeout=TIMEOUT_S, files_metadata=True)
        commit = str(listed.sha)
        files = _wanted(listed.siblings or [])
        check_room(directory, sum(file.size_bytes for file in files))
        snapshot_download(
            repository,
            revision=commit,
            local_dir=directory,
            allow_patterns=[file.path for file in files],
            etag_timeout=TIMEOUT_S,
        )
    except GatedRepoError as error:
        raise SourceRefused(
            f"{repository} is gated: accept its terms on the hub, and give the worker a token of that account in QUANTRY_HF_TOKEN; "
            "or download it and import the folder by its path"
        ) from error
    except RevisionNotFoundError as error:
        raise SourceRefused(f"{repository} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise SourceRefused(
            f"the hub has no repository {repository} that this worker may read; a private one needs QUANTRY_HF_TOKEN"
        ) from error
    except OutboundRefused as error:
        raise SourceRefused(f"the hub led somewhere that is not fetched from: {error.detail}") from error
    except (HFValidationError, HfHubHTTPError) as error:
        raise SourceRefused(f"the hub did not give out {repository}: {_words(error)}") from error
    except (httpx.TransportError, LocalEntryNotFoundError, ConnectionError) as error:
        raise SourceRefused(
            f"the Hugging Face hub cannot be reached from this worker ({_words(error)}); "
            "download the model elsewhere and import its folder by an absolute path"
        ) from error
    shutil.rmtree(directory / BOOKKEEPING, ignore_errors=True)
    check_files(directory, files)
    return commit


def check_files(directory: Path, files: Sequence[HubFile]) -> None:
    """Raises SourceRefused naming the first file that is not what the hub lists: by size, and by SHA-256 or git's own digest."""
    for file in files:
        path = directory / file.path
        size_bytes = path.stat().st_size if path.is_file() else None
        if size_bytes != file.size_bytes:
            raise SourceRefused(f"{file.path} has {size_bytes} bytes, the hub lists it with {file.size_bytes}; try again")
        if file.sha256 is not None and _sha256(path) != file.sha256:
            raise SourceRefused(f"{file.path} is not the file that the hub lists: its SHA-256 should be {file.sha256}; try again")
        if file.sha256 is None and file.blob_id is not None and _git_blob_id(path) != file.blob_id:
            raise SourceRefused(f"{file.path} is not the file that the hub lists: its git digest should be {file.blob_id}; try again")


def _wanted(siblings: Sequence[object]) -> list[HubFile]:
    """Returns the files to download, of those that the hub lists for a repository (huggingface_hub's RepoSibling)."""
    chosen = filter_repo_objects(siblings, allow_patterns=ALLOWED_FILES, ignore_patterns=LEFT_OUT, key=lambda item: item.rfilename)
    return [HubFile(item.rfilename, item.size or 0, None if item.lfs is None else item.lfs.sha256, item.blob_id) for item in chosen]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_blob_id(path: Path) -> str:
    """Returns the object id that git gives a file: SHA-1 of a header and its bytes. It tells other bytes, not malice."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _words(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
