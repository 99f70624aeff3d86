"""/api/v1/sessions: a sign-in by a provider becomes a short-lived key, which ends with the session."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from quantry_api.sessions.id_tokens import IdTokens, signed_digest
from quantry_api.sessions.settings import OidcSettings
from quantry_core.audit import AuditFilter
from quantry_core.errors import Conflict, Forbidden, NotFound, Unauthorized, UnknownProject
from quantry_core.oidc import Grant, NewSession, SessionRequest, claim_values, granted, person_of
from quantry_http.auth import Caller, Db
from quantry_http.limits import Limits, address_of
from quantry_http.problems import problem_responses
from quantry_store.unit_of_work import UnitOfWork

CREATE = "session.create"
END = "session.end"

router = APIRouter(prefix="/api/v1/sessions", tags=["keys"])


class SignIns:
    """What signing in by a provider needs; there is none where no provider is configured."""

    def __init__(self, settings: OidcSettings, tokens: IdTokens) -> None:
        self.settings = settings
        self.tokens = tokens


async def sign_ins_of(request: Request) -> SignIns:
    """Returns how this installation signs people in; raises NotFound where it does not."""
    sign_ins: SignIns | None = request.app.state.sign_ins
    if sign_ins is None:
        raise NotFound("nobody signs in by a provider here: QUANTRY_OIDC_ISSUER is not set")
    return sign_ins


@router.post("", status_code=201, responses=problem_responses(401, 403, 404, 503))
async def create_session(
    asked: SessionRequest, sign_ins: Annotated[SignIns, Depends(sign_ins_of)], request: Request, db: Db, limits: Limits
) -> NewSession:
    """Makes a short-lived key for whoever the provider's ID token is about, with the role that the mapping gives, and shows it this once.

    Needs no key: the token is what it needs. A token is taken once.
    """
    settings = sign_ins.settings
    limits.admit_session(address_of(request), settings.sessions_per_minute)
    claims = await sign_ins.tokens.verify(asked.id_token, asked.nonce)
    person = person_of(claims)
    grant = granted(settings.grants, claim_values(claims, settings.claim))
    if grant is None:
        raise Forbidden(f"{person} is known to the provider, but nothing in the claim {settings.claim!r} gives a role here: ask an admin")
    facts = {
        "person": person,
        "subject": str(claims["sub"])[:254],
        "issuer": settings.issuer,
        "claim": settings.claim,
        "value": grant.value,
    }
    async with db.begin() as uow:
        return await _made(uow, asked.id_token, grant, settings.key_lifetime_s, facts)


async def _made(uow: UnitOfWork, id_token: str, grant: Grant, lifetime_s: int, facts: dict[str, Any]) -> NewSession:
    person = facts["person"]
    try:
        project = await uow.projects.find(grant.project)
    except UnknownProject as error:
        raise Forbidden(f"the mapping gives {person} a role in project {grant.project!r}, and there is no such project") from error
    # Under the token's own digest: whoever comes by a token that was used finds that it opens nothing.
    digest = signed_digest(id_token)
    if await uow.idempotency.claim(project.id, f"id-token {digest}", digest) is not None:
        raise Unauthorized("this ID token was used before: begin the sign-in again")
    expires_at = datetime.now(UTC) + timedelta(seconds=lifetime_s)
    key, secret = await uow.keys.create(project.id, person, grant.role, expires_at=expires_at)
    await uow.idempotency.save(project.id, f"id-token {digest}", digest, key.id)
    await uow.audit.record(None, CREATE, "key", key.id, facts, project_id=project.id)
    return NewSession(key=key, secret=secret, person=person)


@router.delete("/current", status_code=204, responses=problem_responses(409))
async def end_session(caller: Caller, db: Db) -> None:
    """Revokes the caller's own key, where a sign-in made it. Any other key is revoked by an admin."""
    async with db.begin() as uow:
        made = await uow.audit.list(caller.project_id, AuditFilter(action=CREATE, noun="key", noun_id=caller.key_id), limit=1)
        if not made.data:
            raise Conflict("this key was not made by a sign-in: an admin of the project revokes it")
        await uow.keys.revoke(caller.project_id, caller.key_id, who=caller)
        await uow.audit.record(caller, END, "key", caller.key_id)
