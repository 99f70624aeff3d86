"""A training by several processes of one host: the job's child is the first of them, and starts the others.

They end with it, whatever ends it, as the child ends with its worker. They meet through a store that listens on the loopback
alone. Each performs the whole training in step with the others; the first alone speaks and writes the version.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed

from quantry_core.errors import InvalidInput
from quantry_core.jobs import InputRole, JobReason
from quantry_core.jobs.specs.finetune import DistributedSpec, FinetuneSpec
from quantry_worker.child.failures import Diverged
from quantry_worker.child.inputs import only_input
from quantry_worker.child.reporter import Reporter
from quantry_worker.child.training.process import train
from quantry_worker.child.training.strategies import check_strategy, strategy_arguments, this_host
from quantry_worker.protocol import EVENTS_FD_VARIABLE, ChildFailure, ChildResult, ChildTask

HOST = "127.0.0.1"
PEER = "quantry_worker.child.training.peer"
JOIN_TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others to have loaded their libraries, and for a step of theirs."""
END_TIMEOUT_S = 60.0
"""How long the first waits for the others to end, once it has its result or has failed."""
FAILURE_FILE = "failure.json"


class Peers:
    """The other processes of a training, each with a folder of its own for what it would write."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, task: ChildTask, num_processes: int, port: int) -> None:
        """Starts all of them."""
        environment = {name: value for name, value in os.environ.items() if name != EVENTS_FD_VARIABLE}
        for rank in range(1, num_processes):
            folder = self._folder / str(rank)
            own = {"output_dir": folder / "output", "artifacts_dir": folder / "artifacts"}
            for path in own.values():
                path.mkdir(parents=True)
            (folder / "task.json").write_text(task.model_copy(update=own).model_dump_json(), encoding="utf-8")
            arguments = [str(folder / "task.json"), str(port), str(rank), str(folder / FAILURE_FILE)]
            # In the child's session: who ends the child ends them; and the kernel does when it ends by itself.
            launch = [sys.executable, "-m", "quantry_worker.launch", str(os.getpid()), PEER]
            self._processes.append(subprocess.Popen([*launch, *arguments], env=environment, stdin=subprocess.DEVNULL))

    def wait(self) -> None:
        """Waits until all have ended, and kills what has not in time."""
        for process in self._processes:
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def kill(self) -> None:
        """Ends all at once and reaps them."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()

    def failure(self) -> Exception | None:
        """Returns why one of them failed, None if none said so: the first process then sees only that it is alone."""
        for rank in range(1, len(self._processes) + 1):
            said = self._folder / str(rank) / FAILURE_FILE
            if said.exists():
                return _as_exception(ChildFailure.model_validate_json(said.read_bytes()), rank)
        return None


def run(task: ChildTask, reporter: Reporter) -> ChildResult:
    """Returns what the training of the first process does; raises as it does, and InvalidInput for a strategy that cannot be here.

    Where another process fails first, its reason is raised.
    """
    spec, distributed = _specs(task)
    check_strategy(distributed, spec, only_input(task, InputRole.BASE).format, this_host(torch.cuda.device_count()))
    shared = task.model_copy(update={"num_threads": max(1, task.num_threads // distributed.num_processes)})
    # accelerate looks at it, and the others inherit it.
    os.environ["OMP_NUM_THREADS"] = str(shared.num_threads)
    with tempfile.TemporaryDirectory(prefix="peers-") as folder, _listening() as listener:
        port: int = listener.getsockname()[1]
        peers = Peers(Path(folder))
        peers.start(shared, distributed.num_processes, port)
        try:
            with joined(0, distributed.num_processes, port, listener):
                result = train(shared, reporter, strategy_arguments(distributed, spec))
            peers.wait()
            return result
        except RuntimeError as error:
            # That another has gone is all that a collective operation says.
            peers.wait()
            raise peers.failure() or error from error
        finally:
            peers.kill()


def run_peer(task: ChildTask, rank: int, port: int) -> None:
    """Performs the training as one of the others; what it would say and write goes nowhere."""
    spec, distributed = _specs(task)
    with joined(rank, distributed.num_processes, port, None):
        train(task, Reporter(lambda _: None), strategy_arguments(distributed, spec))


@contextmanager
def joined(rank: int, num_processes: int, port: int, listener: socket.socket | None) -> Iterator[None]:
    """Has this process be one of ``num_processes`` while the block runs; the first brings the socket that the store listens on."""
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
    backend = "cuda:nccl,cpu:gloo" if has_gpu else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=num_processes, timeout=JOIN_TIMEOUT)
    try:
        yield
        # The store is the first process's: it stays until all have done with it.
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


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


def _as_exception(failure: ChildFailure, rank: int) -> Exception:
    match failure.reason:
        case JobReason.INVALID_INPUT:
            return InvalidInput(failure.message)
        case JobReason.DIVERGED:
            return Diverged(failure.message)
        case JobReason.OUT_OF_MEMORY:
            return MemoryError(f"process {rank}: {failure.message}")
        case _:
            return RuntimeError(f"process {rank}: {failure.message}")
