"""Which verdict of which check lets a version be ready."""

from __future__ import annotations

import pytest

from quantry_core.gate import GateCheck, lets_pass
from quantry_core.methods import Format
from quantry_core.versions import Verdict


@pytest.mark.parametrize("form", Format)
def test_a_check_without_data_lets_pass_only_where_there_is_none(form: Format) -> None:
    without_data = {GateCheck.ENGINE, GateCheck.RECONSTRUCTION} if form is Format.EETQ else {GateCheck.ENGINE}
    assert {check for check in GateCheck if lets_pass(check, Verdict.INCONCLUSIVE, form)} == without_data
    assert all(lets_pass(check, Verdict.PASS, form) and not lets_pass(check, Verdict.FAIL, form) for check in GateCheck)
    assert not lets_pass("another", Verdict.INCONCLUSIVE, form)
