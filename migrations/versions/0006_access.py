"""What access needs: keys that expire and rotate, the platform project, worker hosts, an audit log that is a chain nobody can rewrite
unseen.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from alembic import op
from sqlalchemy import text

revision = "0006_access"
down_revision = "0005_rollouts"
branch_labels = None
depends_on = None

BATCH_ROWS = 1000
GENESIS_HASH = "0" * 64
CHAIN_ONE = "update audit_log set seq = :seq, previous_hash = :previous_hash, hash = :hash where id = :id"

KEYS = """
alter table api_keys
    add column expires_at timestamptz,
    add column rotated_at timestamptz,
    add column old_key_hash text constraint uq_api_keys_old_key_hash unique,
    add column old_secret_until timestamptz,
    add column last_used_at timestamptz;
"""

KEYS_UNDO = """
alter table api_keys
    drop column expires_at,
    drop column rotated_at,
    drop column old_key_hash,
    drop column old_secret_until,
    drop column last_used_at;
"""

# The project of the oldest worker's key is the one that bootstrap made: it makes that key in no other.
PROJECTS = """
alter table projects
    add column is_platform boolean not null default false,
    add column archived_at timestamptz;
create unique index uq_projects_is_platform on projects (is_platform) where is_platform;
update projects set is_platform = true where id = coalesce(
    (select project_id from api_keys where role = 'worker' order by id limit 1),
    (select id from projects order by id limit 1)
);
"""

PROJECTS_UNDO = """
drop index uq_projects_is_platform;
alter table projects
    drop column is_platform,
    drop column archived_at;
"""

WORKERS = """
alter table workers add column key_id text;
create index ix_workers_key_id on workers (key_id);

create table worker_enrolments (
    id text constraint pk_worker_enrolments primary key,
    project_id text not null constraint fk_worker_enrolments_project_id references projects,
    name text not null,
    token_hash text not null constraint uq_worker_enrolments_token_hash unique,
    created_by_key_id text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz,
    host_id text,
    revoked_at timestamptz
);

create table worker_hosts (
    id text constraint pk_worker_hosts primary key,
    project_id text not null constraint fk_worker_hosts_project_id references projects,
    name text not null,
    hostname text not null,
    key_id text not null constraint fk_worker_hosts_key_id references api_keys constraint uq_worker_hosts_key_id unique,
    enrolled_at timestamptz not null default now()
);
"""

WORKERS_UNDO = """
drop table worker_hosts, worker_enrolments;
drop index ix_workers_key_id;
alter table workers drop column key_id;
"""

CHAIN = """
create table audit_chains (
    project_id text constraint pk_audit_chains primary key constraint fk_audit_chains_project_id references projects,
    seq bigint not null,
    hash text not null
);

create table audit_anchors (
    project_id text not null constraint fk_audit_anchors_project_id references projects,
    seq bigint not null,
    hash text not null,
    created_at timestamptz not null default now(),
    constraint pk_audit_anchors primary key (project_id, seq)
);

alter table audit_log
    add column seq bigint,
    add column previous_hash text,
    add column hash text;
"""

CHAIN_SHUT = """
alter table audit_log
    alter column seq set not null,
    alter column previous_hash set not null,
    alter column hash set not null;
create unique index uq_audit_log_project_id_seq on audit_log (project_id, seq);
create index ix_audit_log_project_id_noun_noun_id on audit_log (project_id, noun, noun_id);

-- Entries are added and never changed. Only what an anchor covers may go: a prefix of a chain whose end is kept.
create function quantry_guard_audit() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' and old.seq <= (select max(seq) from audit_anchors where project_id = old.project_id) then
        return old;
    end if;
    raise exception 'the audit log is only added to: entry % of project % stays as it is', old.seq, old.project_id using errcode = 'QT002';
end $$;

create function quantry_guard_audit_end() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and tg_table_name = 'audit_chains' and new.project_id = old.project_id and new.seq > old.seq then
        return new;
    end if;
    raise exception 'the audit chain of project % does not go back', old.project_id using errcode = 'QT002';
end $$;

create function quantry_guard_audit_truncate() returns trigger language plpgsql as $$
begin
    raise exception 'table % is never emptied: it holds the audit log', tg_table_name using errcode = 'QT002';
end $$;

create trigger guard_rows before update or delete on audit_log for each row execute function quantry_guard_audit();
create trigger guard_rows before update or delete on audit_chains for each row execute function quantry_guard_audit_end();
create trigger guard_rows before update or delete on audit_anchors for each row execute function quantry_guard_audit_end();
create trigger guard_truncate before truncate on audit_log execute function quantry_guard_audit_truncate();
create trigger guard_truncate before truncate on audit_chains execute function quantry_guard_audit_truncate();
create trigger guard_truncate before truncate on audit_anchors execute function quantry_guard_audit_truncate();
"""

CHAIN_UNDO = """
drop trigger guard_rows on audit_log;
drop trigger guard_truncate on audit_log;
drop index uq_audit_log_project_id_seq;
drop index ix_audit_log_project_id_noun_noun_id;
alter table audit_log
    drop column seq,
    drop column previous_hash,
    drop column hash;
drop table audit_anchors, audit_chains;
drop function quantry_guard_audit;
drop function quantry_guard_audit_end;
drop function quantry_guard_audit_truncate;
"""


def upgrade() -> None:
    """Adds it all; what the audit log holds already becomes the beginning of each project's chain."""
    op.execute(KEYS)
    op.execute(PROJECTS)
    op.execute(WORKERS)
    op.execute(CHAIN)
    chain_what_is_there()
    op.execute(CHAIN_SHUT)


def downgrade() -> None:
    """Takes it back. Hosts keep their keys, which are keys like others; the chain is lost, the acts stay."""
    op.execute(CHAIN_UNDO)
    op.execute(WORKERS_UNDO)
    op.execute(PROJECTS_UNDO)
    op.execute(KEYS_UNDO)


def chain_what_is_there() -> None:
    """Gives every entry its place and its hash, project by project, in the order in which they were written."""
    connection = op.get_bind()
    for (project_id,) in connection.execute(text("select id from projects")).all():
        seq, before, last_id = 0, GENESIS_HASH, ""
        while True:
            rows = connection.execute(
                text("select * from audit_log where project_id = :project_id and id > :last_id order by id limit :num_rows"),
                {"project_id": project_id, "last_id": last_id, "num_rows": BATCH_ROWS},
            ).mappings()
            chained = []
            for row in rows:
                seq, last_id = seq + 1, row["id"]
                own = hash_of({**row, "seq": seq, "previous_hash": before})
                chained.append({"id": last_id, "seq": seq, "previous_hash": before, "hash": own})
                before = own
            if not chained:
                break
            connection.execute(text(CHAIN_ONE), chained)
        connection.execute(
            text("insert into audit_chains (project_id, seq, hash) values (:project_id, :seq, :hash)"),
            {"project_id": project_id, "seq": seq, "hash": before},
        )


def hash_of(fields: Mapping[str, Any]) -> str:
    """Returns an entry's hash in format 1, as quantry_core.audit has it: kept here too, so that this step never changes."""
    written = {name: value for name, value in fields.items() if name != "hash"}
    written["created_at"] = fields["created_at"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    written["format"] = 1
    return hashlib.sha256(json.dumps(plain(written), sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def plain(value: Any) -> Any:
    """Returns a JSON value with whole numbers as integers."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value
