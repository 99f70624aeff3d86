"""TCP ports that a server may be given before it binds them."""

from __future__ import annotations

LISTENING_PORTS = range(10_000, 32_768)
"""Below those that Linux gives to outgoing connections (``ip_local_port_range`` begins at 32768): one that is free when it is
chosen is not taken by some client before its server listens."""
