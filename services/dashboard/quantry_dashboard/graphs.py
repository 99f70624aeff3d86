"""Where the steps of a pipeline are drawn: in columns, each step to the right of all it needs. Pure functions from steps to a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import NamedTuple

from quantry_core.jobs import Job

BOX_WIDTH_PX, BOX_HEIGHT_PX = 208, 74
GAP_X_PX, GAP_Y_PX = 56, 18
_SWEEPS = 4


class Box(NamedTuple):
    """A step and where its upper left corner is, in pixels."""

    name: str
    x_px: int
    y_px: int


class Picture(NamedTuple):
    """Boxes, the lines between them as SVG paths, and how large all of it is, in pixels."""

    boxes: tuple[Box, ...]
    lines: tuple[str, ...]
    width_px: int
    height_px: int


def step_graph(jobs: Sequence[Job]) -> dict[str, tuple[str, ...]]:
    """Returns for each job's id the ids it needs, of those that are here."""
    known = {job.id for job in jobs}
    graph = {job.id: tuple(need for need in job.needs if need in known) for job in jobs}
    return graph if _is_whole(graph) else {job.id: () for job in jobs}


def drawn(needs: Mapping[str, Sequence[str]]) -> Picture:
    """Returns a picture of steps by what each needs; a step may need only steps that are there."""
    if not needs:
        return Picture((), (), 0, 0)
    columns = _columns(needs)
    places = {name: (column, row) for column, names in enumerate(columns) for row, name in enumerate(names)}
    tallest = max(len(names) for names in columns)
    boxes = []
    for name, (column, row) in places.items():
        # A short column stands in the middle of the picture's height.
        offset = (tallest - len(columns[column])) * (BOX_HEIGHT_PX + GAP_Y_PX) // 2
        boxes.append(Box(name, column * (BOX_WIDTH_PX + GAP_X_PX), row * (BOX_HEIGHT_PX + GAP_Y_PX) + offset))
    corner = {box.name: (box.x_px, box.y_px) for box in boxes}
    lines = tuple(_line(corner[need], corner[name]) for name, needed in needs.items() for need in needed)
    width = len(columns) * (BOX_WIDTH_PX + GAP_X_PX) - GAP_X_PX
    return Picture(tuple(boxes), lines, width, tallest * (BOX_HEIGHT_PX + GAP_Y_PX) - GAP_Y_PX)


def _columns(needs: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Returns steps by column, each behind all it needs, and within a column near to what it is joined with."""
    depth: dict[str, int] = {}
    for name in TopologicalSorter(needs).static_order():
        depth[name] = 1 + max((depth[need] for need in needs[name]), default=-1)
    columns: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for name in needs:
        columns[depth[name]].append(name)
    joined: dict[str, list[str]] = {name: list(needed) for name, needed in needs.items()}
    for name, needed in needs.items():
        for need in needed:
            joined[need].append(name)
    for sweep in range(_SWEEPS):
        order = columns if sweep % 2 == 0 else columns[::-1]
        for names in order:
            row = {name: place for column in columns for place, name in enumerate(column)}
            names.sort(key=lambda name: (_mean([row[other] for other in joined[name]], row[name]), row[name]))
    return columns


def _mean(rows: Sequence[int], own: int) -> float:
    return sum(rows) / len(rows) if rows else float(own)


def _line(start: tuple[int, int], end: tuple[int, int]) -> str:
    """Returns a curve from the right side of one box to the left side of another."""
    x1, y1 = start[0] + BOX_WIDTH_PX, start[1] + BOX_HEIGHT_PX // 2
    x2, y2 = end[0], end[1] + BOX_HEIGHT_PX // 2
    bend = max(GAP_X_PX // 2, (x2 - x1) // 2)
    return f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"


def _is_whole(graph: Mapping[str, Sequence[str]]) -> bool:
    try:
        TopologicalSorter(graph).prepare()
    except ValueError:
        return False
    return True
