"""Loads a checkpoint of any format for evaluation with transformers, computing in float32 on the CPU.

Weights are what the checkpoint stores, dequantized. What an engine rounds while it runs is rounded here too where a library
can: compressed-tensors rounds activations (W8A8, W4A8, FP8, NVFP4, MXFP4) and an fp8 KV cache as the checkpoint's config asks,
bitsandbytes' int8 rounds activations itself. Formats without such rounding (gptq, GGUF, nf4) have none to leave out.

The gptq layout is loaded by GPTQModel in its own environment, where it is made and gated. Elsewhere, as where an imported
checkpoint is evaluated, our own reader dequantizes it: transformers loads this layout with GPTQModel alone.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, CompressedTensorsConfig
from transformers.integrations import eetq

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import CheckpointInfo, inspect_checkpoint, read_json
from quantry_core.errors import InvalidInput
from quantry_core.families import family_of
from quantry_core.layouts import WORD_BITS
from quantry_core.linears import Shape
from quantry_core.methods import Format
from quantry_worker.child.eetq_library import eetq_device
from quantry_worker.child.formats.gptq import open_gptq
from quantry_worker.child.gptqmodel_library import has_gptqmodel, import_gptqmodel
from quantry_worker.child.numerics.dequantized import dequantized_tensors, model_of
from quantry_worker.child.numerics.tensors import TensorReader

OFFLINE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
GGUF_SUFFIX = ".gguf"
OTHER_FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float64})


def load_model(directory: Path) -> Any:
    """Returns the causal language model in evaluation mode; raises InvalidInput for a format that nothing here reads."""
    model = _LOADERS[format_of(directory)](directory)
    # Some loaders leave a dtype of the checkpoint's or of their own, whatever is asked for: FP4 weights come as bfloat16.
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        if tensor.dtype in OTHER_FLOATS:
            tensor.data = tensor.data.float()
    return model.eval()


def format_of(directory: Path) -> Format:
    """Returns how a checkpoint is stored, by what lies in its folder; raises InvalidInput for a format that nothing here reads."""
    if any(directory.glob(f"*{GGUF_SUFFIX}")):
        return Format.GGUF
    method = (read_config(directory).get("quantization_config") or {}).get("quant_method", Format.SAFETENSORS)
    if method not in _LOADERS:
        raise InvalidInput(f"checkpoints in format {method} cannot be evaluated here; those that can are: {', '.join(_LOADERS)}")
    return Format(method)


def vocabulary_size(model: Any) -> int:
    """Returns V, the width of the logits."""
    return int(model.get_output_embeddings().weight.shape[0])


def read_config(directory: Path) -> dict[str, Any]:
    """Returns config.json, or what a GGUF file says in its place; raises SourceRefused if there is neither."""
    checkpoint = DirectoryCheckpoint(directory)
    files = checkpoint.files()
    named = [name for name in sorted(files) if name.endswith(GGUF_SUFFIX)]
    if named and "config.json" not in files:
        config: dict[str, Any] = AutoConfig.from_pretrained(directory, gguf_file=named[0], **OFFLINE).to_dict()
        return config
    return read_json(checkpoint, files, "config.json")


def _load_plain(directory: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, use_safetensors=True, **OFFLINE)


def _load_compressed_tensors(directory: Path) -> Any:
    # Dequantized now, in place of at each first use. Activations and KV cache are rounded either way.
    settings = CompressedTensorsConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, use_safetensors=True, quantization_config=settings, **OFFLINE
    )


def _load_bitsandbytes(directory: Path) -> Any:
    # It says for every matrix product that float32 activations become float16 before they are rounded to int8.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    model = _load_plain(directory)
    for module in model.modules():
        if hasattr(module, "compute_dtype"):
            module.compute_dtype = torch.float32
    return model


def _load_gptq(directory: Path) -> Any:
    return _load_with_gptqmodel(directory) if has_gptqmodel() else _load_dequantized_gptq(directory)


def _load_with_gptqmodel(directory: Path) -> Any:
    """Returns the model as the layout's own library reads it, none of this package's code between."""
    library = import_gptqmodel(torch.get_num_threads())
    # The kernel that is plain torch takes 16-bit floats only, and the layout's scales are float16. What is not quantized is
    # rounded to that with them.
    loaded = library.GPTQModel.load(
        str(directory), device="cpu", backend=library.BACKEND.GPTQ_TORCH, dtype=torch.float16, trust_remote_code=False
    )
    model = loaded.model
    for module in model.modules():
        if isinstance(module, library.nn_modules.qlinear.torch.TorchLinear):
            # Compiled, this would want a C++ compiler and half a minute; once for each module is enough.
            del module.dequantize_weight
            module.enable_weight_cache()
    return model


def _load_dequantized_gptq(directory: Path) -> Any:
    checkpoint = DirectoryCheckpoint(directory)
    info = inspect_checkpoint(checkpoint)
    quantized = [name.removesuffix(".qweight") for name in info.tensors if name.endswith(".qweight")]
    bits = int(info.config["quantization_config"]["bits"])
    shapes = {name: _gptq_shape(info, name, bits) for name in quantized}
    stored = open_gptq(info, TensorReader(checkpoint, info), shapes)
    plain = {name for name in info.tensors if name.rpartition(".")[0] not in shapes or name.endswith(".bias")}
    config = AutoConfig.from_pretrained(directory, **OFFLINE)
    del config.quantization_config
    return model_of(config, dequantized_tensors(stored, plain, family_of(info.config).transposed))


def _gptq_shape(info: CheckpointInfo, name: str, bits: int) -> Shape:
    """Returns (out, in) of a module whose integers lie packed along the inputs, transposed."""
    words, rows = info.tensors[f"{name}.qweight"].shape
    return rows, words * WORD_BITS // bits


def _load_eetq(directory: Path) -> Any:
    """Returns the model with weights that EETQ's own kernel put back in order, on the GPU that it needs for it."""
    device = eetq_device()
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, use_safetensors=True, device_map={"": device}, **OFFLINE)
    for name, module in list(model.named_modules()):
        if isinstance(module, eetq.EetqLinear):
            model.set_submodule(name, _dequantized_eetq(module))
    return model.to("cpu")


def _dequantized_eetq(module: eetq.EetqLinear) -> torch.nn.Linear:
    in_features, out_features = module.weight.shape
    # What it makes of the unit vectors is its weight, [in, out]; it computes in float16 alone.
    units = torch.eye(in_features, dtype=torch.float16, device=module.weight.device)
    with torch.inference_mode():
        weight = eetq.EetqLinearMMFunction.apply(units, module.weight, module.weight_scales.half())
    linear = torch.nn.Linear(in_features, out_features, bias=module.bias is not None, device="meta")
    linear.weight = torch.nn.Parameter(weight.T.float().cpu().contiguous(), requires_grad=False)
    linear.bias = module.bias
    return linear


def _load_gguf(directory: Path) -> Any:
    (name,) = sorted(path.name for path in directory.glob(f"*{GGUF_SUFFIX}"))
    return AutoModelForCausalLM.from_pretrained(directory, gguf_file=name, dtype=torch.float32, **OFFLINE)


_LOADERS: dict[str, Callable[[Path], Any]] = {
    Format.SAFETENSORS: _load_plain,
    Format.COMPRESSED_TENSORS: _load_compressed_tensors,
    Format.BITSANDBYTES: _load_bitsandbytes,
    Format.GPTQ: _load_gptq,
    Format.GGUF: _load_gguf,
    Format.EETQ: _load_eetq,
}
