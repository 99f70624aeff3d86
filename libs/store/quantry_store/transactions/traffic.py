"""What gateways tell of requests, and the prompts that they captured."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from quantry_core.traffic import Tally, TrafficReport, TrafficWindow
from quantry_store.repositories.captures import EncryptedPrompt
from quantry_store.unit_of_work import UnitOfWork


async def record_traffic(uow: UnitOfWork, report: TrafficReport) -> int:
    """Returns how many windows of a report were new. The same report again changes nothing; a release that is not there any more,
    of a gateway that kept old routes, is passed over."""
    if report.key_ids:
        await uow.keys.note_use(report.key_ids)
    owners = await uow.traffic.owners({window.release_id for window in report.windows})
    windows = [window for window in _by_release(report.windows) if window.release_id in owners]
    requested: dict[str, datetime] = {}
    for window in windows:
        if _num_requests(window.tally):
            deployment_id = owners[window.release_id][1]
            requested[deployment_id] = max(window.ended_at, requested.get(deployment_id, window.ended_at))
    await uow.traffic.touch(requested, {demand.deployment_id for demand in report.demands})
    projects = {release_id: project_id for release_id, (project_id, _) in owners.items()}
    return await uow.traffic.add(report.gateway_id, report.sequence, windows, projects)


async def record_captures(uow: UnitOfWork, prompts: Iterable[EncryptedPrompt]) -> int:
    """Returns how many prompts are kept that were not before: of deployments that keep some, as far as there is room."""
    by_deployment: dict[str, list[EncryptedPrompt]] = {}
    for prompt in prompts:
        by_deployment.setdefault(prompt.deployment_id, []).append(prompt)
    owners = await uow.traffic.owners({prompt.release_id for told in by_deployment.values() for prompt in told})
    known = {deployment_id for _, deployment_id in owners.values()}
    num_kept = 0
    # In one order, so that two gateways' reports never wait for each other.
    for deployment_id in sorted(by_deployment.keys() & known):
        deployment = await uow.deployments.lock_by_id(deployment_id)
        told = by_deployment[deployment_id]
        num_kept += await uow.captures.add(deployment, [one for one in told if owners.get(one.release_id, ("", ""))[1] == deployment_id])
    return num_kept


def _by_release(windows: Iterable[TrafficWindow]) -> list[TrafficWindow]:
    """Returns one window for each release, by its id."""
    merged: dict[str, TrafficWindow] = {}
    for window in windows:
        before = merged.get(window.release_id)
        merged[window.release_id] = window if before is None else _merged(before, window)
    return [merged[release_id] for release_id in sorted(merged)]


def _merged(one: TrafficWindow, other: TrafficWindow) -> TrafficWindow:
    return TrafficWindow(
        release_id=one.release_id,
        began_at=min(one.began_at, other.began_at),
        ended_at=max(one.ended_at, other.ended_at),
        tally=one.tally.merged(other.tally),
    )


def _num_requests(tally: Tally) -> int:
    return tally.num_answered + tally.num_failed + tally.num_refused + tally.num_rejected + tally.num_given_up
