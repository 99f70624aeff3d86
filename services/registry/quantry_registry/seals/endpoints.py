"""``/api/v1/seals``: a worker asks for its staged files to be re-hashed into the vault."""

from __future__ import annotations

from fastapi import APIRouter

from quantry_core.vault import CheckpointSeal
from quantry_core.versions import SealRequest, SealResult
from quantry_http.auth import Caller, Db
from quantry_http.problems import problem_responses
from quantry_registry.parts import PartsOf
from quantry_registry.seals import artifacts, checkpoints, service

router = APIRouter(prefix="/seals", tags=["seals"])


@router.post("", responses=problem_responses(404, 409))
async def seal_files(caller: Caller, database: Db, parts: PartsOf, request: SealRequest) -> SealResult:
    """Moves an attempt's files into the vault, if they are what was declared and make a checkpoint fit to keep. May be repeated."""
    return await service.seal(database, parts, request, who=caller)


@router.post("/artifacts", responses=problem_responses(404, 409))
async def seal_artifacts(caller: Caller, database: Db, parts: PartsOf, request: SealRequest) -> SealResult:
    """Moves files that an attempt leaves beside its version into the vault: raw results. May be repeated."""
    return await artifacts.seal(database, parts, request, who=caller)


@router.post("/checkpoints", responses=problem_responses(404, 409))
async def seal_checkpoint(caller: Caller, database: Db, parts: PartsOf, request: CheckpointSeal) -> SealResult:
    """Moves a checkpoint of a training attempt into the vault; the attempt reports it next. May be repeated."""
    return await checkpoints.seal(database, parts, request, who=caller)
