"""The part of a cluster that makes pods of StatefulSets: its pods are processes of this machine that answer like vLLM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from factories.kube_api import Document, KubeApi, now
from factories.servers import free_port

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")


@dataclass
class _Running:
    process: subprocess.Popen[bytes]
    port: int


@dataclass
class Nodes:
    """Runs the pods of one namespace. ``cache_dir`` is the claim that they mount, ``folder`` keeps their logs."""

    api: KubeApi
    namespace: str
    cache_dir: Path
    folder: Path
    engines: dict[str, _Running] = field(default_factory=dict)
    no_room: bool = False
    """No node takes another pod."""

    def __post_init__(self) -> None:
        self.api.sync = self.sync
        self.api.end_pod = self.end_pod
        self.api.pod_log = self.log

    def sync(self) -> None:
        """Makes the pods that are missing, ends those that are too many, and tells how engines are."""
        wanted: set[str] = set()
        for document in [one for key, one in self.api.objects.items() if key[:2] == ("statefulsets", self.namespace)]:
            names = [f"{document['metadata']['name']}-{ordinal}" for ordinal in range(document["spec"]["replicas"])]
            wanted.update(names)
            for name in names:
                if ("pods", self.namespace, name) not in self.api.objects:
                    self._make(name, document)
        for key in [key for key in self.api.objects if key[:2] == ("pods", self.namespace)]:
            if key[2] not in wanted and "deletionTimestamp" not in self.api.objects[key]["metadata"]:
                self.end_pod(key[2], False)
            self._tell(key[2])

    def end_pod(self, name: str, at_once: bool) -> None:
        """SIGTERM, or SIGKILL and the pod is gone."""
        pod = self.api.objects[("pods", self.namespace, name)]
        pod["metadata"]["deletionTimestamp"] = now()
        engine = self.engines.get(name)
        if engine is not None and engine.process.poll() is None:
            os.killpg(engine.process.pid, signal.SIGKILL if at_once else signal.SIGTERM)
            if at_once:
                engine.process.wait()
        self._tell(name)
        if at_once:
            self._forget(name)

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        """Ends every engine."""
        for engine in self.engines.values():
            if engine.process.poll() is None:
                os.killpg(engine.process.pid, signal.SIGKILL)
            engine.process.wait()

    def _make(self, name: str, document: Document) -> None:
        template = document["spec"]["template"]
        metadata = {"name": name, "namespace": self.namespace, "uid": str(uuid.uuid4()), "labels": dict(template["metadata"]["labels"])}
        pod: Document = {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {**metadata, "creationTimestamp": now()},
            "spec": template["spec"],
            "status": {"phase": "Pending", "conditions": [], "containerStatuses": [], "initContainerStatuses": []},
        }
        self.api.objects[("pods", self.namespace, name)] = pod
        if self.no_room:
            message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
            pod["status"]["conditions"] = [condition]
            return
        checked = self._check(name, pod)
        if checked.returncode:
            pod["status"]["initContainerStatuses"] = [container("verify", exit_status=checked.returncode, message=checked.stderr)]
            return
        pod["status"]["initContainerStatuses"] = [container("verify", exit_status=0)]
        self._start(name, pod)

    def _check(self, name: str, pod: Document) -> subprocess.CompletedProcess[str]:
        release = self.api.objects[("configmaps", self.namespace, name.rpartition("-")[0])]["data"]
        mount = self.folder / f"{name}.release"
        mount.mkdir(exist_ok=True)
        for path, content in release.items():
            (mount / path).write_text(content)
        _, *words = pod["spec"]["initContainers"][0]["command"]
        paths = [word.replace("/release/", f"{mount}/").replace("/cache/", f"{self.cache_dir}/") for word in words]
        return subprocess.run([sys.executable, *paths], capture_output=True, text=True, check=False)

    def _start(self, name: str, pod: Document) -> None:
        port = free_port()
        words = [word.replace("$(POD_NAME)", name) for word in pod["spec"]["containers"][0]["args"]]
        words[words.index("--host") + 1], words[words.index("--port") + 1] = "127.0.0.1", str(port)
        words[words.index("--model") + 1] = words[words.index("--model") + 1].replace("/cache/", f"{self.cache_dir}/")
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(FAKE_ENGINE), *words], stdout=log, stderr=log, start_new_session=True, env={"PATH": os.defpath}
            )
        self.engines[name] = _Running(process, port)

    def _tell(self, name: str) -> None:
        pod = self.api.objects.get(("pods", self.namespace, name))
        if pod is None:
            return
        engine = self.engines.get(name)
        if engine is None or engine.process.poll() is None:
            if engine is not None:
                pod["status"]["containerStatuses"] = [container("engine")]
            elif "deletionTimestamp" in pod["metadata"]:
                self._forget(name)
            return
        if "deletionTimestamp" in pod["metadata"]:
            self._forget(name)
            return
        message = "\n".join(self.log(name).splitlines()[-15:])
        pod["status"]["containerStatuses"] = [container("engine", exit_status=engine.process.returncode, message=message)]

    def _forget(self, name: str) -> None:
        engine = self.engines.pop(name, None)
        if engine is not None:
            engine.process.wait()
        self.api.objects.pop(("pods", self.namespace, name), None)


def container(name: str, *, exit_status: int | None = None, message: str = "") -> dict[str, Any]:
    """Returns a container's status: running, or ended so."""
    state: dict[str, Any] = {"running": {"startedAt": now()}}
    if exit_status is not None:
        reason = "Completed" if not exit_status else "Error"
        ended = {"exitCode": exit_status, "reason": reason, "message": message, "startedAt": now(), "finishedAt": now()}
        state = {"terminated": ended}
    common = {"name": name, "image": "image", "imageID": "", "ready": exit_status is None, "restartCount": 0}
    return {**common, "state": state, "lastState": {}}


class PodNetwork(httpx.AsyncBaseTransport):
    """What makes <pod>.<service>.<namespace>.svc the pod, as a cluster's name service does."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._transport = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        pod, service, namespace, _ = request.url.host.split(".")
        engine = self._nodes.engines.get(pod)
        if engine is None or (service, namespace) != (pod.rpartition("-")[0], self._nodes.namespace) or request.url.port != 8000:
            raise httpx.ConnectError(f"no such name: {request.url.host}", request=request)
        request.url = request.url.copy_with(host="127.0.0.1", port=engine.port)
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self._transport.aclose()


def manifest_of(api: KubeApi, namespace: str, name: str) -> list[dict[str, Any]]:
    """Returns the files that a release's ConfigMap names."""
    files: list[dict[str, Any]] = json.loads(api.get("configmaps", namespace, name)["data"]["manifest.json"])["files"]
    return files
