"""With a dead proxy in the environment: what lies on this machine is still reached."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from factories.gateway import refusing_url
from factories.servers import free_port, running
from quantry import Client
from quantry_core.keys import Identity, Role
from quantry_local.demo_steps import Demo, chat, complete
from quantry_local.folders import choose_folders
from quantry_local.parts import answers_ok
from quantry_local.s3 import S3
from quantry_local.stack import Options, Stack

IDENTITY = Identity(key_id="key_1", project_id="prj_1", role=Role.ADMIN)


@pytest.fixture(autouse=True)
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, refusing_url())
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


class Gateway(BaseHTTPRequestHandler):
    """Answers as the gateway does."""

    def do_GET(self) -> None:
        self._answer(IDENTITY.model_dump_json())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/completions":
            self._answer(json.dumps({"choices": [{"text": " was the word"}]}))
        else:
            pieces = [json.dumps({"choices": [{"delta": {"content": text}}]}) for text in ("the", " sea")]
            self._answer("".join(f"data: {piece}\n\n" for piece in [*pieces, "[DONE]"]))

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


@contextmanager
def gateway() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_services_health_is_asked_directly() -> None:
    with gateway() as url:
        assert answers_ok(f"{url}/healthz")()


def test_the_sdk_reaches_a_server_on_this_machine() -> None:
    with gateway() as url:
        for address in (url, url.replace("127.0.0.1", "localhost")):
            with Client(address, "qtr_key") as client:
                assert client.whoami() == IDENTITY


def test_the_demo_speaks_to_its_gateway_directly(tmp_path: Path) -> None:
    def report(_words: str, _share: float | None) -> None:
        pass

    with gateway() as url:
        demo = Demo(Stack(Options(tmp_path)), tmp_path, url=url, api_key="qtr_key")
        assert complete(demo, report).endswith("was the word")
        assert chat(demo, report) == "the sea"


def test_s3_is_asked_directly(tmp_path: Path) -> None:
    folders = choose_folders(tmp_path)
    folders.make()
    server = S3.of(folders, port=free_port(), access_key="an-access-key", secret_key="a-secret-key")
    with running(server, folders.logs / "s3.log"):
        assert server.is_ready()
