"""Verdicts: what all findings together say, and in which words."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import pytest

from quantry_core.rules import RuleName
from quantry_core.verdicts import Finding, Judgement, Verdict, overall


def finding(verdict: Verdict, message: str = "", rule: RuleName = RuleName.LATENCY_LIMIT) -> Finding:
    return Finding(rule=rule, verdict=verdict, message=message)


def judgement(*findings: Finding) -> Judgement:
    return Judgement(verdict=overall(findings), findings=list(findings), made_at=datetime(2026, 11, 23, tzinfo=UTC))


def test_no_finding_is_no_success() -> None:
    assert overall([]) is Verdict.INCONCLUSIVE
    assert judgement().reason() == ""


@pytest.mark.parametrize("verdicts", list(product(Verdict, repeat=3)))
def test_all_must_pass_and_one_fails(verdicts: tuple[Verdict, ...]) -> None:
    found = overall(finding(one) for one in verdicts)
    if Verdict.FAIL in verdicts:
        assert found is Verdict.FAIL
    elif Verdict.INCONCLUSIVE in verdicts:
        assert found is Verdict.INCONCLUSIVE
    else:
        assert found is Verdict.PASS


def test_the_reason_is_of_those_that_decided() -> None:
    passed, failed, open_one = finding(Verdict.PASS, "a"), finding(Verdict.FAIL, "b", RuleName.SHADOW), finding(Verdict.INCONCLUSIVE, "c")
    assert judgement(passed, failed, open_one, failed).reason() == "shadow: b; shadow: b"
    assert judgement(passed, open_one).reason() == "latency_limit: c"
    assert judgement(passed, passed).reason() == "latency_limit: a; latency_limit: a"
