"""Runs one attempt of a job: load, process, apply. Holds the lease all the while, and writes nothing once it is lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import structlog
from structlog.contextvars import bound_contextvars

from quantry_core.errors import QuantryError, SourceRefused, StaleAttempt, Unavailable
from quantry_core.execution import FinishRequest, Lease, Outcome
from quantry_core.jobs import ImportSpec, InputRole, JobLimits, JobReason, QuantizeSpec, RecalibrateSpec, Resource, resource_of
from quantry_core.methods import Environment, method_info
from quantry_core.outputs import made_model
from quantry_core.traces import carried_traceparent
from quantry_core.training.strategies import num_gpus_of
from quantry_core.versions import ManifestFile, VersionDraft
from quantry_core.workers import Device
from quantry_telemetry.traces import flush_traces, span
from quantry_worker.artifacts import Artifacts
from quantry_worker.buckets import ImportBuckets, bucket_of
from quantry_worker.checkpoint_uploads import CheckpointUploads
from quantry_worker.child_process import ChildCommand, ChildExit, Listener, run_child
from quantry_worker.control import Control
from quantry_worker.datasets_cache import lend_datasets
from quantry_worker.disk import full_disk_words
from quantry_worker.environment import HUGGINGFACE_FOLDER, child_environment
from quantry_worker.events import EventBuffer
from quantry_worker.figures import SlotFigures
from quantry_worker.finishing import deliver
from quantry_worker.guard import Bounds, Guard, Stopped, StopReason, worker_clock
from quantry_worker.heartbeat import Heartbeat
from quantry_worker.listening import AttemptListener
from quantry_worker.outcomes import Ending, ending_of, ending_of_stop
from quantry_worker.progress import Pace
from quantry_worker.protocol import CHILD_MODULE, ChildInput, ChildTask, ChildVersion
from quantry_worker.settings import WorkerSettings
from quantry_worker.spans import attempt_span, tell_end
from quantry_worker.transfers import run_guarded
from quantry_worker.work_dir import AttemptDirs, WorkDir

log = structlog.get_logger(__name__)

LAUNCH_MODULE = "quantry_worker.launch"
DRAINING_GRACE_S = 1.5
"""Seconds between SIGTERM and SIGKILL for a child when the worker shuts down: all of that must fit into 8 s."""
MEMORY_GRACE_S = 1.0
"""The same for a child that is beyond its memory: it may go on taking more, from its neighbours."""


WAIT_FOR_CHECKPOINT = frozenset({StopReason.TIMED_OUT, StopReason.OUT_OF_MEMORY})
"""Ends of an attempt that leave time to store its last checkpoint. A cancel and a shutdown do not."""


class BadInput(Exception):
    """What the job names was refused: another attempt would meet the same."""


@dataclass(frozen=True)
class Claim:
    """A lease, and when it began to count on this machine's clock: before the request for it was sent."""

    lease: Lease
    since: float


