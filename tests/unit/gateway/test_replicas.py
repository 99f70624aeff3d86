"""Whose fault it is where no connection comes about."""

from __future__ import annotations

import errno
from typing import Any, cast

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from starlette.types import Message

from quantry_core.routes import RoutedReplica
from quantry_gateway.balancer import Balancer
from quantry_gateway.ejection import Ejection
from quantry_gateway.exchange import Answer
from quantry_gateway.openai_errors import OpenAIError
from quantry_gateway.records import Record
from quantry_gateway.replicas import Refused, ReplicaCaller, ReplicaRequest

REPLICA = RoutedReplica(id="rep_1", release_id="rel_1", url="http://127.0.0.1:9")
REQUEST = ReplicaRequest(path="/v1/completions", content_type="application/json", body=b"{}", request_id=b"r-1", is_streaming=lambda: False)


class Unconnected:
    """A session whose connections fail with one error of the system."""

    def __init__(self, number: int) -> None:
        self._number = number

    async def post(self, *_arguments: Any, **_options: Any) -> aiohttp.ClientResponse:
        key = ConnectionKey("127.0.0.1", 9, is_ssl=False, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None)
        raise aiohttp.ClientConnectorError(key, OSError(self._number, "no connection"))


async def nobody(_message: Message) -> None:
    raise AssertionError("nothing is sent")


async def ask(number: int, balancer: Balancer) -> None:
    caller = ReplicaCaller(
        cast("aiohttp.ClientSession", Unconnected(number)), balancer, first_event_timeout_s=1, idle_timeout_s=1, retry_after_s=2
    )
    turn = balancer.take([REPLICA])
    assert turn is not None
    try:
        await caller.ask(turn, REQUEST, Answer(nobody, b"r-1"), Record("dep_1", "rel_1", began_s=0.0))
    finally:
        balancer.give_back(turn)


@pytest.fixture
def balancer() -> Balancer:
    return Balancer(Ejection(after=5, first_s=1.0, longest_s=1.0, clock_s=lambda: 0.0))


async def test_a_replica_that_refuses_is_ejected(balancer: Balancer) -> None:
    with pytest.raises(Refused):
        await ask(errno.ECONNREFUSED, balancer)
    assert not balancer.is_usable([REPLICA])


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL])
async def test_what_the_gateway_lacks_is_no_fault_of_the_replica(balancer: Balancer, number: int) -> None:
    with pytest.raises(OpenAIError) as refused:
        await ask(number, balancer)
    assert (refused.value.status, refused.value.code, refused.value.retry_after_s) == (503, "gateway_full", 2)
    assert balancer.is_usable([REPLICA])
