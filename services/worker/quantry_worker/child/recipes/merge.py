"""Merges adapters into 16-bit weights; with ``measure`` it first tries the ways there are, and takes the best of them.

What can be refused is refused before a model is loaded. The job that follows quantizes what this one makes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import check_master, inspect_checkpoint
from quantry_core.errors import InvalidInput
from quantry_core.families import family_of
from quantry_core.jobs import InputRole, MergeSpec, QuantizationRecipe, QuantizeSpec, chosen
from quantry_core.linears import linear_modules
from quantry_core.methods import Environment, Format, Scheme
from quantry_core.training import MergeTarget
from quantry_core.versions import EvidenceDraft, Verdict, VersionKind, VersionState
from quantry_worker.child.backends.table import QuantizationOrder, load_backend
from quantry_worker.child.evaluation.corpora import read_corpora
from quantry_worker.child.evaluation.sizes import weights_bytes
from quantry_worker.child.gate.probe import EIGHT_BIT_ACTIVATIONS_NATS, WEIGHTS_ALONE_NATS
from quantry_worker.child.inputs import inputs_of, only_input
from quantry_worker.child.merging.check import check_merged
from quantry_worker.child.merging.choice import choice_evidence, choose
from quantry_worker.child.merging.combine import Combination, combination_of
from quantry_worker.child.merging.held_out import read_held_out
from quantry_worker.child.merging.measure import TRAINED, UNTOUCHED, Candidate, Measured, Texts, measure
from quantry_worker.child.merging.trained import float32_model
from quantry_worker.child.merging.weights import DequantizedWeights, MasterWeights, Weights
from quantry_worker.child.merging.write import write_merged
from quantry_worker.child.numerics.adapted import load_adapted
from quantry_worker.child.numerics.low_rank import Adapter, check_fits, read_adapter
from quantry_worker.child.numerics.model import load_model, read_config
from quantry_worker.child.numerics.release import release_memory
from quantry_worker.child.numerics.text import check_length
from quantry_worker.child.plan import plan_quantization
from quantry_worker.child.recipes.quantize import calibration_windows, carry_over
from quantry_worker.child.reporter import Reporter, Units
from quantry_worker.child.toolchain import toolchain
from quantry_worker.protocol import ChildInput, ChildResult, ChildTask, ChildVersion

RESULTS = "merge.json"
"""Artifact of a measured merge: the table of ways."""
WAYS = "ways"
"""Folder of merged weights, by the way's name, while ways are tried."""
MAKING, MEASURING, CHECKING = 0.05, 0.6, 0.9
"""Share of the work at which each phase begins."""


@dataclass(frozen=True)
class Merge:
    """A job under way: what is merged into what."""

    task: ChildTask
    spec: MergeSpec
    base: ChildInput
    """The 16-bit version."""
    adapter_base: ChildInput
    """What the adapters were trained on: the same, or made from it."""
    combination: Combination
    into: dict[MergeTarget, Weights]
    """What can be merged into, by the way's name."""

    def unmerged(self, way: MergeTarget) -> Any:
        """Returns the model that a merge must agree with: by PEFT where one adapter counts in full, else what was summed up."""
        if not self.combination.is_one:
            return float32_model(self.into[way], self.combination)
        beside = self.base if way is MergeTarget.MASTER else self.adapter_base
        return load_adapted(beside.path, self.combination.adapters[0].directory)

    def trained(self) -> Any:
        """Returns the function that the adapters were trained to be, on the version they were trained on."""
        return self.unmerged(MergeTarget.DEQUANTIZED_BASE if MergeTarget.DEQUANTIZED_BASE in self.into else MergeTarget.MASTER)

    def tolerance_nats(self, way: MergeTarget) -> float:
        """Returns how far the merged model may be from the unmerged one: what multiplies in int8 rounds activations, merged or not."""
        is_int8 = way is MergeTarget.DEQUANTIZED_BASE and (self.adapter_base.recipe or {}).get("scheme") == Scheme.INT8
        return EIGHT_BIT_ACTIVATIONS_NATS if is_int8 else WEIGHTS_ALONE_NATS


