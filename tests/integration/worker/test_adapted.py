"""Adapters on their bases for real, in the ml environment: evaluated unmerged, and measured against merging them.

The quantized base is written with numpy, and the adapter is the part of what quantizing lost that 64 ranks hold: so it is known
that the best place for it is beside that base.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from factories.adapter_files import adapted_weight, linear_shapes, write_adapter
from factories.child_runs import MASTER, ML_SCRIPT, TEXT_FILE, Ran, checkpoint, text
from factories.coarse_versions import LINEARS, dequantized, write_version
from factories.many_recipes import Asked, run_all
from quantry_core.datasets import DATASET_FILES, DatasetKind
from quantry_core.jobs import EvaluateSpec, InputRole, JobReason, MergeSpec
from quantry_core.methods import Format
from quantry_core.training import AdapterKind
from quantry_core.versions import Verdict, VersionKind, VersionState
from quantry_worker.protocol import ChildInput

WINDOW, NUM_WINDOWS, RANK = 64, 12, 64
RECIPE = {"method": "rtn", "scheme": "W3A16", "group_size": 64, "quality": None}


def given(role: InputRole, path: Path, ref: str, kind: VersionKind, form: Format) -> ChildInput:
    return ChildInput(role=role, id=f"ver_{ref}", ref=ref, kind=kind, format=form, path=path)


def evaluating(adapter: Path, base: ChildInput, corpus: ChildInput, **fields: Any) -> Asked:
    """Returns an evaluation of an adapter against the master."""
    spec = EvaluateSpec.model_validate({"version": "a", "against": "bard", "window_tokens": WINDOW, "max_windows": NUM_WINDOWS} | fields)
    subject = given(InputRole.SUBJECT, adapter, "jargon@1", VersionKind.ADAPTER, Format.PEFT)
    return Asked(spec, [subject, base, checkpoint(InputRole.REFERENCE, MASTER), corpus])


def measuring(adapter: Path, coarse: Path, corpus: ChildInput, rows: ChildInput, **share: float) -> Asked:
    """Returns a measured merge of an adapter of a quantized base."""
    spec = MergeSpec.model_validate(
        {
            "adapters": [{"adapter": "ver_a"} | share],
            "quantize": RECIPE,
            "measure": True,
            "validation_file": "rows",
            "corpora": ["kjv.test"],
            "window_tokens": WINDOW,
            "max_windows": 4,
        }
    )
    return Asked(
        spec,
        [
            given(InputRole.ADAPTER, adapter, "jargon@1", VersionKind.ADAPTER, Format.PEFT),
            given(InputRole.ADAPTER_BASE, coarse, "coarse@1", VersionKind.QUANTIZED, Format.COMPRESSED_TENSORS),
            checkpoint(InputRole.BASE, MASTER),
            rows,
            corpus,
        ],
    )


def write_rows(directory: Path) -> ChildInput:
    """Writes prompts with their answers, cut from text of the kind that the master knows."""
    directory.mkdir()
    lines = [line for line in (MASTER.parent / "corpora" / "kjv.calibration.txt").read_text().splitlines() if len(line) > 60][:24]
    rows = [json.dumps({"prompt": line[:30], "response": line[30:]}) for line in lines]
    (directory / DATASET_FILES[DatasetKind.PROMPTS]).write_text("\n".join(rows))
    return ChildInput(role=InputRole.VALIDATION, id="dat_2", ref="rows@1", dataset_kind=DatasetKind.PROMPTS, path=directory)


def write_correction(directory: Path, coarse: Path) -> Path:
    """Writes an adapter of the 64 largest directions of what a coarse version lost of each weight (Eckart and Young 1936)."""
    shapes, master = linear_shapes(MASTER, *LINEARS), load_file(MASTER / "model.safetensors")
    write_adapter(directory, shapes, rank=RANK, alpha=float(RANK), base_ref="coarse@1")
    tensors = load_file(directory / "adapter_model.safetensors")
    for module in shapes:
        lost = master[f"{module}.weight"].astype(np.float64) - dequantized(coarse, module)
        # The right singular vectors are the eigenvectors of the smaller product, the largest last.
        right = np.linalg.eigh(lost.T @ lost).eigenvectors[:, -RANK:]
        tensors[f"base_model.model.{module}.lora_A.weight"] = np.ascontiguousarray(right.T, dtype=np.float32)
        tensors[f"base_model.model.{module}.lora_B.weight"] = np.ascontiguousarray(lost @ right, dtype=np.float32)
    save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    return directory


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapted")


@pytest.fixture(scope="module")
def ran(folder: Path) -> dict[str, Ran]:
    """Every job of this module, run by one process."""
    coarse = write_version(folder / "coarse", largest_level=3, activations=None)
    random = write_adapter(folder / "random", linear_shapes(MASTER, "q_proj", "down_proj"), kind=AdapterKind.RSLORA)
    correction = write_correction(folder / "correction", coarse)
    corpus, rows = text(InputRole.CORPUS, folder, "kjv.test"), write_rows(folder / "rows")
    on_coarse = given(InputRole.ADAPTER_BASE, coarse, "coarse@1", VersionKind.QUANTIZED, Format.COMPRESSED_TENSORS)
    bound = {"weights_ratio": 1.1, "perplexity_ratio": 3.0}
    everything: dict[str, Any] = {"corpora": ["kjv"], "attention": True, "thresholds": bound}
    speed = {"speed": {"concurrency": [1]}, "thresholds": {}}
    return run_all(
        folder / "runs",
        {
            "on-master": evaluating(random, checkpoint(InputRole.ADAPTER_BASE, MASTER), corpus, **everything),
            "on-coarse": evaluating(correction, on_coarse, corpus, corpora=["kjv"], thresholds={}),
            "speed": evaluating(correction, on_coarse, corpus, **speed),
            "no-base": evaluating(random, on_coarse, corpus, corpora=["kjv"]),
            "measured": measuring(correction, coarse, corpus, rows),
            "halved": measuring(correction, coarse, corpus, rows, weight=0.5),
        },
    )


def independent(folder: Path, weights: dict[str, Any]) -> dict[str, float]:
    """Returns what plain transformers makes of weights that numpy put in place of the master's."""
    plain = folder / "plain"
    shutil.copytree(MASTER, plain)
    save_file(load_file(MASTER / "model.safetensors") | weights, plain / "model.safetensors", metadata={"format": "pt"})
    script = Path(__file__).with_name("independent_perplexity.py")
    arguments = [plain, MASTER, WINDOW, NUM_WINDOWS, folder / "kjv.test" / TEXT_FILE]
    done = subprocess.run([*ML_SCRIPT, script, *map(str, arguments)], check=True, capture_output=True, text=True)
    (figures,) = json.loads(done.stdout.splitlines()[-1])
    shutil.rmtree(plain)
    return dict(figures)


