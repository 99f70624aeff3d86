"""Asks llama.cpp for its answers to a probe. A process of its own, because a broken file may end it; imports nothing of ours.

    <python> -P llama_cpp_answers.py <file.gguf> <request.json> <answer.json>

The request has ``token_ids`` (the prompt), ``texts`` (prompts as text or as token ids), ``num_tokens`` and ``num_threads``. The
answer has ``token_ids`` and ``logprobs`` of what llama.cpp says next, greedily, and for each of ``texts`` into how many tokens it
is cut (``num_tokens``) and the log-probability of what it says first (``logprob``).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import xllamacpp

ROOM_TOKENS = 64
"""Of the context, beyond prompt and answer: the text may be cut into some tokens more."""


def main() -> None:
    file, request_file, answer_file = sys.argv[1:]
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    settings = xllamacpp.CommonParams()
    settings.model.path = file
    settings.n_ctx = len(request["token_ids"]) + request["num_tokens"] + ROOM_TOKENS
    settings.n_parallel = 1
    settings.cpuparams.n_threads = request["num_threads"]
    settings.warmup = False
    server = xllamacpp.Server(settings)
    greedy = {"n_predict": request["num_tokens"], "temperature": 0, "ignore_eos": True, "logprobs": 1}
    said = complete(server, {"prompt": request["token_ids"], **greedy})["choices"][0]["logprobs"]["content"]
    answer: dict[str, Any] = {"token_ids": [one["id"] for one in said], "logprobs": [one["logprob"] for one in said]}
    first = greedy | {"n_predict": 1}
    answer["texts"] = [look(complete(server, {"prompt": text, **first})) for text in request["texts"]]
    Path(answer_file).write_text(json.dumps(answer), encoding="utf-8")
    # Its threads need not be waited for.
    os._exit(0)


def look(completion: dict[str, Any]) -> dict[str, Any]:
    """Returns how long the prompt was, and the log-probability of the first token after it."""
    return {
        "num_tokens": completion["usage"]["prompt_tokens"],
        "logprob": completion["choices"][0]["logprobs"]["content"][0]["logprob"],
    }


def complete(server: xllamacpp.Server, request: dict[str, Any]) -> dict[str, Any]:
    """Returns the completion; exits with the server's words if there is none."""
    answer: dict[str, Any] = server.handle_completions(request)
    if "error" in answer:
        sys.exit(str(answer["error"]["message"]))
    return answer


if __name__ == "__main__":
    main()
