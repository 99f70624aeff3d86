"""Attaching adapters to deployments and detaching them. The controller follows: it loads and unloads them while engines run."""

from __future__ import annotations

from collections.abc import Sequence

from quantry_core.errors import Conflict, NotServable
from quantry_core.jobs import EngineConfig
from quantry_core.keys import Identity
from quantry_core.rollouts import AttachedAdapter, Deployment, Release
from quantry_core.servability import adapter_not_served, stated_adapter
from quantry_core.versions import Version, VersionKind, VersionState
from quantry_store.references import require_name
from quantry_store.repositories.attached_adapters import attached_adapter
from quantry_store.unit_of_work import UnitOfWork


async def attach_adapter(
    uow: UnitOfWork, identity: Identity, deployment_name: str, name: str, version_ref: str, *, job_id: str | None = None
) -> AttachedAdapter:
    """Returns the adapter, attached to a deployment under a name that requests can carry; one that is attached so is returned as it is.

    Under the same name another version takes its place. Raises UnknownDeployment, InvalidName, UnknownModel, UnknownVersion;
    NotServable for a version that is no ready adapter or that the engine cannot load; Conflict where the name is taken, the adapter
    was trained on another version than the deployment serves or is about to, or there is no room for it.
    """
    await uow.attached.claim_name(identity.project_id, require_name(name))
    deployment = await uow.deployments.lock(identity.project_id, deployment_name)
    await uow.attached.check_free_for_adapter(deployment, name)
    version = await uow.versions.resolve(identity.project_id, version_ref, kinds=frozenset({VersionKind.ADAPTER}))
    before = next((adapter for adapter in deployment.adapters if adapter.name == name), None)
    if before is not None and before.version_id == version.id:
        return before
    await uow.versions.hold(version)
    _check_kind(version)
    others = [adapter for adapter in deployment.adapters if adapter.name != name]
    for release in await _releases_of_base(uow, deployment, version):
        _check_room(release.engine, [*others, version], deployment.name)
        _check_loadable(version, release.engine)
    if before is None:
        attached = await uow.attached.add(deployment, name, version, job_id)
    else:
        attached = await uow.attached.replace(before, version, job_id)
    facts = {"deployment": deployment.name, "name": name, "version_id": version.id, "job_id": job_id}
    await uow.audit.record(identity, "adapter.attach", "adapter", attached.id, facts)
    return attached


async def detach_adapter(uow: UnitOfWork, identity: Identity, deployment_name: str, name: str) -> AttachedAdapter:
    """Returns the adapter that is served no more: its route is gone at once, engines unload it after the drain.

    Raises UnknownDeployment, NotFound if the deployment has no such adapter.
    """
    deployment = await uow.deployments.lock(identity.project_id, deployment_name)
    adapter = attached_adapter(deployment, name)
    await uow.attached.remove(adapter)
    facts = {"deployment": deployment.name, "name": name, "version_id": adapter.version_id}
    await uow.audit.record(identity, "adapter.detach", "adapter", adapter.id, facts)
    return adapter


async def check_rollout(uow: UnitOfWork, deployment: Deployment, version: Version, engine: EngineConfig) -> None:
    """Raises Conflict if a locked deployment's adapters could not be served beside ``version`` by such an engine."""
    if not deployment.adapters:
        return
    for adapter in deployment.adapters:
        of_adapter = await uow.versions.get(deployment.project_id, adapter.version_id)
        base_id = await _base_id(uow, of_adapter)
        if base_id != version.id:
            base = await uow.versions.get(deployment.project_id, base_id)
            raise Conflict(
                f"adapter {adapter.name!r} of deployment {deployment.name!r} was trained on {base.ref}, not on {version.ref}: "
                "detach it before you roll out"
            )
        _check_loadable(of_adapter, engine)
    _check_room(engine, deployment.adapters, deployment.name)


def _check_kind(version: Version) -> None:
    if version.kind is not VersionKind.ADAPTER:
        raise NotServable(f"{version.ref} is a {version.kind} version and no adapter; roll it out instead")
    if version.state is not VersionState.READY:
        raise NotServable(f"{version.ref} is {version.state}; only a ready adapter is served")


async def _releases_of_base(uow: UnitOfWork, deployment: Deployment, version: Version) -> list[Release]:
    """Returns the releases of a deployment that serve, or are about to serve, what an adapter was trained on; at least one."""
    releases = [] if deployment.current_release is None else [deployment.current_release]
    if deployment.active_rollout is not None:
        releases.append(await uow.releases.get(deployment.active_rollout.to_release_id))
    await _check_watch(uow, deployment, version)
    base_id = await _base_id(uow, version)
    # What is being rolled out decides: adapters of the old base could not go with it.
    if not releases or releases[-1].version_id != base_id:
        base = await uow.versions.get(deployment.project_id, base_id)
        serves = f"serves {releases[-1].version_ref}" if releases else "serves nothing yet"
        raise Conflict(
            f"{version.ref} was trained on {base.ref}, and deployment {deployment.name!r} {serves}: attach it where that is served"
        )
    return [release for release in releases if release.version_id == base_id]


async def _check_watch(uow: UnitOfWork, deployment: Deployment, version: Version) -> None:
    """Raises Conflict while a promotion is watched that may be undone by itself to a release which could not serve the adapter."""
    watched = deployment.watched_rollout
    if watched is None or watched.from_release_id is None or deployment.active_rollout is not None:
        return
    before = await uow.releases.get(watched.from_release_id)
    if before.version_id != await _base_id(uow, version):
        until = "" if watched.watch_until is None else f" until {watched.watch_until.isoformat(timespec='seconds')}"
        raise Conflict(
            f"{version.ref} was not trained on {before.version_ref}, to which deployment {deployment.name!r} may be rolled back by "
            f"itself{until}: attach it then"
        )


async def _base_id(uow: UnitOfWork, version: Version) -> str:
    base_id = await uow.versions.base_id_of(version.id)
    if base_id is None:
        raise NotServable(f"{version.ref} names no version that it was trained on")
    return base_id


def _check_room(engine: EngineConfig, adapters: Sequence[AttachedAdapter | Version], deployment_name: str) -> None:
    if len(adapters) > engine.max_adapters:
        raise Conflict(
            f"the release of deployment {deployment_name!r} takes {engine.max_adapters} adapters and {len(adapters)} would be attached: "
            "detach one, or roll out with a higher max_adapters"
        )


def _check_loadable(version: Version, engine: EngineConfig) -> None:
    stated = stated_adapter(version.recipe)
    sentence = None if stated is None else adapter_not_served(stated.kind, stated.rank, engine.max_adapter_rank)
    if sentence is not None:
        raise NotServable(f"{version.ref}: {sentence}")
