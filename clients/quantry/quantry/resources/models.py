"""Models: named lines of versions."""

from __future__ import annotations

from quantry.transport import Transport, path_part
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.versions import Model

_PATH = "/api/v1/models"


class Models:
    """``client.models``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Model]:
        """Returns one page of models, newest first."""
        return self._transport.get(Page[Model], _PATH, {"after": after, "limit": limit})

    def get(self, name: str) -> Model:
        """Returns a model."""
        return self._transport.get(Model, f"{_PATH}/{path_part(name)}")
