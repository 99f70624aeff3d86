"""One process of a training, from the task to its result: load, learn, measure, save.

A job of one process calls ``train`` as it is. Of several, each calls it, with the arguments that make its trainer share the work;
the first alone speaks and writes, and its result is the job's.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PrinterCallback, set_seed

from quantry_core.errors import InvalidInput
from quantry_core.families import context_tokens
from quantry_core.jobs import InputRole
from quantry_core.jobs.specs.finetune import FinetuneSpec
from quantry_core.methods import Format
from quantry_core.training import CORPUS_WINDOW_TOKENS, CORPUS_WINDOWS, LOSS_METHODS, REWARD_METHODS
from quantry_core.training.bases import not_trainable
from quantry_core.versions import EvidenceDraft, VersionKind
from quantry_worker.child.evaluation.corpora import Corpus, read_corpora
from quantry_worker.child.inputs import inputs_of, only_input
from quantry_worker.child.numerics.model import read_config
from quantry_worker.child.numerics.text import check_length
from quantry_worker.child.numerics.tokenizer import load_tokenizer
from quantry_worker.child.reporter import Reporter
from quantry_worker.child.toolchain import toolchain
from quantry_worker.child.training.adapters import attach, num_trained, save_adapter
from quantry_worker.child.training.arguments import common_arguments
from quantry_worker.child.training.bases import CPU, Base, load_base
from quantry_worker.child.training.counted import counted, counted_text
from quantry_worker.child.training.curve import write_curve
from quantry_worker.child.training.epochs import Epochs
from quantry_worker.child.training.evidence import Float32Model, corpus_evidence, held_out_evidence, training_evidence
from quantry_worker.child.training.full import save_full
from quantry_worker.child.training.held_out import Data, read_data
from quantry_worker.child.training.keeping import BEST_FILE, Keeper, RunState
from quantry_worker.child.training.measuring import end_steps, score_held_out, trained_model
from quantry_worker.child.training.order import Counts, HeldOutScores, TrainingOrder
from quantry_worker.child.training.table import Method, load_method
from quantry_worker.child.training.watching import Watch
from quantry_worker.child.training.weights import NOWHERE, restore_weights, unshard
from quantry_worker.protocol import ChildInput, ChildResult, ChildTask, ChildVersion

LOADING, BEFORE, TRAINING, AFTER = 0.02, 0.05, 0.08, 0.85
"""Share of the work at which each phase begins."""


@dataclass
class Training:
    """A training under way."""

    task: ChildTask
    spec: FinetuneSpec
    base_input: ChildInput
    data: Data
    corpora: list[Corpus]
    base: Base
    order: TrainingOrder
    method: Method
    trainer: Any
    keeper: Keeper
    watch: Watch
    checkpoint: Path | None
    history: list[dict[str, Any]] = field(default_factory=list)


def train(task: ChildTask, reporter: Reporter, arguments: Mapping[str, Any] | None = None) -> ChildResult:
    """Returns the adapter or the weights that were trained, with what changed by it as evidence.

    ``arguments`` are fields of TrainingArguments that go before the common ones: how several processes share the work.
    Raises InvalidInput for what cannot be learned or from, Diverged for a loss or a gradient that is not finite.
    """
    if not isinstance(task.spec, FinetuneSpec):
        raise TypeError(f"the finetune recipe got a {task.spec.type} job")
    torch.set_num_threads(task.num_threads)
    job = _prepare(task, task.spec, reporter, arguments or {})
    reporter.note(counted_text(job.order))
    reporter.progress("measuring the base", BEFORE)
    before = score_held_out(job.method, job.order, job.trainer)
    _learn(job)
    reporter.progress("measuring what was learned", AFTER)
    end_steps(job.trainer)
    after = score_held_out(job.method, job.order, job.trainer)
    model = trained_model(job.trainer)
    evidence = [*_evidence(job, model, before, after)]
    unshard(model, CPU if job.trainer.is_world_process_zero() else NOWHERE)
    if not job.trainer.is_world_process_zero():
        return ChildResult()
    reporter.progress("saving", 0.99)
    write_curve(task.artifacts_dir, job.history)
    return ChildResult(version=_save(job, model), evidence=evidence, metrics=_metrics(job, evidence))


def _prepare(task: ChildTask, spec: FinetuneSpec, reporter: Reporter, arguments: Mapping[str, Any]) -> Training:
    base_input = only_input(task, InputRole.BASE)
    reporter.progress("checking", 0.0, base_input.ref)
    check_base(base_input, spec)
    tokenizer = padded(load_tokenizer(base_input.path))
    data, corpora = _texts(task, spec, base_input)
    reporter.progress("loading", LOADING, base_input.ref)
    set_seed(spec.seed)
    base = load_base(base_input, spec)
    model = base.model if spec.adapter is None else attach(base.model, spec.adapter)
    checkpoint = next((one.path for one in inputs_of(task, InputRole.CHECKPOINT)), None)
    run = RunState() if checkpoint is None else RunState.read(checkpoint)
    if checkpoint is not None and (checkpoint / BEST_FILE).exists() and PartialState().is_main_process:
        shutil.copyfile(checkpoint / BEST_FILE, task.checkpoints_dir / BEST_FILE)
    counts = Counts()
    watch = Watch(reporter.part(TRAINING, AFTER), seen_tokens(spec, counts), lambda: run.checkpoint_step, seconds=run.seconds)
    keeper = Keeper(
        reporter,
        run,
        task.checkpoints_dir,
        base_input.ref,
        watch=watch,
        metric="eval_reward" if spec.method.type in REWARD_METHODS else "eval_loss",
        patience=spec.validation.early_stopping_patience,
    )
    measured = data.validation[: spec.validation.max_rows]
    order = TrainingOrder(
        spec=spec,
        model=model,
        tokenizer=tokenizer,
        train=[row for _, row in data.train],
        validation=[row for _, row in measured],
        arguments=common_arguments(spec, base, task.checkpoints_dir) | dict(arguments),
        callbacks=[watch, keeper, Epochs()],
        seed=spec.seed,
        dataset_refs=(data.train_ref, data.validation_ref),
        row_numbers=([number for number, _ in data.train], [number for number, _ in measured]),
        counts=counts,
    )
    method = load_method(spec.method.type)
    trainer = method.build(order)
    # It prints every log; ours go where they are asked for.
    trainer.remove_callback(PrinterCallback)
    if spec.validation.every_steps is None:
        num_batches = len(trainer.get_train_dataloader())
        trainer.args.eval_steps = max(1, math.ceil(num_batches / spec.hyperparameters.accumulation_steps))
    return Training(task, spec, base_input, data, corpora, base, order, method, trainer, keeper, watch, checkpoint)


def seen_tokens(spec: FinetuneSpec, counts: Counts) -> Callable[[Any], float]:
    """Returns what tells how many tokens were trained on up to a trainer's state.

    Of answers that are generated the trainer counts prompts and answers, and keeps the count in its checkpoints.
    """
    if spec.method.type in REWARD_METHODS:
        return lambda state: float(state.num_input_tokens_seen)
    return lambda state: counts.num_tokens * (state.epoch or 0.0)


def _texts(task: ChildTask, spec: FinetuneSpec, base: ChildInput) -> tuple[Data, list[Corpus]]:
    """Returns what is learned from and measured on, and the texts that are to be left alone."""
    validation = next(iter(inputs_of(task, InputRole.VALIDATION)), None)
    data = read_data(
        only_input(task, InputRole.TRAINING),
        validation,
        method=spec.method.type,
        share=spec.validation.share,
        seed=spec.seed,
        sequence_tokens=spec.hyperparameters.sequence_tokens,
    )
    corpora = read_corpora(
        [base.path],
        inputs_of(task, InputRole.CORPUS),
        window_tokens=min(CORPUS_WINDOW_TOKENS, context_tokens(read_config(base.path)) or CORPUS_WINDOW_TOKENS),
        stride_tokens=None,
        max_windows=CORPUS_WINDOWS,
    )
    return data, corpora


def check_base(base: ChildInput, spec: FinetuneSpec) -> None:
    """Raises InvalidInput if the version cannot be trained as the spec says, or its context is shorter than a sequence."""
    recipe = base.recipe or {}
    reason = not_trainable(base.kind or VersionKind.MASTER, base.format or Format.SAFETENSORS, recipe.get("scheme"), spec, recipe)
    if reason is not None:
        raise InvalidInput(f"{base.ref} cannot be trained on: {reason}")
    check_length(spec.hyperparameters.sequence_tokens, read_config(base.path), field="sequence_tokens")


def padded(tokenizer: Any) -> Any:
    """Returns the tokenizer with a pad token, its end of sequence where it has none; raises InvalidInput if it has neither."""
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise InvalidInput("the model's tokenizer has neither a pad token nor an end-of-sequence token: sequences cannot be padded")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _learn(job: Training) -> None:
    """Trains to the end, from a checkpoint where there is one, and puts back the best weights."""
    trainer, run = job.trainer, job.keeper.run
    set_seed(job.spec.seed)
    if job.checkpoint is not None and run.is_finished:
        trainer.state = type(trainer.state).load_from_json(str(job.checkpoint / "trainer_state.json"))
    else:
        trainer.train(resume_from_checkpoint=None if job.checkpoint is None else str(job.checkpoint))
    job.history = trainer.state.log_history
    # The first process may be writing the best weights yet.
    PartialState().wait_for_everyone()
    if job.keeper.best_path.exists():
        restore_weights(trainer.model, job.keeper.best_path)


def _evidence(job: Training, model: Any, before: HeldOutScores, after: HeldOutScores) -> list[EvidenceDraft]:
    spec = job.spec
    is_log_loss = spec.method.type in LOSS_METHODS
    evidence = [held_out_evidence(before, after, seed=spec.seed, is_log_loss=is_log_loss)]
    if job.corpora:
        # Of a full training the base is no longer in memory: it comes where the optimizer was.
        theirs = Float32Model(model, is_before=True) if spec.adapter is not None else Float32Model(_base_again(job), is_before=False)
        ours = Float32Model(model, is_before=False)
        with job.trainer.accelerator.autocast():
            evidence += corpus_evidence(ours, theirs, job.corpora, seed=spec.seed, ref=job.base_input.ref)
    against = {"against": job.base_input.ref, "against_version_id": job.base_input.id}
    compared = [one.model_copy(update={"metrics": one.metrics | against}) for one in evidence]
    return [*compared, training_evidence(_facts(job))]


def _base_again(job: Training) -> Any:
    return load_base(job.base_input, job.spec).model.requires_grad_(False).eval()


def _facts(job: Training) -> dict[str, Any]:
    state, run = job.trainer.state, job.keeper.run
    num_tokens = round(job.watch.seen_tokens(state))
    return counted(job.order) | {
        "num_steps": state.global_step,
        "num_epochs": state.epoch,
        "num_trained_tokens": num_tokens,
        "train_s": job.watch.seconds,
        "tokens_per_s": num_tokens / max(job.watch.seconds, 1e-9),
        "best_step": run.best_step,
        "stopped_early": state.global_step < state.max_steps,
        "held_out_share": job.data.held_out_share,
        "num_trained_parameters": num_trained(job.trainer.model),
    }


def _metrics(job: Training, evidence: list[EvidenceDraft]) -> dict[str, Any]:
    found = {one.name: one.metrics for one in evidence}
    return {
        **found["training"],
        "validation": found["validation"],
        "corpora": {corpus.ref: found[corpus.ref] for corpus in job.corpora},
    }


def _save(job: Training, model: Any) -> ChildVersion:
    spec, adapter = job.spec, job.spec.adapter
    recipe = spec.model_dump(mode="json") | {"settings": job.base.settings, "training": _facts(job)}
    recipe["hyperparameters"]["learning_rate"] = spec.learning_rate
    if adapter is None:
        dtype = save_full(model, job.base_input.path, job.task.output_dir)
        return ChildVersion(
            kind=VersionKind.MERGED, format=Format.SAFETENSORS, dtype=dtype, recipe=recipe, toolchain=_toolchain(job, "trl", "accelerate")
        )
    save_adapter(model, job.task.output_dir, job.base_input.ref)
    return ChildVersion(kind=VersionKind.ADAPTER, format=Format.PEFT, recipe=recipe, toolchain=_toolchain(job, "peft", "trl", "accelerate"))


def _toolchain(job: Training, *distributions: str) -> dict[str, str]:
    return toolchain("torch", "transformers", *distributions, *job.base.libraries)
