"""Datasets with rows and origins, cards and notes of versions, artifacts of jobs, uploads, and runs over the vault."""

from alembic import op

revision = "0003_evidence"
down_revision = "0002_engine"
branch_labels = None
depends_on = None

ALIASES = """
alter table alias_history alter column version_id drop not null;
"""

DATASETS = """
alter table datasets
    add column kind varchar(32) not null default 'text',
    add column origin varchar(32) not null default 'uploaded',
    add column num_rows bigint,
    add column statistics jsonb not null default '{}',
    add column derivation jsonb,
    add column deleted_at timestamptz,
    add column removed_at timestamptz,
    -- The row outlives the bytes: versions that were made with it name it and its digest.
    add column kept_sha256 text generated always as (case when removed_at is null then sha256 end) stored
        constraint fk_datasets_kept_sha256 references blobs,
    drop constraint fk_datasets_sha256,
    drop constraint uq_datasets_project_id_name_sha256;
alter table datasets alter column kind drop default, alter column origin drop default, alter column statistics drop default;
create unique index uq_datasets_kept on datasets (project_id, name, sha256) where removed_at is null;
create index ix_datasets_kept_sha256 on datasets (kept_sha256);
"""

VERSIONS = """
alter table versions
    add column card jsonb not null default '{}',
    add column deleted_at timestamptz;
alter table versions alter column card drop default;

create table version_notes (
    version_id text constraint pk_version_notes primary key
        constraint fk_version_notes_version_id references versions on delete cascade,
    project_id text not null constraint fk_version_notes_project_id references projects,
    tags jsonb not null,
    notes text not null,
    updated_at timestamptz not null default now()
);
create index ix_version_notes_tags on version_notes using gin (tags jsonb_path_ops);
"""

ARTIFACTS = """
create table job_artifacts (
    job_id text not null constraint fk_job_artifacts_job_id references jobs,
    path text not null,
    project_id text not null constraint fk_job_artifacts_project_id references projects,
    sha256 text not null constraint fk_job_artifacts_sha256 references blobs,
    size_bytes bigint not null,
    created_at timestamptz not null default now(),
    constraint pk_job_artifacts primary key (job_id, path)
);
create index ix_job_artifacts_sha256 on job_artifacts (sha256);

create table artifact_seals (
    job_id text not null constraint fk_artifact_seals_job_id references jobs,
    attempt integer not null,
    project_id text not null constraint fk_artifact_seals_project_id references projects,
    manifest_digest text not null,
    created_at timestamptz not null default now(),
    constraint pk_artifact_seals primary key (job_id, attempt)
);
"""

UPLOADS = """
create table uploads (
    id text constraint pk_uploads primary key,
    project_id text not null constraint fk_uploads_project_id references projects,
    created_by_key_id text,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);
create index ix_uploads_expires_at on uploads (expires_at);

create table upload_files (
    upload_id text not null constraint fk_upload_files_upload_id references uploads on delete cascade,
    path text not null,
    project_id text not null constraint fk_upload_files_project_id references projects,
    sha256 text not null constraint fk_upload_files_sha256 references blobs,
    size_bytes bigint not null,
    constraint pk_upload_files primary key (upload_id, path)
);
create index ix_upload_files_sha256 on upload_files (sha256);
"""

VAULT = """
alter table blobs add column verified_at timestamptz;

create table vault_runs (
    id text constraint pk_vault_runs primary key,
    project_id text not null constraint fk_vault_runs_project_id references projects,
    kind varchar(32) not null,
    status varchar(32) not null,
    request jsonb not null,
    report jsonb not null,
    message text,
    created_by_key_id text,
    claimed_until timestamptz,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz
);
create index ix_vault_runs_project_id_id on vault_runs (project_id, id);
create index ix_vault_runs_open on vault_runs (created_at) where finished_at is null;
"""

