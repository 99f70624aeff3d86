"""Reads the facts of checkpoints: of versions from the vault, by range reads of headers alone, and of folders on this host."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_blobs.vault import Vault, VaultCheckpoint
from quantry_core.checkpoints import inspect_checkpoint
from quantry_core.errors import QuantryError
from quantry_core.estimates import CheckpointFacts, facts_of
from quantry_core.sources import allowing_root, parse_source
from quantry_core.versions import ManifestFile

MAX_CACHED = 256
READ_TIMEOUT_S = 5.0
"""Longest wait for headers: an estimate is worth no more of a submitter's time."""
AWAY_S = 10.0
"""After a store that did not answer, it is not asked again for so long."""
NUM_THREADS = 2

_log = structlog.get_logger(__name__)


class FactsUnknown(Exception):
    """The facts of a checkpoint cannot be told; the text is a sentence that says why."""


class CheckpointLibrary:
    """Facts of checkpoints, those of versions kept by manifest digest. Lives in one event loop; close it at the end."""

    def __init__(self, vault: Vault | None, import_roots: Sequence[Path]) -> None:
        """``vault`` is None where this api has no access to the object store."""
        self._vault = vault
        self._import_roots = import_roots
        self._known: OrderedDict[str, CheckpointFacts] = OrderedDict()
        self._reads: dict[str, asyncio.Task[CheckpointFacts]] = {}
        self._threads = ThreadPoolExecutor(max_workers=NUM_THREADS, thread_name_prefix="headers")
        self._away_until = float("-inf")

    def close(self) -> None:
        """Lets the threads end after what they are doing."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def known(self, manifest_digest: str) -> CheckpointFacts | None:
        """Returns the facts of a version if they were read before."""
        facts = self._known.get(manifest_digest)
        if facts is not None:
            self._known.move_to_end(manifest_digest)
        return facts

    async def of_version(self, ref: str, manifest_digest: str, files: Sequence[ManifestFile]) -> CheckpointFacts:
        """Returns the facts of a version's files; raises FactsUnknown where the store is away or slow, or these are no checkpoint."""
        if self._vault is None:
            raise FactsUnknown(f"{ref} was not looked at: this api has no access to the object store")
        if asyncio.get_running_loop().time() < self._away_until:
            raise FactsUnknown(f"{ref} was not looked at: the object store did not answer a moment ago")
        read = self._reads.get(manifest_digest)
        if read is None:
            # One read for all who ask at once; it goes on for the next one when somebody stops waiting.
            read = asyncio.create_task(self._read(self._vault, manifest_digest, files), name="headers")
            self._reads[manifest_digest] = read
            read.add_done_callback(lambda done: self._read_ended(manifest_digest, done))
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await asyncio.shield(read)
        except TimeoutError as error:
            self._away_until = asyncio.get_running_loop().time() + AWAY_S
            raise FactsUnknown(f"{ref} was not looked at: the object store did not answer within {READ_TIMEOUT_S:.0f} s") from error
        except QuantryError as error:
            raise FactsUnknown(f"{ref} could not be looked at: {error.detail}") from error

    async def of_source(self, source: str) -> CheckpointFacts:
        """Returns the facts of an import's folder; raises FactsUnknown for a hub's repository, and for what is not to be read here."""
        try:
            return await asyncio.to_thread(self._read_folder, source)
        except QuantryError as error:
            raise FactsUnknown(f"{source} could not be looked at: {error.detail}") from error
        except (OSError, RuntimeError) as error:
            # Path.resolve raises RuntimeError for links that lead in a circle.
            raise FactsUnknown(f"{source} could not be looked at: it cannot be read here") from error

    async def _read(self, vault: Vault, manifest_digest: str, files: Sequence[ManifestFile]) -> CheckpointFacts:
        loop = asyncio.get_running_loop()
        try:
            facts = await loop.run_in_executor(self._threads, lambda: facts_of(inspect_checkpoint(VaultCheckpoint(vault, files))))
        except QuantryError as error:
            if error.status >= 500:
                self._away_until = loop.time() + AWAY_S
            raise
        self._known[manifest_digest] = facts
        while len(self._known) > MAX_CACHED:
            self._known.popitem(last=False)
        return facts

    def _read_ended(self, manifest_digest: str, read: asyncio.Task[CheckpointFacts]) -> None:
        self._reads.pop(manifest_digest, None)
        error = None if read.cancelled() else read.exception()
        if error is not None:
            _log.warning("estimate.headers_not_read", manifest_digest=manifest_digest, error=repr(error))

    def _read_folder(self, source: str) -> CheckpointFacts:
        path = parse_source(source)
        if not isinstance(path, Path):
            raise FactsUnknown(f"{source} was not looked at: only the worker that fetches it reaches it")
        resolved = path.resolve()
        allowing_root(path, resolved, {root.resolve(): root for root in self._import_roots})
        if not resolved.is_dir():
            raise FactsUnknown(f"{path} was not looked at: it is not on the api's host")
        checkpoint = DirectoryCheckpoint(resolved)
        if checkpoint.root != resolved:
            # A link was put in its place after the look at where it lies.
            raise FactsUnknown(f"{path} changed while it was looked at")
        return facts_of(inspect_checkpoint(checkpoint))
