"""A supervisor with a real child process, files on disk, and a control plane that is scripted; and programs for its child."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import stamina
from pydantic import SecretStr

from factories.child_python import write_python
from factories.control_plane import lease_of, running_job
from factories.fake_control import FakeControl
from quantry_blobs.stores import ObjectStore
from quantry_core.errors import QuantryError
from quantry_core.execution import FinishRequest, Lease, LeasedInput
from quantry_core.jobs import (
    CalibrationSpec,
    EventKind,
    InputRole,
    JobSpec,
    QuantizeSpec,
)
from quantry_core.methods import Format
from quantry_core.versions import ManifestFile, VersionKind
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


QUANTIZE = QuantizeSpec(base="bard", calibration=CalibrationSpec(datasets=["text"]))


class World:
    """A supervisor with everything around it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.control = FakeControl()
        self.is_draining = False
        self.drain_grace_s = 0.0
        self.memory_bytes: int | None = None
        self.devices: list[Device] = []
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

    def lease(
        self,
        spec: JobSpec = QUANTIZE,
        *,
        time_s: int | None = None,
        memory_bytes: int | None = None,
        queue: str = "cpu",
        **options: float,
    ) -> Lease:
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
            devices=self.devices,
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
