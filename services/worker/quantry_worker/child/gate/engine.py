"""Check ``engine``: vLLM itself loads the checkpoint, and its greedy tokens and logprobs agree with the reader's.

Runs where the worker has an engine at hand and is told to use it. Where it cannot be asked, the verdict is inconclusive and says
why: vLLM cannot serve this on its device, as the servability table tells a deployment too, or it was built for a device that the
job does not see. vLLM computes in 16 bits where the reader computes in 32, so logprobs
differ by some hundredths; a token may differ where the reader finds both nearly alike.
"""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

import torch

from quantry_core.errors import SourceRefused
from quantry_core.estimates.facts import facts_of
from quantry_core.families import context_tokens
from quantry_core.gate import GateCheck
from quantry_core.methods import Scheme
from quantry_core.servability import EngineName, not_served
from quantry_core.versions import EvidenceDraft
from quantry_worker.child.engine import HOST, Engine, EngineFacts, kv_cache_bytes, running_engine, task_engine, unseen_device
from quantry_worker.child.gate.answers import Answer, compare_answers
from quantry_worker.child.gate.findings import GateInput, evidence, not_asked
from quantry_worker.child.gate.probe import FOUR_BIT_ACTIVATIONS_NATS, activations_nats
from quantry_worker.child.gate.reader import probe_ids
from quantry_worker.child.numerics.model import load_model

REQUEST_TIMEOUT_S = 600.0
NUM_TOKENS = 16
LOGPROB_TOLERANCE_NATS = 0.1
"""See compare_answers. 16-bit activations through a few dozen layers give 0.01 to 0.05."""
LOGPROB_TOLERANCE_FP4_NATS = 0.5
"""The same where activations are rounded to 4 bits, which two kernels do at different places."""


def check_engine(given: GateInput) -> EvidenceDraft:
    """Returns the evidence; raises SourceRefused if vLLM was to load the checkpoint and did not."""
    facts = task_engine(given.task)
    if facts is None:
        raise SourceRefused("vLLM was to load it, and this worker has no engine")
    schemes: set[Scheme | None] = {target.weights.scheme for target in given.plan.targets.values()} or {given.plan.scheme}
    if given.plan.has_kv_scales:
        schemes.add(Scheme.KV_FP8)
    reason = not_served(given.plan.method.format, schemes, EngineName.VLLM, facts.device) or unseen_device(facts)
    if reason is not None:
        return not_asked(GateCheck.ENGINE, {"not_served": reason})
    given.on_progress(0.1, f"{GateCheck.ENGINE}: vLLM loads it")
    config = given.master.config
    prompt = probe_ids(given.output_dir, config)[:, : (context_tokens(config) or NUM_TOKENS * 8) - NUM_TOKENS]
    answer = ask_engine(given, facts, prompt[0].tolist())
    given.on_progress(0.8, f"{GateCheck.ENGINE}: reader")
    expected = reader_logprobs(given.output_dir, prompt, answer.token_ids)
    problems, metrics = compare_answers("vLLM", answer, expected, prompt[0].tolist(), tolerance(given))
    return evidence(GateCheck.ENGINE, problems, metrics | {"engine_version": facts.version, "engine_device": facts.device})


def tolerance(given: GateInput) -> float:
    """Returns how far logprobs of the two may be, in nats."""
    is_fp4 = activations_nats(given.plan) >= FOUR_BIT_ACTIVATIONS_NATS
    return LOGPROB_TOLERANCE_FP4_NATS if is_fp4 else LOGPROB_TOLERANCE_NATS


def ask_engine(given: GateInput, facts: EngineFacts, prompt: list[int]) -> Answer:
    """Returns what vLLM says greedily after the prompt; raises InvalidInput with its last words if it cannot serve the checkpoint."""
    length = len(prompt) + NUM_TOKENS
    with running_engine(
        facts,
        given.output_dir,
        max_num_seqs=1,
        max_model_len=length,
        kv_cache_bytes=kv_cache_bytes(facts_of(given.master), length),
        num_threads=given.task.num_threads,
    ) as engine:
        return _complete(engine, prompt)


def _complete(engine: Engine, prompt: list[int]) -> Answer:
    body = {
        "model": engine.served_name,
        "prompt": prompt,
        "max_tokens": NUM_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "logprobs": 1,
        "prompt_logprobs": 1,
        "return_token_ids": True,
    }
    connection = http.client.HTTPConnection(HOST, engine.port, timeout=REQUEST_TIMEOUT_S)
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise SourceRefused(f"vLLM answered {response.status}: {content[:500].decode(errors='replace')}")
        choice: dict[str, Any] = json.loads(content)["choices"][0]
    except (OSError, http.client.HTTPException) as error:
        raise SourceRefused(f"vLLM broke off: {error}") from error
    finally:
        connection.close()
    # The first token of a prompt has none.
    of_prompt = zip(choice["prompt_logprobs"][1:], prompt[1:], strict=True)
    return Answer(
        token_ids=choice["token_ids"],
        logprobs=choice["logprobs"]["token_logprobs"],
        prompt_logprobs=[one[str(token)]["logprob"] for one, token in of_prompt],
    )


def reader_logprobs(directory: Path, prompt: torch.Tensor, said: list[int]) -> torch.Tensor:
    """Returns the reader's log-probabilities after each token of prompt and answer, float32 [T + A - 1, V]."""
    token_ids = torch.cat([prompt[0], torch.tensor(said, dtype=prompt.dtype)])[None, :]
    with torch.inference_mode():
        return torch.log_softmax(load_model(directory)(input_ids=token_ids).logits[0, :-1].float(), dim=-1)
