"""What to do next about the adapters of one deployment: a part of decide, as pure.

An engine is asked to load what is attached and has its files here. What it then lists, the record names, and only then do requests
come. The other way round: the record names it no more, and after the drain the engine unloads it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from quantry_core.rollouts import AttachedAdapter, Release, Replica, ReplicaState
from quantry_deploy.actions import Action, LoadAdapter, PullAdapter, SetAdapterMessage, SetAdapters, UnloadAdapter
from quantry_deploy.observations import AttachedFiles, LoadedAdapters, Observations, PullState, PullStatus
from quantry_deploy.policy import Policy
from quantry_store.transactions.rollouts import DeploymentRecord


@dataclass(frozen=True)
class _Wanted:
    """An adapter that the replicas of a release should have."""

    adapter: AttachedAdapter
    files: AttachedFiles
    pull: PullStatus
    """How far its files are for that release."""


@dataclass(frozen=True)
class _Place:
    """One ready replica among those of its release."""

    replica: Replica
    ready: list[Replica]
    seen: Observations

    @property
    def loaded(self) -> LoadedAdapters:
        return self.seen.loaded[self.replica.id]

    def is_next(self, one: _Wanted) -> bool:
        """Tells whether it is this replica's turn to change to the adapter's new version: the first that has not, the others serving."""
        first = next(replica for replica in self.ready if not _has(self.seen.loaded[replica.id], one))
        others = [replica for replica in self.ready if replica.id != self.replica.id]
        return first.id == self.replica.id and all(one.adapter.id in other.adapter_ids for other in others)


def adapter_actions(
    record: DeploymentRecord, releases: Sequence[Release], seen: Observations, now: datetime, policy: Policy, *, busy: Collection[str]
) -> list[Action]:
    """Returns what is due for the adapters on the ready replicas of these releases; ``busy`` replicas have something else to do."""
    actions: list[Action] = []
    for release in releases:
        wanted = wanted_adapters(record, release, seen)
        ready = [
            replica
            for replica in record.deployment.replicas
            if replica.release_id == release.id and replica.state is ReplicaState.READY and replica.id in seen.loaded
        ]
        pulls: dict[str, Action] = {}
        for replica in ready:
            if replica.id in busy:
                continue
            is_drained = now - replica.updated_at > timedelta(seconds=policy.drain_s)
            actions += _care(_Place(replica, ready, seen), release, wanted, is_drained=is_drained)
            for one in wanted:
                if one.pull.state is PullState.ABSENT and not _has(seen.loaded[replica.id], one):
                    pulls[one.adapter.id] = PullAdapter(one.adapter, release)
        actions += pulls.values()
    return [*actions, *_messages(record, releases, seen)]


def wanted_adapters(record: DeploymentRecord, release: Release, seen: Observations) -> list[_Wanted]:
    """Returns the attached adapters that were trained on what a release serves, as far as it has room for them."""
    known = [(adapter, seen.adapters[adapter.id]) for adapter in record.deployment.adapters if adapter.id in seen.adapters]
    fitting = [_Wanted(adapter, files, files.pull(release.id)) for adapter, files in known if files.base_version_id == release.version_id]
    return fitting[: release.engine.max_adapters]


def _care(place: _Place, release: Release, wanted: list[_Wanted], *, is_drained: bool) -> list[Action]:
    """Returns what brings one replica's adapters to what is wanted: the record first, the engine in the pass after it."""
    replica, loaded = place.replica, place.loaded
    served = [one.adapter.id for one in wanted if _may_serve(place, one)]
    if set(served) != set(replica.adapter_ids):
        return [SetAdapters(replica, served)]
    right = {one.adapter.name for one in wanted if _has(loaded, one)}
    routed = {one.adapter.name for one in wanted if one.adapter.id in served}
    unwanted = [name for name in loaded.listed if name not in right | routed]
    actions: list[Action] = [UnloadAdapter(replica, name) for name in unwanted if is_drained]
    # What is listed counts: more than there is room for would push each other out of the engine again and again.
    room = release.engine.max_adapters - len(loaded.listed)
    due = [
        one.adapter
        for one in wanted
        if one.adapter.name not in loaded.listed and one.adapter.name not in loaded.resting and one.pull.state is PullState.DONE
    ]
    return [*actions, *(LoadAdapter(replica, adapter) for adapter in due[: max(0, room)])]


def _may_serve(place: _Place, one: _Wanted) -> bool:
    """Tells whether requests for an adapter may go to a replica: it has loaded it, or the version before and is not to change yet.

    Replicas change one after the other, once the new files are here, so that the name is served meanwhile where there are several.
    """
    if one.adapter.name not in place.loaded.listed:
        return False
    if _has(place.loaded, one):
        return True
    is_served = one.adapter.id in place.replica.adapter_ids
    return is_served and not (one.pull.state is PullState.DONE and place.is_next(one))


def _has(loaded: LoadedAdapters, one: _Wanted) -> bool:
    return loaded.listed.get(one.adapter.name) == one.files.manifest_digest


def _messages(record: DeploymentRecord, releases: Sequence[Release], seen: Observations) -> list[Action]:
    """Returns the messages that changed. One stays until the adapter is loaded wherever it should be, or fails for another reason."""
    actions: list[Action] = []
    for adapter in record.deployment.adapters:
        files = seen.adapters.get(adapter.id)
        if files is None or not releases:
            continue
        message = _trouble(adapter, files, record, releases, seen)
        if message is None and adapter.message is not None and not _is_everywhere(adapter, files, record, releases, seen):
            continue
        if message != adapter.message:
            actions.append(SetAdapterMessage(adapter, message))
    return actions


def _trouble(
    adapter: AttachedAdapter, files: AttachedFiles, record: DeploymentRecord, releases: Sequence[Release], seen: Observations
) -> str | None:
    fitting = {release.id: release for release in releases if release.version_id == files.base_version_id}
    if not fitting:
        return f"it was trained on another version than {releases[-1].version_ref}, which is served"
    if all(one.adapter.id != adapter.id for release in fitting.values() for one in wanted_adapters(record, release, seen)):
        return "the release takes fewer adapters than are attached"
    for pull in (files.pull(release_id) for release_id in fitting):
        if pull.state in {PullState.REFUSED, PullState.WAITING}:
            return pull.message
    for replica in record.deployment.replicas:
        loaded = seen.loaded.get(replica.id)
        if loaded is not None and replica.release_id in fitting and adapter.name in loaded.refusals and not _lists(loaded, adapter, files):
            return f"replica {replica.ordinal}: {loaded.refusals[adapter.name]}"
    return None


def _is_everywhere(
    adapter: AttachedAdapter, files: AttachedFiles, record: DeploymentRecord, releases: Sequence[Release], seen: Observations
) -> bool:
    fitting = {release.id for release in releases if release.version_id == files.base_version_id}
    looks = [seen.loaded.get(replica.id) for replica in record.deployment.replicas if replica.release_id in fitting]
    return bool(looks) and all(look is not None and _lists(look, adapter, files) for look in looks)


def _lists(loaded: LoadedAdapters, adapter: AttachedAdapter, files: AttachedFiles) -> bool:
    return loaded.listed.get(adapter.name) == files.manifest_digest
