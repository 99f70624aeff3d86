"""/models: every model with its versions, what its aliases mean and what it takes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime

from fastapi import Request

from quantry_core.model_views import ListedModel
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.filtering import filters
from quantry_dashboard.pages.listing import Listing, address_of, after_of, cell
from quantry_dashboard.pages.parts import empty_state
from quantry_dashboard.sessions import Session
from quantry_dashboard.version_facts import model_facts
from quantry_dashboard.version_filters import PATH, ROWS, model_address

REFRESH_S = 5.0
COLUMNS = ("Model", "Versions", "Latest", "Aliases", "Size", "Quarantined", "Made")
NUMBERS = ("Versions", "Size", "Quarantined")
FIRST_MODEL = "quantry jobs submit import --model bard-6m --source examples/bard-6m"


def show(session: Session, request: Request) -> None:
    """Builds the list as the address narrows it."""
    query = request.query_params
    ModelsPage(session, query.get("text", "").strip()[:200] or None, after_of(query)).build()


class ModelsPage:
    """One open list."""

    def __init__(self, session: Session, text: str | None, after: str | None) -> None:
        self._session = session
        self._text = text
        self._after = after

    def build(self) -> None:
        """Builds the page; its models come with the first refresh, once the browser is connected."""
        self._frame = Frame(self._session, title="Models", address=self._address(self._after))
        with self._frame.content:
            Node("h1", "Models")
            with filters("Filter models", lambda name, value: address_of(PATH, **{name: value}), PATH if self._text else None) as fields:
                fields.add_text("text", "Name", self._text, "bard")
            self._listing: Listing[ListedModel] = Listing(
                "Models",
                COLUMNS,
                key=lambda model: model.id,
                make_row=_Row,
                address=self._address,
                after=self._after,
                empty=lambda: empty_state("There are no models yet", "The first one comes with a 16-bit checkpoint:", FIRST_MODEL),
                none_such=self._nothing if self._text or self._after else None,
                numbers=NUMBERS,
                classes="models",
            )
        self._frame.refresh_every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        await self._listing.read(ask(self._session, lambda client: client.models.list(text=self._text, after=self._after, limit=ROWS)))

    def _address(self, after: str | None) -> str:
        return address_of(PATH, text=self._text, after=after)

    def _nothing(self) -> AbstractContextManager[object]:
        return empty_state("No model is like that", "Clear the filter, or go back to the newest.")


class _Row:
    """One model."""

    def __init__(self, model: ListedModel) -> None:
        self._shown: list[str] = []
        with Node("tr", role="row") as self.root:
            with cell(COLUMNS[0]):
                link(model.name, model_address(model.name), classes="name")
            self._cells = [cell(column, classes="number" if column in NUMBERS else "") for column in COLUMNS[1:]]

    def show(self, model: ListedModel, _now: datetime) -> None:
        """Shows a model as it is now."""
        for node, text in zip(self._cells, model_facts(model), strict=True):
            node.say(text)
