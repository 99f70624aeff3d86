"""Run in the ml environment: two processes of the CPU shard a small model as FSDP2 does, and tell whether its weights come back whole.

``python shard_and_gather.py <folder>``; prints one line of JSON, what each process found. The first writes, the second does not.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from quantry_worker.child.training.weights import NOWHERE, restore_weights, unshard, write_trained

HOST = "127.0.0.1"
NUM_PROCESSES = 2
TIMEOUT = timedelta(minutes=1)


def tied_model() -> torch.nn.Sequential:
    """The same in each process; its first and last layer share their weight."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(3)))
    model[2].weight = model[0].weight
    return model


def share(rank: int, folder: Path, port: int, listener: socket.socket | None) -> dict[str, bool]:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": NUM_PROCESSES, "LOCAL_WORLD_SIZE": NUM_PROCESSES}
    os.environ.update({name: str(number) for name, number in numbers.items()} | {"MASTER_ADDR": HOST, "MASTER_PORT": str(port)})
    listens_on = None if listener is None else listener.detach()
    store = torch.distributed.TCPStore(
        HOST, port, NUM_PROCESSES, rank == 0, timeout=TIMEOUT, wait_for_workers=False, master_listen_fd=listens_on
    )
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=NUM_PROCESSES, timeout=TIMEOUT)
    PartialState(cpu=True)
    model = tied_model()
    plain = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    mesh = init_device_mesh("cpu", (NUM_PROCESSES,))
    # A block of its own; what is tied belongs to the whole.
    for part in (model[1], model):
        fully_shard(part, mesh=mesh)
    model(torch.ones(1, 4)).sum().backward()
    said = {"is_sharded": all(isinstance(one, DTensor) for one in model.parameters())}
    write_trained(model, folder / "weights.safetensors")
    torch.distributed.barrier()
    kept = load_file(folder / "weights.safetensors")
    said["is_kept_whole"] = all(torch.equal(kept[name], tensor) for name, tensor in plain.items())
    torch.distributed.barrier()
    if rank == 0:
        save_file({name: tensor + 1 for name, tensor in kept.items()}, folder / "weights.safetensors")
    torch.distributed.barrier()
    restore_weights(model, folder / "weights.safetensors")
    unshard(model, torch.device("cpu") if rank == 0 else NOWHERE)
    said["is_whole"] = all(one.shape == plain[name].shape and not isinstance(one, DTensor) for name, one in model.named_parameters())
    said["is_tied"] = model[2].weight is model[0].weight
    said["is_nowhere"] = all(one.device == NOWHERE for one in model.parameters())
    said["is_restored"] = rank == 0 and all(torch.equal(one, plain[name] + 1) for name, one in model.named_parameters())
    # The store is the first process's.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    return said


def main(folder: Path) -> list[dict[str, bool]]:
    with socket.socket() as listener, ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        listener.bind((HOST, 0))
        listener.listen()
        port = listener.getsockname()[1]
        other = pool.submit(share, 1, folder, port, None)
        return [share(0, folder, port, listener), other.result()]


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
