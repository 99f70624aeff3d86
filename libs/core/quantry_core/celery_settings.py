"""Every setting of Celery, of the worker that consumes and of the api that sends, each with the reason it is as it is.

Functions that return plain dictionaries: core imports no Celery. Redis and Celery only wake workers; what must not be lost is
in Postgres. So a setting here may cost time, never work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CONNECT_TIMEOUT_S = 5.0
RECONNECT_INTERVAL_S = 2.0
"""Between the worker's tries to reach a Redis that is away."""

SEND_TIMEOUT_S = 1.0
"""Whoever sends a wake waits in a request: this long at most."""

MAX_WAITING_WAKES = 64
"""With no worker running, wakes would pile up in Redis: each wakes one slot, so more than all slots are of no use. They carry no
time of expiry: a worker judges it by its own clock, and one whose clock is ahead would throw away the wakes of all."""


def worker_settings(broker_url: str, *, queues: Sequence[str], num_slots: int, drain_s: float) -> dict[str, Any]:
    """Returns the settings of a worker's Celery app. ``drain_s`` is how long its slots need at most to end or hand back their jobs."""
    return _common(broker_url) | {
        # Redis may start after the worker, and may go away for any time.
        "broker_connection_retry_on_startup": True,
        "broker_connection_retry": True,
        "broker_channel_error_retry": True,
        # For ever: past a largest number of tries the worker would end.
        "broker_connection_max_retries": None,
        # Celery's own consumer waits 2 s, 4 s, ... up to 30 s between its tries, and no setting changes that. This one waits
        # RECONNECT_INTERVAL_S: a Redis that is back is found within seconds, however long it was away.
        "worker_consumer": "quantry_worker.broker:PatientConsumer",
        "broker_connection_timeout": CONNECT_TIMEOUT_S,
        "broker_transport_options": {
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            # A dead connection is noticed: without these, kombu waits on a half-open one. BRPOP is answered each second; one
            # that was not for as long as the check's interval has lost its connection.
            "socket_keepalive": True,
            "health_check_interval": 10,
            # visibility_timeout stays as it is: it re-delivers what was not acknowledged, and a wake is when a slot takes it.
        },
        # JSON alone is read: nobody who reaches the broker can have the worker unpickle anything.
        "accept_content": ["json"],
        # Early acknowledgement: a wake is done when a slot has it. The job's safety is its lease, not the message.
        "task_acks_late": False,
        # What runs when Redis goes away runs on: its job has nothing to do with Redis.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # A busy worker takes no message: another worker's free slot gets it. (Redis only, which is what we use.)
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 1,
        # Nobody inspects or controls workers over the broker, and nobody listens to task events: the API shows the truth.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        # No time limits: the supervisor in the slot keeps the job's own, and stops its child, not the slot.
        "task_time_limit": None,
        "task_soft_time_limit": None,
        # Fork, not spawn: the pool process inherits the drain flag and the lock on the work folder.
        "worker_pool": "prefork",
        "worker_pool_start_method": "fork",
        "worker_concurrency": num_slots,
        # On a loaded machine a pool process needs longer than the default 4 s to say that it is up.
        "worker_proc_alive_timeout": 60.0,
        # SIGQUIT waits this long for the slots. (SIGTERM and SIGINT wait until they are done.)
        "worker_soft_shutdown_timeout": drain_s,
        # Our own logging is set up already; Celery's lines go through it.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "task_default_queue": queues[0],
    }


def sender_settings(broker_url: str) -> dict[str, Any]:
    """Returns the settings of a Celery app that only sends wakes."""
    return _common(broker_url) | {
        # One try: whoever waits for the broker here waits in a request, and the sweep comes anyway.
        "task_publish_retry": False,
        "broker_connection_retry": False,
        "broker_connection_timeout": SEND_TIMEOUT_S,
        "broker_transport_options": {
            "socket_timeout": SEND_TIMEOUT_S,
            "socket_connect_timeout": SEND_TIMEOUT_S,
            "retry_on_timeout": False,
            "max_retries": 0,
        },
    }


def _common(broker_url: str) -> dict[str, Any]:
    return {
        "broker_url": broker_url,
        "task_serializer": "json",
        # A wake has no result; without a result backend Celery needs no second connection.
        "task_ignore_result": True,
        "result_backend": None,
        "task_store_errors_even_if_ignored": False,
        "task_send_sent_event": False,
        "timezone": "UTC",
    }
