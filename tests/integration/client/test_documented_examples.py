"""Every Python and shell example of docs/sdk.md and docs/cli.md, run against a real api and a real registry."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from pydantic import SecretStr

from factories.command import build_once
from factories.registry import Registry, served
from factories.store import UPLOADED
from quantry import Client
from quantry.cli import main as command_line
from quantry.cli import plugins
from quantry.cli.main import main
from quantry_api.app import build_app
from quantry_api.settings import ApiSettings
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_core.jobs import BUILT_IN_QUALITY_CORPUS, ImportSpec
from quantry_core.keys import Role, hash_key
from quantry_core.versions import ManifestFile
from quantry_gateway.paths import Plane, plane_of
from quantry_local.postgres import Postgres
from quantry_local.redis import Redis
from quantry_local.s3 import S3
from quantry_registry.app import make_app
from quantry_registry.parts import make_parts
from quantry_registry.settings import RegistrySettings
from quantry_store.settings import StoreSettings

DOCS = Path(__file__).resolve().parents[3] / "docs"
NEVER_S = 3600.0
FENCE = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(page: str, language: str) -> list[str]:
    """Returns a page's examples in one language."""
    return [text for kind, text in FENCE.findall((DOCS / page).read_text()) if kind == language]


@dataclass(frozen=True)
class Place:
    """A server with a model, a dataset and some jobs, and a folder to work in."""

    url: str
    key: str
    folder: Path
    job_ids: list[str]


@pytest.fixture(scope="module")
def module_database_url(postgres: Postgres, template_database: str) -> Iterator[str]:
    name = f"examples_{os.getpid()}"
    administer = f"host={postgres.socket_dir} user=quantry dbname=postgres"
    with psycopg.connect(administer, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY FILE_COPY")
    yield postgres.database_url(name)
    with psycopg.connect(administer, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(
    module_database_url: str, redis_server: Redis, s3_server: S3, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Place]:
    """Both services at one address, as behind the gateway."""
    folder = tmp_path_factory.mktemp("examples")
    settings = ApiSettings(broker_url=SecretStr(redis_server.url), sweep_interval_s=NEVER_S, schedule_interval_s=NEVER_S)
    blobs = BlobSettings(
        endpoint=s3_server.endpoint,
        access_key=s3_server.access_key,
        secret_key=SecretStr(s3_server.secret_key),
        vault_bucket=f"examples-{os.getpid()}-vault",
        staging_bucket=f"examples-{os.getpid()}-staging",
    )
    api = build_app(settings, StoreSettings(database_url=module_database_url), blobs)
    store = MinioStore(blobs)
    parts = make_parts(RegistrySettings(registry_port=1), blobs, store)
    registry = make_app(api.state.database, parts, built_ins=())
    await parts.ensure_buckets()

    async def both(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            is_registrys = plane_of(scope["raw_path"]) is Plane.REGISTRY
            await (registry if is_registrys else api)(scope, receive, send)

    async with api.router.lifespan_context(api), served(both) as url:  # type: ignore[arg-type]  # any ASGI app is served
        secrets = await _prepare(api.state.database, parts, url, folder)
        client = Client(url, secrets[Role.ADMIN])
        spec = ImportSpec(model="other", source="hf:owner/name")
        job_ids = [(await asyncio.to_thread(client.jobs.submit, spec)).id for _ in range(2)]
        await asyncio.to_thread(client.jobs.cancel, job_ids[1])
        client.close()
        (folder / "key.txt").write_text(secrets[Role.ADMIN])
        (folder / "notes.txt").write_text("To be quantized, or not to be.\n" * 40)
        yield Place(url, secrets[Role.ADMIN], folder, job_ids)
    store.close()


async def _prepare(database: Any, parts: Any, url: str, folder: Path) -> dict[Role, str]:
    """Makes keys, the master bard@1 and the dataset plays; returns the secrets of the keys."""
    secrets, identities = {}, {}
    async with database.begin() as uow:
        project_id = await uow.projects.get_or_create("default")
        await uow.projects.make_platform(project_id)
        for role in (Role.OPERATOR, Role.ADMIN, Role.WORKER):
            _, secrets[role] = await uow.keys.create(project_id, role, role)
            known = await uow.keys.identify(hash_key(secrets[role]))
            identities[role] = known.identity
        for name in ("plays", BUILT_IN_QUALITY_CORPUS):
            file = ManifestFile(path="text.txt", size_bytes=5, sha256=hash_key(name))
            await uow.datasets.add(project_id, name, file, UPLOADED)
    await Registry(url, database, parts, identities, secrets).import_master(folder)
    return secrets


@pytest.fixture
def at_home(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The environment of somebody who works in the folder."""
    monkeypatch.chdir(place.folder)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [])
    monkeypatch.setattr(command_line, "build_app", build_once)
    for name, value in {
        "QUANTRY_URL": place.url,
        "QUANTRY_API_KEY": place.key,
        "QUANTRY_STATE_DIR": str(place.folder / ".quantry"),
        "XDG_CONFIG_HOME": str(place.folder / "config"),
        "JOB": place.job_ids[0],
        "CANCELLED": place.job_ids[1],
        "COLUMNS": "120",
    }.items():
        monkeypatch.setenv(name, value)
    return place


def test_there_are_examples_to_run() -> None:
    assert len(examples("sdk.md", "python")) >= 7
    assert len(examples("cli.md", "sh")) >= 5
    for page in ("sdk.md", "cli.md"):
        opened = re.findall(r"^```(\w*)$", (DOCS / page).read_text(), re.MULTILINE)
        assert {one for one in opened if one} <= {"python", "sh"}, "a fence of another kind is run by nobody"


@pytest.mark.asyncio(loop_scope="module")
async def test_the_python_examples(at_home: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other in one namespace, as they are read."""
    namespace: dict[str, Any] = {"__name__": "examples"}
    for number, text in enumerate(examples("sdk.md", "python")):
        code = compile(text, f"docs/sdk.md, example {number + 1}", "exec")
        await asyncio.to_thread(exec, code, namespace)
    for name in ("patient", "once"):
        namespace[name].close()
    assert "unknown-version" in capsys.readouterr().out


@pytest.mark.asyncio(loop_scope="module")
async def test_the_shell_examples(at_home: Place, capsys: pytest.CaptureFixture[str]) -> None:
    for text in examples("cli.md", "sh"):
        for line in text.splitlines():
            command, _, comment = line.partition("#")
            words = shlex.split(os.path.expandvars(command))
            assert words[0] == "quantry"
            told = re.search(r"exit (\d)", comment)
            expected = {int(told[1])} if told else {0}
            if words[1] == "doctor" and "--machine" not in words:
                expected = {1}  # No worker is alive here, which is what it is to find.
            assert await asyncio.to_thread(main, words[1:]) in expected, (line, capsys.readouterr())
            captured = capsys.readouterr()
            assert at_home.key not in captured.out + captured.err


@pytest.mark.asyncio(loop_scope="module")
async def test_the_doctor_of_a_real_installation(at_home: Place) -> None:
    with Client() as client:
        state = await asyncio.to_thread(client.platform.get)
    assert state.database_revision == state.wanted_revision is not None
    assert abs((state.time - state.database_time).total_seconds()) < 5
    assert (state.verified_at, state.num_damaged, state.key_expires_at) == (None, 0, None)
