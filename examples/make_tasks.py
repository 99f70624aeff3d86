"""Makes the documents of the two tasks that need no download, from the texts in ``corpora``; the output is committed.

    python examples/make_tasks.py

quantry_next_word: a passage without its last word, and four words to end it with. quantry_sentence_order: three sentences
that follow each other, in their order and in three wrong ones. Both are multiple choice; chance is one in four. The texts
are the test parts, in the public domain; the same seed writes the same files.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

HERE = Path(__file__).parent
TASKS = HERE.parent / "services/worker/quantry_worker/child/evaluation/tasks"
CORPORA = ("kjv", "shakespeare", "speeches")
NUM_WORDS_PER_CORPUS = 80
NUM_ORDERS_PER_CORPUS = 60
NUM_FEWSHOT_PER_CORPUS = 4
SEED = 20261122
MIN_WORDS, MAX_WORDS = 6, 30
ORDERS = ((0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0))
NOT_SPLIT_AFTER = re.compile(r"\b(Mr|Mrs|Dr|St|Gen|Hon|No)\.$")

Document = dict[str, str | int | list[str]]


def main() -> None:
    generator = random.Random(SEED)
    words: list[Document] = []
    orders: list[Document] = []
    for corpus in CORPORA:
        sentences = sentences_of((HERE / "corpora" / f"{corpus}.test.txt").read_text(encoding="utf-8"))
        words += sampled(next_words(corpus, sentences, generator), NUM_WORDS_PER_CORPUS, generator)
        orders += sampled(sentence_orders(corpus, sentences, generator), NUM_ORDERS_PER_CORPUS, generator)
    write("quantry_next_word", words, generator)
    write("quantry_sentence_order", orders, generator)


def sentences_of(text: str) -> list[str]:
    """Returns the sentences of usable length, whitespace made plain, in the order of the text; others leave an empty one."""
    plain = re.sub(r"\s+", " ", text)
    found: list[str] = []
    for piece in re.split(r"(?<=[.!?]) (?=[A-Z])", plain):
        if found and NOT_SPLIT_AFTER.search(found[-1]):
            found[-1] += " " + piece
        else:
            found.append(piece)
    return [one.strip() if MIN_WORDS <= len(one.split()) <= MAX_WORDS else "" for one in found]


def next_words(corpus: str, sentences: list[str], generator: random.Random) -> list[Document]:
    """Returns one document for each sentence that ends in a word; the wrong words end other sentences of the same text."""
    endings = [match for match in (re.search(r" ([a-z]{4,})[.!?]$", one) for one in sentences) if match]
    pool = sorted({match[1] for match in endings})
    documents: list[Document] = []
    for match in endings:
        right = match[1]
        choices = [right, *generator.sample([word for word in pool if word != right], 3)]
        generator.shuffle(choices)
        documents.append({"corpus": corpus, "context": match.string[: match.start()], "choices": choices, "gold": choices.index(right)})
    return documents


def sentence_orders(corpus: str, sentences: list[str], generator: random.Random) -> list[Document]:
    """Returns one document for each three sentences in a row, and the context of the one before them; none overlap."""
    documents: list[Document] = []
    index = 0
    while index + 4 <= len(sentences):
        before, *three = sentences[index : index + 4]
        if not all((before, *three)):
            index += 1
            continue
        shown = list(ORDERS)
        generator.shuffle(shown)
        choices = [" ".join(three[position] for position in order) for order in shown]
        documents.append({"corpus": corpus, "context": before, "choices": choices, "gold": shown.index(ORDERS[0])})
        index += 4
    return documents


def sampled(documents: list[Document], num_tested: int, generator: random.Random) -> list[Document]:
    wanted = num_tested + NUM_FEWSHOT_PER_CORPUS
    return documents if len(documents) <= wanted else generator.sample(documents, wanted)


def write(name: str, documents: list[Document], generator: random.Random) -> None:
    """Writes a few documents of each corpus as examples for prompts, and all others as the test."""
    generator.shuffle(documents)
    fewshot: list[Document] = []
    for corpus in CORPORA:
        fewshot += [one for one in documents if one["corpus"] == corpus][:NUM_FEWSHOT_PER_CORPUS]
    for split, chosen in (("test", [one for one in documents if one not in fewshot]), ("fewshot", fewshot)):
        lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in chosen)
        (TASKS / f"{name}.{split}.jsonl").write_text(lines, encoding="utf-8")
        print(f"{name} {split}: {len(chosen)} documents, {len(lines.encode())} bytes")


if __name__ == "__main__":
    main()
