"""Small scripts that stand in for a job's child process."""

from __future__ import annotations

import sys
from pathlib import Path

PREAMBLE = """
import json, os, signal, subprocess, sys, time

_events = os.fdopen(int(os.environ["QUANTRY_EVENTS_FD"]), "w", buffering=1)

def say(**event):
    _events.write(json.dumps(event) + "\\n")

def progress(fraction, phase="work", **units):
    say(event="progress", phase=phase, fraction=fraction, **units)
"""


def write_script(directory: Path, body: str) -> Path:
    """Writes a script that can ``say`` events; returns its path."""
    script = directory / "stand_in_child.py"
    script.write_text(PREAMBLE + body)
    return script


def write_python(directory: Path, body: str) -> Path:
    """Writes a stand-in for the ml environment's interpreter: whatever child it is asked to launch, it launches this script.

    It is called as ``python -m quantry_worker.launch <parent pid> quantry_worker.child <task.json>``; in the script,
    ``sys.argv[1]`` is the task's file.
    """
    write_script(directory, body)
    python = directory / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{directory}" exec "{sys.executable}" -m "$2" "$3" stand_in_child "$5"\n')
    python.chmod(0o755)
    return python
