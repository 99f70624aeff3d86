"""What can be done with a version: begin a job from it, compare it, put it aside, delete it, take it back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from quantry import Client
from quantry_core.versions import Version, VersionDetail, VersionKind, VersionState
from quantry_dashboard import facts
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.confirmed import Question, action_button, ask_before
from quantry_dashboard.sessions import Session
from quantry_dashboard.version_facts import Action, actions_of, base_id_of

QUESTIONS: dict[str, tuple[str, Question]] = {
    "archive": (
        "",
        Question(
            "Archive this version?",
            "Nothing new is made from it and nothing serves it until it is taken back. Files, lineage and evidence stay.",
            confirm="Archive it",
        ),
    ),
    "unarchive": ("", Question("Make this version ready again?", "It can be used and served as before.", confirm="Make it ready")),
    "delete": (
        "danger",
        Question(
            "Delete this version?",
            "From then on only its id finds it. Until a collection of the vault removes it, it can be restored here. It is refused where "
            "other versions were made from it, a release serves it, an alias points at it or a job uses it.",
            confirm="Delete it",
            is_dangerous=True,
        ),
    ),
    "restore": ("primary", Question("Restore this version?", "It is found by its name and number again.", confirm="Restore it")),
}
LABELS = {"archive": "Archive", "unarchive": "Take back", "delete": "Delete", "restore": "Restore"}


def may_be_done(version: Version) -> frozenset[str]:
    """Returns what it makes sense to do to a version as it is now."""
    if version.deleted_at is not None:
        return frozenset({"restore"})
    possible = {"delete"}
    if version.state is VersionState.ARCHIVED:
        possible.add("unarchive")
    elif version.state is VersionState.READY and version.kind is not VersionKind.MASTER:
        possible.add("archive")
    return frozenset(possible)


class VersionActions:
    """Links and buttons. A button is there only when it makes sense and the key may use it."""

    def __init__(self, session: Session, frame: Frame, refresh: Callable[[], Awaitable[None]]) -> None:
        self._session = session
        self._frame = frame
        self._refresh = refresh
        self._version: VersionDetail | None = None
        self._shown: list[Action] | None = None
        self._hindrance = facts.hindrance(session.identity)
        self._buttons: dict[str, Node] = {}
        with Node("div", classes="actions"):
            self._links = Node("div", classes="links")
            for name, (classes, question) in QUESTIONS.items():
                button = self._buttons[name] = action_button(LABELS[name], classes, self._hindrance)
                if self._hindrance is None:
                    ask_before(button, question, self._doing(name))
            Node("p", self._hindrance, classes="dim hint", hidden=None if self._hindrance else "hidden")

    def show(self, version: VersionDetail) -> None:
        """Shows what makes sense for a version as it is now."""
        self._version = version
        possible = may_be_done(version)
        for name, button in self._buttons.items():
            button.show_if(name in possible)
        actions = actions_of(version, base_id_of(version))
        if actions == self._shown:
            return
        self._shown = actions
        self._links.clear()
        with self._links:
            for action in actions:
                link(action.label, action.address, classes="button")

    def _doing(self, name: str) -> Callable[[], Awaitable[None]]:
        async def do() -> None:
            version = self._version
            if version is None:
                return

            async def act() -> None:
                await ask(self._session, lambda client: _do(client, name, version.id))
                await self._refresh()

            await self._frame.attempt(act)

        return do


def _do(client: Client, name: str, version_id: str) -> None:
    match name:
        case "archive":
            client.versions.archive(version_id)
        case "unarchive":
            client.versions.unarchive(version_id)
        case "delete":
            client.versions.delete(version_id)
        case "restore":
            client.versions.restore(version_id)
