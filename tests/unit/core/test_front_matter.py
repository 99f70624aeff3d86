"""Front matter of strangers: four fields, read as PyYAML reads them, and nothing else made of it."""

from __future__ import annotations

import pytest
import yaml

from factories.checkpoints import MemoryCheckpoint, master_contents
from quantry_core.checkpoints import read_card
from quantry_core.front_matter import MAX_CARD_BYTES, MAX_VALUES, read_front_matter
from quantry_core.versions import VersionCard

ORDINARY = [
    "license: apache-2.0",
    'license: "mit"  # free',
    "license: 'llama3.2'\nlanguage:\n- en\n- de\n",
    "language: [en, 'fr', \"de\"]\npipeline_tag: text-generation",
    "base_model: meta-llama/Llama-3.2-1B\ntags:\n  - a\n  - b\nlanguage: en",
    "base_model:\n  - a/b\n  - c/d # the other\n\n# a comment\nlicense: mit",
    "model-index:\n- name: x\n  results:\n  - task:\n      type: y\nlicense: mit",
    "language:\n- multilingual\nwidget:\n- text: hello\n  example_title: x\npipeline_tag: text-generation",
]


def as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value is None else [value]


@pytest.mark.parametrize("text", ORDINARY)
def test_it_is_read_as_yaml_reads_it(text: str) -> None:
    expected = yaml.safe_load(text)
    card = read_front_matter(f"---\n{text}\n---\n# Title\n")
    assert card.license == expected.get("license")
    assert card.pipeline_tag == expected.get("pipeline_tag")
    assert card.languages == as_list(expected.get("language"))
    assert card.base_model == as_list(expected.get("base_model"))


def test_norwegian_is_a_language_and_no_truth_value() -> None:
    assert read_front_matter("---\nlanguage:\n- no\n- en\n---\n").languages == ["no", "en"]


def test_a_licence_that_is_other_has_a_name() -> None:
    assert read_front_matter("---\nlicense: other\nlicense_name: gemma\n---\n").license == "gemma"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# Title\nlicense: mit\n",
        "---\nlicense: mit\n",
        "---\nlicense: !!python/object/apply:os.system [ls]\n---\n",
        "---\nlicense: &a [*a, *a]\n---\n",
        "---\nlicense: >-\n  mit\n  or not\n---\n",
        "---\nlicense: {a: b}\n---\n",
        "---\nlicense: [mit, apache-2.0]\n---\n",
        "---\nlicense: " + "x" * 200 + "\n---\n",
        "---\nlicense: 'a\x1bb'\n---\n",
        "---\nlicense: null\n---\n",
    ],
)
def test_what_is_no_plain_word_is_left_out(text: str) -> None:
    assert read_front_matter(text) == VersionCard()


def test_lists_are_bounded() -> None:
    many = "---\nbase_model:\n" + "- a/b\n" * 10_000 + "---\n"
    assert len(read_front_matter(many).base_model) == MAX_VALUES


def test_a_checkpoints_card_is_its_readme_and_only_its_beginning_is_looked_at() -> None:
    readme = b"---\nlicense: mit\n---\n"
    assert read_card(MemoryCheckpoint(master_contents() | {"README.md": readme})).license == "mit"
    late = b"---\n# " + b"x" * MAX_CARD_BYTES + b"\nlicense: mit\n---\n"
    assert read_card(MemoryCheckpoint(master_contents() | {"README.md": late})) == VersionCard()
    assert read_card(MemoryCheckpoint(master_contents() | {"README.md": b"---\nlicense: \xff\n---\n"})) == VersionCard()
    assert read_card(MemoryCheckpoint(master_contents())) == VersionCard()