# What is deleted can be restored until the collection removes its row, which the guards allow no sooner than they say.
# The lock of the row makes a deletion wait for whoever is just writing a reference to it, and the other way round.
GUARDS = """
create or replace function quantry_guard_version_delete() returns trigger language plpgsql as $$
declare
    cause text;
begin
    cause := case
        when old.deleted_at is null then 'it was not deleted in the way that can be taken back'
        when old.kind = 'master' and old.deleted_at > now() - interval '7 days' then 'it is a master, deleted less than 7 days ago'
        when exists (select from lineage_edges where parent_version_id = old.id) then 'other versions were made from it'
        when exists (select from releases where version_id = old.id) then 'a release serves it'
    end;
    if cause is not null then
        raise exception 'version % cannot be removed: %', old.id, cause using errcode = 'QT001';
    end if;
    return old;
end $$;

create or replace function quantry_guard_version_update() returns trigger language plpgsql as $$
declare
    cause text;
begin
    if to_jsonb(new) - '{state,deleted_at}'::text[] is distinct from to_jsonb(old) - '{state,deleted_at}'::text[] then
        raise exception 'version % cannot be changed: only its state can', old.id using errcode = 'QT001';
    end if;
    if old.kind = 'master' and new.state is distinct from old.state then
        raise exception 'version % cannot be changed: it is a master', old.id using errcode = 'QT001';
    end if;
    if new.deleted_at is not distinct from old.deleted_at then
        return new;
    end if;
    if new.deleted_at is not null and (old.deleted_at is not null or new.deleted_at <> now()) then
        raise exception 'version % cannot be changed: it is deleted now, or not at all', old.id using errcode = 'QT001';
    end if;
    perform from versions where id = old.id for update;
    if new.deleted_at is not null then
        cause := case
            when exists (
                select from lineage_edges join versions child on child.id = child_version_id
                where parent_version_id = old.id and child.deleted_at is null
            ) then 'other versions were made from it'
            when exists (select from releases where version_id = old.id) then 'a release serves it'
            when exists (select from aliases where version_id = old.id) then 'an alias points at it'
            when exists (
                select from jobs where project_id = old.project_id and status in ('waiting', 'queued', 'running')
                and (inputs @> jsonb_build_array(jsonb_build_object('version_id', old.id))
                    or inputs @> jsonb_build_array(jsonb_build_object('job_id', old.job_id)))
            ) then 'an unfinished job uses it'
        end;
        if cause is not null then
            raise exception 'version % cannot be deleted: %', old.id, cause using errcode = 'QT001';
        end if;
        return new;
    end if;
    -- Locked before they are looked at: a parent that is just being deleted is then either deleted here or has a living child there.
    perform from versions
        where id in (select parent_version_id from lineage_edges where child_version_id = old.id)
        order by id for key share;
    if exists (
        select from lineage_edges join versions parent on parent.id = parent_version_id
        where child_version_id = old.id and parent.deleted_at is not null
    ) then
        raise exception 'version % cannot be restored: what it was made from is deleted; restore that first', old.id
            using errcode = 'QT001';
    end if;
    return new;
end $$;

-- For whatever refers to a version; the argument names the column with its id.
create function quantry_guard_living_version() returns trigger language plpgsql as $$
declare
    version text := to_jsonb(new) ->> tg_argv[0];
begin
    perform from versions where id = version and deleted_at is null for key share;
    if version is not null and not found and exists (select from versions where id = version) then
        raise exception 'version % cannot be used: it is deleted; restore it first', version using errcode = 'QT001';
    end if;
    return new;
end $$;

create trigger guard_living before insert on lineage_edges
    for each row execute function quantry_guard_living_version('parent_version_id');
create trigger guard_living before insert or update on aliases
    for each row execute function quantry_guard_living_version('version_id');
create trigger guard_living before insert on releases
    for each row execute function quantry_guard_living_version('version_id');
"""

REFUSE_WHAT_WOULD_CHANGE = """
do $$ begin
    if exists (select from versions where deleted_at is not null) then
        raise exception 'there are deleted versions that can be restored: they would come back to life below 0003_evidence'
            using errcode = 'QT001';
    end if;
    if exists (select from datasets where deleted_at is not null) then
        raise exception 'there are deleted datasets: they would come back to life below 0003_evidence, some without their bytes'
            using errcode = 'QT001';
    end if;
    if exists (select from datasets where kind <> 'text') then
        raise exception 'there are datasets that are not plain text: they would be read as plain text below 0003_evidence'
            using errcode = 'QT001';
    end if;
end $$
"""

GUARDS_BEFORE = """
drop trigger guard_living on lineage_edges;
drop trigger guard_living on aliases;
drop trigger guard_living on releases;
drop function quantry_guard_living_version;

create or replace function quantry_guard_version_delete() returns trigger language plpgsql as $$
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

create or replace function quantry_guard_version_update() returns trigger language plpgsql as $$
begin
    if to_jsonb(new) - 'state' is distinct from to_jsonb(old) - 'state' then
        raise exception 'version % cannot be changed: only its state can', old.id using errcode = 'QT001';
    end if;
    if old.kind = 'master' and new.state is distinct from old.state then
        raise exception 'version % cannot be changed: it is a master', old.id using errcode = 'QT001';
    end if;
    return new;
end $$;
"""

DROP = """
delete from alias_history where version_id is null;
alter table alias_history alter column version_id set not null;
drop table vault_runs, upload_files, uploads, artifact_seals, job_artifacts, version_notes;
alter table blobs drop column verified_at;
alter table versions drop column card, drop column deleted_at;
drop index uq_datasets_kept;
alter table datasets
    drop column kind, drop column origin, drop column num_rows, drop column statistics, drop column derivation,
    drop column deleted_at, drop column kept_sha256, drop column removed_at,
    add constraint fk_datasets_sha256 foreign key (sha256) references blobs,
    add constraint uq_datasets_project_id_name_sha256 unique (project_id, name, sha256);
"""


def upgrade() -> None:
    for statements in (ALIASES, DATASETS, VERSIONS, ARTIFACTS, UPLOADS, VAULT, GUARDS):
        _run(statements)


def downgrade() -> None:
    for statements in (REFUSE_WHAT_WOULD_CHANGE, GUARDS_BEFORE, DROP):
        _run(statements)


def _run(statements: str) -> None:
    """Runs SQL exactly as written: without parameters a percent sign is only a percent sign."""
    op.get_bind().exec_driver_sql(statements, execution_options={"no_parameters": True})
