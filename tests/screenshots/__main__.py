"""``python -m screenshots``: a stack with a history, and a picture of each view of the dashboard in docs/pictures.

Wide and narrow, some in dark. With --engine vllm real engines serve; otherwise quick ones do, which is all that the pictures need. --keep
leaves the stack up and prints its address until Enter is pressed, to look around in it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Browser, Page
from playwright.sync_api import TimeoutError as NotInTime

from chaos.platform import FAKE_ENGINE
from factories.browser import DESKTOP, PHONE, Visit, chromium
from factories.directories import short_directory
from factories.servers import free_port
from quantry import Client
from quantry_local.stack import Options, Stack, Up
from screenshots.history import EXAMPLES, History, Places
from screenshots.views import VIEWS, View

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
SHRINK = Path(__file__).with_name("shrink.py")
PILLOW_PYTHON = ROOT / ".venvs" / "ml" / "bin" / "python"
MAX_HEIGHTS = {DESKTOP: 1800, PHONE: 2200}
"""Pixels of a picture; what is below is not in it."""

SETTLE_MS = 900
"""Until bars and charts stand still."""

PATIENCE_MS = 15_000
MAX_BYTES, MAX_ALL_BYTES = 200_000, 5_000_000
OTHER_PATHS = [[str(ROOT), "/opt/quantry"], ["/(?:tmp|dev/shm)/quantry-pictures-[a-z0-9_]+", "/var/lib/quantry"]]
"""What a machine calls its folders does not belong in pictures: patterns, and what is shown in their place."""

SAY_OTHERWISE = """(paths) => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = paths.reduce((said, [from, to]) => said.replace(new RegExp(from, 'g'), to), walker.currentNode.data);
    if (text !== walker.currentNode.data) walker.currentNode.data = text;
  }
}"""

FRONT = {"job": "dashboard", "rollout": "rollout"}
"""Views whose upper part is a picture of its own, for the pages that speak of the dashboard, and its name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 where a view is not as it must be: something loaded from elsewhere, wider than its window, or complained about."""
    parser = argparse.ArgumentParser(prog="screenshots", description=__doc__)
    parser.add_argument("--only", help="names of views, separated by commas")
    parser.add_argument("--engine", choices=["quick", "vllm"], default="quick", help="what serves the releases")
    parser.add_argument("--keep", action="store_true", help="keep the stack up until Enter is pressed")
    options = parser.parse_args(arguments)
    views = [view for view in VIEWS if options.only is None or view.name in options.only.split(",")]
    with _receiver() as receiver_url, _stack(options.engine, receiver_url) as (up, scratch), chromium() as browser:
        key = str(up.new_admin_key)
        with Client(up.url, key) as client:
            places = History(client, up.url, key, receiver_url=receiver_url, scratch=scratch, say=print).fill()
        wrong = _take_all(browser, up.addresses["dashboard"], key, views, places)
        if options.keep:
            input(f"{up.addresses['dashboard']} with {key}; Enter ends it ")
    for line in wrong:
        print(line)
    return int(bool(wrong))


@contextmanager
def _stack(engine: str, receiver_url: str) -> Iterator[tuple[Up, Path]]:
    scratch = short_directory("quantry-pictures-")
    settings = {"QUANTRY_SWEEP_INTERVAL_S": "1", "QUANTRY_HEARTBEAT_S": "1", "QUANTRY_WORKER_SLOTS": "2"}
    if engine == "quick":
        settings |= {"QUANTRY_ENGINE_PYTHON": sys.executable, "QUANTRY_ENGINE_SCRIPT": str(FAKE_ENGINE)}
    # The receiver of webhooks is on this machine, where they may not go unless somebody says so.
    os.environ["QUANTRY_OUTBOUND_PRIVATE"] = receiver_url.removeprefix("http://")
    stack = Stack(Options(scratch / "stack", gateway_port=free_port(), import_roots=[EXAMPLES, scratch], settings=settings), print)
    try:
        yield stack.up(), scratch
    finally:
        stack.down()
        stack.forget()
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _receiver() -> Iterator[str]:
    """Yields the address of a service that takes every webhook's message."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _take_all(browser: Browser, url: str, key: str, views: Sequence[View], places: Places) -> list[str]:
    """Takes the pictures; returns a line for everything that is wrong."""
    folder = PICTURES / "dashboard"
    folder.mkdir(exist_ok=True)
    wrong: list[str] = []
    taken: list[Path] = []
    for size, is_dark in ((DESKTOP, False), (PHONE, False), (DESKTOP, True)):
        visit = Visit(browser, url, size=size, color_scheme="dark" if is_dark else "light", reduced_motion="reduce")
        visit.sign_in(key)
        for view in views:
            if is_dark and not view.is_dark:
                continue
            path = folder / f"{view.name}-{size[0]}{'-dark' if is_dark else ''}.png"
            wrong += [f"{path.name}: {line}" for line in _take(visit, view, places, path, size)]
            taken.append(path)
            if view.name in FRONT and (size, is_dark) == (DESKTOP, False):
                front = PICTURES / f"{FRONT[view.name]}.png"
                visit.page.screenshot(path=front)
                taken.append(front)
        visit.close()
        wrong += [f"from elsewhere: {request}" for request in visit.requests_elsewhere()]
    subprocess.run([str(PILLOW_PYTHON), str(SHRINK), *map(str, taken)], check=True)
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.png")}
    wrong += [f"{name}: {size_bytes} bytes" for name, size_bytes in sizes.items() if size_bytes > MAX_BYTES]
    print(f"{len(taken)} pictures taken; {len(sizes)} in all, {sum(sizes.values()) / 1e6:.1f} MB")
    return wrong + ([f"all pictures have {sum(sizes.values())} bytes"] if sum(sizes.values()) > MAX_ALL_BYTES else [])


def _take(visit: Visit, view: View, places: Places, path: Path, size: tuple[int, int]) -> list[str]:
    visit.complaints.clear()
    page = visit.go(view.address.format(**vars(places)))
    wrong = []
    try:
        _wait_until_whole(page, view)
    except NotInTime:
        wrong.append(f"it does not show {view.shows!r}")
    wrong += visit.complaints
    if visit.overflow_px():
        wrong.append(f"{visit.overflow_px()} pixels wider than its window")
    page.evaluate(SAY_OTHERWISE, OTHER_PATHS)
    height = min(int(page.evaluate("document.documentElement.scrollHeight")), MAX_HEIGHTS[size])
    page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": size[0], "height": height})
    return wrong


def _wait_until_whole(page: Page, view: View) -> None:
    page.locator("#content").get_by_text(view.shows).locator("visible=true").first.wait_for(timeout=PATIENCE_MS)
    page.wait_for_function("![...document.querySelectorAll('#content p')].some(p => p.textContent === 'Loading…' && p.checkVisibility())")
    page.wait_for_timeout(SETTLE_MS)


if __name__ == "__main__":
    sys.exit(main())
