"""Rows as tokens: written by the chat template, packed with an end between them. A tokenizer of characters stands in for a model's."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quantry_core.datasets import DATASET_FILES, DatasetKind
from quantry_core.errors import InvalidInput
from quantry_core.jobs import InputRole
from quantry_worker.child.numerics import tokenizer as tokenizer_module
from quantry_worker.child.numerics.text import TokenStream
from quantry_worker.protocol import ChildInput

END = ord("$")
TEMPLATE = "a template"


class Characters:
    """A character is its code point; the template writes ``role:content;`` for each message and refuses system messages."""

    def __init__(self, template: str | dict[str, str] | None, end_id: int | None) -> None:
        self.chat_template = template
        self.eos_token_id = end_id
        self.batches: list[int] = []

    def __call__(self, texts: list[str], *, add_special_tokens: bool, verbose: bool) -> SimpleNamespace:
        assert not add_special_tokens
        self.batches.append(len(texts))
        return SimpleNamespace(input_ids=[[ord(one) for one in text] for text in texts])

    def apply_chat_template(self, messages: list[dict[str, str]], *, chat_template: str, tokenize: bool) -> str:
        assert (chat_template, tokenize) == (TEMPLATE, False)
        if messages[0]["role"] == "system":
            raise RuntimeError("System role not supported")
        return "".join(f"{message['role']}:{message['content']};" for message in messages)


Tokenize = Callable[..., TokenStream]


@pytest.fixture
def tokenized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tokenize:
    def run(
        kind: DatasetKind,
        *rows: Any,
        template: str | dict[str, str] | None = TEMPLATE,
        end_id: int | None = END,
        batches: list[int] | None = None,
    ) -> TokenStream:
        loaded = Characters(template, end_id)
        auto = SimpleNamespace(from_pretrained=lambda *_args, **_options: loaded)
        monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoTokenizer=auto))
        content = rows[0] if kind is DatasetKind.TEXT else "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / DATASET_FILES[kind]).write_text(content, encoding="utf-8")
        dataset = ChildInput(role=InputRole.CALIBRATION, id="dat_1", ref="talk@1", dataset_kind=kind, path=tmp_path)
        [stream] = tokenizer_module.tokenize(tmp_path, [dataset])
        if batches is not None:
            batches += loaded.batches
        return stream

    return run


def text_of(stream: TokenStream) -> str:
    return "".join(map(chr, stream.tokens.tolist()))


def chat(*contents: str) -> dict[str, Any]:
    return {"messages": [{"role": ("user", "assistant")[at % 2], "content": content} for at, content in enumerate(contents)]}


def test_text_stays_one_stream(tokenized: Tokenize) -> None:
    stream = tokenized(DatasetKind.TEXT, "two\nlines")
    assert (text_of(stream), stream.kind, stream.row_tokens, stream.chat_template_sha256) == ("two\nlines", DatasetKind.TEXT, None, None)


def test_rows_are_packed_with_one_end_between_them(tokenized: Tokenize) -> None:
    stream = tokenized(DatasetKind.ROWS, {"text": "one"}, {"text": "ends$"}, {"text": "three"})
    assert text_of(stream) == "one$ends$three"
    assert stream.row_tokens is not None
    assert stream.row_tokens.tolist() == [3, 5, 5]
    assert stream.chat_template_sha256 is None
    assert text_of(tokenized(DatasetKind.ROWS, {"text": "one"}, {"text": "two"}, end_id=None)) == "onetwo"


def test_prompts_and_chats_are_written_by_the_template(tokenized: Tokenize) -> None:
    digest = hashlib.sha256(TEMPLATE.encode()).hexdigest()
    stream = tokenized(DatasetKind.PROMPTS, {"prompt": "Why", "response": "So"})
    assert (text_of(stream), stream.chat_template_sha256) == ("user:Why;assistant:So;", digest)
    stream = tokenized(DatasetKind.CHAT, chat("Why", "So", "And"), chat("Who"), template={"default": TEMPLATE, "tools": "another"})
    assert (text_of(stream), stream.chat_template_sha256) == ("user:Why;assistant:So;user:And;$user:Who;", digest)


@pytest.mark.parametrize("template", [None, "", {"tools": "another"}])
def test_without_a_template_a_prompt_is_two_lines_and_a_chat_is_refused(tokenized: Tokenize, template: str | dict[str, str] | None) -> None:
    stream = tokenized(DatasetKind.PROMPTS, {"prompt": "Why", "response": "So"}, {"prompt": "Who", "response": "I"}, template=template)
    assert (text_of(stream), stream.chat_template_sha256) == ("Why\nSo$Who\nI", None)
    with pytest.raises(InvalidInput, match=r"dataset talk@1 holds chats, but the model's tokenizer has no chat template"):
        tokenized(DatasetKind.CHAT, chat("Why"), template=template)


PAIR = {"prompt": "Why", "chosen": "So", "rejected": "No"}
TALK = {"prompt": chat("Why", "So", "And")["messages"], "chosen": "Then", "rejected": "Eh"}
GOOD = {"prompt": "Why", "completion": "So", "label": True}
BAD = {"prompt": "Who", "completion": "I", "label": False}


def test_of_judged_answers_the_better_ones_are_read(tokenized: Tokenize) -> None:
    stream = tokenized(DatasetKind.PREFERENCES, PAIR, TALK)
    assert text_of(stream) == "user:Why;assistant:So;$user:Why;assistant:So;user:And;assistant:Then;"
    stream = tokenized(DatasetKind.LABELLED, BAD, GOOD, BAD)
    assert text_of(stream) == "user:Why;assistant:So;"
    assert stream.row_tokens is not None
    assert stream.row_tokens.tolist() == [22]
    with pytest.raises(InvalidInput, match="dataset talk@1 has no rows labelled true"):
        tokenized(DatasetKind.LABELLED, BAD)


def test_without_a_template_judged_answers_are_two_lines_and_more_turns_are_refused(tokenized: Tokenize) -> None:
    assert text_of(tokenized(DatasetKind.PREFERENCES, PAIR, template=None)) == "Why\nSo"
    assert text_of(tokenized(DatasetKind.LABELLED, GOOD, template=None)) == "Why\nSo"
    with pytest.raises(InvalidInput, match=r"dataset talk@1: line 2 has 4 messages, but the model's tokenizer has no chat template"):
        tokenized(DatasetKind.PREFERENCES, PAIR, TALK, template=None)


def test_a_row_that_the_template_refuses_is_named(tokenized: Tokenize) -> None:
    system = {"messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Why"}]}
    with pytest.raises(InvalidInput, match=r"dataset talk@1: line 2 cannot be written .* System role not supported"):
        tokenized(DatasetKind.CHAT, chat("Why"), system)


def test_rows_are_tokenized_in_batches_and_damage_is_named(tokenized: Tokenize, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_module, "BATCH_ROWS", 2)
    batches: list[int] = []
    assert text_of(tokenized(DatasetKind.ROWS, *({"text": name} for name in "abcde"), batches=batches)) == "a$b$c$d$e"
    assert batches == [2, 2, 1]
    with pytest.raises(InvalidInput, match="dataset talk@1: line 2 has no field 'text'"):
        tokenized(DatasetKind.ROWS, {"text": "a"}, {})
    with pytest.raises(InvalidInput, match="dataset talk@1 has no rows"):
        tokenized(DatasetKind.ROWS)
