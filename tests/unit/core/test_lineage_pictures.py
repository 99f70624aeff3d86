"""The lineage as a picture: every node and edge once, parents above children, text escaped, the same each time."""

from __future__ import annotations

import random
import re
from xml.etree import ElementTree

import pytest

from factories.client import lineage
from quantry_core.lineage_pictures import MAX_LABEL_CHARS, MORE, NODE_HEIGHT, lineage_mermaid, lineage_svg
from quantry_core.versions import Lineage, LineageLink, LineageNode

SVG = "{http://www.w3.org/2000/svg}"


def parsed(picture: str) -> ElementTree.Element:
    return ElementTree.fromstring(picture)  # noqa: S314 - our own


def boxes(picture: str) -> dict[str, tuple[float, float, float]]:
    """Returns x, y and stroke width of each node's box by the node's label."""
    root = parsed(picture)
    found = {}
    for group in root.iter(f"{SVG}g"):
        rect, label = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
        assert rect is not None and label is not None and label.text is not None
        found[label.text] = (float(rect.attrib["x"]), float(rect.attrib["y"]), float(rect.attrib["stroke-width"]))
    return found


def test_parents_stand_above_children_and_the_current_version_is_marked() -> None:
    picture = lineage_svg(lineage())
    placed = boxes(picture)
    assert set(placed) == {"plays@1", "bard@1", "bard@2"}
    assert placed["bard@1"][1] + NODE_HEIGHT < placed["bard@2"][1]
    assert placed["plays@1"][1] + NODE_HEIGHT < placed["bard@2"][1]
    assert {label for label, (_, _, width) in placed.items() if width == 4} == {"bard@2"}
    root = parsed(picture)
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None and title.text == "Lineage of bard@2"
    assert description is not None and "bard@2 from bard@1 (base)" in (description.text or "")
    assert root.attrib["role"] == "img"
    assert len([path for path in root.findall(f"{SVG}path") if "marker-end" in path.attrib]) == 2


def test_it_is_the_same_whatever_the_order_of_nodes_and_links() -> None:
    nodes, links = wide_graph()
    drawn = lineage_svg(Lineage(version_id="ver_0", nodes=nodes, links=links))
    shuffled = random.Random(1)
    for _ in range(5):
        shuffled.shuffle(nodes)
        shuffled.shuffle(links)
        assert lineage_svg(Lineage(version_id="ver_0", nodes=nodes, links=links)) == drawn


def wide_graph() -> tuple[list[LineageNode], list[LineageLink]]:
    nodes = [LineageNode(id=f"ver_{n}", noun="version", label=f"bard@{n}", kind="quantized", state="ready") for n in range(12)]
    nodes += [LineageNode(id=f"dat_{n}", noun="dataset", label=f"text@{n}", kind="text", state="ready") for n in range(4)]
    links = [LineageLink.model_validate({"child_id": f"ver_{n}", "parent_id": f"ver_{n // 3}", "role": "base"}) for n in range(1, 12)]
    links += [
        LineageLink.model_validate({"child_id": f"ver_{n}", "parent_id": f"dat_{n % 4}", "role": "calibration"}) for n in range(1, 12)
    ]
    return nodes, links


def test_no_two_boxes_lie_on_each_other_and_all_lie_inside() -> None:
    nodes, links = wide_graph()
    picture = lineage_svg(Lineage(version_id="ver_0", nodes=nodes, links=links))
    placed = boxes(picture)
    assert len(placed) == 16
    assert len({(x, y) for x, y, _ in placed.values()}) == 16
    width, height = map(float, parsed(picture).attrib["viewBox"].split()[2:])
    assert all(0 <= x < width and 0 <= y < height for x, y, _ in placed.values())


@pytest.mark.parametrize("label", ["<script>alert(1)</script>", 'a"b&c', "x" * 300])
def test_labels_are_text_and_fit(label: str) -> None:
    node = LineageNode(id="ver_1", noun="version", label=label, kind="<kind>", state="no-such-state")
    picture = lineage_svg(Lineage(version_id="ver_1", nodes=[node], links=[]))
    root = parsed(picture)
    assert not list(root.iter(f"{SVG}script"))
    assert root.findtext(f"{SVG}title") == f"Lineage of {label}"
    (shown,) = boxes(picture)
    assert len(shown) <= MAX_LABEL_CHARS


def test_a_circle_in_the_data_is_drawn_and_not_followed_for_ever() -> None:
    nodes = [LineageNode(id=f"ver_{n}", noun="version", label=f"bard@{n}", kind="quantized", state="ready") for n in range(2)]
    links = [LineageLink.model_validate({"child_id": f"ver_{n}", "parent_id": f"ver_{1 - n}", "role": "base"}) for n in range(2)]
    assert len(boxes(lineage_svg(Lineage(version_id="ver_0", nodes=nodes, links=links)))) == 2


def test_what_is_left_out_is_told() -> None:
    cut = lineage().model_copy(update={"has_more": True})
    assert MORE not in lineage_svg(lineage()) + lineage_mermaid(lineage())
    root = parsed(lineage_svg(cut))
    assert MORE in (root.findtext(f"{SVG}desc") or "")
    [told] = [text for text in root.findall(f"{SVG}text") if text.text == MORE]
    assert 0 < float(told.attrib["y"]) < float(root.attrib["height"])
    assert f'more["{MORE}"]' in lineage_mermaid(cut)


def test_mermaid_names_every_node_once_and_quotes_nothing() -> None:
    text = lineage_mermaid(lineage())
    assert text.startswith("flowchart TD\n")
    assert len(re.findall(r":::", text)) == 3
    assert len(re.findall(r"-->", text)) == 2
    assert '[("plays@1<br/>text")]:::dataset' in text
    node = LineageNode(id="ver_1", noun="version", label='a"];b', kind="k", state="ready")
    assert '"]' not in lineage_mermaid(Lineage(version_id="ver_1", nodes=[node], links=[])).split('["')[1].split('"]')[0]
