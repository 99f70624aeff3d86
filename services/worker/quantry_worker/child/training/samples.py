"""Rows and text as token samples, with what of them is learned. Pure functions of a tokenizer.

A sample of plain text is a sequence cut from it; of rows, one row; of prompts and chats, one conversation as the model's chat
template writes it. Answers are what stands between a prompt as it is written for generation and the end of the turn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from quantry_core.datasets import DatasetKind
from quantry_core.errors import InvalidInput
from quantry_core.rows import Message, Role, Row
from quantry_core.training import Overlong
from quantry_worker.child.training.order import Counts
from quantry_worker.child.training.writing import Writer, ended, ended_turn, opened_ids, plain_ids

IGNORED = -100
"""The label of a token that the loss is not of, as torch's cross entropy has it."""
NUM_NAMED = 10


@dataclass(frozen=True)
class Sample:
    """Tokens of one sample and their labels, each its own token or IGNORED; both of the same length."""

    input_ids: list[int]
    labels: list[int]

    @property
    def num_learned(self) -> int:
        """Tokens that the loss is of: the first of a sample is predicted from nothing."""
        return sum(label != IGNORED for label in self.labels[1:])


@dataclass(frozen=True)
class SampleOrder:
    """How samples are made of one dataset."""

    tokenizer: Any
    dataset_ref: str
    max_tokens: int
    overlong: Overlong
    completion_only: bool
    max_samples: int | None = None
    """The first so many are taken, all where it is None."""


def make_samples(order: SampleOrder, rows: Sequence[tuple[int, Row]], counts: Counts) -> list[Sample]:
    """Returns the samples of rows, each with its line in the dataset, and adds to ``counts``.

    Raises InvalidInput for chats without a template, for rows that a template refuses or rewrites, and, where the policy is to
    refuse, naming the lines of more than ``max_tokens``.
    """
    made: list[Sample] = []
    too_long: list[tuple[int, int]] = []
    for number, row in rows:
        if row.kind is DatasetKind.TEXT:
            made += _cut(order, row)
            continue
        whole = _sample(order, number, row)
        if len(whole.input_ids) <= order.max_tokens:
            fitting: Sample | None = whole
        elif order.overlong is Overlong.TRUNCATE:
            fitting = Sample(whole.input_ids[: order.max_tokens], whole.labels[: order.max_tokens])
            counts.num_truncated += fitting.num_learned > 0
        else:
            fitting = None
            too_long.append((number, len(whole.input_ids)))
        if fitting is None or not fitting.num_learned:
            counts.num_dropped += 1
        else:
            made.append(fitting)
    if too_long and order.overlong is Overlong.REFUSE:
        raise overlong_refused(order.dataset_ref, too_long, order.max_tokens)
    made = made[: order.max_samples]
    counts.num_samples += len(made)
    counts.num_tokens += sum(len(one.input_ids) for one in made)
    counts.num_learned_tokens += sum(one.num_learned for one in made)
    return made


def overlong_refused(dataset_ref: str, rows: Sequence[tuple[int, int]], max_tokens: int) -> InvalidInput:
    """Returns the error that names lines, each with its tokens, that are longer than a sequence."""
    named = ", ".join(f"{number} ({tokens} tokens)" for number, tokens in rows[:NUM_NAMED])
    more = f" and {len(rows) - NUM_NAMED} more" if len(rows) > NUM_NAMED else ""
    return InvalidInput(
        f"dataset {dataset_ref}: lines {named}{more} are longer than sequence_tokens, which is {max_tokens}; "
        "raise it, or let overlong be truncate or drop"
    )


