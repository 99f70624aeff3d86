"""The sum of PSS."""

from __future__ import annotations

import os
from pathlib import Path

from quantry_local.memory import pss_bytes, sum_pss_bytes

ROLLUP = """55d0c0000000-7ffd00000000 ---p 00000000 00:00 0                          [rollup]
Rss:                9000 kB
Pss:                1234 kB
Pss_Dirty:           900 kB
"""


def test_pss_is_read_in_bytes(tmp_path: Path) -> None:
    (tmp_path / "smaps_rollup").write_text(ROLLUP)
    assert pss_bytes(tmp_path / "smaps_rollup") == 1234 * 1024


def test_a_process_that_is_gone_counts_nothing(tmp_path: Path) -> None:
    assert pss_bytes(tmp_path / "none") == 0


def test_this_process_uses_a_plausible_amount() -> None:
    assert 5e6 < sum_pss_bytes([os.getpid()]) < 5e9
