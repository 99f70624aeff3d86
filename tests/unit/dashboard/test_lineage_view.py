"""Where the boxes of a lineage stand."""

from __future__ import annotations

from quantry_core.versions import EdgeRole, Lineage, LineageLink, LineageNode
from quantry_dashboard.lineage_view import BOX_HEIGHT, BOX_WIDTH, MAX_NODES, PER_LINE, Drawing, drawing_of


def node(id_: str, noun: str = "version", state: str = "ready") -> LineageNode:
    return LineageNode(id=id_, noun=noun, label=f"{id_}@1", kind="quantized" if noun == "version" else "text", state=state)


def family(num_children: int, current: str = "ver_m") -> Lineage:
    children = [node(f"ver_q{number:03}") for number in range(num_children)]
    links = [LineageLink(child_id=child.id, parent_id="ver_m", role=EdgeRole.BASE) for child in children]
    links += [LineageLink(child_id="ver_q000", parent_id="dat_1", role=EdgeRole.CALIBRATION)] if children else []
    return Lineage(version_id=current, nodes=[node("ver_m"), node("dat_1", "dataset"), *children], links=links)


def places(drawing: Drawing) -> dict[str, tuple[float, float]]:
    return {box.node.id: (box.left, box.top) for box in drawing.boxes}


def test_the_master_stands_above_what_was_made_from_it() -> None:
    drawing = drawing_of(family(1, "ver_q000"))
    tops = {id_: top for id_, (_, top) in places(drawing).items()}
    assert tops["ver_m"] == tops["dat_1"] == 0 < tops["ver_q000"]
    assert {(arrow.role, arrow.path[0]) for arrow in drawing.arrows} == {("base", "M"), ("calibration", "M")}
    boxes = {box.node.id: box for box in drawing.boxes}
    assert boxes["dat_1"].address == "/datasets/dat_1"
    assert [box.node.id for box in drawing.boxes if box.is_current] == ["ver_q000"]
    assert boxes["ver_q000"].words == (
        "version ver_q000@1, this version: quantized, ready, made from ver_m@1 as base, dat_1@1 as calibration"
    )


def test_no_two_boxes_overlap_and_all_are_within() -> None:
    drawing = drawing_of(family(40))
    assert len(drawing.boxes) == 41
    assert drawing.num_left_out == 1
    for one in drawing.boxes:
        assert one.left >= 0 and one.left + BOX_WIDTH <= drawing.width
        assert one.top >= 0 and one.top + BOX_HEIGHT <= drawing.height
        for other in drawing.boxes:
            is_apart = abs(one.left - other.left) >= BOX_WIDTH or abs(one.top - other.top) >= BOX_HEIGHT
            assert is_apart or one is other, (one.node.id, other.node.id)


def test_a_wide_layer_is_broken_and_the_newest_come_first() -> None:
    drawing = drawing_of(family(PER_LINE + 2))
    first = sorted((box for box in drawing.boxes if box.node.id != "ver_m"), key=lambda box: (box.top, box.left))
    assert [box.node.id for box in first][:2] == ["ver_q007", "ver_q006"]
    assert len({box.top for box in first}) == 2
    # Between the boxes, never through one: each arrow goes along straight lines beside them.
    assert all("C" not in arrow.path for arrow in drawing.arrows)


def test_of_many_the_nearest_and_newest_are_drawn() -> None:
    lineage = family(300).model_copy(update={"has_more": True})
    drawing = drawing_of(lineage)
    ids = {box.node.id for box in drawing.boxes}
    assert len(ids) == MAX_NODES
    assert {"ver_m", "ver_q299"} <= ids
    assert "ver_q001" not in ids
    assert (drawing.num_left_out, drawing.has_more) == (302 - MAX_NODES, True)


def test_a_version_alone_is_one_box() -> None:
    drawing = drawing_of(Lineage(version_id="ver_m", nodes=[node("ver_m")], links=[]))
    assert (len(drawing.boxes), drawing.arrows, drawing.height) == (1, [], BOX_HEIGHT)
