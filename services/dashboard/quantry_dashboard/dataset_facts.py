"""What the pages of datasets say: pure functions from datasets to names and texts, and the filters of their list."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from quantry import Client
from quantry_core.datasets import CapturedFrom, Dataset, DatasetKind, DatasetOrigin, DatasetPreview, Derivation
from quantry_core.pages import Page
from quantry_dashboard import words
from quantry_dashboard.facts import Fact, flattened
from quantry_dashboard.version_filters import choice_of

PATH = "/datasets"
ROWS = 25
MAX_CELL_CHARS = 2000
"""Of one value of a previewed row."""


def dataset_address(ref: str) -> str:
    """Returns the address of a dataset's page; ``ref``: ``dat_...`` or ``name@number``."""
    return f"{PATH}/{quote(ref, safe='@')}"


@dataclass(frozen=True)
class DatasetView:
    """One view of the list. What is None is not asked about."""

    kind: DatasetKind | None = None
    origin: DatasetOrigin | None = None
    text: str | None = None
    after: str | None = None

    @property
    def is_narrowed(self) -> bool:
        """Whether anything but the page is asked about."""
        return any((self.kind, self.origin, self.text))

    def ask(self, client: Client) -> Page[Dataset]:
        """Returns the page of datasets."""
        return client.datasets.list(kind=self.kind, origin=self.origin, text=self.text, after=self.after, limit=ROWS)

    def url(self, **changed: str | None) -> str:
        """Returns the address of this view with other values, which begins with its first page. A bad value is written too."""
        values: dict[str, str | None] = {"kind": self.kind, "origin": self.origin, "text": self.text}
        values |= {"after": None if changed else self.after, **{name: (value or "").strip() for name, value in changed.items()}}
        query = urlencode({name: value for name, value in values.items() if value})
        return f"{PATH}?{query}" if query else PATH


def parse_view(query: Mapping[str, str]) -> tuple[DatasetView, list[str]]:
    """Returns the view that an address asks for, and a sentence for each part that cannot be; those are left out."""
    given = {name: value.strip() for name, value in query.items() if value.strip()}
    problems: list[str] = []
    text = given.get("text")
    view = DatasetView(
        kind=choice_of(DatasetKind, "kind", given, problems),
        origin=choice_of(DatasetOrigin, "origin", given, problems),
        text=None if text is None else text[:200],
        after=given.get("after"),
    )
    return view, problems


def row_texts(dataset: Dataset) -> list[str]:
    """Returns what a list says of a dataset but for its name: kind, origin, rows or characters, size, when it was made."""
    statistics = dataset.statistics
    length = f"{statistics.num_characters:,} characters" if statistics.num_rows is None else f"{statistics.num_rows:,} rows"
    return [dataset.kind, dataset.origin, length, words.bytes_text(dataset.size_bytes), words.moment_text(dataset.created_at)]


def dataset_facts(dataset: Dataset) -> list[Fact]:
    """Returns what a dataset is and where it comes from."""
    facts = [
        Fact("kind", dataset.kind),
        Fact("origin", dataset.origin),
        Fact("size", words.bytes_text(dataset.size_bytes)),
        Fact("purpose", dataset.purpose or ""),
        Fact("made", words.moment_text(dataset.created_at)),
        Fact("deleted", "" if dataset.deleted_at is None else words.moment_text(dataset.deleted_at)),
        Fact("removed", "" if dataset.removed_at is None else f"{words.moment_text(dataset.removed_at)}; it cannot be restored"),
        Fact("SHA-256", dataset.sha256),
    ]
    return [fact for fact in facts if fact.text]


