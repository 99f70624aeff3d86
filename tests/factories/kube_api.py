"""A small API server: keeps objects as Kubernetes does, checks them against its schemas, applies on the server's side.

It knows namespaced objects, their scale and pods' logs; no watches, no admission. What a StatefulSet asks for is made of them by
``factories.kube_nodes``.
"""

from __future__ import annotations

import copy
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate

SCHEMA_VERSION = "1.37"
PATH = re.compile(
    r"^/(?:api|apis)/(?P<group>.+)/namespaces/(?P<namespace>[^/]+)/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?$"
)

Document = dict[str, Any]
Key = tuple[str, str, str]
"""Plural, namespace and name."""


class Refused(Exception):
    """What a request is answered with."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class KubeApi:
    """The objects of one cluster, by plural, namespace and name."""

    has_keda: bool = True
    objects: dict[Key, Document] = field(default_factory=dict)
    applied: dict[tuple[Key, str], Document] = field(default_factory=dict)
    """What each manager applied last."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    is_away: bool = False
    sync: Callable[[], None] = lambda: None
    """Called before each request is answered: what controllers and nodes do meanwhile."""
    end_pod: Callable[[str, bool], None] = lambda _name, _at_once: None
    pod_log: Callable[[str], str] = lambda _name: ""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def get(self, plural: str, namespace: str, name: str) -> Document:
        found = self.objects.get((plural, namespace, name))
        if found is None:
            raise Refused(404, f'{plural} "{name}" not found')
        return found

    def listed(self, plural: str, namespace: str, labels: dict[str, str]) -> list[Document]:
        found = [document for key, document in self.objects.items() if key[:2] == (plural, namespace)]
        return [one for one in found if labels.items() <= one["metadata"].get("labels", {}).items()]

    def apply(self, key: Key, document: Document, manager: str, *, force: bool) -> Document:
        """Server-side apply: what this manager applied before and leaves out now goes, what others set stays."""
        validate(document)
        current = self.objects.get(key)
        before = self.applied.get((key, manager), {})
        if current is None:
            merged = self.create(key, document)
        else:
            others = [applied for (one, name), applied in self.applied.items() if one == key and name != manager]
            conflicts = [path for path in leaves(document) if any(differs(other, document, path) for other in others)]
            if conflicts and not force:
                raise Refused(409, f"conflict with another manager: {conflicts}")
            merged = without(current, [path for path in leaves(before) if path not in leaves(document)])
            merged = merge(merged, document)
        self.applied[(key, manager)] = copy.deepcopy(document)
        self.objects[key] = self.touched(merged)
        return self.objects[key]

    def create(self, key: Key, document: Document) -> Document:
        """Returns a new object with what the server fills in."""
        made = copy.deepcopy(document)
        made["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "name": key[2], "namespace": key[1]}
        if key[0] == "statefulsets":
            made["spec"].setdefault("replicas", 1)
        self.objects[key] = self.touched(made)
        return made

    def patch(self, key: Key, changes: Document) -> Document:
        """RFC 7386: null removes."""
        merged: Document = merge_patch(self.get(*key), changes)
        self.objects[key] = self.touched(merged)
        return merged

    def delete(self, key: Key, *, at_once: bool) -> None:
        self.get(*key)
        if key[0] == "pods":
            self.end_pod(key[2], at_once)
            return
        del self.objects[key]
        self.applied = {one: applied for one, applied in self.applied.items() if one[0] != key}

    def touched(self, document: Document) -> Document:
        version = int(document["metadata"].get("resourceVersion", "0"))
        document["metadata"]["resourceVersion"] = str(version + 1)
        return document


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def validate(document: Document) -> None:
    """Raises Refused where an object is not what the schema of its kind says. Kinds of others' have none here."""
    if "keda.sh" in document["apiVersion"]:
        return
    try:
        kubernetes_validate.validate(document, SCHEMA_VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        raise Refused(422, f"{document['kind']}: {error.message} at {list(error.path)}") from error


def leaves(document: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Returns the paths of everything that is no object; a list counts as one value."""
    if not isinstance(document, dict) or not document:
        return [path]
    return [leaf for key, value in document.items() for leaf in leaves(value, (*path, key))]


def at(document: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(document, dict) or key not in document:
            return None
        document = document[key]
    return document


def differs(other: Document, document: Document, path: tuple[str, ...]) -> bool:
    return path in leaves(other) and at(other, path) != at(document, path)


def without(document: Document, paths: list[tuple[str, ...]]) -> Document:
    cleaned = copy.deepcopy(document)
    for path in paths:
        parent = at(cleaned, path[:-1])
        if isinstance(parent, dict):
            parent.pop(path[-1], None)
    return cleaned


def merge(current: Any, document: Any) -> Any:
    if not isinstance(current, dict) or not isinstance(document, dict):
        return copy.deepcopy(document)
    return {**current, **{key: merge(current.get(key), value) for key, value in document.items()}}


def merge_patch(current: Any, changes: Any) -> Any:
    if not isinstance(changes, dict):
        return changes
    kept = dict(current) if isinstance(current, dict) else {}
    for key, value in changes.items():
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = merge_patch(kept.get(key), value)
    return kept


@contextmanager
def serving(api: KubeApi) -> Iterator[str]:
    """Serves the API until the block ends; gives its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(api))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(api: KubeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with api.lock:
                api.requests.append((self.command, self.path))
                try:
                    if api.is_away:
                        raise Refused(503, "the server is away")
                    api.sync()
                    answer = _answer(api, self.command, self.path, self.headers.get("Content-Type", ""), body)
                    api.sync()
                    status = 200
                except Refused as refused:
                    status = refused.code
                    answer = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "message": str(refused)}
                sent = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def do_GET(self) -> None:
            self.respond()

        def do_PATCH(self) -> None:
            self.respond()

        def do_DELETE(self) -> None:
            self.respond()

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    return Handler


def _answer(api: KubeApi, method: str, path: str, content_type: str, body: bytes) -> Document | str:  # noqa: PLR0911  one for each kind of request
    parts = urlsplit(path)
    found, query = PATH.match(parts.path), {key: values[0] for key, values in parse_qs(parts.query).items()}
    if found is None or (found["plural"] == "scaledobjects" and not api.has_keda):
        raise Refused(404, "the server could not find the requested resource")
    plural, namespace, name, sub = found["plural"], found["namespace"], found["name"], found["sub"]
    key = (plural, namespace, name)
    document = json.loads(body) if body else {}
    match method, sub:
        case "GET", None if name is None:
            labels = dict(pair.split("=", 1) for pair in query.get("labelSelector", "").split(",") if pair)
            return {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": api.listed(plural, namespace, labels)}
        case "GET", None:
            return api.get(*key)
        case "GET", "log":
            lines = api.pod_log(name).splitlines()[-int(query["tailLines"]) :]
            return "".join(f"{line}\n" for line in lines)
        case "PATCH", None if "apply-patch" in content_type:
            return api.apply(key, document, query["fieldManager"], force=query.get("force") == "true")
        case "PATCH", None if "merge-patch" in content_type:
            return api.patch(key, document)
        case "PATCH", "scale" if "merge-patch" in content_type:
            scaled = api.patch(key, {"spec": {"replicas": document["spec"]["replicas"]}})
            return {
                "kind": "Scale",
                "apiVersion": "autoscaling/v1",
                "metadata": {"name": name},
                "spec": {"replicas": scaled["spec"]["replicas"]},
            }
        case "DELETE", None:
            api.delete(key, at_once=query.get("gracePeriodSeconds") == "0")
            return {"kind": "Status", "apiVersion": "v1", "status": "Success"}
    raise Refused(405, f"{method} {path} ({content_type}) is not known here")
