"""Worker hosts, for the platform's admins: a new one is enrolled by a one-time token, an old one's key is revoked."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from quantry_core.pages import MAX_LIMIT
from quantry_core.worker_hosts import DEFAULT_ENROLMENT_S, Enrolment, WorkerHost
from quantry_dashboard import words
from quantry_dashboard.administration import entered_duration_s, used_text
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.confirmed import Question, plain_button
from quantry_dashboard.pages.dialogs import Answers, AskedField, PageDialog, Shown
from quantry_dashboard.pages.listing import Listing, cell
from quantry_dashboard.pages.parts import empty_state
from quantry_dashboard.sessions import Session
from quantry_dashboard.worker_facts import PATH, enrol_command, host_state, invitation_state, is_open

HOST_COLUMNS = ("Host", "State", "Workers", "Machine", "Key", "Key used", "Enrolled", "")
TOKEN_COLUMNS = ("Token for", "State", "Made", "")
TOKENS_SHOWN = 10


class HostsPanel:
    """Hosts and one-time tokens."""

    def __init__(self, session: Session, frame: Frame, dialog: PageDialog) -> None:
        self._session = session
        self._frame = frame
        self._dialog = dialog
        with Node("section", aria_label="Worker hosts", classes="part"):
            with Node("div", classes="heading"):
                Node("h2", "Worker hosts", classes="section-title")
                with Node("div", classes="actions"):
                    plain_button("Enrol a host", "primary").on("click", self._ask_enrol)
            self._hosts = Listing[WorkerHost](
                "Worker hosts",
                HOST_COLUMNS,
                key=lambda host: host.id,
                make_row=lambda host: _HostRow(host, self),
                address=lambda _after: PATH,
                after=None,
                empty=lambda: empty_state(
                    "No host is enrolled", "Workers that were started with the installation need none; machines elsewhere do."
                ),
            )
            with Node("details", hidden="hidden") as self._tokens_part:
                Node("summary", "One-time tokens")
                self._tokens = Listing[Enrolment](
                    "One-time tokens",
                    TOKEN_COLUMNS,
                    key=lambda token: token.id,
                    make_row=lambda token: _TokenRow(token, self),
                    address=lambda _after: PATH,
                    after=None,
                    empty=lambda: None,
                )

    async def refresh(self) -> None:
        """Reads both lists again; raises as ``ask`` does."""
        hosts, tokens = await asyncio.gather(
            ask(self._session, lambda client: client.worker_hosts.list(limit=MAX_LIMIT)),
            ask(self._session, lambda client: client.worker_hosts.invitations(limit=TOKENS_SHOWN)),
        )
        now = datetime.now(UTC)
        # All on one page: an installation has tens of hosts; the command line pages through more.
        self._hosts.show(hosts.model_copy(update={"has_more": False}), now)
        self._tokens.show(tokens.model_copy(update={"has_more": False}), now)
        self._tokens_part.show_if(bool(tokens.data))

    def _ask_enrol(self) -> None:
        question = Question(
            "Enrol a host",
            "It gets a one-time token. The host exchanges it for a worker's key of its own, which nobody else ever sees.",
            confirm="Make a token",
            keep="Cancel",
        )
        fields = (
            AskedField("name", "Name of the host"),
            AskedField("lifetime", "The token may be used for", f"{DEFAULT_ENROLMENT_S // 60}m", "30m, 12h, 7d at most"),
        )
        self._dialog.ask(question, self._enrol, fields)

    async def _enrol(self, answers: Answers) -> Shown:
        name = answers.text("name")
        lifetime_s = entered_duration_s(answers.text("lifetime"), "The token's time")
        made = await ask(self._session, lambda client: client.worker_hosts.invite(name, lifetime_s=lifetime_s))
        await self._frame.look(self.refresh)
        return Shown(
            f"Token for {made.enrolment.name}",
            f"Run the command on the host, and paste the token when it waits. It is good once, until "
            f"{words.moment_text(made.enrolment.expires_at)}, and is not shown again.",
            {"Command": enrol_command(self._session.public_url), "Token": made.token},
        )

    def ask_revoke(self, host: WorkerHost) -> None:
        """Asks whether a host's key is to be worthless."""
        question = Question(
            f"Revoke host {host.name}?",
            "Its key is refused from now on. What it runs is lost with its lease, and goes to other workers.",
            confirm="Revoke it",
            is_dangerous=True,
        )
        self._dialog.ask_to(question, self._session, lambda client: client.worker_hosts.revoke(host.id), self.refresh)

    def ask_withdraw(self, token: Enrolment) -> None:
        """Asks whether a token is to be worthless."""
        question = Question(
            f"Withdraw the token for {token.name}?", "No host can use it any more.", confirm="Withdraw it", is_dangerous=True
        )
        self._dialog.ask_to(question, self._session, lambda client: client.worker_hosts.withdraw(token.id), self.refresh)


class _HostRow:
    """One host."""

    def __init__(self, host: WorkerHost, panel: HostsPanel) -> None:
        self._host = host
        with Node("tr", role="row") as self.root:
            with cell("Host"):
                Node("span", host.name, classes="name", title=host.id)
            with cell("State"):
                self._state = Node("span", classes="status")
            self._workers = cell("Workers", classes="number")
            cell("Machine", host.hostname or "–")
            self._key = cell("Key", classes="mono")
            self._used = cell("Key used")
            with cell("Enrolled"):
                self._enrolled = Node("time", datetime=host.enrolled_at.isoformat(), title=words.moment_text(host.enrolled_at))
            with cell("", classes="row-actions"):
                self._revoke = plain_button("Revoke", "danger", label=f"Revoke host {host.name}")
        self._revoke.on("click", lambda: panel.ask_revoke(self._host))

    def show(self, host: WorkerHost, now: datetime) -> None:
        """Shows a host as it is now."""
        self._host = host
        state = host_state(host)
        self._state.say(state.text)
        self._state.mark_as(state.classes)
        self._workers.say(str(host.num_workers_alive))
        self._key.say(f"{host.key_prefix}…")
        self._used.say(used_text(host.last_used_at, now))
        self._enrolled.say(words.ago_text(host.enrolled_at, now))
        self._revoke.show_if(host.revoked_at is None)


class _TokenRow:
    """One one-time token."""

    def __init__(self, token: Enrolment, panel: HostsPanel) -> None:
        self._token = token
        with Node("tr", role="row") as self.root:
            with cell("Token for"):
                Node("span", token.name, classes="name", title=token.id)
            with cell("State"):
                self._state = Node("span", classes="status")
            with cell("Made"):
                self._made = Node("time", datetime=token.created_at.isoformat(), title=words.moment_text(token.created_at))
            with cell("", classes="row-actions"):
                self._withdraw = plain_button("Withdraw", "danger", label=f"Withdraw the token for {token.name}")
        self._withdraw.on("click", lambda: panel.ask_withdraw(self._token))

    def show(self, token: Enrolment, now: datetime) -> None:
        """Shows what became of a token."""
        self._token = token
        state = invitation_state(token, now)
        self._state.say(state.text)
        self._state.mark_as(state.classes)
        self._made.say(words.ago_text(token.created_at, now))
        self._withdraw.show_if(is_open(token, now))
