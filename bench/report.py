"""What every benchmark leaves: a table on the screen, and the same as JSON and Markdown beside the machine and the versions."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One figure beside its peer or floor.

    ``goal`` is the highest ratio that is good enough (for a rate: the lowest); None where the issue names none.
    """

    name: str
    value: float
    peer: float
    unit: str
    ratio: float
    goal: str
    floor: str
    """What the peer or floor is."""

    bound: str
    """What keeps the figure from being better."""


def row(name: str, value: float, peer: float, unit: str, *, goal: str = "", floor: str, bound: str) -> Row:
    """Returns a row with its ratio."""
    return Row(name, value, peer, unit, value / peer if peer else float("nan"), goal, floor, bound)


def machine() -> dict[str, Any]:
    """Returns what the figures were measured on."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.processor(),
        "num_cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def versions(*distributions: str) -> dict[str, str]:
    """Returns the installed versions of these distributions."""
    return {name: version(name) for name in distributions}


def middle(values: Sequence[float]) -> float:
    """Returns the median of the repetitions."""
    return float(median(values))


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the value that ``share`` of all are not above, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def publish(name: str, title: str, rows: Sequence[Row], *, libraries: Mapping[str, str], details: Mapping[str, Any]) -> None:
    """Prints the table and writes bench/results/<name>.json and .md."""
    document = {
        "name": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": dict(libraries),
        "rows": [asdict(one) for one in rows],
        "details": dict(details),
    }
    text = _markdown(title, document, rows)
    (RESULTS / name).parent.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


def _markdown(title: str, document: Mapping[str, Any], rows: Sequence[Row]) -> str:
    host = document["machine"]
    lines = [
        f"# {title}",
        "",
        f"{document['at']}, {host['cpu']}, {host['num_cores']} cores, {host['memory_bytes'] / 1024**3:.0f} GiB, Python {host['python']}; "
        + ", ".join(f"{name} {number}" for name, number in document["versions"].items()),
        "",
        "| figure | Quantry | peer or floor | ratio | goal | the peer or floor is | what bounds it |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_line(one) for one in rows]
    return "\n".join([*lines, ""])


def _line(one: Row) -> str:
    cells = [
        one.name,
        f"{one.value:.4g} {one.unit}",
        f"{one.peer:.4g} {one.unit}",
        f"{one.ratio:.2f}",
        one.goal or "-",
        one.floor,
        one.bound,
    ]
    return f"| {' | '.join(cells)} |"
