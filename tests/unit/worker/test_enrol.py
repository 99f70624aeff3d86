"""Enrolment at the host: what is sent, where the key goes, and what is said when it does not work."""

from __future__ import annotations

import io
import json
from pathlib import Path

import httpx
import pytest

from quantry_core.errors import Unauthorized
from quantry_worker.control import HttpControl
from quantry_worker.enrol import EnrolmentFailed, enrol, main, rotate

HOST = {
    "id": "wkh_1",
    "name": "gpu-1",
    "hostname": "rack-7",
    "key_id": "key_1",
    "key_prefix": "qtr_abcd",
    "enrolled_at": "2026-11-23T12:00:00Z",
}


def answering(*answers: httpx.Response) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    requests: list[httpx.Request] = []
    left = list(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return left.pop(0)

    return httpx.MockTransport(handle), requests


def made(secret: str) -> httpx.Response:
    return httpx.Response(201, json={"host": HOST, "secret": secret})


def test_the_key_goes_to_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    transport, requests = answering(made("qtr_first"), made("qtr_second"))
    key_file = tmp_path / "key"
    enrol("http://quantry.test/", "qte_token", key_file, transport=transport)
    assert (key_file.read_text(), key_file.stat().st_mode & 0o777) == ("qtr_first\n", 0o600)
    assert (requests[0].url.path, json.loads(requests[0].content)["token"]) == ("/api/v1/enrol", "qte_token")
    assert "authorization" not in requests[0].headers
    rotate("http://quantry.test", key_file, transport=transport)
    assert (requests[1].url.path, requests[1].headers["authorization"]) == ("/api/v1/execution/key/rotate", "Bearer qtr_first")
    assert (key_file.read_text(), key_file.stat().st_mode & 0o777) == ("qtr_second\n", 0o600)
    assert list(tmp_path.iterdir()) == [key_file]


def test_a_token_is_not_spent_where_the_key_could_not_be_kept(tmp_path: Path) -> None:
    transport, requests = answering()
    (tmp_path / "key").write_text("qtr_old\n")
    with pytest.raises(EnrolmentFailed, match="is there already"):
        enrol("http://quantry.test", "qte_token", tmp_path / "key", transport=transport)
    with pytest.raises(EnrolmentFailed, match="no folder"):
        enrol("http://quantry.test", "qte_token", tmp_path / "nowhere" / "key", transport=transport)
    with pytest.raises(EnrolmentFailed, match="cannot be read"):
        rotate("http://quantry.test", tmp_path / "none", transport=transport)
    assert requests == []


def test_a_refusal_and_a_stranger_are_told(tmp_path: Path) -> None:
    problem = Unauthorized("this one-time token is unknown").problem().model_dump()
    transport, _ = answering(httpx.Response(401, json=problem), httpx.Response(200, text="hello"))
    with pytest.raises(Unauthorized, match="unknown"):
        enrol("http://quantry.test", "qte_token", tmp_path / "key", transport=transport)
    with pytest.raises(EnrolmentFailed, match="not as Quantry does"):
        enrol("http://quantry.test", "qte_token", tmp_path / "key", transport=transport)
    assert list(tmp_path.iterdir()) == []


def test_the_command_reads_the_token_from_standard_input_and_prints_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    transport, requests = answering(made("qtr_secret"))
    client = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **given: client(**given | {"transport": transport}))
    monkeypatch.setattr("sys.stdin", io.StringIO("qte_token\n"))
    assert main(["--url", "http://quantry.test", "--key-file", str(tmp_path / "key")]) == 0
    told = capsys.readouterr()
    assert f"QUANTRY_WORKER_TOKEN_FILE={tmp_path / 'key'}" in told.out
    assert "qtr_secret" not in told.out + told.err
    assert json.loads(requests[0].content)["token"] == "qte_token"
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["--url", "http://quantry.test", "--key-file", str(tmp_path / "other")]) == 1
    assert "one-time token is needed" in capsys.readouterr().err


def test_a_running_worker_takes_a_rotated_key_from_its_file(tmp_path: Path) -> None:
    sent: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["authorization"])
        is_new = request.headers["authorization"] == "Bearer qtr_new"
        problem = Unauthorized("this API key is unknown or was revoked").problem().model_dump()
        return httpx.Response(204) if is_new else httpx.Response(401, json=problem)

    key_file = tmp_path / "key"
    key_file.write_text("qtr_old\n")
    control = HttpControl("http://control.test", "qtr_old", transport=httpx.MockTransport(handle), token_file=key_file)
    with pytest.raises(Unauthorized):
        control._send("POST", "/x")
    key_file.write_text("qtr_new\n")
    for _ in range(2):
        control._send("POST", "/x")
    assert sent == ["Bearer qtr_old", "Bearer qtr_old", "Bearer qtr_new", "Bearer qtr_new"]
    key_file.unlink()
    control._send("POST", "/x")
    control.close()
