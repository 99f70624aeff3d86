"""``quantry datasets``: upload, list, show, preview, derive, download, delete, restore."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from quantry.cli.completion import dataset_refs
from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.output import Column, bytes_text, emit_json, print_fields, print_page, say, stderr, time_text
from quantry.cli.transfers import transfer_bar
from quantry_core.datasets import (
    DATASET_FILES,
    Dataset,
    DatasetKind,
    DatasetRecipe,
    DatasetStatistics,
    Parent,
    Split,
    SplitPart,
)
from quantry_core.pages import DEFAULT_LIMIT

app = typer.Typer(help="Upload datasets, look at them, derive new ones, delete and restore them.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", autocompletion=dataset_refs)]
SHOWN_UNTRAINABLE = 3
"""So many of the rows without an answer are shown with their reasons."""

RefArgument = Annotated[str, typer.Argument(metavar="REF", autocompletion=dataset_refs, help="dat_..., name@3, or name for the latest.")]

_COLUMNS: tuple[Column[Dataset], ...] = (
    ("dataset", lambda dataset: dataset.ref),
    ("kind", lambda dataset: dataset.kind),
    ("rows", lambda dataset: "" if dataset.statistics.num_rows is None else f"{dataset.statistics.num_rows:,}"),
    ("size", lambda dataset: bytes_text(dataset.size_bytes)),
    ("origin", lambda dataset: dataset.origin),
    ("id", lambda dataset: dataset.id),
    ("created", lambda dataset: time_text(dataset.created_at)),
)


@app.command("list")
def list_datasets(
    context: typer.Context, limit: LimitOption = DEFAULT_LIMIT, after: AfterOption = None, as_json: JsonOption = False
) -> None:
    """List datasets, newest first."""
    with connect(context) as client:
        page = client.datasets.list(after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _COLUMNS, empty="There are no datasets; upload one with 'quantry datasets upload'.")


@app.command("upload")
def upload_dataset(
    context: typer.Context,
    name: NameArgument,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="UTF-8 text or JSON Lines.", exists=True, dir_okay=False, readable=True)],
    kind: Annotated[DatasetKind | None, typer.Option(help="What it is; told by the file's name and first line where not given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Upload a file as the next version of a dataset; the same bytes again change nothing."""
    with connect(context) as client, transfer_bar(name, path.stat().st_size) as progress:
        dataset = client.datasets.upload(name, path, kind=kind, progress=progress)
    _tell(dataset, as_json)


@app.command("show")
def show_dataset(context: typer.Context, ref: RefArgument, as_json: JsonOption = False) -> None:
    """Show a dataset with its statistics, and what it was derived from."""
    with connect(context) as client:
        dataset = client.datasets.get(ref)
    if as_json:
        emit_json(dataset)
        return
    derivation = dataset.derivation or {}
    print_fields(
        [
            ("dataset", dataset.ref),
            ("id", dataset.id),
            ("kind", dataset.kind),
            ("origin", dataset.origin),
            ("size", bytes_text(dataset.size_bytes)),
            ("sha256", dataset.sha256),
            ("created", time_text(dataset.created_at)),
            ("deleted", None if dataset.deleted_at is None else time_text(dataset.deleted_at)),
            ("removed", None if dataset.removed_at is None else time_text(dataset.removed_at)),
            *_statistics_fields(dataset.statistics),
            ("derived from", ", ".join(parent["ref"] for parent in derivation.get("parents", [])) or None),
            ("recipe", json.dumps(derivation["recipe"], ensure_ascii=False) if "recipe" in derivation else None),
        ]
    )


