"""The machine's Chromium, driven by playwright, and what every page of the dashboard is held to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

# As root there is no sandbox; without a display there is no use for a GPU; and nothing is asked of anybody else.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
DESKTOP = (1440, 900)
PHONE = (390, 844)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yields a running browser; skips the test where the machine has none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no browser here: install the system package chromium (.ci/run does)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One person's browser with one tab; remembers what the page asked for and complained about."""

    def __init__(self, browser: Browser, url: str, *, size: tuple[int, int] = DESKTOP, **options: Any) -> None:
        self.url = url
        self.context: BrowserContext = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        self.context.set_default_timeout(15_000)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page = self.open_tab()

    def open_tab(self) -> Page:
        """Returns a new tab of this browser."""
        page = self.context.new_page()
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda connection: self.requests.append(connection.url))
        page.on("console", self._take_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def go(self, path: str) -> Page:
        """Goes to a page of the dashboard."""
        self.page.goto(self.url + path)
        return self.page

    def sign_in(self, key: str, path: str = "/jobs") -> Page:
        """Goes to a page, through the sign-in."""
        page = self.go(path)
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name="Sign out").wait_for()
        return page

    def requests_elsewhere(self) -> list[str]:
        """Returns the addresses that the pages asked for and that are not the dashboard's."""
        here = urlsplit(self.url).netloc
        return [url for url in self.requests if urlsplit(url).scheme != "data" and urlsplit(url).netloc != here]

    def overflow_px(self) -> int:
        """Returns by how many pixels the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def close(self) -> None:
        """Closes the browser's window."""
        self.context.close()

    def _take_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)