def _cut(order: SampleOrder, row: Row) -> list[Sample]:
    """Returns text as sequences of nearly equal lengths, at most ``max_tokens`` each: every token is in one of them.

    Each begins as an engine begins what it completes, with special tokens that are not learned.
    """
    opening = opened_ids(order.tokenizer, "")
    ids, room = plain_ids(order.tokenizer, row.text), max(1, order.max_tokens - len(opening))
    num_sequences = math.ceil(len(ids) / room)
    ends = [len(ids) * place // num_sequences for place in range(num_sequences + 1)] if num_sequences else []
    pieces = (ids[begin:end] for begin, end in itertools.pairwise(ends))
    cut = [Sample(opening + piece, [IGNORED] * len(opening) + piece) for piece in pieces]
    return [one for one in cut if one.num_learned]


def _sample(order: SampleOrder, number: int, row: Row) -> Sample:
    tokenizer, writer = order.tokenizer, Writer(order.tokenizer, order.dataset_ref)
    if row.kind is DatasetKind.ROWS:
        ids = ended(tokenizer, opened_ids(tokenizer, row.text))
        return Sample(ids, list(ids))
    ids, learned = _templated(writer, number, row) if writer.has_template else _concatenated(writer, number, row)
    if not order.completion_only:
        return Sample(ids, list(ids))
    return Sample(ids, [token if is_learned else IGNORED for token, is_learned in zip(ids, learned, strict=True)])


def _concatenated(writer: Writer, number: int, row: Row) -> tuple[list[int], list[bool]]:
    """Returns prompt and answer one after the other, as a completion is asked for, ended by the end-of-sequence token."""
    if row.kind is DatasetKind.CHAT:
        raise writer.chat_refused(number)
    prompt, answer = row.messages
    before = writer.prompt_ids(prompt.content)
    after = ended(writer.tokenizer, plain_ids(writer.tokenizer, answer.content))
    return before + after, [False] * len(before) + [True] * len(after)


def _templated(writer: Writer, number: int, row: Row) -> tuple[list[int], list[bool]]:
    """Returns a conversation as the template writes it, and which of its tokens are the assistant's.

    Where an answer begins within a token of the whole text, prompt and answer are cut into tokens apart, as they are when the
    model answers.
    """
    tokenizer = writer.tokenizer
    text, answers = _written(writer, number, row.messages)
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, spans = list(found.input_ids), found.offset_mapping
    edges = {edge for answer in answers for edge in answer}
    if any(begin < edge < end for begin, end in spans for edge in edges):
        ids, learned = _by_parts(tokenizer, text, answers)
    else:
        learned = [any(begin <= start and stop <= end for begin, end in answers) and start < stop for start, stop in spans]
    if answers[-1][1] < len(text):
        return ids, learned
    begin = len(ids) - _run(learned)
    last = ended_turn(tokenizer, ids[begin:])
    return ids[:begin] + last, learned[:begin] + [True] * len(last)


def _written(writer: Writer, number: int, messages: Sequence[Message]) -> tuple[str, list[tuple[int, int]]]:
    """Returns the text of a conversation and where in it each answer begins and ends, in characters."""
    text = writer.conversation(number, messages)
    answers: list[tuple[int, int]] = []
    for index, message in enumerate(messages):
        if message.role is not Role.ASSISTANT:
            continue
        before, through = writer.prompt_text(number, messages[:index]), writer.conversation(number, messages[: index + 1])
        if not (through.startswith(before) and text.startswith(through)):
            raise InvalidInput(
                f"{writer.where(number)}: the model's chat template writes message {index + 1} otherwise once more follows it, so that "
                "what is learned cannot be told from what is not; take single answers, or let completion_only be false"
            )
        answers.append((len(before), len(through)))
    if not answers:
        raise InvalidInput(f"{writer.where(number)} has no message of the assistant: there is nothing to learn")
    return text, answers


def _by_parts(tokenizer: Any, text: str, answers: Iterable[tuple[int, int]]) -> tuple[list[int], list[bool]]:
    ids: list[int] = []
    learned: list[bool] = []
    place = 0
    for begin, end in [*answers, (len(text), len(text))]:
        for part, is_answer in ((text[place:begin], False), (text[begin:end], True)):
            tokens = plain_ids(tokenizer, part)
            ids += tokens
            learned += [is_answer] * len(tokens)
        place = end
    return ids, learned


def _run(learned: Sequence[bool]) -> int:
    """Returns how many tokens at the end are learned, all of one answer."""
    return next((index for index, one in enumerate(reversed(learned)) if not one), len(learned))
