"""The routes that gateways follow."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.captures import CaptureSettings
from quantry_core.rollouts import AttachedAdapter, Release, Replica, ReplicaState, Rollout, RolloutState
from quantry_core.routes import Mirror, Route, RoutedReplica, RouteSnapshot, Split, Variant, VariantRole
from quantry_core.strategies import WHOLE_PERCENT, AbStrategy, ShadowStrategy
from quantry_store.repositories.attached_adapters import to_attached
from quantry_store.repositories.keys import KeyRepository
from quantry_store.repositories.releases import to_release
from quantry_store.repositories.replicas import to_replica
from quantry_store.repositories.revision import RouteRevision
from quantry_store.repositories.rollouts import to_rollout
from quantry_store.tables import DeploymentAdapterRow, DeploymentRow, ReleaseRow, ReplicaRow, RolloutRow

MIN_REQUESTS_PER_REPLICA = 8
REQUESTS_PER_SEQUENCE = 2
"""Requests that a replica may have under way for each sequence that its engine decodes at once: so many again wait inside it, which
keeps it busy without hiding from the gateway that it has enough. The rest waits in the gateway, where another replica may take it."""

_ROUTED = (RolloutState.PROGRESSING, RolloutState.PAUSED)


@dataclass
class _Served:
    """What a deployment's route is made of."""

    row: DeploymentRow
    rollout: Rollout | None = None
    replicas: list[Replica] = field(default_factory=list)
    """Those that answer, of any release."""
    adapters: list[AttachedAdapter] = field(default_factory=list)


class RouteRepository:
    def __init__(self, session: AsyncSession, *, revision: RouteRevision, keys: KeyRepository) -> None:
        self._session = session
        self._revision = revision
        self._keys = keys

    def bump(self) -> None:
        """Marks the routes as changed; the revision is counted up just before the commit."""
        self._revision.bump()

    async def revision(self) -> int:
        """Returns the revision of the last committed change."""
        return await self._revision.current()

    async def snapshot(self) -> RouteSnapshot:
        """Returns the routes of every deployment and attached adapter, and the keys of every project.

        A route has the current release as its stable variant and the target of a rollout that has begun as its candidate, each with
        its replicas that answer; a stopped deployment has none of these. An adapter's route has of those replicas the ones that have
        it loaded.
        """
        # The revision is read first: what follows is then at least that new, and a later change has a later revision.
        revision = await self.revision()
        served = await self._served()
        releases = await self._releases(served)
        routes = [_route(one, releases) for one in served]
        # One attached to a deployment that was made since comes with the next snapshot, as the deployment does.
        adapters = sorted(((adapter, one) for one in served for adapter in one.adapters), key=lambda pair: pair[0].id)
        routes += [_adapter_route(adapter, one, releases) for adapter, one in adapters]
        return RouteSnapshot(revision=revision, routes=routes, keys=await self._keys.snapshot())

    async def _served(self) -> builtins.list[_Served]:
        deployments = await self._session.scalars(select(DeploymentRow).order_by(DeploymentRow.id))
        served = {row.id: _Served(row) for row in deployments}
        for row in await self._session.scalars(select(RolloutRow).where(RolloutRow.state.in_(_ROUTED))):
            if row.deployment_id in served:
                served[row.deployment_id].rollout = to_rollout(row)
        ready = select(ReplicaRow).where(ReplicaRow.state == ReplicaState.READY, ReplicaRow.url.is_not(None))
        for replica in await self._session.scalars(ready.order_by(ReplicaRow.ordinal, ReplicaRow.id)):
            if replica.deployment_id in served:
                served[replica.deployment_id].replicas.append(to_replica(replica))
        for adapter in await self._session.scalars(select(DeploymentAdapterRow)):
            if adapter.deployment_id in served:
                served[adapter.deployment_id].adapters.append(to_attached(adapter))
        return list(served.values())

    async def _releases(self, served: Sequence[_Served]) -> dict[str, Release]:
        ids = {one.row.current_release_id for one in served} | {one.rollout.to_release_id for one in served if one.rollout is not None}
        rows = await self._session.scalars(select(ReleaseRow).where(ReleaseRow.id.in_(ids - {None})))
        return {row.id: to_release(row) for row in rows}


