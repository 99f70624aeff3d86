"""Whether objects are what Kubernetes, and the makers of some other kinds, take: each distinct object is looked at once for each minor."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
from referencing import Registry, Resource

from factories.chart.rendering import Document

MINORS = ("1.30", "1.34", "1.37")
"""The oldest that Chart.yaml allows, the newest that there is, and one between."""

_SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"

_TEXT, _TEXTS = {"type": "string", "minLength": 1}, {"type": "object", "additionalProperties": {"type": "string"}}
_SELECTOR = {"type": "object", "required": ["matchLabels"], "additionalProperties": False, "properties": {"matchLabels": _TEXTS}}


def _closed(required: list[str], **properties: Any) -> Document:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


_ENDPOINTS = {
    "type": "array",
    "minItems": 1,
    "items": _closed(
        ["port"],
        port=_TEXT,
        path=_TEXT,
        interval={"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"},
        honorLabels={"type": "boolean"},
        authorization=_closed(["credentials"], type=_TEXT, credentials=_closed(["name", "key"], name=_TEXT, key=_TEXT)),
    ),
}
_RULE = _closed(
    ["expr"], alert=_TEXT, record=_TEXT, expr={"type": ["string", "integer"]}, labels=_TEXTS, annotations=_TEXTS, keep_firing_for=_TEXT,
    **{"for": {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$"}},
)  # fmt: skip

CUSTOM: dict[tuple[str, str], Document] = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _closed(["selector", "endpoints"], selector=_SELECTOR, endpoints=_ENDPOINTS),
    ("monitoring.coreos.com/v1", "PodMonitor"): _closed(
        ["selector", "podMetricsEndpoints"],
        selector=_SELECTOR,
        podMetricsEndpoints=_ENDPOINTS,
        podTargetLabels={"type": "array", "items": _TEXT},
        namespaceSelector=_closed(["matchNames"], matchNames={"type": "array", "items": _TEXT}),
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): _closed(
        ["groups"],
        groups={
            "type": "array",
            "minItems": 1,
            "items": _closed(["name", "rules"], name=_TEXT, interval=_TEXT, rules={"type": "array", "minItems": 1, "items": _RULE}),
        },
    ),
    ("keda.sh/v1alpha1", "ScaledJob"): _closed(
        ["jobTargetRef", "triggers"],
        pollingInterval={"type": "integer"},
        minReplicaCount={"type": "integer"},
        maxReplicaCount={"type": "integer"},
        successfulJobsHistoryLimit={"type": "integer"},
        failedJobsHistoryLimit={"type": "integer"},
        rollout=_closed(["strategy"], strategy={"enum": ["default", "gradual"]}, propagationPolicy={"enum": ["background", "foreground"]}),
        scalingStrategy=_closed(
            ["strategy"],
            strategy={"enum": ["default", "custom", "accurate", "eager"]},
            multipleScalersCalculation={"enum": ["min", "max", "avg", "sum"]},
        ),
        triggers={"type": "array", "minItems": 1, "items": _closed(["type", "metadata"], type=_TEXT, metadata=_TEXTS)},
        jobTargetRef={"type": "object", "required": ["template"]},
    ),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): _closed(
        ["parentRefs", "rules"],
        parentRefs={"type": "array", "minItems": 1, "items": {"type": "object", "required": ["name"]}},
        hostnames={"type": "array", "items": _TEXT},
        rules={
            "type": "array",
            "items": _closed(
                ["backendRefs"],
                matches={"type": "array"},
                timeouts=_closed([], request=_TEXT),
                backendRefs={"type": "array", "items": _closed(["name", "port"], name=_TEXT, port={"type": "integer"})},
            ),
        },
    ),
}
"""The spec of kinds that are not Kubernetes' own: what of them the chart uses, as their makers document it."""


def problems_of(document: Document) -> list[str]:
    """Returns what is wrong with an object in each of MINORS."""
    return list(_problems(json.dumps(document, sort_keys=True)))


@functools.cache
def _problems(text: str) -> tuple[str, ...]:
    document = json.loads(text)
    kind, version = document["kind"], document["apiVersion"]
    if (version, kind) in CUSTOM:
        found = _said(jsonschema.Draft202012Validator(CUSTOM[version, kind]), document["spec"])
        if kind == "ScaledJob":
            # Its jobTargetRef is the spec of a Job.
            job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": document["metadata"], "spec": document["spec"]["jobTargetRef"]}
            found += [problem for minor in MINORS for problem in _said(_validator(minor, "job", "batch-v1"), job)]
    else:
        group = version.replace("/", "-") if "." not in version else f"{version.split('.')[0]}-{version.split('/')[1]}"
        found = [f"{minor}: {problem}" for minor in MINORS for problem in _said(_validator(minor, kind.lower(), group), document)]
    return tuple(f"{kind}/{document['metadata']['name']}: {problem}" for problem in found)


def _said(validator: jsonschema.Draft202012Validator, instance: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(instance)]


@functools.cache
def _validator(minor: str, kind: str, group: str) -> jsonschema.Draft202012Validator:
    """As kubernetes_validate.validate, strict, which reads 2 MB of definitions anew for each object."""
    schema = Resource.from_contents(json.loads((_SCHEMAS / f"v{minor}.0-local-strict" / f"{kind}-{group}.json").read_text()))
    return jsonschema.Draft202012Validator(schema.contents, registry=schema @ _definitions(minor))


@functools.cache
def _definitions(minor: str) -> Registry[Any]:
    return Resource.from_contents(json.loads((_SCHEMAS / f"v{minor}.0-local-strict" / "_definitions.json").read_text())) @ Registry()
