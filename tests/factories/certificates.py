"""A certificate that its own server signed, and a TLS server that shows it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from factories.listeners import http_answer


@dataclass
class TlsServer:
    """Where it listens, and the names that clients asked for."""

    port: int
    names: list[str | None] = field(default_factory=list)


@dataclass(frozen=True)
class Certificate:
    path: Path
    key_path: Path

    @contextmanager
    def serving(self) -> Iterator[TlsServer]:
        """Yields a server on this machine that shows the certificate to whatever name it is asked for."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key_path)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = TlsServer(listener.getsockname()[1])

            def note(_socket: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
                server.names.append(name)

            context.sni_callback = note
            thread = threading.Thread(target=_accept, args=(listener, context), daemon=True)
            thread.start()
            yield server
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)


def self_signed(folder: Path, host: str) -> Certificate:
    """Returns a fresh certificate of a host."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    made.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


def _accept(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, suppress(OSError):
            connection.settimeout(2)
            with context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(65536)
                secured.sendall(http_answer())
