"""Run in the ml environment: shards a small model as FSDP2 does, on the CPU, and tells whether its weights come back whole.

``python shard_and_gather.py <folder>``; prints one line of JSON.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import torch
import torch.distributed
from safetensors.torch import load_file, save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from quantry_worker.child.training.weights import restore_weights, unshard, write_trained


def main(folder: Path) -> dict[str, bool]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        store = torch.distributed.TCPStore("127.0.0.1", port, world_size=1, is_master=True, master_listen_fd=listener.detach())
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
    plain = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    mesh = init_device_mesh("cpu", (1,))
    for layer in (*model, model):
        fully_shard(layer, mesh=mesh)
    model(torch.ones(1, 4)).sum().backward()
    said = {"is_sharded": all(isinstance(one, DTensor) for one in model.parameters())}
    write_trained(model, folder / "weights.safetensors")
    kept = load_file(folder / "weights.safetensors")
    said["is_kept_whole"] = all(torch.equal(kept[name], tensor) for name, tensor in plain.items())
    save_file({name: tensor + 1 for name, tensor in kept.items()}, folder / "weights.safetensors")
    restore_weights(model, folder / "weights.safetensors")
    unshard(model, torch.device("cpu"))
    said["is_whole"] = not any(isinstance(one, DTensor) for one in model.parameters())
    said["is_restored"] = all(torch.equal(one, plain[name] + 1) for name, one in model.named_parameters())
    torch.distributed.destroy_process_group()
    return said


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
