"""What access needs: keys that expire, projects made by people, enrolment of worker hosts, an audit log that is a chain."""

revision = "0006_access"
down_revision = "0005_rollouts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
