"""What people and programs write about models, and the tags of versions that are no labels."""

from alembic import op

revision = "0008_tags"
down_revision = "0007_webhooks"
branch_labels = None
depends_on = None

UPGRADE = """
create table model_notes (
    model_id text constraint pk_model_notes primary key constraint fk_model_notes_model_id references models on delete cascade,
    project_id text not null constraint fk_model_notes_project_id references projects,
    tags jsonb not null,
    notes text not null,
    updated_at timestamptz not null default now()
);
create index ix_model_notes_tags on model_notes using gin (tags jsonb_path_ops);

alter table version_notes add column texts jsonb not null default '{}';
alter table version_notes alter column texts drop default;
"""

DOWNGRADE = """
alter table version_notes drop column texts;
drop table model_notes;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
