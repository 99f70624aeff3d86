"""Asking the API from a page: in a thread, with every expected failure turned into a sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from quantry import Client
from quantry.errors import ApiError, ClientError, UnknownFile
from quantry_core.errors import FieldProblem
from quantry_dashboard.sessions import Session

T = TypeVar("T")


class SignedOut(Exception):
    """The session is over, or its key no longer opens anything: the page goes to sign-in."""


class NotDone(Exception):
    """The API did not do it; the message says why, for people.

    ``status``: what the API answered with, where it answered; ``problems``: what is wrong with each bad field, where that is known.
    """

    def __init__(self, sentence: str, *, status: int | None = None, problems: Sequence[FieldProblem] = ()) -> None:
        super().__init__(sentence)
        self.status = status
        self.problems = problems

    @property
    def is_missing(self) -> bool:
        """Whether the thing asked about does not exist."""
        return self.status == 404


async def ask(session: Session, question: Callable[[Client], T]) -> T:
    """Returns what ``question`` gets from the session's client. Raises SignedOut, or NotDone with a sentence."""
    if session.is_over:
        raise SignedOut
    session.touch()
    client = session.client
    try:
        return await asyncio.to_thread(question, client)
    except ApiError as error:
        if error.status == 401 and client is not session.client:
            # Its key got another secret while this was under way.
            return await ask(session, question)
        if error.status == 401:
            raise SignedOut from error
        raise NotDone(sentence_of(error), status=error.status, problems=error.errors) from error
    except ClientError as error:
        raise NotDone(sentence_of(error), status=404 if isinstance(error, UnknownFile) else None) from error
    except RuntimeError as error:
        # httpx says so when another page of the session signed out while this question was under way.
        if session.is_over:
            raise SignedOut from error
        raise


def sentence_of(error: ClientError) -> str:
    """Returns what a person reads when the SDK raised ``error``."""
    if isinstance(error, ApiError) and error.status == 403:
        return f"Your key may not do that: {error.detail}"
    if isinstance(error, ApiError) and error.status >= 500:
        return f"The API could not answer: {error.detail}"
    text = str(error)
    return text[:1].upper() + text[1:]
