"""A model's aliases: where each points and since when, where it pointed before, and for operators moving and deleting them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial

from quantry import Client
from quantry_core.aliases import Alias, AliasChange
from quantry_dashboard import facts
from quantry_dashboard.asking import NotDone, ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.confirmed import Question, plain_button
from quantry_dashboard.pages.dialogs import Answers, AskedField, PageDialog
from quantry_dashboard.pages.panels import WORDS, TableRow, add_table, open_table
from quantry_dashboard.sessions import Session
from quantry_dashboard.version_facts import HISTORY_HEADINGS, alias_text, history_texts
from quantry_dashboard.version_filters import version_address

MAX_CHANGES = 30
EXPLANATION = (
    "Whatever asks for the model by this name gets the other version from then on. Where it pointed before is kept in its history."
)


class AliasesPanel:
    """Drawn anew when an alias has changed."""

    def __init__(self, session: Session, frame: Frame, model: str, refresh: Callable[[], Awaitable[None]]) -> None:
        self._session = session
        self._frame = frame
        self._model = model
        self._refresh = refresh
        self._hindrance = facts.hindrance(session.identity)
        self._shown: tuple[list[Alias], list[AliasChange], dict[str, int]] | None = None
        with Node("section", classes="panel", aria_label="Aliases"):
            with Node("div", classes="heading"):
                Node("h2", "Aliases")
                with Node("div", classes="actions"):
                    plain_button("Set an alias", hindrance=self._hindrance).on("click", self._ask_set)
            self._dialog = PageDialog(frame)
            self._root = Node("div")

    def show(self, aliases: Sequence[Alias], changes: Sequence[AliasChange], numbers: Mapping[str, int], now: datetime) -> None:
        """Shows aliases, and moves newest first. ``numbers``: of the versions that are known, by id."""
        if (list(aliases), list(changes), dict(numbers)) == self._shown:
            return
        self._shown = (list(aliases), list(changes), dict(numbers))
        self._root.clear()
        with self._root:
            if not aliases:
                Node(
                    "p", "None. An alias is a name that may move, such as production: deployments and scripts can follow it.", classes="dim"
                )
            else:
                with open_table("Aliases", ("Alias", "Version", "Since", ""), WORDS):
                    for alias in aliases:
                        self._add_row(alias, numbers, now)
            if changes:
                with Node("details"):
                    Node("summary", "History")
                    rows = [history_texts(change, numbers) for change in changes[:MAX_CHANGES]]
                    add_table("History of the aliases", HISTORY_HEADINGS, (TableRow(row[0], row[1:]) for row in rows), WORDS)

    def _add_row(self, alias: Alias, numbers: Mapping[str, int], now: datetime) -> None:
        number = numbers.get(alias.version_id)
        with Node("tr"):
            Node("th", alias.alias, scope="row")
            with Node("td"):
                link(alias.version_id if number is None else f"{self._model}@{number}", version_address(alias.version_id))
            Node("td", alias_text(alias, now))
            with Node("td", classes="row-actions"):
                if self._hindrance is None:
                    move = plain_button("Move", label=f"Move alias {alias.alias}")
                    move.on("click", partial(self._ask_move, alias, "" if number is None else str(number)))
                    delete = plain_button("Delete", "danger", label=f"Delete alias {alias.alias}")
                    delete.on("click", partial(self._ask_delete, alias))

    def _ask_set(self) -> None:
        async def set_it(answers: Answers) -> None:
            await self._move(answers.text("alias"), answers.text("number"))

        fields = (AskedField("alias", "Alias", hint="production, candidate, …"), AskedField("number", "Version", hint="its number"))
        self._dialog.ask(Question("Set an alias", EXPLANATION, confirm="Set it", keep="Cancel"), set_it, fields)

    def _ask_move(self, alias: Alias, number: str) -> None:
        async def move(answers: Answers) -> None:
            await self._move(alias.alias, answers.text("number"))

        question = Question(f"Move alias {alias.alias}?", EXPLANATION, confirm="Move it", keep="Leave it")
        self._dialog.ask(question, move, (AskedField("number", "To version", number, hint="its number"),))

    def _ask_delete(self, alias: Alias) -> None:
        question = Question(
            f"Delete alias {alias.alias}?",
            "References to it stop working, and its version is protected by it no more. Where it pointed stays in the history.",
            confirm="Delete it",
            is_dangerous=True,
        )
        self._dialog.ask_to(question, self._session, lambda client: client.models.delete_alias(self._model, alias.alias), self._refresh)

    async def _move(self, alias: str, given: str) -> None:
        number = given.removeprefix("@").removeprefix(f"{self._model}@")
        if not alias or not number.isdecimal():
            raise NotDone("An alias needs a name, and the number of the version that it is to point at.")

        def move(client: Client) -> Alias:
            return client.models.move_alias(self._model, alias, client.versions.get(f"{self._model}@{number}").id)

        await ask(self._session, move)
        await self._frame.look(self._refresh)
