"""What people decide about a rollout: pause, resume, promote, abort, roll back, each after a question."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from quantry import Client
from quantry_core.rollouts import ACTIVE_ROLLOUT_STATES, Rollout, RolloutRequest, RolloutState
from quantry_dashboard import facts
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.confirmed import Question, action_button, ask_before
from quantry_dashboard.sessions import Session

QUESTIONS: dict[RolloutRequest, tuple[str, str, Question]] = {
    RolloutRequest.PAUSE: (
        "Pause",
        "",
        Question("Pause this rollout?", "It keeps its share of requests and goes no further until it is resumed.", confirm="Pause it"),
    ),
    RolloutRequest.RESUME: (
        "Resume",
        "primary",
        Question("Resume this rollout?", "It goes on from where it is paused.", confirm="Resume it"),
    ),
    RolloutRequest.PROMOTE: (
        "Promote",
        "primary",
        Question(
            "Promote the candidate now?",
            "What is left of the strategy is skipped, its rules too: the candidate gets all requests as soon as its replicas are ready.",
            confirm="Promote it",
        ),
    ),
    RolloutRequest.ABORT: (
        "Abort",
        "danger",
        Question(
            "Abort this rollout?",
            "The stable release gets all requests at once, and the candidate's replicas are stopped.",
            confirm="Abort it",
            is_dangerous=True,
        ),
    ),
    RolloutRequest.ROLL_BACK: (
        "Roll back",
        "danger",
        Question(
            "Roll this rollout back?",
            "The stable release gets all requests at once. The rollout is kept in the history as rolled back.",
            confirm="Roll it back",
            is_dangerous=True,
        ),
    ),
}


def may_be_asked(rollout: Rollout) -> frozenset[RolloutRequest]:
    """Returns what it makes sense to ask of a rollout as it is now."""
    if rollout.state not in ACTIVE_ROLLOUT_STATES:
        return frozenset()
    requests = {RolloutRequest.ABORT}
    if rollout.state is not RolloutState.PENDING:
        requests.add(RolloutRequest.ROLL_BACK)
    if not rollout.promote_requested or rollout.state is RolloutState.PAUSED:
        requests.add(RolloutRequest.PROMOTE)
    if rollout.state is RolloutState.PROGRESSING:
        requests.add(RolloutRequest.PAUSE)
    if rollout.state is RolloutState.PAUSED:
        requests.add(RolloutRequest.RESUME)
    return frozenset(requests)


class RolloutActions:
    """Five buttons with their dialogs. A button is there only when it makes sense and the key may use it.

    A second click asks for what is so already, which changes nothing.
    """

    def __init__(self, session: Session, frame: Frame, refresh: Callable[[], Awaitable[None]]) -> None:
        self._session = session
        self._frame = frame
        self._refresh = refresh
        self._rollout_id = ""
        self._hindrance = facts.hindrance(session.identity)
        self._buttons: dict[RolloutRequest, Node] = {}
        with Node("div", classes="actions"):
            for request, (label, classes, question) in QUESTIONS.items():
                button = self._buttons[request] = action_button(label, classes, self._hindrance)
                if self._hindrance is None:
                    ask_before(button, question, partial(self._do, request))
            self._hint = Node("p", self._hindrance, classes="dim hint", hidden="hidden")

    def show(self, rollout: Rollout) -> None:
        """Shows the buttons that make sense for a rollout as it is now."""
        self._rollout_id = rollout.id
        possible = may_be_asked(rollout)
        for request, button in self._buttons.items():
            button.show_if(request in possible)
        self._hint.show_if(self._hindrance is not None and bool(possible))

    async def _do(self, request: RolloutRequest) -> None:
        rollout_id = self._rollout_id

        async def act() -> None:
            await ask(self._session, lambda client: _asked(client, request, rollout_id))
            await self._refresh()

        await self._frame.attempt(act)


def _asked(client: Client, request: RolloutRequest, rollout_id: str) -> Rollout:
    match request:
        case RolloutRequest.PAUSE:
            return client.rollouts.pause(rollout_id)
        case RolloutRequest.RESUME:
            return client.rollouts.resume(rollout_id)
        case RolloutRequest.PROMOTE:
            return client.rollouts.promote(rollout_id)
        case RolloutRequest.ABORT:
            return client.rollouts.abort(rollout_id)
        case RolloutRequest.ROLL_BACK:
            return client.rollouts.rollback(rollout_id)
