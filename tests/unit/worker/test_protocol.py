from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from quantry_core.execution import LeasedInput
from quantry_core.jobs import InputRole, JobReason
from quantry_core.methods import Format
from quantry_core.versions import EvidenceDraft, EvidenceKind, ManifestFile, Verdict, VersionKind, VersionState
from quantry_worker.protocol import (
    MAX_EVENT_BYTES,
    ChildFailure,
    ChildNote,
    ChildProgress,
    ChildResult,
    ChildVersion,
    child_input,
    event_line,
    parse_event,
)

EVENTS = [
    ChildProgress(phase="quantize", fraction=0.5, detail="layer 3 of 6"),
    ChildNote(text="two\nlines"),
    ChildFailure(reason=JobReason.DIVERGED, message="the loss is not a number"),
    ChildResult(
        version=ChildVersion(kind=VersionKind.QUANTIZED, format=Format.COMPRESSED_TENSORS, scheme="W4A16", state=VersionState.QUARANTINED),
        evidence=[EvidenceDraft(kind=EvidenceKind.GATE, name="integrity", verdict=Verdict.FAIL, metrics={"num_files": 3})],
        metrics={"seconds": 1.5},
    ),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.event)
def test_an_event_is_one_line_and_comes_back_the_same(event: ChildProgress | ChildNote | ChildFailure | ChildResult) -> None:
    line = event_line(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_event(line) == event


@pytest.mark.parametrize(
    "line",
    [b"", b"hello", b"[]", b'{"event":"party"}', b'{"event":"progress","phase":"a","fraction":2}', b'{"event":"note","text":"a","x":1}'],
)
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(ValidationError):
        parse_event(line)


def test_an_event_has_a_largest_size() -> None:
    with pytest.raises(ValueError, match="at most"):
        event_line(ChildResult(metrics={"text": "x" * MAX_EVENT_BYTES}))


def test_numbers_that_json_does_not_have_become_null() -> None:
    line = event_line(ChildResult(metrics={"perplexity": float("nan"), "kl": float("inf")}))
    parsed = parse_event(line)
    assert isinstance(parsed, ChildResult)
    assert parsed.metrics == {"perplexity": None, "kl": None}


def test_a_leased_input_keeps_what_it_is() -> None:
    file = ManifestFile(path="config.json", size_bytes=2, sha256="0" * 64)
    leased = LeasedInput(role=InputRole.BASE, id="ver_1", ref="bard@1", files=[file], kind=VersionKind.MASTER, format=Format.SAFETENSORS)
    child = child_input(leased, Path("/inputs/base-0"))
    assert (child.role, child.id, child.ref, child.kind, child.format) == ("base", "ver_1", "bard@1", "master", "safetensors")
    assert child.path == Path("/inputs/base-0")
