"""GPTQ by GPTQModel: Frantar et al. 2022, arXiv:2210.17323. Writes the gptq layout: qweight, qzeros, scales, g_idx.

The model computes in float32 while it is calibrated. Columns keep their groups (no desc_act): their order within a group is by
activation all the same, and engines on CPUs need no g_idx. Of what the library saves only the quantized modules are taken;
everything else is copied from the master, which the library would have converted to another dtype.
"""

from __future__ import annotations

import re
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import CheckpointInfo, inspect_checkpoint
from quantry_core.errors import InvalidInput
from quantry_core.families import FUSED_MODULES, family_of, is_router
from quantry_core.layouts import StoredPart
from quantry_worker.child.backends.shards import Shard, copy_tensor, layouts, target_of, write_config, write_index
from quantry_worker.child.backends.table import QuantizationOrder, QuantizationReport
from quantry_worker.child.gptqmodel_library import import_gptqmodel
from quantry_worker.child.numerics.tensors import TensorReader
from quantry_worker.child.plan import QuantizationPlan, names_in_words
from quantry_worker.child.reporter import Units
from quantry_worker.child.toolchain import toolchain

PACKING = "original"
"""Packs with torch. The default compiles C++ at every start: half a minute, and a compiler is needed."""
BATCH_TOKENS = 2048
SHARE_LOADED, SHARE_QUANTIZED = 0.05, 0.95
KEPT_SETTINGS = ("damp_percent", "damp_auto_increment", "act_group_aware", "true_sequential", "quantizer")
"""Of the library's own words in quantization_config; the rest is about its devices and folders."""


def quantize(order: QuantizationOrder) -> QuantizationReport:
    """Writes the quantized weights and config.json into the order's output folder, in the shards of the master.

    Raises InvalidInput if the library has left a module at 16 bit that was to be quantized.
    """
    if order.windows is None:
        raise InvalidInput(f"method {order.plan.method.method} is fitted to text: name calibration.datasets")
    torch, library = import_module("torch"), import_gptqmodel(order.num_threads)
    torch.set_num_threads(order.num_threads)
    import_module("transformers").set_seed(order.seed)
    # The one GPU that the job was given, where it was given one: the others are hidden from this process.
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    model = library.GPTQModel.load(
        str(order.master_dir), _settings(library, order.plan), device=device, dtype=torch.float32, trust_remote_code=False
    )
    order.on_progress(SHARE_LOADED, "loaded")
    model.layer_callback = _LayerCount(order)
    length_tokens = order.windows.shape[1]
    samples = [{"input_ids": ids, "attention_mask": [1] * length_tokens} for ids in order.windows.tolist()]
    model.quantize(samples, batch_size=max(1, BATCH_TOKENS // length_tokens), calibration_sort=None)
    order.on_progress(SHARE_QUANTIZED, "saving")
    with tempfile.TemporaryDirectory() as directory:
        model.save(directory)
        saved = _saved(Path(directory))
        _write(order, saved, TensorReader(DirectoryCheckpoint(Path(directory)), saved))
    write_config(order.output_dir, order.master, _quantization_config(saved.config["quantization_config"], order.plan, order.master))
    return QuantizationReport(
        toolchain=toolchain("torch", "transformers", "gptqmodel"),
        settings={"activation_order": "within groups", "compute_dtype": "float32", "device": device, "num_threads": order.num_threads},
    )


class _LayerCount:
    """What the library tells of its way: one more layer is rounded, or packed."""

    def __init__(self, order: QuantizationOrder) -> None:
        self._on_progress = order.on_progress
        self._layers = sorted({_layer_of(module) for module in order.plan.targets}, key=lambda layer: int(layer.rpartition(".")[2]))

    def layer_complete(self, *, layer_idx: int, submodule_finalized: bool) -> None:
        if submodule_finalized:
            return
        total = len(self._layers)
        done = min(layer_idx + 1, total)
        share = SHARE_LOADED + (SHARE_QUANTIZED - SHARE_LOADED) * done / total
        self._on_progress(share, self._layers[done - 1], Units(done, total, "layers"))


def _layer_of(module: str) -> str:
    match = re.match(r".*?\.\d+(?=\.)", module)
    if match is None:
        raise InvalidInput(f"GPTQModel quantizes the modules of layers, and {module} is in none; add it to ignore")
    return match[0]


def _settings(library: Any, plan: QuantizationPlan) -> Any:
    weights, options = plan.choice.weights, plan.choice.options
    return library.QuantizeConfig(
        bits=round(weights.bits),
        group_size=weights.group_size,
        sym=weights.symmetric,
        damp_percent=options["damping"],
        desc_act=False,
        dynamic=_exceptions(plan) or None,
        offload_to_disk=False,
        pack_impl=PACKING,
    )


def _exceptions(plan: QuantizationPlan) -> dict[str, dict[str, Any]]:
    """Returns what keeps modules at 16 bit, as GPTQModel and engines read it. Routers and the output layer stay so by themselves.

    vLLM looks for the name of what it has joined: a fused group is kept as a whole or not at all, so that name goes with it.
    """
    named = {module for module in plan.kept if not is_router(module) and re.search(r"\.\d+\.", module)}
    fused = {part: joined for joined, parts in FUSED_MODULES.items() for part in parts}
    joined = {f"{parent}.{fused[last]}" for parent, _, last in (module.rpartition(".") for module in named) if last in fused}
    return {f"-:^{re.escape(module)}$": {} for module in sorted(named | joined)}


def _saved(directory: Path) -> CheckpointInfo:
    # Accounts of its own that are no part of a checkpoint.
    for path in directory.iterdir():
        if path.suffix not in {".json", ".safetensors"}:
            path.unlink()
    return inspect_checkpoint(DirectoryCheckpoint(directory))


def _write(order: QuantizationOrder, saved: CheckpointInfo, reader: TensorReader) -> None:
    master_reader = TensorReader(DirectoryCheckpoint(order.master_dir), order.master)
    files = layouts(order.plan, order.master)
    _check_saved({name: part for layout in files.values() for name, part in layout.items()}, order, saved)
    for file, layout in files.items():
        with Shard(order.output_dir / file, layout) as shard:
            for name, part in layout.items():
                copy_tensor(shard, name, master_reader if name in order.master.tensors else reader, part)
    write_index(order.output_dir, order.master, files)


def _check_saved(expected: dict[str, StoredPart], order: QuantizationOrder, saved: CheckpointInfo) -> None:
    wrong = set()
    for name, part in expected.items():
        tensor = saved.tensors.get(name)
        if target_of(f"{name.rpartition('.')[0]}.weight", order.plan) is None or name in order.master.tensors:
            continue
        if tensor is None or (tensor.dtype, tensor.shape) != part:
            wrong.add(name.rpartition(".")[0])
    if wrong:
        raise InvalidInput(
            f"GPTQModel does not quantize {names_in_words(wrong)} of a {order.master.config.get('model_type')} model; add them to ignore, "
            "or take method gptq"
        )


def _quantization_config(saved: dict[str, Any], plan: QuantizationPlan, master: CheckpointInfo) -> dict[str, Any]:
    meta = saved.get("meta") or {}
    return {name: value for name, value in saved.items() if name not in {"meta", "dynamic"}} | {
        "lm_head": any(name in plan.targets for name in family_of(master.config).output_layers),
        "dynamic": _exceptions(plan),
        "meta": {name: meta[name] for name in KEPT_SETTINGS if name in meta},
    }
