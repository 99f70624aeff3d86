"""Posts what a gateway has to tell to the api's internal endpoints, with the gateway's token."""

from __future__ import annotations

import random
from http import HTTPStatus

import aiohttp
from pydantic import BaseModel, SecretStr

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0

_PASSING = frozenset({401, 403, 404, 408, 425, 429})
"""Client errors that another try may not meet: a token, a version of the api or its load can change, the report cannot."""


class ApiAway(Exception):
    """The api did not take the report this time; the same one may be sent again."""


class ReportRefused(Exception):
    """The api understood that it will never take this report."""


class Teller:
    """Sends documents to one api over one session."""

    def __init__(self, session: aiohttp.ClientSession, *, api_url: str, token: SecretStr) -> None:
        self._session = session
        self._api_url = api_url
        self._token = token

    async def post(self, path: str, document: BaseModel, *, timeout_s: float) -> None:
        """Returns once the api has taken the document; raises ApiAway or ReportRefused.

        Neither of them quotes the document, nor the answer, which could: some of what is told may stand in no log.
        """
        headers = {"authorization": f"Bearer {self._token.get_secret_value()}", "content-type": "application/json"}
        body = document.model_dump_json(exclude_defaults=True).encode()
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.post(
                self._api_url + path, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiAway(f"{type(error).__name__}: {error}") from error
        if status < HTTPStatus.MULTIPLE_CHOICES:
            return
        if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _PASSING:
            raise ReportRefused(f"status {status}")
        raise ApiAway(f"status {status}")


def pause_s(num_failures: int) -> float:
    """Returns how long to wait after so many failures in a row before this one: 0.2 s, doubled each time, 5 s at most, less
    up to half of it by chance, so that many gateways do not come back together."""
    return min(FIRST_PAUSE_S * 2.0 ** min(num_failures, 10), LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)
