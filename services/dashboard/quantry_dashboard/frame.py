"""What every page has around it: head, skip link, navigation, who is signed in, the banner for troubles, and the tab's visibility."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from nicegui import events, ui

from quantry_core.keys import Identity
from quantry_dashboard.asking import NotDone, SignedOut
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.sessions import Session

PLACES = {"Jobs": "/jobs", "Deployments": "/deployments"}
"""Where the navigation leads."""
TELL_VISIBILITY = "emitEvent('visibility', !document.hidden)"


def head(title: str) -> None:
    """Sets the page's title and loads what all pages share, from this server."""
    ui.page_title(f"{title} – Quantry")
    ui.add_head_html(
        '<meta name="color-scheme" content="light dark"><link rel="stylesheet" href="/static/dashboard.css">'
        '<script src="/static/dashboard.js"></script>'
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
            link("Quantry", "/jobs", classes="brand")
            with Node("nav", aria_label="Main"):
                for name, address in PLACES.items():
                    is_here = self._address.startswith(address)
                    link(name, address, classes="nav", aria_current="page" if is_here else None)
            with Node("div", classes="who"):
                Node("span", _who(self._session.identity), classes="dim key")
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


def _who(identity: Identity) -> str:
    return f"{identity.role} key"
