"""/datasets: texts and rows for calibration, evaluation and training, and a form to upload one."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime

from fastapi import Request
from nicegui import ui

from quantry_core.datasets import Dataset, DatasetKind, DatasetOrigin
from quantry_dashboard import facts
from quantry_dashboard.asking import ask
from quantry_dashboard.dataset_facts import PATH, DatasetView, dataset_address, parse_view, row_texts
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.confirmed import plain_button
from quantry_dashboard.pages.filtering import filters
from quantry_dashboard.pages.listing import Listing, cell
from quantry_dashboard.pages.parts import empty_state, trouble
from quantry_dashboard.sessions import Session

REFRESH_S = 5.0
COLUMNS = ("Dataset", "Kind", "Origin", "Length", "Size", "Made")
NUMBERS = ("Length", "Size")
FIRST = "quantry datasets upload notes ./notes.jsonl"


def show(session: Session, request: Request) -> None:
    """Builds the list as the address narrows it."""
    view, problems = parse_view(request.query_params)
    DatasetsPage(session, view, problems).build()


class DatasetsPage:
    """One open list."""

    def __init__(self, session: Session, view: DatasetView, problems: list[str]) -> None:
        self._session = session
        self._view = view
        self._problems = problems

    def build(self) -> None:
        """Builds the page; its datasets come with the first refresh, once the browser is connected."""
        view = self._view
        self._frame = Frame(self._session, title="Datasets", address=view.url())
        ui.add_head_html('<script src="/static/uploads.js"></script>')
        with self._frame.content:
            with Node("div", classes="heading title"):
                Node("h1", "Datasets")
                with Node("div", classes="actions"):
                    if facts.hindrance(self._session.identity) is None:
                        _add_upload()
            for problem in self._problems:
                trouble(problem)
            with filters("Filter datasets", lambda name, value: view.url(**{name: value}), PATH if view.is_narrowed else None) as fields:
                fields.add_choice("kind", "Kind", DatasetKind, view.kind)
                fields.add_choice("origin", "Origin", DatasetOrigin, view.origin)
                fields.add_text("text", "Name", view.text, "kjv")
            self._listing: Listing[Dataset] = Listing(
                "Datasets",
                COLUMNS,
                key=lambda dataset: dataset.id,
                make_row=_Row,
                address=lambda after: view.url(after=after),
                after=view.after,
                empty=_empty,
                none_such=_none_such if view.is_narrowed or view.after else None,
                numbers=NUMBERS,
                classes="datasets",
            )
        self._frame.refresh_every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        await self._listing.read(ask(self._session, self._view.ask))


class _Row:
    """One dataset; nothing about it changes but that it goes."""

    def __init__(self, dataset: Dataset) -> None:
        with Node("tr", role="row") as self.root:
            with cell(COLUMNS[0]):
                link(dataset.ref, dataset_address(dataset.id), classes="name", title=dataset.id)
            for column, text in zip(COLUMNS[1:], row_texts(dataset), strict=True):
                cell(column, text, classes="number" if column in NUMBERS else "")

    def show(self, _dataset: Dataset, _now: datetime) -> None:
        """Shows nothing new."""


def _add_upload() -> None:
    button = plain_button("Upload", "primary")
    with Node("dialog", aria_label="Upload a dataset", classes="asking") as dialog, Node("form", classes="upload") as form:
        Node("h2", "Upload a dataset")
        Node("p", "Plain text, or JSON Lines with one object in each row. It is checked while it comes in.", classes="dim")
        with Node("label", classes="entry"):
            Node("span", "File")
            chosen = Node("input", type="file", name="file", accept=".txt,.md,.jsonl,.ndjson,text/plain", required="required")
        with Node("label", classes="entry"):
            Node("span", "Name")
            Node("input", type="text", name="name", required="required", spellcheck="false", autocomplete="off", maxlength="64")
        with Node("label", classes="entry"):
            Node("span", "Kind")
            with Node("select", name="kind"):
                Node("option", "as the file says", value="")
                for kind in DatasetKind:
                    Node("option", kind, value=kind)
        Node("progress", hidden="hidden", aria_label="Sent so far")
        Node("p", classes="banner upload-said", role="alert", hidden="hidden")
        with Node("div", classes="actions"):
            keep = Node("button", "Cancel", type="button", classes="quiet")
            Node("button", "Upload", type="submit", classes="primary")
    button.on("click", js_handler=f"() => getHtmlElement({dialog.id}).showModal()")
    keep.on("click", js_handler=f"() => getHtmlElement({dialog.id}).close()")
    chosen.on("change", js_handler="(event) => quantryNameUpload(event)")
    form.on("submit", js_handler="(event) => quantryUpload(event)")


def _empty() -> AbstractContextManager[object]:
    return empty_state("There are no datasets yet", "Text or rows for calibration, evaluation and training:", FIRST)


def _none_such() -> AbstractContextManager[object]:
    return empty_state("No dataset is like that", "Clear the filters, or go back to the newest.")
