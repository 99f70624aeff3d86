from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from celery.app.defaults import NAMESPACES, flatten

from quantry_core.celery_settings import sender_settings, worker_settings
from quantry_core.execution import WAKE_TASK

BROKER = "redis://:a-password@127.0.0.1:6379/0"
WORKER = worker_settings(BROKER, queues=["cpu", "gpu"], num_slots=3, drain_s=28.0)
SENDER = sender_settings(BROKER)


@pytest.mark.parametrize("settings", [WORKER, SENDER], ids=["worker", "sender"])
def test_celery_knows_every_setting(settings: dict[str, Any]) -> None:
    assert set(settings) <= {entry[0] for entry in flatten(NAMESPACES)}


@pytest.mark.parametrize("settings", [WORKER, SENDER], ids=["worker", "sender"])
def test_the_broker_only_wakes(settings: dict[str, Any]) -> None:
    assert settings["task_ignore_result"] is True
    assert settings["result_backend"] is None
    assert settings["task_serializer"] == "json"


def test_a_worker_takes_one_wake_for_each_free_slot_and_acknowledges_it_at_once() -> None:
    assert WORKER["task_acks_late"] is False
    assert WORKER["worker_disable_prefetch"] is True
    assert WORKER["worker_concurrency"] == 3
    assert WORKER["accept_content"] == ["json"]


def test_the_workers_consumer_is_there() -> None:
    with Celery("test", set_as_current=False) as app:
        app.conf.update(WORKER)
        assert app.conf.worker_consumer == "quantry_worker.broker:PatientConsumer"


def test_a_wake_needs_no_binding_that_a_flush_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes through the nameless exchange, by the queue's name alone."""
    sent: list[dict[str, Any]] = []
    with Celery("test", set_as_current=False) as app:
        app.conf.update(SENDER | {"broker_url": "memory://", "broker_transport_options": {}})
        with app.producer_pool.acquire() as producer:
            publish = producer.publish

            def note(*args: Any, **options: Any) -> Any:
                sent.append(options)
                return publish(*args, **options)

            monkeypatch.setattr(producer, "publish", note)
            app.send_task(WAKE_TASK, args=["cpu"], queue="cpu", producer=producer)
    assert [(one["exchange"], one["routing_key"]) for one in sent] == [("", "cpu")]
