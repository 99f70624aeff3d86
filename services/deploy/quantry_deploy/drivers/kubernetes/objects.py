"""A release as Kubernetes objects: plain documents, made of typed settings alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quantry_core.engines import ENGINES
from quantry_core.jobs import EngineKind
from quantry_core.methods import DeviceKind
from quantry_core.rollouts import Release
from quantry_core.versions import VersionDetail
from quantry_deploy.drivers.host import needed_memory_bytes
from quantry_deploy.drivers.kubernetes.names import ENGINE_CONTAINER, PORT, VERIFY_CONTAINER, labels, object_name
from quantry_deploy.drivers.kubernetes.settings import KubernetesSettings
from quantry_deploy.drivers.launches import OFFLINE, Serving, engine_arguments

Document = dict[str, Any]

USER_ID = 10001
"""Of every engine's process: the one that the repository's images have."""

CACHE_PATH, RELEASE_PATH, SCRATCH_PATH = "/cache", "/release", "/scratch"
STARTUP_PERIOD_S, READINESS_PERIOD_S, LIVENESS_PERIOD_S = 5, 5, 10
NUM_LIVENESS_FAILURES = 6
ROUTE_LAG_S = 2
"""Beside the drain: gateways learn within a second that a pod gets no more requests."""

KILL_MARGIN_S = 15
"""Between the time that an engine has for its requests and the kill."""

LAST_LINES = "FallbackToLogsOnError"
"""Why something ended is told with its last lines, also once its container was started again."""

COMMANDS: dict[EngineKind, list[str] | None] = {
    EngineKind.VLLM: None,
    EngineKind.LLAMA_CPP: None,
    EngineKind.SGLANG: ["python3", "-P", "-m", "sglang.launch_server"],
    EngineKind.LMDEPLOY: ["lmdeploy", "serve", "api_server"],
}
"""What a container runs; None: the image's entry point, which is the launch script."""


@dataclass(frozen=True)
class Rendering:
    """What a release's objects are made of."""

    settings: KubernetesSettings
    release: Release
    version: VersionDetail
    served_name: str
    config: Mapping[str, Any]
    """The version's config.json."""
    verify_script: str
    device: DeviceKind | None
    drain_s: float
    stop_grace_s: float
    start_timeout_s: float

    @property
    def name(self) -> str:
        return object_name(self.release.id)

    @property
    def num_gpus(self) -> int:
        return self.release.engine.num_gpus if self.device is DeviceKind.CUDA else 0

    @property
    def model_path(self) -> str:
        return f"{CACHE_PATH}/{self.version.manifest_digest}"

    def metadata(self) -> Document:
        """Returns name, namespace, labels and what people may want to know."""
        return {
            "name": self.name,
            "namespace": self.settings.namespace,
            "labels": labels(self.settings.owner, self.release.id),
            "annotations": {"quantry.dev/deployment": self.served_name, "quantry.dev/version": self.version.ref},
        }

    def selector(self) -> dict[str, str]:
        """Returns the labels by which the release's pods are found."""
        return labels(self.settings.owner, self.release.id)


def release_objects(rendering: Rendering) -> list[Document]:
    """Returns what every release has, in the order in which it is applied."""
    return [manifest(rendering), service(rendering), disruption_budget(rendering), stateful_set(rendering)]


def manifest(rendering: Rendering) -> Document:
    """Returns the ConfigMap with the version's files and the script that checks them."""
    files = [file.model_dump(mode="json") for file in rendering.version.files]
    data = {"manifest.json": json.dumps({"files": files}), "verify_files.py": rendering.verify_script}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": rendering.metadata(), "data": data}


