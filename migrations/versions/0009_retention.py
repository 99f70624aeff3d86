"""What retention needs: reports of its runs, and versions that have let go of their bytes."""

from alembic import op

revision = "0009_retention"
down_revision = "0008_tags"
branch_labels = None
depends_on = None

RUNS = """
create table retention_runs (
    id text constraint pk_retention_runs primary key,
    project_id text not null constraint fk_retention_runs_project_id references projects,
    part varchar(32) not null,
    dry_run boolean not null,
    created_by_key_id text,
    claimed_until timestamptz,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz
);
create index ix_retention_runs_open on retention_runs (created_at) where finished_at is null;
create index ix_retention_runs_finished_at on retention_runs (finished_at);

create table retention_counts (
    run_id text not null constraint fk_retention_counts_run_id references retention_runs on delete cascade,
    kind varchar(32) not null,
    project_id text not null constraint fk_retention_counts_project_id references projects,
    num_removed bigint not null,
    size_bytes bigint not null,
    duration_ms bigint not null,
    oldest_kept_at timestamptz,
    error text,
    finished_at timestamptz,
    constraint pk_retention_counts primary key (run_id, kind)
);

create index ix_schedule_runs_fired_at on schedule_runs (fired_at);
"""

# Since when a version is in quarantine was not noted until now: its time begins with this step, so that nothing goes sooner than said.
VERSIONS = """
alter table versions
    add column quarantined_at timestamptz,
    add column bytes_released_at timestamptz;
alter table versions disable trigger guard_update;
update versions set quarantined_at = now() where state = 'quarantined';
alter table versions enable trigger guard_update;
create index ix_versions_quarantined on versions (quarantined_at) where quarantined_at is not null and bytes_released_at is null;

alter table version_files
    add column released_at timestamptz,
    -- The row outlives the bytes: the manifest is what the evidence tells of.
    add column kept_sha256 text generated always as (case when released_at is null then sha256 end) stored
        constraint fk_version_files_kept_sha256 references blobs,
    drop constraint fk_version_files_sha256;
create index ix_version_files_kept_sha256 on version_files (kept_sha256);
create index ix_version_files_released on version_files (sha256) where released_at is not null;
"""

GUARDS = """
create or replace function quantry_guard_version_update() returns trigger language plpgsql as $$
declare
    cause text;
    changeable text[] := '{state,deleted_at,quarantined_at,bytes_released_at}';
begin
    if to_jsonb(new) - changeable is distinct from to_jsonb(old) - changeable then
        raise exception 'version % cannot be changed: only its state can', old.id using errcode = 'QT001';
    end if;
    if old.kind = 'master' and new.state is distinct from old.state then
        raise exception 'version % cannot be changed: it is a master', old.id using errcode = 'QT001';
    end if;
    if new.state is distinct from old.state and old.bytes_released_at is not null then
        raise exception 'version % cannot be changed: its bytes are gone', old.id using errcode = 'QT001';
    end if;
    -- Whoever moves it says where to; since when it is there is the database's own note.
    new.quarantined_at := case
        when new.state is not distinct from old.state then old.quarantined_at
        when new.state = 'quarantined' then now()
    end;
    if new.bytes_released_at is distinct from old.bytes_released_at then
        perform from versions where id = old.id for update;
        cause := case
            when old.bytes_released_at is not null or new.bytes_released_at is distinct from now() then 'its bytes go now, and once'
            when old.kind = 'master' then 'it is a master'
            when old.state <> 'quarantined' or new.state <> 'quarantined' then 'it is not quarantined'
            when old.deleted_at is not null or new.deleted_at is not null then 'it is deleted, and can be restored'
            when exists (select from lineage_edges where parent_version_id = old.id) then 'other versions were made from it'
            when exists (select from releases where version_id = old.id) then 'a release serves it'
            when exists (select from deployment_adapters where version_id = old.id) then 'a deployment has it attached'
            when exists (select from aliases where version_id = old.id) then 'an alias points at it'
            when exists (
                select from jobs where project_id = old.project_id and status in ('waiting', 'queued', 'running')
                and (inputs @> jsonb_build_array(jsonb_build_object('version_id', old.id))
                    or inputs @> jsonb_build_array(jsonb_build_object('job_id', old.job_id)))
            ) then 'an unfinished job uses it'
        end;
        if cause is not null then
            raise exception 'version % keeps its bytes: %', old.id, cause using errcode = 'QT001';
        end if;
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

create or replace function quantry_guard_version_part() returns trigger language plpgsql as $$
declare
    version text := to_jsonb(case when tg_op = 'INSERT' then new else old end) ->> tg_argv[0];
    made_at timestamptz := (select created_at from versions where id = version);
    gone text[] := '{released_at,kept_sha256}';
begin
    -- A file lets go of its bytes once, with its version: path, digest and size stay what they were.
    if tg_op = 'UPDATE' and tg_table_name = 'version_files' and to_jsonb(new) - gone = to_jsonb(old) - gone
        and to_jsonb(old) ->> 'released_at' is null
        and exists (select from versions where id = version and bytes_released_at is not null)
    then
        return new;
    end if;
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

create function quantry_note_quarantine() returns trigger language plpgsql as $$
begin
    new.quarantined_at := case when new.state = 'quarantined' then now() end;
    new.bytes_released_at := null;
    return new;
end $$;

create trigger note_quarantine before insert on versions for each row execute function quantry_note_quarantine();
"""

REFUSE_WHAT_WOULD_CHANGE = """
do $$ begin
    if exists (select from versions where bytes_released_at is not null) then
        raise exception 'there are versions whose bytes are gone: below 0009_retention nothing would say so' using errcode = 'QT001';
    end if;
end $$
"""

GUARDS_BEFORE = """
drop trigger note_quarantine on versions;
drop function quantry_note_quarantine;

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

create or replace function quantry_guard_version_part() returns trigger language plpgsql as $$
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
"""

DROP = """
alter table version_files
    drop column kept_sha256,
    drop column released_at,
    add constraint fk_version_files_sha256 foreign key (sha256) references blobs;
alter table versions drop column quarantined_at, drop column bytes_released_at;
drop index ix_schedule_runs_fired_at;
drop table retention_counts, retention_runs;
"""


def upgrade() -> None:
    """Adds the tables and the columns, and lets the guards know of them."""
    for statements in (RUNS, VERSIONS, GUARDS):
        _run(statements)


def downgrade() -> None:
    """Takes it back; refused where a version has no bytes any more."""
    for statements in (REFUSE_WHAT_WOULD_CHANGE, GUARDS_BEFORE, DROP):
        _run(statements)


def _run(statements: str) -> None:
    """Runs SQL exactly as written: without parameters a percent sign is only a percent sign."""
    op.get_bind().exec_driver_sql(statements, execution_options={"no_parameters": True})
