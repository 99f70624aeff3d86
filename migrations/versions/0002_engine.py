"""The job engine: limits, needs, pipelines, schedules, idempotency keys, workers, fair share."""

from alembic import op

revision = "0002_engine"
down_revision = "0001_spine"
branch_labels = None
depends_on = None

PROJECTS = """
alter table projects
    add column share double precision not null default 1,
    add column max_queued integer,
    add column max_running integer;
alter table projects alter column share drop default;
"""

SCHEDULES = """
create table schedules (
    id text constraint pk_schedules primary key,
    project_id text not null constraint fk_schedules_project_id references projects,
    name text not null,
    cron text not null,
    time_zone text not null,
    template jsonb not null,
    overlap varchar(32) not null,
    missed varchar(32) not null,
    is_paused boolean not null,
    next_run_at timestamptz,
    created_by_key_id text not null,
    created_by_role varchar(32) not null,
    created_at timestamptz not null default now(),
    constraint uq_schedules_project_id_name unique (project_id, name)
);
create index ix_schedules_due on schedules (next_run_at) where not is_paused;

create table pipelines (
    id text constraint pk_pipelines primary key,
    project_id text not null constraint fk_pipelines_project_id references projects,
    name text not null,
    labels jsonb not null,
    metadata jsonb not null,
    schedule_id text constraint fk_pipelines_schedule_id references schedules on delete set null,
    created_by_key_id text,
    created_at timestamptz not null default now()
);
create index ix_pipelines_project_id_id on pipelines (project_id, id);
create index ix_pipelines_schedule_id_id on pipelines (schedule_id, id);
"""

JOBS = """
alter table jobs
    add column waiting_on varchar(32),
    add column time_limit_s integer,
    add column memory_limit_bytes bigint,
    add column not_before timestamptz,
    add column needs jsonb not null default '[]',
    add column labels jsonb not null default '{}',
    add column metadata jsonb not null default '{}',
    add column force boolean not null default false,
    add column pipeline_id text constraint fk_jobs_pipeline_id references pipelines,
    add column step text,
    add column schedule_id text constraint fk_jobs_schedule_id references schedules on delete set null,
    add column retry_of text constraint fk_jobs_retry_of references jobs,
    add column estimate jsonb,
    add column estimate_key text,
    add column recipe_digest text,
    add column toolchain_digest text,
    add column num_attempt_events integer not null default 0,
    add column retries jsonb not null default '{}',
    add column log_deleted_at timestamptz,
    alter column queue type text;
alter table jobs
    alter column needs drop default,
    alter column labels drop default,
    alter column metadata drop default,
    alter column force drop default,
    alter column num_attempt_events drop default,
    alter column retries drop default;
drop index ix_jobs_claim;
create index ix_jobs_claim on jobs (queue, project_id, priority, created_at, id) where status = 'queued';
create index ix_jobs_running on jobs (project_id) where status = 'running';
create index ix_jobs_waiting on jobs (waiting_on, project_id, priority, created_at, id) where status = 'waiting';
create index ix_jobs_due on jobs (not_before) where status = 'waiting' and waiting_on = 'time';
create index ix_jobs_estimate_key on jobs (estimate_key, finished_at) where status = 'succeeded';
create index ix_jobs_labels on jobs using gin (labels jsonb_path_ops);
create index ix_jobs_project_id_status_id on jobs (project_id, status, id);
create index ix_jobs_pipeline_id on jobs (pipeline_id);
create index ix_jobs_schedule_id_id on jobs (schedule_id, id);
create index ix_jobs_schedule_open on jobs (schedule_id, id) where status in ('waiting', 'queued', 'running');
create index ix_jobs_log_kept on jobs (finished_at) where finished_at is not null and log_deleted_at is null;

create table job_needs (
    job_id text not null constraint fk_job_needs_job_id references jobs,
    needed_job_id text not null constraint fk_job_needs_needed_job_id references jobs,
    project_id text not null constraint fk_job_needs_project_id references projects,
    is_settled boolean not null,
    constraint pk_job_needs primary key (job_id, needed_job_id)
);
create index ix_job_needs_open on job_needs (needed_job_id) where not is_settled;

create table schedule_runs (
    id text constraint pk_schedule_runs primary key,
    schedule_id text not null constraint fk_schedule_runs_schedule_id references schedules on delete cascade,
    project_id text not null constraint fk_schedule_runs_project_id references projects,
    due_at timestamptz not null,
    fired_at timestamptz not null default now(),
    outcome varchar(32) not null,
    is_manual boolean not null,
    job_id text constraint fk_schedule_runs_job_id references jobs,
    pipeline_id text constraint fk_schedule_runs_pipeline_id references pipelines,
    message text
);
create unique index uq_schedule_runs_due on schedule_runs (schedule_id, due_at) where not is_manual;
create index ix_schedule_runs_schedule_id_id on schedule_runs (schedule_id, id);
create index ix_schedule_runs_held on schedule_runs (schedule_id, due_at) where outcome = 'held';
"""

SUBMISSIONS = """
create table idempotency_keys (
    project_id text not null constraint fk_idempotency_keys_project_id references projects,
    key text not null,
    request_sha256 text not null,
    noun_id text not null,
    created_at timestamptz not null default now(),
    constraint pk_idempotency_keys primary key (project_id, key)
);
create index ix_idempotency_keys_created_at on idempotency_keys (created_at);

create table workers (
    id text constraint pk_workers primary key,
    project_id text not null constraint fk_workers_project_id references projects,
    host text not null,
    pid bigint not null,
    version text not null,
    queues jsonb not null,
    num_slots integer not null,
    environments jsonb not null,
    devices jsonb not null,
    memory_bytes bigint,
    started_at timestamptz not null default now(),
    last_seen_at timestamptz not null default now()
);
create index ix_workers_last_seen_at on workers (last_seen_at);

alter table versions add column fingerprint text;
create index ix_versions_project_id_fingerprint on versions (project_id, fingerprint);
"""

DROP = """
drop index ix_versions_project_id_fingerprint;
alter table versions drop column fingerprint;
drop table workers, idempotency_keys, schedule_runs, job_needs;
drop index ix_jobs_claim, ix_jobs_running, ix_jobs_waiting, ix_jobs_due, ix_jobs_estimate_key, ix_jobs_labels, ix_jobs_project_id_status_id,
    ix_jobs_pipeline_id, ix_jobs_schedule_id_id, ix_jobs_schedule_open, ix_jobs_log_kept;
create index ix_jobs_claim on jobs (queue, priority, created_at, id) where status = 'queued';
alter table jobs
    drop column waiting_on, drop column time_limit_s, drop column memory_limit_bytes, drop column not_before, drop column needs,
    drop column labels, drop column metadata, drop column force, drop column pipeline_id, drop column step, drop column schedule_id,
    drop column retry_of, drop column estimate, drop column estimate_key, drop column recipe_digest, drop column toolchain_digest,
    drop column num_attempt_events, drop column retries, drop column log_deleted_at, alter column queue type varchar(32);
drop table pipelines, schedules;
alter table projects drop column share, drop column max_queued, drop column max_running;
"""


def upgrade() -> None:
    for statements in (PROJECTS, SCHEDULES, JOBS, SUBMISSIONS):
        _run(statements)


def downgrade() -> None:
    _run(DROP)


def _run(statements: str) -> None:
    """Runs SQL exactly as written: without parameters a percent sign is only a percent sign."""
    op.get_bind().exec_driver_sql(statements, execution_options={"no_parameters": True})
