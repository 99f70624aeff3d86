"""A lineage drawn: as SVG by a small layered layout, and as Mermaid text for documents. Pure, and the same for the same graph.

Parents stand above their children: a node's layer is the longest way down to it. Within a layer nodes are put in the order
of the mean position of their parents (the barycentre step of Sugiyama, Tagawa and Toda 1981), ties by label.
"""

from __future__ import annotations

from typing import NamedTuple
from xml.sax.saxutils import escape

from quantry_core.versions import Lineage, LineageLink, LineageNode

NODE_WIDTH = 210
NODE_HEIGHT = 52
GAP_X = 28
GAP_Y = 64
MARGIN = 24
MAX_LABEL_CHARS = 26
MORE = "more was made from it than is shown"

_FILLS = {"ready": "#d9f2e3", "quarantined": "#fbd9d7", "archived": "#e6e6e6"}
_STROKES = {"ready": "#1f7a4d", "quarantined": "#b3261e", "archived": "#6b6b6b"}
_DATASET_FILL, _DATASET_STROKE = "#dde8fb", "#2b5fb3"
_INK = "#1c1c1c"
_STYLE = "font-family:system-ui,sans-serif;font-size:13px"


class _Place(NamedTuple):
    """Where a node's box lies: its left upper corner."""

    x: float
    y: float


