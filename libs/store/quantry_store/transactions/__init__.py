"""The transactions of the platform. Each function is one when called inside one ``Database.begin`` block; none commits."""

from quantry_store.transactions.adapters import attach_adapter, detach_adapter
from quantry_store.transactions.artifacts import record_artifact_seal
from quantry_store.transactions.cancel import cancel_job
from quantry_store.transactions.captures import end_capture, set_capture
from quantry_store.transactions.checkpoints import record_checkpoint, record_checkpoint_seal
from quantry_store.transactions.dataset_deletion import delete_dataset, remove_dataset, restore_dataset
from quantry_store.transactions.deletion import delete_version, remove_version, restore_version
from quantry_store.transactions.deployments import resume_deployment, stop_deployment
from quantry_store.transactions.execution import append_events, check_attempt, claim_next, queues_with_work, renew_lease
from quantry_store.transactions.finish import finish_attempt
from quantry_store.transactions.lost_attempts import expired_jobs, lose_expired
from quantry_store.transactions.pipelines import cancel_pipeline, retry_pipeline, submit_pipeline
from quantry_store.transactions.release import releasable_jobs, release_job
from quantry_store.transactions.retry import retry_job
from quantry_store.transactions.rollbacks import roll_back
from quantry_store.transactions.rollout_actions import ask_of_rollout
from quantry_store.transactions.rollout_stages import (
    end_watch,
    judge_rollout,
    load_windows,
    pause_rollout,
    set_wanted,
    stage_rollout,
    undo_promotion,
)
from quantry_store.transactions.rollouts import (
    DeploymentRecord,
    begin_rollout,
    delete_replica,
    fail_rollout,
    load_deployments,
    promote_rollout,
    upsert_replica,
)
from quantry_store.transactions.schedule_templates import ONLY_JOB, Prepared, Submitted, is_final, read_template
from quantry_store.transactions.schedules import (
    Firing,
    change_schedule,
    create_schedule,
    delete_schedule,
    fire_due,
    is_checked_anew,
    run_schedule_now,
)
from quantry_store.transactions.submit import DEFAULT_PLACEMENT, Origin, Placement, submit_job
from quantry_store.transactions.traffic import record_captures, record_traffic
from quantry_store.transactions.vault import Damaged, note_blobs, note_checkpoint_blobs, record_damage, record_seal, record_whole
from quantry_store.transactions.webhooks import (
    ClaimedDelivery,
    change_webhook,
    claim_deliveries,
    create_webhook,
    delete_webhook,
    give_up_deliveries,
    ping_webhook,
    redeliver_webhook,
    rotate_webhook_secret,
    settle_delivery,
)
from quantry_store.transactions.workers import save_worker

__all__ = [
    "DEFAULT_PLACEMENT",
    "ONLY_JOB",
    "ClaimedDelivery",
    "Damaged",
    "DeploymentRecord",
    "Firing",
    "Origin",
    "Placement",
    "Prepared",
    "Submitted",
    "append_events",
    "ask_of_rollout",
    "attach_adapter",
    "begin_rollout",
    "cancel_job",
    "cancel_pipeline",
    "change_schedule",
    "change_webhook",
    "check_attempt",
    "claim_deliveries",
    "claim_next",
    "create_schedule",
    "create_webhook",
    "delete_dataset",
    "delete_replica",
    "delete_schedule",
    "delete_version",
    "delete_webhook",
    "detach_adapter",
    "end_capture",
    "end_watch",
    "expired_jobs",
    "fail_rollout",
    "finish_attempt",
    "fire_due",
    "give_up_deliveries",
    "is_checked_anew",
    "is_final",
    "judge_rollout",
    "load_deployments",
    "load_windows",
    "lose_expired",
    "note_blobs",
    "note_checkpoint_blobs",
    "pause_rollout",
    "ping_webhook",
    "promote_rollout",
    "queues_with_work",
    "read_template",
    "record_artifact_seal",
    "record_captures",
    "record_checkpoint",
    "record_checkpoint_seal",
    "record_damage",
    "record_seal",
    "record_traffic",
    "record_whole",
    "redeliver_webhook",
    "releasable_jobs",
    "release_job",
    "remove_dataset",
    "remove_version",
    "renew_lease",
    "restore_dataset",
    "restore_version",
    "resume_deployment",
    "retry_job",
    "retry_pipeline",
    "roll_back",
    "rotate_webhook_secret",
    "run_schedule_now",
    "save_worker",
    "set_capture",
    "set_wanted",
    "settle_delivery",
    "stage_rollout",
    "stop_deployment",
    "submit_job",
    "submit_pipeline",
    "undo_promotion",
    "upsert_replica",
]
