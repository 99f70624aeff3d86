"""Which jobs are not over, asked so that the jobs which are, nearly all of them, are not read."""

from __future__ import annotations

from sqlalchemy import ColumnElement, SQLColumnExpression, and_

from quantry_core.jobs import FINAL_STATUSES, JobStatus
from quantry_store.tables import JobRow

OPEN_STATUSES = tuple(status for status in JobStatus if status not in FINAL_STATUSES)
"""Named one by one, and never as what is not final: only what is named is looked up in an index of statuses."""


def is_open_in(project_id: SQLColumnExpression[str] | str) -> ColumnElement[bool]:
    """Returns the condition on JobRow that it is a job of a project and not over; the index by project and status answers it."""
    return and_(JobRow.project_id == project_id, JobRow.status.in_(OPEN_STATUSES))
