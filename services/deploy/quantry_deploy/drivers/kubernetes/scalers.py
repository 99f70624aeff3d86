"""The object that scales a release where somebody else than the controller does: an HPA, or KEDA's ScaledObject."""

from __future__ import annotations

import math

from quantry_core.engines import ENGINES, Gauges
from quantry_core.errors import NotServable
from quantry_core.jobs import Scaling
from quantry_core.rollouts import Release
from quantry_deploy.drivers.kubernetes.objects import Document, Rendering
from quantry_deploy.drivers.kubernetes.settings import KubernetesSettings, Scaler


def check_scaling(release: Release, settings: KubernetesSettings) -> None:
    """Raises NotServable where the scaler of this installation cannot do what a release asks for."""
    if release.scaling is not None and settings.scaler is Scaler.HPA and not release.scaling.min_replicas:
        raise NotServable("an HPA never scales to zero; set min_replicas to 1, or QUANTRY_KUBE_SCALER to keda or controller")


def scaler_objects(rendering: Rendering) -> list[Document]:
    """Returns the object that scales the release; none where the controller does, or nobody."""
    scaling = rendering.release.scaling
    match rendering.settings.scaler:
        case Scaler.HPA if scaling is not None:
            return [autoscaler(rendering, scaling)]
        case Scaler.KEDA if scaling is not None:
            return [scaled_object(rendering, scaling)]
        case _:
            return []


def autoscaler(rendering: Rendering, scaling: Scaling) -> Document:
    """Returns a HorizontalPodAutoscaler over metrics of the pods, which an adapter serves as the engine names them, ``_`` for ``:``."""
    gauges = _gauges(rendering)
    metrics = [_pods_metric(gauges.waiting, scaling.target_waiting)]
    if gauges.kv_use is not None:
        metrics.append(_pods_metric(gauges.kv_use, scaling.target_kv_use))
    spec = {
        "scaleTargetRef": _target(rendering),
        "minReplicas": max(1, scaling.min_replicas),
        "maxReplicas": scaling.max_replicas,
        "metrics": metrics,
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": _window_s(scaling)}},
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": rendering.metadata(),
        "spec": spec,
    }


def scaled_object(rendering: Rendering, scaling: Scaling) -> Document:
    """Returns KEDA's ScaledObject over Prometheus: any request that runs or waits keeps it from zero, what waits says how many."""
    gauges = _gauges(rendering)
    pods = f'{{namespace="{rendering.settings.namespace}",pod=~"{rendering.name}-[0-9]+"}}'
    busy = f"sum({gauges.running}{pods}) + sum({gauges.waiting}{pods})"
    # The first says only whether there is anything to do: its target is out of reach, so that it never asks for more than one pod.
    triggers = [
        _trigger(rendering, busy, 1_000_000.0, activation=0.0),
        _trigger(rendering, f"sum({gauges.waiting}{pods})", scaling.target_waiting),
    ]
    if gauges.kv_use is not None:
        triggers.append(_trigger(rendering, f"sum({gauges.kv_use}{pods})", scaling.target_kv_use))
    spec = {
        "scaleTargetRef": _target(rendering),
        "minReplicaCount": scaling.min_replicas,
        "maxReplicaCount": scaling.max_replicas,
        "pollingInterval": 5,
        "cooldownPeriod": math.ceil(scaling.idle_after_s),
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": _window_s(scaling)}}}},
        "triggers": triggers,
    }
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": rendering.metadata(), "spec": spec}


def _gauges(rendering: Rendering) -> Gauges:
    return ENGINES[rendering.release.engine.engine].gauges


def _target(rendering: Rendering) -> Document:
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": rendering.name}


def _pods_metric(name: str, target: float) -> Document:
    wanted = {"type": "AverageValue", "averageValue": f"{math.ceil(target * 1000)}m"}
    return {"type": "Pods", "pods": {"metric": {"name": name.replace(":", "_")}, "target": wanted}}


def _trigger(rendering: Rendering, query: str, threshold: float, *, activation: float | None = None) -> Document:
    metadata = {"serverAddress": rendering.settings.prometheus_url, "query": query, "threshold": f"{threshold:g}"}
    if activation is not None:
        metadata["activationThreshold"] = f"{activation:g}"
    return {"type": "prometheus", "metricType": "AverageValue", "metadata": metadata}


def _window_s(scaling: Scaling) -> int:
    """An HPA looks back an hour at most."""
    return min(3600, math.ceil(scaling.scale_down_after_s))
