"""What retention needs."""

revision = "0009_retention"
down_revision = "0008_tags"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
