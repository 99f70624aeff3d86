"""Fingerprints: the same for the same work, another for whatever decides what is made."""

from __future__ import annotations

from typing import Any

import pytest

from quantry_core.fingerprints import fingerprint, recipe_digest
from quantry_core.jobs import QuantizeSpec

MASTER, TEXTS = "a" * 64, ["b" * 64, "c" * 64]


def digest(
    master: str = MASTER,
    texts: list[str] = TEXTS,
    *,
    corpora: list[str] | None = None,
    calibration: dict[str, Any] | None = None,
    **spec: Any,
) -> str:
    datasets = [f"text-{number}" for number in range(len(texts))]
    values = {"base": "bard", "calibration": {"datasets": datasets, **(calibration or {})}, **spec}
    return recipe_digest(QuantizeSpec.model_validate(values), master_digest=master, calibration_sha256=texts, quality_sha256=corpora or [])


@pytest.mark.parametrize(
    "same",
    [
        {"base": "bard@1"},
        {"base": "output:job_" + "0" * 32},
        {"calibration": {"datasets": ["other", "names"]}},
        {"method": "gptq", "scheme": "W4A16"},
        {"group_size": 128},
        {"ignore": ["lm_head", "lm_head"]},
        {"ignore": [], "keep_16bit": ["lm_head"]},
        {"options": {"damping": 0.01}},
        {"quality": {"corpora": ["another.name"]}},
        {"calibration": {"seed": 0}},
    ],
)
def test_names_and_defaults_written_out_do_not_count(same: dict[str, Any]) -> None:
    assert digest(**same) == digest()


def test_the_order_of_what_is_ignored_does_not_count() -> None:
    assert digest(ignore=["a", "b"]) == digest(ignore=["b", "a"])


def test_all_that_decides_what_is_made_counts() -> None:
    digests = [
        digest(),
        digest(master="d" * 64),
        digest(texts=["b" * 64]),
        digest(texts=TEXTS[::-1]),
        digest(group_size=64),
        digest(group_size="channel"),
        digest(options={"damping": 0.02}),
        digest(options={"symmetric": False}),
        digest(scheme="W8A16"),
        digest(ignore=[]),
        digest(keep_16bit=["*.o_proj"]),
        digest(overrides=[{"modules": ["*.o_proj"], "scheme": "W8A16"}]),
        digest(kv_cache="fp8"),
        digest(quality=None),
        digest(quality={"thresholds": {"perplexity_ratio": 1.05}}),
        digest(corpora=["e" * 64]),
        digest(calibration={"num_samples": 65}),
        digest(calibration={"length_tokens": 257}),
        digest(calibration={"seed": 1}),
    ]
    assert len(set(digests)) == len(digests)
    assert all(len(value) == 64 for value in digests)


def test_a_fingerprint_is_of_recipe_and_toolchain() -> None:
    assert fingerprint("a", "b") == fingerprint("a", "b")
    assert len({fingerprint("a", "b"), fingerprint("b", "a"), fingerprint("ab", ""), fingerprint("a", "c")}) == 4
