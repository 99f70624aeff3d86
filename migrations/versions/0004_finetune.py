"""What fine-tuning needs: checkpoints of jobs that train, and adapters that deployments serve."""

from alembic import op

revision = "0004_finetune"
down_revision = "0003_evidence"
branch_labels = None
depends_on = None

CHECKPOINTS = """
create table job_checkpoints (
    job_id text not null constraint fk_job_checkpoints_job_id references jobs,
    step integer not null,
    project_id text not null constraint fk_job_checkpoints_project_id references projects,
    attempt integer not null,
    size_bytes bigint not null,
    metrics jsonb not null,
    created_at timestamptz not null default now(),
    constraint pk_job_checkpoints primary key (job_id, step)
);

create table job_checkpoint_files (
    job_id text not null,
    step integer not null,
    path text not null,
    project_id text not null constraint fk_job_checkpoint_files_project_id references projects,
    sha256 text not null constraint fk_job_checkpoint_files_sha256 references blobs,
    size_bytes bigint not null,
    constraint pk_job_checkpoint_files primary key (job_id, step, path),
    constraint fk_job_checkpoint_files_job_id_step foreign key (job_id, step) references job_checkpoints
);
create index ix_job_checkpoint_files_sha256 on job_checkpoint_files (sha256);

create table checkpoint_seals (
    job_id text not null constraint fk_checkpoint_seals_job_id references jobs,
    attempt integer not null,
    project_id text not null constraint fk_checkpoint_seals_project_id references projects,
    step integer not null,
    manifest_digest text not null,
    created_at timestamptz not null default now(),
    constraint pk_checkpoint_seals primary key (job_id, attempt)
);

-- What was only ever taken in for checkpoints is removed once no job goes on from it.
alter table blobs add column only_checkpoints boolean not null default false;
create index ix_blobs_only_checkpoints on blobs (sha256) where only_checkpoints;
"""

CHECKPOINTS_UNDO = """
alter table blobs drop column only_checkpoints;
drop table checkpoint_seals;
drop table job_checkpoint_files;
drop table job_checkpoints;
"""

ADAPTERS = """
create table deployment_adapters (
    id text constraint pk_deployment_adapters primary key,
    project_id text not null constraint fk_deployment_adapters_project_id references projects,
    deployment_id text not null constraint fk_deployment_adapters_deployment_id references deployments,
    name text not null,
    version_id text not null constraint fk_deployment_adapters_version_id references versions,
    version_ref text not null,
    job_id text constraint fk_deployment_adapters_job_id references jobs,
    message text,
    created_at timestamptz not null default now(),
    constraint uq_deployment_adapters_project_id_name unique (project_id, name)
);
create index ix_deployment_adapters_deployment_id on deployment_adapters (deployment_id);
create index ix_deployment_adapters_version_id on deployment_adapters (version_id);

create trigger guard_living before insert or update of version_id on deployment_adapters
    for each row execute function quantry_guard_living_version('version_id');

-- What an engine has loaded; of none that runs now. The default stays: a controller of the release before may still be starting engines.
alter table replicas add column adapter_ids jsonb not null default '[]';
"""

ADAPTERS_UNDO = """
alter table replicas drop column adapter_ids;
drop table deployment_adapters;
"""

DATASETS = """
alter table datasets add column purpose varchar(32);
"""

DATASETS_UNDO = """
alter table datasets drop column purpose;
"""

UNREADABLE_BELOW = """
do $$
declare
    num_found bigint;
    example text;
begin
    select count(*), min(p.name || ', ' || d.name || '@' || d.number
            || case when d.removed_at is not null then ' (removed)' when d.deleted_at is not null then ' (deleted)' else '' end)
        into num_found, example from datasets d join projects p on p.id = d.project_id where d.kind in ('preferences', 'labelled');
    if num_found > 0 then
        raise exception 'there are datasets of preferences or labelled rows: below 0004_finetune nothing can read them. '
            '% of them, one is %. Their rows stay when they are deleted: go back to a copy of the database from before, or stay here',
            num_found, example using errcode = 'QT001';
    end if;
    select count(*), min(p.name || ', ' || m.name || '@' || v.number || case when v.deleted_at is null then '' else ' (deleted)' end)
        into num_found, example from versions v join models m on m.id = v.model_id join projects p on p.id = v.project_id
        where v.format = 'peft'
            or exists (select from lineage_edges e where e.child_version_id = v.id and e.role = 'training');
    if num_found > 0 then
        raise exception 'there are versions that were trained: below 0004_finetune nothing can read them. % of them, one is %. '
            'Delete each (quantry versions delete), and run quantry vault collect --remove once QUANTRY_DELETED_RETENTION_S is over: '
            'a deleted version is there until then. What a release served is not removed: go back to a copy of the database from before',
            num_found, example using errcode = 'QT001';
    end if;
    select count(*), min(p.name || ', ' || j.id || ' (' || j.type || ', ' || j.status || ')')
        into num_found, example from jobs j join projects p on p.id = j.project_id
        where j.type in ('finetune', 'merge') and j.status in ('waiting', 'queued', 'running');
    if num_found > 0 then
        raise exception 'there are jobs that train or merge and are not over: below 0004_finetune nothing can read them. '
            '% of them, one is %. Cancel each with quantry jobs cancel, or wait until they are over',
            num_found, example using errcode = 'QT001';
    end if;
end $$;
"""
"""What is refused, so that it can be seen to."""

NEW_WORDS_UNDO = """
delete from job_events where kind = 'metrics';

update releases set engine = engine - 'max_adapters' - 'max_adapter_rank';
update jobs set spec = spec #- '{engine,max_adapters}' #- '{engine,max_adapter_rank}' where type = 'deploy';
update schedules
    set template = template #- '{submission,spec,engine,max_adapters}' #- '{submission,spec,engine,max_adapter_rank}'
    where template->>'kind' = 'job';
do $$
declare
    scheduled record;
    step text;
begin
    for scheduled in select id, template from schedules where template->>'kind' = 'pipeline' loop
        for step in select jsonb_object_keys(scheduled.template#>'{submission,steps}') loop
            scheduled.template := scheduled.template
                #- array['submission', 'steps', step, 'spec', 'engine', 'max_adapters']
                #- array['submission', 'steps', step, 'spec', 'engine', 'max_adapter_rank'];
        end loop;
        update schedules set template = scheduled.template where id = scheduled.id;
    end loop;
end $$;
"""
"""What is taken out of rows that are read below: engines were started without room for adapters there."""

UPGRADE: tuple[str, ...] = (DATASETS, CHECKPOINTS, ADAPTERS)

DOWNGRADE: tuple[str, ...] = (UNREADABLE_BELOW, NEW_WORDS_UNDO, ADAPTERS_UNDO, DATASETS_UNDO, CHECKPOINTS_UNDO)


def upgrade() -> None:
    for statements in UPGRADE:
        _run(statements)


def downgrade() -> None:
    for statements in DOWNGRADE:
        _run(statements)


def _run(statements: str) -> None:
    """Runs SQL exactly as written: without parameters a percent sign is only a percent sign."""
    op.get_bind().exec_driver_sql(statements, execution_options={"no_parameters": True})
