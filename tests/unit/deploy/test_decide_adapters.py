"""What is due for the adapters of a deployment, by its record and what its engines list."""

from __future__ import annotations

from typing import Any

from factories.rollout_records import NOW, ago, record, release, replica, rollout
from quantry_core.jobs import EngineConfig
from quantry_core.rollouts import AttachedAdapter, Release, Replica, ReplicaState
from quantry_deploy.actions import (
    Action,
    FailReplica,
    LoadAdapter,
    PromoteRollout,
    PullAdapter,
    SetAdapterMessage,
    SetAdapters,
    SetReplica,
    UnloadAdapter,
)
from quantry_deploy.decide import decide
from quantry_deploy.observations import AttachedFiles, LoadedAdapters, Observations, PullState, PullStatus, ReplicaObservation
from quantry_deploy.policy import Policy
from quantry_store.transactions.rollouts import DeploymentRecord

POLICY = Policy(resumed_at=ago(5000), drain_s=5)
DONE = PullStatus(PullState.DONE, fraction=1.0)
RUNS = ReplicaObservation(is_running=True, answers=True, is_proven=True)


def attached(name: str = "pirate", **changes: Any) -> AttachedAdapter:
    values = {"id": f"ada_{name}", "project_id": "prj_1", "deployment_id": "dep_1", "version_id": f"ver_{name}", "version_ref": "bard@2"}
    return AttachedAdapter.model_validate({**values, "name": name, "created_at": ago(50), **changes})


def served(id_: str = "rel_1", *, num_replicas: int = 1, max_adapters: int = 2) -> Release:
    return release(id_, num_replicas=num_replicas).model_copy(
        update={"version_id": "ver_base", "engine": EngineConfig(max_adapters=max_adapters)}
    )


def with_adapters(one: DeploymentRecord, *adapters: AttachedAdapter) -> DeploymentRecord:
    return one.model_copy(update={"deployment": one.deployment.model_copy(update={"adapters": list(adapters)})})


def files(digest: str = "digest", pull: PullStatus = DONE, base: str = "ver_base", releases: tuple[str, ...] = ("rel_1",)) -> AttachedFiles:
    return AttachedFiles(base_version_id=base, manifest_digest=digest, pulls=dict.fromkeys(releases, pull))


def due(
    adapters: list[AttachedAdapter],
    looks: dict[str, LoadedAdapters],
    *replicas: Replica,
    known: AttachedFiles | None = None,
    current: Release | None = None,
) -> list[Action]:
    """Returns what is due for replicas that run, of release rel_1."""
    seen = Observations(
        replicas={one.id: RUNS for one in replicas},
        loaded=looks,
        adapters={one.id: known or files() for one in adapters},
    )
    of_release = current or served(num_replicas=len(replicas))
    return decide(with_adapters(record(*replicas, current=of_release), *adapters), seen, NOW, POLICY)


def ready(ordinal: int = 0, *, age_s: float = 60.0, **changes: Any) -> Replica:
    return replica(ReplicaState.READY, "rel_1", age_s=age_s, ordinal=ordinal, **changes)


REP, OTHER = ready().id, ready(1).id


def test_the_files_come_first_then_the_engine_loads_then_requests_may_come() -> None:
    adapter = attached()
    one = ready()
    absent = files(pull=PullStatus(PullState.ABSENT))
    assert due([adapter], {REP: LoadedAdapters()}, one, known=absent) == [PullAdapter(adapter, served())]
    running = files(pull=PullStatus(PullState.RUNNING))
    assert due([adapter], {REP: LoadedAdapters()}, one, known=running) == []
    assert due([adapter], {REP: LoadedAdapters()}, one) == [LoadAdapter(one, adapter)]
    assert due([adapter], {REP: LoadedAdapters(resting={"pirate"})}, one) == []
    assert due([adapter], {REP: LoadedAdapters(listed={"pirate": "digest"})}, one) == [SetAdapters(one, ["ada_pirate"])]
    recorded = ready(adapter_ids=["ada_pirate"])
    assert due([adapter], {REP: LoadedAdapters(listed={"pirate": "digest"})}, recorded) == []


