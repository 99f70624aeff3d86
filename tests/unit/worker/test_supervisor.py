"""One attempt from its lease to its finish: a real child process, files on disk, and a control plane that is scripted."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import stamina
from pydantic import SecretStr

from factories.child_python import write_python
from factories.control_plane import lease_of, running_job
from factories.fake_control import FakeControl
from quantry_blobs.errors import DigestMismatch, StoreUnavailable
from quantry_blobs.stores import ObjectStore
from quantry_core.errors import QuantryError, SealRefused, SourceRefused, StaleAttempt, Unavailable
from quantry_core.execution import FinishRequest, Lease, LeasedInput, Outcome
from quantry_core.jobs import (
    CalibrationSpec,
    EvaluateSpec,
    EventKind,
    FinetuneSpec,
    ImportSpec,
    InputRole,
    JobReason,
    JobSpec,
    QuantizeSpec,
    TasksSpec,
)
from quantry_core.methods import Format
from quantry_core.versions import ManifestFile, VersionKind, VersionState
from quantry_core.workers import Device
from quantry_worker.artifacts import Artifacts
from quantry_worker.buckets import ImportBuckets
from quantry_worker.cache import BlobCache
from quantry_worker.guard import worker_clock
from quantry_worker.settings import WorkerSettings
from quantry_worker.supervisor import Claim, Supervisor
from quantry_worker.work_dir import WorkDir

WORKS = """
task = json.load(open(sys.argv[1]))
print("pid", os.getpid(), flush=True)
progress(0.5)
content = open(task["inputs"][0]["path"] + "/config.json").read()
open(task["output_dir"] + "/config.json", "w").write(content.upper())
say(event="result", version={"kind": "quantized", "format": "compressed-tensors", "scheme": "W4A16", "state": STATE},
    evidence=[{"kind": "gate", "name": "integrity", "verdict": "pass"}], metrics={"n": task["num_threads"]})
