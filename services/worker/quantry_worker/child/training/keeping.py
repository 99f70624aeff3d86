"""The best weights and the checkpoints of a run. A checkpoint's folder holds

- the trainer's own files: what is trained (an adapter, or all weights, as safetensors), optimizer, scheduler and random number
  generators (pickles of torch, made and read by jobs alone), and ``trainer_state.json`` with step and curve; by fsdp what is trained
  lies there once more, as ``pytorch_model_fsdp.bin``, a pickle: resuming reads it, and of an adapter both;
- ``best.safetensors``: what is trained as it was at the best measurement, where there was one;
- ``run.json``: what this module knows.

It is written as ``checkpoint-<n>`` and called ``step-<n>`` when it is complete.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback

from quantry_core.adapters import CONFIG_PATH
from quantry_worker.child.reporter import Reporter
from quantry_worker.child.training.curve import finite, values_of
from quantry_worker.child.training.watching import Watch
from quantry_worker.child.training.weights import write_trained

RUN_FILE = "run.json"
BEST_FILE = "best.safetensors"
NOT_KEPT = ("README.md", "training_args.bin")
"""A card that says nothing, and arguments as a pickle: they are made from the spec again."""
FILE_MODE = 0o644


@dataclass
class RunState:
    """What a run must know of itself to go on."""

    best_step: int | None = None
    best_value: float | None = None
    num_worse: int = 0
    """Measurements since the best."""
    seconds: float = 0.0
    is_finished: bool = False
    checkpoint_step: int | None = None

    @classmethod
    def read(cls, folder: Path) -> RunState:
        """Returns that of a checkpoint."""
        return cls(**json.loads((folder / RUN_FILE).read_text(encoding="utf-8")))


class Keeper(TrainerCallback):
    """Keeps the best weights, ends a run that no longer gets better, and completes checkpoints."""

    def __init__(
        self, reporter: Reporter, run: RunState, directory: Path, base_ref: str, *, watch: Watch, metric: str, patience: int | None
    ) -> None:
        """``metric`` is what a trainer logs of a measurement: a loss is best low, a reward high."""
        self.run = run
        self._watch = watch
        self._reporter = reporter
        self._directory = directory
        self._base_ref = base_ref
        self._metric = metric
        self._patience = patience

    @property
    def best_path(self) -> Path:
        return self._directory / BEST_FILE

    def on_evaluate(self, _args: Any, state: Any, control: Any, metrics: dict[str, float], **given: Any) -> None:
        value = metrics[self._metric]
        if self.run.best_value is None or self._is_better(value, self.run.best_value):
            self.run.best_step, self.run.best_value, self.run.num_worse = state.global_step, value, 0
            write_trained(given["model"], self.best_path)
            return
        self.run.num_worse += 1
        if self._patience is not None and self.run.num_worse >= self._patience and not control.should_training_stop:
            control.should_training_stop = control.should_save = True

    def on_save(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        # Each process writes the state of its own random numbers.
        PartialState().wait_for_everyone()
        self.run.is_finished = control.should_training_stop
        self.run.checkpoint_step = state.global_step
        self.run.seconds = self._watch.seconds
        if not state.is_world_process_zero:
            return
        name = f"step-{state.global_step}"
        self._complete(self._directory / f"checkpoint-{state.global_step}").rename(self._directory / name)
        logged: dict[str, Any] = next((logs for logs in reversed(state.log_history) if "loss" in logs), {})
        self._reporter.checkpoint(state.global_step, name, finite(values_of(logged)))

    def _complete(self, folder: Path) -> Path:
        for unwanted in NOT_KEPT:
            (folder / unwanted).unlink(missing_ok=True)
        config = folder / CONFIG_PATH
        if config.exists():
            settings = json.loads(config.read_text(encoding="utf-8")) | {"base_model_name_or_path": self._base_ref}
            config.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        if self.best_path.exists():
            os.link(self.best_path, folder / BEST_FILE)
        (folder / RUN_FILE).write_text(json.dumps(asdict(self.run)) + "\n", encoding="utf-8")
        for path in folder.rglob("*"):
            if path.is_file():
                path.chmod(FILE_MODE)
        return folder

    def _is_better(self, value: float, than: float) -> bool:
        return value < than if self._metric.endswith("loss") else value > than
