"""The guarded way out beside listeners on this machine that must hear nothing: forms, redirects, names that change, TLS, proxies."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from factories.certificates import self_signed
from factories.hostile_addresses import INSIDE, LITERALS, NAMES, hostile_urls
from factories.listeners import Listener, http_answer, listening
from quantry_blobs.errors import StoreRefused, StoreUnavailable
from quantry_blobs.outbound import AnswerTooLarge, GuardedThreadTransport, GuardedTransport
from quantry_blobs.outbound_settings import OutboundSettings
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_core.errors import OutboundRefused
from quantry_core.outbound import OutboundRules, PrivatePlace

TIMEOUT = httpx.Timeout(2.0)
REFUSALS = (OutboundRefused, httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError)
"""Ours, and those of httpx for what it does not take for a URL."""


async def every_name_leads_here(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


def rules(*entries: str) -> OutboundRules:
    return OutboundRules(tuple(PrivatePlace.parse(entry) for entry in entries), plain_http=True)


def answering(*answers: Sequence[str]) -> tuple[Callable[[str, int], Sequence[str]], list[str]]:
    """Returns a resolver that gives one answer after the other, the last one for ever, and the hosts that it was asked for."""
    asked: list[str] = []

    def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return resolve, asked


@pytest.fixture
def inside() -> Iterator[Sequence[Listener]]:
    """Listeners at one port of 127.0.0.1, 127.0.0.2 and, where this machine has it, ::1."""
    with ExitStack() as stack:
        first = stack.enter_context(listening("127.0.0.1"))
        others = [stack.enter_context(listening("127.0.0.2", first.port))]
        try:
            others.append(stack.enter_context(listening("::1", first.port)))
        except OSError:
            others.append(stack.enter_context(listening("127.0.0.3", first.port)))
        yield [first, *others]


def num_connections(listeners: Sequence[Listener]) -> int:
    return sum(listener.num_connections for listener in listeners)


async def test_no_hostile_form_reaches_a_listener(inside: Sequence[Listener]) -> None:
    urls = hostile_urls(inside[0].port)
    # The listener hears who may come, so that silence says something.
    async with httpx.AsyncClient(transport=GuardedTransport(rules("127.0.0.1"))) as allowed:
        assert (await allowed.get(f"http://127.0.0.1:{inside[0].port}/")).status_code == 204
    assert num_connections(inside) == 1
    transport = GuardedTransport(rules(), resolver=every_name_leads_here)
    async with httpx.AsyncClient(transport=transport, timeout=TIMEOUT) as client:
        for url in urls:
            with pytest.raises(REFUSALS):
                await client.get(url)
    assert len(urls) >= 60
    assert num_connections(inside) == 1


def test_nor_does_one_from_a_client_that_blocks(inside: Sequence[Listener]) -> None:
    transport = GuardedThreadTransport(rules(), resolver=lambda _host, _port: ["127.0.0.1"])
    with httpx.Client(transport=transport, timeout=TIMEOUT) as client:
        for url in hostile_urls(inside[0].port):
            with pytest.raises(REFUSALS):
                client.get(url)
    assert num_connections(inside) == 0


@pytest.mark.parametrize("found", INSIDE)
async def test_no_name_that_resolves_inside_reaches_a_listener(inside: Sequence[Listener], found: str) -> None:
    resolve, asked = answering(["93.184.216.34", found], [found])

    async def resolver(host: str, port: int) -> Sequence[str]:
        return resolve(host, port)

    url = f"http://rebinding.example:{inside[0].port}/"
    async with httpx.AsyncClient(transport=GuardedTransport(rules(), resolver=resolver), timeout=TIMEOUT) as client:
        for _ in range(2):
            with pytest.raises(OutboundRefused):
                await client.get(url)
    assert asked == ["rebinding.example"] * 2
    assert num_connections(inside) == 0


def test_what_was_checked_is_what_is_connected_to(inside: Sequence[Listener]) -> None:
    # The name changes its mind after the first answer: nobody asks it a second time.
    resolve, asked = answering(["127.0.0.2"], ["127.0.0.1"])
    url = f"http://rebinding.example:{inside[0].port}/"
    with httpx.Client(transport=GuardedThreadTransport(rules("127.0.0.2"), resolver=resolve), timeout=TIMEOUT) as client:
        assert client.get(url).status_code == 204
        assert [listener.num_connections for listener in inside] == [0, 1, 0]
        assert b"Host: rebinding.example:" in inside[1].requests[0]
        # The second request is checked anew, and finds it changed.
        with pytest.raises(OutboundRefused):
            client.get(url)
    assert asked == ["rebinding.example"] * 2
    assert [listener.num_connections for listener in inside] == [0, 1, 0]


async def test_a_redirect_leads_nowhere_that_a_request_may_not_go(inside: Sequence[Listener]) -> None:
    urls = [url for url in hostile_urls(inside[0].port) if url.isascii() and url.isprintable()]
    with listening() as front:
        transport = GuardedTransport(rules(f"127.0.0.1:{front.port}"), resolver=every_name_leads_here)
        async with httpx.AsyncClient(transport=transport, timeout=TIMEOUT, follow_redirects=True) as client:
            for status in ("301 Moved Permanently", "307 Temporary Redirect"):
                for url in urls:
                    front.answer = http_answer(status, f"Location: {url}")
                    with pytest.raises((OutboundRefused, httpx.HTTPError, httpx.InvalidURL)):
                        await client.post(f"http://127.0.0.1:{front.port}/start", content=b"{}")
        assert front.num_connections >= 2 * len(urls) >= 120
    assert num_connections(inside) == 0


async def test_a_second_address_is_tried_where_the_first_is_silent(inside: Sequence[Listener]) -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.9", "127.0.0.1"]

    transport = GuardedTransport(rules("127.0.0.0/8"), resolver=resolver)
    async with httpx.AsyncClient(transport=transport, timeout=TIMEOUT) as client:
        answer = await client.post(f"http://receiver.example:{inside[0].port}/", content=b"once")
    assert answer.status_code == 204
    assert inside[0].num_connections == 1


async def test_an_unknown_name_is_no_connection() -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    async with httpx.AsyncClient(transport=GuardedTransport(rules(), resolver=resolver)) as client:
        with pytest.raises(httpx.ConnectError, match="cannot be looked up"):
            await client.get("https://gone.example/")


async def test_an_answer_is_read_to_its_limit() -> None:
    with listening(answer=http_answer("200 OK", body=b"x" * 5000)) as receiver:
        transport = GuardedTransport(rules("127.0.0.1"), max_answer_bytes=4096)
        async with httpx.AsyncClient(transport=transport, timeout=TIMEOUT) as client:
            with pytest.raises(AnswerTooLarge, match="4096"):
                await client.get(f"http://127.0.0.1:{receiver.port}/")
            receiver.answer = http_answer("200 OK", body=b"x" * 4096)
            assert len((await client.get(f"http://127.0.0.1:{receiver.port}/")).content) == 4096


async def test_tls_proves_the_name_and_not_the_address(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, "receiver.example")
    trusting = ssl.create_default_context(cafile=certificate.path)

    async def resolver(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    with certificate.serving() as server:
        transport = GuardedTransport(rules("127.0.0.1"), resolver=resolver, tls=trusting)
        async with httpx.AsyncClient(transport=transport, timeout=TIMEOUT) as client:
            assert (await client.get(f"https://receiver.example:{server.port}/")).status_code == 204
            for impostor in (f"https://other.example:{server.port}/", f"https://127.0.0.1:{server.port}/"):
                with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                    await client.get(impostor)
    assert server.names[:2] == ["receiver.example", "other.example"]


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as proxy, listening() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with httpx.AsyncClient(transport=GuardedTransport(rules("127.0.0.1")), timeout=TIMEOUT) as client:
            assert (await client.get(f"http://127.0.0.1:{receiver.port}/")).status_code == 204
        assert (proxy.num_connections, receiver.num_connections) == (0, 1)


async def test_a_proxy_that_is_set_is_used_but_for_named_private_hosts() -> None:
    with listening() as proxy, listening() as receiver:
        settings = OutboundSettings(private=["127.0.0.1"], http=True, proxy=SecretStr(f"http://127.0.0.1:{proxy.port}"))
        transport = GuardedTransport(settings.rules, proxies=settings.proxy_of)
        async with httpx.AsyncClient(transport=transport, timeout=TIMEOUT) as client:
            assert (await client.get("http://hooks.example:8080/x")).status_code == 204
            assert proxy.requests[0].startswith(b"GET http://hooks.example:8080/x HTTP/1.1\r\n")
            assert (await client.get(f"http://127.0.0.1:{receiver.port}/")).status_code == 204
        # Where a proxy looks names up, how they are written is all that can be told; that still holds.
        behind = GuardedTransport(rules(), proxies=settings.proxy_of)
        async with httpx.AsyncClient(transport=behind, timeout=TIMEOUT) as refusing:
            for url in (form.replace("{port}", str(receiver.port)) for form in (*LITERALS, *NAMES)):
                with pytest.raises(REFUSALS):
                    await refusing.get(url)
        assert (proxy.num_connections, receiver.num_connections) == (1, 1)


def test_a_store_of_somebody_else_leads_nowhere_else() -> None:
    with (
        listening() as inside,
        listening(answer=http_answer("307 Moved", f"Location: http://127.0.0.1:{inside.port}/bucket/key")) as foreign,
    ):
        store = MinioStore(
            BlobSettings(endpoint=f"127.0.0.1:{foreign.port}", secure=False, access_key="key", secret_key=SecretStr("secret"))
        )
        with pytest.raises((StoreRefused, StoreUnavailable)):
            store.stat("bucket", "key")
        assert foreign.num_connections > 0
        assert inside.num_connections == 0
