"""One attempt from its lease to its finish: a real child process, files on disk, and a control plane that is scripted."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from factories.control_plane import lease_of, running_job
from factories.supervised import HANGS, MEBIBYTE, QUARANTINED, READY, World
from quantry_blobs.errors import DigestMismatch, StoreUnavailable
from quantry_core.errors import QuantryError, SealRefused, SourceRefused, StaleAttempt, Unavailable
from quantry_core.execution import Outcome
from quantry_core.jobs import (
    CalibrationSpec,
    EvaluateSpec,
    EventKind,
    FinetuneSpec,
    ImportSpec,
    JobReason,
    JobSpec,
    QuantizeSpec,
    TasksSpec,
)
from quantry_core.methods import Format
from quantry_core.versions import VersionKind, VersionState
from quantry_core.workers import Device


def test_a_job_that_succeeds(world: World) -> None:
    finish = world.run(READY)
    assert finish is not None
    assert (finish.attempt, finish.outcome, finish.reason, finish.message) == (2, Outcome.SUCCEEDED, JobReason.COMPLETED, None)
    assert finish.version is not None
    assert (finish.version.model, finish.version.kind, finish.version.state) == ("bard", VersionKind.QUANTIZED, VersionState.READY)
    assert [file.path for file in finish.version.files] == ["config.json"]
    assert finish.version.edges == []
    assert [evidence.name for evidence in finish.evidence] == ["integrity"]
    assert finish.metrics["n"] >= 1
    assert finish.seconds is not None
    assert finish.seconds > 0
    assert finish.peak_memory_bytes is not None
    assert world.staged == [f"{world.control.seals[0].job_id}/2/config.json"]
    assert any("bytes pulled" in note for note in world.control.said(EventKind.NOTE))


TRAINED = """
task = json.load(open(sys.argv[1]))
open(task["output_dir"] + "/adapter_config.json", "w").write("{}")
say(event="result", version={"kind": "adapter", "format": "peft", "state": "ready"}, evidence=[], metrics={})
"""


@pytest.mark.parametrize(("suffix", "model"), [(None, "bard"), ("jargon", "bard-jargon")])
def test_an_adapter_is_of_the_model_that_its_job_names(world: World, suffix: str | None, model: str) -> None:
    spec = FinetuneSpec(model="bard@1", training_file="lessons", suffix=suffix)
    base = world.lease().inputs[0]
    finish = world.run(TRAINED, lease_of(running_job(spec, attempt=2), inputs=[base]))
    assert finish is not None
    assert finish.outcome is Outcome.SUCCEEDED, finish.message
    assert finish.version is not None
    assert (finish.version.model, finish.version.kind, finish.version.format) == (model, VersionKind.ADAPTER, Format.PEFT)


def test_a_result_that_failed_its_gate_is_kept_as_quarantined(world: World) -> None:
    finish = world.run(QUARANTINED)
    assert finish is not None
    assert (finish.outcome, finish.reason) == (Outcome.FAILED, JobReason.GATE_FAILED)
    assert finish.version is not None
    assert finish.version.state is VersionState.QUARANTINED
    assert len(finish.evidence) == 1
    assert len(world.control.seals) == 1


LEAVES_RESULTS = """
task = json.load(open(sys.argv[1]))
open(os.path.join(task["artifacts_dir"], "results.json"), "w").write("[]")
say(event="result")
"""


def test_what_the_child_leaves_as_artifacts_is_sealed_and_named_at_the_end(world: World) -> None:
    finish = world.run(LEAVES_RESULTS)
    assert finish is not None
    assert (finish.outcome, finish.version) == (Outcome.SUCCEEDED, None)
    assert [file.path for file in finish.artifacts] == ["results.json"]
    assert world.control.artifact_seals[0].files == finish.artifacts
    assert world.control.seals == []


def test_a_disk_that_is_full_while_inputs_come_in_is_said(world: World) -> None:
    def write_much() -> None:
        with Path("/dev/full").open("wb", buffering=0) as disk:
            disk.write(b"x")

    world.while_fetching = write_much
    finish = world.run(READY)
    assert finish is not None
    assert (finish.outcome, finish.reason, finish.version) == (Outcome.FAILED, JobReason.INTERNAL, None)
    assert "the worker's disk is full: make room in its QUANTRY_WORK_DIR" in (finish.message or "")


def test_the_child_sees_no_secret(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUANTRY_WORKER_TOKEN", "QUANTRY_S3_SECRET_KEY", "QUANTRY_BROKER_URL", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "secret-token")
    world.run('print(json.dumps(dict(os.environ)), open(sys.argv[1]).read()); say(event="result")')
    text = "\n".join(world.control.said(EventKind.LOG))
    assert "QUANTRY_EVENTS_FD" in text
    assert "secret-token" not in text


def test_a_crash_is_one_failed_attempt_with_its_last_words(world: World) -> None:
    finish = world.run('raise ValueError("no such layer")')
    assert finish is not None
    assert (finish.outcome, finish.reason, finish.version) == (Outcome.FAILED, JobReason.INTERNAL, None)
    assert "ValueError: no such layer" in (finish.message or "")
    assert any("no such layer" in line for line in world.control.said(EventKind.LOG))


def test_a_child_killed_from_outside_is_a_lost_attempt(world: World) -> None:
    finish = world.run("os.kill(os.getpid(), signal.SIGKILL)")
    assert finish is not None
    assert (finish.outcome, finish.reason) == (Outcome.LOST, JobReason.WORKER_LOST)


def test_a_child_that_cannot_be_started(world: World) -> None:
    world.is_python_missing = True
    finish = world.run(READY)
    assert finish is not None
    assert (finish.outcome, finish.reason) == (Outcome.FAILED, JobReason.INTERNAL)
    assert "FileNotFoundError" in (finish.message or "")


def test_a_cancel_ends_the_child(world: World) -> None:
    def cancel(_pid: int) -> None:
        world.control.cancel_requested = True

    world.when_running(cancel)
    finish = world.run(HANGS, world.lease(heartbeat_s=0.1))
    assert finish is not None
    assert (finish.outcome, finish.reason) == (Outcome.CANCELLED, JobReason.CANCELLED)


def test_a_shutdown_hands_the_job_back(world: World) -> None:
    def drain(_pid: int) -> None:
        world.is_draining = True

    world.when_running(drain)
    finish = world.run(HANGS, world.lease(heartbeat_s=0.1))
    assert finish is not None
    assert finish.outcome is Outcome.RELEASED


def test_a_shutdown_lets_a_job_end_within_its_grace(world: World) -> None:
    def drain(_pid: int) -> None:
        world.is_draining = True

    world.when_running(drain)
    world.drain_grace_s = 60
    finish = world.run('print("pid", os.getpid(), flush=True)\ntime.sleep(1)\nsay(event="result")', world.lease(heartbeat_s=0.1))
    assert finish is not None
    assert finish.outcome is Outcome.SUCCEEDED
    assert world.is_draining


def test_a_job_past_its_time_limit_fails_with_the_limit_and_what_was_seen(world: World) -> None:
    finish = world.run(HANGS, world.lease(time_s=1))
    assert finish is not None
    assert (finish.outcome, finish.reason) == (Outcome.FAILED, JobReason.TIMED_OUT)
    assert "longer than its limit of 1 s" in (finish.message or "")
    assert finish.seconds is not None
    assert finish.seconds > 1


def test_the_time_limit_holds_while_inputs_come_in(world: World) -> None:
    release = threading.Event()
    world.while_fetching = release.wait
    finish = world.run(READY, world.lease(time_s=1))
    release.set()
    assert finish is not None
    assert finish.reason is JobReason.TIMED_OUT


@pytest.mark.parametrize(
    ("job_bytes", "slot_bytes", "words"),
    [
        (64 * MEBIBYTE, None, "the job's limit of 64 MiB"),
        (64 * MEBIBYTE, 96 * MEBIBYTE, "the job's limit of 64 MiB"),
        (96 * MEBIBYTE, 64 * MEBIBYTE, "this worker's bound for one slot of 64 MiB"),
        (None, 64 * MEBIBYTE, "this worker's bound for one slot of 64 MiB"),
    ],
)
def test_a_job_past_its_memory_limit_fails_with_the_limit_and_what_was_seen(
    world: World, job_bytes: int | None, slot_bytes: int | None, words: str
) -> None:
    world.memory_bytes = slot_bytes
    finish = world.run('held = b"x" * 200_000_000\n' + HANGS, world.lease(memory_bytes=job_bytes))
    assert finish is not None
    assert (finish.outcome, finish.reason) == (Outcome.FAILED, JobReason.OUT_OF_MEMORY)
    assert words in (finish.message or "")
    assert finish.peak_memory_bytes is not None
    assert finish.peak_memory_bytes > 64 * MEBIBYTE


def test_a_cancel_outranks_a_limit(world: World) -> None:
    def cancel(_pid: int) -> None:
        world.control.cancel_requested = True

    world.when_running(cancel)
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + HANGS
    finish = world.run(stubborn, world.lease(heartbeat_s=0.1, time_s=1))
    assert finish is not None
    assert finish.outcome is Outcome.CANCELLED


SHOWS_ITS_DEVICES = 'print("devices", repr(os.environ["CUDA_VISIBLE_DEVICES"]), flush=True)\nsay(event="result", peak_vram_bytes=5)'


@pytest.mark.parametrize(("queue", "visible"), [("cpu", "''"), ("gpu", "'GPU-1'"), ("gpu-80g", "'GPU-1'")])
def test_only_a_job_of_a_gpu_queue_sees_the_slots_gpu(world: World, queue: str, visible: str) -> None:
    world.devices = [Device(id="GPU-1")]
    finish = world.run(SHOWS_ITS_DEVICES, world.lease(queue=queue))
    assert world.control.said(EventKind.LOG) == [f"devices {visible}"]
    assert finish is not None
    assert finish.peak_vram_bytes == 5


@pytest.mark.parametrize(("distributed", "visible"), [(None, "'GPU-1'"), ({"num_processes": 2}, "'GPU-1,GPU-2'")])
def test_a_job_sees_a_gpu_for_each_of_its_processes(world: World, distributed: dict[str, int] | None, visible: str) -> None:
    world.devices = [Device(id=f"GPU-{number}") for number in (1, 2, 3)]
    spec = FinetuneSpec.model_validate({"model": "bard", "training_file": "text", "distributed": distributed})
    world.run(SHOWS_ITS_DEVICES, world.lease(spec, queue="gpu-quad"))
    assert world.control.said(EventKind.LOG) == [f"devices {visible}"]


def test_a_job_of_a_gpu_queue_is_not_run_without_one(world: World) -> None:
    finish = world.run(SHOWS_ITS_DEVICES, world.lease(queue="gpu"))
    assert finish is not None
    assert (finish.outcome, finish.reason) == (Outcome.FAILED, JobReason.INTERNAL)
    assert "no GPU" in (finish.message or "")


def test_a_stale_attempt_says_nothing_more(world: World) -> None:
    def take_the_job_away(_pid: int) -> None:
        world.control.troubles["heartbeat"] = [StaleAttempt("not yours")]

    world.when_running(take_the_job_away)
    assert world.run(HANGS, world.lease(heartbeat_s=0.1)) is None


def test_an_attempt_that_cannot_renew_its_lease_ends_by_its_own_clock(world: World) -> None:
    world.control.troubles["heartbeat"] = [QuantryError("no")] * 10_000
    assert world.run(HANGS, world.lease(lease_s=1.0, heartbeat_s=0.1)) is None


@pytest.mark.parametrize(
    ("trouble", "outcome", "reason"),
    [
        (StoreUnavailable("S3 is away"), Outcome.LOST, JobReason.WORKER_LOST),
        (DigestMismatch("the vault is damaged"), Outcome.FAILED, JobReason.INTERNAL),
    ],
)
def test_inputs_that_do_not_come(world: World, trouble: QuantryError, outcome: Outcome, reason: JobReason) -> None:
    world.store_trouble = trouble
    finish = world.run(READY)
    assert finish is not None
    assert (finish.outcome, finish.reason) == (outcome, reason)
    assert trouble.detail in (finish.message or "")


def test_a_refused_seal_fails_the_attempt_with_the_reason(world: World) -> None:
    world.control.troubles["seal"] = [SealRefused("config.json has other bytes")]
    finish = world.run(READY)
    assert finish is not None
    assert (finish.outcome, finish.reason, finish.version) == (Outcome.FAILED, JobReason.INTERNAL, None)
    assert "config.json has other bytes" in (finish.message or "")


def test_files_that_a_backend_wrote_and_the_registry_refuses_are_no_bad_input(world: World) -> None:
    world.control.troubles["seal"] = [SourceRefused("model.safetensors: the header is no JSON")]
    finish = world.run(READY)
    assert finish is not None
    assert (finish.outcome, finish.reason, finish.version) == (Outcome.FAILED, JobReason.INTERNAL, None)
    assert "the header is no JSON" in (finish.message or "")


IMPORTS = """
task = json.load(open(sys.argv[1]))
open(task["output_dir"] + "/config.json", "w").write("{}")
say(event="result", version={"kind": "master", "format": "safetensors", "dtype": "float16", "state": "ready"})
"""


def test_imported_files_that_the_registry_refuses_are_bad_input(world: World) -> None:
    world.control.troubles["seal"] = [SourceRefused("config.json is not a JSON object")]
    finish = world.run(IMPORTS, lease_of(running_job(ImportSpec(model="bard", source="/models/bard"), attempt=2)))
    assert finish is not None
    assert (finish.outcome, finish.reason, finish.version) == (Outcome.FAILED, JobReason.INVALID_INPUT, None)
    assert finish.message == "config.json is not a JSON object"


def test_a_source_that_is_refused_is_bad_input(world: World) -> None:
    finish = world.run(IMPORTS, lease_of(running_job(ImportSpec(model="bard", source="s3:forbidden/bard"), attempt=2)))
    assert finish is not None
    assert (finish.outcome, finish.reason) == (Outcome.FAILED, JobReason.INVALID_INPUT)
    assert "imports from no bucket" in (finish.message or "")


def test_a_disk_without_room_is_no_bad_input(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantry_worker.disk.SPARE_BYTES", 10**18)
    finish = world.run(READY)
    assert finish is not None
    assert (finish.outcome, finish.reason) == (Outcome.FAILED, JobReason.INTERNAL)
    assert (finish.message or "").startswith("the worker's disk is full: make room in its QUANTRY_WORK_DIR")


SHOWS_ITS_DOCUMENTS = """
home = os.environ["HF_HOME"]
print("documents", [open(os.path.join(folder, name)).read() for folder, _, names in os.walk(home) for name in names], flush=True)
say(event="result")
"""


@pytest.mark.parametrize(
    ("spec", "documents"),
    [
        (EvaluateSpec(version="bard", tasks=TasksSpec(names=["sciq"])), "documents ['rows']"),
        (QuantizeSpec(base="bard", calibration=CalibrationSpec(datasets=["text"])), "documents ['rows']"),
        (ImportSpec(model="bard", source="/models/bard"), "documents []"),
    ],
    ids=["evaluate", "quantize", "import"],
)
def test_documents_of_tasks_are_lent_to_whoever_may_try_them(world: World, spec: JobSpec, documents: str) -> None:
    world.datasets_cache = world.directory / "documents"
    (world.datasets_cache / "datasets" / "sciq").mkdir(parents=True)
    (world.datasets_cache / "datasets" / "sciq" / "test.arrow").write_text("rows")
    world.run(SHOWS_ITS_DOCUMENTS, lease_of(running_job(spec, attempt=2)))
    assert world.control.said(EventKind.LOG) == [documents]
    assert (world.datasets_cache / "datasets" / "sciq" / "test.arrow").exists()


def test_a_stale_seal_says_nothing_more(world: World) -> None:
    world.control.troubles["seal"] = [StaleAttempt("not yours")]
    assert world.run(READY) is None


def test_the_lease_is_renewed_while_inputs_come_in(world: World) -> None:
    beaten = threading.Event()
    world.control.on_heartbeat = beaten.set
    came_in_time: list[bool] = []
    world.while_fetching = lambda: came_in_time.append(beaten.wait(5))
    finish = world.run(READY, world.lease(heartbeat_s=0.05))
    assert finish is not None
    assert finish.outcome is Outcome.SUCCEEDED
    assert came_in_time == [True]


def test_a_cancel_does_not_wait_for_a_transfer(world: World) -> None:
    release = threading.Event()
    world.control.cancel_requested = True
    world.while_fetching = release.wait
    finish = world.run(READY, world.lease(heartbeat_s=0.05))
    release.set()
    assert finish is not None
    assert finish.outcome is Outcome.CANCELLED


def test_the_end_waits_for_a_control_plane_that_is_away(world: World) -> None:
    world.control.troubles["finish"] = [Unavailable("away")]
    finish = world.run(READY)
    assert finish is not None
    assert finish.outcome is Outcome.SUCCEEDED
