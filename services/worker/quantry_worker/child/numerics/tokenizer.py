"""The model's own tokenizer, as the engine will load it, and its chat template."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from quantry_core.datasets import DatasetKind
from quantry_core.errors import InvalidInput
from quantry_core.rows import Message
from quantry_worker.child.inputs import kind_of, read_rows, read_text
from quantry_worker.child.numerics.text import Tokens, TokenStream
from quantry_worker.protocol import ChildInput

BATCH_ROWS = 1000
"""Rows tokenized at once: fast tokenizers use every thread for a batch, and it bounds what is held as text."""

PROMPT_AND_ANSWER = 2
"""Messages that need no template."""


def load_tokenizer(checkpoint: Path) -> Any:
    """Returns the tokenizer that lies with a checkpoint; raises InvalidInput if none loads."""
    # By name, when it is needed: this takes seconds, and a recipe's own checks come first.
    transformers = import_module("transformers")
    try:
        return transformers.AutoTokenizer.from_pretrained(checkpoint, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(f"the model's tokenizer cannot be loaded: {error}") from error


def tokenize(checkpoint: Path, datasets: list[ChildInput]) -> list[TokenStream]:
    """Returns each dataset as one stream of token ids.

    Plain text is taken as it is, without special tokens. Rows are written one by one, prompts and chats by the tokenizer's
    chat template, and stand one after another with its end-of-sequence token between them, where it has one. Of preferences it is
    the prompt with the chosen answer, of labelled rows those whose label is true: what the model is meant to say. Without a
    template a prompt and its answer are two lines. Raises InvalidInput if no tokenizer loads, for a chat or more than one turn
    without a template, for a row that the template refuses, and where no row is left.
    """
    tokenizer = load_tokenizer(checkpoint)
    return [_text_stream(tokenizer, one) if kind_of(one) is DatasetKind.TEXT else _row_stream(tokenizer, one) for one in datasets]


def _text_stream(tokenizer: Any, dataset: ChildInput) -> TokenStream:
    return TokenStream(dataset.ref, _ids(tokenizer, [read_text(dataset)])[0])


def _row_stream(tokenizer: Any, dataset: ChildInput) -> TokenStream:
    kind = kind_of(dataset)
    template = None if kind is DatasetKind.ROWS else _template(tokenizer)
    if kind is DatasetKind.CHAT and template is None:
        raise InvalidInput(f"dataset {dataset.ref} holds chats, but the model's tokenizer has no chat template to write them by")
    texts = _written(tokenizer, template, dataset)
    rows: list[Tokens] = []
    while batch := list(islice(texts, BATCH_ROWS)):
        rows += _ids(tokenizer, batch)
    if not rows:
        raise InvalidInput(f"dataset {dataset.ref} has no rows{' labelled true' if kind is DatasetKind.LABELLED else ''}")
    return TokenStream(
        dataset.ref,
        _packed(rows, tokenizer.eos_token_id),
        kind,
        np.asarray([len(row) for row in rows], dtype=np.int64),
        None if template is None else hashlib.sha256(template.encode()).hexdigest(),
    )


def _written(tokenizer: Any, template: str | None, dataset: ChildInput) -> Iterator[str]:
    """Yields each row as the text that the model is meant to say; nothing for one that is labelled bad."""
    for line, row in read_rows(dataset):
        where = f"dataset {dataset.ref}: line {line}"
        if row.kind is DatasetKind.ROWS:
            yield row.text
        elif row.exemplary:
            yield _as_lines(row.exemplary, where) if template is None else _by_template(tokenizer, template, row.exemplary, where)


def _as_lines(turns: tuple[Message, ...], where: str) -> str:
    if len(turns) != PROMPT_AND_ANSWER:
        raise InvalidInput(f"{where} has {len(turns)} messages, but the model's tokenizer has no chat template to write them by")
    return "\n".join(message.content for message in turns)


def _by_template(tokenizer: Any, template: str, turns: tuple[Message, ...], where: str) -> str:
    messages = [{"role": message.role.value, "content": message.content} for message in turns]
    try:
        text: str = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
    # A template is a program: it may raise anything, and says so where it refuses roles.
    except Exception as error:
        raise InvalidInput(f"{where} cannot be written by the model's chat template: {error}") from error
    return text


def _template(tokenizer: Any) -> str | None:
    """Returns the tokenizer's chat template, of several the one called default; None if it has none."""
    templates = tokenizer.chat_template
    if isinstance(templates, dict):
        return templates.get("default")
    return templates or None


def _ids(tokenizer: Any, texts: list[str]) -> list[Tokens]:
    # Not verbose: a text longer than the context is what we want, and no reason for a warning.
    found = tokenizer(texts, add_special_tokens=False, verbose=False).input_ids
    return [np.asarray(ids, dtype=np.int64) for ids in found]


def _packed(rows: list[Tokens], end_id: int | None) -> Tokens:
    """Returns rows as one stream, ``end_id`` after each that does not end in it already, but for the last."""
    if end_id is None:
        return np.concatenate(rows)
    between = np.asarray([end_id], dtype=np.int64)
    parts: list[Tokens] = []
    for row in rows:
        if parts and (not len(parts[-1]) or parts[-1][-1] != end_id):
            parts.append(between)
        parts.append(row)
    return np.concatenate(parts)