def statistics_facts(dataset: Dataset) -> list[Fact]:
    """Returns what was counted of a dataset."""
    counted = dataset.statistics
    rows = counted.num_rows
    facts = [
        Fact("characters", f"{counted.num_characters:,}"),
        Fact("lines", f"{counted.num_lines:,}" if counted.num_lines else ""),
        Fact("beyond ASCII", "" if counted.non_ascii_share is None else f"{counted.non_ascii_share:.2%}"),
        Fact("rows", "" if rows is None else f"{rows:,}"),
        Fact("characters of a row", _lengths(dataset)),
        Fact("rows said before", _duplicates(dataset)),
        Fact("messages", _counts(counted.num_messages)),
        Fact("chosen", "" if counted.num_chosen_characters is None else f"{counted.num_chosen_characters:,} characters"),
        Fact("rejected", "" if counted.num_rejected_characters is None else f"{counted.num_rejected_characters:,} characters"),
        Fact("labels", _counts(counted.num_labels)),
        Fact("rows that cannot be learned", "" if counted.num_untrainable_rows is None else f"{counted.num_untrainable_rows:,}"),
        *(Fact(f"line {row.line}", row.reason) for row in counted.untrainable_rows[:5]),
    ]
    return [fact for fact in facts if fact.text]


def scrub_facts(captured: CapturedFrom | None) -> list[Fact]:
    """Returns where captured prompts come from, and what was taken out of them."""
    if captured is None:
        return []
    found = [Fact(f"{kind} replaced", f"{count:,}") for kind, count in sorted(captured.num_scrubbed.items())]
    facts = [
        Fact("deployment", captured.deployment, f"/deployments/{captured.deployment}"),
        Fact("prompts", f"{captured.num_prompts:,}"),
        Fact("left out", f"{captured.num_left_out:,}: of another kind than most, or of no form that a row can have"),
        Fact("unreadable", f"{captured.num_unreadable:,}" if captured.num_unreadable else ""),
        Fact("from", words.moment_text(captured.oldest_at)),
        Fact("until", words.moment_text(captured.newest_at)),
        *(found or [Fact("replaced", "nothing: no address, number or secret was found")]),
    ]
    return [fact for fact in facts if fact.text]


def derivation_facts(dataset: Dataset) -> list[Fact]:
    """Returns what a dataset was derived from, and how."""
    if dataset.derivation is None:
        return []
    derivation = Derivation.model_validate(dataset.derivation)
    recipe = derivation.recipe.model_dump(mode="json", exclude={"parents"}, exclude_defaults=True)
    return [*(Fact("from", parent.ref, dataset_address(parent.id)) for parent in derivation.parents), *flattened(recipe)]


def preview_columns(preview: DatasetPreview) -> list[str]:
    """Returns the fields of the previewed rows, in the order in which they come; none of plain text."""
    rows = [item for item in preview.items if isinstance(item, dict)]
    return list(dict.fromkeys(name for row in rows for name in row))


def preview_rows(preview: DatasetPreview) -> list[list[str]]:
    """Returns the previewed rows as cells under their columns."""
    columns = preview_columns(preview)
    return [[_cell(item.get(column)) for column in columns] for item in preview.items if isinstance(item, dict)]


def preview_text(preview: DatasetPreview) -> str:
    """Returns the previewed lines of plain text."""
    return "\n".join(item for item in preview.items if isinstance(item, str))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(one, dict) and "role" in one for one in value):
        text = "\n".join(f"{one['role']}: {one.get('content') or ''}" for one in value)
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_CELL_CHARS else f"{text[:MAX_CELL_CHARS]}…"


def _lengths(dataset: Dataset) -> str:
    counted = dataset.statistics
    if counted.row_characters_mean is None:
        return ""
    shares = [
        f"{name} {value:,}"
        for name, value in (("half up to", counted.row_characters_p50), ("95% up to", counted.row_characters_p95))
        if value
    ]
    span = f"{counted.row_characters_min:,} to {counted.row_characters_max:,}"
    return ", ".join([span, f"{counted.row_characters_mean:,.0f} on average", *shares])


def _duplicates(dataset: Dataset) -> str:
    counted = dataset.statistics
    if counted.num_duplicate_rows is None:
        return ""
    return f"{counted.num_duplicate_rows:,}" + (", counted in a sample" if counted.is_duplicates_estimated else "")


def _counts(counts: Mapping[str, int] | None) -> str:
    return "" if counts is None else ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
