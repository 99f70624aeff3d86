"""The worker's Control protocol without HTTP: scripted answers, and a record of what was said."""

from __future__ import annotations

from collections.abc import Callable

from factories.control_plane import running_job
from quantry_core.errors import QuantryError
from quantry_core.execution import CheckpointReport, EventsRequest, FinishRequest, HeartbeatReply, HeartbeatRequest, Lease, NextRequest
from quantry_core.jobs import EventKind, Job
from quantry_core.vault import CheckpointSeal
from quantry_core.versions import SealRequest, SealResult, manifest_digest


class FakeControl:
    """Errors in ``troubles[<method>]`` are raised first, one per call; then everything is taken."""

    def __init__(self) -> None:
        self.troubles: dict[str, list[QuantryError]] = {}
        self.leases: list[Lease] = []
        self.cancel_requested = False
        self.claims: list[NextRequest] = []
        self.heartbeats: list[HeartbeatRequest] = []
        self.posted: list[EventsRequest] = []
        self.finishes: list[FinishRequest] = []
        self.seals: list[SealRequest] = []
        self.artifact_seals: list[SealRequest] = []
        self.checkpoint_seals: list[CheckpointSeal] = []
        self.checkpoints: list[CheckpointReport] = []
        self.on_heartbeat: Callable[[], None] = lambda: None

    def next(self, request: NextRequest) -> Lease | None:
        self._maybe_raise("next")
        self.claims.append(request)
        return self.leases.pop(0) if self.leases else None

    def heartbeat(self, job_id: str, request: HeartbeatRequest, timeout_s: float) -> HeartbeatReply:
        self.on_heartbeat()
        self._maybe_raise("heartbeat")
        self.heartbeats.append(request)
        return HeartbeatReply(lease_s=60, cancel_requested=self.cancel_requested)

    def events(self, job_id: str, request: EventsRequest, timeout_s: float) -> None:
        self._maybe_raise("events")
        self.posted.append(request)

    def finish(self, job_id: str, request: FinishRequest, timeout_s: float) -> Job:
        self._maybe_raise("finish")
        self.finishes.append(request)
        return running_job()

    def seal(self, request: SealRequest) -> SealResult:
        self._maybe_raise("seal")
        self.seals.append(request)
        return SealResult(manifest_digest=manifest_digest(request.files), num_sealed=len(request.files), num_reused=0)

    def seal_artifacts(self, request: SealRequest) -> SealResult:
        self._maybe_raise("seal_artifacts")
        self.artifact_seals.append(request)
        return SealResult(manifest_digest=manifest_digest(request.files), num_sealed=len(request.files), num_reused=0)

    def seal_checkpoint(self, request: CheckpointSeal) -> SealResult:
        self._maybe_raise("seal_checkpoint")
        self.checkpoint_seals.append(request)
        return SealResult(manifest_digest=manifest_digest(request.files), num_sealed=len(request.files), num_reused=0)

    def report_checkpoint(self, job_id: str, report: CheckpointReport, timeout_s: float) -> None:
        self._maybe_raise("report_checkpoint")
        self.checkpoints.append(report)

    def said(self, kind: EventKind) -> list[str]:
        """Returns the texts of all log lines or notes, in order."""
        return [str(event.data["text"]) for request in self.posted for event in request.events if event.kind is kind]

    def _maybe_raise(self, method: str) -> None:
        if self.troubles.get(method):
            raise self.troubles[method].pop(0)
