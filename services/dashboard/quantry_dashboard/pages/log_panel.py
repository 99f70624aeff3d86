"""The end of a job's log as it is written, a search through all of it, and a link to all of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

from nicegui import events, ui

from quantry_dashboard.log_tail import Found, appended, searched
from quantry_dashboard.nodes import EMIT_VALUE, Node, link

LOG_LINES = 400


class LogPanel:
    """Shows the last lines, and follows them while whoever reads is at their end."""

    def __init__(self, job_id: str, read_all: Callable[[Callable[[str], None]], Awaitable[None]]) -> None:
        """``read_all`` reads the whole log and hands it to what it is given."""
        self._read_all = read_all
        self._shown: list[str] = []
        self._chunks: deque[tuple[Node, int]] = deque()
        self._wanted = ""
        with Node("section", classes="panel log", aria_label="Log"):
            with Node("div", classes="heading"):
                Node("h2", "Log")
                self._size = Node("span", classes="dim", role="status")
                self._add_controls(job_id)
            self._text = Node("pre", tabindex="0", role="log", aria_label="Last lines of the log")
            self._found = Node("pre", tabindex="0", aria_label="Lines that were found", hidden="hidden")
            self._nothing = Node("p", "Nothing was written so far.", classes="dim")
        follow = f"quantryFollowEnd(getHtmlElement({self._text.id}), getHtmlElement({self._follow.id}))"
        ui.context.client.on_connect(lambda: ui.run_javascript(follow))

    def _add_controls(self, job_id: str) -> None:
        with Node("div", classes="actions"):
            search = Node("input", type="search", placeholder="Search", aria_label="Search the log", spellcheck="false", autocomplete="off")
            search.on("change", self._search, js_handler=EMIT_VALUE)
            with Node("label", classes="switch"):
                self._follow = Node("input", type="checkbox", checked="checked")
                Node("span", "Follow")
            link("Full log", f"/jobs/{job_id}/log", target="_blank", rel="noopener")

    def show(self, text: str) -> None:
        """Shows the last lines of a log."""
        lines = text.splitlines()
        is_cut = len(lines) >= LOG_LINES
        lines = lines[-LOG_LINES:]
        fresh = appended(self._shown, lines)
        if fresh is None:
            self._text.clear()
            self._chunks.clear()
            fresh = lines
        self._shown = lines
        if fresh:
            with self._text:
                self._chunks.append((Node("span", "\n".join(fresh) + "\n"), len(fresh)))
        self._drop_old()
        if self._wanted:
            return
        self._nothing.show_if(not lines)
        self._text.show_if(bool(lines))
        self._size.say(f"the last {LOG_LINES} lines" if is_cut else "")

    async def _search(self, event: events.GenericEventArguments) -> None:
        self._wanted = str(event.args or "").strip()
        if self._wanted:
            await self._read_all(self._show_found)
            return
        self._found.show_if(False)
        self._text.show_if(bool(self._shown))
        self._nothing.show_if(not self._shown)
        self._size.say(f"the last {LOG_LINES} lines" if len(self._shown) >= LOG_LINES else "")

    def _show_found(self, text: str) -> None:
        found: Found = searched(text, self._wanted)
        self._found.clear()
        with self._found:
            Node("span", "\n".join(found.lines))
        self._found.show_if(bool(found.lines))
        self._text.show_if(False)
        self._nothing.show_if(False)
        self._size.say(found.said)

    def _drop_old(self) -> None:
        num_lines = sum(count for _, count in self._chunks)
        while self._chunks and num_lines - self._chunks[0][1] >= LOG_LINES:
            node, count = self._chunks.popleft()
            node.delete()
            num_lines -= count
