"""Every table of the spine, and the triggers that keep masters and versions as they are."""

from alembic import op

revision = "0001_spine"
down_revision = None
branch_labels = None
depends_on = None

FOUNDATION = """
create table projects (
    id text constraint pk_projects primary key,
    name text not null constraint uq_projects_name unique,
    created_at timestamptz not null default now()
);

create table api_keys (
    id text constraint pk_api_keys primary key,
    project_id text not null constraint fk_api_keys_project_id references projects,
    name text not null,
    role varchar(32) not null,
    prefix text not null,
    key_hash text not null constraint uq_api_keys_key_hash unique,
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);
create index ix_api_keys_project_id on api_keys (project_id);

create table audit_log (
    id text constraint pk_audit_log primary key,
    project_id text not null constraint fk_audit_log_project_id references projects,
    key_id text,
    role varchar(32),
    action text not null,
    noun text not null,
    noun_id text not null,
    data jsonb not null,
    created_at timestamptz not null default now()
);
create index ix_audit_log_project_id_id on audit_log (project_id, id);

create table route_revision (
    id integer constraint pk_route_revision primary key,
    revision bigint not null,
    constraint ck_route_revision_single_row check (id = 1)
);
insert into route_revision (id, revision) values (1, 0);

create table blobs (
    sha256 text constraint pk_blobs primary key,
    size_bytes bigint not null,
    sealed_at timestamptz not null default now()
);

create table datasets (
    id text constraint pk_datasets primary key,
    project_id text not null constraint fk_datasets_project_id references projects,
    name text not null,
    number integer not null,
    sha256 text not null constraint fk_datasets_sha256 references blobs,
    size_bytes bigint not null,
    created_at timestamptz not null default now(),
    constraint uq_datasets_project_id_name_number unique (project_id, name, number),
    constraint uq_datasets_project_id_name_sha256 unique (project_id, name, sha256)
);
"""

JOBS = """
create table jobs (
    id text constraint pk_jobs primary key,
    project_id text not null constraint fk_jobs_project_id references projects,
    type varchar(32) not null,
    status varchar(32) not null,
    reason varchar(32),
    message text,
    spec jsonb not null,
    inputs jsonb not null,
    queue varchar(32),
    environment varchar(32),
    priority smallint not null,
    attempt integer not null,
    num_lost_attempts integer not null,
    cancel_requested boolean not null,
    progress jsonb,
    result jsonb,
    worker_id text,
    lease_expires_at timestamptz,
    last_seq integer not null,
    created_by_key_id text,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz
);
create index ix_jobs_claim on jobs (queue, priority, created_at, id) where status = 'queued';
create index ix_jobs_lease on jobs (lease_expires_at) where status = 'running';
create index ix_jobs_project_id_id on jobs (project_id, id);

create table job_events (
    job_id text not null constraint fk_job_events_job_id references jobs,
    seq integer not null,
    project_id text not null constraint fk_job_events_project_id references projects,
    attempt integer not null,
    kind varchar(32) not null,
    data jsonb not null,
    created_at timestamptz not null default now(),
    constraint pk_job_events primary key (job_id, seq)
);

create table seals (
    job_id text not null constraint fk_seals_job_id references jobs,
    attempt integer not null,
    project_id text not null constraint fk_seals_project_id references projects,
    manifest_digest text not null,
    dtype text,
    created_at timestamptz not null default now(),
    constraint pk_seals primary key (job_id, attempt)
);
"""

