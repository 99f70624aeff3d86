"""The outbox: messages are written with what they tell of or not at all, claimed by one attempt, settled by the one that holds them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from factories.retention import removed
from factories.store import ALREADY_EXPIRED_S, Platform, import_spec, quantize_spec
from quantry_core.errors import Conflict
from quantry_core.jobs import JobReason, JobStatus
from quantry_core.retention import RetentionKind
from quantry_core.rollouts import RolloutReason, RolloutState
from quantry_core.rules import RuleName
from quantry_core.verdicts import Finding, Judgement, Verdict
from quantry_core.webhooks import SUBSCRIBABLE, DeliveryState, WebhookAttempt, WebhookEvent, WebhookRequest
from quantry_store.transactions import (
    ClaimedDelivery,
    begin_rollout,
    cancel_job,
    claim_deliveries,
    create_webhook,
    fail_rollout,
    give_up_deliveries,
    judge_rollout,
    settle_delivery,
)
from quantry_store.transactions.release import release_job
from quantry_store.unit_of_work import UnitOfWork
from quantry_store.webhook_cipher import WebhookCipher

CIPHER = WebhookCipher.of(SecretStr(Fernet.generate_key().decode()))
NOW = datetime(2026, 11, 22, tzinfo=UTC)


async def hook(platform: Platform, name: str = "hook", events: tuple[WebhookEvent, ...] = SUBSCRIBABLE, **changes: Any) -> str:
    request = WebhookRequest.model_validate({"name": name, "url": "https://hooks.example/", "events": list(events), **changes})
    async with platform.database.begin() as uow:
        return (await create_webhook(uow, platform.admin, request, CIPHER)).webhook.id


async def told(platform: Platform) -> list[tuple[str, str]]:
    """Returns event and subject of every message, in the order in which they were written."""
    rows = await platform.sql("select event, subject_id from webhook_deliveries order by id")
    return [(event, subject) for event, subject in rows]


async def claim(
    platform: Platform, *, lease_s: float = 60, limit: int = 10, each: int = 10, project: int = 10, busy: tuple[str, ...] = ()
) -> list[ClaimedDelivery]:
    async with platform.database.begin() as uow:
        return await claim_deliveries(uow, lease_s=lease_s, limit=limit, limit_each=each, limit_project=project, busy=list(busy))


def attempt(claimed: ClaimedDelivery, status: int = 204) -> WebhookAttempt:
    error = None if status < 300 else f"it answered {status}"
    return WebhookAttempt(number=claimed.number, sent_at=NOW, duration_ms=5, status=status, error=error, answer="")


async def settle(platform: Platform, claimed: ClaimedDelivery, status: int = 204, *, pause_s: float = 5.0) -> None:
    async with platform.database.begin() as uow:
        await settle_delivery(uow, claimed, attempt(claimed, status), pause_s=pause_s, disable_after_s=3600)


async def cancel_after_all(platform: Platform, job_id: str) -> None:
    async with platform.database.begin() as uow:
        await cancel_job(uow, platform.admin, job_id)
        raise Conflict("no after all")


async def cancel_in_savepoint(uow: UnitOfWork, platform: Platform, job_id: str) -> None:
    async with uow.savepoint():
        await cancel_job(uow, platform.admin, job_id)
        raise Conflict("not this part")


async def test_what_is_taken_back_is_not_told(platform: Platform, stranger: Platform) -> None:
    await hook(stranger)
    await hook(platform)
    job = await platform.submit(import_spec())
    with pytest.raises(Conflict):
        await cancel_after_all(platform, job.id)
    async with platform.database.begin() as uow:
        with pytest.raises(Conflict):
            await cancel_in_savepoint(uow, platform, job.id)
    assert await told(platform) == []
    async with platform.database.begin() as uow:
        await cancel_job(uow, platform.admin, job.id)
    # Once, and not to the other project.
    assert await told(platform) == [("job.cancelled", job.id)]


async def test_each_kind_of_end_of_a_job_is_told(platform: Platform) -> None:
    await hook(platform)
    await hook(platform, "only-failures", (WebhookEvent.JOB_FAILED,))
    master = await platform.master()
    dataset = await platform.dataset()
    quarantined = await platform.quarantined(master, dataset)
    lost = await platform.running(quantize_spec(master.id, dataset.id), lease_s=ALREADY_EXPIRED_S)
    await platform.sweep()
    gate_job = quarantined.job_id
    assert await told(platform) == [
        ("job.succeeded", master.job_id),
        ("job.gate_failed", gate_job),
        ("job.failed", gate_job),
        ("job.worker_lost", lost.id),
    ]
    messages = await platform.sql("select message from webhook_deliveries order by id")
    assert messages[0][0]["data"]["version_id"] == master.id
    assert messages[1][0] | {"type": "job.failed"} == messages[2][0]
    assert messages[1][0]["data"]["reason"] == JobReason.GATE_FAILED
    assert messages[3][0]["data"]["num_lost"] == 1


async def test_rollouts_are_told_when_they_end_and_when_they_are_judged_otherwise(platform: Platform) -> None:
    await hook(platform, types=["deploy"])
    version = await platform.master()
    promoted = await platform.promoted(version)
    await platform.sql("delete from webhook_deliveries where event like 'job.%%'")
    rollout = await platform.rollout(version, "other")
    async with platform.database.begin() as uow:
        await begin_rollout(uow, rollout.id)
    for verdict in (Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE, Verdict.FAIL):
        finding = Finding(rule=RuleName.PROMETHEUS_LIMIT, verdict=verdict, message="3 of 1")
        async with platform.database.begin() as uow:
            await judge_rollout(uow, rollout.id, Judgement(verdict=verdict, findings=[finding], made_at=NOW))
    async with platform.database.begin() as uow:
        await fail_rollout(
            uow, rollout.id, RolloutState.ROLLED_BACK, RolloutReason.VERDICT_FAILED, JobReason.VERDICT_FAILED, "it was worse"
        )
    assert await told(platform) == [
        ("rollout.promoted", promoted.id),
        ("rollout.verdict", rollout.id),
        ("rollout.verdict", rollout.id),
        ("rollout.rolled_back", rollout.id),
        ("job.failed", rollout.job_id),
    ]
    messages = [row[0]["data"] for row in await platform.sql("select message from webhook_deliveries order by id")]
    assert (messages[0]["name"], messages[0]["version_id"]) == ("chat", version.id)
    assert [message.get("verdict") for message in messages[1:3]] == ["inconclusive", "fail"]
    assert messages[3]["message"] == "it was worse"


async def test_a_message_is_held_by_one_attempt_until_its_lease_is_over(platform: Platform) -> None:
    first, second = await hook(platform), await hook(platform, "second")
    for _ in range(3):
        job = await platform.submit(import_spec())
        async with platform.database.begin() as uow:
            await cancel_job(uow, platform.admin, job.id)
    # Some of each: a slow receiver is not to hold up the other.
    mine = await claim(platform, each=2)
    assert sorted(one.row.webhook_id for one in mine) == sorted([first, first, second, second])
    rest = await claim(platform, lease_s=-1.0, busy=(first,))
    assert [one.row.webhook_id for one in rest] == [second]
    # Its sender was killed: the lease is over at once, and another attempt takes it.
    zombie = rest[0]
    taken_over = [one for one in await claim(platform) if one.row.id == zombie.row.id]
    assert [one.number for one in taken_over] == [2]
    await settle(platform, zombie, 500)
    assert await states(platform, zombie) == [(DeliveryState.PENDING, 2)]
    await settle(platform, taken_over[0])
    await settle(platform, taken_over[0], 500)
    assert await states(platform, zombie) == [(DeliveryState.DELIVERED, 2)]
    # Of one that was made inactive meanwhile nothing is sent, and no attempt is counted.
    await platform.sql("update webhooks set is_active = false")
    await platform.sql("update webhook_deliveries set next_attempt_at = now() where state = 'pending'")
    assert await claim(platform) == []
    assert await platform.sql("select distinct next_attempt_at from webhook_deliveries where state = 'pending'") == [(None,)]


async def test_a_project_leaves_room_for_the_others(platform: Platform, stranger: Platform) -> None:
    for owner, num_jobs in ((platform, 2), (stranger, 1)):
        for name in ("slow", "slower"):
            await hook(owner, name)
        for _ in range(num_jobs):
            job = await owner.submit(import_spec())
            async with owner.database.begin() as uow:
                await cancel_job(uow, owner.admin, job.id)
    # Those of the first are older, and would take all the room.
    mixed = await claim(platform, limit=4, project=3)
    assert [sum(one.row.project_id == owner.project_id for one in mixed) for owner in (platform, stranger)] == [3, 1]
    rest = await claim(platform, busy=(platform.project_id,))
    assert [one.row.project_id for one in rest] == [stranger.project_id]


async def states(platform: Platform, claimed: ClaimedDelivery) -> list[Any]:
    rows = await platform.sql("select state, num_attempts from webhook_deliveries where id = %s", claimed.row.id)
    return list(rows)


async def test_old_messages_are_given_up_and_forgotten(platform: Platform) -> None:
    await hook(platform)
    for _ in range(2):
        job = await platform.submit(import_spec())
        async with platform.database.begin() as uow:
            await cancel_job(uow, platform.admin, job.id)
    claimed = await claim(platform, limit=1)
    await settle(platform, claimed[0])
    await platform.sql("update webhook_deliveries set expires_at = now() - interval '1 s' where state = 'pending'")
    async with platform.database.begin() as uow:
        assert await give_up_deliveries(uow, limit=100) == 1
    assert await removed(platform.database, RetentionKind.WEBHOOK_DELIVERIES, 1) == 0
    assert await platform.sql("select state, count(*) from webhook_deliveries group by 1 order by 1") == [("delivered", 1), ("failed", 1)]
    assert await removed(platform.database, RetentionKind.WEBHOOK_DELIVERIES, 0) == 2
    assert await platform.sql("select count(*) from webhook_attempts") == [(0,)]


async def test_a_job_that_a_job_cancels_is_told_too(platform: Platform) -> None:
    await hook(platform)
    first = await platform.submit(import_spec())
    second = await platform.submit(quantize_spec(f"output:{first.id}", (await platform.dataset()).id))
    assert second.status is JobStatus.WAITING
    async with platform.database.begin() as uow:
        await cancel_job(uow, platform.admin, first.id)
    async with platform.database.begin() as uow:
        await release_job(uow, second.id)
    assert await told(platform) == [("job.cancelled", first.id), ("job.cancelled", second.id)]
