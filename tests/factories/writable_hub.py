"""As much of the Hugging Face hub as a push needs: repositories that are made, git LFS's batch API in one piece and in parts, commits."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_own-token"


@dataclass
class Stored:
    """A repository: what lies at each revision, by path. Large files are kept by digest."""

    is_private: bool = False
    revisions: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    large: set[str] = field(default_factory=set)
    commits: list[list[dict[str, Any]]] = field(default_factory=list)


class WritableHub:
    """Weights go by LFS; ``part_bytes`` asks for them in parts."""

    def __init__(self, *, part_bytes: int | None = None) -> None:
        self.part_bytes = part_bytes
        self.repositories: dict[str, Stored] = {}
        self.blobs: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        """Method, path and Authorization of each."""
        self.lies: set[str] = set()
        """Paths that are listed with another digest than they have."""

    def answer(self, method: str, path: str, token: str | None, body: bytes, base: str) -> tuple[int, Any, Mapping[str, str]]:
        """Returns status, JSON and headers."""
        self.requests.append((method, path, token))
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[0] == "store":
            return self._stored(parts[1:], body)
        if token != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid credentials"}, {}
        told = self._of_large(parts, json.loads(body), base) if method == "POST" and not path.startswith("/api/models/") else None
        if told is not None:
            return told
        if parts[:2] != ["api", "models"] or "/".join(parts[2:4]) not in self.repositories:
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        return self._of_repository(method, self.repositories["/".join(parts[2:4])], parts[4:], body)

    def _of_large(self, parts: list[str], told: dict[str, Any], base: str) -> tuple[int, Any, Mapping[str, str]] | None:
        match parts:
            case ["api", "repos", "create"]:
                return self._create(told)
            case [_, _, "info", "lfs", "objects", "batch"]:
                return 200, {"transfer": "basic", "objects": [self._object(one, base) for one in told["objects"]]}, {}
            case ["verify"]:
                return (200 if len(self.blobs.get(told["oid"], b"")) == told["size"] else 422), {}, {}
            case ["complete"]:
                return self._complete(told)
        return None

    def _of_repository(self, method: str, stored: Stored, parts: list[str], body: bytes) -> tuple[int, Any, Mapping[str, str]]:
        match method, parts:
            case "GET", []:
                return 200, {"private": stored.is_private}, {}
            case "POST", ["branch", name]:
                is_there = name in stored.revisions
                stored.revisions.setdefault(name, dict(stored.revisions["main"]))
                return (409 if is_there else 200), {}, {}
            case "GET", ["tree", revision]:
                return 200, [self._listed(stored, path, content) for path, content in stored.revisions[revision].items()], {}
            case "POST", ["preupload", _]:
                files = json.loads(body)["files"]
                modes = [{"path": one["path"], "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular"} for one in files]
                return 200, {"files": [mode | {"shouldIgnore": False} for mode in modes]}, {}
            case "POST", ["commit", revision]:
                return self._commit(stored, revision, [json.loads(line) for line in body.splitlines()])
        return 404, {"error": "Sorry, we can't find the page you are looking for."}, {}

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any, Mapping[str, str]]:
        repository = f"{asked['organization']}/{asked['name']}"
        if repository in self.repositories:
            return 409, {"error": "You already created this model repo"}, {}
        if asked["organization"] == "others":
            return 403, {"error": 'You don\'t have the rights to create a model under the namespace "others"'}, {}
        self.repositories[repository] = Stored(asked["visibility"] == "private")
        return 200, {"url": repository}, {}

    def _object(self, asked: dict[str, Any], base: str) -> dict[str, Any]:
        oid = asked["oid"]
        if oid in self.blobs:
            return asked
        verify = {"href": f"{base}/verify"}
        if self.part_bytes is None or asked["size"] <= self.part_bytes:
            return asked | {"actions": {"upload": {"href": f"{base}/store/{oid}"}, "verify": verify}}
        num_parts = -(-asked["size"] // self.part_bytes)
        urls = {str(number): f"{base}/store/{oid}/{number}" for number in range(1, num_parts + 1)}
        header = {"chunk_size": str(self.part_bytes), **urls}
        return asked | {"actions": {"upload": {"href": f"{base}/complete", "header": header}, "verify": verify}}

    def _stored(self, parts: list[str], body: bytes) -> tuple[int, Any, Mapping[str, str]]:
        if len(parts) == 2:
            self.parts.setdefault(parts[0], {})[int(parts[1])] = body
        elif hashlib.sha256(body).hexdigest() != parts[0]:
            return 400, {"error": "other bytes than their digest"}, {}
        else:
            self.blobs[parts[0]] = body
        return 200, None, {"ETag": f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'}

    def _complete(self, told: dict[str, Any]) -> tuple[int, Any, Mapping[str, str]]:
        parts = self.parts.pop(told["oid"])
        etags = [f'"{hashlib.md5(parts[part["partNumber"]], usedforsecurity=False).hexdigest()}"' for part in told["parts"]]
        whole = b"".join(parts[number] for number in sorted(parts))
        if etags != [part["etag"] for part in told["parts"]] or hashlib.sha256(whole).hexdigest() != told["oid"]:
            return 400, {"error": "the parts do not make the file"}, {}
        self.blobs[told["oid"]] = whole
        return 200, {}, {}

    def _commit(self, stored: Stored, revision: str, lines: list[dict[str, Any]]) -> tuple[int, Any, Mapping[str, str]]:
        files = dict(stored.revisions[revision])
        for line in lines[1:]:
            value = line["value"]
            match line["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.blobs[value["oid"]]
                    stored.large.add(value["oid"])
                case "deletedFile":
                    del files[value["path"]]
        oid = hashlib.sha1(json.dumps(lines).encode(), usedforsecurity=False).hexdigest()
        stored.commits.append(lines)
        stored.revisions[revision] = stored.revisions[oid] = files
        return 200, {"commitOid": oid, "commitUrl": f"/commit/{oid}"}, {}

    def _listed(self, stored: Stored, path: str, content: bytes) -> dict[str, Any]:
        sha256 = hashlib.sha256(content).hexdigest()
        blob_id = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": "0" * 40 if path in self.lies else blob_id}
        if sha256 in stored.large:
            entry["lfs"] = {"oid": "0" * 64 if path in self.lies else sha256, "size": len(content), "pointerSize": 134}
        return entry


@contextmanager
def serving(hub: WritableHub) -> Iterator[str]:
    """Serves the hub on a free port of this machine; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            base = f"http://127.0.0.1:{server.server_port}"
            path = urlsplit(self.path).path.replace(".git/info", "/info")
            status, told, headers = hub.answer(self.command, path, self.headers.get("authorization"), body, base)
            answer = b"" if told is None else json.dumps(told).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(answer)), "Content-Type": "application/json"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def do_POST(self) -> None:
            self.do_GET()

        def do_PUT(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
