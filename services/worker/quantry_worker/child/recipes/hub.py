"""Downloads a checkpoint from the Hugging Face hub: one pinned commit, and only files a checkpoint may have."""

from __future__ import annotations

import shutil
from pathlib import Path

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

from quantry_core.errors import SourceRefused
from quantry_core.sources import HubSource

TIMEOUT_S = 15.0
BOOKKEEPING = ".cache"
"""Folder in which huggingface_hub notes what it has downloaded; no part of the checkpoint."""

ALLOWED_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "LICENSE*", "NOTICE"]
LEFT_OUT = ["*/*", "consolidated*.safetensors", "*.gguf"]
"""Other layouts of the same weights, in folders or beside them."""


def download(source: HubSource, directory: Path) -> str:
    """Downloads a repository into ``directory`` and returns the commit that its revision named.

    Raises SourceRefused saying what stands in the way.
    """
    repository, revision = source.repository, source.revision
    try:
        commit = HfApi().model_info(repository, revision=revision, timeout=TIMEOUT_S).sha
        snapshot_download(
            repository,
            revision=commit,
            local_dir=directory,
            allow_patterns=ALLOWED_FILES,
            ignore_patterns=LEFT_OUT,
            etag_timeout=TIMEOUT_S,
        )
    except GatedRepoError as error:
        raise SourceRefused(f"{repository} is gated: accept its terms, download it, and import the folder by its path") from error
    except RevisionNotFoundError as error:
        raise SourceRefused(f"{repository} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise SourceRefused(f"the hub has no public repository {repository}") from error
    except (HFValidationError, HfHubHTTPError) as error:
        raise SourceRefused(f"the hub did not give out {repository}: {_words(error)}") from error
    except (httpx.TransportError, LocalEntryNotFoundError, ConnectionError) as error:
        raise SourceRefused(
            f"the Hugging Face hub cannot be reached from this worker ({_words(error)}); "
            "download the model elsewhere and import its folder by an absolute path"
        ) from error
    shutil.rmtree(directory / BOOKKEEPING, ignore_errors=True)
    return str(commit)


def _words(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
