"""Commands about keys that expire and rotate, projects, worker hosts and the audit log."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from factories.client import NOW, FakeServer, answer, page
from factories.command import check_both_ways, run
from quantry_core.audit import AuditAnchor, AuditBreak, AuditEntry, AuditVerification
from quantry_core.keys import ApiKey, NewKey, Role
from quantry_core.projects import NewProject, Project, ProjectLimits
from quantry_core.worker_hosts import Enrolment, NewEnrolment, WorkerHost

KEY = ApiKey(
    id="key_1",
    project_id="prj_1",
    name="ci",
    role=Role.VIEWER,
    prefix="qtr_abcd",
    created_at=NOW,
    expires_at=NOW + timedelta(days=30),
    rotated_at=NOW,
    old_secret_until=NOW + timedelta(hours=1),
    last_used_at=NOW,
)
MADE = NewKey(key=KEY, secret="qtr_abcd-once")
PROJECT = Project(
    id="prj_2",
    name="search",
    created_at=NOW,
    archived_at=NOW,
    limits=ProjectLimits(share=2, max_running=8),
    num_waiting=1,
    num_queued=2,
    num_running=3,
)
HOST = WorkerHost(id="wkh_1", name="gpu-1", hostname="rack-7", key_id="key_9", key_prefix="qtr_host", enrolled_at=NOW, num_workers_alive=2)
ENROLMENT = Enrolment(id="enr_1", name="gpu-1", created_at=NOW, expires_at=NOW + timedelta(hours=1), used_at=NOW, host_id="wkh_1")
ENTRY = AuditEntry(
    id="aud_1",
    project_id="prj_1",
    seq=7,
    key_id="key_1",
    role=Role.ADMIN,
    action="key.create",
    noun="key",
    noun_id="key_2",
    data={"name": "ci"},
    created_at=NOW,
    previous_hash="0" * 64,
    hash="a" * 64,
)
WHOLE = AuditVerification(
    project_id="prj_1",
    is_whole=True,
    num_entries=5,
    first_seq=3,
    last_seq=7,
    last_hash="a" * 64,
    anchor=AuditAnchor(seq=2, hash="b" * 64, created_at=NOW),
)
BROKEN = WHOLE.model_copy(update={"is_whole": False, "broken_at": AuditBreak(seq=4, entry_id="aud_4", why="its content is another")})


@pytest.mark.parametrize(
    ("method", "path", "document", "line", "words"),
    [
        ("GET", "/api/v1/keys/key_1", KEY, "keys show key_1", ["ci", "qtr_abcd", "old secret works until", "holds until"]),
        ("POST", "/api/v1/keys/key_1/rotate", MADE, "keys rotate key_1 --overlap 1h", ["qtr_abcd-once"]),
        ("POST", "/api/v1/keys/key_1/rotate", MADE, "keys rotate key_1", ["qtr_abcd-once"]),
        ("POST", "/api/v1/keys", MADE, "keys create --name ci --expires 2030-01-01T00:00Z", ["qtr_abcd-once"]),
        ("GET", "/api/v1/projects", None, "projects list", ["search", "archived", "prj_2"]),
        ("GET", "/api/v1/projects/search", PROJECT, "projects show search", ["search", "3 of at most 8", "archived"]),
        ("PATCH", "/api/v1/projects/search", PROJECT, "projects archive search", ["search", "archived"]),
        ("PATCH", "/api/v1/projects/search", PROJECT, "projects unarchive search", ["search"]),
        ("PATCH", "/api/v1/projects/search", PROJECT, "projects change search --share 2 --max-queued 0", ["search"]),
        ("POST", "/api/v1/projects", NewProject(project=PROJECT, admin_key=MADE), "projects create search --share 2", ["qtr_abcd-once"]),
        ("GET", "/api/v1/worker-hosts", None, "workers hosts list", ["gpu-1", "rack-7", "qtr_host"]),
        ("GET", "/api/v1/worker-enrolments", None, "workers hosts invitations", ["gpu-1", "used by wkh_1"]),
        (
            "POST",
            "/api/v1/worker-enrolments",
            NewEnrolment(enrolment=ENROLMENT, token="qte_once"),
            "workers hosts invite gpu-1 --good-for 2h",
            ["qte_once"],
        ),
        (
            "POST",
            "/api/v1/worker-enrolments",
            NewEnrolment(enrolment=ENROLMENT, token="qte_once"),
            "workers hosts invite gpu-1",
            ["qte_once"],
        ),
        ("DELETE", "/api/v1/worker-enrolments/enr_1", None, "workers hosts withdraw enr_1", ["enr_1"]),
        ("DELETE", "/api/v1/worker-hosts/wkh_1", None, "workers hosts revoke wkh_1", ["wkh_1"]),
        ("GET", "/api/v1/audit", None, "audit list", ["7", "key.create", "key_2"]),
        ("GET", "/api/v1/audit/verify", WHOLE, "audit verify", ["5", "2", "7:" + "a" * 64]),
    ],
)
def test_every_command_speaks_to_people_and_to_programs(
    *, server: FakeServer, capsys: pytest.CaptureFixture[str], method: str, path: str, document: Any, line: str, words: list[str]
) -> None:
    listed: dict[str, Any] = {"projects": PROJECT, "worker-enrolments": ENROLMENT, "worker-hosts": HOST, "audit": ENTRY}
    if method == "DELETE":
        server.on(method, path, lambda _request: httpx.Response(204))
    else:
        server.on(method, path, page(listed[path.rpartition("/")[2]]) if document is None else answer(document))
    check_both_ways(capsys, line, words)


def test_what_is_asked_reaches_the_server(server: FakeServer) -> None:
    server.on("POST", "/api/v1/keys/key_1/rotate", answer(MADE))
    server.on("PATCH", "/api/v1/projects/search", answer(PROJECT))
    server.on("GET", "/api/v1/audit", page(ENTRY))
    assert run("keys", "rotate", "key_1", "--overlap", "1h", "--expires", "2030-01-01T00:00Z") == 0
    assert run("projects", "change", "search", "--max-queued", "0", "--share", "3") == 0
    assert run("projects", "unarchive", "search") == 0
    assert run("audit", "list", "--who", "key_1", "--action", "key.*", "--of", "key_2", "--since", "2026-01-01T00:00Z") == 0
    rotation, change, opened = (json.loads(request.content) for request in server.requests[:3])
    assert (rotation["overlap_s"], datetime.fromisoformat(rotation["expires_at"]).year >= 2029) == (3600, True)
    assert change == {"share": 3.0, "max_queued": None}
    assert opened == {"is_archived": False}
    query = dict(server.requests[3].url.params)
    assert (query["key_id"], query["action"], query["noun_id"], "noun" in query) == ("key_1", "key.*", "key_2", False)


@pytest.mark.parametrize(
    "line",
    [
        "keys rotate key_1 --overlap 8d",
        "keys rotate key_1 --overlap soon",
        "keys create --name ci --expires soon",
        "projects change search",
        "projects create A/B",
        "workers hosts invite gpu-1 --good-for 30d",
        "audit verify --expect 7",
        "audit verify --expect 0:" + "a" * 64,
        "audit list --since soon",
    ],
)
def test_what_is_not_right_reaches_no_server(server: FakeServer, capsys: pytest.CaptureFixture[str], line: str) -> None:
    assert run(*line.split()) == 2
    assert server.requests == []
    assert "Traceback" not in capsys.readouterr().err


def test_a_broken_log_is_told_and_exits_with_1(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", "/api/v1/audit/verify", answer(WHOLE), answer(BROKEN))
    assert run("audit", "verify", "--expect", "3:" + "a" * 64, "--expect", "4:" + "b" * 64) == 1
    assert "at entry 4 (aud_4): its content is another" in capsys.readouterr().err
    assert [dict(request.url.params) for request in server.requests] == [
        {"seq": "3", "hash": "a" * 64},
        {"seq": "4", "hash": "b" * 64},
    ]
