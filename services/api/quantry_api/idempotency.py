"""Idempotency-Key: a submission that is sent twice makes one thing, and both answers are that thing.

An endpoint that makes something takes ``RequestKey`` after the caller, asks ``earlier`` before it does anything that costs
time, and makes the thing inside ``once``. Keys are a project's own and are forgotten after a while.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeVar

from fastapi import Depends, Header, Request

from quantry_store.database import Database
from quantry_store.unit_of_work import UnitOfWork

MAX_KEY_CHARS = 255


class Identified(Protocol):
    """Anything with an id."""

    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=Identified)

Load = Callable[[UnitOfWork, str], Awaitable[T]]
"""Reads the thing with that id."""


@dataclass(frozen=True)
class IdempotencyKey:
    """The key that a request came with, None if it has none, and a digest of what it asks for."""

    key: str | None
    request_sha256: str

    async def earlier(self, database: Database, project_id: str, load: Load[T]) -> T | None:
        """Returns what the same request made before; None if it made nothing yet.

        Raises IdempotencyKeyReused if the key was used with another request.
        """
        if self.key is None:
            return None
        async with database.begin() as uow:
            noun_id = await uow.idempotency.find(project_id, self.key, self.request_sha256)
            return None if noun_id is None else await load(uow, noun_id)

    async def once(self, uow: UnitOfWork, project_id: str, load: Load[T], make: Callable[[], Awaitable[T]]) -> T:
        """Returns what ``make`` makes in this transaction, or what the same request made before.

        Raises IdempotencyKeyInFlight while another request with the key is making it, IdempotencyKeyReused.
        """
        if self.key is None:
            return await make()
        noun_id = await uow.idempotency.claim(project_id, self.key, self.request_sha256)
        if noun_id is not None:
            return await load(uow, noun_id)
        made = await make()
        await uow.idempotency.save(project_id, self.key, self.request_sha256, made.id)
        return made


async def idempotency_key(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=MAX_KEY_CHARS,
            pattern=r"^[\x20-\x7e]+$",
            description="Sent again with the same body, the answer is what the first request made.",
        ),
    ] = None,
) -> IdempotencyKey:
    """Returns the request's key with the digest of its method, path and body as they came in."""
    digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode())
    digest.update(await request.body())
    return IdempotencyKey(idempotency_key, digest.hexdigest())


RequestKey = Annotated[IdempotencyKey, Depends(idempotency_key)]
