"""Greedy text of a GGUF file by llama.cpp and of its master by transformers. Imports nothing of Quantry.

``python generate_with_llama_cpp.py <file> <master> <prompt>`` prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import torch
import xllamacpp
from transformers import AutoModelForCausalLM, AutoTokenizer

NUM_TOKENS = 24


def main(file: str, master: str, prompt: str) -> dict[str, Any]:
    tokenizer = AutoTokenizer.from_pretrained(master)
    inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
    model = AutoModelForCausalLM.from_pretrained(master, dtype=torch.float32)
    tokens = model.generate(**inputs, max_new_tokens=NUM_TOKENS, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    answer = completion(file, prompt)
    told = tokenizer(answer["choices"][0]["text"], return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model(torch.cat([inputs["input_ids"], told], dim=1)).logits[0, inputs["input_ids"].shape[1] - 1 : -1]
    chosen = logits.gather(1, told[0, :, None])[:, 0]
    return {
        # How much likelier the master finds its own choice than llama.cpp's, token by token.
        "mean_gap_nats": (logits.max(dim=1).values - chosen).mean().item(),
        "transformers": tokenizer.decode(tokens),
        "llama_cpp": answer["choices"][0]["text"],
        "num_prompt_tokens": answer["usage"]["prompt_tokens"],
        "num_prompt_tokens_expected": inputs["input_ids"].shape[1],
    }


def completion(file: str, prompt: str) -> dict[str, Any]:
    params = xllamacpp.CommonParams()
    params.model.path = file
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 256, 1, 2
    params.warmup = False
    server = xllamacpp.Server(params)
    answer: dict[str, Any] = server.handle_completions({"prompt": prompt, "n_predict": NUM_TOKENS, "temperature": 0})
    return answer


if __name__ == "__main__":
    said = json.dumps(main(*sys.argv[1:]))
    print(said, flush=True)
    # Skips the server's farewell on stdout, which would come after the answer.
    os._exit(0)