def test_a_pull_is_asked_for_once_for_all_replicas() -> None:
    absent = files(pull=PullStatus(PullState.ABSENT))
    looks = {REP: LoadedAdapters(), OTHER: LoadedAdapters()}
    assert due([attached()], looks, ready(), ready(1), known=absent) == [PullAdapter(attached(), served(num_replicas=2))]


def test_nothing_is_decided_about_an_engine_that_did_not_say() -> None:
    assert due([attached()], {}, ready(adapter_ids=["ada_pirate"])) == []


def test_detached_the_record_goes_first_and_the_engine_unloads_after_the_drain() -> None:
    look = {REP: LoadedAdapters(listed={"pirate": "digest"})}
    recorded = ready(adapter_ids=["ada_pirate"])
    assert due([], look, recorded) == [SetAdapters(recorded, [])]
    assert due([], look, ready(age_s=4)) == []
    assert due([], look, ready(age_s=6)) == [UnloadAdapter(ready(age_s=6), "pirate")]


def test_an_engine_that_lost_an_adapter_gets_no_requests_for_it() -> None:
    recorded = ready(adapter_ids=["ada_pirate"])
    assert due([attached()], {REP: LoadedAdapters()}, recorded) == [SetAdapters(recorded, [])]


def test_a_new_version_is_waited_for_and_then_goes_from_replica_to_replica() -> None:
    adapter = attached()
    old = LoadedAdapters(listed={"pirate": "old"})
    first, second = ready(adapter_ids=[adapter.id]), ready(1, adapter_ids=[adapter.id])
    assert due([adapter], {REP: old, OTHER: old}, first, second, known=files(pull=PullStatus(PullState.RUNNING))) == []
    assert due([adapter], {REP: old, OTHER: old}, first, second) == [SetAdapters(first, [])]
    drained = ready(age_s=6)
    assert due([adapter], {REP: old, OTHER: old}, drained, second) == [UnloadAdapter(drained, "pirate")]
    assert due([adapter], {REP: LoadedAdapters(), OTHER: old}, drained, second) == [LoadAdapter(drained, adapter)]
    new = LoadedAdapters(listed={"pirate": "digest"})
    assert due([adapter], {REP: new, OTHER: old}, drained, second) == [SetAdapters(drained, [adapter.id])]
    assert due([adapter], {REP: new, OTHER: old}, first, second) == [SetAdapters(second, [])]


def test_no_more_are_loaded_than_there_is_room_for() -> None:
    adapters = [attached("a"), attached("b"), attached("c")]
    room_for_two = served(max_adapters=2)
    one = ready()
    actions = due(adapters, {REP: LoadedAdapters()}, one, current=room_for_two)
    assert actions[:2] == [LoadAdapter(one, adapters[0]), LoadAdapter(one, adapters[1])]
    assert actions[2:] == [SetAdapterMessage(adapters[2], "the release takes fewer adapters than are attached")]
    # What is to be unloaded still takes its place.
    detached = {REP: LoadedAdapters(listed={"x": "digest", "y": "digest"})}
    fresh = ready(age_s=0)
    assert due([attached("a")], detached, fresh, current=room_for_two) == []


def test_adapters_of_another_base_are_not_loaded_and_say_so() -> None:
    adapter = attached()
    (action,) = due([adapter], {REP: LoadedAdapters()}, ready(), known=files(base="ver_other"))
    assert action == SetAdapterMessage(adapter, "it was trained on another version than bard@rel_1, which is served")


def test_a_refusal_is_said_and_stays_until_the_adapter_is_loaded() -> None:
    adapter, one = attached(), ready()
    refused = LoadedAdapters(refusals={"pirate": "no kernel"}, resting={"pirate"})
    assert due([adapter], {REP: refused}, one) == [SetAdapterMessage(adapter, "replica 0: no kernel")]
    told = attached(message="replica 0: no kernel")
    assert due([told], {REP: refused}, one) == []
    assert due([told], {REP: LoadedAdapters()}, one) == [LoadAdapter(one, told)]
    loaded = {REP: LoadedAdapters(listed={"pirate": "digest"})}
    assert due([told], loaded, ready(adapter_ids=[told.id])) == [SetAdapterMessage(told, None)]
    waiting = files(pull=PullStatus(PullState.WAITING, message="the vault is away"))
    assert due([adapter], {REP: LoadedAdapters()}, one, known=waiting) == [SetAdapterMessage(adapter, "the vault is away")]


