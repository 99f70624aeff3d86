"""11. The process that does it is killed at each of twenty-one points of save, upload, seal and finish."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx

from chaos.kill_points import ARMED_VARIABLE, CHILD_POINTS, POINTS
from chaos.platform import Chaos, wait_until
from chaos.processes import send, wait_for_part, with_tests
from chaos.result import Result
from factories.checkpoints import master_contents, write_checkpoint
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_core.jobs import ImportSpec, JobStatus

NAME = "killed stages"
PARTS = ("registry", "api", "worker")
JOB_TIMEOUT_S = 90.0
FIRE_TIMEOUT_S = 60.0
SWEEP_TIMEOUT_S = 30.0
PADDING_BYTES = 11 * 1024**2
"""Of a file that goes in several parts of 5 MiB."""

SETTINGS = {"QUANTRY_S3_PART_BYTES": str(5 * 1024**2), "QUANTRY_REGISTRY_SWEEP_INTERVAL_S": "1"}
SUCCEEDED = "select count(*) from job_events where job_id = %s and kind = 'state' and data->>'status' = 'succeeded'"


class Counts(NamedTuple):
    points: tuple[str, ...]


FULL = Counts(points=(*CHILD_POINTS, *POINTS))
SHORT = Counts(
    points=(
        "save: within a file",
        "seal: within a blob",
        "seal: blobs noted",
        "seal: recorded, not answered",
        "finish: written, not committed",
    )
)


def run(chaos: Chaos, seed: int, counts: Counts) -> Result:
    """Imports a new master for each point, and looks at database and buckets once all jobs have ended."""
    result = Result(11, NAME, seed)
    job_ids: dict[str, str] = {}
    with _killable(chaos):
        for number, point in enumerate(counts.points):
            job_ids[point] = _strike(chaos, result, point, f"stages-{seed}-{number}")
        for point, job_id in job_ids.items():
            _expect_success(chaos, result, point, job_id)
        store, settings = _store(chaos)
        swept = wait_until(lambda: not list(store.list(settings.staging_bucket, "")), SWEEP_TIMEOUT_S)
        result.expect(swept, "staging was not swept")
        figures = _inspect(chaos, store, settings.vault_bucket)
        store.close()
    result.done = f"SIGKILL at {len(counts.points)} points of save, upload, seal and finish"
    result.figures = {"points": len(counts.points), **figures}
    for what, number in figures.items():
        result.expect(number == 0, f"{number} {what.replace('_', ' ')}")
    return result


def _strike(chaos: Chaos, result: Result, point: str, model: str) -> str:
    """Arms a point, imports a master that nobody has yet, and waits until the point has fired and the job has ended."""
    contents = master_contents() | {"README.md": model.encode() * (PADDING_BYTES // len(model))}
    source = write_checkpoint(chaos.scratch / model, contents)
    fired = chaos.stub.armed.with_name(chaos.stub.armed.name + ".fired")
    fired.unlink(missing_ok=True)
    # The point before may have killed it when the job had ended already.
    result.expect(wait_until(lambda: _answers(chaos, "api"), FIRE_TIMEOUT_S), f"{point}: the API is not back")
    chaos.stub.armed.write_text(point)
    job_id = chaos.client.jobs.submit(ImportSpec(model=model, source=str(source))).id
    result.expect(wait_until(fired.exists, FIRE_TIMEOUT_S), f"{point}: nobody came by there")
    chaos.stub.armed.unlink(missing_ok=True)
    chaos.wait_until_ended([job_id], JOB_TIMEOUT_S)
    return job_id


def _expect_success(chaos: Chaos, result: Result, point: str, job_id: str) -> None:
    [(status, message)] = chaos.rows("select status, message from jobs where id = %s", job_id)
    result.expect(status == JobStatus.SUCCEEDED, f"{point}: the job is {status}: {message}")
    [(num_successes,)] = chaos.rows(SUCCEEDED, job_id)
    [(num_versions,)] = chaos.rows("select count(*) from versions where job_id = %s", job_id)
    result.expect((num_successes, num_versions) == (1, 1), f"{point}: {num_successes} successes and {num_versions} versions")


def _inspect(chaos: Chaos, store: MinioStore, vault: str) -> dict[str, int]:
    """Returns how much is not as it must be: every object that a row names is read and hashed."""
    blobs = dict(chaos.rows("select sha256, size_bytes from blobs"))
    keys = {entry.key.removeprefix("sha256/"): entry.size_bytes for entry in store.entries(vault, "sha256/")}
    damaged = {sha256 for sha256 in blobs.keys() & keys.keys() if store.sha256(vault, f"sha256/{sha256}").sha256 != sha256}
    bad = sorted(damaged | {sha256 for sha256, size_bytes in blobs.items() if keys.get(sha256) != size_bytes})
    unknown = "select count(*) from version_files f where not exists (select from blobs b where b.sha256 = f.sha256)"
    unready = "select count(distinct version_id) from version_files join versions v on v.id = version_id"
    return {
        "blobs_without_their_bytes": len(bad),
        "files_without_a_blob": chaos.rows(unknown)[0][0],
        "ready_versions_with_missing_bytes": chaos.rows(f"{unready} where v.state = 'ready' and sha256 = any(%s)", bad)[0][0],
        "versions_without_files": chaos.rows("select count(*) from versions where id not in (select version_id from version_files)")[0][0],
    }


def _store(chaos: Chaos) -> tuple[MinioStore, BlobSettings]:
    """Returns the stack's object store, seen with the registry's key."""
    environment = chaos.launch_file("registry").environment
    names = {name.removeprefix("QUANTRY_S3_").lower(): value for name, value in environment.items() if name.startswith("QUANTRY_S3_")}
    settings = BlobSettings.model_validate(names)
    return MinioStore(settings), settings


@contextmanager
def _killable(chaos: Chaos) -> Iterator[None]:
    """Has the stack run its parts through chaos.kill_points while the block runs."""
    originals = {part: chaos.launch_file(part) for part in PARTS}
    for part, launch in originals.items():
        changed = with_tests(launch)
        variables = {**changed.environment, **SETTINGS, ARMED_VARIABLE: str(chaos.stub.armed)}
        command = [launch.command[0], "-m", "chaos.kill_points", f"quantry_{part}"]
        _restart(chaos, part, changed.model_copy(update={"environment": variables, "command": command}).model_dump_json())
    try:
        yield
    finally:
        for part, launch in originals.items():
            _restart(chaos, part, launch.model_dump_json())


def _restart(chaos: Chaos, part: str, launch: str) -> None:
    """Writes how a part is started, kills it, and waits until it is back."""
    chaos.files.launch_file(part).write_text(launch)
    pid = chaos.program(part).pid
    send(pid, signal.SIGKILL)
    wait_for_part(chaos, part, pid)
    if part != "worker" and not wait_until(lambda: _answers(chaos, part), FIRE_TIMEOUT_S):
        raise TimeoutError(f"{part} does not answer")


def _answers(chaos: Chaos, part: str) -> bool:
    with chaos.http(part=part) as http:
        try:
            return http.get("/healthz").is_success
        except httpx.TransportError:
            return False
