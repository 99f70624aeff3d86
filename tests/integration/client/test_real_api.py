"""The SDK and the command against the real api as a process: keys, labels, pipelines, and a stream that outlives the api."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from factories.api_process import ApiProcess, running_api
from factories.store import UPLOADED
from quantry import ApiError, Client, read_pipeline
from quantry.cli import main as command
from quantry_api.bootstrap import bootstrap
from quantry_core.jobs import BUILT_IN_QUALITY_CORPUS, EventKind, ImportSpec, JobReason, JobStatus, WaitingOn
from quantry_core.versions import ManifestFile
from quantry_store.database import Database

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
EXAMPLE = EXAMPLES / "pipelines" / "compare-group-sizes.yaml"
TEXTS = ("kjv.calibration", "shakespeare.calibration", "speeches.calibration", "kjv.test", "shakespeare.test")
SPEC = ImportSpec(model="bard", source="hf:owner/name")


@pytest.fixture
def admin_key(database_url: str) -> str:
    """The key of an admin, with the texts that the example pipeline names in the registry."""

    async def prepare() -> str:
        database = Database(database_url)
        try:
            made = await bootstrap(database)
            async with database.begin() as uow:
                for name in (
                    "kjv.calibration",
                    "shakespeare.calibration",
                    "speeches.calibration",
                    "kjv.test",
                    "shakespeare.test",
                    BUILT_IN_QUALITY_CORPUS,
                ):
                    file = ManifestFile(path="text.txt", size_bytes=len(name), sha256=sha256(name.encode()).hexdigest())
                    await uow.datasets.add(made["project_id"], name, file, UPLOADED)
            return made["admin_key"]
        finally:
            await database.close()

    return asyncio.run(prepare())


@pytest.fixture
def api(database_url: str, redis_url: str, admin_key: str, tmp_path: Path) -> Iterator[ApiProcess]:
    environment = {"QUANTRY_DATABASE_URL": database_url, "QUANTRY_BROKER_URL": redis_url, "QUANTRY_IMPORT_ROOTS": str(EXAMPLES)}
    with running_api(environment, tmp_path / "api.log") as process:
        yield process


@pytest.fixture
def client(api: ApiProcess, admin_key: str) -> Iterator[Client]:
    with Client(api.url, admin_key) as connected:
        yield connected


@pytest.fixture
def run(api: ApiProcess, admin_key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the command in this process."""
    monkeypatch.setenv("QUANTRY_URL", api.url)
    monkeypatch.setenv("QUANTRY_API_KEY", admin_key)
    monkeypatch.setenv("QUANTRY_STATE_DIR", str(tmp_path))
    return Run()


class Run:
    """Calls the command with the words of a line."""

    def __call__(self, line: str) -> int:
        return command.main(line.split())


def test_a_submission_is_made_once(client: Client) -> None:
    first = client.jobs.submit(SPEC, idempotency_key="monday", labels={"team": "search"})
    assert client.jobs.submit(SPEC, idempotency_key="monday", labels={"team": "search"}) == first
    with pytest.raises(ApiError) as refused:
        client.jobs.submit(SPEC, idempotency_key="monday", priority=1)
    assert (refused.value.status, refused.value.slug) == (422, "idempotency-key-reused")
    assert client.jobs.submit(SPEC).id != first.id
    assert [job.id for job in client.jobs.list(labels="team=search").data] == [first.id]


def test_many_at_once_under_one_key_are_one_job(client: Client) -> None:
    with ThreadPoolExecutor(8) as threads:
        jobs = list(threads.map(lambda _number: client.jobs.submit(SPEC, idempotency_key="tuesday"), range(24)))
    assert len({job.id for job in jobs}) == 1
    assert len(client.jobs.list().data) == 1