def run(task: ChildTask, reporter: Reporter) -> ChildResult:
    """Returns the merged version, quarantined if its check fails; no version where leaving the adapter unmerged is measured as best.

    Raises InvalidInput or SourceRefused for adapters that do not fit, texts that are too short and methods that cannot be measured
    here, Diverged for weights or losses that are not finite.
    """
    spec = task.spec
    if not isinstance(spec, MergeSpec):
        raise TypeError(f"the merge recipe got a {spec.type} job")
    torch.set_num_threads(task.num_threads)
    reporter.progress("checking", 0.0)
    job = prepare(task, spec)
    if not spec.measure:
        write_merged(
            job.into[MergeTarget.MASTER], job.combination, task.output_dir, _telling(reporter.part(MAKING, CHECKING), MergeTarget.MASTER)
        )
        reporter.progress("checking", CHECKING)
        return _result(job, MergeTarget.MASTER, [])
    # Beside the output, in the folder that goes with the attempt.
    with TemporaryDirectory(dir=task.output_dir.parent, prefix="merge-") as folder:
        found = try_ways(job, Path(folder), reporter)
        way, decision = choose(found.losses), choice_evidence(found.losses, seed=spec.seed)
        table = {
            "choice": way.value,
            "decision": decision.metrics,
            "ways": {one.metrics["way"]: one.metrics for one in found.evidence},
        }
        _write_results(task, spec, table)
        if way is MergeTarget.UNMERGED:
            reporter.note("The adapter does best beside the version it was trained on: nothing is merged; attach it to a deployment.")
            return ChildResult(evidence=[*found.evidence, decision], metrics=table)
        for path in (Path(folder) / WAYS / way).iterdir():
            shutil.move(path, task.output_dir / path.name)
    reporter.progress("checking", CHECKING)
    made = _result(job, way, [*found.evidence, decision])
    return made.model_copy(update={"metrics": table | made.metrics})


def prepare(task: ChildTask, spec: MergeSpec) -> Merge:
    """Returns the job with headers read; raises InvalidInput or SourceRefused where something does not fit."""
    base = only_input(task, InputRole.BASE)
    adapter_base = only_input(task, InputRole.ADAPTER_BASE)
    master = inspect_checkpoint(DirectoryCheckpoint(base.path))
    check_master(master)
    linears = linear_modules(master.tensors, family_of(master.config).transposed)
    adapters: list[Adapter] = []
    for given in inputs_of(task, InputRole.ADAPTER):
        adapter = read_adapter(given.path)
        if adapter.info.base_ref != adapter_base.ref:
            raise InvalidInput(f"adapter {given.ref} was trained on {adapter.info.base_ref}, not on {adapter_base.ref}")
        check_fits(adapter, linears, words=f"adapter {given.ref}", base=base.ref)
        adapters.append(adapter)
    into: dict[MergeTarget, Weights] = {MergeTarget.MASTER: MasterWeights(base.path)}
    if spec.measure and adapter_base.kind is VersionKind.QUANTIZED:
        into[MergeTarget.DEQUANTIZED_BASE] = DequantizedWeights(adapter_base.path, adapter_base.format or Format.SAFETENSORS, base.path)
    if spec.measure:
        _recipe(spec)
    return Merge(task, spec, base, adapter_base, combination_of(spec, adapters), into)


def try_ways(job: Merge, scratch: Path, reporter: Reporter) -> Measured:
    """Returns what every way comes to. Merged weights stay in a folder of the way's name, for the one that is chosen."""
    texts = _read_texts(job)
    candidates: list[Candidate] = []
    for index, (way, weights) in enumerate(job.into.items()):
        part = reporter.part(*(MAKING + (MEASURING - MAKING) * place / len(job.into) for place in (index, index + 1)))
        merged, quantized = scratch / WAYS / way, scratch / WAYS / f"{way}-quantized"
        write_merged(weights, job.combination, merged, _telling(part.part(0.0, 0.2), way))
        _quantize(job, merged, quantized, part.part(0.2, 1.0))
        release_memory()
        candidates.append(Candidate(way, _loading(quantized), weights_bytes(quantized)))
    if job.combination.is_one:
        adapter_bytes = job.combination.adapters[0].info.weights_bytes
        candidates.append(Candidate(MergeTarget.UNMERGED, job.trained, weights_bytes(job.adapter_base.path) + adapter_bytes))
    else:
        reporter.note("Several adapters, or one that counts for more or less than 1, cannot be served unmerged: that way is not tried.")
    references = {TRAINED: job.trained, UNTOUCHED: _loading(job.base.path)}
    return measure(candidates, references, texts, scratch / "references", reporter.part(MEASURING, CHECKING))


