"""The values: documented one by one, described by a closed schema, and refused with a sentence where they cannot be."""

from __future__ import annotations

import json
import re
from typing import Any

import helm_python
import jsonschema
import pytest
import yaml

from factories.chart.cases import CASES, DEV, EXTERNAL, GPUS
from factories.chart.rendering import CHART_DIR, Values, merged, render

VALUES = (CHART_DIR / "values.yaml").read_text()
SCHEMA = json.loads((CHART_DIR / "values.schema.json").read_text())
OPEN = {"resources", "annotations", "labels"}
"""Maps whose names are not the chart's."""


def comments() -> dict[str, str]:
    """Returns what values.yaml says of each value, by its path."""
    found: dict[str, str] = {}
    path: list[str] = []
    said: list[str] = []
    for line in VALUES.splitlines():
        text = line.strip()
        if text.startswith("# -- "):
            said = [text[5:]]
        elif text.startswith("#"):
            said += [text[2:]] if said else []
        elif (named := re.match(r"^( *)([A-Za-z0-9_-]+):", line)) is not None:
            path = [*path[: len(named[1]) // 2], named[2]]
            if said:
                found[".".join(path)] = " ".join(said)
            said = []
    return found


def leaves(values: dict[str, Any], path: str = "") -> list[str]:
    """Returns the paths of all values, those of open maps as one."""
    found: list[str] = []
    for name, value in values.items():
        here = f"{path}.{name}".strip(".")
        is_part = isinstance(value, dict) and value and name not in OPEN
        found += leaves(value, here) if is_part else [here]
    return found


def described() -> dict[str, str]:
    """Returns the schema's descriptions, by the path of what they describe."""
    found: dict[str, str] = {}

    def walk(schema: dict[str, Any], path: str) -> None:
        if "description" in schema:
            found[path] = schema["description"]
        for name, part in schema.get("properties", {}).items():
            walk(part, f"{path}.{name}".strip("."))

    walk(SCHEMA, "")
    walk(SCHEMA["definitions"]["worker"], "workerDefaults")
    return found


def test_every_value_says_what_it_means() -> None:
    undocumented = [path for path in leaves(yaml.safe_load(VALUES)) if path not in comments() and not path.startswith("workers.")]
    assert undocumented == []


def test_the_schema_says_the_same() -> None:
    found = described()
    assert {path: text for path, text in comments().items() if path != "workerDefaults"} == {
        path: text for path, text in found.items() if path not in {"global", "workerDefaults"}
    }


def test_the_schema_is_closed_everywhere() -> None:
    def open_parts(schema: Any, path: str) -> list[str]:
        if not isinstance(schema, dict):
            return []
        here = [path] if "properties" in schema and schema.get("additionalProperties") is not False else []
        return here + [one for name, part in schema.items() for one in open_parts(part, f"{path}/{name}")]

    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert open_parts(SCHEMA, "") == []


def test_the_schema_knows_every_value_and_no_other() -> None:
    def names(schema: dict[str, Any], path: str) -> list[str]:
        parts = schema.get("properties")
        return [one for name, part in parts.items() for one in names(part, f"{path}.{name}".strip("."))] if parts else [path]

    worker = [f"workerDefaults.{one}" for one in names(SCHEMA["definitions"]["worker"], "")]
    known = {*names(SCHEMA, ""), *worker} - {"global", "workerDefaults"}
    assert known == {*(path for path in leaves(yaml.safe_load(VALUES)) if not path.startswith("workers.")), "workers"}


@pytest.mark.parametrize("case", [DEV, EXTERNAL, GPUS], ids=["dev", "external", "gpus"])
def test_lint_finds_nothing(case: Values) -> None:
    report = helm_python.lint(CHART_DIR, dict(case), strict=True, kube_version="v1.30.0")
    assert (report["messages"], report["errors"]) == ([], [])


@pytest.mark.parametrize("name", ["dev-values.yaml", "production-values.yaml"])
def test_the_examples_are_taken(name: str) -> None:
    assert render(yaml.safe_load((CHART_DIR / "ci" / name).read_text())).documents


REFUSED: list[tuple[str, Values, str]] = [
    ("a name that is none", {"gatway": {}}, "additional properties 'gatway' not allowed"),
    ("a name that is none, deep down", {"gateway": {"hpa": {"max": 3}}}, "at '/gateway/hpa': additional properties 'max' not allowed"),
    ("a name of a worker's that is none", {"workers": {"cpu": {"gpus": 1}}}, "at '/workers/cpu': additional properties 'gpus' not allowed"),
    ("text for a number", {"api": {"replicas": "two"}}, "at '/api/replicas': got string, want integer"),
    ("no pods", {"gateway": {"replicas": 0}}, "at '/gateway/replicas': minimum: got 0, want 1"),
    ("a mode that is none", {"workers": {"cpu": {"scaling": {"mode": "hpa"}}}}, "value must be one of 'fixed', 'keda'"),
    ("a queue that is none", {"queues": [{"name": "tpu"}]}, "at '/queues/0/name': 'tpu' does not match pattern"),
    ("memory without a unit", {"queues": [{"name": "cpu", "memory": "16"}]}, "at '/queues/0/memory'"),
    ("no queue", {"queues": []}, "at '/queues': minItems: got 0, want 1"),
    ("a worker's name in capitals", {"workers": {"GPU": {}}}, "'GPU' does not match pattern"),
    ("a secret in a setting that is none", {"api": {"settings": {"DATABASE_URL": "x"}}}, "'DATABASE_URL' does not match pattern"),
    ("half a digest", {"api": {"image": {"digest": "sha256:abc"}}}, "at '/api/image/digest'"),
    ("an address with a scheme", {"s3": {"endpoint": "https://s3.example.com"}}, "at '/s3/endpoint'"),
    ("a collector without a scheme", {"telemetry": {"tracesEndpoint": "otel:4318"}}, "at '/telemetry/tracesEndpoint'"),
    ("more than all traces", {"telemetry": {"tracesSampleRatio": 2}}, "maximum: got 2, want 1"),
    ("root", {"podSecurity": {"userId": 0}}, "at '/podSecurity/userId': minimum: got 0, want 1"),
    ("a peer that is none", {"networkPolicy": {"clients": [{"cidr": "10.0.0.0/8"}]}}, "additional properties 'cidr' not allowed"),
    ("a port that is none", {"networkPolicy": {"postgres": {"ports": [70000]}}}, "maximum: got 70,000, want 65,535"),
    ("a size that is none", {"deploy": {"cache": {"size": "lots"}}}, "at '/deploy/cache/size': 'lots' does not match pattern"),
    ("a resource that is none", {"api": {"resources": {"request": {}}}}, "additional properties 'request' not allowed"),
    ("a share of pods that is none", {"api": {"pdb": {"maxUnavailable": "half"}}}, "at '/api/pdb/maxUnavailable'"),
    ("a way out that is none", {"expose": {"mode": "route"}}, "value must be one of 'none', 'ingress', 'httpRoute'"),
    ("a folder that is relative", {"imports": {"roots": ["models"]}}, "at '/imports/roots/0'"),
    ("a worker that ends before its wake comes", {"workerDefaults": {"scaling": {"maxIdleSeconds": 3}}}, "minimum: got 3, want 10"),
]


@pytest.mark.parametrize(("values", "words"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED])
def test_the_schema_refuses(values: Values, words: str) -> None:
    with pytest.raises(helm_python.HelmValuesError) as refused:
        render(merged(DEV, values))
    assert words in str(refused.value)


CANNOT_BE: list[tuple[str, Values, str]] = [
    ("no database", merged(EXTERNAL, {"postgres": {"existingSecret": ""}}), "postgres.existingSecret is not set"),
    ("no broker", merged(EXTERNAL, {"redis": {"existingSecret": ""}}), "redis.existingSecret is not set"),
    ("no object store", merged(EXTERNAL, {"s3": {"endpoint": ""}}), "s3.endpoint is not set"),
    ("no key of the registry", merged(EXTERNAL, {"s3": {"registry": {"existingSecret": ""}}}), "s3.registry.existingSecret is not set"),
    ("no key of the workers", merged(EXTERNAL, {"s3": {"worker": {"existingSecret": ""}}}), "s3.worker.existingSecret is not set"),
    ("nothing", {}, "To try the platform out with servers of its own, set dev.enabled to true"),
    (
        "a worker of no queue",
        merged(DEV, {"workers": {"gpu": {"queues": ["gpu"], "gpusPerSlot": 1}}}),
        "queue gpu, which queues does not list",
    ),
    (
        "a gpu queue without GPUs",
        merged(DEV, {"queues": [{"name": "cpu"}, {"name": "gpu"}], "workers": {"gpu": {"queues": ["gpu"]}}}),
        "workers.gpu serves queue gpu but its slots have no GPU: set workers.gpu.gpusPerSlot",
    ),
    ("GPUs for nothing", merged(DEV, {"workers": {"cpu": {"gpusPerSlot": 1}}}), "workers.cpu asks for GPUs and serves no gpu queue"),
    ("a queue twice", merged(DEV, {"queues": [{"name": "cpu"}, {"name": "cpu"}]}), "queues lists cpu twice"),
    ("no queue for imports", merged(DEV, {"queues": [{"name": "gpu"}], "workers": {"cpu": None}}), "imports need one"),
    ("GPUs of a cpu queue", merged(DEV, {"queues": [{"name": "cpu", "gpus": 2}]}), "cpu is for the CPU and has no gpus"),
    ("jobs for nowhere", merged(DEV, {"defaultResource": "gpu"}), "defaultResource is gpu, and queues has none for it"),
    ("an ingress without a host", merged(DEV, {"expose": {"mode": "ingress"}}), "set expose.gateway.host"),
    ("routes without a gateway", merged(DEV, {"expose": {"mode": "httpRoute", "gateway": {"host": "a.b"}}}), "set expose.parentRefs"),
    ("no time to end", merged(DEV, {"gateway": {"preStopSeconds": 58}}), "at least 3 seconds longer than gateway.preStopSeconds (58)"),
    ("more at least than at most", merged(DEV, {"gateway": {"hpa": {"minReplicas": 20}}}), "is more than gateway.hpa.maxReplicas (10)"),
    ("a claim of another namespace", merged(DEV, {"pools": {"namespace": "pools"}}), "Set pools.cacheClaim to a claim in pools"),
    ("a provider that knows nobody", merged(DEV, {"oidc": {"issuer": "https://id.b", "clientId": "q"}}), "set oidc.grants"),
    (
        "a provider that sends people nowhere",
        merged(DEV, {"oidc": {"issuer": "https://id.b", "clientId": "q", "grants": [{"value": "a", "project": "b", "role": "admin"}]}}),
        "set oidc.redirectUrl to its address with /sign-in/provider/callback",
    ),
    ("a bucket without a key", merged(DEV, {"backup": {"enabled": True, "bucket": {"name": "b-b"}}}), "set backup.bucket.existingSecret"),
    (
        "backups among what they are of",
        merged(DEV, {"backup": {"enabled": True, "bucket": {"name": "quantry-vault", "existingSecret": "b"}}}),
        "backups need another bucket",
    ),
    ("keda without Prometheus", merged(DEV, {"pools": {"scaler": "keda"}}), "set pools.prometheusUrl"),
]


@pytest.mark.parametrize(("values", "words"), [one[1:] for one in CANNOT_BE], ids=[one[0] for one in CANNOT_BE])
def test_what_does_not_fit_together_is_refused_with_a_sentence(values: Values, words: str) -> None:
    with pytest.raises(helm_python.HelmRenderError) as refused:
        render(values)
    assert words in str(refused.value)


def test_the_workers_key_is_never_the_registrys() -> None:
    rendered = render(merged(EXTERNAL, {"s3": {"reader": {"existingSecret": ""}}}))
    used = {
        pod.component: source["secret"]["name"]
        for pod in rendered.pods()
        for volume in pod.spec["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
        if source["secret"]["items"][0]["path"] == "s3_secret_key"
    }
    assert used == {"api": "s3-work", "deploy": "s3-work", "registry": "s3-all", "worker": "s3-work"}


def test_the_readme_names_every_secret_that_is_looked_for() -> None:
    named = {path for path in leaves(yaml.safe_load(VALUES)) if re.search(r"(existing|hubToken|metricsToken|proxy)Secret$", path)}
    readme, checks = (CHART_DIR / "README.md").read_text(), (CHART_DIR / "templates" / "checks.yaml").read_text()
    assert [path for path in named if f"`{path}`" not in readme] == []
    assert [path for path in named if f'"{path}" .Values.{path}' not in checks] == []


def test_the_matrix_has_every_part_of_the_values() -> None:
    touched = {name for case in CASES.values() for name in case}
    assert set(yaml.safe_load(VALUES)) - touched == {"clusterDomain", "checkSecrets", "trustedNetworks", "webhooks", "outbound"}
