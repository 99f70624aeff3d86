"""Outcomes of requests as the gateway's data plane tells them, and routes of deployments that are watched closely."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from quantry_core.captures import CaptureSettings
from quantry_core.routes import Mirror, Route, RoutedKey, RoutedReplica, RouteSnapshot, Variant, VariantRole
from quantry_gateway.outcomes import Outcome, OutcomeKind
from quantry_gateway.table import RouteTable, compile_routes

CHAT_BODY = b'{"model":"bard","messages":[{"role":"user","content":"To be"}],"temperature":0.7,"stream":true,"user":"will"}'


def outcome(kind: OutcomeKind = OutcomeKind.ANSWERED, **changes: object) -> Outcome:
    """Returns the outcome of a chat that took half a second, with some fields changed."""
    plain = Outcome(
        kind=kind,
        request_id="request-1",
        key_id="key_0",
        project_id="prj_1",
        deployment_id="dep_1",
        release_id="rel_1",
        path="/v1/chat/completions",
        body=CHAT_BODY,
        began_s=100.0,
        ended_s=100.5,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def watched_route(
    name: str = "bard",
    *,
    stable_urls: tuple[str, ...] = ("http://stable",),
    candidate_urls: tuple[str, ...] | None = ("http://candidate",),
    mirror: Mirror | None = None,
    capture: CaptureSettings | None = None,
    max_requests: int = 64,
) -> Route:
    """Returns the route of deployment ``dep_1`` with release ``rel_1`` stable and, unless its URLs are None, ``rel_2`` beside it."""
    variants = [_variant(VariantRole.STABLE, 1, 100, stable_urls, max_requests)]
    if candidate_urls is not None:
        variants.append(_variant(VariantRole.CANDIDATE, 2, 0, candidate_urls, max_requests))
    return Route(
        deployment=name,
        deployment_id="dep_1",
        project_id="prj_1",
        created_at=datetime(2026, 11, 23, tzinfo=UTC),
        variants=variants,
        mirror=mirror,
        capture=capture,
    )


def table_of(*routes: Route, keys: tuple[RoutedKey, ...] = ()) -> RouteTable:
    """Returns a table with these routes."""
    table = RouteTable()
    table.swap(compile_routes(RouteSnapshot(revision=1, routes=list(routes), keys=list(keys))))
    return table


def _variant(role: VariantRole, number: int, percent: int, urls: tuple[str, ...], max_requests: int) -> Variant:
    release_id = f"rel_{number}"
    replicas = [
        RoutedReplica(id=f"rep_{number}_{at}", release_id=release_id, url=url, max_requests=max_requests) for at, url in enumerate(urls)
    ]
    return Variant(role=role, release_id=release_id, release_number=number, percent=percent, replicas=replicas)
