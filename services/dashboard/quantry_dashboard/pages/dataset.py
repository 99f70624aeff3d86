"""/datasets/<ref>: one dataset: what it is, how it begins, what was counted, what was scrubbed, and what was made with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import Request

from quantry_core.datasets import Dataset, DatasetOrigin, DatasetPreview
from quantry_core.version_notes import ListedVersion
from quantry_dashboard import facts, words
from quantry_dashboard.asking import ask
from quantry_dashboard.dataset_facts import (
    dataset_address,
    dataset_facts,
    derivation_facts,
    preview_columns,
    preview_rows,
    preview_text,
    scrub_facts,
    statistics_facts,
)
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.arriving import Arriving
from quantry_dashboard.pages.confirmed import Question, action_button, ask_before
from quantry_dashboard.pages.panels import WORDS, FactPanel, open_table
from quantry_dashboard.pages.parts import add_crumbs, copyable
from quantry_dashboard.pages.version_panels import JobsPanel
from quantry_dashboard.sessions import Session
from quantry_dashboard.version_facts import STATE_CLASSES, what_text
from quantry_dashboard.version_filters import version_address

REFRESH_S = 5.0
USES_EVERY = 6
MAX_USES = 10
PREVIEW_ITEMS = 20
DELETE = Question(
    "Delete this dataset?",
    "From then on only its id finds it. Until a collection of the vault frees its bytes, it can be restored here. Versions that were made "
    "with it keep its name and digest. It is refused where a job, a schedule or a derived dataset needs it.",
    confirm="Delete it",
    is_dangerous=True,
)
RESTORE = Question("Restore this dataset?", "It is found by its name and number again.", confirm="Restore it")


def show(session: Session, request: Request) -> None:
    """Builds the page of the dataset that the address names."""
    DatasetPage(session, str(request.path_params["ref"])).build()


class DatasetPage:
    """One open page."""

    def __init__(self, session: Session, ref: str) -> None:
        self._session = session
        self._ref = ref
        self._num_refreshes = 0
        self._body: _Body | None = None

    def build(self) -> None:
        """Builds the page; the dataset comes with the first refresh, once the browser is connected."""
        self._frame = Frame(self._session, title=f"Dataset {self._ref}", address=dataset_address(self._ref))
        with self._frame.content:
            self._arriving = Arriving(self._frame)
            self._all = self._arriving.add_body("job dataset")
        self._arriving.refresh_every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        dataset = await self._arriving.read(ask(self._session, lambda client: client.datasets.get(self._ref)))
        self._ref = dataset.id
        if self._body is None:
            with self._all:
                self._body = _Body(dataset)
                self._add_actions(self._body)
        self._body.show(dataset)
        self._delete.show_if(dataset.deleted_at is None and dataset.origin is not DatasetOrigin.BUILT_IN)
        self._restore.show_if(dataset.deleted_at is not None and dataset.removed_at is None)
        self._arriving.come()
        if self._num_refreshes % USES_EVERY == 0:
            await self._read_beside(self._body, dataset)
        self._num_refreshes += 1

    async def _read_beside(self, body: _Body, dataset: Dataset) -> None:
        reading = [self._read_versions(body, dataset.id), self._read_jobs(body, dataset.id)]
        if dataset.deleted_at is None:
            reading.append(self._read_preview(body, dataset.id))
        await asyncio.gather(*reading)

    async def _read_versions(self, body: _Body, dataset_id: str) -> None:
        versions = await ask(self._session, lambda client: client.versions.list(dataset_id=dataset_id, limit=MAX_USES))
        body.show_versions(versions.data, has_more=versions.has_more)

    async def _read_jobs(self, body: _Body, dataset_id: str) -> None:
        jobs = await ask(self._session, lambda client: client.jobs.list(uses=dataset_id, limit=MAX_USES))
        body.jobs.show(jobs.data, has_more=jobs.has_more)

    async def _read_preview(self, body: _Body, dataset_id: str) -> None:
        body.show_preview(await ask(self._session, lambda client: client.datasets.preview(dataset_id, limit=PREVIEW_ITEMS)))

    def _add_actions(self, body: _Body) -> None:
        hindrance = facts.hindrance(self._session.identity)
        with body.actions:
            self._delete = action_button("Delete", "danger", hindrance)
            self._restore = action_button("Restore", "primary", hindrance)
            if hindrance is None:
                ask_before(self._delete, DELETE, self._do_delete)
                ask_before(self._restore, RESTORE, self._do_restore)

    async def _do_delete(self) -> None:
        async def delete() -> None:
            await ask(self._session, lambda client: client.datasets.delete(self._ref))
            await self._refresh()

        await self._frame.attempt(delete)

    async def _do_restore(self) -> None:
        async def restore() -> None:
            await ask(self._session, lambda client: client.datasets.restore(self._ref))
            self._num_refreshes = 0
            await self._refresh()

        await self._frame.attempt(restore)


class _Body:
    """What a page shows once its dataset is known."""

    def __init__(self, dataset: Dataset) -> None:
        self._preview: DatasetPreview | None = None
        self._versions: list[str] = []
        add_crumbs(("Datasets", "/datasets"), here=dataset.ref)
        with Node("section", classes="panel header", aria_label="Dataset"):
            with Node("div", classes="heading"):
                Node("h1", dataset.ref)
                self._state = Node("span", "deleted", classes=f"status {STATE_CLASSES['deleted']}", hidden="hidden")
                with Node("div", classes="actions") as self.actions:
                    self._download = link("Download", f"{dataset_address(dataset.id)}/content", classes="button", download="")
            copyable(dataset.id)
        with Node("div", classes="columns"):
            with Node("div", classes="column"):
                self._facts = FactPanel("Dataset")
                self._statistics = FactPanel("Statistics")
                self._scrubbed = FactPanel("Captured and scrubbed")
                self._derivation = FactPanel("Derived")
            with Node("div", classes="column"):
                with Node("section", classes="panel", hidden="hidden", aria_label="Preview") as self._preview_panel:
                    Node("h2", "How it begins")
                    self._preview_root = Node("div")
                with Node("section", classes="panel", aria_label="Made with it"):
                    Node("h2", "Versions that were made with it")
                    self._versions_root = Node("div")
                    self._none = Node("p", "None so far.", classes="dim", hidden="hidden")
                self.jobs = JobsPanel("Jobs that were given it")

    def show(self, dataset: Dataset) -> None:
        """Shows a dataset as it is now."""
        is_deleted = dataset.deleted_at is not None
        self._state.show_if(is_deleted)
        self._download.show_if(not is_deleted)
        self._facts.show(dataset_facts(dataset))
        self._statistics.show(statistics_facts(dataset))
        self._scrubbed.show(scrub_facts(dataset.statistics.captured))
        self._derivation.show(derivation_facts(dataset))

    def show_preview(self, preview: DatasetPreview) -> None:
        """Shows how it begins; every value as text."""
        if preview == self._preview:
            return
        self._preview = preview
        self._preview_panel.show_if(bool(preview.items))
        self._preview_root.clear()
        columns = preview_columns(preview)
        with self._preview_root:
            if not columns:
                Node("pre", preview_text(preview), classes="command preview", tabindex="0", role="region", aria_label="First lines")
            else:
                with open_table("First rows", ("", *columns), f"{WORDS} preview"):
                    for number, row in enumerate(preview_rows(preview), start=1):
                        with Node("tr"):
                            Node("th", str(number), scope="row")
                            for value in row:
                                Node("td", value)
            if preview.has_more:
                Node("p", f"The first {len(preview.items)}; a download has all.", classes="dim note")

    def show_versions(self, versions: Sequence[ListedVersion], *, has_more: bool) -> None:
        """Shows what was made with it, newest first."""
        self._none.show_if(not versions)
        seen = [f"{version.id} {version.state}" for version in versions]
        if seen == self._versions:
            return
        self._versions = seen
        self._versions_root.clear()
        with self._versions_root:
            with open_table("Versions that were made with it", ("Version", "", "State", "Made"), WORDS):
                for version in versions:
                    with Node("tr"):
                        with Node("th", scope="row"):
                            link(version.ref, version_address(version.id))
                        Node("td", what_text(version))
                        with Node("td"):
                            Node("span", version.state, classes=f"status {STATE_CLASSES[version.state]}")
                        Node("td", words.moment_text(version.created_at))
            if has_more:
                Node("p", "and earlier ones", classes="dim note")
