"""MLflow's own client at the gateway: it finds, tags, aliases and downloads what the registry holds, and is told what it may not."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient, artifacts
from mlflow.exceptions import MlflowException, RestException

from factories.checkpoints import master_contents
from factories.gateway import gateway_settings, refusing_url, running_gateway
from factories.registry import Registry
from quantry_core.keys import Role

pytestmark = pytest.mark.filterwarnings("ignore:.*transition_model_version_stage.* is deprecated:FutureWarning")
"""MLflow's words about its stages, which the door takes or refuses all the same."""

ANOTHER = master_contents() | {"generation_config.json": b"{}"}
TEXT = "two words, and a comma"
TAGGED = {"stage": "test", "about": TEXT}


@pytest.fixture
async def url(registry: Registry, tmp_path: Path) -> AsyncIterator[str]:
    """Of MLflow's door at a gateway before the registry; nothing answers for the api."""
    async with running_gateway(gateway_settings(tmp_path, refusing_url(), registry_url=registry.url)) as gateway_url:
        yield f"{gateway_url}/mlflow"


@pytest.fixture
def client(registry: Registry, url: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """The real client, with an operator's key as it takes it. It is blocking: ask it in a thread."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", registry.secrets[Role.OPERATOR])
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return MlflowClient(tracking_uri=url, registry_uri=url)


async def test_the_client_finds_tags_aliases_and_downloads(
    registry: Registry, client: MlflowClient, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.import_master(tmp_path)
    await registry.import_master(tmp_path, ANOTHER)
    await asyncio.to_thread(_walk_models, client)
    await asyncio.to_thread(_walk_versions, client)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    await asyncio.to_thread(_walk_files, tmp_path)
    await asyncio.to_thread(client.delete_model_version, "bard", "1")
    assert [found.version for found in await asyncio.to_thread(client.search_model_versions, "name = 'bard'")] == ["2"]
    # What was written at this door is there at the other.
    async with registry.client(Role.VIEWER) as ours:
        notes = (await ours.get("/api/v1/versions/bard@2/notes")).json()
    assert (notes["tags"], notes["texts"], notes["notes"]) == ({"stage": "test"}, {"about": TEXT}, "the better one")


def _walk_models(client: MlflowClient) -> None:
    made = client.create_registered_model("sonnets", tags={"team": "poetry, and prose"}, description="To come.")
    assert (made.name, made.description, made.tags, made.latest_versions) == ("sonnets", "To come.", {"team": "poetry, and prose"}, [])
    client.set_registered_model_tag("bard", "team", "drama")
    client.set_registered_model_tag("bard", "gone", "soon")
    client.delete_registered_model_tag("bard", "gone")
    bard = client.update_registered_model("bard", "All the plays.")
    assert (bard.description, bard.tags) == ("All the plays.", {"team": "drama"})
    assert [version.version for version in bard.latest_versions] == ["2"]
    assert bard.last_updated_timestamp > bard.creation_timestamp > 1_700_000_000_000

    def names(**asked: Any) -> list[str]:
        return [model.name for model in client.search_registered_models(**asked)]

    assert names() == ["bard", "sonnets"]
    assert names(order_by=["name DESC"]) == ["sonnets", "bard"]
    assert names(filter_string="name LIKE 'ba%'") == names(filter_string="name ILIKE '%AR%'") == ["bard"]
    assert names(filter_string="tags.`team` = 'drama' AND name != 'x'") == names(filter_string="tags.team ILIKE 'DR%'") == ["bard"]
    assert names(filter_string="name LIKE 'bard\\'") == names(filter_string="tags.`mlflow.prompt.is_prompt` = 'true'") == []
    first = client.search_registered_models(max_results=1)
    rest = client.search_registered_models(max_results=1, page_token=first.token)
    assert ([*map(_name, first), *map(_name, rest)], rest.token or None) == (["bard", "sonnets"], None)
    client.delete_registered_model("sonnets")
    assert names() == ["bard"]


def _name(model: Any) -> str:
    return str(model.name)


def _walk_versions(client: MlflowClient) -> None:
    for key, value in {**TAGGED, "gone": "soon"}.items():
        client.set_model_version_tag("bard", "2", key, value)
    client.delete_model_version_tag("bard", "2", "gone")
    client.set_registered_model_alias("bard", "champion", "2")
    told = client.update_model_version("bard", "2", "the better one")
    assert (told.version, told.status, told.current_stage, told.description) == ("2", "READY", "None", "the better one")
    assert {key: value for key, value in told.tags.items() if not key.startswith("quantry.")} == TAGGED
    assert (told.tags["quantry.kind"], told.tags["quantry.state"], told.aliases) == ("master", "ready", ["champion"])
    assert client.get_model_version_by_alias("bard", "champion").version == "2"
    assert client.get_registered_model("bard").aliases == {"champion": "2"}
    assert client.get_model_version_download_uri("bard", "1") == "mlflow-artifacts:/models/bard/1"

    def found(filter_string: str, **asked: Any) -> list[str]:
        return [version.version for version in client.search_model_versions(filter_string, **asked)]

    assert found("name = 'bard'") == ["2", "1"]
    assert found("", order_by=["version_number ASC"]) == ["1", "2"]
    assert found("name = 'bard' AND version_number < 2") == ["1"]
    assert found(f"tags.about = '{TEXT}' AND tags.`quantry.kind` = 'master'") == ["2"]
    assert found("tags.`quantry.kind` = 'quantized'") == []
    pages = client.search_model_versions("name = 'bard'", max_results=1)
    rest = client.search_model_versions("name = 'bard'", max_results=1, page_token=pages.token)
    assert [version.version for version in (*pages, *rest)] == ["2", "1"]
    client.set_registered_model_alias("bard", "old", "1")
    client.delete_registered_model_alias("bard", "old")


def _walk_files(folder: Path) -> None:
    """By the addresses that MLflow's users write, the tracking server being the one of the environment."""
    whole = artifacts.download_artifacts("models:/bard@champion", dst_path=str(folder / "files"))
    assert {path.name: path.read_bytes() for path in Path(whole).iterdir()} == ANOTHER
    one = artifacts.download_artifacts("models:/bard/1/config.json", dst_path=str(folder / "one"))
    assert Path(one).read_bytes() == master_contents()["config.json"]
    listed = artifacts.list_artifacts("models:/bard/latest")
    assert {file.path: file.file_size for file in listed} == {path: len(content) for path, content in ANOTHER.items()}


async def test_a_created_version_is_an_import_under_its_jobs_id(registry: Registry, client: MlflowClient, tmp_path: Path) -> None:
    await registry.import_master(tmp_path)
    pending = await asyncio.to_thread(client.create_model_version, "bard", "hf:owner/bard@main", await_creation_for=0)
    assert (pending.status, pending.source, pending.version[:4]) == ("PENDING_REGISTRATION", "hf:owner/bard@main", "job_")
    async with registry.database.begin() as uow:
        job = await uow.jobs.get(registry.identities[Role.OPERATOR].project_id, pending.version)
        assert job.spec.model_dump() == {"type": "import", "model": "bard", "source": "hf:owner/bard@main"}
    again = await asyncio.to_thread(client.get_model_version, "bard", pending.version)
    assert (again.status, again.status_message) == ("PENDING_REGISTRATION", f"import job {job.id} is queued")
    made = await registry.import_master_of(job.id, tmp_path, ANOTHER)
    ready = await asyncio.to_thread(client.get_model_version, "bard", pending.version)
    assert (ready.status, ready.version, ready.tags["quantry.version_id"]) == ("READY", str(made.number), made.id)


REFUSED: dict[str, list[Callable[[Any], object]]] = {
    "RESOURCE_DOES_NOT_EXIST": [
        lambda client: client.get_registered_model("hamlet"),
        lambda client: client.get_model_version("bard", "9"),
        lambda client: client.get_model_version_by_alias("bard", "champion"),
        lambda client: client.set_model_version_tag("bard", "9", "a", "b"),
        lambda client: client.create_model_version("hamlet", "hf:owner/bard"),
    ],
    "RESOURCE_ALREADY_EXISTS": [lambda client: client.create_registered_model("bard")],
    "RESOURCE_CONFLICT": [
        lambda client: client.delete_registered_model("bard"),
        lambda client: client.transition_model_version_stage("bard", "1", "Archived"),
    ],
    "FEATURE_DISABLED": [
        lambda client: client.rename_registered_model("bard", "shakespeare"),
        lambda client: client.transition_model_version_stage("bard", "1", "Production"),
        lambda client: client.create_model_version("bard", "s3://bucket/models/bard"),
        lambda client: client.create_model_version("bard", "hf:owner/bard", run_id="1" * 32),
        lambda client: client.set_registered_model_tag("bard", "mlflow.prompt.is_prompt", "true"),
    ],
    "INVALID_PARAMETER_VALUE": [
        lambda client: client.create_registered_model("Not A Name"),
        lambda client: client.search_registered_models("name = 'a' OR name = 'b'"),
        lambda client: client.search_registered_models("size > 3"),
        lambda client: client.search_registered_models(order_by=["size"]),
        lambda client: client.search_model_versions("name = 'bard'", page_token="aGVsbG8="),
        lambda client: client.search_model_versions("name = 'bard'", page_token=base64.b64encode(b"[" * 1500).decode()),
        lambda client: client.set_registered_model_tag("bard", "k", "x" * 2001),
        lambda client: client.set_model_version_tag("bard", "1", "quantry.kind", "adapter"),
        lambda client: client.set_registered_model_alias("bard", "7", "1"),
    ],
    "ENDPOINT_NOT_FOUND": [lambda client: client.get_experiment("0")],
}


async def test_what_is_refused_is_refused_in_mlflows_words(
    registry: Registry, client: MlflowClient, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.import_master(tmp_path)

    def codes() -> list[tuple[str, str]]:
        told = []
        for code, calls in REFUSED.items():
            for call in calls:
                with pytest.raises(RestException) as refused:
                    call(client)
                told.append((code, refused.value.error_code))
        return told

    told = await asyncio.to_thread(codes)
    assert [pair for pair in told if pair[0] != pair[1]] == []
    with pytest.raises(MlflowException, match=r"client.set_registered_model_alias\('bard', 'production', '1'\)"):
        await asyncio.to_thread(client.transition_model_version_stage, "bard", "1", "Production")
    with pytest.raises(MlflowException, match="quantry import bard SOURCE"):
        await asyncio.to_thread(client.create_model_version, "bard", "s3://bucket/models/bard")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", registry.secrets[Role.VIEWER])
    assert (await asyncio.to_thread(client.get_registered_model, "bard")).name == "bard"
    for token, code in ((registry.secrets[Role.VIEWER], "PERMISSION_DENIED"), ("qtr_nobody", "UNAUTHENTICATED")):
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
        with pytest.raises(RestException) as refused:
            await asyncio.to_thread(client.set_registered_model_tag, "bard", "team", "drama")
        assert refused.value.error_code == code
    await _of_a_stranger(registry, url)


async def _of_a_stranger(registry: Registry, url: str) -> None:
    """Another project has none of it, by whatever address it is asked for."""
    async with registry.database.begin() as uow:
        project_id = await uow.projects.get_or_create("stranger")
        _, secret = await uow.keys.create(project_id, "stranger", Role.ADMIN)
        jobs = (await uow.jobs.list(registry.identities[Role.OPERATOR].project_id)).data
    async with httpx.AsyncClient(base_url=f"{url}/api/2.0", headers={"Authorization": f"Bearer {secret}"}) as stranger:
        for path, params in {
            "/mlflow/registered-models/get": {"name": "bard"},
            "/mlflow/model-versions/get": {"name": "bard", "version": "1"},
            "/mlflow/model-versions/get-download-uri": {"name": "bard", "version": jobs[0].id},
            "/mlflow/registered-models/alias": {"name": "bard", "alias": "champion"},
            "/mlflow-artifacts/artifacts": {"path": "models/bard/1"},
            "/mlflow-artifacts/artifacts/models/bard/1/config.json": {},
        }.items():
            answer = await stranger.get(path, params=params)
            assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST"), path
        found = [(await stranger.get(f"/mlflow/{noun}/search")).json() for noun in ("registered-models", "model-versions")]
        assert found == [{"registered_models": [], "next_page_token": ""}, {"model_versions": [], "next_page_token": ""}]


async def test_a_file_comes_whole_by_range_and_with_its_digest(registry: Registry, url: str, tmp_path: Path) -> None:
    await registry.import_master(tmp_path)
    headers = {"Authorization": f"Bearer {registry.secrets[Role.VIEWER]}"}
    async with httpx.AsyncClient(base_url=f"{url}/api/2.0/mlflow-artifacts/artifacts", headers=headers) as client:
        answer = await client.get("/models/bard/1/config.json", headers={"Range": "bytes=2-5"})
        content = master_contents()["config.json"]
        assert (answer.status_code, answer.content) == (206, content[2:6])
        assert answer.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
        for path in ("models/bard/1/nothing.json", "models/bard/9/config.json", "runs/1/config.json", "models/bard"):
            missing = await client.get(f"/{path}")
            assert (missing.status_code, missing.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST"), path
