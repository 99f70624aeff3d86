"""A training job on a running platform whose child is killed again and again goes on from its checkpoints. Its child is a stand-in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from factories.checkpoints import master_contents, write_checkpoint
from factories.child_python import write_python
from factories.directories import short_directory
from factories.servers import free_port
from quantry import Client
from quantry_core.jobs import MAX_LOST_ATTEMPTS, EventKind, FinetuneSpec, ImportSpec, JobReason, JobStatus
from quantry_local.stack import Options, Stack

WAIT_S = 90.0
SETTINGS = {"QUANTRY_SWEEP_INTERVAL_S": "1", "QUANTRY_HEARTBEAT_S": "1", "QUANTRY_WORKER_SLOTS": "1"}
EVERY_STEPS = 10
NUM_STEPS = 60

CHILD = """
import random, shutil
task = json.load(open(sys.argv[1]))
if task["spec"]["type"] == "import":
    for name in os.listdir(task["spec"]["source"]):
        shutil.copy(os.path.join(task["spec"]["source"], name), task["output_dir"])
    say(event="result", version={"kind": "master", "format": "safetensors", "dtype": "float16"})
    sys.exit(0)

# A walk whose every step needs the state of the one before it, and of the generator.
generator, weight, begin = random.Random(task["spec"]["seed"]), 1.0, 0
checkpoints = [one["path"] for one in task["inputs"] if one["role"] == "checkpoint"]
if checkpoints:
    begin, weight, state = json.load(open(checkpoints[0] + "/state.json"))
    generator.setstate((state[0], tuple(state[1]), state[2]))
for step in range(begin + 1, 61):
    weight *= 1 - 0.1 * generator.random()
    say(event="metrics", step=step, values={"loss": weight})
    if step % 10 == 0:
        folder = os.path.join(task["checkpoints_dir"], f"step-{step}")
        os.mkdir(folder)
        json.dump([step, weight, generator.getstate()], open(folder + "/state.json", "w"))
        say(event="checkpoint", step=step, folder=f"step-{step}", metrics={"loss": weight})
        while step < 60 and os.path.exists(folder):
            time.sleep(0.01)
    if task["spec"]["suffix"] == "killed" and step == begin + 15:
        os.kill(os.getpid(), signal.SIGKILL)
say(event="failure", reason="diverged", message="the loss became nan at step 61; the last good checkpoint is of step 60")
"""


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """An admin's client of a stack of its own."""
    directory = short_directory("quantry-e2e-")
    source = write_checkpoint(directory / "bard", master_contents())
    settings = {**SETTINGS, "QUANTRY_ML_PYTHON": str(write_python(directory, CHILD))}
    stack = Stack(Options(directory / "stack", gateway_port=free_port(), import_roots=[directory], settings=settings))
    try:
        up = stack.up()
        assert up.new_admin_key is not None
        with Client(up.url, up.new_admin_key) as admin:
            imported = admin.jobs.wait(admin.jobs.submit(ImportSpec(model="bard", source=str(source))).id, WAIT_S, poll_s=0.2)
            assert imported.status is JobStatus.SUCCEEDED
            text = directory / "rows.txt"
            text.write_text("Once upon a time. " * 10)
            admin.datasets.upload("rows", text)
            yield admin
    finally:
        stack.down()
        stack.forget()
        shutil.rmtree(directory, ignore_errors=True)


def trained(client: Client, suffix: str) -> str:
    """Returns the id of a job that trained to its end, which is a failure whose checkpoint is kept."""
    job = client.jobs.submit(FinetuneSpec(model="bard", training_file="rows", suffix=suffix, checkpoint_every_steps=EVERY_STEPS))
    ended = client.jobs.wait(job.id, WAIT_S, poll_s=0.2)
    assert (ended.status, ended.reason) == (JobStatus.FAILED, JobReason.DIVERGED), ended.message
    return job.id


def losses(client: Client, job_id: str) -> dict[int, float]:
    return {point.step: point.values["loss"] for point in client.jobs.curve(job_id).data}


def test_a_killed_job_ends_with_the_curve_of_an_undisturbed_one(client: Client, tmp_path: Path) -> None:
    undisturbed, killed = trained(client, "calm"), trained(client, "killed")
    job = client.jobs.get(killed)
    assert job.attempt > MAX_LOST_ATTEMPTS + 1, "killed more often than a job may be that does not get on"
    assert losses(client, killed) == losses(client, undisturbed)
    assert list(losses(client, killed)) == list(range(1, NUM_STEPS + 1))
    notes = [event.data["text"] for event in client.jobs.events(killed, kinds=[EventKind.NOTE])]
    begun = [note for note in notes if "goes on from the checkpoint" in note]
    assert begun == [f"this attempt goes on from the checkpoint of step {EVERY_STEPS * number}" for number in range(1, job.attempt)]

    checkpoints = client.jobs.checkpoints(killed)
    assert [(one.step, one.has_files) for one in checkpoints] == [(step, step > 40) for step in range(NUM_STEPS, 0, -EVERY_STEPS)]
    assert checkpoints[0].metrics == {"loss": losses(client, killed)[NUM_STEPS]}
    (file,) = client.jobs.checkpoint_files(killed, NUM_STEPS)
    assert client.jobs.download_checkpoint_file(killed, NUM_STEPS, file, tmp_path / "state.json").stat().st_size == file.size_bytes

    retried = client.jobs.wait(client.jobs.retry(killed).id, WAIT_S, poll_s=0.2)
    assert retried.attempt == 1
    assert losses(client, retried.id) == {}, "it began where the other one had got to"
    assert [(one.step, one.attempt) for one in client.jobs.checkpoints(retried.id)] == [(NUM_STEPS, 0)]
