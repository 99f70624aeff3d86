"""What gateways tell is kept once, in the order in which it is read on; captured prompts only as ciphertext, and for their time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from factories.retention import removed
from factories.store import Platform
from quantry_core.captures import CaptureSettings
from quantry_core.histograms import Histogram
from quantry_core.retention import RetentionKind
from quantry_core.rollouts import Rollout
from quantry_core.traffic import Demand, PairTally, Tally, TrafficReport, TrafficWindow
from quantry_store.repositories.captures import EncryptedPrompt
from quantry_store.transactions import end_capture, load_windows, record_captures, record_traffic, set_capture

NOW = datetime.now(UTC).replace(microsecond=0)
DAY_S = 24 * 3600.0
UNKNOWN = "rel_" + "0" * 32
FULL = Tally(
    num_answered=3,
    num_failed=1,
    num_refused=2,
    prompt_tokens=40,
    completion_tokens=90,
    num_approved=1,
    ttft_s=Histogram(counts={-50: 2, 3: 1}),
    e2e_s=Histogram(counts={7: 4}),
    pairs=PairTally(num_pairs=2, disagreement_sum=0.5, divergence_sum=0.25),
)


def window(release_id: str, at_s: float = 0.0, tally: Tally = FULL) -> TrafficWindow:
    """Returns a window of one second that begins so long after now."""
    began_at = NOW + timedelta(seconds=at_s)
    return TrafficWindow(release_id=release_id, began_at=began_at, ended_at=began_at + timedelta(seconds=1), tally=tally)


async def tell(
    platform: Platform, *windows: TrafficWindow, sequence: int = 1, gateway_id: str = "gw_1", demands: tuple[str, ...] = ()
) -> int:
    report = TrafficReport(
        gateway_id=gateway_id,
        sequence=sequence,
        windows=list(windows),
        demands=[Demand(deployment_id=id_, num_waiting=1) for id_ in demands],
    )
    async with platform.database.begin() as uow:
        return await record_traffic(uow, report)


async def read(platform: Platform, *release_ids: str, since: datetime = NOW, after_id: int = 0) -> tuple[list[TrafficWindow], int]:
    async with platform.database.begin() as uow:
        windows, last_id = await load_windows(uow, release_ids, since=since, after_id=after_id)
    assert all(release_id == one.release_id for release_id, one in windows)
    return [one for _, one in windows], last_id


async def total(platform: Platform, release_id: str, since: datetime = NOW, until: datetime | None = None) -> Tally:
    async with platform.database.begin() as uow:
        return await uow.traffic.total(release_id, since=since, until=until)


async def sweep(platform: Platform) -> int:
    num_windows = await removed(platform.database, RetentionKind.TRAFFIC_WINDOWS, 30)
    return num_windows + await removed(platform.database, RetentionKind.CAPTURED_PROMPTS, 0)


async def test_a_report_counts_once(platform: Platform) -> None:
    first, second = await platform.promoted(await platform.master()), await platform.rollout(await platform.master(content="other"))
    told = [window(first.to_release_id), window(second.to_release_id)]
    assert await tell(platform, *told) == 2
    assert await tell(platform, *told) == 0
    assert await tell(platform, *told, gateway_id="gw_2") == 2, "another gateway's first report"
    assert (await total(platform, first.to_release_id)).num_answered == 6


async def test_windows_are_read_on_where_the_last_look_ended(platform: Platform) -> None:
    rollout = await platform.promoted(await platform.master())
    id_ = rollout.to_release_id
    await tell(platform, window(id_, 0))
    seen, last_id = await read(platform, id_)
    assert seen == [window(id_, 0)]
    await tell(platform, window(id_, 1), sequence=2)
    assert await read(platform, id_, after_id=last_id) == ([window(id_, 1)], last_id + 1)
    assert await read(platform, id_, since=NOW + timedelta(seconds=1)) == ([window(id_, 1)], last_id + 1)
    assert await read(platform, id_, after_id=last_id + 1) == ([], last_id + 1)
    assert await read(platform, UNKNOWN) == ([], 0)


async def test_no_window_appears_behind_one_that_was_read(platform: Platform) -> None:
    """Two transactions: the one that took its ids first commits last. Its reader would else go on past them."""
    rollout = await platform.promoted(await platform.master())
    async with platform.database.begin() as slow:
        await record_traffic(slow, TrafficReport(gateway_id="gw_slow", sequence=1, windows=[window(rollout.to_release_id)]))
        quick = asyncio.create_task(tell(platform, window(rollout.to_release_id, 1), gateway_id="gw_quick"))
        await asyncio.sleep(0.1)
        assert not quick.done()
        assert await read(platform, rollout.to_release_id) == ([], 0)
    await quick
    seen, _ = await read(platform, rollout.to_release_id)
    assert [one.began_at for one in seen] == [NOW, NOW + timedelta(seconds=1)]


async def test_totals_are_what_merging_gives(platform: Platform) -> None:
    rollout = await platform.promoted(await platform.master())
    tallies = [FULL, Tally(num_given_up=2, given_up_s=Histogram(counts={9: 2}), ttft_s=Histogram(counts={3: 5})), Tally()]
    whole = Tally()
    for number, tally in enumerate(tallies):
        await tell(platform, window(rollout.to_release_id, number, tally), sequence=number + 1)
        whole = whole.merged(tally)
    assert await total(platform, rollout.to_release_id) == whole
    assert await total(platform, rollout.to_release_id, until=NOW + timedelta(seconds=1)) == FULL
    assert await total(platform, rollout.to_release_id, since=NOW + timedelta(seconds=5)) == Tally()
    assert await total(platform, UNKNOWN) == Tally()


async def test_spans_are_what_merging_their_windows_gives(platform: Platform) -> None:
    first = (await platform.promoted(await platform.master())).to_release_id
    second = (await platform.rollout(await platform.master(content="other"))).to_release_id
    await tell(platform, window(first, 0), window(second, 11))
    await tell(platform, window(first, 4), sequence=2)
    await tell(platform, window(first, 5, Tally(num_refused=1)), gateway_id="gw_2")
    async with platform.database.begin() as uow:
        found = await uow.traffic.spans([first, second, UNKNOWN], since=NOW, until=None, span_s=5)
        ended = await uow.traffic.spans([first, second], since=NOW, until=NOW + timedelta(seconds=5), span_s=5)
    kept = Tally(num_answered=FULL.num_answered, num_failed=FULL.num_failed, ttft_s=FULL.ttft_s, e2e_s=FULL.e2e_s)
    assert found == {first: {0: kept.merged(kept), 1: Tally()}, second: {2: kept}, UNKNOWN: {}}
    assert ended == {first: {0: kept.merged(kept)}, second: {}}


async def test_two_windows_of_a_release_in_one_report_are_one(platform: Platform) -> None:
    rollout = await platform.promoted(await platform.master())
    assert await tell(platform, window(rollout.to_release_id, 0), window(rollout.to_release_id, 1)) == 1
    (seen,), _ = await read(platform, rollout.to_release_id)
    assert (seen.began_at, seen.ended_at, seen.tally) == (NOW, NOW + timedelta(seconds=2), FULL.merged(FULL))


async def test_old_routes_of_a_gateway_do_no_harm(platform: Platform) -> None:
    rollout = await platform.promoted(await platform.master())
    known = window(rollout.to_release_id)
    assert await tell(platform, window(UNKNOWN), known, demands=("dep_" + "0" * 32,)) == 1


async def test_a_deployment_knows_when_it_was_asked_for(platform: Platform) -> None:
    rollout = await platform.promoted(await platform.master())
    revision = await platform.revision()
    await tell(platform, window(rollout.to_release_id, tally=Tally(num_approved=1)))
    assert (await platform.deployment()).requested_at is None, "feedback is no request"
    await tell(platform, window(rollout.to_release_id, 3600), sequence=2)
    now = (await platform.deployment()).requested_at
    assert now is not None
    assert now < NOW + timedelta(seconds=1800), "a clock that runs ahead is not believed"
    await platform.sql("update deployments set requested_at = now() - interval '1 hour'")
    await tell(platform, window(rollout.to_release_id, -7 * DAY_S), sequence=3)
    later = (await platform.deployment()).requested_at
    assert later is not None
    assert later < now, "an old report that comes late does not say that it was asked for just now"
    assert (await platform.deployment()).demanded_at is None
    await tell(platform, sequence=4, demands=(rollout.deployment_id,))
    assert (await platform.deployment()).demanded_at is not None
    assert await platform.revision() == revision


async def test_old_windows_go_but_not_those_of_a_rollout_that_is_not_over(platform: Platform) -> None:
    master = await platform.master()
    rollout = await platform.promoted(master)
    await tell(platform, window(rollout.to_release_id, -60 * DAY_S), window(rollout.to_release_id, -60 * DAY_S + 1))
    await tell(platform, window(rollout.to_release_id, 0), sequence=2)
    pending = await platform.rollout(master)
    await platform.sql("update rollouts set created_at = %s where id = %s", NOW - timedelta(days=90), pending.id)
    assert await sweep(platform) == 0
    await platform.sql("update rollouts set state = 'aborted', finished_at = now() where id = %s", pending.id)
    assert await sweep(platform) == 1
    assert [one.began_at for one in (await read(platform, rollout.to_release_id, since=NOW - timedelta(days=99)))[0]] == [NOW]


async def test_a_rollout_that_is_not_over_keeps_no_windows_of_other_deployments(platform: Platform) -> None:
    master = await platform.master()
    first = await platform.promoted(master)
    other = await platform.promoted(master, "other")
    pending = await platform.rollout(master)
    await platform.sql("update rollouts set created_at = %s where id = %s", NOW - timedelta(days=90), pending.id)
    ids = (first.to_release_id, pending.to_release_id, other.to_release_id)
    await tell(platform, *(window(id_, -60 * DAY_S) for id_ in ids))
    assert await sweep(platform) == 1
    found, _ = await read(platform, *ids, since=NOW - timedelta(days=99))
    assert {one.release_id for one in found} == {first.to_release_id, pending.to_release_id}


def prompt(rollout: Rollout, number: int, **changes: object) -> EncryptedPrompt:
    return EncryptedPrompt(
        id=f"cap_{number}",
        deployment_id=str(changes.get("deployment_id", rollout.deployment_id)),
        release_id=str(changes.get("release_id", rollout.to_release_id)),
        path="/v1/completions",
        ciphertext=b"\x00sealed",
        captured_at=NOW + timedelta(seconds=number),
    )


async def keep(platform: Platform, *prompts: EncryptedPrompt) -> int:
    async with platform.database.begin() as uow:
        return await record_captures(uow, prompts)


async def test_prompts_are_kept_once_and_as_far_as_there_is_room(platform: Platform) -> None:
    rollout = await platform.promoted(await platform.master())
    assert await keep(platform, prompt(rollout, 1)) == 0, "it keeps none"
    revision = await platform.revision()
    settings = CaptureSettings(percent=10, max_prompts=2, retention_days=7)
    for _ in range(2):
        async with platform.database.begin() as uow:
            status = await set_capture(uow, platform.admin, "chat", settings)
    assert (status.settings, status.num_prompts) == (settings, 0)
    assert await platform.revision() == revision + 1
    assert (await platform.deployment()).capture == settings
    async with platform.database.begin() as uow:
        (route,) = (await uow.routes.snapshot()).routes
    assert route.capture == settings
    assert [await keep(platform, prompt(rollout, 1)) for _ in range(2)] == [1, 0]
    assert await keep(platform, prompt(rollout, 2), prompt(rollout, 3)) == 1
    assert await keep(platform, prompt(rollout, 4)) == 0, "it is full"
    async with platform.database.begin() as uow:
        deployment = await uow.deployments.get(platform.project_id, "chat")
        status = await uow.captures.status(deployment)
        assert [one.id for one in await uow.captures.list(deployment, "/v1/completions", limit=1)] == ["cap_1"]
        first = (await uow.captures.list(deployment, "/v1/completions", limit=1))[0]
        assert [one.id for one in await uow.captures.list(deployment, "/v1/completions", after=first, limit=9)] == ["cap_2"]
        assert await uow.captures.num_by_path(deployment) == {"/v1/completions": 2}
    assert (status.num_prompts, status.oldest_at, status.newest_at) == (2, NOW + timedelta(seconds=1), NOW + timedelta(seconds=2))
    assert (await platform.actions()).count("capture.set") == 1


async def test_prompts_of_what_is_not_there_are_passed_over(platform: Platform) -> None:
    rollout = await platform.promoted(await platform.master())
    async with platform.database.begin() as uow:
        await set_capture(uow, platform.admin, "chat", CaptureSettings(percent=10))
    wrong = (
        prompt(rollout, 1, deployment_id="dep_" + "0" * 32),
        prompt(rollout, 2, release_id=UNKNOWN),
    )
    assert await keep(platform, *wrong, prompt(rollout, 3)) == 1


async def test_prompts_are_deleted_after_their_time(platform: Platform) -> None:
    rollout = await platform.promoted(await platform.master())
    async with platform.database.begin() as uow:
        await set_capture(uow, platform.admin, "chat", CaptureSettings(percent=10, retention_days=365))
    await keep(platform, prompt(rollout, 0), prompt(rollout, 1))
    await platform.sql("update captured_prompts set captured_at = now() - interval '10 days' where id = 'cap_0'")
    await platform.sql("update captured_prompts set captured_at = now() where id = 'cap_1'")
    assert await sweep(platform) == 0
    async with platform.database.begin() as uow:
        await set_capture(uow, platform.admin, "chat", CaptureSettings(percent=10, retention_days=7))
    async with platform.database.begin() as uow:
        deployment = await uow.deployments.get(platform.project_id, "chat")
        assert [one.id for one in await uow.captures.list(deployment, "/v1/completions", limit=10)] == ["cap_1"], (
            "not used from that moment on"
        )
    assert await sweep(platform) == 1
    for _ in range(2):
        async with platform.database.begin() as uow:
            await end_capture(uow, platform.admin, "chat")
    async with platform.database.begin() as uow:
        deployment = await uow.deployments.get(platform.project_id, "chat")
        status = await uow.captures.status(deployment)
    assert (status.settings, status.num_prompts) == (None, 0)
    assert (await platform.actions()).count("capture.end") == 1


async def test_a_gateways_clock_that_runs_ahead_keeps_no_prompt_for_longer(platform: Platform) -> None:
    rollout = await platform.promoted(await platform.master())
    settings = CaptureSettings(percent=10, retention_days=7)
    async with platform.database.begin() as uow:
        await set_capture(uow, platform.admin, "chat", settings)
    await keep(platform, prompt(rollout, 30 * 86400))
    (is_in_time,) = await platform.sql("select expires_at <= now() + interval '7 days' from captured_prompts")
    assert is_in_time == (True,)
    async with platform.database.begin() as uow:
        await set_capture(uow, platform.admin, "chat", settings.model_copy(update={"retention_days": 8}))
    (is_in_time,) = await platform.sql("select expires_at <= now() + interval '8 days' from captured_prompts")
    assert is_in_time == (True,)
