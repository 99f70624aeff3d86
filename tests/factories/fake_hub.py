"""As much of the Hugging Face hub as a download needs: one repository at one commit, gated where a token is set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "owner/tiny"


class FakeHub:
    """Files by path. ``lies`` are files that arrive with other bytes than are listed; large ones are listed by SHA-256. ``elsewhere``
    are files that lie at another address, as the hub's large ones do."""

    def __init__(
        self,
        files: Mapping[str, bytes],
        *,
        token: str | None = None,
        lies: Mapping[str, bytes] | None = None,
        elsewhere: Mapping[str, str] | None = None,
    ) -> None:
        self.files = dict(files)
        self.token = token
        self.lies = dict(lies or {})
        self.elsewhere = dict(elsewhere or {})
        self.authorizations: list[str | None] = []

    def listing(self) -> dict[str, object]:
        """Returns what the hub says of the repository, sizes and digests included."""
        return {
            "id": REPOSITORY,
            "modelId": REPOSITORY,
            "sha": COMMIT,
            "private": False,
            "gated": "manual" if self.token else False,
            "siblings": [self._sibling(path, content) for path, content in self.files.items()],
        }

    def tree(self) -> list[dict[str, object]]:
        """Returns the same files as the hub lists a folder."""
        entries: list[dict[str, object]] = []
        for path, content in self.files.items():
            sibling = self._sibling(path, content)
            entry = {"type": "file", "path": path, "size": len(content), "oid": sibling["blobId"]}
            if "lfs" in sibling:
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            entries.append(entry)
        return entries

    def _sibling(self, path: str, content: bytes) -> dict[str, object]:
        blob_id = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        sibling: dict[str, object] = {"rfilename": path, "size": len(content), "blobId": blob_id}
        if path.endswith(".safetensors"):
            sibling["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return sibling


@contextmanager
def serving(hub: FakeHub) -> Iterator[str]:
    """Serves the hub on a free port of this machine; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.authorizations.append(self.headers.get("authorization"))
            is_known = hub.token is None or self.headers.get("authorization") == f"Bearer {hub.token}"
            file = path.partition(f"/{REPOSITORY}/resolve/{COMMIT}/")[2]
            if file and not is_known:
                self._answer(401, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
            elif file in hub.elsewhere and self.command == "GET":
                self._answer(302, b"", {"Location": hub.elsewhere[file]})
            elif file in hub.files:
                content = hub.lies.get(file, hub.files[file])
                self._answer(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'})
            elif path.startswith(f"/api/models/{REPOSITORY}/tree/"):
                self._answer(200, json.dumps(hub.tree()).encode(), {"Content-Type": "application/json"})
            elif path.startswith(f"/api/models/{REPOSITORY}"):
                self._answer(200, json.dumps(hub.listing()).encode(), {"Content-Type": "application/json"})
            else:
                self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

        def do_HEAD(self) -> None:
            self.do_GET()

        def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
