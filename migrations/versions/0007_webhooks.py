"""What webhooks need: where messages go, the messages, and each sending of one."""

from alembic import op

revision = "0007_webhooks"
down_revision = "0006_access"
branch_labels = None
depends_on = None

UPGRADE = """
create table webhooks (
    id text constraint pk_webhooks primary key,
    project_id text not null constraint fk_webhooks_project_id references projects,
    name text not null,
    url bytea not null,
    shown_url text not null,
    events jsonb not null,
    labels text,
    types jsonb not null,
    format varchar(32) not null,
    is_active boolean not null,
    secret bytea not null,
    old_secret bytea,
    old_secret_until timestamptz,
    disabled_reason text,
    failing_since timestamptz,
    last_delivered_at timestamptz,
    created_at timestamptz not null default now(),
    deleted_at timestamptz
);
create unique index uq_webhooks_name on webhooks (project_id, name) where deleted_at IS NULL;

create table webhook_deliveries (
    id text constraint pk_webhook_deliveries primary key,
    project_id text not null constraint fk_webhook_deliveries_project_id references projects,
    webhook_id text not null constraint fk_webhook_deliveries_webhook_id references webhooks,
    event varchar(32) not null,
    subject_id text not null,
    message jsonb not null,
    state varchar(32) not null,
    num_attempts integer not null,
    num_attempts_before integer not null,
    last_status integer,
    last_error text,
    next_attempt_at timestamptz,
    expires_at timestamptz not null,
    created_at timestamptz not null default now(),
    finished_at timestamptz
);
create index ix_webhook_deliveries_due on webhook_deliveries (next_attempt_at) where state = 'pending';
create index ix_webhook_deliveries_pending on webhook_deliveries (expires_at) where state = 'pending';
create index ix_webhook_deliveries_webhook_id_id on webhook_deliveries (webhook_id, id);
create index ix_webhook_deliveries_finished_at on webhook_deliveries (finished_at);

create table webhook_attempts (
    delivery_id text not null constraint fk_webhook_attempts_delivery_id references webhook_deliveries on delete cascade,
    number integer not null,
    project_id text not null constraint fk_webhook_attempts_project_id references projects,
    sent_at timestamptz not null,
    duration_ms integer not null,
    status integer,
    error text,
    answer text not null,
    constraint pk_webhook_attempts primary key (delivery_id, number)
);
"""

DOWNGRADE = """
drop table webhook_attempts;
drop table webhook_deliveries;
drop table webhooks;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
