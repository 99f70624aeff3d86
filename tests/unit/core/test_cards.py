"""Model cards: front matter that YAML reads back, and everything that is known of a version."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from factories.described import (
    ADAPTER_ID,
    AGAINST_MASTER,
    AGAINST_OTHER,
    DATASET_ID,
    described_adapter,
    described_master,
    described_merged,
    described_quantized,
    evidence,
    wholly_measured,
)
from quantry_core.cards import CARD_MARK, model_card
from quantry_core.front_matter import read_front_matter
from quantry_core.methods import Format
from quantry_core.versions import EvidenceKind, VersionDetail, VersionKind

NAMES = {DATASET_ID: "plays@3", ADAPTER_ID: "bard@3"}


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
    assert "## Evaluation on text against the master bard@1\n\n| figure | plays.test@1 | what it is |" in card
    assert "| perplexity | 20.5 |" in card
    assert "| 99 |" not in card, "only the newest evidence counts"
    assert "| files | pass |  |" in card
    assert "(25.0% are left)" in card
    assert "vllm serve ." in card
    assert CARD_MARK in card
    assert all(file.sha256 in card for file in quantized.files)
    assert quantized.manifest_digest in card
    recipe = card.split("~~~~json\n")[1].split("\n~~~~")[0]
    assert json.loads(recipe) == quantized.recipe


EVIDENCE = """\
## Evaluation on text against the master, at the gate

| figure | plays.test@1 | asked for | what it is |
|---|---|---|---|
| perplexity | 20.2 |  | exp of the mean negative log-likelihood. |
| perplexity_ratio | 1.01 | at most 1.05 | Perplexity over the reference's. |
| seed | 0 |  | Of everything that is drawn. |

## Tasks against the master, at the gate

| figure | task:next_word | asked for | what it is |
|---|---|---|---|
| acc | 0.51 |  |  |
| acc_change | -0.115 | at least -0.2 |  |

## Attention against the master, at the gate

| figure | attention | what it is |
|---|---|---|
| attention_similarity_min | 0.97 | Least cosine similarity of a layer's attention with the reference's. |

## Odd inputs against the master, at the gate

| figure | emoji | the worst | asked for | what it is |
|---|---|---|---|---|
| kl_mean_nats | 0.06 | 0.06 | at most 0.1 | Mean KL divergence of the next-token distribution from the reference's. |
| runs | yes | - |  | It ran to the end. |
| is_finite | yes | - |  | No logit is infinite or NaN. |

## Size against the master, at the gate

| figure | size | asked for | what it is |
|---|---|---|---|
| weights_ratio | 0.25 | at most 0.3 | Bytes of the weights over the reference's. |

## Evaluation on text against the master bard@1

| figure | plays.test@1 | asked for | what it is |
|---|---|---|---|
| perplexity | 20.5 |  | exp of the mean negative log-likelihood. |
| reference_perplexity | 20 |  | The reference's own: exp of the mean negative log-likelihood. |
| nll_mean | 3.02042 |  | Mean negative log-likelihood of the real next token. |
| perplexity_ratio | 1.025 | at most 1.02 | Perplexity over the reference's. |
| perplexity_ratio_low | 1.01235 |  | Lower end of that ratio's 95% interval, by paired bootstrap. |
| perplexity_ratio_high | 1.03457 |  | Upper end of that ratio's 95% interval, by paired bootstrap. |
| nll_increase_nats | 0.0246926 |  | Mean change in log-loss per token against the reference. |
| nll_increase_low_nats | 0.0122701 |  | Lower end of that change's 95% interval, by paired bootstrap. |
| nll_increase_high_nats | 0.0339833 |  | Upper end of that change's 95% interval, by paired bootstrap. |
| kl_mean_nats | 0.0312346 |  | Mean KL divergence of the next-token distribution from the reference's. |
| kl_p99_nats | 0.4 |  | 99th percentile of that divergence over tokens. |
| kl_p999_nats | 1.25 |  | 99.9th percentile of that divergence over tokens. |
| kl_max_nats | 3.5 |  | Largest of that divergence over tokens. |
| top1_agreement | 0.912346 |  | How often both find the same next token likeliest. |
| logprob_error_mean_nats | 0.1 |  | Mean absolute error of the log-probability of the real next token. |
| logprob_error_p99_nats | 1.5 |  | 99th percentile of that error over tokens. |
| num_tokens | 12345678 |  | Tokens that were scored, or seen. |
| num_windows | 40 |  | Windows of the text. |
| window_tokens | 256 |  | Tokens of one window. |
| seed | 7 |  | Of everything that is drawn. |
| confidence | 0.95 |  | Share of all intervals that hold the true value. |
| verdict | fail |  |  |

- `plays.test@1: perplexity_ratio is 1.025, at most 1.02 is asked for`

## Evaluation on text against bard@4

| figure | plays.test@1 | recalibration:plays.test@1 | what it is |
|---|---|---|---|
| perplexity | 20.5 | 20.5 | exp of the mean negative log-likelihood. |
| reference_perplexity | 21 | 20.4 | The reference's own: exp of the mean negative log-likelihood. |
| perplexity_ratio | 0.976 | - | Perplexity over the reference's. |
| margin_nats | - | 0.02 | A recalibrated version may be worse by so much. |
| verdict | pass | pass |  |

## Evaluation on text, this version alone

| figure | kjv.test@1 | what it is |
|---|---|---|
| perplexity | 20.5 | exp of the mean negative log-likelihood. |
| nll_mean | 3.02042 | Mean negative log-likelihood of the real next token. |
| num_tokens | 12345678 | Tokens that were scored, or seen. |
| num_windows | 40 | Windows of the text. |
| window_tokens | 256 | Tokens of one window. |
| seed | 7 | Of everything that is drawn. |

