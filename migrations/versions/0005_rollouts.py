"""What rollouts need: strategies and their stages, what served when, what gateways measured, captured prompts, limits of keys."""

from alembic import op

revision = "0005_rollouts"
down_revision = "0004_finetune"
branch_labels = None
depends_on = None

# Defaults stay where a service of the release before may still add rows.
RELEASES = """
alter table releases
    add column scaling jsonb,
    add column servers jsonb not null default '[]';

alter table deployments
    add column num_wanted integer,
    add column demanded_at timestamptz,
    add column requested_at timestamptz,
    add column capture jsonb;
"""

RELEASES_UNDO = """
alter table deployments
    drop column num_wanted,
    drop column demanded_at,
    drop column requested_at,
    drop column capture;

alter table releases
    drop column scaling,
    drop column servers;
"""

ROLLOUTS = """
alter table rollouts
    alter column job_id drop not null,
    add column cause varchar(32) not null default 'deploy',
    add column strategy jsonb not null default '{"name": "immediate"}',
    add column reason varchar(32),
    add column note text,
    add column key_id text,
    add column stage integer not null default 0,
    add column percent integer not null default 0,
    add column mirror_percent integer not null default 0,
    add column staged_at timestamptz,
    add column exposed_at timestamptz,
    add column is_resumed boolean not null default false,
    add column promote_requested boolean not null default false,
    add column judgement jsonb,
    add column ready_timeout_s double precision not null default 600,
    add column watch_s double precision not null default 0,
    add column watch_until timestamptz,
    add column watch_ended_at timestamptz;
create unique index uq_rollouts_watched on rollouts (deployment_id) where watch_until IS NOT NULL AND watch_ended_at IS NULL;
create index ix_rollouts_project_id_id on rollouts (project_id, id);

update rollouts set percent = 100, reason = 'completed' where state = 'promoted';
update rollouts r set key_id = j.created_by_key_id from jobs j where j.id = r.job_id;
"""

ROLLOUTS_UNDO = """
drop index ix_rollouts_project_id_id;
drop index uq_rollouts_watched;
delete from rollouts where job_id is null;
alter table rollouts
    alter column job_id set not null,
    drop column cause,
    drop column strategy,
    drop column reason,
    drop column note,
    drop column key_id,
    drop column stage,
    drop column percent,
    drop column mirror_percent,
    drop column staged_at,
    drop column exposed_at,
    drop column is_resumed,
    drop column promote_requested,
    drop column judgement,
    drop column ready_timeout_s,
    drop column watch_s,
    drop column watch_until,
    drop column watch_ended_at;
"""

PERIODS = """
create table serving_periods (
    id text constraint pk_serving_periods primary key,
    project_id text not null constraint fk_serving_periods_project_id references projects,
    deployment_id text not null constraint fk_serving_periods_deployment_id references deployments,
    began_at timestamptz not null,
    shares jsonb not null,
    cause varchar(32) not null,
    reason varchar(32),
    message text,
    rollout_id text constraint fk_serving_periods_rollout_id references rollouts,
    key_id text,
    note text
);
create index ix_serving_periods_deployment_id_began_at on serving_periods (deployment_id, began_at);

-- What was promoted before this table was there; when a deployment was stopped was not kept.
insert into serving_periods (id, project_id, deployment_id, began_at, shares, cause, reason, rollout_id, key_id)
select 'per_' || substr(o.id, 5), o.project_id, o.deployment_id, coalesce(o.finished_at, o.created_at),
    jsonb_build_array(jsonb_build_object('release_id', e.id, 'release_number', e.number, 'version_id', e.version_id,
        'version_ref', e.version_ref, 'percent', 100)),
    'promoted', 'completed', o.id, o.key_id
from rollouts o join releases e on e.id = o.to_release_id where o.state = 'promoted';
"""

PERIODS_UNDO = """
drop table serving_periods;
"""

TRAFFIC = """
create table traffic_windows (
    id bigserial constraint pk_traffic_windows primary key,
    project_id text not null constraint fk_traffic_windows_project_id references projects,
    release_id text not null constraint fk_traffic_windows_release_id references releases,
    gateway_id text not null,
    sequence bigint not null,
    began_at timestamptz not null,
    ended_at timestamptz not null,
    tally jsonb not null,
    constraint uq_traffic_windows_gateway_id_sequence_release_id unique (gateway_id, sequence, release_id)
);
create index ix_traffic_windows_release_id_id on traffic_windows (release_id, id);
create index ix_traffic_windows_release_id_began_at on traffic_windows (release_id, began_at);
create index ix_traffic_windows_ended_at on traffic_windows (ended_at);

create table captured_prompts (
    id text constraint pk_captured_prompts primary key,
    project_id text not null constraint fk_captured_prompts_project_id references projects,
    deployment_id text not null constraint fk_captured_prompts_deployment_id references deployments,
    release_id text not null constraint fk_captured_prompts_release_id references releases,
    path text not null,
    ciphertext bytea not null,
    captured_at timestamptz not null,
    expires_at timestamptz not null,
    created_at timestamptz not null default now()
);
create index ix_captured_prompts_deployment_id_captured_at on captured_prompts (deployment_id, captured_at);
create index ix_captured_prompts_expires_at on captured_prompts (expires_at);
"""

