"""The one way out for fetches whose address a user has a say in: it connects to exactly the address that it has checked.

Two httpx transports, for asyncio and for threads. Each request is checked anew, so a client that follows redirects cannot be led
astray by one; a host is looked up once for a request, and what was found is what is connected to, so a name that answers
otherwise the second time (DNS rebinding) changes nothing. TLS shows and proves the host's name, not the address.

Here, beside the object store, because this is the lowest package with I/O that the control plane and the workers share.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from quantry_core.addresses import Address
from quantry_core.errors import OutboundRefused
from quantry_core.outbound import Destination, OutboundRules

RESOLVE_TIMEOUT_S = 5.0
MAX_LOOKUPS = 16
"""At once, of one transport for asyncio; more wait."""
MAX_ADDRESSES_TRIED = 4

AsyncResolver = Callable[[str, int], Awaitable[Sequence[str]]]
Resolver = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a host; raises OSError where there are none."""


Proxies = Callable[[Destination], str | None]
"""Returns the proxy that a request goes through; None where it goes straight there."""


def no_proxy(_destination: Destination) -> str | None:
    """Sends every request straight to where it leads."""
    return None


class AnswerTooLarge(httpx.ReadError):
    """An answer has more bytes than are read."""


class Lookups:
    """Looks hosts up in threads of its own: a name whose server never answers holds one of these for a while, long after nobody waits
    for it, and none that anything else needs, the connections to the database among it."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MAX_LOOKUPS, thread_name_prefix="lookup")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Returns the addresses that this machine's resolver has for a host; raises OSError."""
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            return await asyncio.get_running_loop().run_in_executor(self._threads, resolve_now, host, port)


def resolve_now(host: str, port: int) -> Sequence[str]:
    """Returns the addresses that this machine's resolver has for a host; raises OSError."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends each request over a connection of its own to an address that was checked for it.

    Raises OutboundRefused before anything is sent; AnswerTooLarge, while it is read, for more than ``max_answer_bytes``; otherwise
    what httpx raises. No proxy of the environment is used, no cookie kept, no connection shared. Where ``proxies`` names a proxy, that
    looks the host up: then only the form of an address is checked here.
    """

    def __init__(
        self,
        rules: OutboundRules,
        *,
        proxies: Proxies = no_proxy,
        max_answer_bytes: int | None = None,
        resolver: AsyncResolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._rules = rules
        self._proxies = proxies
        self._max_answer_bytes = max_answer_bytes
        self._resolver = resolver or Lookups()
        self._tls = tls or httpx.create_ssl_context(trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        destination = _destination(self._rules, request)
        proxy_url = self._proxies(destination)
        if proxy_url is not None:
            return await self._sent(request, proxy_url)
        addresses = self._rules.check_addresses(destination, await self._addresses(destination))[:MAX_ADDRESSES_TRIED]
        for address in addresses[:-1]:
            try:
                return await self._sent(_pinned(request, destination, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._sent(_pinned(request, destination, addresses[-1]))

    async def _addresses(self, destination: Destination) -> Sequence[Address]:
        if destination.address is not None:
            return [destination.address]
        try:
            found = await self._resolver(destination.host, destination.port)
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(f"{destination.host} cannot be looked up") from error
        return [ipaddress.ip_address(address) for address in found]

    async def _sent(self, request: httpx.Request, proxy_url: str | None = None) -> httpx.Response:
        # One for each request: a pool would give a connection that was checked for one name to another name at its address.
        inner = httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False, proxy=proxy_url)
        try:
            response = await inner.handle_async_request(request)
        except BaseException:
            await inner.aclose()
            raise
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_AsyncAnswer(response, inner, self._max_answer_bytes),
            extensions=response.extensions,
        )


class GuardedThreadTransport(httpx.BaseTransport):
    """``GuardedTransport`` for clients that block."""

    def __init__(
        self,
        rules: OutboundRules,
        *,
        proxies: Proxies = no_proxy,
        max_answer_bytes: int | None = None,
        resolver: Resolver = resolve_now,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._rules = rules
        self._proxies = proxies
        self._max_answer_bytes = max_answer_bytes
        self._resolver = resolver
        self._tls = tls or httpx.create_ssl_context(trust_env=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        destination = _destination(self._rules, request)
        proxy_url = self._proxies(destination)
        if proxy_url is not None:
            return self._sent(request, proxy_url)
        addresses = self._rules.check_addresses(destination, self._addresses(destination))[:MAX_ADDRESSES_TRIED]
        for address in addresses[:-1]:
            try:
                return self._sent(_pinned(request, destination, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return self._sent(_pinned(request, destination, addresses[-1]))

    def _addresses(self, destination: Destination) -> Sequence[Address]:
        if destination.address is not None:
            return [destination.address]
        try:
            found = self._resolver(destination.host, destination.port)
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(f"{destination.host} cannot be looked up") from error
        return [ipaddress.ip_address(address) for address in found]

    def _sent(self, request: httpx.Request, proxy_url: str | None = None) -> httpx.Response:
        inner = httpx.HTTPTransport(verify=self._tls, trust_env=False, proxy=proxy_url)
        try:
            response = inner.handle_request(request)
        except BaseException:
            inner.close()
            raise
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_ThreadAnswer(response, inner, self._max_answer_bytes),
            extensions=response.extensions,
        )


def _destination(rules: OutboundRules, request: httpx.Request) -> Destination:
    """Returns where a request leads; raises OutboundRefused, also where httpx reads its URL otherwise than the rules do."""
    destination = rules.check_url(str(request.url))
    if (request.url.scheme, request.url.host) != (destination.scheme, destination.host):
        raise OutboundRefused("that address can be read in two ways")
    return destination


def _pinned(request: httpx.Request, destination: Destination, address: Address) -> httpx.Request:
    """Returns the request as it is sent to one address: the Host field and TLS still carry the host's own name."""
    extensions = dict(request.extensions)
    if destination.address is None:
        extensions["sni_hostname"] = destination.host
    url = request.url.copy_with(host=str(address), port=destination.port)
    return httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)


def _check_size(num_bytes: int, max_bytes: int | None) -> None:
    if max_bytes is not None and num_bytes > max_bytes:
        raise AnswerTooLarge(f"the answer has more than {max_bytes} bytes")


class _AsyncAnswer(httpx.AsyncByteStream):
    """The bytes of an answer, and the connection that ends with them."""

    def __init__(self, answer: httpx.Response, transport: httpx.AsyncHTTPTransport, max_bytes: int | None) -> None:
        self._answer = answer
        self._transport = transport
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        num_bytes = 0
        async for part in self._answer.aiter_raw():
            num_bytes += len(part)
            _check_size(num_bytes, self._max_bytes)
            yield part

    async def aclose(self) -> None:
        try:
            await self._answer.aclose()
        finally:
            await self._transport.aclose()


class _ThreadAnswer(httpx.SyncByteStream):
    """The bytes of an answer, and the connection that ends with them."""

    def __init__(self, answer: httpx.Response, transport: httpx.HTTPTransport, max_bytes: int | None) -> None:
        self._answer = answer
        self._transport = transport
        self._max_bytes = max_bytes

    def __iter__(self) -> Iterator[bytes]:
        num_bytes = 0
        for part in self._answer.iter_raw():
            num_bytes += len(part)
            _check_size(num_bytes, self._max_bytes)
            yield part

    def close(self) -> None:
        try:
            self._answer.close()
        finally:
            self._transport.close()
