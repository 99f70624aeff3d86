"""What there is to refer to, as lists that the controls of a form suggest from."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from quantry import Client
from quantry_core.pages import MAX_LIMIT
from quantry_dashboard.asking import NotDone, ask
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.controls import SUGGESTED
from quantry_dashboard.sessions import Session

MAX_ALIASED_MODELS = 20
"""The aliases of so many models are asked for: each takes a question of its own."""

Suggestion = tuple[str, str]
"""What would be written, and what it is."""


class Suggestions:
    """Lists of suggestions, one for each thing that can be named; empty until they are read."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lists = {noun: Node("datalist", id=f"{SUGGESTED}{noun}") for noun in _READERS}

    async def read(self) -> None:
        """Reads what there is. What cannot be read is not suggested: nobody needs it to fill in a form."""
        for noun, reader in _READERS.items():
            with suppress(NotDone):
                self._fill(self._lists[noun], await ask(self._session, reader))

    def _fill(self, node: Node, suggestions: Iterable[Suggestion]) -> None:
        if node.is_deleted:
            return
        with node:
            for value, label in dict(suggestions).items():
                Node("option", value=value, label=label or None)


def _versions(client: Client) -> list[Suggestion]:
    versions = client.versions.list(limit=MAX_LIMIT).data
    named = [(version.ref, f"{version.kind} {version.scheme or version.format}") for version in versions]
    return [*named, *((f"{model}@{alias}", "alias") for model, alias in _aliased(client))]


def _aliased(client: Client) -> list[tuple[str, str]]:
    models = client.models.list(limit=MAX_ALIASED_MODELS).data
    return [(alias.model_name, alias.alias) for model in models for alias in client.models.aliases(model.name)]


def _aliases(client: Client) -> list[Suggestion]:
    return [(alias, "") for _, alias in _aliased(client)]


def _models(client: Client) -> list[Suggestion]:
    return [(model.name, "") for model in client.models.list(limit=MAX_LIMIT).data]


def _datasets(client: Client) -> list[Suggestion]:
    return [(dataset.name, dataset.kind) for dataset in client.datasets.list(limit=MAX_LIMIT).data]


def _deployments(client: Client) -> list[Suggestion]:
    return [(deployment.name, "") for deployment in client.deployments.list(limit=MAX_LIMIT).data]


def _methods(client: Client) -> list[Suggestion]:
    return [(method.info.method, method.info.title) for method in client.methods.list()]


def _schemes(client: Client) -> list[Suggestion]:
    methods: dict[str, list[str]] = {}
    for method in client.methods.list():
        for scheme in method.schemes:
            methods.setdefault(scheme.info.scheme, []).append(method.info.method)
    return [(scheme, ", ".join(names)) for scheme, names in methods.items()]


_READERS = {
    "dataset": _datasets,
    "version": _versions,
    "deployment": _deployments,
    "model": _models,
    "method": _methods,
    "scheme": _schemes,
    "alias": _aliases,
}