def max_requests(release: Release) -> int:
    """Returns how many requests a replica of a release may have under way at once."""
    return max(MIN_REQUESTS_PER_REPLICA, REQUESTS_PER_SEQUENCE * release.engine.max_num_seqs)


def _route(served: _Served, releases: Mapping[str, Release]) -> Route:
    row, rollout = served.row, served.rollout
    variants = [] if row.is_stopped else _variants(served, releases, served.replicas)
    mirror = None
    if rollout is not None and rollout.mirror_percent and isinstance(rollout.strategy, ShadowStrategy) and not row.is_stopped:
        mirror = Mirror(percent=rollout.mirror_percent, max_tokens=rollout.strategy.max_tokens)
    return Route(
        deployment=row.name,
        deployment_id=row.id,
        project_id=row.project_id,
        created_at=row.created_at,
        variants=variants,
        split=_split(rollout),
        mirror=mirror,
        wakes=_wakes(row, variants, releases),
        capture=None if row.capture is None else CaptureSettings.model_validate(row.capture),
    )


def _adapter_route(adapter: AttachedAdapter, served: _Served, releases: Mapping[str, Release]) -> Route:
    """Returns the route of an adapter: its deployment's, of the replicas that have it loaded. Nothing of it is compared or captured."""
    row = served.row
    loaded = [replica for replica in served.replicas if adapter.id in replica.adapter_ids]
    variants = [] if row.is_stopped else _variants(served, releases, loaded)
    return Route(
        deployment=adapter.name,
        deployment_id=row.id,
        parent=row.name,
        project_id=adapter.project_id,
        created_at=adapter.created_at,
        variants=variants,
        split=_split(served.rollout),
        wakes=_wakes(row, variants, releases),
    )


def _variants(served: _Served, releases: Mapping[str, Release], replicas: Sequence[Replica]) -> list[Variant]:
    rollout = served.rollout
    stable = releases.get(served.row.current_release_id or "")
    candidate = None if rollout is None else releases.get(rollout.to_release_id)
    percent = 0 if rollout is None else rollout.percent
    variants = []
    if stable is not None:
        variants.append(_variant(VariantRole.STABLE, stable, WHOLE_PERCENT - percent, replicas))
    if candidate is not None:
        variant = _variant(VariantRole.CANDIDATE, candidate, percent, replicas)
        if variant.percent or variant.replicas or (rollout is not None and rollout.mirror_percent):
            variants.append(variant)
    return variants


def _variant(role: VariantRole, release: Release, percent: int, replicas: Sequence[Replica]) -> Variant:
    routed = [
        RoutedReplica(id=replica.id, release_id=release.id, url=replica.url, max_requests=max_requests(release))
        for replica in replicas
        if replica.release_id == release.id and replica.url is not None
    ]
    return Variant(role=role, release_id=release.id, release_number=release.number, percent=percent, replicas=routed)


def _split(rollout: Rollout | None) -> Split | None:
    if rollout is None or not isinstance(rollout.strategy, AbStrategy):
        return None
    return Split(by=rollout.strategy.sticky_by, header=rollout.strategy.header, salt=rollout.id)


def _wakes(row: DeploymentRow, variants: Sequence[Variant], releases: Mapping[str, Release]) -> bool:
    """Tells whether requests wait for the replica that they bring up: it was scaled to zero, or that replica is not there yet."""
    stable = releases.get(row.current_release_id or "")
    if row.is_stopped or stable is None or stable.scaling is None or stable.scaling.min_replicas:
        return False
    return row.num_wanted == 0 or not any(variant.replicas for variant in variants)
