"""The Kubernetes driver where the others have nothing like it: what it applies, what others apply, and clusters that fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from factories.fake_engine import ASKED
from factories.kube_api import KubeApi, Refused, now, serving
from factories.kube_nodes import manifest_of
from factories.pools import NAMESPACE, SERVED_NAME, KubernetesPool
from quantry_core.errors import Unavailable
from quantry_core.jobs import EngineConfig, EngineKind, Scaling
from quantry_core.methods import DeviceKind
from quantry_core.rollouts import Replica, ReplicaState
from quantry_deploy.drivers.kubernetes.names import object_name
from quantry_deploy.drivers.kubernetes.settings import Scaler
from quantry_deploy.drivers.protocol import StartOrder
from quantry_deploy.observations import PullState

Make = Callable[..., KubernetesPool]
SCALING = Scaling(min_replicas=1, max_replicas=3)


@pytest.fixture
def api() -> KubeApi:
    return KubeApi()


@pytest.fixture
async def make(tmp_path: Path, api: KubeApi) -> AsyncIterator[Make]:
    """Makes a driver over the cluster, with settings."""
    made: list[KubernetesPool] = []
    with serving(api) as url:

        def pool(**settings: Any) -> KubernetesPool:
            made.append(KubernetesPool(tmp_path, url, api, **settings))
            return made[-1]

        yield pool
        for one in made:
            api.is_away = False
            await one.close()


def kinds(api: KubeApi) -> set[str]:
    return {plural for plural, _, _ in api.objects}


async def test_a_release_is_applied_whole_and_removed_whole(make: Make, api: KubeApi) -> None:
    pool = make()
    version = pool.version()
    release = pool.release(version)
    replica = await pool.ready(version, release)
    name = object_name(release.id)
    assert kinds(api) == {"configmaps", "services", "poddisruptionbudgets", "statefulsets", "pods"}
    assert replica.url == f"http://{name}-0.{name}.{NAMESPACE}.svc:8000"
    assert (replica.pid, replica.log_path) == (None, f"pods/{name}-0")
    assert [file["sha256"] for file in manifest_of(api, NAMESPACE, name)] == [file.sha256 for file in version.files]
    await pool.driver.terminate(replica)
    await pool.until_seen(replica, lambda seen: not seen.is_running)
    await pool.driver.kill(replica)
    assert kinds(api) == set()


async def test_what_others_write_into_an_object_stays_and_what_is_said_no_more_goes(make: Make, api: KubeApi) -> None:
    pool = make(priority_class="serving")
    version = pool.version()
    release = pool.release(version)
    replica = await pool.ready(version, release)
    key = ("statefulsets", NAMESPACE, object_name(release.id))
    api.patch(key, {"metadata": {"labels": {"team": "search"}}})
    assert api.objects[key]["spec"]["template"]["spec"]["priorityClassName"] == "serving"
    pool.kubernetes = pool.kubernetes.model_copy(update={"priority_class": None})
    pool.replace_driver()
    assert await pool.pulled(version, release) is PullState.DONE
    await pool.started_again(version, release, replica)
    assert api.objects[key]["metadata"]["labels"]["team"] == "search"
    assert "priorityClassName" not in api.objects[key]["spec"]["template"]["spec"]


async def test_files_that_are_not_what_their_digests_say_start_no_engine(make: Make) -> None:
    pool = make()
    version = pool.version()
    release = pool.release(version)
    assert await pool.pulled(version, release) is PullState.DONE
    find = pool.driver._cache.find  # type: ignore[attr-defined]
    folder = find(version)

    def damaged_since(_version: object) -> Path:
        (folder / "model.safetensors").write_bytes(b"WEIGHTS")
        return Path(folder)

    # Between the controller's look and the pod's own, on storage that others share.
    pool.driver._cache.find = damaged_since  # type: ignore[attr-defined]
    replica = await pool.started(version, release)
    seen = await pool.until_seen(replica, lambda seen: not seen.is_running)
    assert seen.ending == "the check of its files ended with exit status 1"
    assert "the bytes of model.safetensors are not what its digest says" in await pool.driver.log_tail(replica)


async def test_a_pod_that_no_node_takes_says_so(make: Make) -> None:
    pool = make()
    pool.nodes.no_room = True
    version = pool.version()
    replica = await pool.started(version, pool.release(version))
    seen = await pool.until_seen(replica, lambda seen: "no node takes its pod" in seen.doubt)
    assert (seen.is_running, seen.answers) == (True, False)
    assert "Insufficient nvidia.com/gpu" in seen.doubt


async def test_fewer_pods_end_from_the_highest_and_only_once_those_above_do(make: Make, api: KubeApi) -> None:
    pool = make()
    version = pool.version()
    release = pool.release(version, num_replicas=3)
    replicas = [await pool.ready(version, release, ordinal) for ordinal in range(3)]

    def scale() -> object:
        return api.objects[("statefulsets", NAMESPACE, object_name(release.id))]["spec"]["replicas"]

    await pool.driver.terminate(replicas[1])
    assert scale() == 3
    await pool.driver.terminate(replicas[2])
    assert scale() == 1
    for replica in replicas[1:]:
        await pool.until_seen(replica, lambda seen: not seen.is_running)
    assert (await pool.driver.probe(replicas[0], SERVED_NAME)).is_proven


@pytest.mark.parametrize(("scaler", "plural"), [(Scaler.HPA, "horizontalpodautoscalers"), (Scaler.KEDA, "scaledobjects")])
async def test_somebody_else_scales_and_the_controller_follows(make: Make, api: KubeApi, scaler: Scaler, plural: str) -> None:
    pool = make(scaler=scaler, prometheus_url="http://prometheus:9090")
    version = pool.version()
    release = pool.release(version, scaling=SCALING)
    assert await pool.driver.scaled_to(release) is None
    replica = await pool.ready(version, release)
    key = ("statefulsets", NAMESPACE, object_name(release.id))
    assert plural in kinds(api)
    assert await pool.driver.scaled_to(release) == 1
    api.patch(key, {"spec": {"replicas": 3}})
    assert await pool.driver.scaled_to(release) == 3
    second = await pool.ready(version, release, 1)
    # What was scaled up meanwhile is not taken back by a start.
    assert api.objects[key]["spec"]["replicas"] == 3
    api.patch(key, {"spec": {"replicas": 0}})
    # Only the controller hears of requests that wait for the first one.
    assert await pool.driver.scaled_to(release) is None
    for one in (second, replica):
        await pool.driver.terminate(one)
    assert plural not in kinds(api)


async def test_without_keda_in_the_cluster_a_release_ends_all_the_same(make: Make, api: KubeApi) -> None:
    api.has_keda = False
    pool = make()
    version = pool.version()
    replica = await pool.ready(version, pool.release(version))
    await pool.driver.terminate(replica)
    await pool.until_seen(replica, lambda seen: not seen.is_running)
    await pool.driver.kill(replica)
    assert kinds(api) == set()


async def test_a_cluster_that_is_away_costs_a_pass_and_nothing_else(make: Make, api: KubeApi) -> None:
    pool = make()
    version = pool.version()
    release = pool.release(version)
    replica = await pool.ready(version, release)
    api.is_away = True
    with pytest.raises(Unavailable, match="the server is away"):
        await pool.driver.probe(replica, SERVED_NAME)
    with pytest.raises(Unavailable, match="the server is away"):
        await pool.driver.start(StartOrder(replica, release, SERVED_NAME, version))
    api.is_away = False
    assert (await pool.driver.probe(replica, SERVED_NAME)).is_proven


async def test_an_engine_without_an_image_is_refused_by_name(make: Make) -> None:
    pool = make()
    pool.settings = pool.settings.model_copy(update={"engine_device": DeviceKind.CUDA})
    version = pool.version()
    release = pool.release(version, engine=EngineConfig(engine=EngineKind.SGLANG))
    assert await pool.pulled(version, release) is PullState.REFUSED
    assert "QUANTRY_KUBE_IMAGE_SGLANG is not set" in pool.driver.pull_status(version, release).message


def pod_of(replica: Replica) -> str:
    return str(replica.log_path).removeprefix("pods/")


async def test_a_pod_that_was_replaced_must_prove_itself_anew(make: Make) -> None:
    pool = make()
    version = pool.version()
    release = pool.release(version)
    starting = await pool.ready(version, release)
    ready = starting.model_copy(update={"state": ReplicaState.READY})
    # As when its node is drained: the name stays, the pod is another.
    pool.nodes.end_pod(pod_of(ready), True)
    for _ in range(2):
        assert not (await pool.driver.probe(ready, SERVED_NAME)).is_running
    await pool.driver.kill(ready)
    await pool.started_again(version, release, ready)
    seen = await pool.until_seen(starting, lambda seen: seen.is_proven)
    assert seen.is_running
    # Each of the two by a token of its own: the log goes on.
    assert (await pool.driver.log_tail(starting)).count(ASKED) == 2


async def test_a_pod_whose_end_has_begun_serves_no_more_and_finishes_what_runs(make: Make, api: KubeApi) -> None:
    pool = make()
    version = pool.version()
    release = pool.release(version)
    starting = await pool.ready(version, release)
    ready = starting.model_copy(update={"state": ReplicaState.READY})
    metadata = api.objects[("pods", NAMESPACE, pod_of(ready))]["metadata"]
    # Its node is drained: it answers for a while yet.
    metadata["deletionTimestamp"] = (datetime.now(UTC) + timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    seen = await pool.driver.probe(ready, SERVED_NAME)
    assert (seen.is_running, seen.ending) == (False, "was asked to end by the cluster")
    await pool.driver.kill(ready)
    process = pool.nodes.engines[pod_of(ready)].process
    assert process.poll() is None
    await pool.started_again(version, release, ready)
    seen = await pool.driver.probe(starting, SERVED_NAME)
    assert (seen.is_running, seen.is_proven, seen.doubt) == (True, False, "the pod before it has yet to end")
    # What is left of one whose time is over, as on a node that has gone, is removed.
    metadata["deletionTimestamp"] = now()
    await pool.driver.kill(starting)
    assert process.poll() is not None


async def test_a_failed_replica_that_nobody_wants_takes_its_objects_with_it(make: Make, api: KubeApi) -> None:
    pool = make()
    version = pool.version("crash")
    release = pool.release(version, num_replicas=2)
    replicas = [await pool.started(version, release, ordinal) for ordinal in range(2)]
    for replica in replicas:
        await pool.until_seen(replica, lambda seen: not seen.is_running)
        await pool.driver.kill(replica)
    for replica in replicas:
        await pool.driver.kill(replica.model_copy(update={"url": None, "state": ReplicaState.FAILED}))
    assert kinds(api) == set()


async def test_a_pod_without_a_log_and_a_cluster_that_is_away_hold_no_end_up(make: Make, api: KubeApi) -> None:
    pool = make()
    version = pool.version()
    replica = await pool.started(version, pool.release(version))

    def not_begun(_name: str) -> str:
        raise Refused(400, 'container "engine" is waiting to start: PodInitializing')

    api.pod_log = not_begun
    assert await pool.driver.log_tail(replica) == ""
    api.is_away = True
    assert await pool.driver.log_tail(replica) == ""
