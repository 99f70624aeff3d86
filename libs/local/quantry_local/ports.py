"""Which TCP ports of the loopback address a stack uses: chosen free, and remembered so that addresses survive a restart."""

from __future__ import annotations

import random
import socket
from itertools import islice

import psutil
from pydantic import BaseModel, ConfigDict

from quantry_core.ports import LISTENING_PORTS
from quantry_local.errors import StackError

HOST = "127.0.0.1"
DEFAULT_GATEWAY_PORT = 8321


class Ports(BaseModel):
    """One port per part that listens on TCP."""

    model_config = ConfigDict(frozen=True)

    gateway: int
    redis: int
    s3: int
    registry: int
    api: int
    deploy: int
    dashboard: int = 0
    """0 in the file of a stack that was made before it had a dashboard: then one is chosen."""


def choose_ports(remembered: Ports | None, gateway_port: int | None) -> Ports:
    """Returns ports that are all free now.

    The gateway's is the one asked for, else the remembered one, else 8321: people know it, so a taken one is an error
    and is not replaced. Raises StackError naming the holder. The others are replaced where somebody took them.
    """
    gateway = gateway_port or (remembered.gateway if remembered else DEFAULT_GATEWAY_PORT)
    refused = refusal(gateway)
    if isinstance(refused, PermissionError):
        raise StackError(f"port {gateway} is kept for privileged programs; choose another port, 1024 or higher, with --port")
    if refused is not None:
        raise StackError(f"port {gateway} is taken{holder(gateway)}; stop it, or choose another port with --port")
    names = [name for name in Ports.model_fields if name != "gateway"]
    kept = {name: getattr(remembered, name) for name in names} if remembered else {}
    kept = {name: port for name, port in kept.items() if port not in {0, gateway} and is_free(port)}
    missing = [name for name in names if name not in kept]
    fresh = zip(missing, free_ports(len(missing), besides={gateway, *kept.values()}), strict=True)
    return Ports(gateway=gateway, **kept, **dict(fresh))


def free_ports(count: int, *, besides: set[int]) -> list[int]:
    """Returns ``count`` different ports that nobody listens on; raises StackError if there are not so many."""
    candidates = [port for port in LISTENING_PORTS if port not in besides]
    random.shuffle(candidates)
    ports = list(islice(filter(is_free, candidates), count))
    if len(ports) < count:
        raise StackError(f"there are no {count} free ports from {LISTENING_PORTS.start} to {LISTENING_PORTS.stop - 1}")
    return ports


def is_free(port: int) -> bool:
    """Tells whether a server could listen on the port now."""
    return refusal(port) is None


def refusal(port: int) -> Exception | None:
    """Returns why no server could listen on the port now; None if one could."""
    try:
        socket.create_server((HOST, port)).close()
    except (OSError, OverflowError) as error:
        return error
    return None


def holder(port: int) -> str:
    """Returns `` by <program> (pid <pid>)`` for the process that listens on the port, or nothing where it cannot be seen."""
    try:
        listeners = [
            connection for connection in psutil.net_connections("tcp") if connection.status == psutil.CONN_LISTEN and connection.pid
        ]
        for connection in listeners:
            if connection.laddr and connection.laddr.port == port:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return ""
    return ""
