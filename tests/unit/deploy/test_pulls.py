"""Pulls in the background: shared, tried again where that helps, refused with words where it does not."""

from __future__ import annotations

import asyncio
import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from factories.rollout_records import release, true_version
from quantry_blobs.errors import DigestMismatch, StoreUnavailable
from quantry_core.errors import NotServable
from quantry_core.jobs import EngineConfig, JobReason
from quantry_core.rollouts import Release
from quantry_core.versions import ManifestFile, VersionDetail, VersionState
from quantry_deploy.artifacts import ArtifactCache
from quantry_deploy.drivers.pulls import Pulls, failed_pull
from quantry_deploy.observations import PullState, PullStatus
from quantry_deploy.servability import check_config, check_release

CONTENTS = {"config.json": b'{"max_position_embeddings": 1024}', "model.safetensors": b"weights"}
VERSION = true_version(CONTENTS)
NUM_THREADS = 40
"""More than asyncio's own has, whatever the machine: 32 at most."""
RELEASE = release()


class Vault:
    """Answers, or fails with what it is told."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.num_fetched = 0

    def fetch(self, file: ManifestFile, to: Path) -> None:
        if self.failure is not None:
            raise self.failure
        self.num_fetched += 1
        to.write_bytes(CONTENTS[file.path])


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def served_by(engine: EngineConfig) -> Release:
    return release().model_copy(update={"engine": engine})


def make_pulls(vault: Vault, folder: Path, clock: Clock | None = None) -> Pulls:
    def checked(version: VersionDetail, asked: Release, config: dict[str, Any]) -> None:
        check_config(version, config, asked.engine)

    return Pulls(ArtifactCache(vault, folder), check_release, checked, clock=clock or Clock())


async def settled(pulls: Pulls, asked: Release = RELEASE) -> PullStatus:
    """Returns how a pull ended; it blocks a thread for no longer than a few small files take."""
    for _ in range(1000):
        if pulls.status(VERSION, asked).state is not PullState.RUNNING:
            break
        await asyncio.sleep(0.001)
    return pulls.status(VERSION, asked)


async def test_a_pull_goes_on_in_the_background_and_is_done_once(tmp_path: Path) -> None:
    vault = Vault()
    pulls = make_pulls(vault, tmp_path)
    assert pulls.status(VERSION, RELEASE).state is PullState.ABSENT
    pulls.begin(VERSION, RELEASE)
    pulls.begin(VERSION, RELEASE)
    assert pulls.status(VERSION, RELEASE).state is PullState.RUNNING
    assert await settled(pulls) == PullStatus(PullState.DONE, fraction=1.0)
    assert vault.num_fetched == len(CONTENTS)
    pulls.forget(VERSION)
    assert pulls.status(VERSION, RELEASE).state is PullState.ABSENT


async def test_a_vault_that_was_away_is_asked_again_after_a_while(tmp_path: Path) -> None:
    vault, clock = Vault(), Clock()
    pulls = make_pulls(vault, tmp_path, clock)
    vault.failure = StoreUnavailable("nobody answers")
    pulls.begin(VERSION, RELEASE)
    assert await settled(pulls) == PullStatus(PullState.WAITING, message="nobody answers")
    vault.failure = None
    pulls.begin(VERSION, RELEASE)
    assert pulls.status(VERSION, RELEASE).state is PullState.WAITING
    clock.now_s = 5.0
    assert pulls.status(VERSION, RELEASE).state is PullState.ABSENT
    pulls.begin(VERSION, RELEASE)
    assert (await settled(pulls)).state is PullState.DONE


async def test_pulls_of_versions_that_are_wanted_no_more_are_forgotten_once_they_ended(tmp_path: Path) -> None:
    pulls = make_pulls(Vault(), tmp_path)
    pulls.begin(VERSION, RELEASE)
    pulls.keep_only([])
    assert pulls.status(VERSION, RELEASE).state is PullState.RUNNING
    assert pulls.manifest_digests() == {VERSION.manifest_digest}
    assert (await settled(pulls)).state is PullState.DONE
    pulls.keep_only([VERSION.manifest_digest])
    assert pulls.status(VERSION, RELEASE).state is PullState.DONE
    pulls.keep_only([])
    assert pulls.status(VERSION, RELEASE).state is PullState.ABSENT
    assert pulls.manifest_digests() == set()


class HeldVault(Vault):
    """Answers once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = threading.Event()

    def fetch(self, file: ManifestFile, to: Path) -> None:
        self.may_answer.wait()
        super().fetch(file, to)


async def test_a_version_that_several_releases_ask_for_at_once_is_fetched_once(tmp_path: Path) -> None:
    vault = HeldVault()
    pulls = make_pulls(vault, tmp_path)
    releases = [served_by(EngineConfig(max_num_seqs=number)) for number in (1, 2, 3)]
    for asked in releases:
        pulls.begin(VERSION, asked)
    # Somebody misses the files that are on their way: they are not asked for anew.
    pulls.forget(VERSION)
    pulls.begin(VERSION, releases[0])
    vault.may_answer.set()
    assert [(await settled(pulls, asked)).state for asked in releases] == [PullState.DONE] * 3
    assert vault.num_fetched == len(CONTENTS)


async def test_who_waits_for_a_slow_vault_holds_nobody_else_up(tmp_path: Path) -> None:
    vault = HeldVault()
    pulls = make_pulls(vault, tmp_path)
    for number in range(NUM_THREADS):
        other = true_version({**CONTENTS, "model.safetensors": number.to_bytes(2, "big")})
        pulls.begin(other.model_copy(update={"id": f"ver_{number}"}), RELEASE)
    # Each of them has come to its thread, or to its wait for one.
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(5.0):
            assert await asyncio.to_thread(vault.may_answer.is_set) is False
    finally:
        vault.may_answer.set()
        await pulls.close()


async def test_an_engine_configuration_is_checked_against_the_files(tmp_path: Path) -> None:
    asked = served_by(EngineConfig(max_model_len_tokens=2048))
    pulls = make_pulls(Vault(), tmp_path)
    pulls.begin(VERSION, asked)
    refused = await settled(pulls, asked)
    assert (refused.state, refused.reason) == (PullState.REFUSED, JobReason.INVALID_INPUT)
    pulls.begin(VERSION, RELEASE)
    assert (await settled(pulls)).state is PullState.DONE


async def test_a_version_that_cannot_be_served_is_not_fetched(tmp_path: Path) -> None:
    vault = Vault()
    pulls = make_pulls(vault, tmp_path)
    quarantined = VERSION.model_copy(update={"state": VersionState.QUARANTINED})
    pulls.begin(quarantined, RELEASE)
    assert (await settled(pulls)).state is PullState.REFUSED
    assert vault.num_fetched == 0


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (NotServable("no"), PullState.REFUSED, JobReason.INVALID_INPUT),
        (StoreUnavailable("away"), PullState.WAITING, JobReason.INTERNAL),
        (DigestMismatch("other bytes"), PullState.REFUSED, JobReason.INTERNAL),
        (OSError(errno.ENOSPC, "No space left on device"), PullState.REFUSED, JobReason.INTERNAL),
        (ValueError("config.json is no object"), PullState.REFUSED, JobReason.INTERNAL),
    ],
)
def test_what_each_failure_means(error: Exception, state: PullState, reason: JobReason) -> None:
    status = failed_pull(error)
    assert (status.state, status.reason) == (state, reason)
    assert str(error.args[-1]) in status.message
