"""Where what a child says goes: most of it to the job's events, checkpoints to the thread that stores them."""

from __future__ import annotations

from quantry_telemetry.traces import NO_SPAN, Span
from quantry_worker.checkpoint_uploads import CheckpointUploads
from quantry_worker.events import EventBuffer
from quantry_worker.protocol import ChildCheckpoint, ChildMetrics, ChildProgress


class AttemptListener:
    """The Listener of an attempt. ``span`` is that of its child: it is told each phase that the child comes to."""

    def __init__(self, events: EventBuffer, uploads: CheckpointUploads, span: Span = NO_SPAN) -> None:
        self.events = events
        self.uploads = uploads
        self._span = span
        self._phase = ""

    def log(self, text: str) -> None:
        self.events.log(text)

    def note(self, text: str) -> None:
        self.events.note(text)

    def progress(self, progress: ChildProgress) -> None:
        if progress.phase != self._phase:
            self._phase = progress.phase
            self._span.event(progress.phase, {"quantry.fraction": progress.fraction})
        self.events.progress(progress)

    def metrics(self, metrics: ChildMetrics) -> None:
        self.events.metrics(metrics)

    def checkpoint(self, checkpoint: ChildCheckpoint) -> None:
        self.uploads.offer(checkpoint)
