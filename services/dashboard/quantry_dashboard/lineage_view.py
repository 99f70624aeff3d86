"""Where the boxes and arrows of a lineage stand on a version's page, and what each says. Pure.

The layers are those of the picture that the registry draws; a layer that is wide is broken into lines, so that it fits a window.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import quote

from quantry_core.lineage_pictures import layers_of
from quantry_core.versions import Lineage, LineageLink, LineageNode

BOX_WIDTH, BOX_HEIGHT = 188, 58
GAP_X, GAP_Y, LINE_GAP = 18, 58, 18
PER_LINE = 6
MAX_NODES = 90
"""So many boxes are drawn, those of the ancestors in any case; the SVG and the command line have all."""


class Box(NamedTuple):
    """A version or dataset; left and top in pixels."""

    node: LineageNode
    left: float
    top: float
    is_current: bool
    address: str
    words: str
    """For those who do not see where arrows lead."""
    origins: str
    """What it was made from, where there is no room for arrows; empty where that is nothing here."""


class Arrow(NamedTuple):
    """From what something was made of to what was made; ``path`` as SVG has it, and where its role is written."""

    path: str
    role: str
    left: float
    top: float


class _Line(NamedTuple):
    """Nodes beside each other. A layer has one line, or many."""

    nodes: list[LineageNode]
    is_first: bool
    is_of_many: bool


class Drawing(NamedTuple):
    """A whole picture."""

    width: float
    height: float
    boxes: list[Box]
    arrows: list[Arrow]
    num_left_out: int
    has_more: bool
    """Even the registry left some out."""


def drawing_of(lineage: Lineage) -> Drawing:
    """Returns the picture of a lineage, the masters at its top."""
    shown = _nearest(lineage)
    lines = [line for layer in layers_of(shown) for line in _lines(layer)]
    width = max((len(line.nodes) for line in lines), default=1) * (BOX_WIDTH + GAP_X) + GAP_X
    origins = _origins(shown)
    boxes: dict[str, Box] = {}
    # Of a box in a layer of several lines: where the arrows to that layer run along above it.
    rails: dict[str, float] = {}
    top = rail = 0.0
    for place, line in enumerate(lines):
        top += 0 if place == 0 else BOX_HEIGHT + (GAP_Y if line.is_first else LINE_GAP)
        rail = top - GAP_Y / 2 if line.is_first else rail
        left = (width - len(line.nodes) * (BOX_WIDTH + GAP_X) + GAP_X) / 2 if not line.is_of_many else GAP_X
        for node in line.nodes:
            is_current = node.id == lineage.version_id
            said = _sentence(node, origins[node.id], is_current=is_current)
            boxes[node.id] = Box(node, left, top, is_current, _address(node), said, origins[node.id])
            rails |= {node.id: rail} if line.is_of_many else {}
            left += BOX_WIDTH + GAP_X
    arrows = []
    for link in shown.links:
        parent, child = boxes[link.parent_id], boxes[link.child_id]
        arrows.append(
            _arrow(parent, child, link.role) if link.child_id not in rails else _along(parent, child, link.role, rails[link.child_id])
        )
    return Drawing(width, top + BOX_HEIGHT, list(boxes.values()), arrows, len(lineage.nodes) - len(shown.nodes), lineage.has_more)


def state_text(node: LineageNode) -> str:
    """Returns what stands below a box's name."""
    if node.noun == "dataset":
        return node.kind if node.state == "ready" else f"{node.kind}, {node.state}"
    return f"{node.kind}, {node.state}"


def _nearest(lineage: Lineage) -> Lineage:
    """Returns a lineage of MAX_NODES nodes at most: all that the version was made from, then what was made from it, nearest first."""
    parents: dict[str, set[str]] = {}
    children: dict[str, set[str]] = {}
    for link in lineage.links:
        parents.setdefault(link.child_id, set()).add(link.parent_id)
        children.setdefault(link.parent_id, set()).add(link.child_id)
    kept = dict.fromkeys(_reached(lineage.version_id, parents))
    for id_ in _reached(lineage.version_id, children):
        if len(kept) >= MAX_NODES:
            break
        kept[id_] = None
    nodes = [node for node in lineage.nodes if node.id in kept]
    ids = {node.id for node in nodes}
    links = [link for link in lineage.links if link.child_id in ids and link.parent_id in ids]
    return lineage.model_copy(update={"nodes": nodes, "links": links})


def _reached(first: str, ways: Mapping[str, Iterable[str]]) -> Iterable[str]:
    """Yields what can be reached, the nearest first and of those the newest: ids sort by time."""
    seen, line = {first}, [first]
    while line:
        yield from line
        line = sorted({id_ for one in line for id_ in ways.get(one, ()) if id_ not in seen}, reverse=True)
        seen.update(line)


def _lines(layer: list[LineageNode]) -> Iterable[_Line]:
    """Yields the lines of a layer: of one that is broken the newest stand first."""
    if len(layer) <= PER_LINE:
        yield _Line(layer, is_first=True, is_of_many=False)
        return
    newest_first = sorted(layer, key=lambda node: node.id, reverse=True)
    for start in range(0, len(layer), PER_LINE):
        yield _Line(newest_first[start : start + PER_LINE], is_first=start == 0, is_of_many=True)


def _along(parent: Box, child: Box, role: str, rail: float) -> Arrow:
    """Returns an arrow that goes between boxes, not through them: along the rail above the layer, down beside the box, in from above."""
    x1, y1, x2 = parent.left + BOX_WIDTH / 2, parent.top + BOX_HEIGHT, child.left + BOX_WIDTH / 2
    beside = child.left - GAP_X / 2
    path = f"M{x1:g} {y1:g}V{rail:g}H{beside:g}V{child.top - LINE_GAP / 2:g}H{x2:g}V{child.top:g}"
    # The role is written once for all of a column, on the rail.
    return Arrow(path, role, x1, rail)


def _arrow(parent: Box, child: Box, role: str) -> Arrow:
    x1, y1, x2, y2 = parent.left + BOX_WIDTH / 2, parent.top + BOX_HEIGHT, child.left + BOX_WIDTH / 2, child.top
    if y2 <= y1:
        # In one line: from side to side.
        is_right = child.left > parent.left
        x1, x2 = (parent.left + BOX_WIDTH, child.left) if is_right else (parent.left, child.left + BOX_WIDTH)
        y1 = y2 = parent.top + BOX_HEIGHT / 2
    bend = (y1 + y2) / 2
    return Arrow(f"M{x1:g} {y1:g}C{x1:g} {bend:g} {x2:g} {bend:g} {x2:g} {y2:g}", role, (x1 + x2) / 2, bend)


def _address(node: LineageNode) -> str:
    return f"/{'datasets' if node.noun == 'dataset' else 'versions'}/{quote(node.id, safe='')}"


def _origins(lineage: Lineage) -> dict[str, str]:
    """Returns for each node what it was made from: ``bard-6m@1 as base, kjv@1 as calibration``."""
    labels = {node.id: node.label for node in lineage.nodes}
    made_of: dict[str, list[LineageLink]] = {}
    for link in lineage.links:
        made_of.setdefault(link.child_id, []).append(link)
    return {node.id: ", ".join(f"{labels[link.parent_id]} as {link.role}" for link in made_of.get(node.id, ())) for node in lineage.nodes}


def _sentence(node: LineageNode, origins: str, *, is_current: bool) -> str:
    here = ", this version" if is_current else ""
    made = f", made from {origins}" if origins else ""
    return f"{node.noun} {node.label}{here}: {state_text(node)}{made}"
