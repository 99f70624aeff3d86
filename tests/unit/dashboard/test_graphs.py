"""Pictures of pipelines."""

from __future__ import annotations

from itertools import combinations

from factories.job_api import a_job
from quantry_dashboard.graphs import BOX_HEIGHT_PX, BOX_WIDTH_PX, Picture, drawn, step_graph

DIAMOND = {"import": (), "a": ("import",), "b": ("import",), "deploy": ("a", "b")}


def place(picture: Picture, name: str) -> tuple[int, int]:
    return next((box.x_px, box.y_px) for box in picture.boxes if box.name == name)


def test_each_step_stands_to_the_right_of_all_it_needs() -> None:
    needs = {**DIAMOND, "late": ("import", "deploy"), "alone": ()}
    picture = drawn(needs)
    for name, needed in needs.items():
        for need in needed:
            assert place(picture, need)[0] + BOX_WIDTH_PX < place(picture, name)[0]
    assert place(picture, "alone")[0] == place(picture, "import")[0] == 0
    assert len(picture.lines) == 6


def test_no_two_boxes_touch_and_all_are_within_the_picture() -> None:
    wide = {"start": (), **{f"s{number}": ("start",) for number in range(30)}, "end": tuple(f"s{number}" for number in range(30))}
    for needs in (DIAMOND, wide):
        picture = drawn(needs)
        assert len(picture.boxes) == len(needs)
        for one, other in combinations(picture.boxes, 2):
            assert abs(one.x_px - other.x_px) > BOX_WIDTH_PX or abs(one.y_px - other.y_px) > BOX_HEIGHT_PX
        for box in picture.boxes:
            assert 0 <= box.x_px <= picture.width_px - BOX_WIDTH_PX
            assert 0 <= box.y_px <= picture.height_px - BOX_HEIGHT_PX


def test_lines_that_need_not_cross_do_not() -> None:
    # As they are named, each would cross the other.
    picture = drawn({"a": (), "b": (), "of-b": ("b",), "of-a": ("a",)})
    assert (place(picture, "a")[1] < place(picture, "b")[1]) == (place(picture, "of-a")[1] < place(picture, "of-b")[1])


def test_a_line_joins_the_sides_of_two_boxes() -> None:
    picture = drawn({"a": (), "b": ("a",)})
    middle = BOX_HEIGHT_PX // 2
    assert picture.lines[0].startswith(f"M{BOX_WIDTH_PX} {middle}C")
    assert picture.lines[0].endswith(f"{place(picture, 'b')[0]} {middle}")


def test_nothing_is_drawn_of_nothing() -> None:
    assert drawn({}) == Picture((), (), 0, 0)


def test_jobs_are_joined_by_what_they_need_of_each_other() -> None:
    first = a_job()
    second = a_job(needs=[first.id, "job_of_another_pipeline"])
    assert step_graph([first, second]) == {first.id: (), second.id: (first.id,)}
    # No API says so; a page must not break where one does.
    round_trip = [first.model_copy(update={"needs": [second.id]}), second]
    assert step_graph(round_trip) == {first.id: (), second.id: ()}