def test_an_adapter_is_evaluated_as_its_weights_with_the_update_say(folder: Path, ran: dict[str, Ran]) -> None:
    found = ran["on-master"].evidence("kjv.test@1")
    master = load_file(MASTER / "model.safetensors")
    modules = linear_shapes(MASTER, "q_proj", "down_proj")
    weights = {
        f"{module}.weight": adapted_weight(folder / "random", module, master[f"{module}.weight"]).astype(np.float32) for module in modules
    }
    expected = independent(folder, weights)
    for name in ("perplexity", "reference_perplexity", "kl_mean_nats", "top1_agreement"):
        assert found.metrics[name] == pytest.approx(expected[name], rel=1e-4)
    assert found.metrics["kl_mean_nats"] > 1e-3
    assert {one.name for one in ran["on-master"].result.evidence} == {"kjv.test@1", "attention", "size"}

    # An engine loads both files.
    files = [MASTER / "model.safetensors", folder / "random" / "adapter_model.safetensors"]
    size = ran["on-master"].evidence("size")
    assert size.metrics["weights_bytes"] == sum(path.stat().st_size for path in files)
    assert size.verdict is Verdict.PASS


def test_on_a_quantized_base_it_adds_to_the_dequantized_weights(folder: Path, ran: dict[str, Ran]) -> None:
    coarse, modules = folder / "coarse", linear_shapes(MASTER, *LINEARS)
    weights = {
        f"{module}.weight": adapted_weight(folder / "correction", module, dequantized(coarse, module)).astype(np.float32)
        for module in modules
    }
    expected = independent(folder, weights)
    found = ran["on-coarse"].evidence("kjv.test@1")
    assert found.metrics["perplexity"] == pytest.approx(expected["perplexity"], rel=1e-4)
    assert found.metrics["kl_mean_nats"] == pytest.approx(expected["kl_mean_nats"], rel=1e-3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("speed", "the speed of jargon@1 cannot be measured: it is an adapter"),
        ("no-base", "adapter jargon@1 was trained on bard@1, which is not among the inputs"),
    ],
)
def test_what_an_adapter_cannot_is_refused(ran: dict[str, Ran], name: str, words: str) -> None:
    assert ran[name].failure.reason is JobReason.INVALID_INPUT
    assert words in ran[name].failure.message