def test_a_replica_with_something_else_to_do_keeps_its_adapters_for_now() -> None:
    one = ready(adapter_ids=["ada_pirate"])
    seen = Observations(replicas={one.id: ReplicaObservation(is_running=False)}, loaded={one.id: LoadedAdapters()})
    (action,) = decide(record(one, current=served()), seen, NOW, POLICY)
    assert isinstance(action, FailReplica)


def test_a_promotion_waits_for_every_adapter_on_every_replica() -> None:
    adapter = attached()
    new = served("rel_new", num_replicas=2)
    seen_files = {adapter.id: files(releases=("rel_new",))}

    def move(*adapter_ids: list[str], known: AttachedAdapter = adapter, seconds: float = 0) -> Action | None:
        replicas = [replica(ReplicaState.READY, "rel_new", ordinal=ordinal, adapter_ids=ids) for ordinal, ids in enumerate(adapter_ids)]
        looks = {
            one.id: LoadedAdapters(listed=dict.fromkeys(["pirate"] * len(one.adapter_ids), "digest"), resting={"pirate"})
            for one in replicas
        }
        seen = Observations(replicas={one.id: RUNS for one in replicas}, loaded=looks, adapters=seen_files)
        going_on = rollout(ready_deadline_at=ago(seconds - 100))
        actions = decide(with_adapters(record(*replicas, target=new, active=going_on), known), seen, NOW, POLICY)
        return actions[0] if actions else None

    assert move([adapter.id], []) is None
    assert isinstance(move([adapter.id], [adapter.id]), PromoteRollout)
    ended = move([adapter.id], [], known=attached(message="replica 1: no kernel"), seconds=200)
    assert "1 of 2 replicas of bard@rel_new were ready in time; not every adapter was loaded; pirate: replica 1: no kernel" in str(ended)


def test_each_release_has_the_files_pulled_for_itself() -> None:
    adapter = attached()
    old, new = served(), served("rel_new").model_copy(update={"engine": EngineConfig(max_adapters=2, max_num_seqs=4)})
    serving, coming = ready(adapter_ids=[adapter.id]), replica(ReplicaState.READY, "rel_new", age_s=60)
    looks = {serving.id: LoadedAdapters(listed={"pirate": "digest"}), coming.id: LoadedAdapters()}

    def moves(known: AttachedFiles) -> list[Action]:
        seen = Observations(replicas={one.id: RUNS for one in (serving, coming)}, loaded=looks, adapters={adapter.id: known})
        return decide(with_adapters(record(serving, coming, current=old, target=new, active=rollout()), adapter), seen, NOW, POLICY)

    # A controller that found the adapter loaded never pulled it for the old release.
    assert moves(files(releases=())) == [PullAdapter(adapter, new)]
    assert moves(files(releases=("rel_new",))) == [LoadAdapter(coming, adapter)]
    refused = files(releases=("rel_new",), pull=PullStatus(PullState.REFUSED, message="its rank is too high"))
    assert moves(refused) == [SetAdapterMessage(adapter, "its rank is too high")]


def test_a_replica_that_drains_is_left_alone() -> None:
    going = replica(ReplicaState.READY, "rel_old", age_s=60, adapter_ids=["ada_pirate"])
    seen = Observations(replicas={going.id: RUNS}, loaded={going.id: LoadedAdapters()}, adapters={"ada_pirate": files()})
    actions = decide(with_adapters(record(going, ready(adapter_ids=["ada_pirate"]), current=served()), attached()), seen, NOW, POLICY)
    assert SetReplica(going, ReplicaState.STOPPING, "draining") in actions
    assert not any(isinstance(action, SetAdapters | LoadAdapter) for action in actions if getattr(action, "replica", None) == going)