MODELS = """
create table models (
    id text constraint pk_models primary key,
    project_id text not null constraint fk_models_project_id references projects,
    name text not null,
    last_number integer not null,
    created_at timestamptz not null default now(),
    constraint uq_models_project_id_name unique (project_id, name)
);

create table versions (
    id text constraint pk_versions primary key,
    project_id text not null constraint fk_versions_project_id references projects,
    model_id text not null constraint fk_versions_model_id references models,
    number integer not null,
    kind varchar(32) not null,
    state varchar(32) not null,
    format varchar(32) not null,
    scheme text,
    dtype text,
    manifest_digest text not null,
    size_bytes bigint not null,
    weights_bytes bigint not null,
    job_id text not null constraint fk_versions_job_id references jobs constraint uq_versions_job_id unique,
    attempt integer not null,
    recipe jsonb not null,
    toolchain jsonb not null,
    created_at timestamptz not null default now(),
    constraint uq_versions_model_id_number unique (model_id, number)
);
create index ix_versions_project_id_id on versions (project_id, id);

create table version_files (
    version_id text not null constraint fk_version_files_version_id references versions on delete cascade,
    path text not null,
    project_id text not null constraint fk_version_files_project_id references projects,
    sha256 text not null constraint fk_version_files_sha256 references blobs,
    size_bytes bigint not null,
    constraint pk_version_files primary key (version_id, path)
);
create index ix_version_files_sha256 on version_files (sha256);

create table lineage_edges (
    child_version_id text not null constraint fk_lineage_edges_child_version_id references versions on delete cascade,
    position integer not null,
    project_id text not null constraint fk_lineage_edges_project_id references projects,
    role varchar(32) not null,
    parent_version_id text constraint fk_lineage_edges_parent_version_id references versions,
    parent_dataset_id text constraint fk_lineage_edges_parent_dataset_id references datasets,
    constraint pk_lineage_edges primary key (child_version_id, position),
    constraint ck_lineage_edges_one_parent check (num_nonnulls(parent_version_id, parent_dataset_id) = 1)
);
create index ix_lineage_edges_parent_dataset_id on lineage_edges (parent_dataset_id);
create index ix_lineage_edges_parent_version_id on lineage_edges (parent_version_id);

create table evidence (
    id text constraint pk_evidence primary key,
    project_id text not null constraint fk_evidence_project_id references projects,
    version_id text not null constraint fk_evidence_version_id references versions on delete cascade,
    job_id text not null constraint fk_evidence_job_id references jobs,
    position integer not null,
    kind varchar(32) not null,
    name text not null,
    verdict varchar(32) not null,
    metrics jsonb not null,
    created_at timestamptz not null default now()
);
create index ix_evidence_version_id on evidence (version_id);

create table aliases (
    model_id text not null constraint fk_aliases_model_id references models,
    alias text not null,
    project_id text not null constraint fk_aliases_project_id references projects,
    version_id text not null constraint fk_aliases_version_id references versions,
    updated_at timestamptz not null default now(),
    constraint pk_aliases primary key (model_id, alias)
);
create index ix_aliases_version_id on aliases (version_id);

create table alias_history (
    id bigserial constraint pk_alias_history primary key,
    project_id text not null constraint fk_alias_history_project_id references projects,
    model_id text not null constraint fk_alias_history_model_id references models,
    alias text not null,
    version_id text not null,
    previous_version_id text,
    key_id text,
    created_at timestamptz not null default now()
);
create index ix_alias_history_model_id_alias on alias_history (model_id, alias);
"""

DEPLOYMENTS = """
create table deployments (
    id text constraint pk_deployments primary key,
    project_id text not null constraint fk_deployments_project_id references projects,
    name text not null,
    current_release_id text,
    last_release_number integer not null,
    is_stopped boolean not null,
    created_at timestamptz not null default now(),
    constraint uq_deployments_project_id_name unique (project_id, name)
);

create table releases (
    id text constraint pk_releases primary key,
    project_id text not null constraint fk_releases_project_id references projects,
    deployment_id text not null constraint fk_releases_deployment_id references deployments,
    number integer not null,
    version_id text not null constraint fk_releases_version_id references versions,
    version_ref text not null,
    num_replicas integer not null,
    engine jsonb not null,
    created_at timestamptz not null default now(),
    constraint uq_releases_deployment_id_number unique (deployment_id, number)
);
create index ix_releases_version_id on releases (version_id);
alter table deployments
    add constraint fk_deployments_current_release_id foreign key (current_release_id) references releases;

create table rollouts (
    id text constraint pk_rollouts primary key,
    project_id text not null constraint fk_rollouts_project_id references projects,
    deployment_id text not null constraint fk_rollouts_deployment_id references deployments,
    from_release_id text constraint fk_rollouts_from_release_id references releases,
    to_release_id text not null constraint fk_rollouts_to_release_id references releases,
    job_id text not null constraint fk_rollouts_job_id references jobs constraint uq_rollouts_job_id unique,
    state varchar(32) not null,
    message text,
    ready_deadline_at timestamptz not null,
    created_at timestamptz not null default now(),
    finished_at timestamptz
);
create index ix_rollouts_deployment_id_id on rollouts (deployment_id, id);
create unique index uq_rollouts_active on rollouts (deployment_id) where finished_at IS NULL;

create table replicas (
    id text constraint pk_replicas primary key,
    project_id text not null constraint fk_replicas_project_id references projects,
    deployment_id text not null constraint fk_replicas_deployment_id references deployments,
    release_id text not null constraint fk_replicas_release_id references releases,
    ordinal integer not null,
    state varchar(32) not null,
    url text,
    pid bigint,
    pid_started_at double precision,
    num_restarts integer not null,
    message text,
    log_path text,
    updated_at timestamptz not null default now()
);
create index ix_replicas_deployment_id on replicas (deployment_id);
create index ix_replicas_release_id on replicas (release_id);
"""