@app.command("preview")
def preview_dataset(
    context: typer.Context,
    ref: RefArgument,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="Lines or rows.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Show the first lines of a text, or the first rows."""
    with connect(context) as client:
        preview = client.datasets.preview(ref, limit=limit)
    if as_json:
        emit_json(preview)
        return
    for item in preview.items:
        say(item if isinstance(item, str) else json.dumps(item, ensure_ascii=False))
    if preview.has_more:
        stderr().print(f"There is more: quantry datasets download {preview.ref} FILE")


@app.command("derive")
def derive_dataset(
    *,
    context: typer.Context,
    name: NameArgument,
    parents: Annotated[
        list[str], typer.Argument(metavar="PARENT...", autocompletion=dataset_refs, help="Datasets, one after another; REF or REF:WEIGHT.")
    ],
    num_items: Annotated[int | None, typer.Option("--sample", min=1, help="Draw so many rows, or passages of text.")] = None,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Mix their order.")] = False,
    min_characters: Annotated[int | None, typer.Option(min=1, help="Leave shorter ones out.")] = None,
    max_characters: Annotated[int | None, typer.Option(min=1, help="Leave longer ones out.")] = None,
    deduplicate: Annotated[bool, typer.Option("--deduplicate", help="Keep the first of those that say the same.")] = False,
    split: Annotated[SplitPart | None, typer.Option(help="Keep one part of two.")] = None,
    test_share: Annotated[float | None, typer.Option(help="Of the blocks that --split cuts.")] = None,
    block_items: Annotated[int | None, typer.Option(min=1, help="Rows or passages of one block of --split.")] = None,
    passage_characters: Annotated[int | None, typer.Option(min=100, help="Of plain text.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make a dataset from others: mixed, filtered, split, sampled. The same recipe makes the same bytes."""
    if split is None and (test_share is not None or block_items is not None):
        raise typer.BadParameter("--test-share and --block-items are for --split train or --split test")
    given = {"test_share": test_share, "block_items": block_items}
    fields = {
        "num_items": num_items,
        "min_characters": min_characters,
        "max_characters": max_characters,
        "passage_characters": passage_characters,
    }
    try:
        recipe = DatasetRecipe.model_validate(
            {
                "parents": [_parent(text) for text in parents],
                "split": None if split is None else Split.model_validate({"part": split} | _given(given)),
                "shuffle": shuffle,
                "deduplicate": deduplicate,
                "seed": seed,
            }
            | _given(fields)
        )
    except ValidationError as error:
        raise typer.BadParameter("; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())) from error
    with connect(context) as client:
        dataset = client.datasets.derive(name, recipe)
    _tell(dataset, as_json)


@app.command("download")
def download_dataset(
    context: typer.Context,
    ref: RefArgument,
    path: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="name-number.txt or .jsonl where not given.", dir_okay=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a dataset's file, checked against its digest."""
    with connect(context) as client:
        dataset = client.datasets.get(ref)
        target = path or Path(f"{dataset.name}-{dataset.number}{Path(DATASET_FILES[dataset.kind]).suffix}")
        with transfer_bar(dataset.ref, dataset.size_bytes) as progress:
            client.datasets.download(dataset.id, target, progress=progress)
    if as_json:
        emit_json({"dataset_id": dataset.id, "file": str(target), "sha256": dataset.sha256})
    else:
        say(f"{dataset.ref}: {bytes_text(dataset.size_bytes)}, digest checked, in {target}")


@app.command("delete")
def delete_dataset(context: typer.Context, ref: RefArgument, as_json: JsonOption = False) -> None:
    """Delete one version of a dataset that nothing needs; until a collection frees its bytes, it can be restored."""
    with connect(context) as client:
        dataset = client.datasets.get(ref)
        client.datasets.delete(dataset.id)
    if as_json:
        emit_json({"deleted": dataset.id})
    else:
        say(f"{dataset.ref} is deleted; bring it back: quantry datasets restore {dataset.id}")


@app.command("restore")
def restore_dataset(
    context: typer.Context,
    dataset_id: Annotated[str, typer.Argument(metavar="DATASET", help="dat_...: no name finds a deleted dataset.")],
    as_json: JsonOption = False,
) -> None:
    """Bring a deleted dataset back."""
    with connect(context) as client:
        dataset = client.datasets.restore(dataset_id)
    if as_json:
        emit_json(dataset)
    else:
        say(f"{dataset.ref} ({dataset.id}) is restored")


def _tell(dataset: Dataset, as_json: bool) -> None:
    if as_json:
        emit_json(dataset)
        return
    rows = "" if dataset.statistics.num_rows is None else f", {dataset.statistics.num_rows:,} rows"
    say(f"{dataset.ref} ({dataset.id}), {dataset.kind}{rows}, {bytes_text(dataset.size_bytes)}")


def _parent(text: str) -> Parent:
    """Returns a parent from ``REF`` or ``REF:WEIGHT``; a usage error for a weight that is no number."""
    ref, colon, weight = text.partition(":")
    try:
        return Parent(ref=ref, weight=float(weight) if colon else None)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no parent: REF, or REF:WEIGHT with a weight above 0") from None


def _given(fields: dict[str, float | None] | dict[str, int | None]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _statistics_fields(counted: DatasetStatistics) -> list[tuple[str, str | None]]:
    duplicates = None if counted.num_duplicate_rows is None else f"{counted.num_duplicate_rows:,}"
    return [
        ("characters", f"{counted.num_characters:,}"),
        ("beyond ASCII", None if counted.non_ascii_share is None else f"{counted.non_ascii_share:.2%}"),
        ("lines", f"{counted.num_lines:,}"),
        ("rows", None if counted.num_rows is None else f"{counted.num_rows:,}"),
        (
            "row length",
            None
            if counted.row_characters_mean is None
            else f"{counted.row_characters_min:,} to {counted.row_characters_max:,} characters, mean {counted.row_characters_mean:,.0f}, "
            f"half up to {counted.row_characters_p50:,}, 95 % up to {counted.row_characters_p95:,}",
        ),
        ("duplicates", f"about {duplicates}" if counted.is_duplicates_estimated else duplicates),
        (
            "messages",
            None if counted.num_messages is None else ", ".join(f"{count:,} {role}" for role, count in counted.num_messages.items()),
        ),
        (
            "answers",
            None
            if counted.num_chosen_characters is None
            else f"{counted.num_chosen_characters:,} characters chosen, {counted.num_rejected_characters:,} rejected",
        ),
        (
            "labels",
            None if counted.num_labels is None else ", ".join(f"{count:,} {label}" for label, count in counted.num_labels.items()),
        ),
        ("cannot be learned", _untrainable_text(counted)),
    ]


def _untrainable_text(counted: DatasetStatistics) -> str | None:
    """Returns how many rows have no answer to learn, and the first of them; None where each has one."""
    if not counted.num_untrainable_rows:
        return None
    shown = counted.untrainable_rows[:SHOWN_UNTRAINABLE]
    num_more = counted.num_untrainable_rows - len(shown)
    more = f"; {num_more:,} more, the first {len(counted.untrainable_rows)} with --json" if num_more else ""
    rows = "; ".join(f"line {row.line} {row.reason}" for row in shown)
    return f"{counted.num_untrainable_rows:,} rows, by methods that learn answers: {rows}{more}"
