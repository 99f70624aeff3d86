"""A release as Kubernetes objects: held to the schemas, and to what they must say."""

from __future__ import annotations

import json
from typing import Any

import kubernetes_validate
import pytest

from factories.rollout_records import release, true_version
from quantry_core.errors import NotServable
from quantry_core.jobs import EngineConfig, EngineKind, Scaling
from quantry_core.methods import DeviceKind
from quantry_deploy.drivers.kubernetes.objects import Document, Rendering, release_objects
from quantry_deploy.drivers.kubernetes.scalers import check_scaling, scaler_objects
from quantry_deploy.drivers.kubernetes.settings import KubernetesSettings, Scaler

VERSION = true_version({"config.json": b"{}", "model.safetensors": b"weights"}).model_copy(update={"weights_bytes": 10 * 1024**3})
CONFIG = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 64, "max_position_embeddings": 1024}
SCALING = Scaling(min_replicas=1, max_replicas=4, target_waiting=1.5, target_kv_use=0.8, scale_down_after_s=300, idle_after_s=900)


def settings(**changes: Any) -> KubernetesSettings:
    images = {f"image_{kind.name.lower()}": f"registry.example/{kind}:1" for kind in EngineKind}
    return KubernetesSettings.model_validate({"cache_claim": "models", **images, **changes})


def rendering(
    engine: EngineConfig | None = None, *, device: DeviceKind = DeviceKind.CUDA, scaling: Scaling | None = None, **changes: Any
) -> Rendering:
    asked = release("rel_0192").model_copy(update={"engine": engine or EngineConfig(), "scaling": scaling})
    return Rendering(settings(**changes), asked, VERSION, "chat", CONFIG, "print()", device, 5.0, 120.0, 900.0)


def of_kind(documents: list[Document], kind: str) -> Document:
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def pod(made: Rendering) -> Document:
    spec: Document = of_kind(release_objects(made), "StatefulSet")["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("kind", list(EngineKind))
@pytest.mark.parametrize("device", list(DeviceKind))
@pytest.mark.parametrize("scaler", list(Scaler))
def test_every_object_is_what_its_schema_says(kind: EngineKind, device: DeviceKind, scaler: Scaler) -> None:
    everything = {
        "scaler": scaler,
        "prometheus_url": "http://prometheus:9090",
        "priority_class": "serving",
        "runtime_class": "nvidia",
        "node_selector": {"gpu": "h200"},
        "image_pull_secret": "registry",
    }
    made = rendering(EngineConfig(engine=kind, num_gpus=2), device=device, scaling=SCALING, **everything)
    documents = [*release_objects(made), *scaler_objects(made)]
    for document in documents:
        if document["kind"] != "ScaledObject":
            kubernetes_validate.validate(document, "1.37", strict=True)
        assert document["metadata"]["name"] == "rel-0192"
        assert document["metadata"]["labels"]["quantry.dev/owner"] == "quantry"
    kinds = [document["kind"] for document in documents]
    assert kinds[:4] == ["ConfigMap", "Service", "PodDisruptionBudget", "StatefulSet"]
    assert kinds[4:] == {Scaler.CONTROLLER: [], Scaler.HPA: ["HorizontalPodAutoscaler"], Scaler.KEDA: ["ScaledObject"]}[scaler]


def test_requests_are_finished_before_a_pod_ends() -> None:
    spec = pod(rendering())
    (engine,) = spec["containers"]
    # The drain and a second for gateways to hear of it, then what the engine is given, then a margin.
    assert engine["lifecycle"]["preStop"]["sleep"]["seconds"] == 7
    assert spec["terminationGracePeriodSeconds"] == 7 + 120 + 15
    assert engine["args"][engine["args"].index("--shutdown-timeout") + 1] == "120"


def test_a_pod_is_looked_at_by_the_paths_of_its_engine() -> None:
    (engine,) = pod(rendering())["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert engine[probe]["httpGet"] == {"path": "/health", "port": 8000}
    assert engine["startupProbe"]["periodSeconds"] * engine["startupProbe"]["failureThreshold"] == 900
    assert engine["livenessProbe"]["periodSeconds"] * engine["livenessProbe"]["failureThreshold"] == 60


def test_the_files_are_checked_before_the_engine_starts_and_nothing_can_change_them() -> None:
    made = rendering()
    spec = pod(made)
    (check,) = spec["initContainers"]
    digest = VERSION.manifest_digest
    assert check["command"] == ["python3", "/release/verify_files.py", "/release/manifest.json", f"/cache/{digest}"]
    listed = json.loads(of_kind(release_objects(made), "ConfigMap")["data"]["manifest.json"])["files"]
    assert [file["sha256"] for file in listed] == [file.sha256 for file in VERSION.files]
    for container in (check, spec["containers"][0]):
        (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "cache"]
        assert mount == {"name": "cache", "mountPath": f"/cache/{digest}", "subPath": f"cache/{digest}", "readOnly": True}
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "cache"]
    assert volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}


