"""The view of a model's page, from its address and back."""

from __future__ import annotations

from quantry_core.methods import Format
from quantry_core.versions import VersionKind, VersionState
from quantry_dashboard.version_filters import ModelView, model_address, parse_view, version_address


def test_a_view_is_read_and_written() -> None:
    query = {
        "kind": "quantized",
        "format": "gptq",
        "state": "ready",
        "scheme": " W4A16 ",
        "tags": "stage=test",
        "x": "bits",
        "after": "ver_1",
    }
    view, problems = parse_view("bard", query)
    assert problems == []
    assert (view.kind, view.format, view.state, view.scheme) == (VersionKind.QUANTIZED, Format.GPTQ, VersionState.READY, "W4A16")
    assert view.is_narrowed
    assert view.x == "bits"
    assert view.url() == "/models/bard?kind=quantized&format=gptq&scheme=W4A16&state=ready&tags=stage%3Dtest&x=bits&after=ver_1"


def test_another_filter_begins_with_the_first_page_and_another_axis_does_not() -> None:
    view = ModelView("bard", after="ver_1", x="bits")
    assert view.url(kind="master") == "/models/bard?kind=master&x=bits"
    assert view.url(x="memory") == "/models/bard?x=memory&after=ver_1"
    assert view.url(after="ver_9", x=None) == "/models/bard?after=ver_9"
    assert not view.is_narrowed


def test_what_cannot_be_is_said_and_left_out() -> None:
    view, problems = parse_view("bard", {"kind": "<b>", "state": "gone", "tags": "a b=c", "text": "t" * 500})
    assert (view.kind, view.state, view.tags) == (None, None, None)
    assert [problem.split(";")[0] for problem in problems][1:] == ["There is no kind '<b>'", "There is no state 'gone'"]
    assert "selector" in problems[0]
    assert view.text == "t" * 200


def test_addresses_hold_no_more_than_one_name() -> None:
    assert model_address("../x?y") == "/models/..%2Fx%3Fy"
    assert version_address("bard@2") == "/versions/bard@2"
    assert version_address('"><b>') == "/versions/%22%3E%3Cb%3E"
