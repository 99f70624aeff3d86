"""What NetworkPolicies let through, as a cluster that enforces them has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factories.chart.rendering import Document, Rendered, matches


@dataclass(frozen=True)
class Place:
    """Something that sends or receives: labels of a pod and its namespace, or an address outside the cluster."""

    namespace: str
    labels: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, namespace: str, labels: Mapping[str, str]) -> Place:
        return cls(namespace, tuple(sorted(labels.items())))


def policies_of(rendered: Rendered, place: Place) -> list[Document]:
    """Returns the policies that hold for a pod."""
    return [
        policy
        for policy in rendered.of_kind("NetworkPolicy")
        if policy["metadata"]["namespace"] == place.namespace and _selected(policy["spec"]["podSelector"], dict(place.labels))
    ]


def may_pass(rendered: Rendered, sender: Place, receiver: Place, port: int) -> bool:
    """Tells whether a connection is let out of one pod and into the other."""
    out = _allows(policies_of(rendered, sender), "egress", "to", receiver, port)
    return out and _allows(policies_of(rendered, receiver), "ingress", "from", sender, port)


def may_reach_outside(rendered: Rendered, sender: Place, port: int) -> bool:
    """Tells whether a pod may reach some address that is no pod, on a port, by TCP."""
    return any(
        _has_port(rule, port) and ("to" not in rule or any("ipBlock" in peer for peer in rule["to"]))
        for policy in policies_of(rendered, sender)
        for rule in policy["spec"].get("egress", [])
    )


def _allows(policies: Sequence[Document], direction: str, side: str, other: Place, port: int) -> bool:
    relevant = [policy for policy in policies if direction.capitalize() in policy["spec"]["policyTypes"]]
    if not relevant:
        return True
    rules: Iterable[Document] = (rule for policy in relevant for rule in policy["spec"].get(direction, []))
    return any(
        _has_port(rule, port) and (side not in rule or any(_is(peer, policy_namespace(relevant), other) for peer in rule[side]))
        for rule in rules
    )


def policy_namespace(policies: Sequence[Document]) -> str:
    """Returns the namespace of policies that hold for one pod."""
    namespace: str = policies[0]["metadata"]["namespace"]
    return namespace


def _has_port(rule: Document, port: int) -> bool:
    return "ports" not in rule or any(one["port"] == port and one.get("protocol", "TCP") == "TCP" for one in rule["ports"])


def _is(peer: Document, namespace: str, place: Place) -> bool:
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" in peer:
        if not _selected(peer["namespaceSelector"], {"kubernetes.io/metadata.name": place.namespace}):
            return False
    elif place.namespace != namespace:
        return False
    return "podSelector" not in peer or _selected(peer["podSelector"], dict(place.labels))


def _selected(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}, f"this knows labels alone: {selector}"
    return matches(selector.get("matchLabels", {}), labels)
