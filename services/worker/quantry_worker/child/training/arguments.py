"""The arguments that every trainer of TRL shares, from a spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quantry_core.jobs.specs.finetune import FinetuneSpec
from quantry_core.training import Schedule
from quantry_worker.child.training.bases import Base

SCHEDULES: dict[Schedule, str] = {
    Schedule.LINEAR: "linear",
    Schedule.COSINE: "cosine",
    Schedule.CONSTANT: "constant_with_warmup",
}


def common_arguments(spec: FinetuneSpec, base: Base, checkpoints_dir: Path) -> dict[str, Any]:
    """Returns fields of transformers' TrainingArguments.

    Every step is logged, as it is: a loss that is not finite must not be averaged away. Measurements and checkpoints go by
    steps, never by epochs: a run that goes on from a checkpoint then does what an undisturbed one does.
    """
    asked = spec.hyperparameters
    return {
        "output_dir": str(checkpoints_dir),
        "num_train_epochs": asked.n_epochs,
        "max_steps": asked.max_steps or -1,
        "per_device_train_batch_size": asked.batch_size,
        "per_device_eval_batch_size": asked.batch_size,
        "gradient_accumulation_steps": asked.accumulation_steps,
        "learning_rate": spec.learning_rate,
        "lr_scheduler_type": SCHEDULES[asked.schedule],
        "warmup_steps": asked.warmup_ratio,
        "weight_decay": asked.weight_decay,
        "max_grad_norm": asked.max_grad_norm,
        "gradient_checkpointing": asked.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if asked.gradient_checkpointing else None,
        "seed": spec.seed,
        "data_seed": spec.seed,
        "use_cpu": base.device.type == "cpu",
        "bf16": base.settings["compute_dtype"] == "bfloat16",
        "dataloader_pin_memory": base.device.type != "cpu",
        "remove_unused_columns": False,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps",
        # Once an epoch where none is given: how many steps that is, is known when there are samples.
        "eval_steps": spec.validation.every_steps or 1,
        "save_strategy": "steps",
        "save_steps": spec.checkpoint_every_steps,
        "report_to": "none",
        "disable_tqdm": True,
    }
