"""docs/state-machines.md shows exactly the transition tables. Write it anew: python tests/unit/core/test_state_machines.py"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from quantry_core.jobs import FIRST_STATUSES, REASONS, RETRIES, TRANSITIONS, WaitingOn
from quantry_core.rollouts import ROLLOUT_TRANSITIONS, RolloutState

State = TypeVar("State", bound=str)

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "state-machines.md"

TEXT = """# State machines

Drawn from the transition tables in `libs/core`; a test holds this page to them. Each table has one setter in `libs/store`,
and an illegal move raises.

## Jobs
Where a job is; its `reason` says why, and `waiting_on` what a waiting one waits for. `queued` means: may be claimed now.

- A job begins as `waiting` when it needs another job, has a `not_before`, or its project's queue is full; as `succeeded` when an
  identical job has made its version already; as `queued` otherwise.
- `waiting` to `succeeded`: what it needed is there, and so is the version it would make from it.
- `running` to `queued`: its worker was lost, or handed it back. `running` to `waiting`: it is tried again after a while.
- A cancel request is a flag, not a state.

### What waits
{waits}
### What is tried again
One table, `RETRIES` in `libs/core/quantry_core/jobs/retries.py`, decides. A wait is shortened by a random part of up to half.

{retries}
{jobs}
## Rollouts
Undoing a promoted rollout is a new rollout back.

{rollouts}"""


def diagram(table: Mapping[State, Iterable[State]], first: Iterable[State]) -> str:
    """Returns a Mermaid state diagram of a transition table, in the table's order."""
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"    [*] --> {state}" for state in first]
    for old, successors in table.items():
        lines += [f"    {old} --> {new}" for new in table if new in successors]
        if not successors:
            lines.append(f"    {old} --> [*]")
    return "\n".join([*lines, "```", ""])


WAITS: dict[WaitingOn, str] = {
    WaitingOn.NEEDS: "jobs it needs that have not succeeded yet",
    WaitingOn.TIME: "its `not_before`, or the time of its next try",
    WaitingOn.LIMIT: "room in its project's queue",
    WaitingOn.ROLLOUT: "the end of another rollout of the same deployment",
}


def waits() -> str:
    """Returns a table of what a waiting job may wait for."""
    rows = [f"| `{waiting_on}` | {WAITS[waiting_on]} |" for waiting_on in WaitingOn]
    return "\n".join(["| waiting_on | what for |", "| --- | --- |", *rows, ""])


def retries() -> str:
    """Returns a table of what becomes of each reason that an attempt can end for."""
    rows = []
    for reason, info in REASONS.items():
        rule = RETRIES[reason]
        seconds = [min(rule.backoff_s * rule.factor**retry, rule.max_backoff_s) for retry in range(rule.max_retries)]
        after = ", ".join(f"{wait:g} s" for wait in seconds) or "-"
        rows.append(f"| `{reason}` | {rule.max_retries} | {after} | {info.final_status} | {info.words} |")
    return "\n".join(["| reason | retries | after | then | in words |", "| --- | --- | --- | --- | --- |", *rows, ""])


def document() -> str:
    return TEXT.format(
        jobs=diagram(TRANSITIONS, [status for status in TRANSITIONS if status in FIRST_STATUSES]),
        waits=waits(),
        retries=retries(),
        rollouts=diagram(ROLLOUT_TRANSITIONS, [RolloutState.PENDING]),
    )


def test_the_page_shows_the_tables() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document()


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
