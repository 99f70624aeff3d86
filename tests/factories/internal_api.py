"""The api's internal endpoints that gateways tell things to: it hears, refuses or breaks off as a test says."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from aiohttp import web

LOST = -1
"""The report is heard, and the connection breaks before the answer: the gateway cannot know."""


class InternalApi:
    """Answers each call with the next of ``statuses``, then with 204. Remembers what was told with which token."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = deque(statuses)
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.tokens: set[str] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers one call."""
        self.tokens.add(request.headers["authorization"])
        self.told.append((request.path, json.loads(await request.read())))
        status = self.statuses.popleft() if self.statuses else 204
        if status == LOST:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.Response(status=status)

    def documents(self, path: str) -> list[dict[str, Any]]:
        """Returns what was told at a path, in order."""
        return [document for told_path, document in self.told if told_path == path]