## Tasks against the master bard@1

| figure | task:next_word | what it is |
|---|---|---|
| acc | 0.5 |  |
| reference_acc | 0.625 |  |
| acc_stderr | 0.05 |  |
| reference_acc_stderr | 0.0484 |  |
| num_documents | 200 | Documents of the task. |

## Attention against the master bard@1

| figure | attention | what it is |
|---|---|---|
| attention_similarity_min | 0.98 | Least cosine similarity of a layer's attention with the reference's. |
| attention_similarity_mean | 0.99 | Mean of that similarity over layers. |
| attention_js_max_nats | 0.01 | Largest Jensen-Shannon divergence of a layer's attention from the reference's. |

## Odd inputs against the master bard@1: pass

| figure | empty | emoji | the worst | what it is |
|---|---|---|---|---|
| kl_mean_nats | - | 0.05 | - | Mean KL divergence of the next-token distribution from the reference's. |
| runs | - | yes | - | It ran to the end. |
| is_finite | - | yes | - | No logit is infinite or NaN. |
| num_failed | - | - | 0 | Cases that raised, or whose logits are not finite. |
| skipped | no token begins a text | - | - |  |
| num_characters | 0 | 9 | - | Length of the text. |

## Speed

| figure | 1 at once | 4 at once | in all | what it is |
|---|---|---|---|---|
| ttft_ms_p50 | 12.5 | 20 | - | Median time to the first token, ms. |
| requests_per_s | 3.25 | 9 | - | Requests over the wall time. |
| memory_peak_bytes | - | - | 1234567890 | Most that the engine and its processes held. |
| engine | - | - | vllm | What served it. |

## Checks

Every quantized version passes these before it is ready; inconclusive is what has no data here.

| check | verdict | found |
|---|---|---|
| precision | pass | bits_per_weight 4.25 |
| quality | pass |  |

"""


def test_every_sort_of_evidence_is_shown_against_what_it_was_measured_against() -> None:
    card = card_of(wholly_measured(), described_master())
    assert card[card.index("## Evaluation on text") : card.index("## How to serve it")] == EVIDENCE


def test_only_figures_against_the_master_stand_under_its_name() -> None:
    text = "plays.test@1"
    measured = [
        evidence(EvidenceKind.EVALUATION, text, age_s=60, perplexity=20.5, reference_perplexity=20.0, **AGAINST_MASTER),
        evidence(EvidenceKind.EVALUATION, text, age_s=30, perplexity=20.5, reference_perplexity=19.0, **AGAINST_OTHER),
        evidence(EvidenceKind.EVALUATION, text, perplexity=20.5),
    ]
    master = described_master(evidence=[evidence(EvidenceKind.EVALUATION, text, perplexity=17.0)])
    tables = card_of(described_quantized(evidence=measured), master).split("\n## ")
    references = {table.splitlines()[0]: [line.split(" | ")[1] for line in table.splitlines() if "reference_" in line] for table in tables}
    told = {title: found for title, found in references.items() if title.startswith("Evaluation")}
    assert told == {
        "Evaluation on text against the master bard@1": ["20"],
        "Evaluation on text against bard@4": ["19"],
        "Evaluation on text, this version alone": [],
    }


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


def test_the_card_of_an_adapter_says_what_it_is_of_and_how_it_was_trained() -> None:
    card = card_of(described_adapter(), described_master())
    fields = front_matter_of(card)
    assert (fields["base_model"], fields["base_model_relation"], fields["library_name"]) == (["owner/bard"], "adapter", "peft")
    assert "quantization" not in fields
    words = "An adapter (lora, rank 16, alpha 32.0) of `bard@1`, which was rounded to nf4 meanwhile, trained by supervised fine-tuning."
    assert words in card
    assert "## Training\n\n| | |\n|---|---|\n| datasets | `plays@3` |\n| modules | q_proj, v\\|proj |\n| n epochs | 2 |" in card
    assert "| max steps |" not in card
    assert "bytes of the master's weights" not in card, "it is no smaller master"
    assert "Beside `bard@1`" in card
    assert "--enable-lora" in card
    assert "## What was held out against the master bard@1\n\n| figure | validation | what it is |" in card
    assert "| nll_increase_nats | -0.5 |" in card
    assert "## Training\n\n| figure | training |" in card
    assert "## Evaluation on text against the master bard@1\n\n| figure | plays.test@1 |" in card


def test_the_card_of_trained_weights_calls_them_a_finetune() -> None:
    trained = described_adapter(kind=VersionKind.MERGED, format=Format.SAFETENSORS, dtype="float16")
    card = card_of(trained, described_master())
    assert "All weights of `bard@1`, trained by supervised fine-tuning." in card
    assert front_matter_of(card)["base_model_relation"] == "finetune"
    assert "vllm serve ." in card


@pytest.mark.parametrize(("target", "words"), [("master", "The weights of"), ("dequantized-base", "The dequantized weights of")])
def test_the_card_of_merged_weights_names_the_adapters(target: str, words: str) -> None:
    recipe = described_merged().recipe | {"merged_into": target}
    card = card_of(described_merged(recipe=recipe), described_master())
    assert f"{words} `bard@1` with what was trained beside them merged in: `bard@3` (weight 1.0)." in card
    assert front_matter_of(card)["base_model_relation"] == "merge"
    assert "## Ways to merge" in card
    assert "| figure | choice | way-master | way-master: plays@1 | way-unmerged | what it is |" in card


def test_what_is_quantized_from_merged_weights_names_those() -> None:
    card = card_of(described_quantized(), described_merged())
    assert "Made from the 16-bit base `bard@4` by `gptq` (W4A16)" in card
    assert "bytes of the base's weights" in card
