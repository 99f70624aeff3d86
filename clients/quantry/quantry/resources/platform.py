# Made from quantry/aio/resources/platform.py by make_sync.py: change that file, and run this again.
"""The installation itself: its clocks, its migrations, and the key that asks."""

from __future__ import annotations

from quantry.transport import Transport
from quantry_core.platform_state import PlatformState

_PATH = "/api/v1/platform"


class Platform:
    """``client.platform``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self) -> PlatformState:
        """Returns how the installation is, as far as its api can tell."""
        return self._transport.get(PlatformState, _PATH)
