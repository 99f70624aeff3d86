"""Which line of a log is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantry_local.last_words import NOTHING, last_words

REQUEST = json.dumps({"event": "request", "path": "/healthz", "status": 503, "level": "info"})


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            ["Traceback (most recent call last):", "ModuleNotFoundError: No module named 'x'", ""],
            "ModuleNotFoundError: No module named 'x'",
        ),
        (
            [json.dumps({"event": "not ready", "detail": "the broker is away", "level": "warning"}), REQUEST],
            "not ready: the broker is away",
        ),
        ([json.dumps({"event": "boom\n", "level": "error", "exception": "Traceback\nValueError: no"})], "boom: ValueError: no"),
        ([REQUEST], "request"),
        ([], NOTHING),
    ],
)
def test_the_last_trouble_is_told(tmp_path: Path, lines: list[str], told: str) -> None:
    (tmp_path / "log").write_text("\n".join(lines))
    assert last_words(tmp_path / "log") == told


def test_a_log_that_was_never_written(tmp_path: Path) -> None:
    assert last_words(tmp_path / "none") == NOTHING


def test_a_long_line_is_cut(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("x" * 100_000)
    assert len(last_words(tmp_path / "log")) == 400
