"""The quantization methods the server knows."""

from __future__ import annotations

from quantry.transport import Transport
from quantry_core.methods import MethodInfo
from quantry_core.pages import Page


class Methods:
    """``client.methods``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[MethodInfo]:
        """Returns every method with its schemes and group sizes; the server has all on one page."""
        return self._transport.get(Page[MethodInfo], "/api/v1/methods").data
