"""What is said of datasets, and the view of their list."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from factories.registry_api import a_dataset
from quantry_core.datasets import CapturedFrom, DatasetKind, DatasetOrigin, DatasetPreview, DatasetStatistics, UntrainableRow
from quantry_dashboard.dataset_facts import (
    MAX_CELL_CHARS,
    DatasetView,
    dataset_facts,
    derivation_facts,
    parse_view,
    preview_columns,
    preview_rows,
    preview_text,
    row_texts,
    scrub_facts,
    statistics_facts,
)

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)


def preview(*items: Any) -> DatasetPreview:
    return DatasetPreview(dataset_id="dat_1", ref="notes@1", kind=DatasetKind.ROWS, items=list(items), has_more=False)


def test_a_view_is_read_and_written() -> None:
    view, problems = parse_view({"kind": "chat", "origin": "captured", "text": "bard", "after": "dat_1"})
    assert (view.kind, view.origin, problems) == (DatasetKind.CHAT, DatasetOrigin.CAPTURED, [])
    assert view.url() == "/datasets?kind=chat&origin=captured&text=bard&after=dat_1"
    assert view.url(kind="rows") == "/datasets?kind=rows&origin=captured&text=bard"
    assert DatasetView().url() == "/datasets"
    view, problems = parse_view({"kind": "pictures"})
    assert view.kind is None
    assert problems[0].startswith("There is no kind 'pictures'; there are text,")


def test_rows_say_how_long_a_dataset_is() -> None:
    assert row_texts(a_dataset())[2] == "42 rows"
    text = a_dataset(kind=DatasetKind.TEXT, statistics=DatasetStatistics(num_characters=4_300_000))
    assert row_texts(text)[2] == "4,300,000 characters"


def test_only_what_was_counted_is_told() -> None:
    told = {fact.name: fact.text for fact in statistics_facts(a_dataset())}
    assert told == {"characters": "4,200", "rows": "42", "characters of a row": "8 to 900, 100 on average"}
    chat = DatasetStatistics(
        num_characters=10,
        num_rows=2,
        num_duplicate_rows=1,
        is_duplicates_estimated=True,
        num_messages={"user": 2, "assistant": 1},
        num_untrainable_rows=1,
        untrainable_rows=[UntrainableRow(line=2, reason="no answer")],
    )
    told = {fact.name: fact.text for fact in statistics_facts(a_dataset(statistics=chat))}
    assert told["messages"] == "1 assistant, 2 user"
    assert told["rows said before"] == "1, counted in a sample"
    assert told["line 2"] == "no answer"


def test_captured_prompts_say_what_was_taken_out() -> None:
    captured = CapturedFrom(deployment="bard", num_prompts=9, num_left_out=1, oldest_at=AT, newest_at=AT, num_scrubbed={"email": 4})
    facts = {fact.name: fact for fact in scrub_facts(captured)}
    assert facts["email replaced"].text == "4"
    assert facts["deployment"].href == "/deployments/bard"
    assert "unreadable" not in facts
    nothing = {fact.name: fact.text for fact in scrub_facts(captured.model_copy(update={"num_scrubbed": {}, "num_unreadable": 2}))}
    assert nothing["replaced"].startswith("nothing")
    assert nothing["unreadable"] == "2"
    assert scrub_facts(None) == []


def test_a_derived_dataset_names_its_parents() -> None:
    derivation = {
        "parents": [{"id": "dat_0", "ref": "kjv@1", "sha256": "0" * 64}],
        "recipe": {"parents": [{"ref": "kjv@1"}], "deduplicate": True, "num_items": 100},
    }
    facts = [(fact.name, fact.text, fact.href) for fact in derivation_facts(a_dataset(derivation=derivation))]
    assert facts == [("from", "kjv@1", "/datasets/dat_0"), ("deduplicate", "yes", None), ("num_items", "100", None)]
    assert derivation_facts(a_dataset()) == []


def test_a_removed_dataset_says_so() -> None:
    facts = {fact.name: fact.text for fact in dataset_facts(a_dataset(deleted_at=AT, removed_at=AT))}
    assert facts["removed"].endswith("it cannot be restored")


def test_previews_are_cells_of_text() -> None:
    chat = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": None}], "id": 7}
    shown = preview(chat, {"text": "x" * (MAX_CELL_CHARS + 1)})
    assert preview_columns(shown) == ["messages", "id", "text"]
    first, second = preview_rows(shown)
    assert first == ["user: hello\nassistant: ", "7", ""]
    assert second[2] == "x" * MAX_CELL_CHARS + "…"
    assert preview_text(preview("a", "<b>")) == "a\n<b>"
    assert preview_columns(preview("a")) == []
