"""Seconds until something is painted in Chromium, and tabs that stay open."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from bench.dashboard.views import View

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
SIZE = {"width": 1440, "height": 900}
PATIENCE_MS = 60_000

# Looks at each frame; the one after that in which it is there is the first that somebody sees it in.
LOOK = """
(() => {{
  const look = () => {{
    const found = [...document.querySelectorAll({selector})].some((node) => node.checkVisibility());
    if (found) requestAnimationFrame(() => {{ globalThis.paintedMs = performance.now(); }});
    else requestAnimationFrame(look);
  }};
  requestAnimationFrame(look);
}})()
"""


class Seconds(NamedTuple):
    """From the start of the navigation until a view is painted."""

    cold: float
    """With nothing in the browser's cache."""

    warm: float
    """The same once more in the same window."""


@contextmanager
def browser() -> Iterator[Browser]:
    """Yields this machine's Chromium; FileNotFoundError where there is none."""
    path = shutil.which("chromium")
    if path is None:
        raise FileNotFoundError("there is no browser here: install the system package chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield running
        finally:
            running.close()


class Person:
    """Somebody who is signed in, and comes each time with an empty cache."""

    def __init__(self, browser: Browser, url: str, api_key: str) -> None:
        self._browser = browser
        self._url = url
        with browser.new_context() as context:
            page = context.new_page()
            page.goto(f"{url}/sign-in")
            page.get_by_label("API key").fill(api_key)
            page.get_by_role("button", name="Sign in").click()
            page.get_by_role("button", name="Sign out").wait_for()
            self._cookies = context.cookies()

    def looks_at(self, view: View, *, is_signed_in: bool = True) -> Seconds:
        """Opens a view twice in a new window; returns how long each took."""
        with self._window(is_signed_in=is_signed_in) as context:
            context.add_init_script(LOOK.format(selector=json.dumps(view.painted)))
            page = context.new_page()
            return Seconds(self._painted_s(page, view), self._painted_s(page, view))

    @contextmanager
    def keeps_open(self, view: View, num_tabs: int, *, is_signed_in: bool = True) -> Iterator[None]:
        """Keeps so many tabs of a view open, each painted."""
        with self._window(is_signed_in=is_signed_in) as context:
            for _ in range(num_tabs):
                page = context.new_page()
                page.goto(self._url + view.address)
                page.locator(view.painted).locator("visible=true").first.wait_for(timeout=PATIENCE_MS)
            yield

    def _painted_s(self, page: Page, view: View) -> float:
        page.goto("about:blank")
        page.goto(self._url + view.address, wait_until="commit")
        page.wait_for_function("globalThis.paintedMs !== undefined", timeout=PATIENCE_MS)
        return float(page.evaluate("globalThis.paintedMs")) / 1000

    @contextmanager
    def _window(self, *, is_signed_in: bool) -> Iterator[BrowserContext]:
        with self._browser.new_context(viewport=SIZE) as context:  # type: ignore[arg-type]  # its type is a private one
            if is_signed_in:
                context.add_cookies(self._cookies)  # type: ignore[arg-type]  # what it gave itself
            yield context
