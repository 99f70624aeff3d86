"""What the demo prints."""

from __future__ import annotations

import io
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from quantry_core.jobs import ImportSpec, Job, JobResult, JobStatus, JobType
from quantry_core.methods import Format
from quantry_core.versions import Evidence, EvidenceKind, Verdict, VersionDetail, VersionKind, VersionState
from quantry_local.demo import RECENT_S, build_times, show_costs, take
from quantry_local.demo_steps import STEPS, TEST_CORPORA, Demo, Step, StepFailed, corpus_metrics
from quantry_local.demo_view import LineView, LiveView, result_table
from quantry_local.errors import StackError
from quantry_local.stack import Options, Stack

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def printer() -> Console:
    return Console(file=io.StringIO(), width=200, force_terminal=False)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def evidence(corpus: str, minute: int, **metrics: Any) -> Evidence:
    return Evidence(
        id=f"evi_{corpus}{minute}",
        version_id="ver_1",
        job_id="job_1",
        kind=EvidenceKind.EVALUATION,
        name=f"{corpus}.test@1",
        verdict=Verdict.PASS,
        metrics={"num_tokens": 100, **metrics},
        created_at=NOW.replace(minute=minute),
    )


def version(number: int, weights_bytes: int, evaluations: list[Evidence]) -> VersionDetail:
    is_master = number == 1
    return VersionDetail(
        id=f"ver_{number}",
        project_id="prj_1",
        model_id="mod_1",
        model_name="bard-6m",
        number=number,
        kind=VersionKind.MASTER if is_master else VersionKind.QUANTIZED,
        state=VersionState.READY,
        format=Format.SAFETENSORS if is_master else Format.COMPRESSED_TENSORS,
        scheme=None if is_master else "W4A16",
        dtype="float16" if is_master else None,
        manifest_digest="0" * 64,
        size_bytes=weights_bytes,
        weights_bytes=weights_bytes,
        job_id="job_1",
        attempt=1,
        recipe={},
        toolchain={},
        created_at=NOW,
        files=[],
        edges=[],
        evidence=evaluations,
    )


def job(seconds: float) -> Job:
    return Job(
        id="job_1",
        project_id="prj_1",
        type=JobType.IMPORT,
        status=JobStatus.SUCCEEDED,
        spec=ImportSpec(model="bard-6m", source="/x"),
        priority=5,
        attempt=1,
        num_lost_attempts=0,
        result=JobResult(seconds=seconds, peak_memory_bytes=700_000_000),
        created_at=NOW,
    )


def test_the_table_compares_the_quantized_version_with_its_master() -> None:
    master = version(1, 10_000_000, [evidence(corpus, 0, perplexity=20.0) for corpus in TEST_CORPORA])
    figures = [evidence(corpus, 0, perplexity=20.5, kl_mean_nats=0.01, top1_agreement=0.9) for corpus in TEST_CORPORA[:-1]]
    figures.append(evidence(TEST_CORPORA[-1], 0, perplexity=19.0, kl_mean_nats=0.05, top1_agreement=0.5, num_tokens=300))
    console = printer()
    console.print(result_table(master, version(2, 4_000_000, figures), job(1.25), job(12.0)))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed(console).splitlines() if "│" in line]
    table = {row[0]: row[1:] for row in rows}
    assert table["scheme"] == ["float16", "W4A16", ""]
    assert table["weights, bytes"] == ["10,000,000", "4,000,000", "-60.00%"]
    assert table["perplexity, kjv"] == ["20.00", "20.50", "+2.50%"]
    assert table["perplexity, jargon"] == ["20.00", "19.00", "-5.00%"]
    # Weighted by tokens: (3 * 100 * 0.01 + 300 * 0.05) / 600 and (3 * 100 * 0.9 + 300 * 0.5) / 600.
    assert table["mean KL from master, nats"] == ["", "0.0300", ""]
    assert table["top-1 agreement with master"] == ["", "70.0%", ""]
    assert table["made in, seconds"] == ["1.2", "12.0", ""]
    assert table["peak memory of its job"] == ["700 MB", "700 MB", ""]
    assert "bard-6m@1" in printed(console)
    assert max(map(len, printed(console).splitlines())) <= 80


