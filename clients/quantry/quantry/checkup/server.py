"""The installation that this client talks to: reached, trusted, on the same time, and doing its work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus

from quantry.checkup.findings import Check, Finding, Teller
from quantry.cli.output import duration_text
from quantry.client import Client
from quantry.config import Connection
from quantry.errors import ApiError, ServerUnreachable
from quantry_core.platform_state import PlatformState
from quantry_core.rollouts import Deployment, RolloutState

AREA = "server"
WORK = "work"
SKEW_S = 5.0
MUCH_SKEW_S = 60.0
EXPIRES_SOON = timedelta(days=7)
VERIFIED_LONG_AGO = timedelta(days=30)
QUEUED_LONG_S = 3600.0
OVERDUE = timedelta(minutes=2)
BEGINS_WITHIN = timedelta(minutes=5)
MAX_LOOKED_AT = 500
"""Of schedules, deployments and webhooks: a doctor who reads for minutes helps nobody."""


@dataclass
class ServerLook:
    """Looks at one server, each answer asked for once. Its checks are asked in order: what cannot be reached is told once."""

    client: Client
    connection: Connection
    now: Callable[[], datetime]
    _platform: PlatformState | None = field(default=None, init=False)
    _trouble: str | None = field(default=None, init=False)

    def checks(self) -> list[Check]:
        """Returns the looks, in an order in which each may trust the ones before."""
        looks: list[tuple[str, str, Callable[[], Sequence[Finding]]]] = [
            (AREA, "gateway", self.look_at_gateway),
            (AREA, "api", self.look_at_api),
            (AREA, "database", self.look_at_database),
            (AREA, "registry", self.look_at_registry),
            (AREA, "vault", self.look_at_vault),
            (WORK, "workers", self.look_at_workers),
            (WORK, "deployments", self.look_at_deployments),
            (WORK, "schedules", self.look_at_schedules),
            (WORK, "webhooks", self.look_at_webhooks),
        ]
        return [Check(area, name, look) for area, name, look in looks]

    def look_at_gateway(self) -> list[Finding]:
        """Tells whether the server is reached, and how far the clocks are apart."""
        tell, where = Teller(AREA, "gateway"), f"{self.client.url} (from {self.connection.url_from})"
        try:
            health = self.client.health()
        except ServerUnreachable as error:
            self._trouble = error.reason
            return [tell.fail(f"nothing answers at {where}: {error.reason}", "is it running? here: quantry status; else look at --url")]
        except ApiError as error:
            return [tell.fail(f"{where} is not well: {error.detail}", "look at its log, and at the api, which it asks for routes")]
        found = [tell.ok(f"{where} answers in {health.round_trip_s * 1000:.0f} ms")]
        if health.clock_ahead_s is not None:
            found.append(_clock(Teller(AREA, "clock"), health.clock_ahead_s, "this machine's clock", "the server's"))
        return found

    def look_at_api(self) -> list[Finding]:
        """Tells whether the api answers, whether the key is good, and until when."""
        if self._trouble is not None:
            return []
        api, key = Teller(AREA, "api"), Teller(AREA, "key")
        try:
            identity = self.client.whoami()
        except ApiError as error:
            if error.status != HTTPStatus.UNAUTHORIZED:
                self._trouble = error.detail
                return [api.fail(error.detail, "look at the api's log; its database may be away")]
            self._trouble = "the key is refused"
            return [
                api.ok("it answers"),
                key.fail(f"the key from {self.connection.key_from} is refused: {error.detail}", "get another: quantry keys create"),
            ]
        found = [api.ok("it answers")]
        try:
            self._platform = self.client.platform.get()
        except ApiError as error:
            self._trouble = f"a {identity.role} key sees nothing of this"
            return [*found, key.warn(f"a key of role {identity.role}: {error.detail}", "ask with a key of role viewer or more")]
        return [*found, self._key(key, self._platform, identity.role)]

    def _key(self, tell: Teller, state: PlatformState, role: str) -> Finding:
        words = f"good, of role {role}, from {self.connection.key_from}"
        if state.key_expires_at is None:
            return tell.ok(f"{words}; it does not expire")
        left = state.key_expires_at - state.database_time
        if left < EXPIRES_SOON:
            return tell.warn(f"{words}; it expires in {duration_text(left.total_seconds())}", "rotate it: quantry keys rotate")
        return tell.ok(f"{words}; it expires in {left.days} days")

    def look_at_database(self) -> list[Finding]:
        """Tells whether the database is migrated as far as the code wants it, and whether its clock is the api's."""
        if self._platform is None:
            return []
        state, tell = self._platform, Teller(AREA, "database")
        ahead_s = (state.time - state.database_time).total_seconds()
        clock = _clock(Teller(AREA, "database clock"), ahead_s, "the api's clock", "the database's")
        if state.database_revision is None:
            return [tell.fail("it was never migrated", "run: python -m quantry_store.migrate")]
        if state.wanted_revision is None or state.database_revision == state.wanted_revision:
            return [tell.ok(f"at migration {state.database_revision}"), clock]
        words = f"at migration {state.database_revision}, the api was written for {state.wanted_revision}"
        return [tell.fail(words, "run: python -m quantry_store.migrate; and let all services be of one version"), clock]

    def look_at_registry(self) -> list[Finding]:
        """Tells whether the registry answers, and its object store behind it."""
        if self._trouble is not None:
            return []
        tell, store = Teller(AREA, "registry"), Teller(AREA, "object store")
        try:
            self.client.models.list(limit=1)
        except (ApiError, ServerUnreachable) as error:
            return [tell.fail(str(error), "look at the registry's log; models and datasets cannot be read or written")]
        try:
            kept = self.client.vault.store()
        except (ApiError, ServerUnreachable) as error:
            return [tell.ok("it answers"), store.fail(str(error), "look at the object store; the registry's /healthz names it")]
        words = "it keeps older versions" if kept.keeps_versions else "it keeps no older versions of objects"
        return [tell.ok("it answers"), store.ok(f"it answers; {words}")]

    def look_at_vault(self) -> list[Finding]:
        """Tells when the vault was last read and hashed again, and what that found."""
        if self._platform is None:
            return []
        state, tell = self._platform, Teller(AREA, "vault")
        if state.num_damaged:
            words = f"the last verification found {state.num_damaged} damaged or missing blobs"
            return [tell.fail(words, "see which: quantry vault list; bring them back from a backup: quantry restore")]
        if state.verified_at is None:
            return [tell.warn("it was never verified", "read and hash it again: quantry vault verify")]
        age = state.database_time - state.verified_at
        words = f"verified {duration_text(age.total_seconds())} ago, nothing damaged"
        return [tell.warn(words, "read and hash it again: quantry vault verify") if age > VERIFIED_LONG_AGO else tell.ok(words)]

    def look_at_workers(self) -> list[Finding]:
        """Tells of queues with work and nobody who works it off."""
        if self._platform is None:
            return []
        tell, workers = Teller(WORK, "workers"), self.client.workers.list().data
        alive = [worker for worker in workers if worker.is_alive]
        found: list[Finding] = []
        for queue in self.client.queues.list().data:
            about = Teller(WORK, f"queue {queue.name}")
            words = f"{queue.num_slots} slots, {queue.num_running} running, {queue.num_queued} queued"
            if queue.num_slots == 0 and queue.num_queued:
                found.append(about.fail(f"{words}, and no worker serves it", f"start a worker of queue {queue.name}"))
            elif queue.num_slots == 0:
                found.append(about.warn(f"{words}: no worker serves it", f"start one before a job goes to queue {queue.name}"))
            elif (queue.oldest_queued_s or 0) > QUEUED_LONG_S:
                waits = duration_text(queue.oldest_queued_s or 0)
                found.append(about.warn(f"{words}, one for {waits}", "start more workers, or see what holds the slots: quantry jobs list"))
            else:
                found.append(about.ok(words))
        gone = [worker.host for worker in workers if not worker.is_alive and worker.host not in {one.host for one in alive}]
        if not alive:
            found.insert(0, tell.fail("no worker is alive", "start one: jobs stay queued until then"))
        elif gone:
            found.insert(0, tell.warn(f"{len(alive)} alive; not heard of any more: {', '.join(sorted(set(gone)))}", "look at those hosts"))
        else:
            found.insert(0, tell.ok(f"{len(alive)} alive"))
        return found

    def look_at_deployments(self) -> list[Finding]:
        """Tells of deployments that should serve and do not, which is the work of the deploy service."""
        if self._platform is None:
            return []
        now, tell = self._platform.database_time, Teller(WORK, "deployments")
        deployments = list(self.client.deployments.iterate(max_items=MAX_LOOKED_AT))
        found = [finding for deployment in deployments if (finding := _deployment(tell, deployment, now)) is not None]
        return found or [tell.ok(f"{len(deployments)}, all as asked" if deployments else "none")]

    def look_at_schedules(self) -> list[Finding]:
        """Tells of schedules whose time has come and that did not fire."""
        if self._platform is None:
            return []
        now, tell = self._platform.database_time, Teller(WORK, "schedules")
        schedules = list(self.client.schedules.iterate(max_items=MAX_LOOKED_AT))
        late = [one.name for one in schedules if one.next_run_at is not None and one.next_run_at < now - OVERDUE]
        if late:
            return [tell.fail(f"overdue: {', '.join(late)}", "the api's scheduler does not fire: look at its log")]
        num_paused = sum(one.is_paused for one in schedules)
        return [tell.ok(f"{len(schedules)}, {num_paused} of them paused" if schedules else "none")]

    def look_at_webhooks(self) -> list[Finding]:
        """Tells of webhooks that the platform has disabled, and of those whose deliveries fail."""
        if self._platform is None:
            return []
        tell, found = Teller(WORK, "webhooks"), []
        webhooks = list(self.client.webhooks.iterate(max_items=MAX_LOOKED_AT))
        for webhook in webhooks:
            resume = f"mend the receiver, then: quantry webhooks resume {webhook.id}"
            if webhook.disabled_reason is not None:
                found.append(tell.fail(f"{webhook.name} was disabled: {webhook.disabled_reason}", resume))
            elif webhook.failing_since is not None:
                look = f"see why: quantry webhooks deliveries {webhook.id}"
                found.append(tell.warn(f"{webhook.name} fails since {webhook.failing_since.astimezone():%Y-%m-%d %H:%M}", look))
        return found or [tell.ok(f"{len(webhooks)}, none failing" if webhooks else "none")]


def _clock(tell: Teller, ahead_s: float, ours: str, theirs: str) -> Finding:
    words = f"{ours} is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} {theirs}"
    if abs(ahead_s) > MUCH_SKEW_S:
        return tell.fail(words, "set both by NTP: leases, keys and webhooks' signatures go by time")
    if abs(ahead_s) > SKEW_S:
        return tell.warn(words, "set both by NTP")
    return tell.ok(f"{ours} is {theirs}")


def _deployment(tell: Teller, deployment: Deployment, now: datetime) -> Finding | None:
    rollout = deployment.active_rollout
    if rollout is not None and rollout.state is RolloutState.PENDING and now - rollout.created_at > BEGINS_WITHIN:
        waits = duration_text((now - rollout.created_at).total_seconds())
        return tell.fail(
            f"{deployment.name}: a rollout is pending for {waits}",
            "the deploy service does not look at it: does it run? see its log",
        )
    wanted = deployment.num_wanted if deployment.num_wanted is not None else 1
    if deployment.is_stopped or deployment.current_release is None or wanted == 0 or deployment.num_ready:
        return None
    return tell.fail(f"{deployment.name}: no replica is ready", f"see why: quantry deployments show {deployment.name}")
