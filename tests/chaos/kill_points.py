"""``python -m chaos.kill_points <module>``: a part of the product that dies by SIGKILL exactly where the armed point says.

The product has no failpoints. This program wraps some of its functions, in its own process only, and then runs the module as
``python -m`` would. A point fires once: the file that arms it is renamed first.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import APIRouter
from fastapi.routing import APIRoute

ARMED_VARIABLE = "QUANTRY_CHAOS_ARMED"


class Point(NamedTuple):
    """A place in one part's code: before a call of a function, or after it."""

    part: str
    module: str
    function: str
    """``Class.method``, or a name as the module sees it."""

    is_after: bool
    is_main_killed: bool = False
    """Whether the process above dies: a worker's main process, above its pool."""

    within: str = ""
    """Another point's function that must have been called since this one was last called."""


POINTS: dict[str, Point] = {
    "upload: before the first file": Point("worker", "quantry_blobs.vault", "Staging.put", is_after=False),
    "upload: within a file": Point("worker", "quantry_blobs.s3", "_Multipart.add", is_after=True),
    "upload: a part sent last": Point("worker", "quantry_blobs.s3", "_Multipart.complete", is_after=False),
    "upload: after a file": Point("worker", "quantry_blobs.vault", "Staging.put", is_after=True),
    "upload: the worker's main process": Point("worker", "quantry_blobs.vault", "Staging.put", is_after=True, is_main_killed=True),
    "upload: all files": Point("worker", "quantry_worker.control", "HttpControl.seal", is_after=False),
    "seal: before the first blob": Point("registry", "quantry_blobs.vault", "Vault.seal", is_after=False),
    "seal: within a blob": Point("registry", "quantry_blobs.s3", "_Multipart.add", is_after=True),
    "seal: after a blob": Point("registry", "quantry_blobs.vault", "Vault.seal", is_after=True),
    "seal: all blobs": Point("registry", "quantry_registry.seals.moves", "note_kept", is_after=False),
    "seal: blobs noted": Point("registry", "quantry_registry.seals.moves", "note_kept", is_after=True),
    "seal: recorded, not answered": Point("registry", "quantry_registry.seals.service", "SealResult", is_after=False),
    "seal: answered": Point("worker", "quantry_worker.control", "HttpControl.seal", is_after=True),
    "finish: before the request": Point("worker", "quantry_worker.control", "HttpControl.finish", is_after=False),
    "finish: written, not committed": Point("api", "quantry_store.transactions", "finish_attempt", is_after=True),
    "finish: committed, not answered": Point("api", "quantry_api.execution.endpoints", "finish_attempt", is_after=True),
    "finish: committed, not heard": Point("worker", "quantry_worker.control", "HttpControl.finish", is_after=True),
}
"""The points of jobs in product processes; the child's own four are in chaos.stub."""

LEDGER = "quantry_deploy.ledger"
CONTROLLER_CALLS = (
    "begin_rollout",
    "stage_rollout",
    "pause_rollout",
    "judge_rollout",
    "promote_rollout",
    "fail_rollout",
    "undo_promotion",
    "end_watch",
)
"""The transactions that the controller's writes about rollouts are."""

CONTROLLER_MOMENTS = ("before", "written, not committed", "committed, not heard")


def controller_point(call: str, moment: str) -> str:
    """Returns the name of a moment of one of the controller's writes."""
    return f"{call}: {moment}"


def _controller_points() -> dict[str, Point]:
    """Returns the points of the controller: before, within and after each of its writes."""
    points: dict[str, Point] = {}
    for call in CONTROLLER_CALLS:
        method = "Ledger.judge" if call == "judge_rollout" else "Ledger.move"
        ways = (
            Point("deploy", LEDGER, call, is_after=False),
            Point("deploy", LEDGER, call, is_after=True),
            Point("deploy", LEDGER, method, is_after=True, within=call),
        )
        points |= {controller_point(call, moment): way for moment, way in zip(CONTROLLER_MOMENTS, ways, strict=True)}
    return points


CONTROLLER_POINTS = _controller_points()

CHILD_POINTS = ("save: before the first file", "save: within a file", "save: all files", "save: result said")


_called: set[str] = set()
"""Functions of points that this process has called."""


def arm(part: str, armed: Path) -> None:
    """Wraps every function of a part that a point names."""
    for name, point in (POINTS | CONTROLLER_POINTS).items():
        if point.part == part:
            _wrap(name, point, armed)


def _wrap(name: str, point: Point, armed: Path) -> None:
    owner: Any = importlib.import_module(point.module)
    *path, attribute = point.function.split(".")
    for step in path:
        owner = getattr(owner, step)
    function = getattr(owner, attribute)
    dying = _dying(function, name, point, armed)
    setattr(owner, attribute, dying)
    # An endpoint is called by its router, which was told of it before.
    for route in getattr(owner, "router", APIRouter()).routes:
        if isinstance(route, APIRoute) and route.endpoint is function:
            route.endpoint = dying


def _dying(function: Callable[..., Any], name: str, point: Point, armed: Path) -> Callable[..., Any]:
    def die() -> None:
        if (not point.within or point.within in _called) and _is_mine(name, armed):
            os.kill(os.getppid() if point.is_main_killed else os.getpid(), signal.SIGKILL)

    if iscoroutinefunction(function):

        @wraps(function)
        async def waited(*arguments: Any, **options: Any) -> Any:
            if not point.is_after:
                die()
            _called.discard(point.within)
            result = await function(*arguments, **options)
            _called.add(point.function)
            if point.is_after:
                die()
            return result

        return waited

    # A class stands here too, which `wraps` would disfigure.
    def called(*arguments: Any, **options: Any) -> Any:
        if not point.is_after:
            die()
        result = function(*arguments, **options)
        if point.is_after:
            die()
        return result

    return called


def _is_mine(name: str, armed: Path) -> bool:
    with suppress(FileNotFoundError):
        if armed.read_text() == name:
            armed.rename(f"{armed}.fired")
            return True
    return False


def main() -> None:
    """Arms a part of the product and runs it."""
    module = sys.argv[1]
    arm(module.removeprefix("quantry_"), Path(os.environ[ARMED_VARIABLE]))
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