def test_the_latest_evaluation_of_a_corpus_counts() -> None:
    detail = version(1, 1, [evidence("kjv", 5, perplexity=2.0), evidence("kjv", 1, perplexity=1.0)])
    assert corpus_metrics(detail)["kjv"]["perplexity"] == 2.0


def test_plain_lines_without_a_terminal() -> None:
    console = printer()
    view = LineView(console)
    view.begin("import the master")
    view.progress("reading", 0.5)
    view.end("bard-6m@1", 2.5)
    assert printed(console) == f"done    {'import the master':<26}    2.5 s   bard-6m@1\n"


def test_the_live_list_shows_every_step_and_where_the_current_one_is() -> None:
    clock = iter([0.0, 3.0])
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    view = LiveView(console, ["one", "two", "three"], clock=lambda: next(clock, 4.0))
    view.close()
    view.begin("one")
    view.end("made it", 1.5)
    view.begin("two")
    view.progress("scoring kjv", 0.25)
    out = printer()
    out.print(view.render())
    lines = [" ".join(line.split()) for line in printed(out).splitlines()]
    assert lines[0] == "✓ one 1.5 s made it"
    assert lines[1].startswith("⠋ two 1.0 s ━") or "two 1.0 s ━" in lines[1]
    assert lines[1].endswith("25% scoring kjv")
    assert lines[2] == "three"


def test_long_words_cost_the_other_columns_nothing() -> None:
    view = LiveView(Console(file=io.StringIO(), force_terminal=True), ["evaluate the quantized"], clock=lambda: 0.0)
    view.close()
    view.begin("evaluate the quantized")
    view.end("perplexity " * 20, 101.5)
    narrow = Console(file=io.StringIO(), width=80)
    narrow.print(view.render())
    (line,) = printed(narrow).splitlines()
    assert line.startswith("✓ evaluate the quantized")
    assert "101.5 s perplexity" in line


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StepFailed("it is no good", Path("/logs/worker.log")), "Step: the step. Reason: it is no good. Log: /logs/worker.log"),
        (
            StackError("api ended while it started: oops; its log is /l"),
            "Step: the step. Reason: api ended while it started: oops; its log is /l.",
        ),
    ],
)
def test_a_failed_step_is_told_with_reason_and_log(tmp_path: Path, error: Exception, told: str) -> None:
    def run(_demo: Demo, _report: object) -> str:
        raise error

    console = printer()
    demo = Demo(Stack(Options(tmp_path)), tmp_path)
    assert take(Step("the step", run), demo, LineView(console)) == told
    assert printed(console).startswith("failed  the step")


def test_a_defect_is_not_taken_for_a_failed_step(tmp_path: Path) -> None:
    def run(_demo: Demo, _report: object) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        take(Step("the step", run), Demo(Stack(Options(tmp_path)), tmp_path), LineView(printer()))


def test_times_of_environments_count_only_if_they_were_built_just_now(tmp_path: Path) -> None:
    path = tmp_path / ".venvs" / "timings.json"
    assert build_times(tmp_path) is None
    path.parent.mkdir()
    path.write_text(json.dumps({"download_s": 60.5, "environments_s": 30.0, "built": ["light", "ml"]}))
    os.utime(path, (1000.0, 1000.0))
    times = build_times(tmp_path, now=1000.0 + RECENT_S)
    assert times is not None
    assert times.download_s == 60.5
    assert build_times(tmp_path, now=1001.0 + RECENT_S) is None
    path.write_text(json.dumps({"download_s": 0.0, "environments_s": 0.1, "built": []}))
    assert build_times(tmp_path) is None


def test_costs_are_told_apart() -> None:
    console = printer()
    show_costs(console, None, 123.4, 5_250_000_000)
    assert "downloads 0.0 s, environments 0.0 s" in printed(console)
    assert "the rest 123.4 s" in printed(console)
    assert "5.25 GB" in printed(console)


def test_the_steps_have_different_titles_that_fit_their_column() -> None:
    titles = [step.title for step in STEPS]
    assert len(set(titles)) == len(titles)
    assert max(map(len, titles)) <= 26
