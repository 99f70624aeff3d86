"""``python -m chaos.wrong_clock_worker``: the worker, made fit for libfaketime.

libfaketime 0.9.10 answers EINVAL to clock_nanosleep with an absolute time, which is what Python's ``time.sleep`` calls from
3.11 on, where it is told to leave the monotonic clock alone. So here ``time.sleep`` waits in select. Nothing else differs.
"""

from __future__ import annotations

import runpy
import select
import sys
import time
from typing import SupportsIndex


def sleep(seconds: float | SupportsIndex) -> None:
    """Waits as time.sleep does."""
    until = time.monotonic() + float(seconds)
    while (left_s := until - time.monotonic()) > 0:
        select.select([], [], [], left_s)


def main() -> None:
    """Runs quantry_worker as ``python -m`` would."""
    time.sleep = sleep
    sys.argv = ["quantry_worker"]
    runpy.run_module("quantry_worker", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
