"""Where what a child says goes: most of it to the job's events, checkpoints to the thread that stores them."""

from __future__ import annotations

from typing import NamedTuple

from quantry_worker.checkpoint_uploads import CheckpointUploads
from quantry_worker.events import EventBuffer
from quantry_worker.protocol import ChildCheckpoint, ChildMetrics, ChildProgress


class AttemptListener(NamedTuple):
    """The Listener of an attempt."""

    events: EventBuffer
    uploads: CheckpointUploads

    def log(self, text: str) -> None:
        self.events.log(text)

    def note(self, text: str) -> None:
        self.events.note(text)

    def progress(self, progress: ChildProgress) -> None:
        self.events.progress(progress)

    def metrics(self, metrics: ChildMetrics) -> None:
        self.events.metrics(metrics)

    def checkpoint(self, checkpoint: ChildCheckpoint) -> None:
        self.uploads.offer(checkpoint)