def _read_texts(job: Merge) -> Texts:
    spec = job.spec
    check_length(spec.window_tokens, read_config(job.base.path), field="window_tokens")
    held_out = read_held_out(job.base.path, only_input(job.task, InputRole.VALIDATION), spec.window_tokens)
    corpora = read_corpora(
        [job.base.path],
        inputs_of(job.task, InputRole.CORPUS),
        window_tokens=spec.window_tokens,
        stride_tokens=None,
        max_windows=spec.max_windows,
    )
    return Texts(held_out, corpora)


def _recipe(spec: MergeSpec) -> QuantizationRecipe:
    """Returns by which recipe ways are quantized; raises InvalidInput for one that runs elsewhere."""
    recipe = spec.quantize
    if not isinstance(recipe, QuantizationRecipe):
        raise InvalidInput("measure compares quantized results, and what the adapters were trained on is 16-bit: give quantize a recipe")
    info = chosen(recipe).info
    if info.environment is not Environment.ML:
        raise InvalidInput(
            f"method {info.method} runs in an environment of its own, beside which ways cannot be measured; "
            "leave measure out, or let quantize be of another method"
        )
    return recipe


def _quantize(job: Merge, merged_dir: Path, output_dir: Path, reporter: Reporter) -> None:
    """Quantizes merged weights as the job that follows would. What its gate would say of them is that job's matter."""
    merged = job.base.model_copy(update={"path": merged_dir})
    spec = QuantizeSpec(base=merged.ref, **_recipe(job.spec).model_dump())
    info = inspect_checkpoint(DirectoryCheckpoint(merged_dir))
    plan = plan_quantization(spec, info)
    windows, _ = calibration_windows(spec, merged, inputs_of(job.task, InputRole.CALIBRATION))
    output_dir.mkdir()

    def on_progress(share: float, detail: str, layers: Units | None = None) -> None:
        reporter.progress("quantizing", share, detail, layers)

    load_backend(plan.method.backend)(
        QuantizationOrder(
            plan=plan,
            master=info,
            master_dir=merged_dir,
            output_dir=output_dir,
            windows=windows,
            seed=0 if spec.calibration is None else spec.calibration.seed,
            num_threads=job.task.num_threads,
            on_progress=on_progress,
        )
    )
    carry_over(merged_dir, output_dir)


def _result(job: Merge, way: MergeTarget, evidence: list[EvidenceDraft]) -> ChildResult:
    """Returns the version in the output folder, checked."""
    weights = job.into[way]
    checked = check_merged(weights, job.combination, job.task.output_dir, lambda: job.unmerged(way), at_most_nats=job.tolerance_nats(way))
    about = {"merged_into": way.value, "merged_into_version": (job.base if way is MergeTarget.MASTER else job.adapter_base).ref}
    version = ChildVersion(
        kind=VersionKind.MERGED,
        format=Format.SAFETENSORS,
        dtype=check_master(weights.master),
        state=VersionState.READY if checked.verdict is Verdict.PASS else VersionState.QUARANTINED,
        recipe=job.spec.model_dump(mode="json") | job.combination.as_json() | about,
        toolchain=toolchain("torch", "transformers", "peft", "safetensors"),
    )
    return ChildResult(
        version=version, evidence=[checked, *evidence], metrics=about | {"weights_bytes": weights_bytes(job.task.output_dir)}
    )


def _write_results(task: ChildTask, spec: MergeSpec, table: dict[str, Any]) -> None:
    document = {"spec": spec.model_dump(mode="json"), "toolchain": toolchain("torch", "transformers", "peft")} | table
    (task.artifacts_dir / RESULTS).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _loading(directory: Path) -> Callable[[], Any]:
    return lambda: load_model(directory)


def _telling(reporter: Reporter, way: MergeTarget) -> Callable[[int, int, str], None]:
    def on_tensor(num_done: int, total: int, name: str) -> None:
        reporter.progress("merging", num_done / total, f"{way}: {name}", Units(num_done, total, "tensors"))

    return on_tensor
