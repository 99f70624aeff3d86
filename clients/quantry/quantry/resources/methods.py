# Made from quantry/aio/resources/methods.py by make_sync.py: change that file, and run this again.
"""The quantization methods the server knows."""

from __future__ import annotations

from urllib.parse import quote

from quantry.transport import Transport
from quantry_core.method_views import MethodView
from quantry_core.pages import Page


class Methods:
    """``client.methods``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[MethodView]:
        """Returns every method with its schemes and options; the server has all on one page."""
        return self._transport.get(Page[MethodView], "/api/v1/methods").data

    def get(self, method: str) -> MethodView:
        """Returns one method; raises ApiError naming the ones there are."""
        return self._transport.get(MethodView, f"/api/v1/methods/{quote(method, safe='')}")
