"""How evidence is printed: a version's checks and measurements, in the tables of its model card, and what one job measured."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from quantry.cli.output import Column, print_table, say
from quantry_core.evidence_tables import Check, EvidenceRow, EvidenceTable, checks, evidence_tables
from quantry_core.versions import VersionDetail

_CHECK_COLUMNS: tuple[Column[Check], ...] = (
    ("check", lambda check: check.name),
    ("verdict", lambda check: check.verdict),
    ("found", lambda check: check.found),
)


def print_evidence(version: VersionDetail) -> None:
    """Prints the newest evidence: what was measured, against which version, then the checks of the gate."""
    if not version.evidence:
        say("Nothing was measured yet.")
        return
    print_tables(evidence_tables(version))
    made = checks(version)
    if made:
        say("\nChecks of the gate")
        print_table(made, _CHECK_COLUMNS, empty="")


def print_tables(tables: Sequence[EvidenceTable]) -> None:
    """Prints tables of evidence, each under its title, with its problems below it."""
    for table in tables:
        columns: list[Column[EvidenceRow]] = [("figure", lambda row: row.name)]
        columns += [(heading, partial(_cell, place)) for place, heading in enumerate(table.columns)]
        if any(row.asked for row in table.rows):
            columns.append(("asked for", lambda row: row.asked))
        say(f"\n{table.title}")
        print_table(table.rows, columns, empty="")
        for problem in table.problems:
            say(f"- {problem}")


def _cell(place: int, row: EvidenceRow) -> str:
    return row.cells[place]
