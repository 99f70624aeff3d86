"""The controller's directory belongs to one controller at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def hold_directory(directory: Path) -> Iterator[None]:
    """Makes the directory (mode 0700) and holds it; raises SystemExit if another controller does.

    Two controllers over the same records and the same host would start everything twice.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / "controller.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"another rollout controller holds {directory}; stop it first") from None
        yield
