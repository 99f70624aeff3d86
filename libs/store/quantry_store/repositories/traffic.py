"""What gateways measured of each release, by windows of time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Double, Integer, TableValuedAlias, cast, extract, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.histograms import Histogram
from quantry_core.traffic import PairTally, Tally, TrafficWindow
from quantry_store.tables import DeploymentRow, ReleaseRow, TrafficWindowRow

_WRITERS = "traffic-windows"

_COUNTS = tuple(name for name, field in Tally.model_fields.items() if field.annotation is int)
_HISTOGRAMS = tuple(name for name, field in Tally.model_fields.items() if field.annotation is Histogram)
_SPAN_COUNTS = ("num_answered", "num_failed")
_SPAN_HISTOGRAMS = ("ttft_s", "e2e_s")
_PAIR_FIELDS = tuple(PairTally.model_fields)


class TrafficRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def owners(self, release_ids: Collection[str]) -> dict[str, tuple[str, str]]:
        """Returns the project's and the deployment's id of each of these releases, of those that there are."""
        statement = select(ReleaseRow.id, ReleaseRow.project_id, ReleaseRow.deployment_id).where(ReleaseRow.id.in_(release_ids))
        return {row.id: (row.project_id, row.deployment_id) for row in await self._session.execute(statement)}

    async def touch(self, requested: Mapping[str, datetime], demanded: Collection[str]) -> None:
        """Notes when deployments were last asked for, by id, and which of them have requests that wait for a replica now."""
        ids = sorted({*requested, *demanded})
        if not ids:
            return
        # In one order, so that two gateways' reports never wait for each other.
        locked = select(DeploymentRow.id).where(DeploymentRow.id.in_(ids)).order_by(DeploymentRow.id).with_for_update(key_share=True)
        for id_ in (await self._session.scalars(locked)).all():
            values: dict[str, Any] = {"demanded_at": func.now()} if id_ in demanded else {}
            if id_ in requested:
                # A gateway's clock that runs ahead must not keep a deployment up for ever.
                heard_at = func.least(requested[id_], func.now())
                values["requested_at"] = func.greatest(func.coalesce(DeploymentRow.requested_at, heard_at), heard_at)
            await self._session.execute(
                update(DeploymentRow).where(DeploymentRow.id == id_).values(values).execution_options(synchronize_session=False)
            )

    async def add(self, gateway_id: str, sequence: int, windows: Iterable[TrafficWindow], projects: Mapping[str, str]) -> int:
        """Returns how many of these windows of different releases are new; ``projects`` has the project's id of each release.

        Taken last in a transaction: from here to the commit no other one adds windows, so that ids are visible in their order and
        who reads on after the last id that it saw misses none.
        """
        rows = [
            {
                "project_id": projects[window.release_id],
                "release_id": window.release_id,
                "gateway_id": gateway_id,
                "sequence": sequence,
                "began_at": window.began_at,
                "ended_at": window.ended_at,
                "tally": window.tally.model_dump(mode="json", exclude_defaults=True),
            }
            for window in windows
        ]
        if not rows:
            return 0
        await self._session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(_WRITERS, 0))))
        key = [TrafficWindowRow.gateway_id, TrafficWindowRow.sequence, TrafficWindowRow.release_id]
        statement = insert(TrafficWindowRow).values(rows).on_conflict_do_nothing(index_elements=key).returning(TrafficWindowRow.id)
        return len((await self._session.scalars(statement)).all())

    async def windows(
        self, release_ids: Collection[str], *, since: datetime, after_id: int, limit: int | None = None
    ) -> list[tuple[int, TrafficWindow]]:
        """Returns the windows of these releases that began at ``since`` or later and have a greater id, by id; the first ``limit``."""
        statement = (
            select(TrafficWindowRow)
            .where(TrafficWindowRow.release_id.in_(release_ids), TrafficWindowRow.began_at >= since, TrafficWindowRow.id > after_id)
            .order_by(TrafficWindowRow.id)
            .limit(limit)
        )
        return [(row.id, _to_window(row)) for row in await self._session.scalars(statement)]

    async def total(self, release_id: str, *, since: datetime, until: datetime | None) -> Tally:
        """Returns what was counted of a release between two moments; None: up to now. Added up in the database: a long rollout
        has many windows."""
        within = _within([release_id], since, until)
        tally = TrafficWindowRow.tally
        pairs = tally["pairs"]
        sums = [func.coalesce(func.sum(cast(tally[name].astext, BigInteger)), 0).label(name) for name in _COUNTS]
        sums += [func.coalesce(func.sum(cast(pairs[name].astext, Double)), 0).label(f"pairs_{name}") for name in _PAIR_FIELDS]
        counted = (await self._session.execute(select(*sums).where(*within))).mappings().one()
        values: dict[str, Any] = {name: int(counted[name]) for name in _COUNTS}
        values["pairs"] = {name: counted[f"pairs_{name}"] for name in _PAIR_FIELDS}
        for name in _HISTOGRAMS:
            bucket, number, count = _buckets(name)
            statement = select(number, count).select_from(TrafficWindowRow).join(bucket, text("true")).where(*within).group_by(number)
            values[name] = {"counts": {key: int(num) for key, num in await self._session.execute(statement)}}
        return Tally.model_validate(values)

    async def spans(
        self, release_ids: Collection[str], *, since: datetime, until: datetime | None, span_s: int
    ) -> dict[str, dict[int, Tally]]:
        """Returns what was answered and failed of each release between two moments, and how long it took, by the number of the span of
        ``span_s`` seconds, counted from ``since``, in which a window began; a release or span without windows has no entry within."""
        within = _within(release_ids, since, until)
        release = TrafficWindowRow.release_id
        span = cast(func.floor(extract("epoch", TrafficWindowRow.began_at - since) / span_s), Integer).label("span")
        sums = [func.coalesce(func.sum(cast(TrafficWindowRow.tally[name].astext, BigInteger)), 0).label(name) for name in _SPAN_COUNTS]
        values: dict[str, dict[int, dict[str, Any]]] = {release_id: {} for release_id in release_ids}
        for row in (await self._session.execute(select(release, span, *sums).where(*within).group_by(release, span))).mappings():
            values[row["release_id"]][row["span"]] = {name: int(row[name]) for name in _SPAN_COUNTS}
        for name in _SPAN_HISTOGRAMS:
            bucket, number, count = _buckets(name)
            windows = select(release, span, number, count).select_from(TrafficWindowRow).join(bucket, text("true")).where(*within)
            for release_id, at, key, num in await self._session.execute(windows.group_by(release, span, number)):
                values[release_id][at].setdefault(name, {"counts": {}})["counts"][key] = int(num)
        return {
            release_id: {number: Tally.model_validate(found) for number, found in by_span.items()} for release_id, by_span in values.items()
        }


def _within(release_ids: Collection[str], since: datetime, until: datetime | None) -> list[ColumnElement[bool]]:
    within = [TrafficWindowRow.release_id.in_(release_ids), TrafficWindowRow.began_at >= since]
    return within if until is None else [*within, TrafficWindowRow.ended_at <= until]


def _buckets(name: str) -> tuple[TableValuedAlias, ColumnElement[int], ColumnElement[int]]:
    """Returns a histogram's buckets as a table to join windows with, a bucket's number, and the sum of its counts."""
    bucket = func.jsonb_each_text(TrafficWindowRow.tally[name]["counts"]).table_valued("key", "value", name="bucket").render_derived()
    return bucket, cast(bucket.c.key, Integer), func.sum(cast(bucket.c.value, BigInteger))


def _to_window(row: TrafficWindowRow) -> TrafficWindow:
    return TrafficWindow(release_id=row.release_id, began_at=row.began_at, ended_at=row.ended_at, tally=Tally.model_validate(row.tally))
