"""Messages and text as a model sees them: written by its chat template, and as token ids with what an engine puts before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quantry_core.errors import InvalidInput
from quantry_core.rows import Message


def template_of(tokenizer: Any) -> str | None:
    """Returns the tokenizer's chat template, of several the one called default; None if it has none."""
    templates = tokenizer.chat_template
    if isinstance(templates, dict):
        return templates.get("default")
    return templates or None


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """Returns the ids of text without special tokens."""
    # Not verbose: a text longer than the context is cut by whoever asks, and no reason for a warning.
    return list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)


def opened_ids(tokenizer: Any, text: str) -> list[int]:
    """Returns the ids of text with the special tokens that an engine puts before what it completes, of empty text those alone."""
    ids = list(tokenizer(text, add_special_tokens=True, verbose=False).input_ids)
    if ids and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return ids


def ended(tokenizer: Any, ids: list[int]) -> list[int]:
    """Returns ids with the end-of-sequence token behind them, where the tokenizer has one and they do not end in it."""
    end_id = tokenizer.eos_token_id
    return ids if end_id is None or (ids and ids[-1] == end_id) else [*ids, end_id]


def ended_turn(tokenizer: Any, ids: list[int]) -> list[int]:
    """Returns an answer that a template has written with the end-of-sequence token, which it may have set before a line break."""
    return ids if tokenizer.eos_token_id in ids else ended(tokenizer, ids)


@dataclass(frozen=True)
class Writer:
    """Writes messages of one dataset. Without a template a prompt and its answer follow each other, and chats cannot be written."""

    tokenizer: Any
    dataset_ref: str

    @property
    def has_template(self) -> bool:
        return template_of(self.tokenizer) is not None

    def where(self, number: int) -> str:
        """Returns what a row is called in errors."""
        return f"dataset {self.dataset_ref}: line {number}"

    def conversation(self, number: int, messages: Sequence[Message]) -> str:
        """Returns messages as the template writes them; raises InvalidInput for what it refuses."""
        return self._by_template(number, messages, add_generation_prompt=False)

    def prompt_text(self, number: int, prompt: Sequence[Message]) -> str:
        """Returns a prompt with what an answer begins with behind it; raises InvalidInput as ``alone`` and ``conversation`` do."""
        if not self.has_template:
            return self.alone(number, prompt)
        return self._by_template(number, prompt, add_generation_prompt=True)

    def prompt_ids(self, text: str) -> list[int]:
        """Returns the ids of a prompt; without a template, with the special tokens that an engine puts before it."""
        return plain_ids(self.tokenizer, text) if self.has_template else opened_ids(self.tokenizer, text)

    def alone(self, number: int, messages: Sequence[Message]) -> str:
        """Returns what a single message says; raises InvalidInput for several, which only a template can write."""
        if len(messages) > 1:
            raise self.chat_refused(number)
        return messages[0].content

    def chat_refused(self, number: int) -> InvalidInput:
        """Returns the error that a chat needs a template."""
        return InvalidInput(f"{self.where(number)} is a chat, but the model's tokenizer has no chat template to write it by")

    def _by_template(self, number: int, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        said = [{"role": message.role.value, "content": message.content} for message in messages]
        try:
            text: str = self.tokenizer.apply_chat_template(
                said, chat_template=template_of(self.tokenizer), tokenize=False, add_generation_prompt=add_generation_prompt
            )
        # A template is a program: it may raise anything, and says so where it refuses roles.
        except Exception as error:
            raise InvalidInput(f"{self.where(number)} cannot be written by the model's chat template: {error}") from error
        return text
