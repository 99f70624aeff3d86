"""Renders the chart and reads what comes out. Nothing here asks a cluster, and each rendering is made once."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART_DIR = Path(__file__).parents[3] / "helm" / "quantry"
RELEASE, NAMESPACE = "prod", "ai"
FULLNAME = "prod-quantry"

Document = dict[str, Any]
Values = Mapping[str, Any]

POD_OWNERS = {"Deployment", "StatefulSet", "Job", "CronJob", "ScaledJob", "Pod"}


class UniqueKeys(yaml.CSafeLoader):
    """Reads YAML as Kubernetes does where it is strict: a key that is there twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise yaml.constructor.ConstructorError(None, None, f"keys that are there twice: {twice}", node.start_mark)
        return super().construct_mapping(node, deep=deep)


@dataclass(frozen=True)
class Pod:
    """A pod that some object makes."""

    owner: Document
    metadata: Document
    spec: Document

    @property
    def name(self) -> str:
        """Kind and name of what makes it."""
        return f"{self.owner['kind']}/{self.owner['metadata']['name']}"

    @property
    def namespace(self) -> str:
        namespace: str = self.owner["metadata"]["namespace"]
        return namespace

    @property
    def labels(self) -> dict[str, str]:
        labels: dict[str, str] = self.metadata["labels"]
        return labels

    @property
    def component(self) -> str:
        return self.labels["app.kubernetes.io/component"]

    @property
    def containers(self) -> list[Document]:
        """Init containers first."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        """Ports that its containers declare, by name."""
        return {port["name"]: port["containerPort"] for one in self.spec["containers"] for port in one.get("ports", [])}

    def environment(self, container: str) -> dict[str, str]:
        """Returns the plain variables of a container."""
        found = next(one for one in self.containers if one["name"] == container)
        return {one["name"]: one["value"] for one in found.get("env", []) if "value" in one}


@dataclass(frozen=True)
class Rendered:
    """What one set of values makes."""

    documents: list[Document]
    notes: str

    def of_kind(self, *kinds: str) -> list[Document]:
        """Returns the objects of these kinds."""
        return [one for one in self.documents if one["kind"] in kinds]

    def one(self, kind: str, name: str) -> Document:
        """Returns an object by its kind and what follows the release's name in its own; fails unless there is exactly one."""
        found = [one for one in self.of_kind(kind) if one["metadata"]["name"] == f"{FULLNAME}-{name}"]
        assert len(found) == 1, f"{kind} {name}: {[one['metadata']['name'] for one in self.of_kind(kind)]}"
        return found[0]

    def pods(self) -> list[Pod]:
        """Returns every pod that an object here makes, those of hooks and tests included."""
        return [_pod(one) for one in self.documents if one["kind"] in POD_OWNERS]

    def pod(self, component: str, container: str | None = None) -> Pod:
        """Returns the one pod of a component."""
        found = [pod for pod in self.pods() if pod.component == component]
        assert len(found) == 1, f"{component}: {[pod.name for pod in found]}"
        return found[0]

    def worker(self, name: str) -> Pod:
        """Returns the pod of the workers of that name."""
        return next(pod for pod in self.pods() if pod.labels.get("quantry.dev/workers") == name)


def _pod(owner: Document) -> Pod:
    match owner["kind"]:
        case "Pod":
            return Pod(owner, owner["metadata"], owner["spec"])
        case "ScaledJob":
            template = owner["spec"]["jobTargetRef"]["template"]
        case "CronJob":
            template = owner["spec"]["jobTemplate"]["spec"]["template"]
        case _:
            template = owner["spec"]["template"]
    return Pod(owner, template["metadata"], template["spec"])


@functools.cache
def chart(directory: Path = CHART_DIR) -> helm_python.Chart:
    """Returns the chart in a folder, loaded once."""
    return helm_python.Chart.load(directory)


def render(values: Values, directory: Path = CHART_DIR, **options: Any) -> Rendered:
    """Returns what the chart makes of these values over its own; raises HelmError as an install does."""
    return _render(json.dumps(values), directory, json.dumps(options))


@functools.cache
def _render(values: str, directory: Path, options: str) -> Rendered:
    chosen = {"name": RELEASE, "namespace": NAMESPACE, **json.loads(options)}
    texts = chart(directory).render(json.loads(values), **chosen)
    notes = next(text for path, text in texts.items() if path.endswith("NOTES.txt"))
    documents = [one for path, text in sorted(texts.items()) if not path.endswith("NOTES.txt") for one in _documents(path, text)]
    return Rendered(documents, notes)


@functools.cache
def _documents(path: str, text: str) -> tuple[Document, ...]:
    """Returns the objects in a template's text, read once: most templates say the same in most cases. Nobody changes them."""
    try:
        return tuple(one for one in yaml.load_all(text, Loader=UniqueKeys) if one)
    except yaml.YAMLError as error:
        raise AssertionError(f"{path} is no YAML: {error}\n{text}") from error


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Tells whether labels have all that a selector asks for."""
    return all(labels.get(key) == value for key, value in selector.items())


def merged(*parts: Values) -> dict[str, Any]:
    """Returns values over values, as Helm puts them together."""
    result: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            before = result.get(key)
            result[key] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return result


def words(problems: Sequence[str]) -> str:
    """Returns problems one below the other, for an assertion's message."""
    return "\n".join(problems)
