"""The rules for every fetch whose address a user has a say in: what the address may look like, and where it may lead. No I/O.

``quantry_blobs.outbound`` fetches by them: it looks a host up once, asks these rules, and connects to what they let through.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Self
from urllib.parse import SplitResult, urlsplit

from quantry_core.addresses import Address, Network, Reach, carried, reach_of
from quantry_core.errors import OutboundRefused

MAX_URL_CHARS: Final = 2048
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
FIRST_FREE_PORT: Final = 1024
"""From here on any port may be asked; below, only those of HTTP: what listens there speaks something else."""

PRIVATE_VARIABLE: Final = "QUANTRY_OUTBOUND_PRIVATE"

_PRINTABLE: Final = re.compile(r"[!-~]+")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_NUMERIC: Final = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)")
_ENTRY_PORT: Final = re.compile(r"(?P<place>.+?)(?::(?P<port>[0-9]{1,5}))?")

_INNER_SUFFIXES: Final = (
    "localhost",
    "local",
    "localdomain",
    "internal",
    "intranet",
    "lan",
    "corp",
    "home",
    "arpa",
    "svc",
    "test",
    "invalid",
)
"""Top-level names that no public host has."""


class Destination(NamedTuple):
    """Where a URL leads, as far as it says so itself."""

    scheme: Literal["http", "https"]
    host: str
    """Lower case; an IPv6 address without brackets."""
    port: int
    address: Address | None
    """Of a host that is written as one."""


@dataclass(frozen=True)
class PrivatePlace:
    """A host, or a network, that an administrator has named though it is not public: an entry of QUANTRY_OUTBOUND_PRIVATE."""

    host: str | None = None
    """A name; ``*.name`` for every one below it."""
    network: Network | None = None
    port: int | None = None
    """None: any port that may be asked at all."""

    @classmethod
    def parse(cls, entry: str) -> Self:
        """Returns what ``receiver.tools.svc``, ``*.corp.example:8443``, ``10.20.0.0/16`` or ``[fd00::]/8:9000`` stands for; raises
        ValueError."""
        text = entry.strip().lower()
        network_form = re.fullmatch(r"\[(?P<inner>[0-9a-f:.]+)\](?P<bits>/[0-9]+)?(?::(?P<port>[0-9]{1,5}))?", text)
        if network_form is not None:
            place, port_text = network_form["inner"] + (network_form["bits"] or ""), network_form["port"]
        elif text.count(":") > 1:
            place, port_text = text, None
        else:
            match = _ENTRY_PORT.fullmatch(text)
            place, port_text = ("", None) if match is None else (match["place"], match["port"])
        port = None if port_text is None else int(port_text)
        if port is not None and not 0 < port <= 65535:
            raise ValueError(f"{entry!r}: a port is a number from 1 to 65535")
        try:
            return cls(network=ipaddress.ip_network(place), port=port)
        except ValueError:
            if "/" in place or ":" in place or _ends_in_number(place):
                raise ValueError(f"{entry!r} is no network: write 10.20.0.0/16, with no bit set behind its prefix") from None
        if _HOST_NAME.fullmatch(place.removeprefix("*.")) is None:
            raise ValueError(f"{entry!r} is neither a host's name, *.name nor a network")
        return cls(host=place, port=port)

    def names(self, destination: Destination) -> bool:
        """Tells whether the entry is for this host by its name."""
        if self.host is None or not self._has_port(destination):
            return False
        if self.host.startswith("*."):
            return destination.host.endswith(self.host[1:])
        return destination.host == self.host

    def holds(self, destination: Destination, address: Address) -> bool:
        """Tells whether the entry is for the network that an address of this host lies in."""
        return (
            self.network is not None and self._has_port(destination) and address.version == self.network.version and address in self.network
        )

    def _has_port(self, destination: Destination) -> bool:
        return self.port is None or self.port == destination.port


@dataclass(frozen=True)
class OutboundRules:
    """What an installation lets be fetched. Without anything set: https to public hosts, at the ports of HTTP and above 1023."""

    private: tuple[PrivatePlace, ...] = ()
    plain_http: bool = False
    """Whether public hosts may be asked without TLS. Named private ones may always."""

    @classmethod
    def parse(cls, private: str) -> Self:
        """Returns the rules of what QUANTRY_OUTBOUND_PRIVATE holds; raises ValueError."""
        return cls(tuple(PrivatePlace.parse(entry) for entry in private.split(",") if entry.strip()))

    def check_url(self, url: str) -> Destination:
        """Returns where a URL leads; raises OutboundRefused saying what is wrong with it. Nothing is looked up.

        Whatever two readers of URLs might understand differently is refused, not interpreted.
        """
        parts = _split(url)
        scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
        port = _port(parts)
        host = (parts.hostname or "").lower()
        destination = Destination(scheme, host, port, _literal(parts, host))
        if destination.address is not None:
            self.check_addresses(destination, [destination.address])
            return destination
        if not self._naming(destination) and (host.rpartition(".")[2] in _INNER_SUFFIXES or "." not in host):
            raise OutboundRefused(f"{host} is a name of a private network; {_ask_administrator()}")
        # As far as can be told: an entry for the network that it lies in may have this port too.
        _check_port(destination, self.private)
        return destination

    def check_addresses(self, destination: Destination, addresses: Collection[Address]) -> Sequence[Address]:
        """Returns the addresses that a host was found at, in order; raises OutboundRefused if there are none, or one is not allowed.

        One bad address refuses them all: nobody's public host has a private address beside it. What a name leads to is not told:
        the addresses of a private network are nothing to ask for one by one.
        """
        if not addresses:
            raise OutboundRefused(f"{destination.host} has no address")
        for address in addresses:
            self._check_address(destination, address)
        return list(dict.fromkeys(addresses))

    def names(self, destination: Destination) -> bool:
        """Tells whether an administrator has named this host, or the address that it is written as."""
        return bool(self._naming(destination, destination.address))

    def _check_address(self, destination: Destination, address: Address) -> None:
        inner = carried(address)
        reach, words = reach_of(address)
        what = f"{destination.host} is {words}" if destination.address is not None else f"{destination.host} leads to {words}"
        if reach is Reach.NEVER:
            raise OutboundRefused(f"{what}: nothing is fetched from there")
        naming = self._naming(destination, inner)
        if reach is Reach.PRIVATE and not naming:
            raise OutboundRefused(f"{what}; {_ask_administrator()}")
        if destination.scheme == "http" and not naming and not self.plain_http:
            raise OutboundRefused(f"{destination.host} is asked without TLS: use https, or have an administrator set QUANTRY_OUTBOUND_HTTP")
        _check_port(destination, naming)

    def _naming(self, destination: Destination, address: Address | None = None) -> list[PrivatePlace]:
        """Returns the entries that are for this host: by its name, or by an address of it."""
        return [place for place in self.private if place.names(destination) or (address is not None and place.holds(destination, address))]


def _check_port(destination: Destination, naming: Collection[PrivatePlace]) -> None:
    if destination.port in DEFAULT_PORTS.values() or destination.port >= FIRST_FREE_PORT:
        return
    if all(place.port != destination.port for place in naming):
        raise OutboundRefused(f"port {destination.port} is not one that is asked: 80, 443, or one from {FIRST_FREE_PORT} on")


def _split(url: str) -> SplitResult:
    """Returns the parts of a URL that has nothing ambiguous in it; raises OutboundRefused."""
    if len(url) > MAX_URL_CHARS:
        raise OutboundRefused(f"an address has at most {MAX_URL_CHARS} characters, this one has {len(url)}")
    if _PRINTABLE.fullmatch(url) is None:
        raise OutboundRefused("an address is made of printable ASCII; write a host's name in its ASCII form, xn--...")
    if any(sign in url for sign in '\\<>"{}|^`'):
        raise OutboundRefused("an address has no backslash, quotes, brackets < > { }, | or ^: write them percent-encoded")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise OutboundRefused(f"that is no address: {error}") from error
    if parts.scheme not in DEFAULT_PORTS or not url.lower().startswith(f"{parts.scheme}://"):
        raise OutboundRefused("an address begins with https:// or http://")
    if "@" in parts.netloc:
        raise OutboundRefused("an address holds no user and password; a secret belongs into what is signed, or into the path")
    if "%" in parts.netloc:
        raise OutboundRefused("a host is not percent-encoded")
    if parts.fragment or url.endswith("#"):
        raise OutboundRefused("an address has no fragment: it would not be sent")
    return parts


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError as error:
        raise OutboundRefused(f"that is no address: {error}") from error
    if port == 0 or parts.netloc.endswith(":"):
        raise OutboundRefused("a port is a number from 1 to 65535")
    return DEFAULT_PORTS[parts.scheme] if port is None else port


def _literal(parts: SplitResult, host: str) -> Address | None:
    """Returns the address that a host is written as, None for a name; raises OutboundRefused for what is neither."""
    if "[" in parts.netloc or ":" in host:
        try:
            return ipaddress.IPv6Address(host)
        except ValueError as error:
            raise OutboundRefused(f"[{host}] is no IPv6 address: {error}") from error
    if _HOST_NAME.fullmatch(host) is None:
        raise OutboundRefused("a host is a name of letters, digits, '-' and '_' in parts between dots, or an address")
    if not _ends_in_number(host):
        return None
    try:
        return ipaddress.IPv4Address(host)
    except ValueError:
        raise OutboundRefused(
            f"{host} is no IPv4 address as it is written: four decimal numbers without leading zeros are wanted"
        ) from None


def _ends_in_number(host: str) -> bool:
    """Tells whether a host is taken for an IPv4 address by some reader: decimal, octal or hexadecimal, in one to four parts."""
    return _NUMERIC.fullmatch(host.rpartition(".")[2]) is not None


def _ask_administrator() -> str:
    return f"an administrator may name it in {PRIVATE_VARIABLE}"
