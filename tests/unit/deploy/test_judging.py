"""From windows to verdicts: read little by little, told when it matters, inconclusive whenever something is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from factories.rollout_records import NOW, ago, record, release, rollout
from quantry_core.errors import Unavailable
from quantry_core.histograms import Histogram, bucket_of
from quantry_core.rollouts import Rollout
from quantry_core.rules import AnalysisSpec, ErrorRateCompared, ErrorRateLimit, PrometheusLimit
from quantry_core.strategies import CanaryStrategy, ShadowStrategy
from quantry_core.traffic import PairTally, Tally, TrafficWindow
from quantry_core.verdicts import Judgement, Verdict
from quantry_deploy import judging
from quantry_deploy.judging import Judging
from quantry_store.transactions.rollouts import DeploymentRecord

OLD, NEW = release("rel_old"), release("rel_new")
RULES = AnalysisSpec(rules=[ErrorRateCompared(max_increase=0.1)])


class Store:
    """Windows as the store gives them, and what was told."""

    def __init__(self) -> None:
        self.windows_told: list[TrafficWindow] = []
        self.judgements: list[tuple[str, Judgement]] = []
        self.asked_after: list[tuple[str, int]] = []

    def tell(self, release_id: str, *, answered: int = 0, failed: int = 0, ago_s: float = 5, pairs: PairTally | None = None) -> None:
        at = ago(ago_s)
        tally = Tally(
            num_answered=answered,
            num_failed=failed,
            e2e_s=Histogram(counts={bucket_of(0.1): answered} if answered else {}),
            pairs=pairs or PairTally(),
        )
        self.windows_told.append(TrafficWindow(release_id=release_id, began_at=at, ended_at=at + timedelta(seconds=1), tally=tally))

    async def windows(self, release_id: str, since: datetime, after_id: int, limit: int) -> tuple[list[TrafficWindow], int]:
        self.asked_after.append((release_id, after_id))
        found = [
            (id_, one)
            for id_, one in enumerate(self.windows_told, start=1)
            if id_ > after_id and one.release_id == release_id and one.began_at >= since
        ][:limit]
        return [one for _, one in found], found[-1][0] if found else after_id

    async def judge(self, rollout_id: str, judgement: Judgement) -> None:
        self.judgements.append((rollout_id, judgement))


def moving(strategy: object = None, **changes: Any) -> DeploymentRecord:
    values: dict[str, Any] = {"from_release_id": "rel_old", "staged_at": ago(20), "exposed_at": ago(60), "percent": 10}
    active: Rollout = rollout(strategy=strategy or CanaryStrategy(analysis=RULES), **{**values, **changes})
    return record(current=OLD, target=NEW, active=active)


async def look(judge: Judging, of: DeploymentRecord | None = None, *, at_s: float = 0.0) -> Judgement:
    return (await judge.look(of or moving(), NOW + timedelta(seconds=at_s)))["rol_1"]


async def test_no_data_is_inconclusive_and_so_is_too_little() -> None:
    store = Store()
    judge = Judging(store)
    assert (await look(judge)).verdict is Verdict.INCONCLUSIVE
    store.tell("rel_new", answered=5)
    store.tell("rel_old", answered=5)
    assert (await look(judge)).verdict is Verdict.INCONCLUSIVE


async def test_enough_of_both_is_a_verdict() -> None:
    store = Store()
    judge = Judging(store)
    store.tell("rel_new", answered=500)
    store.tell("rel_old", answered=500)
    assert (await look(judge)).verdict is Verdict.PASS
    store.tell("rel_new", failed=500)
    assert (await look(judge)).verdict is Verdict.FAIL


async def test_only_what_is_new_is_asked_for() -> None:
    store = Store()
    judge = Judging(store)
    store.tell("rel_new", answered=1)
    store.tell("rel_old", answered=1)
    await look(judge)
    await look(judge)
    assert store.asked_after == [("rel_new", 0), ("rel_old", 0), ("rel_new", 1), ("rel_old", 2)]


async def test_much_is_read_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "READ_AT_ONCE", 2)
    store = Store()
    for _ in range(5):
        store.tell("rel_new", answered=100)
    store.tell("rel_old", answered=500)
    assert (await look(Judging(store))).verdict is Verdict.PASS
    assert store.asked_after == [("rel_new", 0), ("rel_new", 2), ("rel_new", 4), ("rel_old", 0)]


async def test_what_was_measured_before_the_stage_does_not_count() -> None:
    store = Store()
    store.tell("rel_new", failed=500, ago_s=30)
    store.tell("rel_old", answered=500, ago_s=30)
    assert (await look(Judging(store))).verdict is Verdict.INCONCLUSIVE


async def test_a_new_stage_begins_from_nothing_and_one_that_has_its_time_again_does_not() -> None:
    store = Store()
    judge = Judging(store)
    store.tell("rel_new", answered=500)
    store.tell("rel_old", answered=500)
    assert (await look(judge)).verdict is Verdict.PASS
    assert (await look(judge, moving(staged_at=NOW))).verdict is Verdict.PASS
    assert (await look(judge, moving(staged_at=NOW, stage=1, percent=50))).verdict is Verdict.INCONCLUSIVE


async def test_a_gateway_whose_clock_runs_ahead_does_not_bring_a_candidate_through_two_stages_at_once() -> None:
    store = Store()
    judge = Judging(store)
    for release_id in ("rel_new", "rel_old"):
        store.tell(release_id, answered=500, ago_s=-3600)
    assert (await look(judge)).verdict is Verdict.PASS
    later = moving(staged_at=NOW, stage=1, percent=50)
    assert (await look(judge, later)).verdict is Verdict.INCONCLUSIVE
    for release_id in ("rel_new", "rel_old"):
        store.tell(release_id, answered=500, ago_s=-3601)
    assert (await look(judge, later)).verdict is Verdict.PASS


async def test_what_the_stable_release_showed_before_a_step_of_100_percent_is_read_from_the_beginning() -> None:
    store = Store()
    judge = Judging(store)
    for release_id in ("rel_new", "rel_old"):
        store.tell(release_id, answered=500)
    assert (await look(judge)).verdict is Verdict.PASS
    whole = moving(staged_at=NOW, stage=2, percent=100)
    store.tell("rel_new", answered=500, ago_s=-1)
    assert (await look(judge, whole)).verdict is Verdict.PASS


async def test_a_turn_is_told_at_once_and_the_rest_now_and_then() -> None:
    store = Store()
    judge = Judging(store)
    await look(judge)
    assert len(store.judgements) == 1
    for at_s in (1.0, 2.0):
        store.tell("rel_new", answered=1)
        await look(judge, at_s=at_s)
    assert len(store.judgements) == 1
    store.tell("rel_new", answered=1)
    await look(judge, at_s=5.0)
    assert len(store.judgements) == 2
    # Nothing new is nothing to tell.
    await look(judge, at_s=20.0)
    assert len(store.judgements) == 2
    store.tell("rel_new", failed=400)
    store.tell("rel_old", answered=400)
    assert (await look(judge, at_s=5.5)).verdict is Verdict.FAIL
    assert store.judgements[-1][0] == "rol_1"
    assert store.judgements[-1][1].verdict is Verdict.FAIL


async def test_what_is_not_judged_is_forgotten() -> None:
    store = Store()
    judge = Judging(store)
    await look(judge)
    assert await judge.look(record(current=OLD), NOW) == {}
    await look(judge)
    assert store.asked_after[-2:] == [("rel_new", 0), ("rel_old", 0)]
    judge.keep_only([])
    await look(judge)
    assert store.asked_after[-2:] == [("rel_new", 0), ("rel_old", 0)]


async def test_an_analysis_that_fails_is_inconclusive_with_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Judgement:
        raise ZeroDivisionError("no variance")

    monkeypatch.setattr(judging, "judge", fail)
    store = Store()
    store.tell("rel_new", answered=500)
    found = await look(Judging(store))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "the analysis failed: ZeroDivisionError('no variance')" in found.reason()


async def test_evidence_that_cannot_be_read_is_no_verdict() -> None:
    class Away(Store):
        async def windows(self, release_id: str, since: datetime, after_id: int, limit: int) -> tuple[list[TrafficWindow], int]:
            raise Unavailable("the database is away")

    with pytest.raises(Unavailable):
        await look(Judging(Away()))


@pytest.mark.parametrize("failing", [ValueError("a bucket of 9999"), Unavailable("the database is away")])
async def test_evidence_that_was_broken_once_is_judged_whole_afterwards(failing: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    judge = Judging(store)
    store.tell("rel_old", answered=500)
    await look(judge)
    # What is new is read, and then something breaks.
    store.tell("rel_new", answered=500)
    whole = store.windows

    async def broken(release_id: str, since: datetime, after_id: int, limit: int) -> tuple[list[TrafficWindow], int]:
        if release_id == "rel_old":
            raise failing
        return await whole(release_id, since, after_id, limit)

    monkeypatch.setattr(store, "windows", broken)
    if isinstance(failing, Unavailable):
        with pytest.raises(Unavailable):
            await look(judge)
    else:
        # It holds up nothing else, and is no verdict.
        found = await look(judge)
        assert found.verdict is Verdict.INCONCLUSIVE
        assert "the analysis failed: ValueError('a bucket of 9999')" in found.reason()
    monkeypatch.setattr(store, "windows", whole)
    assert (await look(judge)).verdict is Verdict.PASS


async def test_a_verdict_that_cannot_be_written_down_holds_and_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(rollout_id: str, judgement: Judgement) -> None:
        raise Unavailable("the database is busy")

    store = Store()
    judge = Judging(store)
    store.tell("rel_new", failed=500)
    store.tell("rel_old", answered=500)
    with monkeypatch.context() as patch:
        patch.setattr(store, "judge", away)
        assert (await look(judge)).verdict is Verdict.FAIL
    await look(judge)
    assert [judgement.verdict for _, judgement in store.judgements] == [Verdict.FAIL]


async def test_a_shadow_is_judged_by_its_pairs() -> None:
    good = PairTally(num_pairs=400, disagreement_sum=4, disagreement_square_sum=0.5, divergence_sum=8, divergence_square_sum=1)
    bad = PairTally(num_pairs=400, disagreement_sum=360, disagreement_square_sum=330, divergence_sum=1900, divergence_square_sum=9100)
    for pairs, verdict in ((good, Verdict.PASS), (bad, Verdict.FAIL)):
        store = Store()
        judge = Judging(store)
        shadow = moving(ShadowStrategy(), percent=0, mirror_percent=10)
        assert (await look(judge, shadow)).verdict is Verdict.INCONCLUSIVE
        store.tell("rel_new", pairs=pairs)
        assert (await look(judge, shadow)).verdict is verdict


class Metrics:
    """A Prometheus that answers when it is let."""

    def __init__(self, value: float | str | Exception) -> None:
        self.value = value
        self.calls: list[tuple[str, str, float]] = []
        self.go_on = asyncio.Event()

    async def values(self, spec: AnalysisSpec, *, release: str, deployment: str, seconds: float) -> Mapping[str, float | str]:
        self.calls.append((release, deployment, seconds))
        await self.go_on.wait()
        if isinstance(self.value, Exception):
            raise self.value
        return {rule.query: self.value for rule in spec.rules if isinstance(rule, PrometheusLimit)}


GAUGE = PrometheusLimit(query="gpu_temperature", max_value=80)
WITH_GAUGE = CanaryStrategy(analysis=AnalysisSpec(rules=[ErrorRateLimit(max_rate=0.5), GAUGE]))


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(70.0, Verdict.PASS), (90.0, Verdict.FAIL), ("no series", Verdict.INCONCLUSIVE), (ValueError("?"), Verdict.INCONCLUSIVE)],
)
async def test_prometheus_is_asked_in_the_background(value: float | str | Exception, verdict: Verdict) -> None:
    store, metrics = Store(), Metrics(value)
    judge = Judging(store, metrics)
    store.tell("rel_new", answered=500)
    first = await look(judge, moving(WITH_GAUGE))
    assert first.verdict is Verdict.INCONCLUSIVE
    metrics.go_on.set()
    for _ in range(3):
        await asyncio.sleep(0)
    found = await look(judge, moving(WITH_GAUGE), at_s=1)
    assert found.verdict is verdict
    assert metrics.calls == [("rel_new", "chat", 60.0)]
    await look(judge, moving(WITH_GAUGE), at_s=10)
    await asyncio.sleep(0)
    assert len(metrics.calls) == 2
    await judge.close()


@pytest.mark.parametrize("is_answered", [True, False])
async def test_a_value_from_before_the_requests_is_not_what_they_are_judged_by(*, is_answered: bool) -> None:
    store, metrics = Store(), Metrics(0.0)
    judge = Judging(store, metrics)
    if is_answered:
        metrics.go_on.set()
    await look(judge, moving(WITH_GAUGE))
    for _ in range(3):
        await asyncio.sleep(0)
    metrics.go_on.set()
    store.tell("rel_new", answered=500)
    metrics.value = 90.0
    assert (await look(judge, moving(WITH_GAUGE), at_s=1)).verdict is Verdict.INCONCLUSIVE
    for _ in range(3):
        await asyncio.sleep(0)
    assert (await look(judge, moving(WITH_GAUGE), at_s=2)).verdict is Verdict.FAIL
    assert [seconds for _, _, seconds in metrics.calls] == [60.0, 61.0]
    await judge.close()


async def test_without_a_prometheus_its_rules_are_inconclusive_and_say_so() -> None:
    store = Store()
    store.tell("rel_new", answered=500)
    found = await look(Judging(store), moving(WITH_GAUGE))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "QUANTRY_PROMETHEUS_URL" in found.reason()


async def test_a_prometheus_that_hangs_is_given_up_with_the_rollout() -> None:
    metrics = Metrics(1.0)
    judge = Judging(Store(), metrics)
    await look(judge, moving(WITH_GAUGE))
    await asyncio.sleep(0)
    judge.keep_only([])
    await judge.close()
    assert len(metrics.calls) == 1
