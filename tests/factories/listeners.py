"""Listeners that count who connects: the proof that nobody did."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Listener:
    """Accepts connections on this machine, answers each with ``answer``, and counts them by the address they came to."""

    def __init__(self, host: str, port: int, answer: bytes) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((host, port))
        self._socket.listen(64)
        self.port: int = self._socket.getsockname()[1]
        self.answer = answer
        self.requests: list[bytes] = []
        self.num_connections = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.num_connections += 1
            with connection, suppress(OSError):
                connection.settimeout(2)
                self.requests.append(_read_request(connection))
                connection.sendall(self.answer)

    def close(self) -> None:
        """Stops listening, and waits for the thread."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(timeout=5)


def _read_request(connection: socket.socket) -> bytes:
    """Returns a request with its body, or what came of one."""
    read = b""
    while part := connection.recv(65536):
        read += part
        head, end, body = read.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
        if end and len(body) >= (0 if length is None else int(length[1])):
            break
    return read


def http_answer(status: str = "204 No Content", *fields: str, body: bytes = b"") -> bytes:
    """Returns an answer after which the connection ends."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *fields]
    return "\r\n".join([*head, "", ""]).encode() + body


@contextmanager
def listening(host: str = "127.0.0.1", port: int = 0, answer: bytes | None = None) -> Iterator[Listener]:
    """Yields a listener, on a free port where none is given."""
    listener = Listener(host, port, http_answer() if answer is None else answer)
    try:
        yield listener
    finally:
        listener.close()
