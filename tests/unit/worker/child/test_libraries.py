"""What a child leaves out comes back only when it is asked for, and loading leaves the collector as it was."""

from __future__ import annotations

import gc
import sys
from importlib.util import find_spec

import pytest

from quantry_worker.child import libraries


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> str:
    """A library that is installed here and that nothing has imported."""
    monkeypatch.setattr(libraries, "LEFT_OUT", ("colorsys",))
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    return "colorsys"


def test_what_is_left_out_looks_as_if_it_was_not_installed(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_spec(absent) is not None
    libraries.leave_out()
    assert find_spec(absent) is None
    with pytest.raises(ModuleNotFoundError):
        libraries.load(absent)
    libraries.bring_in(absent)
    assert libraries.load(absent).__name__ == absent
    monkeypatch.delitem(sys.modules, absent)


def test_what_is_imported_already_stays(absent: str) -> None:
    module = libraries.load(absent)
    libraries.leave_out()
    libraries.bring_in(absent)
    assert sys.modules[absent] is module


def test_bringing_in_what_was_never_left_out_changes_nothing(absent: str) -> None:
    libraries.bring_in(absent)
    assert absent not in sys.modules


@pytest.mark.parametrize("is_collecting", [True, False])
@pytest.mark.parametrize("module", ["colorsys", "quantry_worker.child.there_is_no_such_module"])
def test_the_collector_goes_on_as_before(module: str, is_collecting: bool) -> None:
    was_enabled = gc.isenabled()
    (gc.enable if is_collecting else gc.disable)()
    try:
        try:
            libraries.load(module)
        except ImportError:
            assert module != "colorsys"
        assert gc.isenabled() is is_collecting
    finally:
        (gc.enable if was_enabled else gc.disable)()
        gc.unfreeze()