def test_an_engine_that_loads_adapters_sees_the_whole_cache() -> None:
    (engine,) = pod(rendering(EngineConfig(max_adapters=2)))["containers"]
    assert {"name": "cache", "mountPath": "/cache", "subPath": "cache", "readOnly": True} in engine["volumeMounts"]


def test_why_something_ended_is_told_with_its_last_lines() -> None:
    spec = pod(rendering())
    for container in (*spec["initContainers"], *spec["containers"]):
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_a_pod_asks_for_gpus_where_engines_run_on_gpus_and_for_memory_where_they_do_not() -> None:
    gib = 1024**3
    engine = EngineConfig(num_gpus=2, kv_cache_bytes=gib)
    (on_gpus,) = pod(rendering(engine))["containers"]
    assert on_gpus["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert on_gpus["resources"]["requests"]["memory"] == str(12 * gib)
    assert on_gpus["args"][-2:] == ["--num-gpus", "2"]
    (on_cpus,) = pod(rendering(engine, device=DeviceKind.CPU))["containers"]
    assert on_cpus["resources"] == {"requests": {"cpu": "1", "memory": str(13 * gib)}}
    assert "--num-gpus" not in on_cpus["args"]


def test_a_pod_can_do_nothing_but_serve() -> None:
    spec = pod(rendering())
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    for container in (*spec["initContainers"], *spec["containers"]):
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert "priorityClassName" not in spec
    chosen = pod(rendering(priority_class="serving", node_selector={"gpu": "h200"}))
    assert (chosen["priorityClassName"], chosen["nodeSelector"]) == ("serving", {"gpu": "h200"})


def test_nodes_are_drained_one_pod_of_a_release_after_the_other() -> None:
    documents = release_objects(rendering())
    assert of_kind(documents, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    service = of_kind(documents, "Service")["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    sets = of_kind(documents, "StatefulSet")["spec"]
    assert "replicas" not in sets
    assert sets["selector"]["matchLabels"].items() <= sets["template"]["metadata"]["labels"].items()


def test_an_autoscaler_goes_by_what_waits_and_how_full_caches_are() -> None:
    (scaler,) = scaler_objects(rendering(scaling=SCALING, scaler=Scaler.HPA))
    spec = scaler["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "rel-0192"}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 4)
    told = {metric["pods"]["metric"]["name"]: metric["pods"]["target"]["averageValue"] for metric in spec["metrics"]}
    assert told == {"vllm_num_requests_waiting": "1500m", "vllm_kv_cache_usage_perc": "800m"}
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300


def test_keda_scales_to_zero_once_nothing_runs_or_waits() -> None:
    zero = SCALING.model_copy(update={"min_replicas": 0})
    made = rendering(EngineConfig(engine=EngineKind.SGLANG), scaling=zero, scaler=Scaler.KEDA, prometheus_url="http://prometheus:9090")
    (scaler,) = scaler_objects(made)
    spec = scaler["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"], spec["cooldownPeriod"]) == (0, 4, 900)
    queries = [trigger["metadata"]["query"] for trigger in spec["triggers"]]
    pods = '{namespace="quantry-pools",pod=~"rel-0192-[0-9]+"}'
    assert queries[0] == f"sum(sglang:num_running_reqs{pods}) + sum(sglang:num_queue_reqs{pods})"
    assert [trigger["metadata"]["threshold"] for trigger in spec["triggers"]] == ["1e+06", "1.5", "0.8"]


def test_a_release_that_is_not_scaled_has_no_scaler() -> None:
    assert scaler_objects(rendering(scaler=Scaler.HPA)) == []


def test_an_hpa_never_scales_to_zero() -> None:
    zero = release().model_copy(update={"scaling": SCALING.model_copy(update={"min_replicas": 0})})
    with pytest.raises(NotServable, match="an HPA never scales to zero"):
        check_scaling(zero, settings(scaler=Scaler.HPA))
    check_scaling(zero, settings())


def test_keda_needs_to_know_where_prometheus_is() -> None:
    with pytest.raises(ValueError, match="QUANTRY_KUBE_PROMETHEUS_URL"):
        settings(scaler=Scaler.KEDA)
