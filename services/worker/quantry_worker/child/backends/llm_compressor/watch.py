"""How far llm-compressor has come, layer by layer, and which modules GPTQ gave up on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llmcompressor.core.events import EventType
from llmcompressor.modifiers import Modifier
from llmcompressor.modifiers.gptq import GPTQModifier
from pydantic import Field, PrivateAttr
from typing_extensions import override

from quantry_worker.child.backends.layers import layer_of
from quantry_worker.child.backends.table import BackendProgress
from quantry_worker.child.plan import QuantizationPlan
from quantry_worker.child.reporter import Units

SHARE_LOADED, SHARE_QUANTIZED = 0.05, 0.95


class LayerWatch(Modifier):
    """A modifier that modifies nothing: llm-compressor tells it whenever one more layer is quantized.

    It stands last in the list of modifiers, so the others have done their part when this one hears of it.
    """

    round_to_nearest: list[str] = Field(default_factory=list)
    """Modules whose Hessian could not be inverted, so that GPTQ rounded them without compensation."""
    _gptq: GPTQModifier | None = PrivateAttr(default=None)
    _layers: dict[int, str] = PrivateAttr(default_factory=dict)
    _done: set[int] = PrivateAttr(default_factory=set)
    _on_progress: BackendProgress = PrivateAttr()

    @classmethod
    def calling(cls, modifiers: Iterable[Modifier], layers: dict[int, str], on_progress: BackendProgress) -> LayerWatch:
        """Returns a watch over the modules in ``layers``: the layer's name by the module's id()."""
        watch = cls()
        watch._gptq = next((one for one in modifiers if isinstance(one, GPTQModifier)), None)
        watch._layers, watch._on_progress = layers, on_progress
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
        elif event.type_ is EventType.CALIBRATION_END and self._gptq is not None:
            # To be read now: GPTQ forgets it when it is finalized, and says it in a log line only.
            self.round_to_nearest = list(self._gptq._rtn_fallback_module_names)

    def _tell(self, layer: str) -> None:
        layers = set(self._layers.values())
        undone = {layer for module, layer in self._layers.items() if module not in self._done}
        num_done = len(layers) - len(undone)
        share = SHARE_LOADED + (SHARE_QUANTIZED - SHARE_LOADED) * len(self._done) / max(1, len(self._layers))
        self._on_progress(share, layer, Units(num_done, len(layers), "layers"))


def layers_of(model: Any, plan: QuantizationPlan) -> dict[int, str]:
    """Returns the layer of every module that is quantized, by the module's id(); where none is, of every module that caches keys."""
    watched = set(plan.targets) or {name for name, _ in model.named_modules() if name.endswith((".self_attn", ".attention", ".attn"))}
    return {id(module): layer_of(name) for name, module in model.named_modules() if name in watched}
