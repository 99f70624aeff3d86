"""A job's events as they happen: one thread per open page, which ends as soon as it is told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import httpx
import structlog

from quantry import Client
from quantry.errors import ClientError
from quantry_core.jobs import EventKind, JobEvent

THREAD_NAME = "job-events"

ClientOver = Callable[[httpx.BaseTransport, Callable[[float], None]], Client]
"""Makes a client over a transport, with a way to wait."""

_log = structlog.get_logger(__name__)


class Stopped(Exception):
    """The feed was told to stop."""


class StoppableTransport(httpx.BaseTransport):
    """HTTP over connections that another thread can end at any moment, even while an answer is being waited for."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Returns the answer; raises Stopped after ``stop``."""
        if self._stopped.is_set():
            raise Stopped
        request.extensions = {**request.extensions, "trace": self._trace}
        return self._inner.handle_request(request)

    def pause(self, seconds: float) -> None:
        """Waits; raises Stopped as soon as ``stop`` is called."""
        if self._stopped.wait(seconds):
            raise Stopped

    def stop(self) -> None:
        """Ends the connection, from whichever thread. Who reads from it sees its end."""
        with self._lock:
            self._stopped.set()
            self._shut_down()

    def close(self) -> None:
        """Frees the connections, from the thread that used them."""
        with self._lock:
            self._socket = None
        self._inner.close()

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        # The socket is known as soon as it is connected, so that even the wait for the answer's head can be ended.
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
                if self._stopped.is_set():
                    self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


class EventFeed:
    """Reads the events of one job above ``after`` and hands each to ``deliver``, in its own thread."""

    def __init__(
        self, client_over: ClientOver, job_id: str, *, after: int, kinds: Sequence[EventKind], deliver: Callable[[JobEvent], None]
    ) -> None:
        self._client_over = client_over
        self._job_id = job_id
        self._after = after
        self._kinds = kinds
        self._deliver = deliver
        self._transport = StoppableTransport()
        self._thread = threading.Thread(target=self._read, name=f"{THREAD_NAME}-{job_id}", daemon=True)

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    def stop(self) -> None:
        """Tells the thread to end. Returns at once; nothing is delivered that was not under way."""
        self._transport.stop()

    @property
    def is_running(self) -> bool:
        """Whether it still reads. It ends with the job, when it is stopped, and when the API stays away."""
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Waits for the thread's end."""
        self._thread.join(timeout_s)

    def _read(self) -> None:
        client = self._client_over(self._transport, self._transport.pause)
        try:
            for event in client.jobs.events(self._job_id, self._after, kinds=self._kinds):
                self._deliver(event)
        except Stopped:
            return
        except ClientError as error:
            # The page asks for the job as well, and shows what is wrong. It starts a new feed when that works again.
            _log.info("feed.ended", job_id=self._job_id, error=str(error))
        finally:
            client.close()