"""
READY = 'STATE = "ready"\n' + WORKS
QUARANTINED = 'STATE = "quarantined"\n' + WORKS
HANGS = 'print("pid", os.getpid(), flush=True)\ntime.sleep(60)\n'
MEBIBYTE = 1024**2


class World:
    """A supervisor with everything around it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.control = FakeControl()
        self.is_draining = False
        self.drain_grace_s = 0.0
        self.memory_bytes: int | None = None
        self.device: Device | None = None
        self.datasets_cache: Path | None = None
        self.is_python_missing = False
        self.store_trouble: QuantryError | None = None
        self.while_fetching: Callable[[], object] = lambda: None
        self.while_storing: Callable[[int], object] = lambda _step: None
        self.staged: list[str] = []
        content = b'{"model_type": "llama"}'
        self.config = ManifestFile(path="config.json", size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        self.content = content

    def fetch(self, file: ManifestFile, to: Path) -> None:
        self.while_fetching()
        if self.store_trouble is not None:
            raise self.store_trouble
        to.write_bytes(self.content)

    def put(self, job_id: str, attempt: int, path: str, file: Path) -> ManifestFile:
        content = file.read_bytes()
        self.staged.append(f"{job_id}/{attempt}/{path}")
        return ManifestFile(path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    def put_artifact(self, job_id: str, attempt: int, path: str, file: Path) -> ManifestFile:
        return self.put(job_id, attempt, path, file)

    def put_checkpoint(self, job_id: str, attempt: int, step: int, path: str, file: Path) -> ManifestFile:
        self.while_storing(step)
        return self.put(job_id, attempt, path, file)

    def no_store(self) -> ObjectStore:
        raise AssertionError("no bucket is allowed here")

    def lease(self, *, time_s: int | None = None, memory_bytes: int | None = None, queue: str = "cpu", **options: float) -> Lease:
        spec = QuantizeSpec(base="bard", calibration=CalibrationSpec(datasets=["text"]))
        base = LeasedInput(
            role=InputRole.BASE, id="ver_1", ref="bard@1", files=[self.config], kind=VersionKind.MASTER, format=Format.SAFETENSORS
        )
        job = running_job(spec, attempt=2, queue=queue, time_s=time_s, memory_bytes=memory_bytes)
        return lease_of(job, inputs=[base], **options)

    def run(self, script: str, lease: Lease | None = None) -> FinishRequest | None:
        """Runs one attempt; returns its finish, None if there was none."""
        settings = WorkerSettings(
            control_url="http://control.test",
            worker_token=SecretStr("secret-token"),
            broker_url=SecretStr("redis://"),
            work_dir=self.directory / "work",
            ml_python=write_python(self.directory, script),
            import_roots=[self.directory],
            datasets_cache=self.datasets_cache,
            cancel_grace_s=0.3,
            worker_drain_grace_s=self.drain_grace_s,
        )
        if self.is_python_missing:
            settings.ml_python.unlink()
        work_dir = WorkDir(settings.work_dir)
        artifacts = Artifacts(self, self, BlobCache(work_dir.cache, 10**6), self.control)
        supervisor = Supervisor(
            settings,
            control=self.control,
            artifacts=artifacts,
            buckets=ImportBuckets((), self.no_store),
            work_dir=work_dir,
            is_draining=lambda: self.is_draining,
            memory_bytes=self.memory_bytes,
            device=self.device,
        )
        claimed = lease or self.lease()
        with stamina.set_testing(True, attempts=2):
            supervisor.run(Claim(claimed, worker_clock()))
        assert not (self.directory / "work" / "attempts" / claimed.job.id).exists()
        assert len(self.control.finishes) <= 1
        return self.control.finishes[0] if self.control.finishes else None

    def when_running(self, action: Callable[[int], None]) -> None:
        """Calls ``action`` with the child's pid at a heartbeat, once the child has said its pid."""
        heard = False

        def on_heartbeat() -> None:
            nonlocal heard
            pids = [text for text in self.control.said(EventKind.LOG) if text.startswith("pid")]
            if pids and not heard:
                heard = True
                action(int(pids[0].split()[1]))

        self.control.on_heartbeat = on_heartbeat


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


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
    world.device = Device(id="GPU-1")
    finish = world.run(SHOWS_ITS_DEVICES, world.lease(queue=queue))
    assert world.control.said(EventKind.LOG) == [f"devices {visible}"]
    assert finish is not None
    assert finish.peak_vram_bytes == 5


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


TRAINS = """
task = json.load(open(sys.argv[1]))

def checkpoint(step):
    folder = os.path.join(task["checkpoints_dir"], f"step-{step}")
    os.mkdir(folder)
    open(os.path.join(folder, "state.json"), "w").write(str(step))
    say(event="metrics", step=step, values={"loss": 10.0 / step})
    say(event="checkpoint", step=step, folder=f"step-{step}", metrics={"loss": 10.0 / step})
    return folder

def until_gone(folder):
    while os.path.exists(folder):
        time.sleep(0.01)
"""
FAILS = 'say(event="failure", reason="internal", message="the loss became nan at step 9")\n'
STORES_TWO = TRAINS + "until_gone(checkpoint(2))\nuntil_gone(checkpoint(4))\n"


def metrics_of(world: World) -> list[dict[str, object]]:
    return [event.data for request in world.control.posted for event in request.events if event.kind is EventKind.METRICS]


def test_checkpoints_are_stored_while_the_child_works_and_then_removed(world: World) -> None:
    finish = world.run(STORES_TWO + 'say(event="result")')
    assert finish is not None
    assert finish.outcome is Outcome.SUCCEEDED
    reports = world.control.checkpoints
    assert [(report.attempt, report.step, report.metrics) for report in reports] == [(2, 2, {"loss": 5.0}), (2, 4, {"loss": 2.5})]
    assert [seal.step for seal in world.control.checkpoint_seals] == [2, 4]
    assert [[file.path for file in report.files] for report in reports] == [["state.json"], ["state.json"]]
    assert metrics_of(world) == [{"step": 2, "loss": 5.0}, {"step": 4, "loss": 2.5}]


@pytest.mark.parametrize(
    ("ends", "outcome"),
    [
        (FAILS, Outcome.FAILED),
        ("os.kill(os.getpid(), signal.SIGKILL)\n", Outcome.LOST),
    ],
)
def test_the_last_checkpoint_of_an_attempt_that_did_not_succeed_is_waited_for(world: World, ends: str, outcome: Outcome) -> None:
    world.while_storing = lambda _step: time.sleep(0.3)
    finish = world.run(TRAINS + "checkpoint(2)\n" + ends)
    assert finish is not None
    assert finish.outcome is outcome
    assert [report.step for report in world.control.checkpoints] == [2]


def test_a_job_past_its_time_limit_keeps_its_last_checkpoint(world: World) -> None:
    # Longer than the limit: it is on its way when the child is stopped.
    world.while_storing = lambda _step: time.sleep(3.2)
    finish = world.run(TRAINS + "checkpoint(2)\ntime.sleep(60)", world.lease(time_s=3))
    assert finish is not None
    assert finish.reason is JobReason.TIMED_OUT
    assert [report.step for report in world.control.checkpoints] == [2]


def test_an_attempt_that_succeeded_waits_for_no_checkpoint(world: World) -> None:
    release = threading.Event()
    world.while_storing = lambda _step: release.wait(30)
    finish = world.run(TRAINS + 'checkpoint(2)\nsay(event="result")')
    assert finish is not None
    assert finish.outcome is Outcome.SUCCEEDED
    assert world.control.checkpoints == []
    release.set()


def test_a_newer_checkpoint_takes_the_place_of_one_that_waits(world: World) -> None:
    release, under_way = threading.Event(), world.directory / "under-way"

    def hold(step: int) -> None:
        if step == 2:
            under_way.touch()
            assert release.wait(30)

    world.while_storing = hold
    world.when_running(lambda _pid: release.set())
    first = f'checkpoint(2)\nwhile not os.path.exists("{under_way}"):\n    time.sleep(0.01)\n'
    others = "folder = checkpoint(4)\ncheckpoint(6)\nuntil_gone(folder)\nprint('pid', os.getpid(), flush=True)\ntime.sleep(0.5)\n"
    finish = world.run(TRAINS + first + others + FAILS, world.lease(heartbeat_s=0.1))
    assert finish is not None
    assert [report.step for report in world.control.checkpoints] == [2, 6]


@pytest.mark.parametrize("where", ["seal_checkpoint", "report_checkpoint"])
def test_a_checkpoint_that_cannot_be_stored_costs_a_note(world: World, where: str) -> None:
    world.control.troubles[where] = [SealRefused("it is not what was declared")]
    finish = world.run(STORES_TWO + 'say(event="result")')
    assert finish is not None
    assert finish.outcome is Outcome.SUCCEEDED
    assert [report.step for report in world.control.checkpoints] == [4]
    assert "the checkpoint of step 2 could not be stored: it is not what was declared" in world.control.said(EventKind.NOTE)


def test_a_report_is_tried_again_while_the_control_plane_is_away(world: World) -> None:
    world.control.troubles["report_checkpoint"] = [Unavailable("restarting")]
    world.run(STORES_TWO + 'say(event="result")')
    assert [report.step for report in world.control.checkpoints] == [2, 4]


def test_an_attempt_that_lost_its_job_stores_no_checkpoint(world: World) -> None:
    lost = threading.Event()

    def lose(_step: int) -> None:
        world.control.troubles["heartbeat"] = [StaleAttempt("not yours")] * 100
        assert lost.wait(10)

    def on_heartbeat() -> None:
        if len(world.control.troubles.get("heartbeat", ())) in range(1, 99):
            lost.set()

    world.while_storing, world.control.on_heartbeat = lose, on_heartbeat
    assert world.run(TRAINS + "checkpoint(2)\ntime.sleep(60)", world.lease(heartbeat_s=0.1)) is None
    assert (world.control.checkpoint_seals, world.control.checkpoints) == ([], [])


def test_a_link_in_place_of_a_checkpoint_is_not_followed(world: World) -> None:
    script = 'link = os.path.join(task["checkpoints_dir"], "step-2")\nos.symlink(os.path.dirname(sys.argv[1]), link)\n'
    finish = world.run(TRAINS + script + 'say(event="checkpoint", step=2, folder="step-2")\nuntil_gone(link)\n' + FAILS)
    assert finish is not None
    assert world.control.checkpoint_seals == []
    assert any("step-2 is a link" in note for note in world.control.said(EventKind.NOTE))


def test_an_attempt_that_goes_on_from_a_checkpoint_says_so(world: World) -> None:
    lease = world.lease()
    checkpoint = LeasedInput(role=InputRole.CHECKPOINT, id=lease.job.id, ref="step 40", files=[world.config])
    finish = world.run(
        'task = json.load(open(sys.argv[1]))\nassert task["inputs"][-1]["role"] == "checkpoint"\nsay(event="result")',
        lease.model_copy(update={"inputs": [*lease.inputs, checkpoint]}),
    )
    assert finish is not None
    assert finish.outcome is Outcome.SUCCEEDED
    assert "this attempt goes on from the checkpoint of step 40" in world.control.said(EventKind.NOTE)
