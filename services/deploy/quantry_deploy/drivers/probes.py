"""Questions to an engine over HTTP: does it answer, and is it the one that was started?"""

from __future__ import annotations

from pathlib import Path

import httpx

HEALTH_TIMEOUT_S = 2.0
LOAD_TIMEOUT_S = 120.0
PROOF_TIMEOUT_S = 60.0
"""The first completion of a big model on a busy CPU takes a while."""


class EngineProbe:
    """Asks engines. One per process; close it at the end."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        # Engines are asked directly: a proxy from the environment has no business between.
        self._client = httpx.AsyncClient(timeout=HEALTH_TIMEOUT_S, trust_env=False, transport=transport)

    async def answers(self, url: str) -> bool:
        """Tells whether GET /health answers 200."""
        try:
            response = await self._client.get(f"{url}/health")
        except httpx.HTTPError:
            return False
        return response.status_code == 200

    async def doubt(self, url: str, served_name: str, replica_id: str) -> str:
        """Returns why this is not the engine that was started, or does not complete; an empty string if all is well.

        The engine lists the replica's id as a second name of its model: another process that took the port does not.
        """
        try:
            models = await self._client.get(f"{url}/v1/models")
            listed = _model_names(models)
            if not {served_name, replica_id} <= listed:
                return f"it serves {', '.join(sorted(listed)) or 'nothing'}, not {served_name} as replica {replica_id}"
            question = {"model": served_name, "prompt": "The", "max_tokens": 1, "temperature": 0}
            completion = await self._client.post(f"{url}/v1/completions", json=question, timeout=PROOF_TIMEOUT_S)
            if completion.status_code != 200:
                return f"a completion of one token answered {completion.status_code}: {completion.text[:200]}"
            if not completion.json().get("choices"):
                return "a completion of one token answered no choice"
        except (httpx.HTTPError, ValueError, AttributeError) as error:
            return f"a completion of one token failed: {error!r}"
        return ""

    async def adapters(self, url: str) -> dict[str, str] | None:
        """Returns the folder of each adapter that an engine lists by its name; None if it did not answer."""
        try:
            response = await self._client.get(f"{url}/v1/models")
            response.raise_for_status()
            models = response.json().get("data", [])
            return {str(model["id"]): str(model.get("root")) for model in models if model.get("parent") is not None}
        except (httpx.HTTPError, ValueError, AttributeError, KeyError):
            return None

    async def load_adapter(self, url: str, name: str, folder: Path) -> str:
        """Has an engine load an adapter; returns why it did not, an empty string if it did."""
        return await self._ask(f"{url}/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})

    async def unload_adapter(self, url: str, name: str) -> str:
        """Has an engine forget an adapter; returns why it did not, an empty string if it did."""
        return await self._ask(f"{url}/v1/unload_lora_adapter", {"lora_name": name})

    async def _ask(self, url: str, body: dict[str, str]) -> str:
        try:
            answer = await self._client.post(url, json=body, timeout=LOAD_TIMEOUT_S)
        except httpx.HTTPError as error:
            return f"the engine did not answer: {error!r}"
        return "" if answer.status_code == 200 else f"the engine answered {answer.status_code}: {_refusal(answer)}"

    async def close(self) -> None:
        await self._client.aclose()


def _model_names(response: httpx.Response) -> set[str]:
    """Returns the ids that /v1/models lists; raises ValueError or AttributeError if it answered something else."""
    response.raise_for_status()
    return {str(model.get("id")) for model in response.json().get("data", [])}


def _refusal(response: httpx.Response) -> str:
    """Returns the sentence of an error in OpenAI's shape; the text as it came where it has another."""
    try:
        sentence = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        sentence = response.text
    return str(sentence)[:500]
