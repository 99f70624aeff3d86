"""A training by several processes of one host: the job's child is the first of them, and starts the others.

They end with it, whatever ends it, as the child ends with its worker. They meet through a store that listens on the loopback
alone. Each performs the whole training in step with the others; the first alone speaks and writes the version.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed

from quantry_core.jobs import InputRole
from quantry_core.jobs.specs.finetune import DistributedSpec, FinetuneSpec
from quantry_worker.child.failures import failure_of
from quantry_worker.child.inputs import only_input
from quantry_worker.child.reporter import Reporter
from quantry_worker.child.training.peers import Peers
from quantry_worker.child.training.process import train
from quantry_worker.child.training.strategies import check_strategy, strategy_arguments
from quantry_worker.protocol import ChildResult, ChildTask

HOST = "127.0.0.1"
JOIN_TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others to have loaded their libraries."""
STEP_TIMEOUT = timedelta(hours=12)
"""How long it waits for a step of theirs, or for the first to have written a large model. Who is gone meanwhile is noticed otherwise."""


def run(task: ChildTask, reporter: Reporter) -> ChildResult:
    """Returns what the training of the first process does; raises as it does, and InvalidInput for a strategy that cannot be here.

    Where another process fails first, its reason is raised, or said where this one cannot be woken.
    """
    spec, distributed = _specs(task)
    check_strategy(spec, only_input(task, InputRole.BASE).format, torch.cuda.device_count())
    shared = task.model_copy(update={"num_threads": max(1, task.num_threads // distributed.num_processes)})
    # accelerate looks at it, and the others inherit it.
    os.environ["OMP_NUM_THREADS"] = str(shared.num_threads)
    with tempfile.TemporaryDirectory(prefix="peers-") as folder, _listening() as listener:
        port: int = listener.getsockname()[1]
        peers = Peers(Path(folder))
        peers.start(shared, distributed.num_processes, port)
        try:
            with peers.watched(lambda error: give_up(reporter, error)), joined(0, distributed.num_processes, port, listener):
                result = train(shared, reporter, strategy_arguments(distributed, spec))
            peers.wait()
            return result
        except RuntimeError as error:
            # That another has gone is all that a collective operation says.
            peers.wait()
            raise peers.failure() or error from error
        finally:
            peers.kill()


def give_up(reporter: Reporter, error: Exception) -> None:
    """Says why another process failed, and ends this one, which waits for it where no exception reaches."""
    reporter.end(failure_of(error))
    os._exit(0)


def run_peer(task: ChildTask, rank: int, port: int) -> None:
    """Performs the training as one of the others; what it would say and write goes nowhere."""
    spec, distributed = _specs(task)
    with joined(rank, distributed.num_processes, port, None):
        train(task, Reporter(lambda _: None), strategy_arguments(distributed, spec))


@contextmanager
def joined(rank: int, num_processes: int, port: int, listener: socket.socket | None) -> Iterator[None]:
    """Has this process be one of ``num_processes`` while the block runs; the first brings the socket that the store listens on.

    Raises torch.distributed.DistError where one of them does not come in time.
    """
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.set_device(rank)
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes}
    loopback = {"MASTER_ADDR": HOST, "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    os.environ.update({name: str(number) for name, number in numbers.items()} | loopback)
    if not has_gpu:
        # accelerate would call it cpu:0, which torch cannot load a checkpoint to.
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    store = torch.distributed.TCPStore(
        HOST,
        port,
        world_size=num_processes,
        is_master=listener is not None,
        timeout=JOIN_TIMEOUT,
        wait_for_workers=False,
        # The store closes it.
        master_listen_fd=None if listener is None else listener.detach(),
    )
    store.set(_joined_key(rank), "")
    store.wait([_joined_key(one) for one in range(num_processes)], JOIN_TIMEOUT)
    backend = "cuda:nccl,cpu:gloo" if has_gpu else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=num_processes, timeout=STEP_TIMEOUT)
    try:
        yield
        # The store is the first process's: it stays until all have done with it.
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


def _joined_key(rank: int) -> str:
    return f"joined/{rank}"


@contextmanager
def _listening() -> Iterator[socket.socket]:
    """Yields a socket that listens on a free port of the loopback: no other process can come to that port meanwhile."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener


def _specs(task: ChildTask) -> tuple[FinetuneSpec, DistributedSpec]:
    if not isinstance(task.spec, FinetuneSpec) or task.spec.distributed is None:
        raise TypeError("only a finetune job with a strategy is shared by several processes")
    return task.spec, task.spec.distributed
