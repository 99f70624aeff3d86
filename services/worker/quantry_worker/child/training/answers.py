"""Prompts with their answers as token ids: what learns from answers as wholes, pairs of them or single ones, is given these."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum

from quantry_core.errors import InvalidInput
from quantry_core.rows import Message, Row
from quantry_core.training import Overlong
from quantry_worker.child.training.order import Counts, TrainingOrder
from quantry_worker.child.training.samples import overlong_refused
from quantry_worker.child.training.writing import Writer, ended, ended_turn, plain_ids

Messages = tuple[Message, ...]


class Part(IntEnum):
    """Which rows of an order."""

    TRAIN = 0
    VALIDATION = 1


@dataclass(frozen=True)
class Rows:
    """Rows of one dataset, each with its line in the file, and where they are counted."""

    dataset_ref: str
    numbered: list[tuple[int, Row]]
    counts: Counts


def rows_of(order: TrainingOrder, part: Part) -> Rows:
    """Returns the rows that are trained on, or those that are measured on, to be counted apart in the order, from nothing."""
    rows, counts = (order.train, order.validation)[part], (order.counts, order.validation_counts)[part]
    counts.begin_again()
    return Rows(order.dataset_refs[part], list(zip(order.row_numbers[part], rows, strict=True)), counts)


@dataclass(frozen=True)
class Encoded:
    """A prompt and its answers, one or two, as ids. Each answer follows on the same prompt."""

    number: int
    """The row's line, from 1."""
    prompt: list[int]
    answers: tuple[list[int], ...]
    label: bool = True
    """Whether a single answer is good."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the longest sequence."""
        return len(self.prompt) + max(map(len, self.answers))


def encode(writer: Writer, number: int, prompt: Messages, answers: tuple[Messages, ...], label: bool = True) -> Encoded:
    """Returns a prompt with answers to it, each ended by the end-of-sequence token where the template sets none.

    Without a template, prompt and answer follow each other. Raises InvalidInput for a chat without a template, and what the
    template refuses or rewrites.
    """
    before = writer.prompt_text(number, prompt)
    alone = writer.prompt_ids(before)
    if not writer.has_template:
        said = [plain_ids(writer.tokenizer, writer.alone(number, answer)) for answer in answers]
        return Encoded(number, alone, tuple(ended(writer.tokenizer, ids) for ids in said), label)
    turns = (_turn_ids(writer, number, writer.conversation(number, prompt + answer), before, alone) for answer in answers)
    return Encoded(number, alone, tuple(turns), label)


def _turn_ids(writer: Writer, number: int, text: str, before: str, alone: list[int]) -> list[int]:
    """Returns the answer's part of a conversation that begins with its prompt, ``before`` as text and ``alone`` as ids."""
    if not text.startswith(before):
        raise InvalidInput(
            f"{writer.where(number)}: the model's chat template writes the prompt otherwise once an answer follows it, so that the "
            "answer cannot be told from it"
        )
    whole = plain_ids(writer.tokenizer, text)
    # Where an answer would begin within a token, it is cut into tokens apart, as it is when the model answers.
    apart = whole[len(alone) :] if whole[: len(alone)] == alone else plain_ids(writer.tokenizer, text[len(before) :])
    return ended_turn(writer.tokenizer, apart)


def fitting(order: TrainingOrder, rows: Rows, encoded: Iterable[Encoded]) -> list[Encoded]:
    """Returns what of the rows fits into a sequence, or is made to, and counts it; raises InvalidInput if nothing is left.

    Truncated answers lose their end. A prompt that leaves no room for an answer is dropped with it, and so is a pair whose answers
    differ only in what they would lose: nothing can be learned of it.
    """
    max_tokens, policy, counts = order.spec.hyperparameters.sequence_tokens, order.spec.overlong, rows.counts
    kept: list[Encoded] = []
    too_long: list[tuple[int, int]] = []
    for one in encoded:
        room = max_tokens - len(one.prompt)
        if one.num_tokens <= max_tokens:
            kept.append(one)
        elif policy is Overlong.TRUNCATE and room > 0 and _differ(cut := tuple(answer[:room] for answer in one.answers)):
            kept.append(replace(one, answers=cut))
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


def _differ(answers: tuple[list[int], ...]) -> bool:
    return len(set(map(tuple, answers))) == len(answers)
