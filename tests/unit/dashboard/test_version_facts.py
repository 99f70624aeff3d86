"""What is said of versions."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

import pytest

from factories.registry_api import CORPUS, a_version, evidence_of, with_quality
from quantry_core.aliases import AliasChange
from quantry_core.versions import EvidenceKind, Verdict, VersionKind, VersionState
from quantry_dashboard import words
from quantry_dashboard.pages.version_actions import may_be_done
from quantry_dashboard.version_facts import (
    actions_of,
    base_id_of,
    deltas_text,
    differing,
    facts_of,
    history_texts,
    labels_of,
    quality_rows,
    why_held_back,
)

MASTER = a_version(1)
QUANTIZED = with_quality(a_version(2, base=MASTER), 1.012)


def test_facts_name_where_a_version_comes_from() -> None:
    facts = {fact.name: fact for fact in facts_of(QUANTIZED, {MASTER.id: "bard-6m@1"})}
    assert (facts["made from"].text, facts["made from"].href) == ("bard-6m@1", f"/versions/{MASTER.id}")
    assert facts["bits per weight"].text == "4.50 (5.70 for each parameter of the whole model)"
    assert facts["made by"].href == f"/jobs/{QUANTIZED.job_id}"
    assert "made from" not in {fact.name for fact in facts_of(MASTER, {})}


def test_quality_has_its_reference_and_interval() -> None:
    evaluated = evidence_of(
        QUANTIZED, EvidenceKind.EVALUATION, "plays@1", against="bard-6m@1", against_version_id=MASTER.id, perplexity_ratio=1.5
    )
    version = QUANTIZED.model_copy(update={"evidence": [*QUANTIZED.evidence, evaluated]})
    assert quality_rows(version) == [
        (CORPUS, "the master", "its gate", "1.012 (1.0080 to 1.0160)", "0.006", "0.976"),
        ("plays@1", "bard-6m@1", "an evaluation", "1.5", "–", "–"),
    ]


def test_quarantine_says_why() -> None:
    assert why_held_back(QUANTIZED) == []
    held = with_quality(a_version(3, base=MASTER, state=VersionState.QUARANTINED), 1.2, verdict=Verdict.FAIL)
    assert why_held_back(held) == [f"quality: perplexity_ratio 1.2 is more than 1.02 on {CORPUS}"]
    unsaid = held.model_copy(update={"evidence": []})
    assert len(why_held_back(unsaid)) == 1


def test_links_to_forms_are_filled_in() -> None:
    actions = {action.label: action.address for action in actions_of(MASTER, None)}
    assert list(actions) == ["Quantize from here", "Fine-tune", "Evaluate", "Deploy"]
    assert actions["Quantize from here"] == "/jobs/new?type=quantize&base=bard-6m%401"
    actions = {action.label: action.address for action in actions_of(QUANTIZED, base_id_of(QUANTIZED))}
    assert list(actions) == ["Evaluate", "Compare with the master", "Deploy"]
    assert dict(parse_qsl(urlsplit(actions["Evaluate"]).query)) == {"type": "evaluate", "version": "bard-6m@2", "against": MASTER.id}
    assert actions["Compare with the master"] == f"/compare?a={MASTER.id}&b={QUANTIZED.id}"


@pytest.mark.parametrize("state", [VersionState.QUARANTINED, VersionState.ARCHIVED])
def test_nothing_is_begun_from_what_is_held_back(state: VersionState) -> None:
    held = QUANTIZED.model_copy(update={"state": state})
    assert [action.label for action in actions_of(held, MASTER.id)] == ["Evaluate", "Compare with the master"]


def test_only_what_makes_sense_is_offered() -> None:
    assert may_be_done(MASTER) == {"delete"}
    assert may_be_done(QUANTIZED) == {"delete", "archive"}
    assert may_be_done(QUANTIZED.model_copy(update={"state": VersionState.ARCHIVED})) == {"delete", "unarchive"}
    assert may_be_done(QUANTIZED.model_copy(update={"state": VersionState.QUARANTINED})) == {"delete"}
    assert may_be_done(QUANTIZED.model_copy(update={"deleted_at": datetime.now(UTC), "kind": VersionKind.MERGED})) == {"restore"}


def test_labels_are_read_as_they_are_written() -> None:
    labels = {"stage": "test", "golden": "", "owner": "a=b"}
    assert labels_of(words.labels_text(labels)) == labels
    assert labels_of("golden, stage=test") == {"golden": "", "stage": "test"}
    assert labels_of("  ") == {}


def test_history_names_versions_that_are_known() -> None:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    change = AliasChange(alias="production", version_id="ver_2", previous_version_id=None, key_id=None, created_at=at)
    assert history_texts(change, {"ver_2": 2})[1:] == ("production", "–", "@2", "the platform")
    gone = change.model_copy(update={"version_id": None, "previous_version_id": "ver_2", "key_id": "key_1"})
    assert history_texts(gone, {})[1:] == ("production", "ver_2", "deleted", "key_1")


def test_differences_have_two_sides() -> None:
    assert differing(None, ["a", "b"]) == ("–", "a, b")
    assert differing(True, 4) == ("yes", "4")
    assert (deltas_text(1.0, 1.5), deltas_text(2, 2), deltas_text(None, 1)) == ("+0.5", "0", "–")
