"""Which layer a module belongs to, and how many layers are done when modules are done one by one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from quantry_worker.child.reporter import Units

_LAYER = re.compile(r".*?\.\d+(?=\.|$)")


def layer_of(module: str) -> str:
    """Returns a module's layer: its name up to its first number, else all of it."""
    return (_LAYER.match(module) or [module])[0]


class LayerCount:
    """The layers of the modules of a job. Each module is looked at once, however many there are."""

    def __init__(self, modules: Iterable[str]) -> None:
        self._num_undone = Counter(layer_of(module) for module in modules)
        """Modules that are still to be done, by layer; a layer that is done is not in it."""
        self._total = len(self._num_undone)

    def finish(self, modules: Iterable[str]) -> Units:
        """Takes note of modules that are done now, and returns how many layers are done with all of theirs."""
        for layer in map(layer_of, modules):
            self._num_undone[layer] -= 1
            if not self._num_undone[layer]:
                del self._num_undone[layer]
        return Units(self._total - len(self._num_undone), self._total, "layers")
