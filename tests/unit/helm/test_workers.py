"""Workers: a pod for each entry, and scaling that never stops a busy one."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from factories.chart.cases import DEV, EXTERNAL, GPUS
from factories.chart.rendering import merged, render
from quantry_api.demand import QueueDemand
from quantry_api.demand import router as demand
from quantry_api.settings import ApiSettings
from quantry_core.permissions import ANYONE, PERMISSIONS


def test_each_entry_has_pods_of_its_own() -> None:
    rendered = render(GPUS)
    kinds = {pod.labels["quantry.dev/workers"]: pod.owner["kind"] for pod in rendered.pods() if pod.component == "worker"}
    assert kinds == {"cpu": "Deployment", "gpu": "ScaledJob", "gpu-quad": "ScaledJob"}


def test_pods_are_started_by_what_a_queue_holds_which_is_asked_without_a_credential() -> None:
    scaled = render(GPUS).one("ScaledJob", "worker-gpu")["spec"]
    (trigger,) = scaled["triggers"]
    assert (trigger["type"], set(trigger)) == ("metrics-api", {"type", "metadata"})
    url = urlsplit(trigger["metadata"]["url"])
    assert (url.scheme, url.netloc) == ("http", "prod-quantry-api.ai.svc.cluster.local:8001")
    (route,) = demand.routes
    path = getattr(route, "path", "")
    assert url.path == path.format(queue="gpu")
    assert PERMISSIONS["GET", path] is ANYONE
    assert trigger["metadata"]["valueLocation"] in QueueDemand.model_fields
    assert trigger["metadata"]["targetValue"] == "2", "a pod has two slots"
    # What the queue holds counts running jobs too, so that what runs is what is there, and the difference is what is missing.
    assert scaled["scalingStrategy"] == {"strategy": "default", "multipleScalersCalculation": "sum"}
    assert scaled["maxReplicaCount"] == 8


def test_no_pod_that_may_be_busy_is_ended_by_the_scaler_or_an_upgrade() -> None:
    rendered = render(GPUS)
    assert not rendered.of_kind("ScaledObject"), "it would end pods without a look at what they do"
    scaled = rendered.one("ScaledJob", "worker-gpu")["spec"]
    assert scaled["rollout"]["strategy"] == "gradual"
    assert "activeDeadlineSeconds" not in scaled["jobTargetRef"]
    pod = rendered.worker("gpu")
    assert pod.spec["restartPolicy"] == "Never"
    assert pod.metadata["annotations"] == {
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "karpenter.sh/do-not-disrupt": "true",
    }


def test_a_pod_that_was_started_for_work_ends_by_itself() -> None:
    rendered = render(GPUS)
    idle_s = float(rendered.worker("gpu").environment("worker")["QUANTRY_WORKER_MAX_IDLE_S"])
    assert idle_s > 2 * ApiSettings.model_fields["sweep_interval_s"].default, "a wake may be one sweep late"
    assert "QUANTRY_WORKER_MAX_IDLE_S" not in rendered.worker("cpu").environment("worker")


def test_several_queues_are_added_up() -> None:
    values = {
        "queues": [{"name": "cpu"}, {"name": "cpu-large"}],
        "workers": {"cpu": {"queues": ["cpu", "cpu-large"], "scaling": {"mode": "keda"}}},
    }
    triggers = render(merged(EXTERNAL, values)).one("ScaledJob", "worker-cpu")["spec"]["triggers"]
    assert [trigger["metadata"]["url"].rpartition("/")[2] for trigger in triggers] == ["cpu", "cpu-large"]


def test_what_an_entry_does_not_say_is_as_for_all() -> None:
    values = {
        "workerDefaults": {"nodeSelector": {"pool": "work"}, "drainGraceSeconds": 300},
        "workers": {"cpu": {"nodeSelector": {"disk": "fast"}}, "second": {"drainGraceSeconds": 0, "pdb": {"enabled": False}}},
    }
    rendered = render(merged(DEV, values))
    assert rendered.worker("cpu").spec["nodeSelector"] == {"pool": "work", "disk": "fast"}
    assert rendered.worker("second").spec["nodeSelector"] == {"pool": "work"}
    assert [rendered.worker(name).environment("worker")["QUANTRY_WORKER_DRAIN_GRACE_S"] for name in ("cpu", "second")] == ["300", "0"]
    assert [one["metadata"]["name"] for one in rendered.of_kind("PodDisruptionBudget") if "worker" in one["metadata"]["name"]] == [
        "prod-quantry-worker-cpu"
    ]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("emptyDir", {"emptyDir": {"sizeLimit": "60Gi"}}),
        (
            "ephemeral",
            {
                "ephemeral": {
                    "volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "60Gi"}}}}
                }
            },
        ),
    ],
)
def test_a_pod_has_a_folder_of_its_own(kind: str, expected: dict[str, object]) -> None:
    pod = render(merged(DEV, {"workerDefaults": {"work": {"type": kind}}})).worker("cpu")
    (volume,) = [one for one in pod.spec["volumes"] if one["name"] == "work"]
    assert volume == {"name": "work", **expected}
    (mount,) = [one for one in pod.spec["containers"][0]["volumeMounts"] if one["name"] == "work"]
    assert mount["mountPath"] == pod.environment("worker")["QUANTRY_WORK_DIR"]


def test_a_worker_that_is_not_wanted_is_not_there() -> None:
    assert not [pod for pod in render(merged(DEV, {"workers": {"cpu": None}})).pods() if pod.component == "worker"]
