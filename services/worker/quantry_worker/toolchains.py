"""The toolchain digest of a child environment: what is installed in it, as one SHA-256.

It is taken over sorted lines ``name==version`` of the distributions in the environment's site-packages, one line for its Python,
and one for the source of our own child package, whose version does not change with every edit. Nothing is started or
imported for it. Two workers with the same digest make the same weights of the same recipe, as far as software decides that.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from urllib.parse import unquote, urlsplit

CHILD_PACKAGE = Path("quantry_worker") / "child"
OWN_CHILD_DIRECTORY = Path(__file__).parent / "child"
OWN_NAME = re.compile(r"quantry(-.*)?")
"""Our own packages: their version stays while their code changes, so the code counts instead, and of it the child's alone."""

SITE_PACKAGES = (
    "lib/python3*/site-packages",
    "lib64/python3*/site-packages",
    "lib/python3*/dist-packages",
    "local/lib/python3*/dist-packages",
)


def toolchain_digest(python: Path) -> str:
    """Returns the SHA-256 (hex) of the environment that this interpreter belongs to."""
    directories = site_packages(python)
    lines = {f"{name}=={version}" for name, version in _installed(directories) if not OWN_NAME.fullmatch(name)}
    lines |= {f"{directory.parent.name}" for directory in directories}
    lines.add(f"{CHILD_PACKAGE.as_posix()}=={source_digest(child_directory(directories))}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def site_packages(python: Path) -> list[Path]:
    """Returns the folders with an interpreter's packages. The link of a virtual environment is not followed: it is where they are."""
    prefixes = [python.parent.parent]
    if not (prefixes[0] / "pyvenv.cfg").exists():
        prefixes.append(python.resolve().parent.parent)
    found = {path.resolve(): path for prefix in prefixes for pattern in SITE_PACKAGES for path in sorted(prefix.glob(pattern))}
    return sorted(found)


def child_directory(directories: list[Path]) -> Path:
    """Returns where an environment's child package lies: in it, where an editable install points to, or else here."""
    for directory in directories:
        if (directory / CHILD_PACKAGE).is_dir():
            return directory / CHILD_PACKAGE
        for url_file in directory.glob("quantry_worker-*.dist-info/direct_url.json"):
            source = Path(unquote(urlsplit(json.loads(url_file.read_text())["url"]).path)) / CHILD_PACKAGE
            if source.is_dir():
                return source
    return OWN_CHILD_DIRECTORY


def source_digest(directory: Path) -> str:
    """Returns the SHA-256 (hex) over the names and bytes of all Python files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*.py")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(directory).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def _installed(directories: list[Path]) -> Iterator[tuple[str, str]]:
    for distribution in distributions(path=[str(directory) for directory in directories]):
        # What a broken uninstall left has no name.
        name: str | None = distribution.metadata["Name"]
        if name:
            yield re.sub(r"[-_.]+", "-", name).lower(), distribution.version
