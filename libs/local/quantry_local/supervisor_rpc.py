"""Talks to supervisord: XML-RPC over its Unix socket."""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from quantry_local.errors import StackError

TIMEOUT_S = 10.0


class ProgramState(StrEnum):
    """supervisord's own names."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    BACKOFF = "BACKOFF"
    STOPPING = "STOPPING"
    EXITED = "EXITED"
    FATAL = "FATAL"
    UNKNOWN = "UNKNOWN"


class Program(NamedTuple):
    """A part as supervisord sees it. ``pid`` is 0 and ``uptime_s`` 0 while it does not run."""

    name: str
    state: ProgramState
    pid: int
    uptime_s: int


class SupervisorRpc:
    """Each call is one short request; ``is_up`` tells whether anybody answers."""

    def __init__(self, socket_path: Path) -> None:
        self._server = xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=_UnixTransport(socket_path))

    def is_up(self) -> bool:
        try:
            self._server.supervisor.getState()
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False
        return True

    def programs(self) -> list[Program]:
        """Returns every part, in no particular order; raises StackError when supervisord does not answer."""
        rows: Any = self._call("getAllProcessInfo")
        return [_program(row) for row in rows]

    def program(self, name: str) -> Program:
        return _program(self._call("getProcessInfo", name))

    def start(self, name: str) -> None:
        """Asks for a part to be started; does not wait for it."""
        self._call("startProcess", name, False)

    def running(self, names: Sequence[str]) -> list[str]:
        """Returns those of the parts that have not ended."""
        alive = {ProgramState.STARTING, ProgramState.RUNNING, ProgramState.STOPPING}
        return [program.name for program in self.programs() if program.name in names and program.state in alive]

    def stop(self, names: Sequence[str]) -> None:
        """Asks for those of the parts that run to be stopped; does not wait for it."""
        for name in self.running(names):
            self._call("stopProcess", name, False)

    def shut_down(self) -> None:
        """Asks supervisord to end; does not wait for it."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: object) -> Any:
        try:
            return getattr(self._server.supervisor, method)(*arguments)
        except (OSError, http.client.HTTPException) as error:
            raise StackError(f"the process manager does not answer ({error}); run `quantry down`, then `quantry up`") from error
        except xmlrpc.client.Error as error:
            raise StackError(f"the process manager refused {method}: {error}") from error


def _program(row: dict[str, Any]) -> Program:
    uptime_s = max(0, row["now"] - row["start"]) if row["pid"] else 0
    return Program(row["name"], ProgramState(row["statename"]), row["pid"], uptime_s)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, socket_path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._socket_path = socket_path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        try:
            self.sock.connect(str(self._socket_path))
        except OSError:
            self.close()
            raise


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, socket_path: Path) -> None:
        super().__init__()
        self._socket_path = socket_path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._socket_path)
        self._connection = (host, connection)
        return connection

    def request(self, host: Any, handler: str, request_body: Any, verbose: bool = False) -> Any:
        # One connection per request: a kept one would have to be watched for supervisord's end.
        try:
            return super().request(host, handler, request_body, verbose)
        finally:
            self.close()
