"""What a deployment serves, noted whenever it changes."""

from __future__ import annotations

from collections.abc import Mapping

from quantry_core.rollouts import Deployment, Release, RolloutState, Share
from quantry_core.strategies import WHOLE_PERCENT
from quantry_store.repositories.periods import PeriodDraft
from quantry_store.unit_of_work import UnitOfWork

_EXPOSED = frozenset({RolloutState.PROGRESSING, RolloutState.PAUSED})


def shares_of(deployment: Deployment, releases: Mapping[str, Release]) -> list[Share]:
    """Returns which release gets which share of a deployment's requests; ``releases`` has the target of its active rollout, by id."""
    if deployment.is_stopped:
        return []
    stable, rollout = deployment.current_release, deployment.active_rollout
    percent = rollout.percent if rollout is not None and rollout.state in _EXPOSED else 0
    if stable is None and percent:
        percent = WHOLE_PERCENT
    shares = []
    if stable is not None and percent < WHOLE_PERCENT:
        shares.append(_share(stable, WHOLE_PERCENT - percent))
    if rollout is not None and percent:
        shares.append(_share(releases[rollout.to_release_id], percent))
    return shares


async def note_change(uow: UnitOfWork, deployment_id: str, draft: PeriodDraft) -> None:
    """Notes what a deployment serves from now on, if that is not what it served; locks the deployment."""
    deployment, shares = await _now(uow, deployment_id)
    if shares != await uow.periods.last_shares(deployment):
        await uow.periods.add(deployment, shares, draft)


async def note_release(uow: UnitOfWork, deployment_id: str, draft: PeriodDraft) -> None:
    """Notes that another release is a deployment's current one, though it may have had all requests already; locks the deployment."""
    deployment, shares = await _now(uow, deployment_id)
    await uow.periods.add(deployment, shares, draft)


async def _now(uow: UnitOfWork, deployment_id: str) -> tuple[Deployment, list[Share]]:
    deployment = await uow.deployments.lock_by_id(deployment_id)
    return deployment, shares_of(deployment, await uow.deployments.releases(deployment))


def _share(release: Release, percent: int) -> Share:
    return Share(
        release_id=release.id,
        release_number=release.number,
        version_id=release.version_id,
        version_ref=release.version_ref,
        percent=percent,
    )
