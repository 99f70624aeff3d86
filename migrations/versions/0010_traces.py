"""The trace that a job belongs to, from its submission on."""

from alembic import op

revision = "0010_traces"
down_revision = "0009_retention"
branch_labels = None
depends_on = None

# Empty where traces are off; to add it touches no row.
JOBS = """
alter table jobs
    add column traceparent text;
"""

JOBS_UNDO = """
alter table jobs
    drop column traceparent;
"""


def upgrade() -> None:
    """Adds the column."""
    op.execute(JOBS)


def downgrade() -> None:
    """Forgets the traces of jobs."""
    op.execute(JOBS_UNDO)