def service(rendering: Rendering) -> Document:
    """Returns the headless Service that gives each pod its name. Gateways choose the pod; nothing balances before them."""
    spec = {
        "clusterIP": "None",
        # The controller looks at a pod long before it is ready.
        "publishNotReadyAddresses": True,
        "selector": rendering.selector(),
        "ports": [{"name": "http", "port": PORT, "targetPort": PORT, "protocol": "TCP"}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": rendering.metadata(), "spec": spec}


def disruption_budget(rendering: Rendering) -> Document:
    """Returns the PodDisruptionBudget: nodes are drained one pod of a release after the other, and broken pods never hold that up."""
    spec = {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": {"matchLabels": rendering.selector()}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": rendering.metadata(), "spec": spec}


def stateful_set(rendering: Rendering) -> Document:
    """Returns the StatefulSet. Its replicas are not part of it: they are set by its scale, whoever does that."""
    template_metadata = {
        "labels": labels(rendering.settings.owner, rendering.release.id),
        "annotations": {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(PORT),
            "prometheus.io/path": ENGINES[rendering.release.engine.engine].metrics_path,
        },
    }
    spec = {
        "serviceName": rendering.name,
        "podManagementPolicy": "Parallel",
        # A release never changes; its pods are replaced by those of another release.
        "updateStrategy": {"type": "OnDelete"},
        "selector": {"matchLabels": rendering.selector()},
        "template": {"metadata": template_metadata, "spec": pod_spec(rendering)},
    }
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": rendering.metadata(), "spec": spec}


def pod_spec(rendering: Rendering) -> Document:
    """Returns what a pod is: the files checked first, then the engine."""
    settings = rendering.settings
    spec: Document = {
        "terminationGracePeriodSeconds": _sleep_s(rendering) + math.ceil(rendering.stop_grace_s) + KILL_MARGIN_S,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [_verify_container(rendering)],
        "containers": [_engine_container(rendering)],
        "volumes": _volumes(rendering),
    }
    if settings.priority_class is not None:
        spec["priorityClassName"] = settings.priority_class
    if settings.runtime_class is not None:
        spec["runtimeClassName"] = settings.runtime_class
    if settings.node_selector:
        spec["nodeSelector"] = dict(settings.node_selector)
    if settings.image_pull_secret is not None:
        spec["imagePullSecrets"] = [{"name": settings.image_pull_secret}]
    return spec


def serving(rendering: Rendering) -> Serving:
    """Returns what the engine in a pod is told to serve. Its mark is the pod's name."""
    return Serving(
        engine=rendering.release.engine,
        config=rendering.config,
        model=rendering.model_path,
        served_name=rendering.served_name,
        mark="$(POD_NAME)",
        host="0.0.0.0",  # noqa: S104  a pod's own address
        port=PORT,
        stop_grace_s=rendering.stop_grace_s,
        num_gpus=rendering.num_gpus,
    )


def _verify_container(rendering: Rendering) -> Document:
    image, _ = rendering.settings.image(rendering.release.engine.engine)
    script, files = f"{RELEASE_PATH}/verify_files.py", f"{RELEASE_PATH}/manifest.json"
    return {
        "name": VERIFY_CONTAINER,
        "image": image,
        "command": ["python3", script, files, rendering.model_path],
        "volumeMounts": [_cache_mount(rendering), {"name": "release", "mountPath": RELEASE_PATH, "readOnly": True}],
        "resources": {"requests": {"cpu": "500m", "memory": "128Mi"}},
        "terminationMessagePolicy": LAST_LINES,
        "securityContext": _locked_down(),
    }


def _engine_container(rendering: Rendering) -> Document:
    kind = rendering.release.engine.engine
    image, _ = rendering.settings.image(kind)
    health = {"httpGet": {"path": ENGINES[kind].health_path, "port": PORT}}
    container: Document = {
        "name": ENGINE_CONTAINER,
        "image": image,
        "args": engine_arguments(serving(rendering)),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "HOME", "value": SCRATCH_PATH},
            {"name": "VLLM_CACHE_ROOT", "value": f"{SCRATCH_PATH}/compiled"},
            *({"name": name, "value": value} for name, value in OFFLINE.items()),
        ],
        "startupProbe": {
            **health,
            "periodSeconds": STARTUP_PERIOD_S,
            "timeoutSeconds": 3,
            "failureThreshold": math.ceil(rendering.start_timeout_s / STARTUP_PERIOD_S),
        },
        "readinessProbe": {**health, "periodSeconds": READINESS_PERIOD_S, "timeoutSeconds": 3, "failureThreshold": 2},
        "livenessProbe": {
            **health,
            "periodSeconds": LIVENESS_PERIOD_S,
            "timeoutSeconds": 5,
            "failureThreshold": NUM_LIVENESS_FAILURES,
        },
        # Requests come for a moment after a pod was asked to end: only then does the engine hear of it, and finishes what runs.
        "lifecycle": {"preStop": {"sleep": {"seconds": _sleep_s(rendering)}}},
        "resources": _resources(rendering),
        "terminationMessagePolicy": LAST_LINES,
        "volumeMounts": [
            _cache_mount(rendering),
            {"name": "scratch", "mountPath": SCRATCH_PATH},
            {"name": "scratch", "mountPath": "/tmp", "subPath": "tmp"},  # noqa: S108  the pod's own
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  what the GPUs of one engine share
        ],
        "securityContext": _locked_down(),
    }
    command = COMMANDS[kind]
    return container if command is None else {**container, "command": command}


def _resources(rendering: Rendering) -> Document:
    settings, engine = rendering.settings, rendering.release.engine
    # On GPUs the weights go through the host's memory once; the KV cache never does.
    held_bytes = rendering.version.weights_bytes if rendering.num_gpus else needed_memory_bytes(rendering.version, engine)
    resources: Document = {"requests": {"cpu": settings.cpus, "memory": str(held_bytes + settings.overhead_bytes)}}
    if rendering.num_gpus:
        resources["limits"] = {settings.gpu_resource: str(rendering.num_gpus)}
    return resources


def _volumes(rendering: Rendering) -> list[Document]:
    return [
        {"name": "cache", "persistentVolumeClaim": {"claimName": rendering.settings.cache_claim, "readOnly": True}},
        {"name": "release", "configMap": {"name": rendering.name}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]


def _cache_mount(rendering: Rendering) -> Document:
    """An engine sees its version alone, unless adapters may be loaded: those come as versions of their own."""
    sub_path, path = rendering.settings.cache_sub_path, CACHE_PATH
    if not rendering.release.engine.max_adapters:
        sub_path, path = f"{sub_path}/{rendering.version.manifest_digest}", rendering.model_path
    return {"name": "cache", "mountPath": path, "subPath": sub_path, "readOnly": True}


def _locked_down() -> Document:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _sleep_s(rendering: Rendering) -> int:
    return math.ceil(rendering.drain_s) + ROUTE_LAG_S
