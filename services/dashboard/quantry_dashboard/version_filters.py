"""Which versions of a model its page shows, and which figures it draws: read from the page's address and written back to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar
from urllib.parse import quote, urlencode

from quantry import Client
from quantry_core.errors import InvalidInput
from quantry_core.jobs import parse_selector
from quantry_core.methods import Format
from quantry_core.pages import Page
from quantry_core.version_notes import ListedVersion
from quantry_core.versions import VersionKind, VersionState

PATH = "/models"
ROWS = 25
_FILTERS = ("kind", "format", "scheme", "state", "text", "tags")
_CHART = ("x", "y", "corpus", "against")
Choice = TypeVar("Choice", bound=StrEnum)


def model_address(name: str) -> str:
    """Returns the address of a model's page."""
    return f"{PATH}/{quote(name, safe='')}"


def version_address(ref: str) -> str:
    """Returns the address of a version's page; ``ref``: ``ver_...`` or ``name@number``."""
    return f"/versions/{quote(ref, safe='@')}"


@dataclass(frozen=True)
class ModelView:
    """One view of a model's page. What is None is not asked about, or as it is by itself."""

    model: str
    kind: VersionKind | None = None
    format: Format | None = None
    scheme: str | None = None
    state: VersionState | None = None
    text: str | None = None
    tags: str | None = None
    after: str | None = None
    x: str | None = None
    y: str | None = None
    corpus: str | None = None
    against: str | None = None

    @property
    def is_narrowed(self) -> bool:
        """Whether anything but the page is asked about."""
        return any(getattr(self, name) for name in _FILTERS)

    def ask(self, client: Client) -> Page[ListedVersion]:
        """Returns the page of versions."""
        return client.versions.list(
            self.model,
            after=self.after,
            limit=ROWS,
            kind=self.kind,
            format=self.format,
            scheme=self.scheme,
            state=self.state,
            text=self.text,
            tags=self.tags,
        )

    def url(self, **changed: str | None) -> str:
        """Returns the address of this view with other values; other filters begin with the first page. A bad value is written too."""
        values: dict[str, str | None] = {name: getattr(self, name) for name in (*_FILTERS, *_CHART, "after")}
        if changed.keys() & set(_FILTERS):
            values["after"] = None
        values |= {name: (value or "").strip() for name, value in changed.items()}
        query = urlencode({name: value for name, value in values.items() if value})
        return model_address(self.model) + (f"?{query}" if query else "")


def parse_view(model: str, query: Mapping[str, str]) -> tuple[ModelView, list[str]]:
    """Returns the view that an address asks for, and a sentence for each part that cannot be; those are left out."""
    given = {name: value.strip() for name, value in query.items() if value.strip()}
    problems: list[str] = []
    scheme, text, tags = given.get("scheme"), given.get("text"), given.get("tags")
    if tags is not None:
        try:
            parse_selector(tags)
        except InvalidInput as error:
            problems.append(f"{tags!r} is no selector of tags: {error}")
            tags = None
    view = ModelView(
        model,
        kind=choice_of(VersionKind, "kind", given, problems),
        format=choice_of(Format, "format", given, problems),
        scheme=None if scheme is None else scheme[:64],
        state=choice_of(VersionState, "state", given, problems),
        text=None if text is None else text[:200],
        tags=tags,
        after=given.get("after"),
        **{name: given.get(name) for name in _CHART},
    )
    return view, problems


def choice_of(values: type[Choice], name: str, given: Mapping[str, str], problems: list[str]) -> Choice | None:
    """Returns what is given by a name, if it is one of some values; else None, and adds a sentence to ``problems``."""
    value = given.get(name)
    if value is None or value in set(values):
        return None if value is None else values(value)
    *first, last = [one.value for one in values]
    problems.append(f"There is no {name} {value!r}; there are {', '.join(first)} and {last}.")
    return None