def lineage_svg(lineage: Lineage) -> str:
    """Returns the picture as a whole SVG document: versions as boxes in the colour of their state, datasets as rounded ones,
    the version it is about with a heavy rim. Every label is escaped; titles name nodes for screen readers."""
    layers = layers_of(lineage)
    places = _places(layers)
    width = 2 * MARGIN + max((len(layer) for layer in layers), default=1) * (NODE_WIDTH + GAP_X) - GAP_X
    height = 2 * MARGIN + len(layers) * (NODE_HEIGHT + GAP_Y) - GAP_Y
    current = next((node.label for node in lineage.nodes if node.id == lineage.version_id), lineage.version_id)
    nodes = {node.id: node for node in lineage.nodes}
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-labelledby="title description" style="{_STYLE}">',
        f'<title id="title">Lineage of {escape(current)}</title>',
        f'<desc id="description">{escape(_in_words(lineage, nodes))}</desc>',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for link in _sorted_links(lineage):
        lines.append(_edge(places[link.parent_id], places[link.child_id], link.role))
    for layer in layers:
        lines += [_box(node, places[node.id], is_current=node.id == lineage.version_id) for node in layer]
    if lineage.has_more:
        lines.append(f'<text x="{MARGIN}" y="{height - MARGIN / 3:g}" fill="{_INK}" font-size="11">{MORE}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def lineage_mermaid(lineage: Lineage) -> str:
    """Returns the graph as Mermaid text: a flow chart from the top down."""
    ordered = [node for layer in layers_of(lineage) for node in layer]
    names = {node.id: f"n{number}" for number, node in enumerate(ordered)}
    lines = ["flowchart TD"]
    for node in ordered:
        words = f"{_mermaid_text(node.label)}<br/>{_mermaid_text(node.kind)}"
        if node.noun == "dataset":
            lines.append(f'    {names[node.id]}[("{words}")]:::dataset')
        else:
            lines.append(
                f'    {names[node.id]}["{words}, {_mermaid_text(node.state)}"]:::{node.state if node.state in _FILLS else "ready"}'
            )
    for link in _sorted_links(lineage):
        lines.append(f"    {names[link.parent_id]} -->|{_mermaid_text(link.role)}| {names[link.child_id]}")
    for state, fill in _FILLS.items():
        lines.append(f"    classDef {state} fill:{fill},stroke:{_STROKES[state]}")
    lines.append(f"    classDef dataset fill:{_DATASET_FILL},stroke:{_DATASET_STROKE}")
    if lineage.has_more:
        lines.append(f'    more["{MORE}"]')
    if lineage.version_id in names:
        lines.append(f"    style {names[lineage.version_id]} stroke-width:4px")
    return "\n".join(lines) + "\n"


def layers_of(lineage: Lineage) -> list[list[LineageNode]]:
    """Returns the nodes by layer, each layer in the order in which it is drawn from the left."""
    parents: dict[str, set[str]] = {node.id: set() for node in lineage.nodes}
    for link in lineage.links:
        if link.child_id in parents and link.parent_id in parents:
            parents[link.child_id].add(link.parent_id)
    depths: dict[str, int] = {}
    waiting = dict(parents)
    while waiting:
        # A graph of versions has no circle: each was there before what was made from it. Should one lie in the data, it is cut.
        ripe = [id_ for id_, above in waiting.items() if above <= depths.keys()] or [min(waiting)]
        for id_ in ripe:
            depths[id_] = 1 + max((depths[parent] for parent in waiting[id_] if parent in depths), default=-1)
        for id_ in ripe:
            del waiting[id_]
    # A dataset stands just above the first thing it helped to make, not at the top.
    for node in lineage.nodes:
        children = [depths[link.child_id] for link in lineage.links if link.parent_id == node.id and link.child_id in depths]
        if node.noun == "dataset" and children:
            depths[node.id] = max(0, min(children) - 1)
    layers: list[list[LineageNode]] = [[] for _ in range(max(depths.values(), default=-1) + 1)]
    for node in lineage.nodes:
        layers[depths[node.id]].append(node)
    positions: dict[str, float] = {}
    for layer in layers:
        layer.sort(key=lambda node: (_barycentre(parents[node.id], positions), node.noun == "dataset", node.label, node.id))
        positions |= {node.id: index - (len(layer) - 1) / 2 for index, node in enumerate(layer)}
    return layers


def _barycentre(parents: set[str], positions: dict[str, float]) -> float:
    known = [positions[parent] for parent in sorted(parents) if parent in positions]
    return sum(known) / len(known) if known else 0.0


def _places(layers: list[list[LineageNode]]) -> dict[str, _Place]:
    widest = max((len(layer) for layer in layers), default=1)
    step = NODE_WIDTH + GAP_X
    return {
        node.id: _Place(MARGIN + (widest - len(layer)) * step / 2 + index * step, MARGIN + depth * (NODE_HEIGHT + GAP_Y))
        for depth, layer in enumerate(layers)
        for index, node in enumerate(layer)
    }


def _edge(parent: _Place, child: _Place, role: str) -> str:
    x1, y1 = parent.x + NODE_WIDTH / 2, parent.y + NODE_HEIGHT
    x2, y2 = child.x + NODE_WIDTH / 2, child.y
    if y2 <= y1:
        # In one layer: from the side.
        x1, y1, y2 = parent.x + NODE_WIDTH, parent.y + NODE_HEIGHT / 2, child.y + NODE_HEIGHT / 2
        x2 = child.x
    bend = (y1 + y2) / 2
    path = f"M{x1:g} {y1:g}C{x1:g} {bend:g} {x2:g} {bend:g} {x2:g} {y2:g}"
    return (
        f'<path d="{path}" fill="none" stroke="#555" marker-end="url(#arrow)"/>'
        f'<text x="{(x1 + x2) / 2 + 6:g}" y="{bend:g}" fill="#555" font-size="11">{escape(role)}</text>'
    )


def _box(node: LineageNode, place: _Place, *, is_current: bool) -> str:
    is_dataset = node.noun == "dataset"
    fill = _DATASET_FILL if is_dataset else _FILLS.get(node.state, "#ffffff")
    stroke = _DATASET_STROKE if is_dataset else _STROKES.get(node.state, _INK)
    below = node.kind if is_dataset else f"{node.kind}, {node.state}" + (" (this one)" if is_current else "")
    middle = place.x + NODE_WIDTH / 2
    return (
        f"<g><title>{escape(f'{node.noun} {node.label}: {below}')}</title>"
        f'<rect x="{place.x:g}" y="{place.y:g}" width="{NODE_WIDTH}" height="{NODE_HEIGHT}" rx="{NODE_HEIGHT // 2 if is_dataset else 4}" '
        f'fill="{fill}" stroke="{stroke}" stroke-width="{4 if is_current else 1.5:g}"/>'
        f'<text x="{middle:g}" y="{place.y + 22:g}" text-anchor="middle" fill="{_INK}" font-weight="600">{escape(_cut(node.label))}</text>'
        f'<text x="{middle:g}" y="{place.y + 39:g}" text-anchor="middle" fill="{_INK}" font-size="11">{escape(below)}</text></g>'
    )


def _cut(label: str) -> str:
    """Returns a label that fits its box: the middle goes, for the number stands at the end."""
    if len(label) <= MAX_LABEL_CHARS:
        return label
    half = (MAX_LABEL_CHARS - 1) // 2
    return f"{label[:half]}…{label[-half:]}"


def _in_words(lineage: Lineage, nodes: dict[str, LineageNode]) -> str:
    made = [f"{nodes[link.child_id].label} from {nodes[link.parent_id].label} ({link.role})" for link in _sorted_links(lineage)]
    words = "; ".join(made) or "made from nothing here, and nothing was made from it"
    return f"{words}; {MORE}" if lineage.has_more else words


def _sorted_links(lineage: Lineage) -> list[LineageLink]:
    known = {node.id for node in lineage.nodes}
    links = [link for link in lineage.links if link.child_id in known and link.parent_id in known]
    return sorted(links, key=lambda link: (link.child_id, link.role, link.parent_id))


def _mermaid_text(text: str) -> str:
    """Returns text that ends no quote and starts no markup in Mermaid: entities as its documentation has them."""
    return "".join(char if char.isalnum() or char in " ._@-" else f"#{ord(char)};" for char in text)
