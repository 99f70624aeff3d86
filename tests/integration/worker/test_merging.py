"""Merges for real, in the ml environment, on the example master: what is written is compared with numpy's own W + s B A."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from factories.adapter_files import adapted_weight, linear_shapes, write_adapter
from factories.child_runs import MASTER, ML_SCRIPT, Ran, checkpoint
from factories.many_recipes import Asked, run_all
from quantry_core.jobs import InputRole, JobReason, MergeSpec
from quantry_core.methods import Format
from quantry_core.training import AdapterKind
from quantry_core.versions import Verdict, VersionKind, VersionState
from quantry_worker.protocol import ChildInput

HALF_STEP = 2.0**-11
"""Of float16."""


def adapter_input(path: Path, number: int = 1) -> ChildInput:
    return ChildInput(
        role=InputRole.ADAPTER, id=f"ver_a{number}", ref=f"jargon@{number}", kind=VersionKind.ADAPTER, format=Format.PEFT, path=path
    )


def merging(adapters: list[Path], *, base: Path = MASTER, **fields: Any) -> Asked:
    """Returns a merge of adapters of a 16-bit base."""
    shares = fields.pop("shares", [1.0] * len(adapters))
    named = [{"adapter": f"ver_a{number}", "weight": share} for number, share in enumerate(shares, 1)]
    spec = MergeSpec.model_validate({"adapters": named, "quantize": None} | fields)
    inputs = [adapter_input(path, number) for number, path in enumerate(adapters, 1)]
    return Asked(spec, [*inputs, checkpoint(InputRole.ADAPTER_BASE, base), checkpoint(InputRole.BASE, base)])


UNFIT: dict[str, tuple[dict[str, tuple[int, int]], dict[str, Any], str]] = {
    "layer": ({"model.layers.9.self_attn.q_proj": (256, 256)}, {}, "no linear module model.layers.9.self_attn.q_proj"),
    "shape": ({"model.layers.0.self_attn.q_proj": (128, 256)}, {}, "q_proj (256 x 256, the adapter's is 128 x 256)"),
    "tied": ({"lm_head": (4096, 256)}, {}, "no linear module lm_head"),
    "base": ({"model.layers.0.self_attn.q_proj": (256, 256)}, {"base_ref": "other@3"}, "was trained on other@3, not on bard@1"),
}


class Case(NamedTuple):
    """What came of a merge, and the adapters that were merged."""

    ran: Ran
    adapters: list[Path]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """Every merge of this module, made by one process."""
    folder = tmp_path_factory.mktemp("merges")
    attention, some = linear_shapes(MASTER, "q_proj", "o_proj"), linear_shapes(MASTER, "q_proj", "v_proj", "down_proj")
    only_q = {name: shape for name, shape in attention.items() if name.endswith("q_proj")}
    first, second = write_adapter(folder / "a" / "first", attention), write_adapter(folder / "a" / "second", only_q, rank=8, seed=1)
    write_sharded(folder / "sharded-master")
    adapters = {f"kind-{kind}": [write_adapter(folder / "a" / kind, some, kind=kind)] for kind in AdapterKind}
    adapters |= {f"unfit-{name}": [write_adapter(folder / "a" / name, shapes, **more)] for name, (shapes, more, _) in UNFIT.items()}
    adapters["overflow"] = [write_adapter(folder / "a" / "overflow", {"model.layers.0.self_attn.q_proj": (256, 256)}, spread=400.0)]
    asked = {name: merging(paths) for name, paths in adapters.items()}
    pair = [first, second]
    asked["sharded"] = merging(pair, base=folder / "sharded-master", shares=[0.75, -0.5])
    asked["ties"] = merging(pair, combination="ties", shares=[0.75, 0.5], density=0.3)
    for name, seed in (("dare", 3), ("dare-again", 3), ("dare-other", 4)):
        asked[name] = merging(pair, combination="dare_linear", shares=[0.75, 0.5], density=0.5, seed=seed)
    ran = run_all(folder, asked)
    return {name: Case(ran[name], adapters.get(name, pair)) for name in asked}


def off_by(stored: Any, expected: Any) -> float:
    """Returns the largest error in units of what float16 rounds away, and of what float32 sums add."""
    bound = np.abs(expected) * HALF_STEP + 2.0**-25 + 1e-6 * np.abs(expected).max()
    return float((np.abs(stored.astype(np.float64) - expected) / bound).max())


@pytest.mark.parametrize("kind", AdapterKind)
def test_only_what_the_adapter_changes_changes_and_by_its_formula(cases: dict[str, Case], kind: AdapterKind) -> None:
    ran, (adapter,) = cases[f"kind-{kind}"]
    shapes = linear_shapes(MASTER, "q_proj", "v_proj", "down_proj")

    version = ran.result.version
    assert version is not None
    check = ran.evidence("merge")
    assert (version.kind, version.state, version.format) == (VersionKind.MERGED, VersionState.READY, Format.SAFETENSORS), check.metrics
    assert (version.dtype, version.scheme, version.recipe["merged_into"]) == ("float16", None, "master")
    assert {"torch", "peft", "safetensors"} <= version.toolchain.keys()

    ours, theirs = load_file(ran.output_dir / "model.safetensors"), load_file(MASTER / "model.safetensors")
    updated = {f"{module}.weight" for module in shapes}
    assert ours.keys() == theirs.keys()
    assert [name for name in ours.keys() - updated if ours[name].tobytes() != theirs[name].tobytes()] == []
    assert max(off_by(ours[f"{name}.weight"], adapted_weight(adapter, name, theirs[f"{name}.weight"])) for name in shapes) <= 1
    assert min(float(np.abs(ours[name].astype(float) - theirs[name].astype(float)).max()) for name in updated) > 1e-3

    # Tied still, and everything that is no weight is the base's own.
    assert "lm_head.weight" not in ours
    assert {path.name for path in ran.output_dir.iterdir()} == {path.name for path in MASTER.iterdir()}
    others = [path.name for path in MASTER.iterdir() if path.name != "model.safetensors"]
    assert [name for name in others if (ran.output_dir / name).read_bytes() != (MASTER / name).read_bytes()] == []
    assert (ran.output_dir / "model.safetensors").stat().st_size == (MASTER / "model.safetensors").stat().st_size
    assert {path.stat().st_mode & 0o777 for path in ran.output_dir.iterdir()} == {0o644}

    # PEFT, which merged nothing, computes the same.
    assert check.verdict is Verdict.PASS
    assert check.metrics["num_updated"] == len(shapes)
    assert check.metrics["num_identical"] == len(theirs) - len(shapes)
    assert 0 <= check.metrics["kl_unmerged_nats"] < 1e-5
    assert check.metrics["top1_agreement_unmerged"] > 0.99


def test_several_adapters_of_different_modules_are_summed_by_their_weights_in_every_shard(cases: dict[str, Case]) -> None:
    ran, (first, second) = cases["sharded"]
    assert ran.evidence("merge").verdict is Verdict.PASS, ran.evidence("merge").metrics
    theirs = load_file(MASTER / "model.safetensors")
    ours = load_file(ran.output_dir / "model-00001-of-00002.safetensors") | load_file(ran.output_dir / "model-00002-of-00002.safetensors")
    index = "model.safetensors.index.json"
    assert (ran.output_dir / index).read_bytes() == (ran.output_dir.parents[1] / "sharded-master" / index).read_bytes()
    assert ours.keys() == theirs.keys()
    for module in linear_shapes(MASTER, "q_proj", "o_proj"):
        weight = theirs[f"{module}.weight"].astype(np.float64)
        expected = weight + 0.75 * (adapted_weight(first, module, weight) - weight)
        if module.endswith("q_proj"):
            expected += -0.5 * (adapted_weight(second, module, weight) - weight)
        assert off_by(ours[f"{module}.weight"], expected) <= 1


def write_sharded(directory: Path) -> None:
    """Writes the example master in two files, layer 0 in one and the rest in the other."""
    directory.mkdir()
    for path in MASTER.iterdir():
        if path.name != "model.safetensors":
            (directory / path.name).write_bytes(path.read_bytes())
    tensors = load_file(MASTER / "model.safetensors")
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    weight_map = {name: names[0 if ".layers.0." in name else 1] for name in tensors}
    for file in names:
        save_file({name: tensors[name] for name in tensors if weight_map[name] == file}, directory / file, metadata={"format": "pt"})
    total = sum(tensor.nbytes for tensor in tensors.values())
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))


def test_ties_trims_elects_signs_and_averages_those_that_agree(cases: dict[str, Case]) -> None:
    ran, adapters = cases["ties"]
    assert ran.evidence("merge").verdict is Verdict.PASS, ran.evidence("merge").metrics
    ours, theirs = load_file(ran.output_dir / "model.safetensors"), load_file(MASTER / "model.safetensors")
    weight = theirs["model.layers.2.self_attn.q_proj.weight"].astype(np.float64)
    updates = [adapted_weight(path, "model.layers.2.self_attn.q_proj", weight) - weight for path in adapters]
    trimmed = []
    for update in updates:
        smallest_kept = np.sort(np.abs(update).ravel())[-int(0.3 * update.size)]
        trimmed.append(np.where(np.abs(update) >= smallest_kept, update, 0))
    elected = np.where(sum(trimmed) >= 0, 1, -1)
    agrees = [np.sign(one) == elected for one in trimmed]
    total = sum(share * one * agree for share, one, agree in zip((0.75, 0.5), trimmed, agrees, strict=True))
    expected = weight + total / np.maximum(sum(one.astype(int) for one in agrees), 1)
    error = np.abs(ours["model.layers.2.self_attn.q_proj.weight"].astype(np.float64) - expected)
    # Of two numbers that are equal in float32 either may be the last that is kept.
    assert (error > np.abs(expected) * HALF_STEP + 1e-6).sum() <= 4


def test_dare_drops_at_random_by_its_seed_and_rescales_what_is_kept(cases: dict[str, Case]) -> None:
    name = "model.layers.2.self_attn.q_proj.weight"
    weights = {case: load_file(cases[case].ran.output_dir / "model.safetensors")[name] for case in ("dare", "dare-again", "dare-other")}
    assert weights["dare"].tobytes() == weights["dare-again"].tobytes() != weights["dare-other"].tobytes()
    weight = load_file(MASTER / "model.safetensors")[name].astype(np.float64)
    first, second = (adapted_weight(path, name.removesuffix(".weight"), weight) - weight for path in cases["dare"].adapters)
    choices = np.stack([weight + keeps * 2 * 0.75 * first + also * 2 * 0.5 * second for keeps in (0, 1) for also in (0, 1)])
    distance = np.abs(choices - weights["dare"].astype(np.float64))
    assert (distance.min(axis=0) <= np.abs(choices).max(axis=0) * HALF_STEP + 1e-6).all()
    shares = np.bincount(distance.argmin(axis=0).ravel(), minlength=4) / weight.size
    # 65,536 draws: four standard deviations are 0.007; where updates are tiny two choices look alike.
    assert shares == pytest.approx([0.25] * 4, abs=0.02)


@pytest.mark.parametrize("name", UNFIT)
def test_an_adapter_that_does_not_fit_is_refused_by_name(cases: dict[str, Case], name: str) -> None:
    ran = cases[f"unfit-{name}"].ran
    assert ran.failure.reason is JobReason.INVALID_INPUT
    assert UNFIT[name][2] in ran.failure.message
    assert "jargon@1" in ran.failure.message
    assert list(ran.output_dir.iterdir()) == []


def test_a_merge_that_overflows_float16_says_where(cases: dict[str, Case]) -> None:
    failure = cases["overflow"].ran.failure
    assert failure.reason is JobReason.DIVERGED
    assert "model.layers.0.self_attn.q_proj.weight is infinite or not a number in F16" in failure.message


def test_an_adapter_on_packed_weights_computes_what_they_stand_for_with_its_update(tmp_path: Path) -> None:
    """DoRA divides by norms of the weights, which a library packs otherwise while it computes."""
    shapes = linear_shapes(MASTER, "q_proj", "down_proj")
    kinds = (AdapterKind.LORA, AdapterKind.DORA)
    adapters = [write_adapter(tmp_path / kind, shapes, kind=kind) for kind in kinds]
    script = Path(__file__).with_name("adapted_on_nf4.py")
    arguments = [str(path) for path in (MASTER, tmp_path, *adapters)]
    done = subprocess.run([*ML_SCRIPT, script, *arguments], check=True, capture_output=True, text=True)
    distances = json.loads(done.stdout.splitlines()[-1])
    # With norms of the packed layout DoRA was 0.03 nats off.
    assert max(distances) < 1e-5
