"""How a job hears from auto-round that one more layer is done: its progress bar is the only thing that says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from auto_round.compressors import orchestrator
from tqdm import tqdm
from typing_extensions import override

from quantry_worker.child.backends.table import BackendProgress
from quantry_worker.child.reporter import Units


@contextmanager
def layers_told(on_progress: BackendProgress, begin: float, end: float) -> Iterator[None]:
    """Within it, auto-round's layers are the job's progress, from share ``begin`` to ``end``."""

    class LayerBar(tqdm):
        @override
        def update(self, n: float | None = 1) -> Any:
            shown = super().update(n)
            done, total = int(self.n), int(self.total)
            on_progress(begin + (end - begin) * done / total, f"layer {done} of {total}", Units(done, total, "layers"))
            return shown

    original = orchestrator.tqdm
    orchestrator.tqdm = LayerBar
    try:
        yield
    finally:
        orchestrator.tqdm = original
