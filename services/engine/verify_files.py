"""Checks that a folder holds exactly the files of a version, each with the digest that its manifest names. Hidden files do not count:
engines load none.

Standard library only: in a cluster it runs in whatever image the engine has, before the engine starts.

    python3 verify_files.py MANIFEST FOLDER

MANIFEST is JSON: ``{"files": [{"path": ..., "size_bytes": ..., "sha256": ...}, ...]}``. Exits with status 1 and a sentence
for each file that is missing, has another size or other bytes, or that the manifest does not name.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

READ_BYTES = 1024**2


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("verify_files.py: a manifest and a folder are wanted")
    manifest, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    problems = [problem for file in manifest["files"] if (problem := problem_of(folder, file)) is not None]
    problems += [f"{path} is no file of this version" for path in others(folder, {str(file["path"]) for file in manifest["files"]})]
    if problems:
        sys.exit("\n".join(f"verify_files.py: {problem}" for problem in problems))
    sys.stdout.write(f"verify_files.py: {len(manifest['files'])} files are what their digests say\n")


def problem_of(folder: Path, file: dict[str, object]) -> str | None:
    """Returns what is wrong with one file; None if it is what its digest says."""
    path = folder / str(file["path"])
    if not path.resolve().is_relative_to(folder.resolve()):
        return f"{file['path']} leads out of the folder"
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        return f"{file['path']} cannot be read: {error.strerror}"
    if size_bytes != file["size_bytes"]:
        return f"{file['path']} has {size_bytes} bytes, not {file['size_bytes']}"
    digest = hashlib.sha256()
    with path.open("rb") as opened:
        while block := opened.read(READ_BYTES):
            digest.update(block)
    return None if digest.hexdigest() == file["sha256"] else f"the bytes of {file['path']} are not what its digest says"


def others(folder: Path, named: set[str]) -> list[str]:
    """Returns the files that are there beside those that are named, but for hidden ones."""
    there = (path for path in folder.rglob("*") if not path.name.startswith(".") and (path.is_symlink() or not path.is_dir()))
    return sorted(str(path.relative_to(folder)) for path in there if str(path.relative_to(folder)) not in named)


if __name__ == "__main__":
    main()