class Supervisor:
    """Runs attempts, one at a time, in the main thread of its process (the child's lifeline is tied to that thread).

    ``memory_bytes`` is what a child may use here whatever its job says; ``devices`` the GPUs that jobs of gpu queues get.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        control: Control,
        artifacts: Artifacts,
        buckets: ImportBuckets,
        work_dir: WorkDir,
        is_draining: Callable[[], bool],
        memory_bytes: int | None = None,
        devices: Sequence[Device] = (),
        clock: Callable[[], float] = worker_clock,
        child_module: str = CHILD_MODULE,
        figures: SlotFigures | None = None,
    ) -> None:
        self._settings = settings
        self._control = control
        self._artifacts = artifacts
        self._buckets = buckets
        self._work_dir = work_dir
        self._is_draining = is_draining
        self._memory_bytes = memory_bytes
        self._devices = devices
        self._clock = clock
        self._child_module = child_module
        self._figures = SlotFigures() if figures is None else figures

    def run(self, claim: Claim) -> None:
        """Runs a claimed attempt to its end and reports it. Raises nothing for what can go wrong with a job."""
        lease = claim.lease
        self._figures.began(lease.job, lease.attempt)
        request: FinishRequest | None = None
        with bound_contextvars(job_id=lease.job.id, attempt=lease.attempt), attempt_span(lease, self._clock() - claim.since) as begun:
            try:
                request = self._run(claim)
            finally:
                self._figures.ended(lease.job, request)
                tell_end(begun, request)
        flush_traces()

    def _run(self, claim: Claim) -> FinishRequest | None:
        """Returns how the attempt ended; None if it lost its job and nothing was said."""
        lease = claim.lease
        job_id, attempt = lease.job.id, lease.attempt
        guard = Guard(
            lease_s=lease.lease_s,
            since=claim.since,
            is_draining=self._is_draining,
            bounds=bounds_of(lease.job.limits, self._memory_bytes),
            drain_grace_s=self._settings.worker_drain_grace_s,
            clock=self._clock,
        )
        heartbeat = Heartbeat(self._control, job_id, attempt, guard, interval_s=lease.heartbeat_s, clock=self._clock)
        events = EventBuffer(self._control, job_id, attempt, guard, Pace(self._clock))
        log.info("attempt begins", job_id=job_id, attempt=attempt, type=lease.job.type)
        with heartbeat:
            with events:
                request = self._attempt(lease, guard, events)
                if request is not None:
                    # Before the finish: after it the attempt is over, and what it says is refused.
                    events.end()
            if request is None:
                log.warning("attempt dropped: the job is not this attempt's any more", job_id=job_id, attempt=attempt)
                return None
            update = {"seconds": round(self._clock() - claim.since, 3), "peak_memory_bytes": guard.peak_memory_bytes or None}
            request = request.model_copy(update=update)
            with span("finish"):
                is_delivered = deliver(self._control, job_id, request, guard)
        log.info("attempt ended", job_id=job_id, attempt=attempt, outcome=request.outcome, reason=request.reason, delivered=is_delivered)
        return request if is_delivered else None

    def _attempt(self, lease: Lease, guard: Guard, events: EventBuffer) -> FinishRequest | None:
        """Returns how the attempt ends; None if it may not say so any more."""
        try:
            with self._work_dir.attempt(lease.job.id, lease.attempt) as dirs:
                with span("load"), _refusing_input():
                    task = self._load(lease, dirs, guard, events)
                child = self._keeping_checkpoints(task, lease, dirs, guard, events)
                with span("apply"):
                    return self._apply(lease, child, dirs, guard, events)
        except Stopped as stopped:
            ending = ending_of_stop(stopped.reason, stopped.words)
        except StaleAttempt:
            ending = ending_of_stop(StopReason.STALE)
        except Unavailable as error:
            ending = Ending(Outcome.LOST, JobReason.WORKER_LOST, f"a part of the platform stayed away: {error.detail}")
        except BadInput as error:
            ending = Ending(Outcome.FAILED, JobReason.INVALID_INPUT, str(error))
        except QuantryError as error:
            log.error("attempt failed", job_id=lease.job.id, attempt=lease.attempt, error=error.detail)
            ending = Ending(Outcome.FAILED, JobReason.INTERNAL, error.detail)
        except Exception as error:
            log.exception("attempt failed", job_id=lease.job.id, attempt=lease.attempt)
            words = full_disk_words(error) or f"the worker failed: {type(error).__name__}: {error}"
            ending = Ending(Outcome.FAILED, JobReason.INTERNAL, words)
        return None if ending is None else ending.request(lease.attempt)

    def _load(self, lease: Lease, dirs: AttemptDirs, guard: Guard, events: EventBuffer) -> ChildTask:
        """Brings the inputs here and returns the task for the child."""
        inputs: list[ChildInput] = []
        if lease.inputs:
            pulled = run_guarded(guard, lambda: self._artifacts.pull(lease.inputs, dirs.inputs, guard))
            inputs = pulled.inputs
            self._figures.pulled(fetched_bytes=pulled.fetched_bytes, cached_bytes=pulled.cached_bytes)
            events.note(f"inputs: {pulled.fetched_bytes} bytes pulled, {pulled.cached_bytes} bytes from this worker's cache")
            for leased in lease.inputs:
                if leased.role is InputRole.CHECKPOINT:
                    events.note(f"this attempt goes on from the checkpoint of {leased.ref}")
        if (bucket := bucket_of(lease.job.spec)) is not None:
            fetched = run_guarded(guard, lambda: self._buckets.fetch(bucket, dirs.inputs / InputRole.SOURCE, guard))
            inputs = [*inputs, fetched]
        # Evaluations and gates try tasks; an import has nothing to do with them.
        if self._settings.datasets_cache is not None and not isinstance(lease.job.spec, ImportSpec):
            lend_datasets(self._settings.datasets_cache, dirs.root / HUGGINGFACE_FOLDER)
        return ChildTask(
            job_id=lease.job.id,
            attempt=lease.attempt,
            spec=lease.job.spec,
            inputs=inputs,
            output_dir=dirs.output,
            artifacts_dir=dirs.artifacts,
            checkpoints_dir=dirs.checkpoints,
            import_roots=self._settings.import_roots,
            num_threads=self._settings.num_threads,
            engine_python=self._settings.engine_python,
            engine_script=self._settings.engine_script,
            checks_with_engine=self._settings.gate_with_engine and self._settings.engine_python is not None,
        )

    def _keeping_checkpoints(self, task: ChildTask, lease: Lease, dirs: AttemptDirs, guard: Guard, events: EventBuffer) -> ChildExit:
        """Runs the child, as ``_process``, and stores its checkpoints meanwhile. Where it did not succeed the last one is waited for:
        the next attempt goes on from there."""
        devices = self._devices_of(lease)
        uploads = CheckpointUploads(
            self._control, self._artifacts, events, guard, job_id=lease.job.id, attempt=lease.attempt, directory=dirs.checkpoints
        )
        with uploads:
            try:
                with span("child") as begun:
                    child = self._process(task, devices, dirs, guard, AttemptListener(events, uploads, begun))
            except Stopped as stopped:
                if stopped.reason in WAIT_FOR_CHECKPOINT:
                    uploads.wait()
                raise
            if ending_of(child).outcome is not Outcome.SUCCEEDED:
                uploads.wait()
            return child

    def _process(self, task: ChildTask, devices: Sequence[Device], dirs: AttemptDirs, guard: Guard, listener: Listener) -> ChildExit:
        """Runs the child in the environment of its backend and returns how it ended by itself; raises Stopped otherwise."""
        task_file = dirs.root / "task.json"
        task_file.write_text(task.model_dump_json())
        command = ChildCommand(
            arguments=[
                str(self._settings.python_of(_environment_of(task))),
                "-m",
                LAUNCH_MODULE,
                str(os.getpid()),
                self._child_module,
                str(task_file),
            ],
            environment=child_environment(
                task.spec,
                parent=os.environ,
                directory=dirs.root,
                num_threads=task.num_threads,
                devices=devices,
                hub_token=self._settings.hf_token,
                traceparent=carried_traceparent(),
            ),
            directory=dirs.root,
            secrets=() if self._settings.hf_token is None else (self._settings.hf_token.get_secret_value(),),
        )
        grace_s = {
            StopReason.CANCELLED: self._settings.cancel_grace_s,
            StopReason.TIMED_OUT: self._settings.cancel_grace_s,
            StopReason.OUT_OF_MEMORY: MEMORY_GRACE_S,
            StopReason.DRAINING: DRAINING_GRACE_S,
        }

        def stop_reason(resident_bytes: int) -> StopReason | None:
            guard.saw_memory(resident_bytes)
            self._figures.saw_memory(resident_bytes)
            return guard.reason()

        child = run_child(command, listener, stop_reason, grace_s=grace_s, on_start=self._figures.child_began)
        # A child that was stopped has nothing to say, and one that a shutdown of the whole machine killed first did not crash.
        guard.check()
        return child

    def _devices_of(self, lease: Lease) -> Sequence[Device]:
        """Returns the GPUs that a job's child sees: of this slot's as many as it works with, if its queue is one for GPUs.

        A trainer that sees more than it has processes would spread each batch over them.
        """
        queue = lease.job.queue
        if queue is None or resource_of(queue) is not Resource.GPU:
            return ()
        if not self._devices:
            raise QuantryError(f"a job of the queue {queue} came to a slot that has no GPU")
        return self._devices[: num_gpus_of(lease.job.spec)]

    def _apply(self, lease: Lease, child: ChildExit, dirs: AttemptDirs, guard: Guard, events: EventBuffer) -> FinishRequest:
        """Puts the version's files into the vault and returns the end of the attempt with all that the child made."""
        ending = ending_of(child)
        update: dict[str, object] = {}
        job_id, attempt = lease.job.id, lease.attempt
        if child.result is not None and ending.reason in {JobReason.COMPLETED, JobReason.GATE_FAILED}:
            update["evidence"] = child.result.evidence
            update["metrics"] = child.result.metrics
            update["peak_vram_bytes"] = child.result.peak_vram_bytes
            if child.result.version is not None:
                events.note("storing the version's files")
                # Files that cannot be a version are the user's where they were brought here, and a backend's fault where it wrote them.
                with _refusing_input() if isinstance(lease.job.spec, ImportSpec) else nullcontext():
                    files = run_guarded(guard, lambda: self._artifacts.push(job_id, attempt, dirs.output, guard))
                update["version"] = _draft(lease, child.result.version, files)
            update["artifacts"] = run_guarded(guard, lambda: self._artifacts.push_artifacts(job_id, attempt, dirs.artifacts, guard))
        return ending.request(lease.attempt).model_copy(update=update)


