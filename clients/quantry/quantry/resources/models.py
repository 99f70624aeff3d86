# Made from quantry/aio/resources/models.py by make_sync.py: change that file, and run this again.
"""Models: named lines of versions."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import datetime

from pydantic import BaseModel

from quantry.messages import path_part
from quantry.paging import every
from quantry.transport import Transport
from quantry_core.aliases import Alias, AliasChange
from quantry_core.model_notes import ModelNotes, ModelNotesChange
from quantry_core.model_views import ListedModel, ModelFigures
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.vault_usage import VaultUsage
from quantry_core.versions import Model

_PATH = "/api/v1/models"


class _AliasMove(BaseModel):
    version_id: str


class Models:
    """``client.models``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, text: str | None = None, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[ListedModel]:
        """Returns one page of models, newest first. ``text``: part of the name."""
        return self._transport.get(Page[ListedModel], _PATH, {"text": text, "after": after, "limit": limit})

    def iterate(self, *, max_items: int | None = None, text: str | None = None) -> Generator[ListedModel, None, None]:
        """Yields every model that fits, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.list(text=text, after=after, limit=limit), max_items)

    def get(self, name: str) -> Model:
        """Returns a model."""
        return self._transport.get(Model, f"{_PATH}/{path_part(name)}")

    def figures(self, name: str) -> ModelFigures:
        """Returns the size of each version of a model beside what was measured of its quality, of the newest 2,000."""
        return self._transport.get(ModelFigures, f"{_PATH}/{path_part(name)}/figures")

    def notes(self, name: str) -> ModelNotes:
        """Returns tags and notes of a model."""
        return self._transport.get(ModelNotes, f"{_PATH}/{path_part(name)}/notes")

    def annotate(self, name: str, change: ModelNotesChange) -> ModelNotes:
        """Returns tags and notes of a model after the change; what it leaves out stays."""
        return self._transport.patch(ModelNotes, f"{_PATH}/{path_part(name)}/notes", change)

    def aliases(self, name: str) -> Sequence[Alias]:
        """Returns every alias of a model, by name."""
        return self._transport.get(Page[Alias], f"{_PATH}/{path_part(name)}/aliases").data

    def alias(self, name: str, alias: str, *, at: datetime | None = None) -> Alias:
        """Returns where an alias points, or where it pointed ``at`` a moment (with its time zone) and since when."""
        params = {"at": None if at is None else at.isoformat()}
        return self._transport.get(Alias, f"{_PATH}/{path_part(name)}/aliases/{path_part(alias)}", params)

    def move_alias(self, name: str, alias: str, version_id: str) -> Alias:
        """Points an alias at a ready version of the model (``ver_...``), and makes the alias if there is none.

        Raises ApiError where the version is not ready, deleted, or of another model.
        """
        return self._transport.put(Alias, f"{_PATH}/{path_part(name)}/aliases/{path_part(alias)}", _AliasMove(version_id=version_id))

    def alias_history(self, name: str, alias: str) -> Sequence[AliasChange]:
        """Returns every move of an alias and its deletions, newest first; empty if it never was."""
        return self._transport.get(Page[AliasChange], f"{_PATH}/{path_part(name)}/aliases/{path_part(alias)}/history").data

    def delete_alias(self, name: str, alias: str) -> None:
        """Deletes an alias, so that it protects its version no more; where it pointed before is still known."""
        self._transport.delete(f"{_PATH}/{path_part(name)}/aliases/{path_part(alias)}")

    def usage(self) -> VaultUsage:
        """Returns what the versions of every model take in the vault, and what sharing saves."""
        return self._transport.get(VaultUsage, "/api/v1/vault/usage")
