"""Which IP addresses a fetch may go to that somebody outside has a say in: one literal table. No look-up, no I/O.

Sources: the IANA registries of special-purpose addresses (RFC 6890 and what followed it), and the addresses at which clouds
hand out credentials to whoever asks from within.
"""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Reach(StrEnum):
    """What an address is to an outbound fetch."""

    PUBLIC = "public"
    PRIVATE = "private"
    """Of a network of its owner's, this machine included: only where an administrator has named it."""
    NEVER = "never"
    """Nothing that anybody fetches from lies there, or the keys of the machine do."""


_TABLE: Final = (
    # The narrower come first: the first that holds an address decides.
    (Reach.NEVER, "a cloud's metadata service", ("169.254.169.254/32", "169.254.170.2/32", "100.100.100.200/32", "168.63.129.16/32")),
    (Reach.NEVER, "a cloud's metadata service", ("192.0.0.192/32", "fd00:ec2::254/128", "fd20:ce::254/128")),
    (Reach.NEVER, "a link-local address", ("169.254.0.0/16", "fe80::/10", "fec0::/10")),
    (Reach.NEVER, "no address of a host", ("0.0.0.0/8", "::/128")),
    (Reach.NEVER, "a multicast address", ("224.0.0.0/4", "ff00::/8")),
    (Reach.NEVER, "a broadcast address", ("255.255.255.255/32",)),
    (Reach.NEVER, "a reserved address", ("240.0.0.0/4", "192.0.0.0/24", "192.88.99.0/24", "100::/64", "2001::/23", "5f00::/16")),
    (Reach.NEVER, "an address for examples", ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")),
    (Reach.NEVER, "an address that is translated elsewhere", ("2002::/16", "64:ff9b:1::/48")),
    (Reach.PRIVATE, "this machine itself", ("127.0.0.0/8", "::1/128")),
    (Reach.PRIVATE, "a private address", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")),
    (Reach.PRIVATE, "an address of a carrier's own network", ("100.64.0.0/10",)),
    (Reach.PRIVATE, "an address for measurements", ("198.18.0.0/15",)),
    (Reach.PUBLIC, "a public address", ("0.0.0.0/0", "2000::/3")),
    (Reach.NEVER, "a reserved address", ("::/0",)),
)

REACHES: Final[tuple[tuple[Network, Reach, str], ...]] = tuple(
    (ipaddress.ip_network(network), reach, words) for reach, words, networks in _TABLE for network in networks
)
"""Each network with what it is, for programs and for people."""

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def reach_of(address: Address) -> tuple[Reach, str]:
    """Returns what an address is, and the words for it. An IPv4 address inside an IPv6 one is judged as itself where the way goes to it."""
    inner = carried(address)
    for network, reach, words in REACHES:
        if inner.version == network.version and inner in network:
            return reach, words
    raise AssertionError("the table ends with every address")


def carried(address: Address) -> Address:
    """Returns the IPv4 address that a mapped one (::ffff:0:0/96) or one of a NAT64 (64:ff9b::/96) leads to; any other as it is, without
    its zone."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    plain = ipaddress.IPv6Address(int(address))
    if plain in _MAPPED or plain in _NAT64:
        return ipaddress.IPv4Address(int(plain) & 0xFFFF_FFFF)
    return plain