def test_where_leaving_it_unmerged_is_best_no_version_is_made(ran: dict[str, Ran]) -> None:
    result, metrics = ran["measured"].result, ran["measured"].result.metrics
    ways = metrics["ways"]
    assert ways.keys() == {"master", "dequantized-base", "unmerged"}
    assert (metrics["choice"], metrics["decision"]["choice"]) == ("unmerged", "unmerged")
    assert min(ways, key=lambda way: ways[way]["nll_mean"]) == "unmerged"
    assert metrics["decision"]["is_beyond_noise"] is True
    assert result.version is None
    assert {one.name for one in result.evidence} == {"way-master", "way-dequantized-base", "way-unmerged", "choice"}
    assert ran["measured"].evidence("choice").verdict is Verdict.PASS
    assert list(ran["measured"].output_dir.iterdir()) == []

    # What was trained is the adapter beside its base: from itself it is at no distance.
    by_corpus = {way: found["corpora"]["kjv.test@1"] for way, found in ways.items()}
    assert by_corpus["unmerged"]["kl_from_trained_nats"] == pytest.approx(0, abs=1e-9)
    assert min(by_corpus[way]["kl_from_trained_nats"] for way in ("master", "dequantized-base")) > 1e-3
    assert all(0 < found["kl_from_master_nats"] < 5 and found["perplexity"] > 1 for found in by_corpus.values())
    differences = {(one["way"], one["against"]): one for one in metrics["decision"]["differences"]}
    assert len(differences) == 3
    assert all(one["nll_increase_low_nats"] <= one["nll_increase_nats"] <= one["nll_increase_high_nats"] for one in differences.values())
    written = json.loads((ran["measured"].artifacts_dir / "merge.json").read_text())
    assert {name: written[name] for name in ("choice", "decision", "ways")} == metrics


def test_an_adapter_that_counts_for_half_is_merged_the_better_way(ran: dict[str, Ran]) -> None:
    result, metrics = ran["halved"].result, ran["halved"].result.metrics
    ways, version = metrics["ways"], ran["halved"].result.version
    assert ways.keys() == {"master", "dequantized-base"}
    assert metrics["choice"] == min(ways, key=lambda way: ways[way]["nll_mean"])
    assert version is not None
    check = ran["halved"].evidence("merge")
    assert (version.state, check.verdict) == (VersionState.READY, Verdict.PASS), check.metrics
    assert version.recipe["merged_into"] == metrics["choice"] == metrics["merged_into"]
    assert version.recipe["merged_into_version"] == {"master": "bard@1", "dequantized-base": "coarse@1"}[metrics["choice"]]
    assert {one.name for one in result.evidence} == {"merge", "way-master", "way-dequantized-base", "choice"}
    # 16-bit whichever it is, and no larger than the master.
    merged = load_file(ran["halved"].output_dir / "model.safetensors")
    assert {str(tensor.dtype) for tensor in merged.values()} == {"float16"}
    assert (ran["halved"].output_dir / "model.safetensors").stat().st_size == (MASTER / "model.safetensors").stat().st_size
    # Sizes are those of what would be served.
    assert all(found["weights_bytes"] < 0.5 * (MASTER / "model.safetensors").stat().st_size for found in ways.values())
