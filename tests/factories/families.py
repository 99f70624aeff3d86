"""Tiny models of several families, briefly trained on the example texts, so that a spoilt matrix shows in their perplexity.

Run as a program in the ml environment it trains one; ``family_master`` does that once for each family and test session.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantry_core.datasets import DATASET_FILES, DatasetKind
from quantry_core.jobs import QuantizeSpec

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
ML_PYTHON = ROOT / ".venvs" / "ml" / "bin" / "python"
GPTQMODEL_PYTHON = ROOT / ".venvs" / "gptqmodel" / "bin" / "python"
RECIPE = Path(__file__).with_name("gate_in_ml.py")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
TEXTS = ("kjv", "shakespeare", "speeches")
CONTEXT_TOKENS = 256
STEPS, BATCH, WINDOW_TOKENS, LEARNING_RATE = 100, 16, 64, 4e-3
SEED = 7

# The example model's tokenizer has 4096 tokens.
_SHAPE = {"vocab_size": 4096, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
_LLAMA = {**_SHAPE, "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": CONTEXT_TOKENS, "pad_token_id": 2}
CONFIGS = {
    "llama": _LLAMA,
    "qwen3": _LLAMA,
    "mistral": _LLAMA,
    "gemma": _LLAMA,
    "gpt2": {
        **{"vocab_size": 4096, "n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT_TOKENS},
        **{"bos_token_id": 0, "eos_token_id": 1},
    },
    "qwen3_moe": {**_LLAMA, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "norm_topk_prob": True},
    "mixtral": {**_LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2},
}
"""By model_type. Every side is a multiple of 32."""


@dataclass(frozen=True)
class Outcome:
    """What the quantize recipe made of a family with one method."""

    output_dir: Path
    state: str | None
    refused: str | None
    problems: dict[str, Any]
    """Of every check of the gate that did not pass."""


def family_master(model_type: str, directory: Path) -> Path:
    """Returns a trained float16 master of a family below ``directory``, made there if it is not yet."""
    master = directory / model_type
    if not (master / "config.json").exists():
        environment = {"PATH": os.defpath, "HOME": str(directory), "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        subprocess.run([ML_PYTHON, __file__, model_type, master], env=environment, check=True, capture_output=True)
    return master


def quantize_family(directory: Path, master: Path, specs: Mapping[str, QuantizeSpec], *, python: Path = ML_PYTHON) -> dict[str, Outcome]:
    """Runs the quantize recipe, gate included, for every spec in one process; returns what became of each by name."""
    text = directory / "text"
    text.mkdir()
    (text / DATASET_FILES[DatasetKind.TEXT]).write_bytes((EXAMPLES / "corpora" / "kjv.calibration.txt").read_bytes()[:60_000])
    common = {"master_dir": str(master), "calibration_dir": str(text), "engine_python": None, "engine_script": None, "make": True}
    orders = [common | {"spec": spec.model_dump(mode="json"), "output_dir": str(directory / name)} for name, spec in specs.items()]
    (directory / "requests.json").write_text(json.dumps(orders))
    environment = {"PATH": os.defpath, "HOME": str(directory), "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [python, RECIPE, directory / "requests.json", directory / "answers.json"]
    ended = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    assert ended.returncode == 0, ended.stderr.decode()[-3000:]
    answers = json.loads((directory / "answers.json").read_text())
    return {name: _outcome(directory / name, answer) for name, answer in zip(specs, answers, strict=True)}


def _outcome(output_dir: Path, answer: dict[str, Any]) -> Outcome:
    problems = {one["name"]: one["metrics"]["problems"] for one in answer["evidence"] if one["verdict"] != "pass"}
    return Outcome(output_dir, answer.get("state"), answer.get("refused"), problems)


def _train(model_type: str, output: Path) -> None:
    """Trains one model on the calibration texts and saves it: some ten seconds on two cores."""
    import shutil  # noqa: PLC0415

    import torch  # noqa: PLC0415
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    torch.set_num_threads(2)
    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(EXAMPLES / "bard-6m")
    text = "".join((EXAMPLES / "corpora" / f"{name}.calibration.txt").read_text() for name in TEXTS)
    tokens = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **CONFIGS[model_type]), dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    for _ in range(STEPS):
        starts = torch.randint(0, len(tokens) - WINDOW_TOKENS, (BATCH,))
        windows = torch.stack([tokens[start : start + WINDOW_TOKENS] for start in starts])
        loss = model(input_ids=windows, labels=windows).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    output.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copyfile(EXAMPLES / "bard-6m" / name, output / name)
    model.half().save_pretrained(output)


if __name__ == "__main__":
    _train(sys.argv[1], Path(sys.argv[2]))
