"""Tells workers that a queue has work. A hint and no more: a lost one costs until the next sweep."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog
from celery import Celery
from kombu import Connection
from kombu.transport.virtual import Channel

from quantry_core.execution import WAKE_TASK
from quantry_core.jobs import Queue

WAKE_TIMEOUT_S = 1.0
EXPIRES_S = 30
"""A message that no worker took by then is thrown away: the sweep sends another while there is work."""
MAX_SENDS_UNDER_WAY = 4
MAX_WAITING_MESSAGES = 64
"""With no worker running, messages would pile up in Redis: each wakes one slot, so more than all slots are of no use."""

_log = structlog.get_logger(__name__)


class Waker:
    """Sends wake messages through Celery from a thread of its own. Close it at the end."""

    def __init__(self, broker_url: str) -> None:
        self._celery = Celery("quantry-api", broker=broker_url, set_as_current=False)
        self._celery.conf.update(
            # One try: whoever waits for the broker here waits in a request, and the sweep comes anyway.
            task_publish_retry=False,
            broker_connection_retry=False,
            broker_connection_timeout=WAKE_TIMEOUT_S,
            broker_transport_options={
                "socket_timeout": WAKE_TIMEOUT_S,
                "socket_connect_timeout": WAKE_TIMEOUT_S,
                "retry_on_timeout": False,
                "max_retries": 0,
            },
            task_ignore_result=True,
        )
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wake")
        self._num_under_way = 0

    async def wake(self, queue: Queue) -> bool:
        """Returns whether the message was sent, after WAKE_TIMEOUT_S seconds at most. Never raises: a failure is logged."""
        if self._num_under_way >= MAX_SENDS_UNDER_WAY:
            _log.warning("wake.not_sent", queue=queue, error="the broker is slow: earlier messages are still under way")
            return False
        self._num_under_way += 1
        sent = asyncio.get_running_loop().run_in_executor(self._threads, self._send, queue)
        sent.add_done_callback(self._landed)
        # Not cancelled when the time is up: a thread cannot be; its own socket timeouts end it.
        done, _ = await asyncio.wait({sent}, timeout=WAKE_TIMEOUT_S)
        error = sent.exception() if done else TimeoutError(f"no answer within {WAKE_TIMEOUT_S} s")
        if error is not None:
            _log.warning("wake.not_sent", queue=queue, error=repr(error))
        return error is None

    def close(self) -> None:
        """Stops the thread after what it is doing."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._celery.close()

    def _landed(self, sent: asyncio.Future[None]) -> None:
        self._num_under_way -= 1
        if not sent.cancelled():
            sent.exception()  # looked at here, or asyncio reports it as never retrieved when nobody waits any more

    def _send(self, queue: Queue) -> None:
        # A connection for each message: a wake is rare, and nothing stale is left when the broker was restarted.
        with self._celery.connection_for_write() as connection:
            if num_waiting(connection, queue.value) < MAX_WAITING_MESSAGES:
                self._celery.send_task(WAKE_TASK, args=[queue.value], queue=queue.value, connection=connection, expires=EXPIRES_S)


def num_waiting(connection: Connection, queue: str) -> int:
    """Returns how many messages lie in a queue of the broker, the queue made if it is not there; opens the connection."""
    channel = connection.default_channel
    if not isinstance(channel, Channel):
        raise TypeError(f"the broker must be Redis, which kombu drives by its virtual transport; this is {connection.transport_cls}")
    return int(channel.queue_declare(queue=queue).message_count)
