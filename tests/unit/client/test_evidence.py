"""What the command prints of evidence is what the model card says."""

from __future__ import annotations

import pytest

from factories.described import DATASET_ID, described_master, wholly_measured
from quantry.cli.evidence import print_evidence
from quantry_core.cards import model_card
from quantry_core.evidence_tables import evidence_tables


def test_every_number_is_the_cards(capsys: pytest.CaptureFixture[str]) -> None:
    version = wholly_measured()
    card = model_card(version, described_master(), {DATASET_ID: "plays@3"})
    print_evidence(version)
    out = capsys.readouterr().out
    printed = [line.split() for line in out.splitlines()]
    for table in evidence_tables(version):
        assert table.title in out.splitlines()
        section = card.split(f"## {table.title}\n")[1].split("\n## ")[0]
        for row in table.rows:
            assert f"| {row.name} | {' | '.join(row.cells)} |" in section
            assert " ".join([row.name, *row.cells, row.asked]).split() in printed
        for problem in table.problems:
            assert f"- {problem}" in out


def test_where_nothing_was_measured_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_evidence(described_master())
    assert capsys.readouterr().out == "Nothing was measured yet.\n"
