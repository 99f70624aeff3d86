"""What lasts leaves connections to the database for everything else."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from quantry_api.at_once import AtOnce
from quantry_core.errors import TooManyRequests


def test_each_has_a_few_at_once_and_all_together_a_few_more() -> None:
    streams = AtOnce(what="streams", limit_each=2, limit_all=3)
    with ExitStack() as stack:
        for whose in ("key_1", "key_1", "key_2"):
            stack.enter_context(streams.one_of(whose))
        with pytest.raises(TooManyRequests, match="that you asked for 2"), streams.one_of("key_1"):
            pass
        with pytest.raises(TooManyRequests, match="3 streams go on here"), streams.one_of("key_2"):
            pass
    with streams.one_of("key_1"):
        pass
    assert not streams._under_way, "nobody is remembered of whom nothing goes on"
