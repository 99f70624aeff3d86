"""What the controller and the Job that makes the first keys may do in a cluster: what they ask for, and nothing more.

Both are asked to do everything they can, against an API server that only writes down what it was asked. No socket is used.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
from lightkube import AsyncClient, Client, KubeConfig
from lightkube.config.kubeconfig import SingleConfig
from lightkube.config.models import Cluster as ClusterAddress
from lightkube.config.models import User

from factories.chart.cases import EXTERNAL
from factories.chart.rendering import Document, merged, render
from quantry_api.bootstrap_secret import KeySecret
from quantry_deploy.drivers.kubernetes.cluster import OF_A_RELEASE, SCALERS, Cluster

PATH = re.compile(r"^/(?:api|apis)/(?P<group>.+)/namespaces/pools/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?$")

Right = tuple[str, str, str]
"""Group, resource and verb."""

WRITTEN = {
    "hpa": ("autoscaling/v2", "HorizontalPodAutoscaler"),
    "keda": ("keda.sh/v1alpha1", "ScaledObject"),
}
ALWAYS_WRITTEN = [("v1", "ConfigMap"), ("v1", "Service"), ("policy/v1", "PodDisruptionBudget"), ("apps/v1", "StatefulSet")]

SPECS: dict[str, Document] = {
    "statefulsets": {"selector": {}, "serviceName": "x", "template": {}},
    "horizontalpodautoscalers": {"maxReplicas": 1, "scaleTargetRef": {"kind": "StatefulSet", "name": "x"}},
    "pods": {"containers": []},
}
"""As little of each kind as its library takes."""


class Recorder:
    """Answers every request with as little as will do, and keeps the right that it took."""

    def __init__(self) -> None:
        self.rights: set[Right] = set()

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        asked = PATH.match(request.url.path)
        assert asked is not None, request.url.path
        group = asked["group"].rpartition("/")[0]
        resource = asked["plural"] + (f"/{asked['sub']}" if asked["sub"] else "")
        self.rights |= {(group, resource, verb) for verb in self._verbs(request, has_name=asked["name"] is not None)}
        if asked["sub"] == "log":
            return httpx2.Response(200, text="")
        one = {"metadata": {"name": "x", "namespace": "pools"}, "apiVersion": asked["group"], "kind": "Any"}
        if not asked["sub"]:
            one["spec"] = SPECS.get(asked["plural"], {})
        return httpx2.Response(200, json=one if asked["name"] else {"items": [], "metadata": {}})

    async def answer_async(self, request: httpx2.Request) -> httpx2.Response:
        return self.answer(request)

    def _verbs(self, request: httpx2.Request, *, has_name: bool) -> set[str]:
        match request.method:
            case "GET":
                return {"get" if has_name else "list"}
            case "PATCH" if "apply-patch" in request.headers["content-type"]:
                # What is not there is made by it.
                return {"patch", "create"}
            case method:
                return {method.lower()}


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def address() -> SingleConfig:
    config = KubeConfig.from_one(cluster=ClusterAddress(server="http://cluster.test"), user=User(token="token")).get()
    assert config is not None
    return config


def rights_of(role: Document) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


async def ask_everything(cluster: Cluster, kinds: list[tuple[str, str]]) -> None:
    """Calls every public method of Cluster; fails for one that this test does not know."""
    for version, kind in kinds:
        document = {"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "pools"}}
        await cluster.apply({**document, "spec": SPECS[f"{kind.lower()}s"]} if f"{kind.lower()}s" in SPECS else document)
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "stateful_set": lambda: cluster.stateful_set("x"),
        "stateful_sets": lambda: cluster.stateful_sets("owner"),
        "annotate": lambda: cluster.annotate("x", {"a": "b"}),
        "scale": lambda: cluster.scale("x", 1),
        "pod": lambda: cluster.pod("x"),
        "pods": lambda: cluster.pods("owner"),
        "remove_pod": lambda: cluster.remove_pod("x"),
        "remove_release": lambda: cluster.remove_release("x"),
        "remove_scalers": lambda: cluster.remove_scalers("x"),
        "log": lambda: cluster.log("x"),
        "close": cluster.close,
    }
    assert {name for name in vars(Cluster) if not name.startswith("_")} == {*calls, "apply"}
    for call in calls.values():
        await call()


@pytest.mark.parametrize("scaler", ["controller", "hpa", "keda"])
async def test_the_controller_may_do_what_its_driver_asks_and_no_more(scaler: str, recorder: Recorder) -> None:
    client = AsyncClient(config=address(), namespace="pools", transport=httpx2.MockTransport(recorder.answer_async), trust_env=False)
    await ask_everything(Cluster(client, "pools"), [*ALWAYS_WRITTEN, *([WRITTEN[scaler]] if scaler in WRITTEN else [])])
    values = {"pools": {"scaler": scaler, "prometheusUrl": "http://p:9090", "namespace": "pools", "cacheClaim": "models"}}
    rendered = render(merged(EXTERNAL, values))
    role = rendered.one("Role", "deploy")
    assert rights_of(role) == recorder.rights
    assert role["metadata"]["namespace"] == "pools"
    binding = rendered.one("RoleBinding", "deploy")
    assert binding["metadata"]["namespace"] == "pools"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "prod-quantry-deploy", "namespace": "ai"}]
    assert len(OF_A_RELEASE) == len(ALWAYS_WRITTEN) + len(SCALERS)


def test_the_first_keys_job_may_fill_one_secret(recorder: Recorder) -> None:
    with Client(config=address(), transport=httpx2.MockTransport(recorder.answer), trust_env=False) as client:
        secret = KeySecret(client, "keys", "pools")
        secret.missing()
        secret.keep({"admin_key": "x"})
    rendered = render(EXTERNAL)
    role = rendered.one("Role", "bootstrap")
    assert rights_of(role) == recorder.rights == {("", "secrets", "get"), ("", "secrets", "patch")}
    (rule,) = role["rules"]
    assert rule["resourceNames"] == ["prod-quantry-keys"]
    kept = rendered.one("Secret", "keys")
    assert not {"data", "stringData"} & set(kept), "an upgrade must not write over what the Job put there"
    assert kept["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    (container,) = rendered.pod("bootstrap").spec["containers"]
    assert container["command"] == ["python", "-m", "quantry_api.bootstrap_secret", "--name", "prod-quantry-keys"]


def test_who_waits_for_the_first_keys_reads_what_the_job_writes() -> None:
    rendered = render(EXTERNAL)
    wanted = {"gateway": "gateway_token", "worker": "worker_token"}
    for component, entry in wanted.items():
        sources = [
            one["secret"] for volume in rendered.pod(component).spec["volumes"] for one in volume.get("projected", {}).get("sources", [])
        ]
        (keys,) = [one for one in sources if one["name"] == "prod-quantry-keys"]
        assert [item["key"] for item in keys["items"]] == [entry]
        assert "optional" not in keys, "the pod waits until it is there"


def test_with_keys_made_by_hand_nothing_is_made() -> None:
    rendered = render(merged(EXTERNAL, {"keys": {"existingSecret": "my-keys"}}))
    assert not [one for one in rendered.documents if one["metadata"]["labels"]["app.kubernetes.io/component"] == "bootstrap"]
    assert "my-keys" in rendered.notes
    assert "admin_key" not in rendered.notes


def test_each_revision_has_a_job_of_its_own() -> None:
    def job(**options: Any) -> str:
        name: str = next(one for one in render(EXTERNAL, **options).of_kind("Job") if "bootstrap" in one["metadata"]["name"])["metadata"][
            "name"
        ]
        return name

    assert job(revision=1) == job(revision=1)
    assert len({job(revision=1), job(revision=2), job()}) >= 2
