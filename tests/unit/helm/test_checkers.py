"""The checks of this folder find what they look for: each is shown something that is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from yaml import YAMLError, load

from factories.chart import pod_security, schemas
from factories.chart.cases import EXTERNAL
from factories.chart.network import Place, may_pass, may_reach_outside
from factories.chart.rendering import Document, Pod, Rendered, UniqueKeys, render

Spoil = Callable[[Document, Document], None]
"""Spoils a pod's spec and its first container."""

SPOILT: dict[str, Spoil] = {
    "hostNetwork": lambda spec, _: spec.update(hostNetwork=True),
    "hostPID": lambda spec, _: spec.update(hostPID=True),
    "volume host": lambda spec, _: spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
    "SELinux": lambda spec, _: spec["securityContext"].update(seLinuxOptions={"user": "root"}),
    "sysctl": lambda spec, _: spec["securityContext"].update(sysctls=[{"name": "kernel.msgmax", "value": "1"}]),
    "process of the host": lambda spec, _: spec["securityContext"].update(windowsOptions={"hostProcess": True}),
    "is privileged": lambda _, container: container["securityContext"].update(privileged=True),
    "may gain privileges": lambda _, container: container["securityContext"].pop("allowPrivilegeEscalation"),
    "keeps capabilities": lambda _, container: container["securityContext"].pop("capabilities"),
    "adds capabilities": lambda _, container: container["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
    "may run as root": lambda spec, container: (
        spec["securityContext"].pop("runAsNonRoot"),
        container["securityContext"].pop("runAsNonRoot"),
    )[0],
    "runs as root": lambda spec, _: spec["securityContext"].update(runAsUser=0),
    "has no seccomp profile": lambda spec, _: spec["securityContext"].pop("seccompProfile"),
    "sees more of /proc": lambda _, container: container["securityContext"].update(procMount="Unmasked"),
    "has a port of the host": lambda _, container: container["ports"][0].update(hostPort=80),
}
CARELESS: dict[str, Spoil] = {
    "does not say whether it has a token": lambda spec, _: spec.pop("automountServiceAccountToken"),
    "writes its root": lambda _, container: container["securityContext"].pop("readOnlyRootFilesystem"),
    "has no /tmp": lambda _, container: container.update(volumeMounts=[]),
    "has no bounds": lambda _, container: container["resources"].pop("limits"),
    "has a secret in X": lambda _, container: container["env"].append(
        {"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    ),
    "mounts {'gone'}": lambda _, container: container["volumeMounts"].append({"name": "gone", "mountPath": "/gone"}),
}


def spoilt(spoil: Spoil) -> Pod:
    owner = copy.deepcopy(render(EXTERNAL).one("Deployment", "api"))
    template = owner["spec"]["template"]
    spoil(template["spec"], template["spec"]["containers"][0])
    return Pod(owner, template["metadata"], template["spec"])


@pytest.mark.parametrize("words", SPOILT)
def test_what_restricted_forbids_is_found(words: str) -> None:
    (problem,) = pod_security.problems_of(spoilt(SPOILT[words]))
    assert words in problem


@pytest.mark.parametrize("words", CARELESS)
def test_what_the_chart_asks_for_is_missed(words: str) -> None:
    (problem,) = pod_security.habits_of(spoilt(CARELESS[words]))
    assert words in problem


@pytest.mark.parametrize(
    ("kind", "name", "spoil", "words"),
    [
        ("Deployment", "api", lambda spec: spec.update(replica=2), "'replica' was unexpected"),
        ("Deployment", "api", lambda spec: spec.update(replicas="2"), "is not of type"),
        ("NetworkPolicy", "api", lambda spec: spec["egress"][0].update(from_=[]), "'from_' was unexpected"),
        ("Service", "api", lambda spec: spec["ports"][0].pop("port"), "'port' is a required property"),
    ],
)
def test_what_kubernetes_refuses_is_found_in_every_minor(kind: str, name: str, spoil: Callable[[Document], None], words: str) -> None:
    document = copy.deepcopy(render(EXTERNAL).one(kind, name))
    spoil(document["spec"])
    problems = schemas.problems_of(document)
    assert len(problems) == len(schemas.MINORS)
    assert all(words in problem for problem in problems)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("ServiceMonitor", {"selector": {"matchLabels": {}}, "endpoints": [{"port": "http", "intervall": "30s"}]}),
        ("PodMonitor", {"selector": {"matchLabels": {}}, "podMetricsEndpoints": []}),
        ("PrometheusRule", {"groups": [{"name": "a", "rules": [{"alert": "A", "expr": "1", "for": "five"}]}]}),
    ],
)
def test_what_an_operator_refuses_is_found(kind: str, spec: Document) -> None:
    document = {"apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    assert len(schemas.problems_of(document)) == 1


def test_a_pod_without_policies_sends_and_takes_anything() -> None:
    nothing, api = Rendered([], ""), Place.of("ai", {"app": "api"})
    assert may_pass(nothing, api, Place.of("b", {}), 1)
    rendered = render(EXTERNAL)
    (pod,) = [pod for pod in rendered.pods() if pod.component == "api"]
    assert not may_pass(rendered, Place.of("ai", {"app": "x"}), Place.of("ai", pod.labels), 8001)
    assert not may_reach_outside(rendered, Place.of("ai", pod.labels), 22)


def test_a_key_that_is_there_twice_is_no_yaml() -> None:
    with pytest.raises(YAMLError, match="twice"):
        load("a: 1\nb: 2\na: 3\n", UniqueKeys)  # noqa: S506  a safe loader's child
