"""Questions to an engine over HTTP: does it answer, is it the one that was started, and how busy is it?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from quantry_core.engines import ENGINES, EngineInfo, Mark
from quantry_core.jobs import EngineKind
from quantry_deploy.drivers.gauges import UNKNOWN_LOAD, Load, read_load

HEALTH_TIMEOUT_S = 2.0
LOAD_TIMEOUT_S = 120.0
PROOF_TIMEOUT_S = 60.0
"""The first completion of a big model on a busy CPU takes a while."""

MAX_TOLD_CHARS = 600
"""Of what an engine answers where it should not."""

MODEL_INFO_PATH = "/model_info"
"""Where SGLang shows its weight_version."""


@dataclass(frozen=True)
class Target:
    """An engine that is asked, and as what it must show itself."""

    url: str
    served_name: str
    kind: EngineKind = EngineKind.VLLM
    mark: str | None = None
    """The replica's id; None: it was started by somebody else, who knows of none."""

    @property
    def info(self) -> EngineInfo:
        return ENGINES[self.kind]


class EngineProbe:
    """Asks engines. One per process; close it at the end."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        # Engines are asked directly: a proxy from the environment has no business between. Nor is a redirect followed.
        self._client = httpx.AsyncClient(timeout=HEALTH_TIMEOUT_S, trust_env=False, follow_redirects=False, transport=transport)

    async def answers(self, target: Target) -> bool:
        """Tells whether its health path answers 200."""
        try:
            response = await self._client.get(f"{target.url}{target.info.health_path}")
        except httpx.HTTPError:
            return False
        return response.status_code == 200

    async def load(self, target: Target) -> Load:
        """Returns how busy it is, as far as its metrics say."""
        try:
            response = await self._client.get(f"{target.url}{target.info.metrics_path}")
        except httpx.HTTPError:
            return UNKNOWN_LOAD
        return read_load(response.text, target.info.gauges) if response.status_code == 200 else UNKNOWN_LOAD

    async def doubt(self, target: Target) -> str:
        """Returns why this is not the engine that was started, or does not complete; an empty string if all is well.

        An engine shows the replica's id where it can: another process that took the port does not.
        """
        return _told(await self._doubt(target))

    async def _doubt(self, target: Target) -> str:
        try:
            doubt = await self._identity_doubt(target)
            if doubt:
                return doubt
            question = {"model": target.served_name, "prompt": "The", "max_tokens": 1, "temperature": 0}
            completion = await self._client.post(f"{target.url}{target.info.proof_path}", json=question, timeout=PROOF_TIMEOUT_S)
            if completion.status_code != 200:
                return f"a completion of one token answered {completion.status_code}: {completion.text[:200]}"
            if not completion.json().get("choices"):
                return "a completion of one token answered no choice"
        except (httpx.HTTPError, ValueError, AttributeError, TypeError) as error:
            return f"a completion of one token failed: {error!r}"
        return ""

    async def adapters(self, url: str) -> dict[str, str] | None:
        """Returns the folder of each adapter that an engine lists by its name; None if it did not answer."""
        try:
            response = await self._client.get(f"{url}/v1/models")
            response.raise_for_status()
            models = response.json().get("data", [])
            return {str(model["id"]): str(model.get("root")) for model in models if model.get("parent") is not None}
        except (httpx.HTTPError, ValueError, AttributeError, KeyError, TypeError):
            return None

    async def load_adapter(self, url: str, name: str, folder: Path) -> str:
        """Has an engine load an adapter; returns why it did not, an empty string if it did."""
        return await self._ask(f"{url}/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})

    async def unload_adapter(self, url: str, name: str) -> str:
        """Has an engine forget an adapter; returns why it did not, an empty string if it did."""
        return await self._ask(f"{url}/v1/unload_lora_adapter", {"lora_name": name})

    async def _identity_doubt(self, target: Target) -> str:
        listed = _names(await self._client.get(f"{target.url}{target.info.models_path}"))
        expected = {target.served_name}
        if target.mark is not None and target.info.mark is Mark.LISTED:
            expected.add(target.mark)
        if not expected <= listed:
            whose = "" if target.mark is None else f" as replica {target.mark}"
            return f"it serves {', '.join(sorted(listed)) or 'nothing'}, not {target.served_name}{whose}"
        if target.mark is not None and target.info.mark is Mark.WEIGHT_VERSION:
            info = await self._client.get(f"{target.url}{MODEL_INFO_PATH}")
            info.raise_for_status()
            shown = info.json().get("weight_version")
            if shown != target.mark:
                return f"it shows {shown or 'nothing'} as its weight_version, not replica {target.mark}"
        return ""

    async def _ask(self, url: str, body: dict[str, str]) -> str:
        try:
            answer = await self._client.post(url, json=body, timeout=LOAD_TIMEOUT_S)
        except httpx.HTTPError as error:
            return f"the engine did not answer: {error!r}"
        return "" if answer.status_code == 200 else _told(f"the engine answered {answer.status_code}: {_refusal(answer)}")

    async def close(self) -> None:
        await self._client.aclose()


def _names(response: httpx.Response) -> set[str]:
    """Returns the ids that /v1/models lists, and their tags where they have any; raises ValueError, AttributeError or TypeError if it
    answered something else."""
    response.raise_for_status()
    models: list[dict[str, Any]] = response.json().get("data", [])
    return {str(name) for model in models for name in (model.get("id"), *(model.get("tags") or []))}


def _refusal(response: httpx.Response) -> str:
    """Returns the sentence of an error in OpenAI's shape; the text as it came where it has another."""
    try:
        sentence = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        sentence = response.text
    return str(sentence)


def _told(sentence: str) -> str:
    """Returns what an engine said as it can be recorded: an engine may say anything, and Postgres takes no NUL and no half of a pair."""
    return sentence[:MAX_TOLD_CHARS].encode("utf-8", "replace").decode("utf-8").replace("\x00", "")
