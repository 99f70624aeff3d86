"""Prompts with their answers as token ids: what learns from answers as wholes, pairs of them or single ones, is given these."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from quantry_core.errors import InvalidInput
from quantry_core.rows import Message, Row
from quantry_core.training import Overlong
from quantry_worker.child.training.order import Counts, TrainingOrder
from quantry_worker.child.training.samples import overlong_refused, template_of

Messages = tuple[Message, ...]


class Part(IntEnum):
    """Which rows of an order."""

    TRAIN = 0
    VALIDATION = 1


@dataclass(frozen=True)
class Rows:
    """Rows of one dataset, each with its number in the file, and where they are counted."""

    dataset_ref: str
    numbered: list[tuple[int, Row]]
    counts: Counts


def rows_of(order: TrainingOrder, part: Part) -> Rows:
    """Returns the rows that are trained on, counted in the order, or those held out, which are not."""
    rows = (order.train, order.validation)[part]
    numbered = list(zip(order.row_numbers[part], rows, strict=True))
    return Rows(order.dataset_refs[part], numbered, order.counts if part is Part.TRAIN else Counts())


@dataclass(frozen=True)
class Encoded:
    """A prompt and its answers, one or two, as ids. Each answer follows on the same prompt."""

    number: int
    """The row's, from 1."""
    prompt: list[int]
    answers: tuple[list[int], ...]
    label: bool = True
    """Whether a single answer is good."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the longest sequence."""
        return len(self.prompt) + max(map(len, self.answers))


@dataclass(frozen=True)
class Writer:
    """Writes messages of one dataset as a model sees them."""

    tokenizer: Any
    dataset_ref: str

    def encode(self, number: int, prompt: Messages, answers: tuple[Messages, ...], label: bool = True) -> Encoded:
        """Returns a prompt with answers to it, each ended by the end-of-sequence token where the template sets none.

        Without a template, prompt and answer follow each other. Raises InvalidInput for a chat without a template, and what the
        template refuses or rewrites.
        """
        before = self.prompt_text(number, prompt)
        alone = self.prompt_ids(before)
        return Encoded(number, alone, tuple(self._answer_ids(number, prompt, answer, before, alone) for answer in answers), label)

    def prompt_text(self, number: int, prompt: Messages) -> str:
        """Returns a prompt with what an answer begins with behind it."""
        if template_of(self.tokenizer) is not None:
            return self._by_template(number, prompt, is_prompt=True)
        if len(prompt) > 1:
            raise InvalidInput(f"{self._where(number)} is a chat, but the model's tokenizer has no chat template to write it by")
        return prompt[0].content

    def prompt_ids(self, text: str) -> list[int]:
        """Returns the ids of a prompt; without a template, with the special tokens that an engine puts before it."""
        has_template = template_of(self.tokenizer) is not None
        # Not verbose: whether it is too long is looked at later.
        ids = list(self.tokenizer(text, add_special_tokens=not has_template, verbose=False).input_ids)
        if not has_template and ids and ids[-1] == self.tokenizer.eos_token_id:
            ids.pop()
        return ids

    def _answer_ids(self, number: int, prompt: Messages, answer: Messages, before: str, alone: list[int]) -> list[int]:
        if template_of(self.tokenizer) is None:
            if len(answer) > 1:
                raise InvalidInput(f"{self._where(number)} is a chat, but the model's tokenizer has no chat template to write it by")
            return self._ended(self._ids(answer[0].content))
        text = self._by_template(number, prompt + answer, is_prompt=False)
        if not text.startswith(before):
            raise InvalidInput(
                f"{self._where(number)}: the model's chat template writes the prompt otherwise once an answer follows it, so that the "
                "answer cannot be told from it"
            )
        whole = self._ids(text)
        # Where an answer would begin within a token, it is cut into tokens apart, as it is when the model answers.
        apart = whole[len(alone) :] if whole[: len(alone)] == alone else self._ids(text[len(before) :])
        return self._ended(apart)

    def _by_template(self, number: int, messages: Messages, *, is_prompt: bool) -> str:
        said = [{"role": message.role.value, "content": message.content} for message in messages]
        try:
            text: str = self.tokenizer.apply_chat_template(
                said, chat_template=template_of(self.tokenizer), tokenize=False, add_generation_prompt=is_prompt
            )
        # A template is a program: it may raise anything, and says so where it refuses roles.
        except Exception as error:
            raise InvalidInput(f"{self._where(number)} cannot be written by the model's chat template: {error}") from error
        return text

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    def _ended(self, answer: list[int]) -> list[int]:
        end = self.tokenizer.eos_token_id
        return answer if end is None or end in answer else [*answer, end]

    def _where(self, number: int) -> str:
        return f"dataset {self.dataset_ref}: row {number}"


def fitting(order: TrainingOrder, rows: Rows, encoded: Iterable[Encoded]) -> list[Encoded]:
    """Returns what of the rows fits into a sequence, or is made to, and counts it; raises InvalidInput if nothing is left.

    Truncated answers lose their end. A prompt that leaves no room for an answer is dropped with it.
    """
    max_tokens, policy, counts = order.spec.hyperparameters.sequence_tokens, order.spec.overlong, rows.counts
    kept: list[Encoded] = []
    too_long: list[tuple[int, int]] = []
    for one in encoded:
        room = max_tokens - len(one.prompt)
        if one.num_tokens <= max_tokens:
            kept.append(one)
        elif policy is Overlong.TRUNCATE and room > 0:
            kept.append(replace(one, answers=tuple(answer[:room] for answer in one.answers)))
            counts.num_truncated += 1
        else:
            too_long.append((one.number, one.num_tokens))
            counts.num_dropped += 1
    if too_long and policy is Overlong.REFUSE:
        raise overlong_refused(rows.dataset_ref, too_long, max_tokens)
    if not kept:
        raise InvalidInput(f"dataset {rows.dataset_ref}: no row is left; {len(too_long)} are longer than {max_tokens} tokens")
    counts.num_samples += len(kept)
    counts.num_learned_tokens += sum(len(answer) for one in kept for answer in one.answers)
    counts.num_tokens += sum(len(one.prompt) + len(answer) for one in kept for answer in one.answers)
    return kept
