"""`quantry backup` and `quantry restore`: what they hand to the registry's own command, and when they refuse."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from quantry_local.backups import create, list_backups, restore, verify
from quantry_local.folders import Folders
from quantry_local.installation import Installation
from quantry_local.layout import Layout
from quantry_local.ports import Ports
from quantry_local.secret_values import Secrets
from quantry_local.stack import Stack
from quantry_local.supervisor_rpc import SupervisorRpc


def test_the_command_gets_the_stack_s_servers_and_the_caller_s_words_for_backups(tmp_path: Path) -> None:
    layout = Layout(
        folders=Folders(tmp_path, None, tmp_path / "postgres", tmp_path / "run"),
        installation=Installation(Path("/opt/q"), Path("/opt/q/light"), Path("/opt/q/ml"), Path("/opt/q/engine"), Path("/opt/q/serve.py")),
        ports=Ports(gateway=8321, redis=1001, s3=1002, registry=1003, api=1004, deploy=1005, dashboard=1006),
        secrets=Secrets(redis_password="word", s3_access_key="key", s3_secret_key="secret", admin_key="admin"),
        import_roots=[],
        inherited={"QUANTRY_BACKUP_S3_ENDPOINT": "elsewhere:9000", "QUANTRY_API_KEY": "admin"},
        settings={},
    )
    launch = layout.backup(["create", "/backups"])
    assert launch.command == ["/opt/q/light", "-m", "quantry_registry.backup", "create", "/backups"]
    given = launch.environment
    assert given["QUANTRY_DATABASE_URL"] == layout.postgres.url
    assert given["QUANTRY_S3_SECRET_KEY"] == "secret"
    assert given["QUANTRY_BACKUP_S3_ENDPOINT"] == "elsewhere:9000"
    assert Path(given["QUANTRY_BACKUP_PG_BIN"]) == layout.postgres.binaries
    assert "admin" not in given.values()


def test_a_stack_that_is_down_cannot_be_backed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        create(str(tmp_path / "backups"), tmp_path / "state")
    assert ended.value.exit_code == 1
    assert "`quantry up` first" in capsys.readouterr().err


def test_a_stack_that_is_up_is_not_restored_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Installation, "check", lambda _self: None)
    monkeypatch.setattr(SupervisorRpc, "is_up", lambda _self: True)
    with pytest.raises(typer.Exit):
        restore(str(tmp_path / "backups"), state_dir=tmp_path / "state")
    assert "stop it with `quantry down`, then restore" in capsys.readouterr().err


def test_words_are_handed_on_and_the_status_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def run(_self: Stack, arguments: list[str]) -> int:
        asked.append(arguments)
        return 2

    monkeypatch.setattr(Stack, "restore", run)
    monkeypatch.setattr(Stack, "back_up", run)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(typer.Exit) as ended:
        restore("backups", backup="20260101T000000Z-00000001", replace=True)
    assert ended.value.exit_code == 2
    assert "Restored" not in capsys.readouterr().out
    with pytest.raises(typer.Exit):
        verify("s3://bucket/prefix", backup=None)
    with pytest.raises(typer.Exit):
        create("backups", as_json=True)
    assert asked == [
        ["restore", str(tmp_path / "backups"), "--backup", "20260101T000000Z-00000001", "--replace"],
        ["verify", "s3://bucket/prefix"],
        ["create", str(tmp_path / "backups"), "--json"],
    ]


def test_a_folder_is_looked_at_without_a_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[list[str]] = []

    def record(command: list[str], **_options: Any) -> Any:
        run.append(command)
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr("quantry_local.backups.subprocess.run", record)
    list_backups(str(tmp_path), as_json=True, state_dir=tmp_path / "no-state")
    assert run == [[sys.executable, "-m", "quantry_registry.backup", "list", str(tmp_path), "--json"]]
