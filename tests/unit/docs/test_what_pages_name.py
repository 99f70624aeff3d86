"""What pages tell a reader to type is there: commands with their options, settings, addresses."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import reference_settings
import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from quantry.cli.main import build_app
from quantry_api.retention.settings import RENAMED
from quantry_core.permissions import PERMISSIONS

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "helm/quantry/README.md")] + sorted(
    ROOT.glob("docs/**/*.md")
)

PATTERNS = {"quantry COMMAND --help", "quantry jbos", "quantry deployments capture on|show|off|dataset", "quantry jobs estimate ..."}
"""Lines that show how something is written, or what a mistake looks like."""

OF_THE_GATEWAY = {"/v1/feedback", "/v1/models", "/v1/chat/completions", "/v1/tokenize"}
"""The data plane has a table of its own."""


def commands() -> Iterator[tuple[str, str]]:
    """Yields every line of the command that a page shows, with its page."""
    for page in PAGES:
        in_block, begun = False, ""
        for line in page.read_text(encoding="utf-8").splitlines():
            text = line.strip()
            if text.startswith("```"):
                in_block = not in_block
            elif not in_block:
                yield from ((page.name, shown) for shown in re.findall(r"`(quantry [^`]+)`", line))
            elif begun or text.startswith("quantry "):
                begun += text.removesuffix("\\")
                if not text.endswith("\\"):
                    yield page.name, re.sub(r"\s#.*", "", begun)
                    begun = ""


def problem_of(shown: str, root: TyperGroup) -> str | None:
    """Returns what is wrong with a line; None where command and options are there."""
    # What may be left out stands in brackets.
    words = shlex.split(shown.replace("[", "").replace("]", ""))[1:]
    command: TyperGroup | TyperCommand = root
    while isinstance(command, TyperGroup) and words:
        name = words.pop(0)
        if name.startswith("--"):
            option = next((one for one in command.params if name in one.opts), None)
            if option is None:
                return f"there is no {name}"
            words = words if getattr(option, "is_flag", False) else words[1:]
            continue
        found = command.get_command(typer.Context(command), name)
        if not isinstance(found, TyperGroup | TyperCommand):
            return f"there is no {name}"
        command = found
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]
    return f"there is no {unknown[0]}" if unknown else None


def test_every_command_and_option_is_there() -> None:
    root = get_command(build_app())
    assert isinstance(root, TyperGroup)
    shown = [one for one in commands() if one[1] not in PATTERNS]
    assert len(shown) > 300
    problems = [f"{page}: {line}: {problem}" for page, line in shown if (problem := problem_of(line, root)) is not None]
    assert problems == []


def test_the_look_at_commands_finds_what_is_wrong() -> None:
    root = get_command(build_app())
    assert isinstance(root, TyperGroup)
    assert problem_of("quantry jobs lst", root) == "there is no lst"
    assert problem_of("quantry jobs list --labels a=b", root) == "there is no --labels"
    assert problem_of("quantry jobs list --label a=b", root) is None


def test_every_variable_is_read_by_something() -> None:
    files = [ROOT / "docker-compose.yml", ROOT / "Makefile", *ROOT.glob("requirements/*.py")]
    files += [path for folder in ("libs", "services", "clients") for path in (ROOT / folder).rglob("*.py")]
    read = {name for path in files for name in re.findall(r"QUANTRY_[A-Z0-9_]+", path.read_text(encoding="utf-8"))}
    told = set(re.findall(r"^\| `(\w+)` \|", reference_settings.pages()["reference/settings.md"], re.MULTILINE))
    known = {*read, *told, *RENAMED, "QUANTRY_X"}
    named = {name for page in PAGES for name in re.findall(r"QUANTRY_[A-Z0-9_]*[A-Z0-9]", page.read_text(encoding="utf-8"))}
    prefixes = {name.rpartition("_")[0] for name in known}
    assert sorted(name for name in named if name.removesuffix("_FILE") not in known | prefixes and name not in known) == []


def test_every_address_is_one_of_the_table() -> None:
    templates = [re.compile(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(path)) + r"/?") for _, path in PERMISSIONS]
    problems = []
    for page in PAGES:
        for path in re.findall(r"(?:GET|POST|PUT|PATCH|DELETE) (/(?:api/v1|v1|internal)[^\s`'\"?|,)]*)", page.read_text(encoding="utf-8")):
            address = path.rstrip(".;:")
            if address not in OF_THE_GATEWAY and not any(template.fullmatch(address) for template in templates):
                problems.append(f"{page.name}: {address}")
    assert problems == []
