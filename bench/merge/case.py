"""One case: the example master quantized, an adapter trained on that, and a measured merge of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.child import run, text
from bench.embedded import ROOT
from quantry_core.jobs import FinetuneSpec, InputRole, MergeSpec, QuantizationRecipe, QuantizeSpec
from quantry_core.methods import Format
from quantry_core.versions import VersionKind
from quantry_worker.protocol import ChildInput

MASTER = ROOT / "examples" / "bard-6m"
CALIBRATION = ("kjv.calibration", "shakespeare.calibration", "speeches.calibration")
TRAINING, VALIDATION, HELD_OUT, UNTOUCHED = "jargon.train", "jargon.calibration", "jargon.test", "kjv.test"
WINDOW_TOKENS = 256
HYPERPARAMETERS = {"max_steps": 30, "batch_size": 8, "sequence_tokens": 256, "learning_rate": 3e-3}
KINDS = {Format.SAFETENSORS: VersionKind.MASTER, Format.COMPRESSED_TENSORS: VersionKind.QUANTIZED, Format.PEFT: VersionKind.ADAPTER}


def ways(directory: Path, scheme: str) -> dict[str, Any]:
    """Returns the metrics of a measured merge of an adapter that was trained on the example master at this scheme."""
    recipe = QuantizationRecipe.model_validate(
        {"method": "gptq", "scheme": scheme, "group_size": 64, "calibration": {"datasets": list(CALIBRATION)}, "quality": None}
    )
    calibration = [text(InputRole.CALIBRATION, directory, name) for name in CALIBRATION]
    master = _version(InputRole.BASE, MASTER, "bard-6m@1", Format.SAFETENSORS)
    _, quantized = run(directory / "quantize", QuantizeSpec(base="ver_1", **dict(recipe)), [master, *calibration])
    base = _version(InputRole.BASE, quantized, "bard-6m@2", Format.COMPRESSED_TENSORS)
    base = base.model_copy(update={"recipe": {"scheme": scheme}})
    finetune = FinetuneSpec.model_validate(
        {"model": "ver_2", "training_file": TRAINING, "hyperparameters": HYPERPARAMETERS, "validation": {"max_rows": 32}}
    )
    _, adapter = run(directory / "finetune", finetune, [base, text(InputRole.TRAINING, directory, TRAINING)])
    merge = MergeSpec.model_validate(
        {
            "adapters": [{"adapter": "ver_3"}],
            "quantize": recipe.model_dump(),
            "measure": True,
            "validation_file": VALIDATION,
            "corpora": [HELD_OUT, UNTOUCHED],
            "window_tokens": WINDOW_TOKENS,
            "max_windows": None,
        }
    )
    inputs = [
        _version(InputRole.ADAPTER, adapter, "bard-6m@3", Format.PEFT),
        base.model_copy(update={"role": InputRole.ADAPTER_BASE}),
        master,
        text(InputRole.VALIDATION, directory, VALIDATION),
        *(text(InputRole.CORPUS, directory, name) for name in (HELD_OUT, UNTOUCHED)),
        *calibration,
    ]
    result, _ = run(directory / "merge", merge, inputs)
    return result.metrics


def _version(role: InputRole, path: Path, ref: str, form: Format) -> ChildInput:
    return ChildInput(role=role, id=f"ver_{ref[-1]}", ref=ref, kind=KINDS[form], format=form, path=path)
