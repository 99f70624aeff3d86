"""What the files of a job must be, by the format that its method writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from factories.adapters import adapter_contents
from factories.checkpoints import CONFIG, master_contents, safetensors_bytes
from factories.control_plane import running_job
from factories.gguf_files import gguf_bytes
from quantry_core.errors import SealRefused, SourceRefused
from quantry_core.jobs import (
    AdapterShare,
    CalibrationSpec,
    EvaluateSpec,
    FinetuneSpec,
    ImportSpec,
    JobSpec,
    MergeSpec,
    QuantizeSpec,
    RecalibrateSpec,
)
from quantry_registry.seals.service import _rule_for

GGUF = QuantizeSpec(base="bard", method="gguf", scheme="Q8_0", quality=None)
FINETUNE = FinetuneSpec(model="bard-6m", training_file="lessons")
WHOLE = FINETUNE.model_copy(update={"adapter": None})
MERGE = MergeSpec(adapters=[AdapterShare(adapter="bard-6m@2")])
GPTQ = QuantizeSpec(base="bard", calibration=CalibrationSpec(datasets=["text"]), quality=None)
RECALIBRATE: dict[str, Any] = {"serving": "bard@production", "datasets": ["text"], "corpora": ["tales"]}
PACKED = safetensors_bytes({"a.weight_packed": ("I32", (4, 1)), "a.weight_scale": ("F16", (4, 1))})
QUANTIZED = master_contents(
    model__safetensors=PACKED, config__json=json.dumps(CONFIG | {"quantization_config": {"quant_method": "compressed-tensors"}}).encode()
)


class Files:
    """A checkpoint in memory."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self._contents = contents

    def files(self) -> Mapping[str, int]:
        return {path: len(content) for path, content in self._contents.items()}

    def read(self, path: str, start: int, length: int) -> bytes:
        return self._contents[path][start : start + length]


def check(spec: JobSpec, contents: Mapping[str, bytes]) -> str | None:
    return _rule_for(running_job(spec), "bard-6m@1")(Files(contents))


@pytest.mark.parametrize(
    ("spec", "contents", "dtype"),
    [
        (ImportSpec(model="bard", source="/models/bard"), master_contents(), "float16"),
        (GPTQ, QUANTIZED, None),
        (RecalibrateSpec(**RECALIBRATE, recipe=GPTQ), QUANTIZED, None),
        (FINETUNE, adapter_contents(), None),
        (WHOLE, master_contents(), "float16"),
        (MERGE, master_contents(), "float16"),
        (GGUF, {"model.gguf": gguf_bytes()}, None),
        (GGUF, {"model.gguf": gguf_bytes(3), "README.md": b"# words", "config.json": b"{}"}, None),
        (RecalibrateSpec(**RECALIBRATE, recipe=GGUF), {"model.gguf": gguf_bytes()}, None),
    ],
)
def test_what_a_job_makes_in_its_format_is_kept(spec: JobSpec, contents: Mapping[str, bytes], dtype: str | None) -> None:
    assert check(spec, contents) == dtype


@pytest.mark.parametrize(
    ("spec", "contents", "words"),
    [
        (GGUF, QUANTIZED, r"exactly one \*.gguf file, not 0"),
        (GGUF, {"a.gguf": gguf_bytes(), "b.gguf": gguf_bytes()}, r"exactly one \*.gguf file, not 2"),
        (GGUF, {"model.gguf": gguf_bytes(0)}, "no weights in model.gguf"),
        (GGUF, {"model.gguf": gguf_bytes()[:-29]}, "model.gguf: "),
        (GGUF, {"model.gguf": b"GGML" + gguf_bytes()[4:]}, "model.gguf: "),
        (GGUF, {"model.gguf": gguf_bytes(), "run.py": b"import os"}, "run.py"),
        (FINETUNE, master_contents(), "not part of an adapter"),
        (FINETUNE, adapter_contents(base_model_name_or_path="bard-6m@2"), "trained on bard-6m@2, and its job trained on bard-6m@1"),
        (WHOLE, adapter_contents(), "no config.json"),
        (MERGE, QUANTIZED, "quantized already"),
        (GPTQ, {"model.gguf": gguf_bytes()}, "model.gguf"),
        (GPTQ, QUANTIZED | {"model.gguf": gguf_bytes()}, "model.gguf"),
        (GPTQ, QUANTIZED | {"model.safetensors": PACKED[:-1]}, "model.safetensors"),
        (GPTQ, QUANTIZED | {"pytorch_model.bin": b"\x80"}, "pickled weights"),
        (ImportSpec(model="bard", source="/models/bard"), QUANTIZED, "quantized already"),
        (ImportSpec(model="bard", source="/models/bard"), {"model.gguf": gguf_bytes()}, "gguf"),
    ],
)
def test_what_is_of_another_format_or_broken_is_refused(spec: JobSpec, contents: Mapping[str, bytes], words: str) -> None:
    with pytest.raises(SourceRefused, match=words):
        check(spec, contents)


@pytest.mark.parametrize("spec", [EvaluateSpec(version="bard", corpora=["tales"]), RecalibrateSpec(**RECALIBRATE)])
def test_a_job_that_makes_no_files_has_no_rule(spec: JobSpec) -> None:
    with pytest.raises(SealRefused, match="makes no files"):
        check(spec, QUANTIZED)
