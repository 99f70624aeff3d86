"""docs/state-machines.md shows exactly the transition tables. Write it anew: python tests/unit/core/test_state_machines.py"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from quantry_core.jobs import TRANSITIONS, JobStatus
from quantry_core.rollouts import ROLLOUT_TRANSITIONS, RolloutState

State = TypeVar("State", bound=str)

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "state-machines.md"

TEXT = """# State machines

Drawn from the transition tables in `libs/core`; a test holds this page to them. Each table has one setter in `libs/store`,
and an illegal move raises.

## Jobs
Where a job is; its `reason` says why. `running` goes back to `queued` when its worker was lost or handed it back.
A cancel request is a flag, not a state. Nothing leads to `waiting` yet: it is for jobs that need other jobs.

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


def document() -> str:
    return TEXT.format(
        jobs=diagram(TRANSITIONS, [JobStatus.QUEUED]),
        rollouts=diagram(ROLLOUT_TRANSITIONS, [RolloutState.PENDING]),
    )


def test_the_page_shows_the_tables() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document()


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
