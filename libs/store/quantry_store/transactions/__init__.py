"""The transactions of the platform. Each function is one when called inside one ``Database.begin`` block; none commits."""

from quantry_store.transactions.cancel import cancel_job
from quantry_store.transactions.deployments import resume_deployment, stop_deployment
from quantry_store.transactions.execution import append_events, check_attempt, claim_next, queues_with_work, renew_lease
from quantry_store.transactions.finish import finish_attempt
from quantry_store.transactions.lost_attempts import expired_jobs, lose_expired
from quantry_store.transactions.rollouts import (
    DeploymentRecord,
    begin_rollout,
    delete_replica,
    fail_rollout,
    load_deployments,
    promote_rollout,
    upsert_replica,
)
from quantry_store.transactions.submit import submit_job
from quantry_store.transactions.vault import record_seal

__all__ = [
    "DeploymentRecord",
    "append_events",
    "begin_rollout",
    "cancel_job",
    "check_attempt",
    "claim_next",
    "delete_replica",
    "expired_jobs",
    "fail_rollout",
    "finish_attempt",
    "load_deployments",
    "lose_expired",
    "promote_rollout",
    "queues_with_work",
    "record_seal",
    "renew_lease",
    "resume_deployment",
    "stop_deployment",
    "submit_job",
    "upsert_replica",
]
