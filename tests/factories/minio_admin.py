"""A server that takes what minio_setup asks of MinIO, and keeps it: buckets, lifecycle rules, policies, users, who has which."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from minio.crypto import decrypt

ADMIN = "/minio/admin/v3/"


class _Body(io.BytesIO):
    """A body, as minio-py's own decryption reads one."""

    def release_conn(self) -> None:
        """Nothing is held."""


@dataclass
class MinioDouble:
    """What the server was told."""

    root_password: str
    endpoint: str = ""
    buckets: dict[str, bool] = field(default_factory=dict)
    """Whether each has object lock."""
    lifecycles: dict[str, str] = field(default_factory=dict)
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    attached: dict[str, str] = field(default_factory=dict)
    signed_by: set[str] = field(default_factory=set)


@contextmanager
def minio_double(root_password: str) -> Iterator[MinioDouble]:
    """Yields a running server. It looks at no signature; that encrypted bodies open with the password is proof enough."""
    double = MinioDouble(root_password)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(200 if self._path()[0].strip("/") in double.buckets else 404)

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            double.signed_by.add(self.headers["Authorization"].partition("Credential=")[2].partition("/")[0])
            path, query = self._path()
            if not path.startswith(ADMIN):
                bucket = path.strip("/")
                if "lifecycle" in query:
                    double.lifecycles[bucket] = body.decode()
                else:
                    double.buckets[bucket] = self.headers.get("x-amz-bucket-object-lock-enabled", "").lower() == "true"
                return self._answer(200)
            match path.removeprefix(ADMIN):
                case "add-canned-policy":
                    double.policies[query["name"]] = json.loads(body)
                case "add-user":
                    # Once for each: opening what was encrypted costs a quarter of a second, on purpose.
                    if query["accessKey"] not in double.users:
                        opened: Any = decrypt(_Body(body), double.root_password)  # type: ignore[arg-type]
                        double.users[query["accessKey"]] = json.loads(opened)["secretKey"]
                case "set-user-or-group-policy":
                    if query["policyName"] not in double.policies or query["userOrGroup"] not in double.users:
                        return self._answer(404, b'{"Code": "XMinioAdminNoSuchUser", "Message": "there is no such user"}')
                    double.attached[query["userOrGroup"]] = query["policyName"]
                case _:
                    return self._answer(501)
            return self._answer(200)

        def log_message(self, *_arguments: object) -> None:
            """Says nothing."""

        def _path(self) -> tuple[str, dict[str, str]]:
            parts = urlsplit(self.path)
            return parts.path, {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}

        def _answer(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        double.endpoint = f"127.0.0.1:{server.server_address[1]}"
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        serving.start()
        try:
            yield double
        finally:
            server.shutdown()
            serving.join()
