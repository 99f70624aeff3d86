"""What can be done to a job: cancel it, after a question, and retry it."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

from nicegui import ui

from quantry_core.jobs import Job
from quantry_dashboard import facts
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.confirmed import Question, action_button, ask_before
from quantry_dashboard.pages.submit import again_address
from quantry_dashboard.sessions import Session

CANCEL = Question(
    "Cancel this job?",
    "A running job is stopped within seconds, and what it has done so far is lost. Jobs that need it are cancelled too.",
    confirm="Cancel the job",
    keep="Keep it",
    is_dangerous=True,
)


class JobActions:
    """Two buttons, a dialog and a link to a form. A button is there only when it makes sense and the key may use it."""

    def __init__(self, session: Session, frame: Frame, job_id: str, refresh: Callable[[], Awaitable[None]]) -> None:
        self._session = session
        self._frame = frame
        self._job_id = job_id
        self._refresh = refresh
        # One key for the page: a second click, or one after an answer that was lost, makes no second job.
        self._retry_key = str(uuid.uuid4())
        hindrance = facts.hindrance(session.identity)
        with Node("div", classes="actions"):
            self._cancel = action_button("Cancel", "danger", hindrance)
            self._retry = action_button("Retry", "primary", hindrance)
            if hindrance is None:
                link("Again, with changes", again_address(job_id), classes="button")
            self._hint = Node("p", hindrance, classes="dim hint", hidden="hidden")
        self._has_hint = hindrance is not None
        if hindrance is None:
            ask_before(self._cancel, CANCEL, self._do_cancel)
            self._retry.on("click", self._do_retry)

    def show(self, job: Job) -> None:
        """Shows the buttons that make sense for a job as it is now."""
        self._cancel.show_if(facts.may_cancel(job))
        self._retry.show_if(facts.may_retry(job))
        self._hint.show_if(self._has_hint and (facts.may_cancel(job) or facts.may_retry(job)))

    async def _do_cancel(self) -> None:
        async def cancel() -> None:
            await ask(self._session, lambda client: client.jobs.cancel(self._job_id))
            await self._refresh()

        await self._frame.attempt(cancel)

    async def _do_retry(self) -> None:
        async def retry() -> None:
            job = await ask(self._session, lambda client: client.jobs.retry(self._job_id, idempotency_key=self._retry_key))
            ui.navigate.to(f"/jobs/{job.id}")

        await self._frame.attempt(retry)
