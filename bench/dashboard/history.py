"""A platform that has been used for a while, written by SQL: finished jobs, and versions of one model with what was measured of them."""

from __future__ import annotations

from bench.embedded import MODEL, Measured
from bench.jobs.history import FINISHED_JOBS

NUM_JOBS, NUM_VERSIONS = 10_000, 1_000

# Version n was made by job n. Its files are the master's: equal files are stored once.
VERSIONS = """
insert into versions (id, project_id, model_id, number, kind, state, format, scheme, dtype, manifest_digest, size_bytes, weights_bytes,
                      job_id, attempt, recipe, toolchain, fingerprint, card, created_at)
select 'ver_' || lpad(to_hex(n), 32, '0'), project_id, model_id, 1 + n, 'quantized',
       case when n %% 20 = 0 then 'quarantined' else 'ready' end, 'compressed-tensors', (array['W4A16', 'W8A8', 'W8A16'])[1 + n %% 3], null,
       manifest_digest, size_bytes * (3 + n %% 7) / 10, weights_bytes * (3 + n %% 7) / 10, 'job_' || lpad(to_hex(n), 32, '0'), 1,
       '{"method": "gptq", "group_size": 128}', '{"llmcompressor": "0.14.0"}', null, card, now()
from versions, generate_series(1, %(count)s) n where id = %(master)s
"""
FILES = """
insert into version_files (version_id, path, project_id, sha256, size_bytes)
select 'ver_' || lpad(to_hex(n), 32, '0'), path, project_id, sha256, size_bytes
from version_files, generate_series(1, %(count)s) n where version_id = %(master)s
"""
EDGES = """
insert into lineage_edges (child_version_id, position, project_id, role, parent_version_id)
select 'ver_' || lpad(to_hex(n), 32, '0'), 0, project_id, 'base', id from versions, generate_series(1, %(count)s) n where id = %(master)s
"""
EVIDENCE = """
insert into evidence (id, project_id, version_id, job_id, position, kind, name, verdict, metrics, created_at)
select 'evi_' || lpad(to_hex(n * 2 + place), 32, '0'), project_id, 'ver_' || lpad(to_hex(n), 32, '0'), 'job_' || lpad(to_hex(n), 32, '0'),
       place, 'gate', (array['precision', 'quality'])[1 + place], 'pass',
       case place when 0 then jsonb_build_object('bits_per_weight', 3 + n %% 7)
       else jsonb_build_object('corpora', jsonb_build_object('kjv.test', jsonb_build_object(
            'perplexity_ratio', 1 + 0.1 / (3 + n %% 7) + n * 1e-5, 'perplexity_ratio_low', 1 + 0.09 / (3 + n %% 7) + n * 1e-5,
            'perplexity_ratio_high', 1 + 0.11 / (3 + n %% 7) + n * 1e-5, 'kl_mean_nats', 0.05 / (3 + n %% 7), 'top1_agreement', 0.9))) end,
       now() - interval '1 day'
from versions, generate_series(1, %(count)s) n, generate_series(0, 1) place where id = %(master)s
"""
MODELS = """
insert into models (id, project_id, name, last_number, created_at)
select 'mod_' || lpad(to_hex(n), 32, '0'), project_id, 'model-' || n, 0, now() - interval '1 day' from models, generate_series(1, 200) n
where name = %(model)s
"""


def write_history(measured: Measured) -> str:
    """Writes it beside the imported master; returns the id of one of the versions."""
    master = measured.client.versions.get(f"{MODEL}@1")
    values = {"count": NUM_VERSIONS, "master": master.id, "model": MODEL, "project": master.project_id}
    with measured.database() as connection:
        connection.execute(FINISHED_JOBS, values | {"count": NUM_JOBS})
        # The files of a version are written with it, in one transaction, or never.
        with connection.transaction():
            for statement in (VERSIONS, FILES, EDGES, EVIDENCE, MODELS):
                connection.execute(statement, values)
            connection.execute("update models set last_number = %s where name = %s", (1 + NUM_VERSIONS, MODEL))
        connection.execute("vacuum analyze")
    newest = measured.client.versions.get(f"{MODEL}@{NUM_VERSIONS}")
    return newest.id
