"""``client.vault`` and ``quantry vault``: what is asked for, waited for, and told."""

from __future__ import annotations

import json

import pytest

from factories.client import NOW, FakeServer, answer
from quantry.cli.main import main
from quantry_core.vault import DamagedBlob, VaultRun, VaultRunKind, VaultRunStatus, VerifyReport

RUN_ID = "vrn_" + "1" * 32
RUN = f"/api/v1/vault/runs/{RUN_ID}"
KEPT_AT = f"damaged/{'ab' * 32}/1"
DAMAGED = DamagedBlob(
    sha256="ab" * 32, size_bytes=7, found="7 bytes", kept_at=KEPT_AT, versions=["bard@1 (master)"], artifacts=["job_1/raw.jsonl"]
)


def run(status: VaultRunStatus, report: VerifyReport | None = None) -> VaultRun:
    has_ended = status in {VaultRunStatus.SUCCEEDED, VaultRunStatus.FAILED}
    return VaultRun(
        id=RUN_ID,
        project_id="prj_1",
        kind=VaultRunKind.VERIFY,
        status=status,
        request={},
        report=(report or VerifyReport()).model_dump(mode="json"),
        created_at=NOW,
        finished_at=NOW if has_ended else None,
    )


def bodies(server: FakeServer) -> list[dict[str, object]]:
    return [json.loads(request.content) for request in server.requests if request.method == "POST"]


def test_a_verification_may_be_of_one_version_or_of_what_is_stale(server: FakeServer) -> None:
    server.on("POST", "/api/v1/vault/verify", answer(run(VaultRunStatus.QUEUED), 202))
    client = server.client()
    client.vault.verify("bard@1")
    client.vault.verify(older_than_s=60)
    assert bodies(server) == [{"version": "bard@1", "older_than_s": None}, {"version": None, "older_than_s": 60}]


def test_a_collection_only_counts_unless_it_is_told_to_remove(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", "/api/v1/vault/collect", answer(run(VaultRunStatus.QUEUED), 202))
    assert main(["vault", "collect"]) == 0
    assert main(["vault", "collect", "--remove", "--age-s", "7200"]) == 0
    assert bodies(server) == [{"dry_run": True, "age_s": None}, {"dry_run": False, "age_s": 7200}]
    assert RUN_ID in capsys.readouterr().out


def test_a_run_is_waited_for() -> None:
    server = FakeServer()
    server.on("GET", RUN, *(answer(run(status)) for status in (VaultRunStatus.QUEUED, VaultRunStatus.RUNNING, VaultRunStatus.SUCCEEDED)))
    assert server.client().vault.wait(RUN_ID, poll_s=3).status is VaultRunStatus.SUCCEEDED
    assert server.slept_s == [3, 3]


def test_damage_is_told_with_an_exit_code(server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    server.on("POST", "/api/v1/vault/verify", answer(run(VaultRunStatus.QUEUED), 202))
    server.on("GET", RUN, answer(run(VaultRunStatus.FAILED, VerifyReport(num_blobs=9, num_bytes=7, num_damaged=8, damaged=[DAMAGED]))))
    assert main(["vault", "verify", "--wait"]) == 1
    out = capsys.readouterr().out
    for word in (DAMAGED.sha256, "7 bytes", KEPT_AT, "bard@1 (master)", "job_1/raw.jsonl"):
        assert word in out
    assert "damaged  8" in out, "those of others are counted"


def test_an_unknown_holder_of_a_key_is_refused(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vault", "policies", "worker", "--vault", "mine"]) == 0
    assert "arn:aws:s3:::mine/sha256/*" in capsys.readouterr().out
    assert main(["vault", "policies", "nobody"]) == 2
    assert server.requests == []
