"""What is made of a receiver's answer, and of none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from quantry_api.webhooks.posting import Answer, NotSent, Poster
from quantry_blobs.outbound import GuardedTransport
from quantry_blobs.outbound_settings import OutboundSettings
from quantry_core.outbound import OutboundRules
from quantry_core.webhooks import MAX_ANSWER_CHARS

URL = "https://hooks.example/services/s3cret"


class Transport(httpx.AsyncBaseTransport):
    """Answers by a function."""

    def __init__(self, answer: Callable[[httpx.Request], Awaitable[httpx.Response]]) -> None:
        self._answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._answer(request)


class Endless(httpx.AsyncByteStream):
    """A body without an end."""

    def __init__(self) -> None:
        self.num_parts = 0
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.num_parts += 1
            yield "\u00fc".encode() * 100

    async def aclose(self) -> None:
        self.is_closed = True


async def test_the_message_goes_out_as_it_is_and_nothing_of_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    requests: list[httpx.Request] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(201, headers={"retry-after": "7"}, stream=httpx.ByteStream(b"thanks"))

    with caplog.at_level(0):
        got = await Poster(Transport(answer), timeout_s=1).post(URL, b"{}", {"webhook-id": "dlv_1"})
    assert got == Answer(201, "thanks", "7")
    assert requests[0].method == "POST"
    assert await requests[0].aread() == b"{}"
    assert requests[0].headers["webhook-id"] == "dlv_1"
    assert requests[0].headers["content-length"] == "2"
    assert "s3cret" not in caplog.text


async def test_an_answer_is_read_to_its_beginning_only() -> None:
    body = Endless()

    async def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(500, stream=body)

    got = await Poster(Transport(answer), timeout_s=1).post(URL, b"{}", {})
    assert got.text == "\u00fc" * MAX_ANSWER_CHARS
    assert body.num_parts < 20
    assert body.is_closed


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectError("refused"), "no connection: refused"),
        (httpx.ConnectTimeout(""), "no answer within 1 s"),
        (httpx.ReadError(""), "the connection broke off before an answer"),
        (httpx.RemoteProtocolError("bad\x1b[31m\nmore"), r"the answer was no HTTP: bad"),
        (OSError("odd"), "could not be sent: odd"),
    ],
)
async def test_no_answer_is_a_sentence(error: Exception, words: str) -> None:
    async def fail(_request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(NotSent, match=words) as failed:
        await Poster(Transport(fail), timeout_s=1).post(URL, b"{}", {})
    assert str(failed.value).isprintable()
    assert "s3cret" not in str(failed.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/s3cret", "https://localhost/s3cret", "ftp://hooks.example/s3cret", "http://[::1/s3cret", "nonsense s3cret"]
)
async def test_what_the_rules_refuse_is_not_sent(url: str) -> None:
    with pytest.raises(NotSent) as failed:
        await Poster(GuardedTransport(OutboundRules()), timeout_s=1).post(url, b"{}", {})
    assert "s3cret" not in str(failed.value)


def test_settings_of_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTRY_OUTBOUND_PRIVATE", " receiver.tools.svc:9000 , 10.0.0.0/8,")
    monkeypatch.setenv("QUANTRY_OUTBOUND_PROXY", "http://user:hunter2@proxy:3128")
    settings = OutboundSettings()
    assert [(place.host, place.port) for place in settings.rules.private] == [("receiver.tools.svc", 9000), (None, None)]
    assert settings.proxy_of(settings.rules.check_url("https://hooks.example/")) == "http://user:hunter2@proxy:3128"
    assert settings.proxy_of(settings.rules.check_url("http://receiver.tools.svc:9000/")) is None
    assert settings.proxy_of(settings.rules.check_url("http://10.1.2.3/")) is None
    assert "hunter2" not in repr(settings)
    monkeypatch.setenv("QUANTRY_OUTBOUND_PRIVATE", "10.0.0.1/8")
    with pytest.raises(ValueError, match="is no network"):
        OutboundSettings()
