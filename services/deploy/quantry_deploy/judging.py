"""The verdicts that decide goes by: evidence in, analysis asked, the result told. An analysis that fails is inconclusive, never a pass."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from quantry_core.errors import QuantryError
from quantry_core.rules import AnalysisSpec, PrometheusLimit, RuleName
from quantry_core.strategies import ShadowStrategy
from quantry_core.traffic import ReleaseTraffic, TrafficWindow
from quantry_core.verdicts import Finding, Judgement, Verdict
from quantry_deploy.analysis.judge import judge
from quantry_deploy.analysis.pairs import judge_pairs
from quantry_deploy.analysis.prometheus import without_server
from quantry_deploy.evidence import Case, Timeline, case_of
from quantry_deploy.stages import analysis_of
from quantry_store.transactions.rollouts import DeploymentRecord

TOLD_EVERY_S = 5.0
"""A judgement whose verdict is the one before is written down this often."""

ASKED_EVERY_S = 10.0
"""Between two looks at Prometheus."""

READ_AT_ONCE = 2000
"""A controller that begins in the middle of a long experiment reads its windows piece by piece."""

SHADOW_ERROR_PROBABILITY = AnalysisSpec().error_probability
"""Bound on the chance that a shadow's verdict is wrong."""

_log = structlog.get_logger(__name__)


class Windows(Protocol):
    """Where evidence is read and judgements are written: ``quantry_deploy.ledger.Ledger``."""

    async def windows(self, release_id: str, since: datetime, after_id: int, limit: int) -> tuple[list[TrafficWindow], int]:
        """Returns a release's first windows that began since then and were stored after that id, and the id of the last; raises
        Unavailable."""
        ...

    async def judge(self, rollout_id: str, judgement: Judgement) -> None:
        """Keeps the last judgement on the rollout."""
        ...


class Metrics(Protocol):
    """Who is asked for values of Prometheus: ``quantry_deploy.analysis.prometheus.Prometheus``."""

    async def values(self, spec: AnalysisSpec, *, release: str, deployment: str, seconds: float) -> Mapping[str, float | str]:
        """Returns by query its value, or a sentence that says why there is none."""
        ...


@dataclass
class _Docket:
    """One case with its evidence so far."""

    case: Case
    candidate: Timeline
    stable: Timeline
    judgement: Judgement | None = None
    told_at: datetime | None = None
    told: Judgement | None = None
    external: Mapping[str, float | str] = field(default_factory=dict)
    asking: asyncio.Task[Mapping[str, float | str]] | None = None
    asked_at: datetime | None = None
    has_enough: bool = False
    """The candidate has had the requests that a value must be asked for after."""

    def give_up_asking(self) -> None:
        """Forgets a question that is open."""
        if self.asking is not None:
            self.asking.cancel()
            self.asking = None


