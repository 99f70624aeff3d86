"""The first keys in files, for containers of one host: each once, each in its own folder, none lost where it breaks off."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantry_api import bootstrap_files
from quantry_api.bootstrap import FIRST_KEYS
from quantry_api.bootstrap_files import KeyFiles, fill, main
from quantry_core.keys import hash_key
from quantry_store.database import Database

FILES = {"admin": "admin/admin_key", "worker": "worker/worker_token", "gateway": "gateway/gateway_token"}


async def valid(database: Database, secret: str) -> bool:
    async with database.begin() as uow:
        return await uow.keys.identify(hash_key(secret)) is not None


async def test_keys_are_made_once_shown_once_and_made_anew_where_they_were_lost(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    database = Database(database_url)
    files, folder = KeyFiles(tmp_path / "keys"), tmp_path / "keys"
    assert await fill(database, files) == [first.name for first in FIRST_KEYS]
    secrets = {name: (folder / path).read_text().strip() for name, path in FILES.items()}
    assert all([await valid(database, secret) for secret in secrets.values()])
    assert {path.stat().st_mode & 0o077 for path in folder.rglob("*")} == {0}
    assert await fill(database, files) == []

    # A person takes the admin key: it is gone here, and is not made anew.
    assert main(["--folder", str(folder), "--show-admin"]) == 0
    assert capsys.readouterr().out == f"{secrets['admin']}\n"
    assert main(["--folder", str(folder), "--show-admin"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "was shown before" in shown.err
    assert not (folder / FILES["admin"]).exists()
    assert await fill(database, files) == []
    assert await valid(database, secrets["admin"])

    # A restored database has keys of which no file here holds the secret.
    (folder / FILES["worker"]).unlink()
    assert await fill(database, files) == ["worker"]
    assert not await valid(database, secrets["worker"])
    assert await valid(database, (folder / FILES["worker"]).read_text().strip())

    # Broken off between the commit and the file.
    keep = KeyFiles.keep
    monkeypatch.setattr(bootstrap_files.KeyFiles, "keep", lambda *_arguments: (_ for _ in ()).throw(OSError("the disk is full")))
    with pytest.raises(OSError, match="the disk is full"):
        await fill(database, files, frozenset({"admin"}))
    monkeypatch.setattr(bootstrap_files.KeyFiles, "keep", keep)
    assert await fill(database, files, frozenset({"admin"})) == ["admin"]
    assert await valid(database, (folder / FILES["admin"]).read_text().strip())
    await database.close()
