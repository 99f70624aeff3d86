"""What can be done to a job: cancel it, after a question, and retry it."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

from nicegui import ui

from quantry_core.jobs import Job
from quantry_dashboard import facts
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node
from quantry_dashboard.sessions import Session


class JobActions:
    """Two buttons and a dialog. A button is there only when it makes sense, and says so when the key may not use it."""

    def __init__(self, session: Session, frame: Frame, job_id: str, refresh: Callable[[], Awaitable[None]]) -> None:
        self._session = session
        self._frame = frame
        self._job_id = job_id
        self._refresh = refresh
        # One key for the page: a second click, or one after an answer that was lost, makes no second job.
        self._retry_key = str(uuid.uuid4())
        hindrance = facts.hindrance(session.identity)
        with Node("div", classes="actions"):
            self._cancel = _button("Cancel", "danger", hindrance)
            self._retry = _button("Retry", "primary", hindrance)
            self._hint = Node("p", hindrance, classes="dim hint", hidden="hidden")
        self._has_hint = hindrance is not None
        if hindrance is None:
            dialog = self._build_dialog()
            self._cancel.on("click", js_handler=f"() => getHtmlElement({dialog.id}).showModal()")
            self._retry.on("click", self._do_retry)

    def show(self, job: Job) -> None:
        """Shows the buttons that make sense for a job as it is now."""
        self._cancel.show_if(facts.may_cancel(job))
        self._retry.show_if(facts.may_retry(job))
        self._hint.show_if(self._has_hint and (facts.may_cancel(job) or facts.may_retry(job)))

    def _build_dialog(self) -> Node:
        with Node("dialog", aria_label="Cancel this job?") as dialog:
            Node("h2", "Cancel this job?")
            Node("p", "A running job is stopped within seconds, and what it has done so far is lost. Jobs that need it are cancelled too.")
            with Node("div", classes="actions"):
                keep = Node("button", "Keep it", type="button", classes="quiet")
                confirm = Node("button", "Cancel the job", type="button", classes="danger")
        close = f"getHtmlElement({dialog.id}).close()"
        keep.on("click", js_handler=f"() => {close}")
        confirm.on("click", self._do_cancel, js_handler=f"() => {{ {close}; emit(); }}")
        return dialog

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


def _button(text: str, classes: str, hindrance: str | None) -> Node:
    """Returns a button; one that may not be used stays reachable, so that everybody learns why."""
    return Node(
        "button",
        text,
        classes=classes,
        type="button",
        hidden="hidden",
        aria_disabled="true" if hindrance else None,
        title=hindrance,
    )
