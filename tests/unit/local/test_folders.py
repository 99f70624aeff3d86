"""Where a stack keeps things, and what is refused."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from quantry_local.account import Account, can_enter
from quantry_local.errors import StackError
from quantry_local.folders import LONGEST_SOCKET_NAME, MAX_SOCKET_PATH_CHARS, choose_folders, make_private
from quantry_local.state import locked

STRANGER = Account("stranger", 4_000_001, 4_000_001)


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A folder that every account may enter, with a short path; pytest's own is closed to others."""
    with tempfile.TemporaryDirectory(prefix="quantry-tests-", dir="/tmp") as home:
        Path(home).chmod(0o755)
        yield Path(home)


def test_sockets_lie_in_a_short_state_directory(open_dir: Path) -> None:
    folders = choose_folders(open_dir / "state")
    assert folders.sockets == open_dir / "state" / "run"
    assert folders.outside == []


def test_sockets_of_a_long_state_directory_move_to_a_short_one(open_dir: Path) -> None:
    state_dir = open_dir / ("d" * 90)
    folders = choose_folders(state_dir)
    assert folders.outside == [folders.sockets]
    assert len(str(folders.sockets / "postgres" / LONGEST_SOCKET_NAME)) < MAX_SOCKET_PATH_CHARS
    assert choose_folders(state_dir).sockets == folders.sockets
    assert choose_folders(open_dir / ("e" * 90)).sockets != folders.sockets


def test_two_spellings_of_a_state_directory_are_one(open_dir: Path) -> None:
    (open_dir / "link").symlink_to(open_dir)
    assert choose_folders(open_dir / "link" / "state") == choose_folders(open_dir / "x" / ".." / "state")


def test_an_account_enters_only_where_every_folder_above_lets_it(open_dir: Path) -> None:
    (open_dir / "home" / "inner").mkdir(parents=True)
    assert can_enter(open_dir / "home" / "inner", STRANGER)
    (open_dir / "home").chmod(0o700)
    assert not can_enter(open_dir / "home" / "inner", STRANGER)
    assert can_enter(open_dir / "home" / "inner", None)


def test_the_state_directory_is_closed_to_others(open_dir: Path) -> None:
    folders = choose_folders(open_dir / "state")
    folders.make()
    mode = stat.S_IMODE(folders.state_dir.stat().st_mode)
    assert mode == (0o711 if os.geteuid() == 0 else 0o700)
    assert stat.S_IMODE(folders.logs.stat().st_mode) == 0o700


def test_a_file_in_the_place_of_the_state_directory_is_explained(open_dir: Path) -> None:
    (open_dir / "state").write_text("not a folder")
    with pytest.raises(StackError, match=r"cannot be used as state directory .*--state-dir"):
        choose_folders(open_dir / "state").make()


def test_a_private_folder_is_not_taken_over_from_a_link(open_dir: Path) -> None:
    (open_dir / "elsewhere").mkdir()
    (open_dir / "sockets").symlink_to(open_dir / "elsewhere")
    with pytest.raises(StackError, match="belongs to another user or is no folder"):
        make_private(open_dir / "sockets")


@pytest.mark.parametrize("name", ["a,b", 'a"b', "a\nb", "a\\b"])
def test_a_path_that_a_server_cannot_hold_is_refused_before_anything_is_made(open_dir: Path, name: str) -> None:
    with pytest.raises(StackError, match="cannot be a state directory"):
        choose_folders(open_dir / name / "state").make()
    assert list(open_dir.iterdir()) == []


def test_a_folder_with_other_things_is_refused_and_left_as_it_was(open_dir: Path) -> None:
    (open_dir / "thesis.tex").write_text("mine")
    with pytest.raises(StackError, match="holds files that are no stack's"):
        choose_folders(open_dir).make()
    assert [path.name for path in open_dir.iterdir()] == ["thesis.tex"]
    assert stat.S_IMODE(open_dir.stat().st_mode) == 0o755


def test_a_folder_that_everybody_shares_is_refused_even_empty(open_dir: Path) -> None:
    open_dir.chmod(0o1777)
    with pytest.raises(StackError, match="shared by every user"):
        choose_folders(open_dir).make()
    assert stat.S_IMODE(open_dir.stat().st_mode) == 0o1777


@pytest.mark.parametrize("name", ["ports.json", "secrets.json", "logs", "demo-17"])
def test_a_stacks_own_folder_and_an_empty_one_are_taken(open_dir: Path, name: str) -> None:
    assert not choose_folders(open_dir).is_used()
    (open_dir / name).mkdir()
    assert choose_folders(open_dir).is_used()
    choose_folders(open_dir).make()


def test_a_start_that_failed_before_its_ports_were_chosen_can_be_made_again(open_dir: Path) -> None:
    folders = choose_folders(open_dir / "state")
    folders.make()
    with locked(folders.state_dir):
        pass
    folders.make()