# A version is protected when it is a master, when others were made from it, or when a release serves it. Protected versions are
# never deleted; no version, file or edge is ever changed. SQLSTATE QT001 is what quantry_store.failures turns into
# VersionProtected.
GUARDS = """
create function quantry_guard_version_delete() returns trigger language plpgsql as $$
declare
    cause text;
begin
    cause := case
        when old.kind = 'master' then 'it is a master'
        when exists (select from lineage_edges where parent_version_id = old.id) then 'other versions were made from it'
        when exists (select from releases where version_id = old.id) then 'a release serves it'
    end;
    if cause is not null then
        raise exception 'version % cannot be deleted: %', old.id, cause using errcode = 'QT001';
    end if;
    return old;
end $$;

create function quantry_guard_version_update() returns trigger language plpgsql as $$
begin
    if to_jsonb(new) - 'state' is distinct from to_jsonb(old) - 'state' then
        raise exception 'version % cannot be changed: only its state can', old.id using errcode = 'QT001';
    end if;
    if old.kind = 'master' and new.state is distinct from old.state then
        raise exception 'version % cannot be changed: it is a master', old.id using errcode = 'QT001';
    end if;
    return new;
end $$;

-- For version_files and lineage_edges; the argument names the column that holds the version's id. Rows are written in the
-- transaction that makes their version (now() is that transaction's time) and leave only together with it.
create function quantry_guard_version_part() returns trigger language plpgsql as $$
declare
    version text := to_jsonb(case when tg_op = 'INSERT' then new else old end) ->> tg_argv[0];
    made_at timestamptz := (select created_at from versions where id = version);
begin
    if tg_op = 'UPDATE' then
        raise exception 'version % cannot be changed: % are fixed', version, tg_table_name using errcode = 'QT001';
    end if;
    if tg_op = 'DELETE' and made_at is not null then
        raise exception 'version % cannot be changed: % leave only with it', version, tg_table_name using errcode = 'QT001';
    end if;
    if tg_op = 'INSERT' and made_at <> now() then
        raise exception 'version % cannot be changed: its % were fixed when it was made', version, tg_table_name
            using errcode = 'QT001';
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end $$;

create function quantry_guard_truncate() returns trigger language plpgsql as $$
begin
    raise exception 'table % is never emptied: it holds masters', tg_table_name using errcode = 'QT001';
end $$;

create trigger guard_delete before delete on versions for each row execute function quantry_guard_version_delete();
create trigger guard_update before update on versions for each row execute function quantry_guard_version_update();
create trigger guard_rows before insert or update or delete on version_files
    for each row execute function quantry_guard_version_part('version_id');
create trigger guard_rows before insert or update or delete on lineage_edges
    for each row execute function quantry_guard_version_part('child_version_id');
create trigger guard_truncate before truncate on versions execute function quantry_guard_truncate();
create trigger guard_truncate before truncate on version_files execute function quantry_guard_truncate();
create trigger guard_truncate before truncate on lineage_edges execute function quantry_guard_truncate();
"""

# Dropping tables asks no trigger, so the way back asks here.
REFUSE_WITH_MASTERS = """
do $$ begin
    if exists (select from versions where kind = 'master') then
        raise exception 'there are masters in this database: it is not taken back below 0001_spine' using errcode = 'QT001';
    end if;
end $$
"""

DROP = """
alter table deployments drop constraint fk_deployments_current_release_id;
drop table replicas, rollouts, releases, deployments;
drop table alias_history, aliases, evidence, lineage_edges, version_files, versions, models;
drop table seals, job_events, jobs;
drop table datasets, blobs, route_revision, audit_log, api_keys, projects;
drop function quantry_guard_version_delete, quantry_guard_version_update, quantry_guard_version_part, quantry_guard_truncate;
"""


def upgrade() -> None:
    for statements in (FOUNDATION, JOBS, MODELS, DEPLOYMENTS, GUARDS):
        _run(statements)


def downgrade() -> None:
    for statements in (REFUSE_WITH_MASTERS, DROP):
        _run(statements)


def _run(statements: str) -> None:
    """Runs SQL exactly as written: without parameters a percent sign is only a percent sign."""
    op.get_bind().exec_driver_sql(statements, execution_options={"no_parameters": True})
