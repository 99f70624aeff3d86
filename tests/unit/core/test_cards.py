"""Model cards: front matter that YAML reads back, and everything that is known of a version."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from factories.described import DATASET_ID, described_master, described_quantized, evidence
from quantry_core.cards import CARD_MARK, model_card
from quantry_core.front_matter import read_front_matter
from quantry_core.methods import Format
from quantry_core.versions import EvidenceKind, VersionDetail

NAMES = {DATASET_ID: "plays@3"}


def card_of(version: VersionDetail, master: VersionDetail | None = None) -> str:
    return model_card(version, master, NAMES)


def front_matter_of(card: str) -> dict[str, Any]:
    fields = yaml.safe_load(card.split("---\n")[1])
    assert isinstance(fields, dict)
    return fields


def test_the_front_matter_says_what_the_hub_wants_to_know() -> None:
    fields = front_matter_of(card_of(described_quantized(), described_master()))
    assert fields["base_model"] == ["owner/bard"]
    assert fields["base_model_relation"] == "quantized"
    assert (fields["license"], fields["language"], fields["library_name"]) == ("apache-2.0", ["en"], "transformers")
    assert fields["pipeline_tag"] == "text-generation"
    assert {"quantry", "gptq", "W4A16", "compressed-tensors"} == set(fields["tags"])
    assert fields["quantization"] == {
        "method": "gptq",
        "scheme": "W4A16",
        "format": "compressed-tensors",
        "bits": 4,
        "activations": "16-bit",
        "granularity": "group",
        "group_size": 64,
    }


def test_our_own_reader_reads_it_too() -> None:
    card = read_front_matter(card_of(described_quantized(), described_master()))
    assert (card.license, card.base_model, card.languages) == ("apache-2.0", ["owner/bard"], ["en"])


def test_the_body_has_calibration_recipe_and_evaluation() -> None:
    quantized = described_quantized()
    card = card_of(quantized, described_master())
    assert "| datasets | `plays@3` |" in card
    assert "| tokens in all | 16,384 |" in card
    assert "| seed | 7 |" in card
    assert "| plays.test@1 | 20.5000 | 20.0000 | 1.0250 | pass |" in card
    assert "99.0" not in card, "only the newest evidence counts"
    assert "| files | pass |" in card
    assert "(25.0% are left)" in card
    assert "vllm serve ." in card
    assert CARD_MARK in card
    assert all(file.sha256 in card for file in quantized.files)
    assert quantized.manifest_digest in card
    recipe = card.split("~~~~json\n")[1].split("\n~~~~")[0]
    assert json.loads(recipe) == quantized.recipe


def test_the_masters_own_evaluation_stands_in_where_none_was_made_against_it() -> None:
    master = described_master(evidence=[evidence(EvidenceKind.EVALUATION, "plays.test@1", perplexity=10.0)])
    quantized = described_quantized(evidence=[evidence(EvidenceKind.EVALUATION, "plays.test@1", perplexity=11.0)])
    assert "| plays.test@1 | 11.0000 | 10.0000 | 1.1000 | pass |" in card_of(quantized, master)


@pytest.mark.parametrize(
    ("form", "scheme", "wanted", "unwanted"),
    [
        (Format.GGUF, "Q4_K_M", "llama-server -m ./model.gguf", "vllm serve ."),
        (Format.BITSANDBYTES, "NF4", "vLLM does not serve this version.", "vllm serve ."),
        (Format.COMPRESSED_TENSORS, "KV_FP8", "vllm serve . --kv-cache-dtype fp8", "does not serve"),
        (Format.EETQ, "no-such-scheme", "No engine is known", "vllm serve ."),
    ],
)
def test_it_says_how_to_serve_each_format(form: Format, scheme: str, wanted: str, unwanted: str) -> None:
    card = card_of(described_quantized(format=form, scheme=scheme), described_master())
    assert wanted in card
    assert unwanted not in card


def test_a_master_has_a_card_without_quantization() -> None:
    card = card_of(described_master())
    assert "quantization" not in front_matter_of(card)
    assert front_matter_of(card)["base_model"] == ["owner/older"]
    assert "## Calibration" not in card


def test_nothing_in_a_recipe_breaks_out_of_the_card() -> None:
    nasty = {"method": "gptq", "ignore": ["~~~~\n# not a heading", "a|b`c"], "source": "---\nlicense: stolen\n---"}
    card = card_of(described_quantized(recipe=nasty), described_master(recipe={"source": "/models/bard"}))
    assert front_matter_of(card)["license"] == "apache-2.0"
    assert front_matter_of(card)["base_model"] == ["bard"]
    assert "\n# not a heading" not in card
    assert sum(line.startswith("~~~~") for line in card.splitlines()) == 2
