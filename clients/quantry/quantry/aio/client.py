"""The client: one server, one key, and everything the API has."""

from __future__ import annotations

from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import httpx

from quantry.aio.resources.audit import Audit
from quantry.aio.resources.datasets import Datasets
from quantry.aio.resources.deployments import Deployments
from quantry.aio.resources.jobs import Jobs
from quantry.aio.resources.keys import Keys
from quantry.aio.resources.methods import Methods
from quantry.aio.resources.models import Models
from quantry.aio.resources.pipelines import Pipelines
from quantry.aio.resources.platform import Platform
from quantry.aio.resources.project import Project
from quantry.aio.resources.projects import Projects
from quantry.aio.resources.queues import Queues
from quantry.aio.resources.retention import Retention
from quantry.aio.resources.rollouts import Rollouts
from quantry.aio.resources.schedules import Schedules
from quantry.aio.resources.sessions import Sessions
from quantry.aio.resources.uploads import Uploads
from quantry.aio.resources.vault import Vault
from quantry.aio.resources.versions import Versions
from quantry.aio.resources.webhooks import Webhooks
from quantry.aio.resources.worker_hosts import WorkerHosts
from quantry.aio.resources.workers import Workers
from quantry.aio.runtime import Sleep, sleep
from quantry.aio.transport import Transport
from quantry.config import resolve_connection
from quantry.health import Health, health_of
from quantry.messages import Document
from quantry.retries import Retries
from quantry_core.keys import Identity

DEFAULT_TIMEOUT_S = 30.0
_DEFAULT_RETRIES = Retries()


class AsyncClient:
    """One Quantry server, one key. Use it in a block of its own (``async with``), or call ``close``.

    ``url``, ``api_key`` and ``profile`` may be left out: where they are looked for then is told in ``quantry.config``. Every method
    may raise ApiError (refused) and ServerUnreachable. Safe requests, and submissions under their Idempotency-Key, are repeated when
    the connection fails or the server says 429 or 503: ``quantry.retries`` says how often.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        *,
        profile: str | None = None,
        retries: Retries = _DEFAULT_RETRIES,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Sleep = sleep,
    ) -> None:
        """``timeout_s``: how long the server may say nothing. ``profile``: one that ``quantry config set-profile`` made.

        ``transport`` and ``sleep`` (seconds) replace the network and the clock, for tests.
        """
        self._transport = Transport(
            resolve_connection(url, api_key, profile=profile), timeout_s=timeout_s, retries=retries, transport=transport, sleep=sleep
        )
        self.url = self._transport.url
        self.jobs = Jobs(self._transport)
        self.pipelines = Pipelines(self._transport)
        self.schedules = Schedules(self._transport)
        self.workers = Workers(self._transport)
        self.worker_hosts = WorkerHosts(self._transport)
        self.queues = Queues(self._transport)
        self.platform = Platform(self._transport)
        self.project = Project(self._transport)
        self.projects = Projects(self._transport)
        self.models = Models(self._transport)
        self.versions = Versions(self._transport)
        self.vault = Vault(self._transport)
        self.uploads = Uploads(self._transport)
        self.datasets = Datasets(self._transport)
        self.deployments = Deployments(self._transport)
        self.retention = Retention(self._transport)
        self.rollouts = Rollouts(self._transport)
        self.keys = Keys(self._transport)
        self.sessions = Sessions(self._transport)
        self.audit = Audit(self._transport)
        self.webhooks = Webhooks(self._transport)
        self.methods = Methods(self._transport)

    async def whoami(self) -> Identity:
        """Returns the project and role of this client's key."""
        return await self._transport.get(Identity, "/api/v1/whoami")

    async def openapi(self) -> dict[str, Any]:
        """Returns the control plane's OpenAPI document: its addresses, and the schemas of what it takes and answers."""
        return (await self._transport.get(Document, "/api/v1/openapi.json")).root

    async def health(self) -> Health:
        """Returns whether the gateway is well, and how far this machine's clock is ahead of its own; no key is needed for that.

        Raises ApiError where it is not well, ServerUnreachable where nothing answers.
        """
        began_at = datetime.now(UTC)
        response = await self._transport.send("GET", "/healthz")
        return health_of(response.headers.get("date"), began_at, datetime.now(UTC))

    async def close(self) -> None:
        """Closes the connections."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()
