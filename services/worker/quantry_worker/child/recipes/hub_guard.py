"""Has the hub's client go out by the guarded way, wherever the hub sends it: a file's address is what the hub says it is."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
from huggingface_hub import set_client_factory

from quantry_blobs.outbound import GuardedThreadTransport
from quantry_core.outbound import DEFAULT_PORTS, PRIVATE_VARIABLE, Destination, OutboundRules, PrivatePlace

ENDPOINT_VARIABLE = "HF_ENDPOINT"
TIMEOUT = httpx.Timeout(60.0, connect=15.0)


def guard_hub(environment: Mapping[str, str]) -> None:
    """Replaces the client that huggingface_hub makes its requests with, in this process."""
    rules = hub_rules(environment)

    def client() -> httpx.Client:
        transport = GuardedThreadTransport(rules, proxies=hub_proxy)
        return httpx.Client(transport=transport, follow_redirects=True, timeout=TIMEOUT, trust_env=False)

    set_client_factory(client)


def hub_rules(environment: Mapping[str, str]) -> OutboundRules:
    """Returns where the hub's client may go: public hosts over TLS, what the administrator named, and the hub itself where that is a
    mirror of the administrator's, at its own port."""
    rules = OutboundRules.parse(environment.get(PRIVATE_VARIABLE, ""))
    endpoint = environment.get(ENDPOINT_VARIABLE)
    if not endpoint:
        return rules
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    written = f"[{host}]" if ":" in host else host
    mirror = PrivatePlace.parse(f"{written}:{parts.port or DEFAULT_PORTS.get(parts.scheme, 443)}")
    return OutboundRules((*rules.private, mirror))


def hub_proxy(destination: Destination) -> str | None:
    """Returns the proxy that the worker's administrator has set for the way to the hub; None where it goes straight there."""
    proxies = getproxies()
    if proxy_bypass(f"{destination.host}:{destination.port}"):
        return None
    return proxies.get(destination.scheme)
