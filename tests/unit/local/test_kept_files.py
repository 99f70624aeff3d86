"""Secrets, ports and the client file: written once, closed to others, and what is said when they are damaged."""

from __future__ import annotations

import json
import stat
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest

from quantry.config import ClientFile as SdkClientFile
from quantry_local.errors import StackError
from quantry_local.ports import Ports
from quantry_local.secret_values import FILE_NAME, load_secrets, save_secrets
from quantry_local.state import CLIENT_FILE, PORTS_FILE, ClientFile, load_ports, locked, save_client_file, save_ports

PORTS = Ports(gateway=1, redis=2, s3=3, registry=4, api=5, deploy=6, dashboard=7)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once_and_kept_closed(tmp_path: Path) -> None:
    made = load_secrets(tmp_path)
    assert load_secrets(tmp_path) == made
    assert mode(tmp_path / FILE_NAME) == 0o600
    assert len({made.redis_password, made.s3_access_key, made.s3_secret_key}) == 3
    (tmp_path / "other").mkdir()
    assert load_secrets(tmp_path / "other").redis_password != made.redis_password


def test_keys_are_saved_with_the_rest(tmp_path: Path) -> None:
    made = load_secrets(tmp_path)
    save_secrets(tmp_path, made.model_copy(update={"admin_key": "qtr_x"}))
    assert load_secrets(tmp_path).admin_key == "qtr_x"
    assert load_secrets(tmp_path).s3_secret_key == made.s3_secret_key


def test_a_secret_that_an_older_release_did_not_have_is_made_once(tmp_path: Path) -> None:
    old = load_secrets(tmp_path).model_dump(exclude={"capture_key"})
    (tmp_path / FILE_NAME).write_text(json.dumps(old))
    made = load_secrets(tmp_path)
    assert made.model_dump(exclude={"capture_key"}) == old
    assert load_secrets(tmp_path).capture_key == made.capture_key
    assert len(urlsafe_b64decode(made.capture_key)) == 32, "a Fernet key"


def test_damaged_secrets_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("{")
    with pytest.raises(StackError, match=r"secrets\.json is damaged"):
        load_secrets(tmp_path)
    assert (tmp_path / FILE_NAME).read_text() == "{"


def test_ports_are_remembered_and_a_damaged_file_is_as_none(tmp_path: Path) -> None:
    assert load_ports(tmp_path) is None
    save_ports(tmp_path, PORTS)
    assert load_ports(tmp_path) == PORTS
    (tmp_path / PORTS_FILE).write_text('{"gateway": 1}')
    assert load_ports(tmp_path) is None


def test_the_ports_of_a_stack_without_a_dashboard_are_kept(tmp_path: Path) -> None:
    (tmp_path / PORTS_FILE).write_text('{"gateway": 1, "redis": 2, "s3": 3, "registry": 4, "api": 5, "deploy": 6}')
    assert load_ports(tmp_path) == PORTS.model_copy(update={"dashboard": 0})


def test_the_client_file_is_what_the_sdk_reads(tmp_path: Path) -> None:
    save_client_file(tmp_path, ClientFile(url="http://127.0.0.1:8321", api_key="qtr_x"))
    read = SdkClientFile.model_validate(json.loads((tmp_path / CLIENT_FILE).read_text()))
    assert (read.url, read.api_key) == ("http://127.0.0.1:8321", "qtr_x")
    assert mode(tmp_path / CLIENT_FILE) == 0o600


def test_a_held_lock_names_its_holder_and_is_free_afterwards(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(StackError, match=r"another quantry command \(pid \d+\)"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
