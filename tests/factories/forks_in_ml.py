"""Runs in the ml environment: imports its libraries once, then forks a process for whatever it is asked to run.

    <ml python> forks_in_ml.py <number of the socket it is asked on>

A request is one message: what to run as JSON, beside it the descriptors that the process is to have, the first of them a pipe on which
its pid and then its exit status are told, a line each. It ends with whoever holds the other end of the socket. It never computes anything
itself, so that no process inherits half of a thread pool.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import socket
import sys
import traceback
from typing import Any

from quantry_worker.child.libraries import leave_out, load

LIBRARIES = ("quantry_worker.child.backends.llm_compressor.calibrated", "quantry_worker.child.training.supervised")
"""Who needs these needs torch, transformers, llm-compressor, PEFT and TRL."""
MAX_REQUEST_BYTES = 128 * 1024
MAX_DESCRIPTORS = 8
OUT_OF_THE_WAY = 200
"""Descriptors from here on are nobody's."""


def main() -> None:
    leave_out()
    for name in LIBRARIES:
        load(name)
    # Nobody waits for those that wait for others: the kernel takes them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as door:
        while True:
            message, given, _flags, _address = socket.recv_fds(door, MAX_REQUEST_BYTES, MAX_DESCRIPTORS)
            if not message:
                return
            if os.fork() == 0:
                door.close()
                _watch(json.loads(message), given)
            for descriptor in given:
                os.close(descriptor)


def _watch(request: dict[str, Any], given: list[int]) -> None:
    """Runs what was asked for in one more process, and tells how that ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    told, *others = given
    pid = os.fork()
    if pid == 0:
        os.close(told)
        _perform(request, others)
    for descriptor in others:
        os.close(descriptor)
    os.write(told, f"{pid}\n".encode())
    _pid, status = os.waitpid(pid, 0)
    os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _perform(request: dict[str, Any], given: list[int]) -> None:
    status = 1
    try:
        _take_descriptors(given, request["descriptors"])
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["directory"])
        if "OMP_NUM_THREADS" in os.environ:
            # OpenMP has read its environment long ago.
            sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        sys.argv = request["arguments"]
        status = _run(request)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(request: dict[str, Any]) -> int:
    if request["module"] is not None:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        return 0
    script = sys.argv[0]
    sys.path[0] = script.rpartition("/")[0]
    gc.disable()
    # As without_garbage.py does.
    runpy.run_path(script, run_name="imported")
    gc.freeze()
    gc.enable()
    runpy.run_path(script, run_name="__main__")
    return 0


def _take_descriptors(given: list[int], wanted: list[int]) -> None:
    """Gives each descriptor the number it is wanted under."""
    apart = [os.dup2(descriptor, OUT_OF_THE_WAY + index) for index, descriptor in enumerate(given)]
    for descriptor in given:
        os.close(descriptor)
    for descriptor, number in zip(apart, wanted, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)


if __name__ == "__main__":
    main()
