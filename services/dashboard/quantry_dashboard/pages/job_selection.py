"""What is done to several jobs of the list at once: cancel them, retry them."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence

from nicegui import events

from quantry import Client
from quantry_core.jobs import Job
from quantry_dashboard import facts, words
from quantry_dashboard.asking import NotDone, ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import EMIT_CHECKED, Node
from quantry_dashboard.pages.confirmed import Question, action_button, ask_before
from quantry_dashboard.sessions import Session

CANCEL = Question(
    "Cancel these jobs?",
    "",
    confirm="Cancel them",
    keep="Keep them",
    is_dangerous=True,
)
AGAIN = Question("Retry these jobs?", "", confirm="Retry them")


class JobSelection:
    """Which jobs are marked, and two buttons that are there while it makes sense for one of them."""

    def __init__(self, session: Session, frame: Frame, refresh: Callable[[], Awaitable[None]]) -> None:
        self._session = session
        self._frame = frame
        self._refresh = refresh
        self._jobs: dict[str, Job] = {}
        self._marked: dict[str, Node] = {}
        self._retry_keys: dict[str, str] = {}
        with Node("div", classes="selection", role="group", aria_label="Marked jobs", hidden="hidden") as self._root:
            self._count = Node("span", role="status")
            self._cancel = action_button("Cancel", "danger", None)
            self._again = action_button("Retry", "", None)
            self._cancel_words = ask_before(self._cancel, CANCEL, self._do_cancel)
            self._again_words = ask_before(self._again, AGAIN, self._do_retry)
            clear = Node("button", "Unmark all", classes="quiet", type="button")
            clear.on("click", self._unmark)

    def add_box(self, job: Job) -> None:
        """Adds the box that marks a job."""
        box = Node("input", type="checkbox", aria_label=f"Mark job {words.short_id(job.id)}")

        def take(event: events.GenericEventArguments) -> None:
            if event.args is True:
                self._marked[job.id] = box
            else:
                self._marked.pop(job.id, None)
            self._tell()

        box.on("change", take, js_handler=EMIT_CHECKED)

    def show(self, jobs: Sequence[Job]) -> None:
        """Takes jobs as they are now; marks of those that are not on the page any more are forgotten."""
        self._jobs = {job.id: job for job in jobs}
        for gone in [known for known in self._marked if known not in self._jobs]:
            del self._marked[gone]
        self._tell()

    def _chosen(self, may: Callable[[Job], bool]) -> list[Job]:
        return [job for job_id, job in self._jobs.items() if job_id in self._marked and may(job)]

    def _tell(self) -> None:
        to_cancel, to_retry = self._chosen(facts.may_cancel), self._chosen(facts.may_retry)
        self._root.show_if(bool(self._marked))
        self._count.say(f"{len(self._marked)} marked")
        self._cancel.say(f"Cancel {len(to_cancel)}")
        self._cancel.show_if(bool(to_cancel))
        self._cancel_words.say(f"{_jobs(len(to_cancel))}: running ones are stopped within seconds, and what they have done so far is lost.")
        self._again.say(f"Retry {len(to_retry)}")
        self._again.show_if(bool(to_retry))
        self._again_words.say(f"{_jobs(len(to_retry))}: each is submitted again as a new job.")

    def _unmark(self) -> None:
        for box in self._marked.values():
            box.run_method("click")

    async def _do_cancel(self) -> None:
        await self._do(self._chosen(facts.may_cancel), lambda client, job: client.jobs.cancel(job.id), "cancelled")

    async def _do_retry(self) -> None:
        def retry(client: Client, job: Job) -> Job:
            return client.jobs.retry(job.id, idempotency_key=self._retry_keys.setdefault(job.id, str(uuid.uuid4())))

        await self._do(self._chosen(facts.may_retry), retry, "submitted again")

    async def _do(self, jobs: Sequence[Job], act: Callable[[Client, Job], Job], done: str) -> None:
        async def each() -> None:
            refused = []
            for job in jobs:
                try:
                    await ask(self._session, lambda client, job=job: act(client, job))  # type: ignore[misc]
                except NotDone as problem:
                    refused.append(f"{words.short_id(job.id)}: {problem}")
            self._unmark()
            await self._refresh()
            if refused:
                raise NotDone(f"{len(refused)} of {len(jobs)} were not {done}. {' '.join(refused[:3])}")

        await self._frame.attempt(each)


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"
