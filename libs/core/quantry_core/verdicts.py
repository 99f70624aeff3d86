"""What an analysis found: a verdict for each rule, with the numbers it stands on."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.rules import RuleName


class Verdict(StrEnum):
    """No data, too little data and an analysis that failed are inconclusive; inconclusive never promotes."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Finding(BaseModel):
    """What one rule says of a candidate."""

    model_config = ConfigDict(frozen=True)

    rule: RuleName
    verdict: Verdict
    message: str = Field(description="For people: the figures, the bound, what is missing.")
    candidate: float | None = Field(default=None, description="The candidate's figure, in the rule's unit.")
    stable: float | None = Field(default=None, description="The stable release's, where the rule compares.")
    low: float | None = Field(default=None, description="Lower end of the confidence sequence of what the rule bounds.")
    high: float | None = Field(default=None, description="Its upper end.")
    bound: float | None = Field(default=None, description="What low and high are held against.")
    num_candidate: int = Field(default=0, description="Observations of the candidate that it stands on.")
    num_stable: int = 0


class Judgement(BaseModel):
    """All findings of one look at the evidence."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    findings: list[Finding]
    made_at: datetime

    def reason(self) -> str:
        """Returns the sentences of the findings that decided: the failed ones, else those that have not passed, else all."""
        for wanted in (Verdict.FAIL, Verdict.INCONCLUSIVE):
            told = [finding for finding in self.findings if finding.verdict is wanted]
            if told:
                return "; ".join(f"{finding.rule}: {finding.message}" for finding in told)
        return "; ".join(f"{finding.rule}: {finding.message}" for finding in self.findings)


def overall(findings: Iterable[Finding]) -> Verdict:
    """Returns fail if any finding failed, pass if there are findings and all passed, inconclusive otherwise."""
    verdicts = {finding.verdict for finding in findings}
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.PASS if verdicts == {Verdict.PASS} else Verdict.INCONCLUSIVE
