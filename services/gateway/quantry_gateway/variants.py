"""Which release of a route gets a request: by shares, by what keeps a client with one, or by name. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from quantry_core.routes import Route, Split, Variant, VariantRole
from quantry_core.strategies import StickyBy
from quantry_gateway.headers import RawHeaders, header_value
from quantry_gateway.peek import Fields

_PROMPT_FIELDS = ("messages", "prompt", "input")


def named(route: Route, wanted: str) -> Variant | None:
    """Returns the variant with a role or release number; None where there is none."""
    return next((variant for variant in route.variants if wanted in {variant.role.value, str(variant.release_number)}), None)


def known_names(route: Route) -> list[str]:
    """Returns the names that ``named`` finds something by."""
    return [name for variant in route.variants for name in (variant.role.value, str(variant.release_number))]


def serving(route: Route) -> list[Variant]:
    """Returns the variants that a request may go to, replicas or none.

    A candidate whose share is 0 is none of them: it gets only requests that ask for it. The stable release stands in for a candidate
    whatever its own share.
    """
    return [variant for variant in route.variants if variant.percent or variant.role is VariantRole.STABLE]


def can_answer(route: Route, wanted: str | None) -> bool:
    """Tells whether waiting for a replica is over: there is one, or a variant is asked for that will not come by waiting."""
    if wanted is None:
        return any(variant.replicas for variant in route.variants if variant.percent or variant.role is VariantRole.STABLE)
    return named(route, wanted) is None or any(variant.replicas for variant in route.variants)


def pick(variants: Sequence[Variant], point: float) -> Variant:
    """Returns the variant at a point of 0 <= point < 1. Shares count among those given; where all are 0, the first one has all.

    Candidates come first on the scale: as their share grows, those who have them keep them.
    """
    if len(variants) == 1:
        return variants[0]
    total = sum(variant.percent for variant in variants)
    reached = 0
    for variant in sorted(variants, key=lambda variant: variant.role is VariantRole.STABLE):
        reached += variant.percent
        if point * total < reached:
            return variant
    return variants[0]


def sticky_point(salt: str, client: bytes) -> float:
    """Returns a client's place on the scale, evenly spread over 0 <= point < 1 and the same each time."""
    digest = hashlib.blake2b(salt.encode() + b"\0" + client, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2.0**53


def client_of(split: Split, headers: RawHeaders, fields: Fields) -> bytes | None:
    """Returns what a request is known by, or None where it does not carry it: then it is dealt out on its own."""
    if split.by is StickyBy.HEADER:
        return header_value(headers, (split.header or "").encode()) or None
    try:
        return _user(fields) if split.by is StickyBy.USER else _prompt(fields)
    except (ValueError, RecursionError):
        # A large body that proves to be broken: its engine will say so.
        return None


def _user(fields: Fields) -> bytes | None:
    user = fields.get("user")
    # Half of a surrogate pair is JSON too.
    return user.encode(errors="surrogatepass") if isinstance(user, str) and user else None


def _prompt(fields: Fields) -> bytes | None:
    prompts = (fields.get(name) for name in _PROMPT_FIELDS)
    prompt = next((prompt for prompt in prompts if prompt is not None), None)
    return None if prompt is None else json.dumps(prompt).encode()
