"""An engine that answers as vLLM does where logprobs are asked for: with tokens that a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aiohttp import web


class GreedyEngine:
    """Answers every prompt with the same tokens, with another status, or not at all."""

    def __init__(self, tokens: Iterable[tuple[str, float | None]] = ((" or", -0.5), (" not", -1.0))) -> None:
        self.tokens = list(tokens)
        self.scores: list[tuple[int, float]] | None = None
        """Rank and logprob of each token of a text that it is asked to score; None: an engine that knows no scores and no ids."""
        self.status = 200
        self.is_cut = False
        self.free = asyncio.Event()
        """Answers wait for it."""
        self.free.set()
        self.asked: list[dict[str, Any]] = []
        self.num_at_once = 0
        self.most_at_once = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers one request."""
        asked = await request.json()
        self.asked.append(asked)
        self.num_at_once += 1
        self.most_at_once = max(self.most_at_once, self.num_at_once)
        try:
            await self.free.wait()
        finally:
            self.num_at_once -= 1
        if self.is_cut:
            assert request.transport is not None
            request.transport.abort()
        if self.status != 200:
            return web.json_response({"error": {"message": "no"}}, status=self.status)
        if self.scores is not None and "prompt_logprobs" in asked:
            return web.json_response(self._scored(asked, self.scores))
        return web.json_response(self._answer(request.path, asked))

    def _scored(self, asked: dict[str, Any], scores: list[tuple[int, float]]) -> dict[str, Any]:
        answer = asked["prompt"][-len(scores) :]
        told = [
            {str(token): {"rank": rank, "logprob": logprob}, "9999": {"rank": 2 if rank == 1 else 1, "logprob": logprob - 2}}
            for token, (rank, logprob) in zip(answer, scores, strict=True)
        ]
        prompt = [None] * (len(asked["prompt"]) - len(scores))
        return {"id": "c1", "object": "text_completion", "choices": [{"index": 0, "text": "x", "prompt_logprobs": [*prompt, *told]}]}

    def _answer(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        given = self.tokens[: asked["max_tokens"]]
        text = "".join(token for token, _ in given)
        if path.endswith("/chat/completions"):
            logprobs: dict[str, Any] = {"content": [{"token": token, "logprob": logprob, "top_logprobs": []} for token, logprob in given]}
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": logprobs, "finish_reason": "length"}
        else:
            logprobs = {"tokens": [token for token, _ in given], "token_logprobs": [logprob for _, logprob in given], "text_offset": []}
            choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": "length"}
        if self.scores is not None and asked.get("return_token_ids"):
            choice |= {"token_ids": list(range(100, 100 + len(given))), "prompt_token_ids": [1, 2, 3]}
        return {"id": "c1", "object": "answer", "created": 1, "model": asked["model"], "choices": [choice]}
