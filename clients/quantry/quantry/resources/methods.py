"""The quantization methods the server knows."""

from __future__ import annotations

from pydantic import RootModel

from quantry.transport import Transport
from quantry_core.methods import MethodInfo


class _MethodTable(RootModel[list[MethodInfo]]):
    """The answer: a plain list, for there is no second page."""


class Methods:
    """``client.methods``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[MethodInfo]:
        """Returns every method with its schemes and group sizes."""
        return self._transport.get(_MethodTable, "/api/v1/methods").root
