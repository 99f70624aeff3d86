"""Rollouts through the SDK and the command against the real api as a process; the controller's and the gateway's part is played by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from factories.api_process import running_api
from factories.serving import a_tally
from factories.store import Platform, make_platform, opened, replica
from quantry import ApiError, Client
from quantry.cli import main as command
from quantry_core.captures import CaptureSettings
from quantry_core.jobs import DeploySpec, JobStatus
from quantry_core.keys import KeyLimits, Role
from quantry_core.rollouts import PeriodCause, Rollout, RolloutCause, RolloutReason, RolloutState
from quantry_core.strategies import CanaryStrategy
from quantry_core.traffic import TrafficReport, TrafficWindow
from quantry_store.transactions import begin_rollout, promote_rollout, record_traffic, stage_rollout, upsert_replica

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """An api whose deployment ``chat`` serves bard@1, with bard@2 beside it."""

    database_url: str
    project: str
    client: Client

    def play(self, part: Callable[[Platform], Coroutine[Any, Any, T]]) -> T:
        """Returns what another part of the platform gets from its transactions."""

        async def played() -> T:
            async with _platform(self.database_url, self.project) as platform:
                return await part(platform)

        return asyncio.run(played())

    def begin(self, rollout: Rollout, percent: int) -> Rollout:
        """Begins a rollout as the controller does: its replica is ready and has a share."""

        async def part(platform: Platform) -> Rollout:
            async with platform.database.begin() as uow:
                begun = await begin_rollout(uow, rollout.id)
                await upsert_replica(uow, replica(rollout.to_release_id))
            async with platform.database.begin() as uow:
                return await stage_rollout(uow, rollout.id, seen=begun, stage=0, percent=percent, mirror_percent=0)

        return self.play(part)

    def run(self, line: str) -> int:
        return command.main(line.split())


@asynccontextmanager
async def _platform(url: str, project: str) -> AsyncIterator[Platform]:
    async with opened(url) as database:
        yield await make_platform(url, database, project)


@pytest.fixture
def world(database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    async def prepare() -> str:
        async with _platform(database_url, "default") as platform:
            first = await platform.master(content="one")
            await platform.master(content="two")
            rollout = await platform.promoted(first)
            async with platform.database.begin() as uow:
                await upsert_replica(uow, replica(rollout.to_release_id))
                _, secret = await uow.keys.create(platform.project_id, "tests", Role.ADMIN)
            return secret

    key = asyncio.run(prepare())
    environment = {"QUANTRY_DATABASE_URL": database_url, "QUANTRY_BROKER_URL": redis_url}
    with running_api(environment, tmp_path / "api.log") as api, Client(api.url, key) as client:
        monkeypatch.setenv("QUANTRY_URL", api.url)
        monkeypatch.setenv("QUANTRY_API_KEY", key)
        monkeypatch.setenv("QUANTRY_STATE_DIR", str(tmp_path))
        yield World(database_url, "default", client)


def canary(client: Client, **changes: Any) -> Rollout:
    made = client.rollouts.create(DeploySpec(deployment="chat", version="bard@2", strategy=CanaryStrategy(), **changes))
    assert isinstance(made, Rollout)
    return made


def test_a_canary_is_begun_watched_and_aborted(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    spec = "deploy --deployment chat --version bard@2 --strategy canary --steps 10:60s,100 --note faster --idempotency-key monday --json"
    assert world.run(spec) == 0
    job_id = json.loads(capsys.readouterr().out)["id"]
    assert world.run(spec) == 0
    assert json.loads(capsys.readouterr().out)["id"] == job_id
    [pending, _] = world.client.rollouts.list(deployment="chat").data
    assert (pending.state, pending.job_id, pending.note, pending.cause) == (RolloutState.PENDING, job_id, "faster", RolloutCause.DEPLOY)
    assert [one.id for one in world.client.rollouts.list(state=RolloutState.PENDING).data] == [pending.id]
    assert world.run("rollouts pause chat") == 1
    assert "has not begun" in capsys.readouterr().err
    staged = world.begin(pending, 10)
    assert world.run("rollouts pause chat --note lunch") == 0
    assert f"{pending.id} paused" in capsys.readouterr().out
    assert world.client.rollouts.pause(pending.id).state is RolloutState.PAUSED
    assert world.client.rollouts.resume(pending.id).state is RolloutState.PROGRESSING

    async def tell(platform: Platform) -> None:
        ended_at = datetime.now(UTC) + timedelta(seconds=1)
        window = {"began_at": staged.exposed_at, "ended_at": ended_at}
        windows = [
            TrafficWindow.model_validate({"release_id": staged.to_release_id, "tally": a_tally(38, num_failed=2), **window}),
            TrafficWindow.model_validate({"release_id": staged.from_release_id, "tally": a_tally(360), **window}),
        ]
        async with platform.database.begin() as uow:
            await record_traffic(uow, TrafficReport(gateway_id="gateway", sequence=1, windows=windows))

    world.play(tell)
    measured = world.client.rollouts.traffic(pending.id)
    assert (measured.candidate.num_answered, measured.candidate.num_failed) == (38, 2)
    assert measured.stable is not None
    assert measured.stable.num_answered == 360
    assert world.run("rollouts show chat") == 0
    assert "2 (5.0%)" in capsys.readouterr().out
    assert world.run("rollouts abort chat --note enough") == 0
    assert world.run("rollouts abort chat") == 0
    assert world.client.jobs.get(job_id).status is JobStatus.CANCELLED
    capsys.readouterr()
    assert world.run("rollouts promote chat") == 1
    assert "is aborted; it cannot be promoted any more" in capsys.readouterr().err
    assert world.run("rollouts follow chat") == 1
    assert "aborted" in capsys.readouterr().err
    periods = world.client.deployments.history("chat").data
    assert [[(share.release_number, share.percent) for share in period.shares] for period in periods] == [
        [(1, 100)],
        [(1, 90), (2, 10)],
        [(1, 100)],
    ]
    assert (periods[0].cause, periods[0].note) == (PeriodCause.ABORTED, "enough")
    assert world.client.deployments.at("chat", periods[1].began_at) == periods[1]
    assert world.run("deployments history chat") == 0
    assert "enough" in capsys.readouterr().out


def test_a_promoted_one_is_rolled_back_by_number_and_told_apart(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    rollout = canary(world.client, watch_s=0)
    world.begin(rollout, 100)
    assert world.client.rollouts.promote(rollout.id).promote_requested

    async def promote(platform: Platform) -> None:
        async with platform.database.begin() as uow:
            await promote_rollout(uow, rollout.id)

    world.play(promote)
    assert world.client.rollouts.wait(rollout.id, 1).state is RolloutState.PROMOTED
    assert world.run("deployments rollback chat --to 1 --note slow") == 0
    assert "chat serves bard@1 (release 1)" in capsys.readouterr().out
    again = world.client.deployments.rollback("chat", 1)
    assert again.current_release is not None
    assert again.current_release.number == 1
    [back, *_] = world.client.rollouts.list(deployment="chat").data
    assert (back.cause, back.state, back.job_id, back.reason) == (
        RolloutCause.ROLLBACK,
        RolloutState.PROMOTED,
        None,
        RolloutReason.REQUESTED,
    )
    assert [release.number for release in world.client.deployments.releases("chat").data] == [2, 1]
    assert world.run("deployments diff chat 1 2") == 0
    assert "bard@2" in capsys.readouterr().out
    moment = world.client.deployments.history("chat").data[0].began_at
    assert world.client.deployments.diff("chat", moment, 2).left.release.number == 1
    with pytest.raises(ApiError, match="has no release 9"):
        world.client.deployments.rollback("chat", 9)
    with pytest.raises(ApiError) as early:
        world.client.deployments.at("chat", datetime(2020, 1, 1, tzinfo=UTC))
    assert early.value.status == 404


def test_capture_needs_a_key_and_keys_have_limits(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.client.deployments.capture("chat").settings is None
    assert world.run("deployments capture on chat --percent 5") == 1
    assert "QUANTRY_CAPTURE_KEYS" in capsys.readouterr().err
    with pytest.raises(ApiError):
        world.client.deployments.start_capture("chat", CaptureSettings(percent=5))
    assert world.run("deployments capture off chat") == 0
    made = world.client.keys.create("limited", Role.OPERATOR, KeyLimits(requests_per_minute=60))
    assert made.key.limits == KeyLimits(requests_per_minute=60)
    assert world.client.keys.list().data[0].limits.requests_per_minute == 60
