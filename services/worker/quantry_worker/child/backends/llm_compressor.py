"""GPTQ by llm-compressor: Frantar et al. 2022, arXiv:2210.17323. Writes compressed-tensors, format pack-quantized.

The model computes in float32 while it is calibrated: on CPUs that is several times faster than half precision, and the
Hessians are better for it. Afterwards every tensor goes back to the dtype it had in the master.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from llmcompressor import oneshot
from llmcompressor.core.events import EventType
from llmcompressor.modifiers import Modifier
from llmcompressor.modifiers.gptq import GPTQModifier
from pydantic import Field, PrivateAttr
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, set_seed
from typing_extensions import override

from quantry_core.checkpoints import CheckpointInfo, check_master
from quantry_core.errors import InvalidInput
from quantry_core.linears import is_named
from quantry_worker.child.backends.table import BackendProgress, QuantizationOrder, QuantizationReport
from quantry_worker.child.numerics.text import Tokens
from quantry_worker.child.plan import QuantizationPlan, names_in_words
from quantry_worker.child.reporter import Units
from quantry_worker.child.toolchain import toolchain

ACTIVATION_ORDER = "static"
"""Columns are rounded by falling activation while groups keep their place: no g_idx is stored, which vLLM on CPU would refuse."""
BATCH_TOKENS = 2048
SHARE_LOADED, SHARE_QUANTIZED = 0.05, 0.95
TORCH_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
OWN_RECIPE_FILE = "recipe.yaml"
"""llm-compressor's account of its own settings. The version's recipe is ours."""
_LAYER = re.compile(r".*?\.\d+(?=\.|$)")


def quantize(order: QuantizationOrder) -> QuantizationReport:
    """Writes the quantized weights and config.json into the order's output folder.

    Raises InvalidInput if the model, once loaded, has other Linear modules than its headers let expect.
    """
    torch.set_num_threads(order.num_threads)
    set_seed(order.seed)
    model = AutoModelForCausalLM.from_pretrained(
        order.master_dir, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    _check_modules(model, order.plan)
    order.on_progress(SHARE_LOADED, "loaded")
    gptq = _gptq(order.plan)
    watch = LayerWatch.calling(gptq, layers_of(model, order.plan), order.on_progress)
    oneshot(model=model, recipe=[gptq, watch], dataset=_calibration_batches(order.windows), pipeline="sequential")
    order.on_progress(SHARE_QUANTIZED, "saving")
    _restore_dtypes(model, order.master)
    _save(model, order)
    return QuantizationReport(
        toolchain=toolchain("torch", "transformers", "llmcompressor", "compressed-tensors"),
        settings={"activation_order": ACTIVATION_ORDER, "compute_dtype": "float32", "num_threads": order.num_threads},
        metrics={"num_round_to_nearest": len(watch.round_to_nearest)},
        notes=_notes(watch.round_to_nearest),
    )


class LayerWatch(Modifier):
    """A modifier that modifies nothing: llm-compressor tells it whenever one more layer is quantized.

    It stands after GPTQ in the list of modifiers, so GPTQ has done its part when this one hears of it.
    """

    round_to_nearest: list[str] = Field(default_factory=list)
    """Modules whose Hessian could not be inverted, so that GPTQ rounded them without compensation."""
    _gptq: Any = PrivateAttr(default=None)
    _layers: dict[int, str] = PrivateAttr(default_factory=dict)
    _done: set[int] = PrivateAttr(default_factory=set)
    _on_progress: BackendProgress = PrivateAttr()

    @classmethod
    def calling(cls, gptq: Any, layers: dict[int, str], on_progress: BackendProgress) -> LayerWatch:
        """Returns a watch over the modules in ``layers``: the layer's name by the module's id()."""
        watch = cls()
        watch._gptq, watch._layers, watch._on_progress = gptq, layers, on_progress
        return watch

    @override
    def on_initialize(self, state: Any, **kwargs: Any) -> bool:
        return True

    @override
    def on_event(self, state: Any, event: Any, **kwargs: Any) -> None:
        if event.type_ is EventType.SEQUENTIAL_EPOCH_END:
            finished = [id(module) for module in kwargs["modules"] if id(module) in self._layers]
            self._done.update(finished)
            self._tell(self._layers[finished[-1]] if finished else "")
        elif event.type_ is EventType.CALIBRATION_END:
            # To be read now: GPTQ forgets it when it is finalized, and says it in a log line only.
            self.round_to_nearest = list(self._gptq._rtn_fallback_module_names)

    def _tell(self, layer: str) -> None:
        layers = set(self._layers.values())
        undone = {layer for module, layer in self._layers.items() if module not in self._done}
        num_done = len(layers) - len(undone)
        share = SHARE_LOADED + (SHARE_QUANTIZED - SHARE_LOADED) * len(self._done) / len(self._layers)
        self._on_progress(share, layer, Units(num_done, len(layers), "layers"))


def layers_of(model: Any, plan: QuantizationPlan) -> dict[int, str]:
    """Returns the layer of every module that is quantized, by the module's id(): its name up to its first number, else all of it."""
    targets = set(plan.targets)
    return {id(module): (_LAYER.match(name) or [name])[0] for name, module in model.named_modules() if name in targets}


def _gptq(plan: QuantizationPlan) -> Any:
    weights = QuantizationArgs(num_bits=plan.bits, type="int", symmetric=True, strategy="group", group_size=plan.group_size)
    return GPTQModifier(
        config_groups={"group_0": QuantizationScheme(targets=["Linear"], weights=weights)},
        ignore=list(plan.ignore),
        dampening_frac=plan.damping,
        actorder=ACTIVATION_ORDER,
    )


def _calibration_batches(windows: Tokens) -> DataLoader[dict[str, torch.Tensor]]:
    # windows has the shape [num_samples, length_tokens].
    samples = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in torch.from_numpy(windows)]
    return DataLoader(samples, batch_size=max(1, BATCH_TOKENS // windows.shape[1]))


def _check_modules(model: Any, plan: QuantizationPlan) -> None:
    linears = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and not is_named(name, plan.ignore)}
    unexpected = linears ^ set(plan.targets)
    if unexpected:
        raise InvalidInput(
            f"a {model.config.model_type} model keeps its weights in another form than its file says, at {names_in_words(unexpected)}: "
            "this method quantizes plain Linear modules; ignore these"
        )


def _restore_dtypes(model: Any, master: CheckpointInfo) -> None:
    """Casts every tensor to its dtype in the master; what is new (the scales) to the dtype of the weights."""
    weights_dtype = getattr(torch, check_master(master))
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point():
            known = master.tensors.get(name)
            parameter.data = parameter.data.to(weights_dtype if known is None else TORCH_DTYPES[known.dtype])
    model.config.dtype = weights_dtype


def _save(model: Any, order: QuantizationOrder) -> None:
    model.save_pretrained(order.output_dir, save_compressed=True)
    (order.output_dir / OWN_RECIPE_FILE).unlink(missing_ok=True)
    _restore_config(order.output_dir / "config.json", order.master.config)


def _restore_config(path: Path, master_config: dict[str, Any]) -> None:
    """Leaves the master's own config.json with quantization_config added: transformers rewrites it in its own version's words."""
    saved = json.loads(path.read_text(encoding="utf-8"))
    config = master_config | {"quantization_config": saved["quantization_config"]}
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _notes(round_to_nearest: list[str]) -> list[str]:
    if not round_to_nearest:
        return []
    return [
        f"{len(round_to_nearest)} modules were rounded to nearest because their Hessian could not be inverted: "
        f"{names_in_words(round_to_nearest)}; more damping or more calibration text helps"
    ]