@contextmanager
def _refusing_input() -> Iterator[None]:
    """Within the block a refusal of files is one of what the user named."""
    try:
        yield
    except SourceRefused as error:
        raise BadInput(error.detail) from error


def bounds_of(limits: JobLimits, slot_bytes: int | None) -> Bounds:
    """Returns what an attempt may use: as its job says, and of memory no more than a slot has here."""
    if slot_bytes is not None and (limits.memory_bytes is None or limits.memory_bytes > slot_bytes):
        return Bounds(limits.time_s, slot_bytes, "this worker's bound for one slot")
    return Bounds(limits.time_s, limits.memory_bytes)


def _draft(lease: Lease, version: ChildVersion, files: list[ManifestFile]) -> VersionDraft:
    """Returns the version as it is reported. Its lineage is written by the control plane, from the job's own inputs."""
    return VersionDraft(
        model=_model_name(lease),
        kind=version.kind,
        state=version.state,
        format=version.format,
        scheme=version.scheme,
        dtype=version.dtype,
        files=files,
        recipe=version.recipe,
        toolchain=version.toolchain,
        card=version.card,
    )


def _model_name(lease: Lease) -> str:
    """Returns the model the new version belongs to: as the import says, or as follows from the version it was made from."""
    if isinstance(lease.job.spec, ImportSpec):
        return lease.job.spec.model
    bases = [leased for leased in lease.inputs if leased.role is InputRole.BASE]
    if not bases:
        raise QuantryError("a version was made from no version; there is no model to put it under")
    return made_model(lease.job.spec, bases[0].ref.rpartition("@")[0])


def _environment_of(task: ChildTask) -> Environment:
    """Returns the Python environment of the task's child: that of the method it quantizes with, if it does."""
    match task.spec:
        case QuantizeSpec(method=method) | RecalibrateSpec(recipe=QuantizeSpec(method=method)):
            return method_info(method).environment
        case _:
            return Environment.ML
