"""/api/v1/audit"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from quantry_api.at_once import AtOnce
from quantry_core.audit import AuditBreak, AuditEntry, AuditFilter, AuditVerification
from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.pages import Page
from quantry_http.auth import Caller, Db
from quantry_http.moments import Moment
from quantry_http.pages import PageParams
from quantry_store.database import Database

MAX_WORD_CHARS = 80
MAX_SEQ = 2**63 - 1

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])


def new_walks() -> AtOnce:
    """Returns what counts the walks along chains of one process: one of a project, far fewer together than it has connections."""
    return AtOnce(what="verifications of audit logs", limit_each=1, limit_all=4)


async def walks_of(request: Request) -> AtOnce:
    """Returns the walks along chains that go on in the service that answers this request."""
    walks: AtOnce = request.app.state.audit_walks
    return walks


async def filter_in_query(
    *,
    key_id: Annotated[str | None, Query(max_length=MAX_WORD_CHARS, description="Only what this key did.")] = None,
    action: Annotated[
        str | None, Query(max_length=MAX_WORD_CHARS, description="Only this act, job.submit; or all on a noun, job.*")
    ] = None,
    noun: Annotated[str | None, Query(max_length=MAX_WORD_CHARS, description="Only what was done to jobs, keys and so on.")] = None,
    noun_id: Annotated[str | None, Query(max_length=MAX_WORD_CHARS, description="Only what was done to this one.")] = None,
    since: Annotated[Moment | None, Query(description="Not before; with its zone.")] = None,
    until: Annotated[Moment | None, Query(description="Before; with its zone.")] = None,
) -> AuditFilter:
    """Returns which entries are asked for."""
    return AuditFilter(key_id=key_id, action=action, noun=noun, noun_id=noun_id, since=since, until=until)


@router.get("")
async def list_audit(caller: Caller, db: Db, page: PageParams, which: Annotated[AuditFilter, Depends(filter_in_query)]) -> Page[AuditEntry]:
    """Lists who did what in the project, newest first."""
    async with db.begin() as uow:
        return await uow.audit.list(caller.project_id, which, after=page.after, limit=page.limit)


@router.get("/verify")
async def verify_audit(
    caller: Caller,
    db: Db,
    walks: Annotated[AtOnce, Depends(walks_of)],
    seq: Annotated[int | None, Query(ge=1, le=MAX_SEQ, description="A place of the chain that was noted elsewhere before.")] = None,
    hash: Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$", description="The hash that was noted of that place.")] = None,
) -> AuditVerification:
    """Walks along the project's whole chain and tells whether it holds, and if not, the first place where it does not.

    Whoever could rewrite the database could write a new chain that holds: ``seq`` and ``hash``, noted elsewhere, would not fit it.
    """
    if (seq is None) is not (hash is None):
        missing = "seq" if seq is None else "hash"
        raise InvalidInput("seq and hash belong together", errors=[FieldProblem(field=missing, message="it is missing")])
    with walks.one_of(caller.project_id):
        found, there = await _walked(db, caller.project_id, seq)
    if seq is None or hash is None or not found.is_whole:
        return found
    why = _why_not(found, seq, hash, there)
    return found if why is None else found.model_copy(update={"is_whole": False, "broken_at": AuditBreak(seq=seq, why=why)})


async def _walked(db: Database, project_id: str, seq: int | None) -> tuple[AuditVerification, str | None]:
    """Returns what a walk along a project's chain found, and the hash of the place ``seq``, of one moment."""
    async with db.begin() as uow:
        await uow.read_one_moment()
        found = await uow.audit.verify(project_id)
        return found, None if seq is None else await uow.audit.hash_at(project_id, seq)


def _why_not(found: AuditVerification, seq: int, noted: str, there: str | None) -> str | None:
    """Returns why a chain that is whole does not prove what was noted of a place; None where it does."""
    if found.anchor is not None and seq < found.anchor.seq:
        # A chain written anew may say so of itself too, whatever hashes of old anchors stand beside it.
        return f"retention has removed it, as all up to {found.anchor.seq}: what was noted of it cannot be held against anything any more"
    if there is None:
        return "there is no such entry"
    return None if there == noted else f"its hash is {there}, and {noted} was noted of it: the chain was written anew"
