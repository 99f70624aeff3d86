"""Check ``reader`` for GGUF files: llama.cpp, which such files are for, generates from them.

It rounds activations to 8 bits where a weight is in blocks, so its log-probabilities differ by some hundredths of a nat from
those of the dequantized weights.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from quantry_core.errors import SourceRefused
from quantry_worker.child.formats.gguf import SUFFIX
from quantry_worker.child.gate.answers import Answer, compare_answers
from quantry_worker.child.gate.findings import GateInput
from quantry_worker.child.gate.probe import TEXT

SCRIPT = Path(__file__).with_name("llama_cpp_answers.py")
NUM_TOKENS = 16
TIMEOUT_S = 600
MAX_LOG_CHARS = 500
LOGPROB_TOLERANCE_NATS = 0.3
"""See compare_answers. Measured: 0.013 on average with Q8_0, 0.039 with Q4_K_M."""
SAME_PROMPT_NATS = 0.02
"""Between two runs of one prompt: with and without what is cached of it, sums are taken in another order."""


def ask_llama_cpp(given: GateInput, prompt: torch.Tensor) -> tuple[Answer, list[str]]:
    """Returns what llama.cpp says after the prompt, token ids [1, T], and what is wrong with the tokenizer in the file.

    Raises SourceRefused with its last words if it cannot load the file.
    """
    # A tokenizer that is to add tokens of its own, such as one that begins a text, adds them in both programs.
    tokenizer = AutoTokenizer.from_pretrained(given.master_dir, local_files_only=True, trust_remote_code=False)
    is_whole = prompt.shape[1] == len(tokenizer(TEXT, add_special_tokens=False).input_ids)
    request = {
        "token_ids": prompt[0].tolist(),
        # A text that is longer than the context is not asked for.
        "texts": [TEXT, tokenizer(TEXT).input_ids] if is_whole else [],
        "num_tokens": NUM_TOKENS,
        "num_threads": given.task.num_threads,
    }
    answer = _ask(given.output_dir, request)
    return Answer(answer["token_ids"], answer["logprobs"]), _tokenizer_problems(*answer["texts"]) if is_whole else []


def _tokenizer_problems(text: dict[str, Any], token_ids: dict[str, Any]) -> list[str]:
    """Returns what speaks against the file's tokenizer: text, cut by it, is followed by something else than the master's tokens are."""
    if text["num_tokens"] != token_ids["num_tokens"]:
        return [f"llama.cpp cuts the probe into {text['num_tokens']} tokens, the master's tokenizer into {token_ids['num_tokens']}"]
    difference = abs(text["logprob"] - token_ids["logprob"])
    if not difference <= SAME_PROMPT_NATS:
        return [f"llama.cpp goes on from the probe as from other tokens than the master's: {difference:.2f} nats apart"]
    return []


def compare_llama_cpp(answer: Answer, expected: torch.Tensor, prompt: torch.Tensor) -> tuple[list[str], dict[str, Any]]:
    """Returns what is wrong with the answer beside the log-probabilities of the dequantized weights, float32 [T + A, V]."""
    problems, metrics = compare_answers("llama.cpp", answer, expected[:-1], prompt[0].tolist(), LOGPROB_TOLERANCE_NATS)
    return problems, {f"llama_cpp_{name}": value for name, value in metrics.items()}


def _ask(directory: Path, request: dict[str, Any]) -> dict[str, Any]:
    (file,) = directory.glob(f"*{SUFFIX}")
    with tempfile.TemporaryDirectory() as folder:
        request_file, answer_file, log = (Path(folder) / name for name in ("request.json", "answer.json", "log.txt"))
        request_file.write_text(json.dumps(request), encoding="utf-8")
        command = [sys.executable, "-P", str(SCRIPT), str(file), str(request_file), str(answer_file)]
        with log.open("wb") as output:
            try:
                ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=TIMEOUT_S, check=False)
            except subprocess.TimeoutExpired:
                raise SourceRefused(f"llama.cpp did not answer within {TIMEOUT_S} s") from None
        if ended.returncode != 0 or not answer_file.exists():
            words = log.read_text(encoding="utf-8", errors="replace")[-MAX_LOG_CHARS:].strip()
            raise SourceRefused(f"llama.cpp ended with status {ended.returncode} and no answer: {words}")
        answer: dict[str, Any] = json.loads(answer_file.read_text(encoding="utf-8"))
        return answer