TRAFFIC_UNDO = """
drop table captured_prompts;
drop table traffic_windows;
"""

KEYS = """
alter table api_keys add column limits jsonb not null default '{}';
"""

KEYS_UNDO = """
alter table api_keys drop column limits;
"""

UNREADABLE_BELOW = """
do $$
declare
    num_found bigint;
    example text;
begin
    select count(*), min(p.name || ', ' || d.name) into num_found, example
        from rollouts o join deployments d on d.id = o.deployment_id join projects p on p.id = o.project_id where o.finished_at is null;
    if num_found > 0 then
        raise exception 'there are rollouts that are not over: below 0005_rollouts nothing can go on with them. '
            '% of them, one is of %. Abort each with quantry rollouts abort, or wait until they are over',
            num_found, example using errcode = 'QT001';
    end if;
    select count(*), min(p.name || ', ' || d.name) into num_found, example
        from deployments d join releases e on e.id = d.current_release_id join projects p on p.id = d.project_id
        where e.engine ->> 'engine' <> 'vllm' or jsonb_array_length(e.servers) > 0;
    if num_found > 0 then
        raise exception 'there are deployments that another engine than vllm serves, or servers that someone else runs: '
            'below 0005_rollouts nothing could. % of them, one is %. Deploy another version there first',
            num_found, example using errcode = 'QT001';
    end if;
    select count(*), min(p.name || ', ' || j.id) into num_found, example
        from jobs j join projects p on p.id = j.project_id
        where j.type = 'deploy' and j.status in ('waiting', 'queued', 'running');
    if num_found > 0 then
        raise exception 'there are deploy jobs that are not over: below 0005_rollouts their strategies are unknown. '
            '% of them, one is %. Cancel each with quantry jobs cancel, or wait until they are over',
            num_found, example using errcode = 'QT001';
    end if;
end $$;
"""
"""What is refused, so that it can be seen to."""

NEW_WORDS_UNDO = """
update jobs set reason = 'invalid_input' where reason = 'verdict_failed';
update job_events set data = jsonb_set(data, '{reason}', '"invalid_input"') where kind = 'state' and data ->> 'reason' = 'verdict_failed';

update datasets set origin = 'uploaded', statistics = statistics - 'captured' where origin = 'captured';
update releases set engine = engine - 'engine' - 'num_gpus';
update jobs
    set spec = (spec - '{strategy,watch_s,scaling,servers,note}'::text[]) #- '{engine,engine}' #- '{engine,num_gpus}'
    where type = 'deploy';
update schedules
    set template = jsonb_set(template, '{submission,spec}',
        ((template #> '{submission,spec}') - '{strategy,watch_s,scaling,servers,note}'::text[]) #- '{engine,engine}' #- '{engine,num_gpus}')
    where template ->> 'kind' = 'job' and template #>> '{submission,spec,type}' = 'deploy';
do $$
declare
    scheduled record;
    step text;
    spec jsonb;
begin
    for scheduled in select id, template from schedules where template ->> 'kind' = 'pipeline' loop
        for step, spec in select key, value -> 'spec' from jsonb_each(scheduled.template #> '{submission,steps}') loop
            if spec ->> 'type' = 'deploy' then
                scheduled.template := jsonb_set(scheduled.template, array['submission', 'steps', step, 'spec'],
                    (spec - '{strategy,watch_s,scaling,servers,note}'::text[]) #- '{engine,engine}' #- '{engine,num_gpus}');
            end if;
        end loop;
        update schedules set template = scheduled.template where id = scheduled.id;
    end loop;
end $$;
"""
"""What is taken out of rows that are read below: everything was rolled out at once there, and served by vllm."""

UPGRADE: tuple[str, ...] = (RELEASES, ROLLOUTS, PERIODS, TRAFFIC, KEYS)

DOWNGRADE: tuple[str, ...] = (UNREADABLE_BELOW, NEW_WORDS_UNDO, KEYS_UNDO, TRAFFIC_UNDO, PERIODS_UNDO, ROLLOUTS_UNDO, RELEASES_UNDO)


def upgrade() -> None:
    for statements in UPGRADE:
        _run(statements)


def downgrade() -> None:
    for statements in DOWNGRADE:
        _run(statements)


def _run(statements: str) -> None:
    """Runs SQL exactly as written: without parameters a percent sign is only a percent sign."""
    op.get_bind().exec_driver_sql(statements, execution_options={"no_parameters": True})
