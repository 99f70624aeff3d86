"""A full disk is told as what it is: whoever sent the bytes cannot help it, and whoever runs the registry can."""

from __future__ import annotations

import errno
import tempfile
from typing import ClassVar

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import Response

from quantry_core.errors import QuantryError
from quantry_http.problems import problem_response

_log = structlog.get_logger(__name__)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class DiskFull(QuantryError):
    """There is no room for what is kept on disk while it is checked. Nothing was written anywhere else."""

    status: ClassVar[int] = 507
    slug: ClassVar[str] = "disk-full"
    title: ClassVar[str] = "The registry has no room left for this"


def install_disk_full_handler(app: FastAPI) -> None:
    """Makes a request that finds the disk full answer a problem document that says so."""
    app.add_exception_handler(OSError, _on_os_error)


async def _on_os_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, OSError) or error.errno not in _FULL:
        raise error
    _log.error("disk full: make room for the temporary files", folder=tempfile.gettempdir(), path=request.url.path, error=str(error))
    detail = "the disk with the registry's temporary files is full; nothing was kept. Whoever runs it must make room; then send it again"
    return problem_response(DiskFull(detail).problem(request.url.path))
