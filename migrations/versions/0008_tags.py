"""What the MLflow door needs."""

revision = "0008_tags"
down_revision = "0007_webhooks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
