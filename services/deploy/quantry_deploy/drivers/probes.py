"""Questions to an engine over HTTP: does it answer, and is it the one that was started?"""

from __future__ import annotations

import httpx

HEALTH_TIMEOUT_S = 2.0
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

    async def close(self) -> None:
        await self._client.aclose()


def _model_names(response: httpx.Response) -> set[str]:
    """Returns the ids that /v1/models lists; raises ValueError or AttributeError if it answered something else."""
    response.raise_for_status()
    return {str(model.get("id")) for model in response.json().get("data", [])}
