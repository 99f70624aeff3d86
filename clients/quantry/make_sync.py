"""Makes the client that waits from the asynchronous one: ``quantry/aio`` is written by hand, what lies beside it is made of it.

    python clients/quantry/make_sync.py

A word here and there is another, ``await`` falls away, and nothing else changes: docs/adr/0028 says why. What the two do differently
lies in two files of one name, ``runtime.py``, which are both written by hand.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent / "quantry"
SOURCE = PACKAGE / "aio"
RUFF = Path(sys.executable).with_name("ruff")
BY_HAND = frozenset({"__init__.py", "runtime.py"})
MARK = "# Made from {source} by make_sync.py: change that file, and run this again.\n"

WORDS = {
    "AsyncBaseTransport": "BaseTransport",
    "AsyncClient": "Client",
    "AsyncGenerator": "Generator",
    "AsyncIterator": "Iterator",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "aclose": "close",
    "aclosing": "closing",
    "aiter_raw": "iter_raw",
    "aread": "read",
    "asynccontextmanager": "contextmanager",
}
_WORD = re.compile(rf"\b(?:{'|'.join(WORDS)})\b")
_BRACKETS = {"(": ")", "[": "]"}


def sources() -> Iterator[Path]:
    """Yields the files that are written by hand and have a counterpart that is made."""
    yield from (path for path in sorted(SOURCE.rglob("*.py")) if path.relative_to(SOURCE).as_posix() not in BY_HAND)


def target_of(source: Path) -> Path:
    """Returns where a file's counterpart lies."""
    return PACKAGE / source.relative_to(SOURCE)


def made_from(source: Path) -> str:
    """Returns the counterpart of a file, formatted."""
    text = without_async(source.read_text(encoding="utf-8"))
    mark = MARK.format(source=source.relative_to(PACKAGE.parent).as_posix())
    checked = _ruff(
        ["check", "--quiet", "--fix", "--unsafe-fixes", "--exit-zero", "--select", "I,F401,UP028"], mark + text, target_of(source)
    )
    return _ruff(["format", "--quiet"], checked, target_of(source))


def without_async(text: str) -> str:
    """Returns a module without what makes it asynchronous."""
    text = _unwrapped(text, "(await ", lambda inner: inner, only_before=".")
    text = _unwrapped(text, "Awaitable[", lambda inner: inner)
    text = _unwrapped(text, "AsyncGenerator[", lambda inner: f"AsyncGenerator[{inner}, None]")
    text = text.replace("quantry.aio.", "quantry.")
    text = re.sub(r"\b(?:await|async) (?=\S)", "", text)
    return _WORD.sub(lambda word: WORDS[word[0]], text)


def _unwrapped(text: str, opening: str, becomes: Callable[[str], str], *, only_before: str = "") -> str:
    """Returns a text in which every ``opening``, up to the bracket that ends it, is what ``becomes`` says of what lies between."""
    done = ""
    while True:
        before, found, rest = text.partition(opening)
        done += before
        if not found:
            return done
        end = _end(opening + rest, next(index for index, sign in enumerate(opening) if sign in _BRACKETS))
        inner, after = (opening + rest)[len(opening) : end], (opening + rest)[end + 1 :]
        if after.startswith(only_before):
            done += becomes(_unwrapped(inner, opening, becomes, only_before=only_before))
            text = after
        else:
            done += opening
            text = rest


def _end(text: str, start: int) -> int:
    """Returns where the bracket that opens at ``start`` is closed."""
    depth, closing = 0, _BRACKETS[text[start]]
    for index in range(start, len(text)):
        depth += (text[index] == text[start]) - (text[index] == closing)
        if depth == 0:
            return index
    raise ValueError(f"a bracket is not closed: {text[start : start + 60]!r}")


def _ruff(arguments: list[str], text: str, path: Path) -> str:
    command = [str(RUFF), *arguments, "--stdin-filename", str(path), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=PACKAGE.parents[2]).stdout


def main() -> int:
    """Writes every counterpart that is not as it would be made, and returns the exit code."""
    for source in sources():
        target, text = target_of(source), made_from(source)
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{target.relative_to(PACKAGE.parent)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
