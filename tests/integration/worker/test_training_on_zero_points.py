"""Training beside weights whose levels lie unevenly about zero: what hqq makes, and awq where it is asked for."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from factories.child_runs import EXAMPLES, MASTER, Ran, checkpoint
from factories.child_runs import text as example
from factories.many_recipes import Asked, run_all
from quantry_core.datasets import DATASET_FILES, DatasetKind
from quantry_core.jobs import FinetuneSpec, InputRole, QuantizeSpec
from quantry_core.methods import Format
from quantry_core.versions import VersionKind
from quantry_worker.protocol import ChildInput

SPEC = FinetuneSpec.model_validate(
    {
        "model": "bard",
        "training_file": "learned",
        "hyperparameters": {
            "max_steps": 6,
            "batch_size": 2,
            "sequence_tokens": 48,
            "learning_rate": 0.003,
            "schedule": "constant",
            "warmup_ratio": 0.0,
        },
        "validation": {"max_rows": 8},
    }
)
HQQ = QuantizeSpec(base="bard", method="hqq", scheme="W4A16", group_size=64, quality=None)
AWQ = QuantizeSpec.model_validate(
    {
        "base": "bard",
        "method": "awq",
        "scheme": "W4A16",
        "group_size": 64,
        "options": {"symmetric": False, "num_grid": 4},
        "calibration": {"datasets": ["kjv.calibration"], "num_samples": 8, "length_tokens": 128},
        "quality": None,
    }
)


def passage(folder: Path, role: InputRole, name: str, begin: int, end: int) -> ChildInput:
    path = folder / name
    path.mkdir()
    content = (EXAMPLES / "corpora" / "jargon.train.txt").read_text()[begin:end]
    (path / DATASET_FILES[DatasetKind.TEXT]).write_text(content)
    return ChildInput(role=role, id="dat_1", ref=f"{name}@1", dataset_kind=DatasetKind.TEXT, path=path)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    folder = tmp_path_factory.mktemp("zero-points")
    master = checkpoint(InputRole.BASE, MASTER)
    texts = [passage(folder, InputRole.TRAINING, "learned", 0, 24_000), passage(folder, InputRole.VALIDATION, "held-out", 24_000, 27_000)]
    calibration = example(InputRole.CALIBRATION, folder, "kjv.calibration", 40_000)
    made = {method: folder / f"make-{method}" / "output" for method in ("hqq", "awq")}
    bases = {
        method: checkpoint(InputRole.BASE, path, VersionKind.QUANTIZED, Format.COMPRESSED_TENSORS).model_copy(
            update={"recipe": {"method": method, "scheme": "W4A16"}}
        )
        for method, path in made.items()
    }
    return run_all(
        folder,
        {
            "make-hqq": Asked(HQQ, [master]),
            "make-awq": Asked(AWQ, [master, calibration]),
            "on-master": Asked(SPEC, [master, *texts]),
            **{f"on-{method}": Asked(SPEC, [base, *texts]) for method, base in bases.items()},
        },
    )


@pytest.mark.parametrize("method", ["hqq", "awq"])
def test_an_adapter_learns_beside_weights_with_zero_points(ran: dict[str, Ran], method: str) -> None:
    assert ran[f"make-{method}"].result.version is not None
    zero_points = [name for name in load_file(ran[f"make-{method}"].output_dir / "model.safetensors") if name.endswith("zero_point")]
    assert len(zero_points) == 6 * 7
    found, master = (ran[name].evidence("validation").metrics for name in (f"on-{method}", "on-master"))
    # What it was before is what the master says, but for four bits: levels that were read without their zero points add nats.
    assert found["reference_nll_mean"] == pytest.approx(master["reference_nll_mean"], abs=0.15)
    assert found["nll_increase_high_nats"] < 0
    assert math.isfinite(found["nll_mean"])
    settings = ran[f"on-{method}"].result.version
    assert settings is not None
    assert settings.recipe is not None
    assert settings.recipe["settings"]["base_dequantized"] is True
