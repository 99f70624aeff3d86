"""The last routes on disk, so that a gateway that restarts while the api is away still serves."""

from __future__ import annotations

import os
from pathlib import Path

import structlog
from pydantic import ValidationError

from quantry_core.routes import RouteSnapshot

_FILE_NAME = "routes.json"

_log = structlog.get_logger(__name__)


class KeptRoutes:
    """One file in the gateway's state folder, mode 0600: it holds key hashes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / _FILE_NAME

    def load(self) -> RouteSnapshot | None:
        """Returns the kept snapshot; None if there is none or it cannot be read (which is logged)."""
        try:
            return RouteSnapshot.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            _log.warning("routes.kept_unreadable", path=str(self._path), error=str(error))
            return None

    def save(self, snapshot: RouteSnapshot) -> None:
        """Replaces the file in one step; raises OSError where that fails, and the old file stays."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self._folder / f"{_FILE_NAME}.part"
        # What a killed gateway left. Created anew, so that its mode is ours from the first byte.
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(snapshot.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._path)
