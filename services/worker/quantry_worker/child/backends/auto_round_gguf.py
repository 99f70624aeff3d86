"""GGUF for llama.cpp, by auto-round's exporter, rounded to nearest: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

The scheme is chosen before quantizing. Asked for GGUF after an integer scheme, auto-round 0.15.1 writes safetensors
again and says nothing; so what it wrote is read before it is believed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from auto_round import AutoRound
from auto_round.export.export_to_gguf.llama_cpp_conversion import ConversionContext, get_conversion
from transformers import AutoTokenizer, set_seed

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.errors import InvalidInput
from quantry_core.gguf import GgufError, GgufInfo, read_gguf
from quantry_core.methods import Method
from quantry_worker.child.backends.auto_round_progress import layers_told
from quantry_worker.child.backends.auto_round_vocabulary import known_pre_tokenizer
from quantry_worker.child.backends.gguf_schemes import check_exported
from quantry_worker.child.backends.master_model import load_master
from quantry_worker.child.backends.shards import write_config
from quantry_worker.child.backends.table import QuantizationOrder, QuantizationReport
from quantry_worker.child.toolchain import toolchain

SHARE_LOADED, SHARE_EXPORTED = 0.1, 0.95


def export_gguf(order: QuantizationOrder) -> QuantizationReport:
    """Writes one .gguf file, named after the scheme, and the master's config.json into the order's output folder.

    Raises InvalidInput for a model or a tokenizer that llama.cpp does not know.
    """
    scheme = order.plan.scheme
    torch.set_num_threads(order.num_threads)
    set_seed(order.seed)
    with tempfile.TemporaryDirectory(dir=order.output_dir) as scratch:
        # The exporter calls the model after its folder.
        master_dir = Path(scratch) / str(order.master.config["model_type"])
        master_dir.symlink_to(order.master_dir.resolve(), target_is_directory=True)
        conversion = _conversion(master_dir)
        model = load_master(master_dir, torch.float32)
        order.on_progress(SHARE_LOADED, "loaded")
        exporter = AutoRound(
            model,
            AutoTokenizer.from_pretrained(master_dir, local_files_only=True, trust_remote_code=False),
            scheme=f"gguf:{scheme.lower()}",
            iters=0,
            disable_opt_rtn=True,
            seed=order.seed,
            device_map="cpu",
            amp=False,
            enable_torch_compile=False,
        )
        architecture = model.config.architectures[0]
        with _pre_tokenizers_known(conversion, architecture, master_dir), layers_told(order.on_progress, SHARE_LOADED, SHARE_EXPORTED):
            exporter.quantize_and_save(str(Path(scratch) / "exported"), format=f"gguf:{scheme.lower()}")
        order.on_progress(SHARE_EXPORTED, "checking")
        target = order.output_dir / f"model-{scheme}.gguf"
        shutil.move(_only_file(Path(scratch) / "exported"), target)
    write_config(order.output_dir, order.master, None)
    info = _read(target)
    check_exported(info, scheme, order.master)
    return QuantizationReport(
        toolchain=toolchain("torch", "transformers", "auto-round", "gguf"),
        settings={"compute_dtype": "float32", "rounding": "to nearest", "num_threads": order.num_threads},
        metrics={"num_tensors_by_type": info.num_by_type(), "gguf_bytes": target.stat().st_size},
    )


def _conversion(master_dir: Path) -> ConversionContext:
    try:
        return get_conversion(master_dir)
    except NotImplementedError as error:
        words = f"auto-round's copy of llama.cpp's converter does not know this model; take {Method.GPTQMODEL} or {Method.BITSANDBYTES}"
        raise InvalidInput(words) from error


@contextmanager
def _pre_tokenizers_known(conversion: ConversionContext, architecture: str, master_dir: Path) -> Iterator[None]:
    """Within it the converter knows the pre-tokenizers of vocabularies that were trained after it was written too."""
    model_class = conversion.get_model_class(architecture)
    by_sample = model_class.get_vocab_base_pre

    def by_sample_or_definition(self: Any, tokenizer: Any) -> str:
        try:
            return str(by_sample(self, tokenizer))
        except NotImplementedError:
            known = known_pre_tokenizer(master_dir)
            if known is None:
                raise InvalidInput("llama.cpp has no pre-tokenizer that splits text as this model's tokenizer does") from None
            return known

    model_class.get_vocab_base_pre = by_sample_or_definition
    try:
        yield
    finally:
        model_class.get_vocab_base_pre = by_sample


def _only_file(directory: Path) -> Path:
    written = sorted(path for path in directory.rglob("*") if path.is_file())
    if [path.suffix for path in written] != [".gguf"]:
        names = ", ".join(path.name for path in written) or "nothing"
        raise RuntimeError(f"auto-round was asked for one GGUF file and wrote {names}")
    return written[0]


def _read(path: Path) -> GgufInfo:
    try:
        return read_gguf(DirectoryCheckpoint(path.parent), path.name)
    except GgufError as error:
        raise RuntimeError(f"auto-round wrote a GGUF file that cannot be read: {error}") from error
