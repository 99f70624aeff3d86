"""What every page has around it: head, skip link, navigation, who is signed in, the banner for troubles, and the tab's visibility."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import quote

from nicegui import events, ui

from quantry_core.keys import Role, role_covers
from quantry_dashboard.asking import NotDone, SignedOut
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.sessions import Session


class Place(NamedTuple):
    """An entry of the navigation: where it leads, the least role that sees it, and what else belongs to it."""

    name: str
    address: str
    role: Role = Role.VIEWER
    also: tuple[str, ...] = ()
    """Other addresses of its pages."""
    until: Role | None = None
    """The least role that finds it within another place."""

    def is_for(self, role: Role) -> bool:
        """Tells whether somebody with a role sees it."""
        return role_covers(role, self.role) and not (self.until is not None and role_covers(role, self.until))

    def holds(self, address: str) -> bool:
        """Tells whether a page's address is one of this place: its own, or one below it."""
        path = address.partition("?")[0]
        return path == self.address or any(f"{path}/".startswith(f"{root}/") for root in (self.address.rstrip("/"), *self.also) if root)


PLACES = (
    Place("Overview", "/"),
    Place("Jobs", "/jobs"),
    Place("Pipelines", "/pipelines"),
    Place("Models", "/models", also=("/versions", "/compare")),
    Place("Datasets", "/datasets"),
    Place("Deployments", "/deployments"),
    Place("Schedules", "/schedules"),
    Place("Workers", "/workers"),
    Place("Webhooks", "/admin/webhooks", until=Role.ADMIN),
    Place("Admin", "/admin/keys", Role.ADMIN, also=("/admin",)),
)
"""The navigation."""
STYLE_SHEETS = ("dashboard", "models", "operations")
"""Of what all pages share and of the jobs; of models and datasets; of workers, schedules and administration."""
TELL_VISIBILITY = "emitEvent('visibility', !document.hidden)"


def head(title: str) -> None:
    """Sets the page's title and loads what all pages share, from this server."""
    ui.page_title(f"{title} – Quantry")
    ui.add_head_html(
        '<meta name="color-scheme" content="light dark">'
        + "".join(f'<link rel="stylesheet" href="/static/{name}.css">' for name in STYLE_SHEETS)
        + '<script src="/static/dashboard.js"></script>'
    )


class Frame:
    """The surroundings of one page, and how it asks: troubles become a banner, a lost session leads to sign-in."""

    def __init__(self, session: Session, *, title: str, address: str) -> None:
        head(title)
        self._session = session
        self._address = address
        self.is_visible = True
        self._when_hidden: Callable[[], None] = lambda: None
        self._build_bar()
        self._trouble = Node("div", classes="banner", role="alert", hidden="hidden")
        self._refusal = Node("div", classes="banner", role="alert", hidden="hidden")
        self.content = Node("div", classes="content", id="content", tabindex="-1")
        ui.on("visibility", self._take_visibility)
        ui.context.client.on_connect(lambda: ui.run_javascript(TELL_VISIBILITY))

    def _build_bar(self) -> None:
        # Beside the page's <main>, not in it: that is where a banner is looked for.
        layout = ui.context.client.layout
        with layout:
            skip = link("Skip to content", "#content", classes="skip")
            bar = Node("header", classes="bar")
        skip.move(layout, 0)
        bar.move(layout, 1)
        with bar:
            link("Quantry", "/", classes="brand")
            menu = Node("button", "Menu", classes="menu quiet", type="button", aria_expanded="false", aria_controls="places")
            menu.on("click", js_handler="() => quantryToggleMenu()")
            with Node("nav", id="places", aria_label="Main"):
                for place in PLACES:
                    if place.is_for(self._session.identity.role):
                        link(place.name, place.address, classes="nav", aria_current="page" if place.holds(self._address) else None)
            with Node("div", classes="who"):
                Node("span", _who(self._session), classes="dim key")
                theme = Node("button", "Theme", classes="quiet", type="button", aria_label="Switch between light and dark")
                theme.on("click", js_handler="() => quantryToggleTheme()")
                with Node("form", method="post", action="/sign-out"):
                    Node("button", "Sign out", classes="quiet", type="submit")

    def refresh_every(self, interval_s: float, refresh: Callable[[], Awaitable[None]]) -> ui.timer:
        """Calls ``refresh`` now and again while the tab is visible. Its troubles are shown until it works again; the page stays."""

        async def tick() -> None:
            if self.is_visible:
                await self._run(refresh, self._trouble)

        return ui.timer(interval_s, tick)

    def when_hidden(self, action: Callable[[], None]) -> None:
        """Calls ``action`` when the tab is hidden."""
        self._when_hidden = action

    async def attempt(self, action: Callable[[], Awaitable[None]]) -> None:
        """Runs what somebody asked for. Why it was not done stays on the page until something is."""
        await self._run(action, self._refusal)

    async def look(self, question: Callable[[], Awaitable[None]]) -> None:
        """Asks for something to show. What is wrong stays on the page until a question is answered."""
        await self._run(question, self._trouble)

    async def _run(self, action: Callable[[], Awaitable[None]], banner: Node) -> None:
        try:
            await action()
        except SignedOut:
            ui.navigate.to(f"/sign-in?said=over&next={quote(self._address, safe='')}")
            return
        except NotDone as trouble:
            banner.say(str(trouble))
            banner.show_if(True)
            return
        banner.show_if(False)

    def _take_visibility(self, event: events.GenericEventArguments) -> None:
        self.is_visible = event.args is not False
        if not self.is_visible:
            self._when_hidden()


def _who(session: Session) -> str:
    role = session.identity.role
    return f"{role} key" if session.person is None else f"{session.person} ({role})"
