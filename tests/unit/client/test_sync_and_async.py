"""The client that waits is made from the asynchronous one, and both have the same resources, methods and types."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

import make_sync
from factories.client import KEY, URL
from quantry import AsyncClient, Client

PAGED = {"after", "limit"}
NOT_PAGED = {"jobs.events"}
"""Its ``after`` is an event's number: a stream, not a page."""


def refuse(_request: httpx.Request) -> httpx.Response:
    raise AssertionError("nothing is asked here")


@pytest.fixture(scope="module")
def clients() -> tuple[Client, AsyncClient]:
    transport = httpx.MockTransport(refuse)
    return Client(URL, KEY, transport=transport), AsyncClient(URL, KEY, transport=transport)


def methods(client: Client | AsyncClient) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yields every public method of a client and of its resources."""
    for name, resource in [("", client), *vars(client).items()]:
        if name.startswith("_") or isinstance(resource, str):
            continue
        for method_name, method in inspect.getmembers(resource, callable):
            if not method_name.startswith("_"):
                yield f"{name}.{method_name}".lstrip("."), method


def test_every_file_is_as_it_is_made() -> None:
    sources = list(make_sync.sources())
    with ThreadPoolExecutor(4) as threads:
        made = dict(zip(sources, threads.map(make_sync.made_from, sources), strict=True))
    stale = [str(source) for source, text in made.items() if make_sync.target_of(source).read_text() != text]
    assert stale == [], "run: python clients/quantry/make_sync.py"
    resources = make_sync.PACKAGE / "resources"
    assert set(resources.glob("*.py")) == {make_sync.target_of(source) for source in sources if source.parent.name == "resources"}


def test_nothing_asynchronous_is_left() -> None:
    for source in make_sync.sources():
        text = make_sync.target_of(source).read_text()
        assert re.search(r"\basync\b|\bawait\b|\bAsync[A-Z]\w*|__a\w+__|\baio\b(?!/)", text) is None, source


def test_what_is_taken_away_and_what_is_not() -> None:
    made = make_sync.without_async(
        "async def one(self) -> AsyncGenerator[dict[str, int], None]:\n"
        "    async with aclosing(self.two((await self.get(f(1))).data)) as found:\n"
        "        async for item in found:\n"
        "            yield await item\n"
        "fetch: Callable[[str], Awaitable[Page[T]]]\n"
        "x = (await self.a()) or awaited\n"
    )
    assert made == (
        "def one(self) -> Generator[dict[str, int], None, None]:\n"
        "    with closing(self.two(self.get(f(1)).data)) as found:\n"
        "        for item in found:\n"
        "            yield item\n"
        "fetch: Callable[[str], Page[T]]\n"
        "x = (self.a()) or awaited\n"
    )


def test_both_have_the_same_methods_with_the_same_words_and_types(clients: tuple[Client, AsyncClient]) -> None:
    waiting, asynchronous = (dict(methods(client)) for client in clients)
    assert list(waiting) == list(asynchronous)
    assert len(waiting) > 120
    for name, method in waiting.items():
        other = asynchronous[name]
        assert inspect.getdoc(method) == inspect.getdoc(other) or "async" in str(inspect.getdoc(other)), name
        ours, theirs = inspect.signature(method), inspect.signature(other)
        assert list(ours.parameters) == list(theirs.parameters), name
        assert [given(one) for one in theirs.parameters.values()] == [given(one) for one in ours.parameters.values()], name
        answers, told = returned(method), returned(other)
        if inspect.iscoroutinefunction(other):
            assert same_type(answers, told), (name, answers, told)
        elif typing.get_origin(told) is AsyncGenerator:
            assert typing.get_origin(answers) is Generator, name
            assert typing.get_args(answers)[0] == typing.get_args(told)[0], name
        else:
            assert hasattr(other, "__wrapped__"), f"{name} is neither awaited nor iterated, nor a context"


def given(parameter: inspect.Parameter) -> tuple[Any, Any]:
    """Returns how a parameter is given, and what it is otherwise; of a function only that there is one."""
    return parameter.kind, callable(parameter.default) or parameter.default


def returned(method: Callable[..., Any]) -> Any:
    """Returns the type that a method is annotated with."""
    plain = inspect.unwrap(method)
    return typing.get_type_hints(plain)["return"]


def same_type(one: Any, other: Any) -> bool:
    """Tells whether two annotations are one, but for the client's own name."""
    return one == other or getattr(other, "__name__", "") == f"Async{getattr(one, '__name__', '')}"


def test_every_list_can_be_walked_along(clients: tuple[Client, AsyncClient]) -> None:
    found = dict(methods(clients[0]))
    lists = [name for name, method in found.items() if inspect.signature(method).parameters.keys() >= PAGED and name not in NOT_PAGED]
    assert len(lists) >= 20
    for name in lists:
        resource, _, method = name.rpartition(".")
        walk = found[f"{resource}.iterate" if method == "list" else f"{resource}.iterate_{method}"]
        (item,) = returned(found[name]).__pydantic_generic_metadata__["args"]
        assert typing.get_origin(returned(walk)) is Generator and typing.get_args(returned(walk))[0] is item, name
        assert filters(found[name]) == filters(walk), name


def filters(method: Callable[..., Any]) -> set[str]:
    """Returns the keywords that narrow a list; those of a TypedDict are its own."""
    names = set()
    for name, parameter in inspect.signature(inspect.unwrap(method)).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            (wanted,) = typing.get_args(typing.get_type_hints(method)[name]) or (typing.get_type_hints(method)[name],)
            names |= set(wanted.__annotations__)
        else:
            names.add(name)
    return names - PAGED - {"max_items"}
