"""Run in the ml environment: processes that join, the first with work of its own that takes longer than joining may.

``python join_processes.py``; prints one line of JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import torch.distributed

from quantry_worker.child.training.distributed import HOST, joined

JOIN_TIMEOUT = "quantry_worker.child.training.distributed.JOIN_TIMEOUT"
JOINING_S = 5.0


@contextmanager
def listening() -> Iterator[tuple[socket.socket, int]]:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener, listener.getsockname()[1]


def work(rank: int, seconds: float, port: int, listener: socket.socket | None) -> bool:
    with joined(rank, 2, port, listener):
        time.sleep(seconds)
    return True


def main() -> dict[str, Any]:
    # The forked process could not come to a GPU.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    said: dict[str, Any] = {}
    forked = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
    with patch(JOIN_TIMEOUT, timedelta(seconds=JOINING_S)), listening() as (listener, port), forked:
        other = forked.submit(work, 1, 0.0, port, None)
        said["is_waited_for"] = [work(0, JOINING_S + 1, port, listener), other.result()]
    with patch(JOIN_TIMEOUT, timedelta(seconds=0.5)), listening() as (listener, port):
        try:
            work(0, 0.0, port, listener)
        except torch.distributed.DistStoreError:
            said["is_missed"] = True
    return said


if __name__ == "__main__":
    print(json.dumps(main()))
