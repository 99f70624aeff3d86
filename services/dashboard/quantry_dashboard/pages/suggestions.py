"""What there is to refer to, as lists that the controls of a form suggest from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from quantry import Client
from quantry_core.pages import MAX_LIMIT
from quantry_dashboard.asking import NotDone, ask
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.controls import SUGGESTED
from quantry_dashboard.sessions import Session

Suggestion = tuple[str, str]
"""What would be written, and what it is."""


NOUNS = ("dataset", "version", "deployment", "model", "method", "scheme", "alias")


class Suggestions:
    """Lists of suggestions, one for each thing that can be named; empty until they are read."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lists = {noun: Node("datalist", id=f"{SUGGESTED}{noun}") for noun in NOUNS}

    async def read(self) -> None:
        """Reads what there is. What cannot be read is not suggested: nobody needs it to fill in a form."""
        await asyncio.gather(*(self._read(reader) for reader in (_versions, _models, _datasets, _deployments, _methods)))

    async def _read(self, reader: Callable[[Client], Mapping[str, list[Suggestion]]]) -> None:
        with suppress(NotDone):
            for noun, suggestions in (await ask(self._session, reader)).items():
                self._fill(self._lists[noun], suggestions)

    def _fill(self, node: Node, suggestions: Iterable[Suggestion]) -> None:
        if node.is_deleted:
            return
        with node:
            for value, label in dict(suggestions).items():
                Node("option", value=value, label=label or None)


def _versions(client: Client) -> dict[str, list[Suggestion]]:
    versions = client.versions.list(limit=MAX_LIMIT).data
    return {"version": [(version.ref, f"{version.kind} {version.scheme or version.format}") for version in versions]}


def _models(client: Client) -> dict[str, list[Suggestion]]:
    models = client.models.list(limit=MAX_LIMIT).data
    aliased = [(model.name, target.alias) for model in models for target in model.aliases]
    return {
        "model": [(model.name, "") for model in models],
        "alias": [(alias, "") for _, alias in aliased],
        "version": [(f"{model}@{alias}", "alias") for model, alias in aliased],
    }


def _datasets(client: Client) -> dict[str, list[Suggestion]]:
    return {"dataset": [(dataset.name, dataset.kind) for dataset in client.datasets.list(limit=MAX_LIMIT).data]}


def _deployments(client: Client) -> dict[str, list[Suggestion]]:
    return {"deployment": [(deployment.name, "") for deployment in client.deployments.list(limit=MAX_LIMIT).data]}


def _methods(client: Client) -> dict[str, list[Suggestion]]:
    methods = client.methods.list()
    by_scheme: dict[str, list[str]] = {}
    for method in methods:
        for scheme in method.schemes:
            by_scheme.setdefault(scheme.info.scheme, []).append(method.info.method)
    return {
        "method": [(method.info.method, method.info.title) for method in methods],
        "scheme": [(scheme, ", ".join(names)) for scheme, names in by_scheme.items()],
    }
