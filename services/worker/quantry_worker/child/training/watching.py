"""What a trainer tells while it works: events of each step, and the stop where numbers are no longer finite."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import TrainerCallback

from quantry_worker.child.failures import Diverged
from quantry_worker.child.reporter import Reporter, Units
from quantry_worker.child.training.curve import finite, is_sent, values_of

MUST_BE_FINITE = ("loss", "grad_norm", "eval_loss")


class Watch(TrainerCallback):
    """Sends each step's numbers and the progress, and stops a run that has diverged."""

    def __init__(
        self, reporter: Reporter, seen_tokens: Callable[[Any], float], last_checkpoint: Callable[[], int | None], *, seconds: float
    ) -> None:
        """``seen_tokens`` are those of all steps up to a trainer's state; ``last_checkpoint`` says of which step the last one is;
        ``seconds`` were spent before this attempt."""
        self.seen_tokens = seen_tokens
        self._before_s = seconds
        self._measuring_s = 0.0
        self._training_since: float | None = None
        self._reporter = reporter
        self._last_checkpoint = last_checkpoint
        self._began_at = 0.0
        self._step_s = 0.0
        self._tokens_before = 0.0
        self._step_tokens = 0.0

    @property
    def seconds(self) -> float:
        """Spent training, checkpoints and all between two steps included: only measurements do not count."""
        since = self._training_since
        return self._before_s if since is None else self._before_s + time.monotonic() - since - self._measuring_s

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._training_since, self._measuring_s = time.monotonic(), 0.0

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._before_s, self._training_since = self.seconds, None

    def on_evaluate(self, _args: Any, _state: Any, _control: Any, metrics: Mapping[str, float], **_: Any) -> None:
        self._measuring_s += metrics.get("eval_runtime", 0.0)

    def on_step_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self._began_at, self._tokens_before = time.monotonic(), self.seen_tokens(state)

    def on_step_end(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        # What a GPU was told to do is done when it has been waited for.
        if args.device.type == "cuda":
            torch.cuda.synchronize(args.device)
        self._step_s = time.monotonic() - self._began_at
        self._step_tokens = self.seen_tokens(state) - self._tokens_before
        if state.is_world_process_zero:
            share = state.global_step / state.max_steps
            self._reporter.progress("training", share, "", Units(state.global_step, state.max_steps, "steps"))

    def on_log(self, _args: Any, state: Any, _control: Any, logs: Mapping[str, Any], **_: Any) -> None:
        values = values_of(logs)
        if "loss" in values:
            values["tokens_per_s"] = state.log_history[-1]["tokens_per_s"] = self._step_tokens / max(self._step_s, 1e-9)
        elif "eval_loss" not in values:
            # The trainer's own summary at the end.
            return
        self._check(values, state.global_step)
        if state.is_world_process_zero and ("loss" not in values or is_sent(state.global_step, state.max_steps)):
            self._reporter.metrics(state.global_step, finite(values))

    def _check(self, values: Mapping[str, float], step: int) -> None:
        for name in MUST_BE_FINITE:
            value = values.get(name, 0.0)
            if math.isfinite(value):
                continue
            last = self._last_checkpoint()
            kept = "there is no checkpoint yet" if last is None else f"the last good checkpoint is of step {last}"
            raise Diverged(f"the {_WORDS[name]} became {value} at step {step}; {kept}; try a lower learning_rate or a longer warm-up")


_WORDS = {"loss": "loss", "grad_norm": "gradient", "eval_loss": "loss on what was held out"}
