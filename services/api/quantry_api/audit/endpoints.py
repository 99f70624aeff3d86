"""/api/v1/audit"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from quantry_core.audit import AuditBreak, AuditEntry, AuditFilter, AuditVerification
from quantry_core.pages import Page
from quantry_http.auth import Caller, Db
from quantry_http.moments import Moment
from quantry_http.pages import PageParams

MAX_WORD_CHARS = 80
MAX_SEQ = 2**63 - 1

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])


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
    seq: Annotated[int | None, Query(ge=1, le=MAX_SEQ, description="A place of the chain that was noted elsewhere before.")] = None,
    hash: Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$", description="The hash that was noted of that place.")] = None,
) -> AuditVerification:
    """Walks along the project's whole chain and tells whether it holds, and if not, the first place where it does not.

    Whoever could rewrite the database could write a new chain that holds: ``seq`` and ``hash``, noted elsewhere, would not fit it.
    """
    async with db.begin() as uow:
        await uow.read_one_moment()
        found = await uow.audit.verify(caller.project_id)
        if seq is None or hash is None or not found.is_whole:
            return found
        there = await uow.audit.hash_at(caller.project_id, seq)
    if there == hash or (there is None and found.anchor is not None and seq < found.anchor.seq):
        return found
    why = "there is no such entry" if there is None else f"its hash is {there}, and {hash} was noted of it: the chain was written anew"
    return found.model_copy(update={"is_whole": False, "broken_at": AuditBreak(seq=seq, why=why)})
