"""The newest migration, read without alembic, is the one that alembic finds; and no service loads alembic to know it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from quantry_store.revisions import newest_revision
from quantry_store.settings import MIGRATIONS_BESIDE_PACKAGE


def write(folder: Path, revision: str, follows: str | None) -> None:
    (folder / "versions").mkdir(exist_ok=True)
    text = f'import os\n\nrevision = "{revision}"\ndown_revision = {follows!r}\nbranch_labels = None\nnumber = 7\nnames = ["a"]\n'
    (folder / "versions" / f"{revision}.py").write_text(text)


def test_it_is_what_alembic_finds() -> None:
    assert newest_revision(MIGRATIONS_BESIDE_PACKAGE) == ScriptDirectory(str(MIGRATIONS_BESIDE_PACKAGE)).get_current_head()


def test_order_is_that_of_the_migrations_not_of_their_names(tmp_path: Path) -> None:
    write(tmp_path, "b", None)
    write(tmp_path, "a", "b")
    assert newest_revision(tmp_path) == "a"


def test_no_migrations_are_none_and_two_ends_are_refused_by_name(tmp_path: Path) -> None:
    assert newest_revision(tmp_path / "nowhere") is None
    for name, follows in (("first", None), ("left", "first"), ("right", "first")):
        write(tmp_path, name, follows)
    with pytest.raises(ValueError, match="left, right"):
        newest_revision(tmp_path)


def test_the_api_starts_without_alembic() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, quantry_api.platform.endpoints; print('alembic' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout == "False\n"