class Judging:
    """Knows the evidence of every rollout that is judged now. Lives in one event loop."""

    def __init__(self, ledger: Windows, metrics: Metrics | None = None) -> None:
        """``metrics`` None: queries to Prometheus are inconclusive."""
        self._ledger = ledger
        self._metrics = metrics
        self._dockets: dict[str, _Docket] = {}

    async def look(self, record: DeploymentRecord, now: datetime) -> dict[str, Judgement]:
        """Returns by rollout id what the evidence says now of the one that is judged; nothing where none is. Raises Unavailable.

        Evidence that cannot be made sense of is inconclusive: the replicas are looked after all the same.
        """
        case = case_of(record)
        if case is None:
            self._forget(record.deployment.id)
            return {}
        docket = self._docket(record.deployment.id, case)
        try:
            judgement = await self._judged(docket, record.deployment.name, now)
        except QuantryError:
            docket.judgement = None
            raise
        except Exception as error:  # a defect in the evidence is no news of the candidate
            _log.exception("evidence not read", rollout=case.rollout.id)
            docket.judgement = None
            judgement = _broken(case, error, now)
        await self._tell(docket, judgement, now)
        return {case.rollout.id: judgement}

    def keep_only(self, deployment_ids: Collection[str]) -> None:
        """Forgets the evidence of other deployments."""
        for deployment_id in [id_ for id_ in self._dockets if id_ not in deployment_ids]:
            self._forget(deployment_id)

    async def close(self) -> None:
        """Gives up what goes on."""
        tasks = [docket.asking for docket in self._dockets.values() if docket.asking is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _judged(self, docket: _Docket, name: str, now: datetime) -> Judgement:
        """Returns what the evidence says; as it was where nothing is new."""
        news = [await self._read(timeline) for timeline in (docket.candidate, docket.stable)]
        news.append(self._ask_metrics(docket, name, now))
        if docket.judgement is None or any(news):
            docket.judgement = await asyncio.to_thread(_judgement, docket, now)
        return docket.judgement

    def _docket(self, deployment_id: str, case: Case) -> _Docket:
        docket = self._dockets.get(deployment_id)
        if docket is None or docket.case.key != case.key:
            self._forget(deployment_id)
            candidate = Timeline(case.candidate.id, case.candidate_since)
            stable = Timeline(case.stable_id, case.stable_since, case.stable_until)
            if docket is not None and docket.case.rollout.id == case.rollout.id:
                # What was read at the stage before is of that one, though the clock of its gateway may run ahead.
                candidate.last_id = docket.candidate.last_id
                stable.last_id = docket.stable.last_id if case.stable_since == case.candidate_since else 0
            docket = self._dockets[deployment_id] = _Docket(case, candidate, stable, told=case.rollout.judgement)
        return docket

    def _forget(self, deployment_id: str) -> None:
        docket = self._dockets.pop(deployment_id, None)
        if docket is not None:
            docket.give_up_asking()

    async def _read(self, timeline: Timeline) -> bool:
        """Takes all that is new; returns whether there was anything."""
        has_news = False
        while True:
            windows, last_id = await self._ledger.windows(timeline.release_id, timeline.since, timeline.last_id, READ_AT_ONCE)
            has_news = await asyncio.to_thread(timeline.add, windows, last_id) or has_news
            if len(windows) < READ_AT_ONCE:
                return has_news

    def _ask_metrics(self, docket: _Docket, name: str, now: datetime) -> bool:
        """Takes the values that have come, and has newer ones asked for in the background; returns whether any came."""
        spec = analysis_of(docket.case.rollout)
        if spec is None or not any(isinstance(rule, PrometheusLimit) for rule in spec.rules):
            return False
        if self._metrics is None:
            docket.external = without_server(spec)
            return False
        if not docket.has_enough and docket.candidate.num_judged >= spec.min_requests:
            # What was asked for before says nothing of these requests.
            docket.has_enough, docket.external, docket.asked_at = True, {}, None
            docket.give_up_asking()
        has_news = docket.asking is not None and docket.asking.done()
        if docket.asking is not None and has_news:
            docket.external = docket.asking.result()
            docket.asking = None
        if docket.asking is None and (docket.asked_at is None or now - docket.asked_at >= timedelta(seconds=ASKED_EVERY_S)):
            docket.asked_at = now
            docket.asking = asyncio.create_task(_asked(self._metrics, spec, docket.case, name, now))
        return has_news

    async def _tell(self, docket: _Docket, judgement: Judgement, now: datetime) -> None:
        """Writes a judgement down where its verdict is another one, or a while after the one before."""
        if docket.told is not None and docket.told.findings == judgement.findings:
            return
        is_turn = docket.told is None or docket.told.verdict is not judgement.verdict
        is_due = docket.told_at is None or now - docket.told_at >= timedelta(seconds=TOLD_EVERY_S)
        if not (is_turn or is_due):
            return
        try:
            await self._ledger.judge(docket.case.rollout.id, judgement)
        except QuantryError as error:  # it is told again; what follows from it does not wait for that
            _log.warning("judgement not written down", rollout=docket.case.rollout.id, error=error.detail)
        else:
            docket.told, docket.told_at = judgement, now


async def _asked(metrics: Metrics, spec: AnalysisSpec, case: Case, deployment: str, now: datetime) -> Mapping[str, float | str]:
    since = case.rollout.exposed_at or case.candidate_since
    try:
        return await metrics.values(spec, release=case.candidate.id, deployment=deployment, seconds=(now - since).total_seconds())
    except Exception as error:  # whatever went wrong, there is no value
        _log.exception("prometheus failed")
        return {rule.query: f"it could not be asked for: {error!r}" for rule in spec.rules if isinstance(rule, PrometheusLimit)}


def _judgement(docket: _Docket, now: datetime) -> Judgement:
    """Returns what the analysis says; inconclusive, with the error's words, where it fails."""
    case = docket.case
    strategy, spec = case.rollout.strategy, analysis_of(case.rollout)
    try:
        if isinstance(strategy, ShadowStrategy):
            return _shadow(strategy, docket.candidate.traffic(), now)
        if spec is not None:
            return judge(spec, docket.candidate.traffic(), docket.stable.traffic(), docket.external, now)
    except Exception as error:  # a defect in the analysis is no news of the candidate
        _log.exception("analysis failed", rollout=case.rollout.id)
        return _broken(case, error, now)
    return Judgement(verdict=Verdict.INCONCLUSIVE, findings=[], made_at=now)


def _broken(case: Case, error: Exception, now: datetime) -> Judgement:
    """Returns the judgement of an analysis that failed."""
    spec = analysis_of(case.rollout)
    names = [RuleName.SHADOW] if spec is None else [rule.rule for rule in spec.rules]
    message = f"the analysis failed: {error!r}"
    findings = [Finding(rule=name, verdict=Verdict.INCONCLUSIVE, message=message) for name in names]
    return Judgement(verdict=Verdict.INCONCLUSIVE, findings=findings, made_at=now)


def _shadow(strategy: ShadowStrategy, candidate: ReleaseTraffic, now: datetime) -> Judgement:
    finding = judge_pairs(strategy, candidate, SHADOW_ERROR_PROBABILITY)
    return Judgement(verdict=finding.verdict, findings=[finding], made_at=now)
