"""Check ``reader``: a program that shares no code with our own readers loads it, and computes what its weights say.

Three models see the same fixed text: the reader's (transformers' own loader of the format, or GPTQModel's for gptq), one built
from the weights that ``child/formats`` dequantized, and the master. The reader's logits must be finite, near those of the
dequantized weights, and more loosely near the master's, which shows a swapped layer or a tokenizer of another model.
One model is in memory at a time. From a GGUF file llama.cpp generates too (``llama_cpp.py``), and must agree.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoTokenizer

from quantry_core.errors import SourceRefused
from quantry_core.families import context_tokens
from quantry_core.gate import GateCheck
from quantry_core.methods import Format
from quantry_core.versions import EvidenceDraft
from quantry_worker.child.gate.answers import Answer
from quantry_worker.child.gate.findings import GateInput, evidence
from quantry_worker.child.gate.llama_cpp import NUM_TOKENS, ask_llama_cpp, compare_llama_cpp
from quantry_worker.child.gate.probe import TEXT, activations_nats, master_nats
from quantry_worker.child.numerics.dequantized import dequantized_model
from quantry_worker.child.numerics.divergence import kl_nats, same_top1
from quantry_worker.child.numerics.model import load_model
from quantry_worker.child.numerics.release import release_memory

DEFAULT_CONTEXT = 512


class Tolerance(NamedTuple):
    """What the reader's logits are compared with, and how far they may be from it."""

    name: str
    words: str
    nats: float


def check_reader(given: GateInput) -> EvidenceDraft:
    """Returns the evidence; raises SourceRefused if the checkpoint cannot be read at all."""
    torch.set_num_threads(given.task.num_threads)
    stored = given.stored
    prompt = token_ids = probe_ids(given.output_dir, given.master.config)
    problems = []
    if token_ids.tolist() != probe_ids(given.master_dir, given.master.config).tolist():
        problems.append("its tokenizer cuts the probe into other tokens than the master's does")
    answer: Answer | None = None
    if given.plan.method.format is Format.GGUF:
        given.on_progress(0.0, f"{GateCheck.READER}: llama.cpp")
        prompt = prompt[:, : (context_tokens(given.master.config) or DEFAULT_CONTEXT) - NUM_TOKENS]
        answer, odd = ask_llama_cpp(given, prompt)
        problems += odd
        # All models go on where it did.
        token_ids = torch.cat([prompt, torch.tensor([answer.token_ids], dtype=prompt.dtype)], dim=1)
    given.on_progress(0.1, f"{GateCheck.READER}: loading")
    ours = log_probabilities(lambda: _load(given.output_dir), token_ids)
    metrics: dict[str, Any] = {"num_tokens": int(token_ids.numel())}
    if not torch.isfinite(ours).all():
        problems.append("the reader's logits are not finite")
        return evidence(GateCheck.READER, problems, metrics)
    if not stored.opaque:
        given.on_progress(0.4, f"{GateCheck.READER}: dequantizing")
        reference = log_probabilities(lambda: dequantized_model(stored, given.master, given.master_dir), token_ids)
        tolerance = Tolerance("dequantized", "those of its dequantized weights", activations_nats(given.plan))
        problems += _compare(tolerance, reference, ours, metrics)
        if answer is not None:
            disagreements, figures = compare_llama_cpp(answer, reference[0], prompt)
            problems += disagreements
            metrics |= figures
    given.on_progress(0.7, f"{GateCheck.READER}: master")
    master = log_probabilities(lambda: load_model(given.master_dir), token_ids)
    problems += _compare(Tolerance("master", "the master's", master_nats(given.plan)), master, ours, metrics)
    return evidence(GateCheck.READER, problems, metrics)


def probe_ids(directory: Path, config: dict[str, Any]) -> torch.Tensor:
    """Returns the probe as token ids, shape [1, T], at most as many as the context; raises SourceRefused if no tokenizer loads."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        token_ids = tokenizer(TEXT, add_special_tokens=False).input_ids
    except Exception as error:  # Each kind of tokenizer raises its own when its file is not what it should be.
        raise SourceRefused(f"the tokenizer cannot be loaded: {type(error).__name__}: {error}") from error
    context = context_tokens(config) or DEFAULT_CONTEXT
    return torch.tensor([token_ids[:context]])


def log_probabilities(load: Callable[[], Any], token_ids: torch.Tensor) -> torch.Tensor:
    """Returns a model's log-probabilities of the next token, float32 [1, T, V]; the model is given up."""
    model = load()
    with torch.inference_mode():
        found = torch.log_softmax(model(input_ids=token_ids).logits.float(), dim=-1)
    del model
    release_memory()
    return found


def _load(directory: Path) -> Any:
    try:
        return load_model(directory)
    except Exception as error:  # A reader that cannot load it may say so in any way.
        raise SourceRefused(f"the reader cannot load it: {type(error).__name__}: {error}") from error


def _compare(tolerance: Tolerance, expected: torch.Tensor, ours: torch.Tensor, metrics: dict[str, Any]) -> list[str]:
    """Adds how far the logits are from the expected ones to ``metrics``; returns what is wrong with it."""
    if expected.shape != ours.shape:
        return [f"the reader gives logits {list(ours.shape)}, {tolerance.words} are {list(expected.shape)}"]
    mean_nats = float(kl_nats(expected, ours).mean())
    metrics[f"kl_{tolerance.name}_nats"] = mean_nats
    metrics[f"kl_{tolerance.name}_nats_at_most"] = tolerance.nats
    metrics[f"top1_agreement_{tolerance.name}"] = float(same_top1(expected, ours).mean())
    # Written so that NaN is found too.
    if not mean_nats <= tolerance.nats:
        return [f"the reader's logits are {mean_nats:.3g} nats from {tolerance.words}, at most {tolerance.nats:g} are rounding"]
    return []