def test_what_is_said_of_a_job_is_kept(client: Client, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    needed = client.jobs.submit(SPEC)
    later = (datetime.now(UTC) + timedelta(days=30)).isoformat(timespec="minutes")
    line = (
        f"jobs submit import --model bard --source hf:owner/name --priority 1 --time-limit 2h --memory-limit 1GiB --need {needed.id} "
        f"--not-before {later} --label team=search --metadata ticket=4711 --json"
    )
    assert run(line) == 0
    job = client.jobs.get(json.loads(capsys.readouterr().out)["id"])
    assert (job.priority, job.limits.time_s, job.limits.memory_bytes) == (1, 7200, 1024**3)
    assert (job.labels, job.metadata, job.needs) == ({"team": "search"}, {"ticket": 4711}, [needed.id])
    assert (job.status, job.waiting_on) == (JobStatus.WAITING, WaitingOn.NEEDS)
    assert run(f"jobs show {job.id}") == 0
    out = capsys.readouterr().out
    for words in ("waiting for the jobs it needs", "2 h, 1.1 GB", "team=search", '{"ticket": 4711}', needed.id):
        assert words in out
    assert run("jobs list --label team!=search,!draft --json") == 0
    assert [found["id"] for found in json.loads(capsys.readouterr().out)["data"]] == [needed.id]


def test_an_estimate_submits_nothing(client: Client, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"jobs estimate import --model bard --source {EXAMPLES / 'bard-6m'} --json") == 0
    estimate = json.loads(capsys.readouterr().out)
    assert estimate["queue"] == "cpu"
    assert estimate["result_bytes"] > 10_000_000
    assert run("jobs estimate quantize --base nobody --calibration kjv.calibration") == 1
    assert "nobody" in capsys.readouterr().err
    assert client.jobs.list().data == []


def test_a_stream_goes_on_when_the_api_is_started_again(api: ApiProcess, client: Client) -> None:
    job = client.jobs.submit(SPEC)
    seen: list[str] = []
    has_begun = threading.Event()

    def watch() -> None:
        for event in client.jobs.events(job.id, kinds=[EventKind.STATE]):
            seen.append(str(event.data["status"]))
            has_begun.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert has_begun.wait(10)
    api.stop()
    api.start()
    client.jobs.cancel(job.id)
    watcher.join(30)
    assert not watcher.is_alive()
    assert seen == ["queued", "cancelled"]
    again = client.jobs.retry(job.id)
    assert (again.retry_of, again.status) == (job.id, JobStatus.QUEUED)


def test_an_event_of_the_future_is_refused(client: Client) -> None:
    job = client.jobs.submit(SPEC)
    with pytest.raises(ApiError, match="999") as refused:
        list(client.jobs.events(job.id, after=999))
    assert refused.value.status == 422


def test_the_example_pipeline_from_file_to_cancel_and_retry(client: Client, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"pipelines submit {EXAMPLE} --idempotency-key friday --json") == 0
    pipeline_id = json.loads(capsys.readouterr().out)["id"]
    assert client.pipelines.submit(read_pipeline(EXAMPLE), idempotency_key="friday").id == pipeline_id
    pipeline = client.pipelines.get(pipeline_id)
    assert {job.step: job.status for job in pipeline.jobs if job.status is not JobStatus.WAITING} == {"import": JobStatus.QUEUED}
    assert len(pipeline.jobs) == 8
    assert run(f"pipelines show {pipeline_id}") == 0
    out = capsys.readouterr().out
    assert "needs evaluate-32, evaluate-64, evaluate-128" in out
    assert "7 waiting, 1 queued" in out
    assert run(f"pipelines cancel {pipeline_id}") == 0
    assert run(f"pipelines watch {pipeline_id}") == 1
    assert f"{pipeline_id} cancelled" in capsys.readouterr().out
    retried = client.pipelines.retry(pipeline_id)
    assert {job.status for job in retried.jobs} == {JobStatus.QUEUED, JobStatus.WAITING}
    assert [found.id for found in client.pipelines.list(labels="example=group-sizes").data] == [pipeline_id]


def test_a_cancelled_need_cancels_what_needs_it(client: Client) -> None:
    pipeline = client.pipelines.submit(read_pipeline(EXAMPLE))
    client.jobs.cancel(pipeline.jobs[0].id)
    ended = client.pipelines.wait(pipeline.id, timeout_s=30, poll_s=0.2)
    assert ended.status is JobStatus.CANCELLED
    assert {job.reason for job in ended.jobs} == {JobReason.CANCELLED}


def test_project_and_workers(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("project show") == 0
    assert "running" in capsys.readouterr().out
    assert run("workers list") == 0
    assert "No worker was heard of" in capsys.readouterr().out
